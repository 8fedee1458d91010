"""One article, ready to be a row of a segment: the same values in a snapshot and in the tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recommender.catalog.snapshot.columns import Columns, id_hash, label_code
from recommender.catalog.snapshot.record import Record, make_record
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.text.near_copies import Sketch
from recommender.catalog.text.terms import Packed, Weights, make_signature
from recommender.catalog.vectors.scalar_codes import ScalarCodes, encode_4bit, encode_8bit


@dataclass(frozen=True, slots=True, eq=False)
class RowValues:
    """All that a segment stores of one article.

    main: 8-bit codes of the main vector.
    head: 4-bit codes of the head vector.
    columns: see Columns.row_of.
    """

    id: str
    id_hash: np.uint64
    public_at_ms: int
    main: ScalarCodes
    head: ScalarCodes
    signature: Packed
    sketch: Sketch
    columns: tuple[int, ...]
    tag_codes: tuple[int, ...]
    record: Record

    @property
    def key(self) -> tuple[int, str]:
        """The sort key of a snapshot's rows."""
        return (self.public_at_ms, self.id)


def make_row_values(stored: Sequence[StoredArticle], idf: Weights) -> list[RowValues]:
    """Return the rows of articles, their terms weighed by `idf`. Safe on any thread."""
    if not stored:
        return []
    mains = encode_8bit(np.stack([one.vectors.main for one in stored]))
    heads = encode_4bit(np.stack([one.vectors.head for one in stored]))
    return [_row_values(*each, idf) for each in zip(stored, mains, heads, strict=True)]


def _row_values(stored: StoredArticle, main: ScalarCodes, head: ScalarCodes, idf: Weights) -> RowValues:
    article, terms = stored.article, stored.analysis.terms
    signature = make_signature(terms, idf)
    return RowValues(
        id=article.id,
        id_hash=id_hash(article.id),
        public_at_ms=article.public_at_ms,
        main=main,
        head=head,
        signature=signature.pack(),
        sketch=stored.analysis.sketch,
        columns=Columns.row_of(article, terms.words),
        tag_codes=tuple(map(label_code, article.labels.tags)),
        record=make_record(article, terms, signature),
    )
