"""One article, ready to be a row of a segment: the same for a snapshot that is written and for the tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recommender.catalog.near_copies import Sketch
from recommender.catalog.segment import Columns, Record, id_hash, label_code, make_record
from recommender.catalog.stored import Stored
from recommender.catalog.vectors import Vector
from recommender.catalog.wording import Packed, Weights, make_signature


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What a segment holds of one article. main, head: float32 (dimension,). columns: as of Columns.row_of."""

    id: str
    id_hash: np.uint64
    public_at_ms: int
    main: Vector
    head: Vector
    signature: Packed
    sketch: Sketch
    columns: tuple[int, ...]
    tag_codes: tuple[int, ...]
    record: Record

    @property
    def key(self) -> tuple[int, str]:
        """Rows of a snapshot are in this order."""
        return (self.public_at_ms, self.id)


def make_entry(stored: Stored, idf: Weights) -> Entry:
    """Weigh an article's words by `idf` and put together what a segment holds of it. Safe on any thread."""
    article, terms = stored.article, stored.analysis.terms
    signature = make_signature(terms, idf)
    return Entry(
        id=article.id,
        id_hash=id_hash(article.id),
        public_at_ms=article.public_at_ms,
        main=stored.vectors.main,
        head=stored.vectors.head,
        signature=signature.pack(),
        sketch=stored.analysis.sketch,
        columns=Columns.row_of(article, terms.words),
        tag_codes=tuple(map(label_code, article.tags)),
        record=make_record(article, terms, signature),
    )
