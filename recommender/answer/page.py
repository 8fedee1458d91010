"""The page to fill, stored or draft: what retrieval and ranking read of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recommender.catalog.articles import NO_LABELS, Body, Labels
from recommender.catalog.live import Live
from recommender.catalog.snapshot.columns import Flag
from recommender.catalog.snapshot.record import kinds_of
from recommender.catalog.text.derived import Analysis, Vectors
from recommender.catalog.text.near_copies import Sketch
from recommender.catalog.text.terms import MASKED_PARAGRAPHS, Ids, Masks, Weights, make_signature, unpack
from recommender.catalog.vectors.scalar_codes import round_trip_4bit, round_trip_8bit


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One page.

    row: its row in the live view; None for a draft.
    main, head: vectors, rotated and rounded as stored ones are; see scalar_codes.py.
    ids, weights, surfaces, masks: of the signature's terms, parallel; see terms.Signature and Record.
    kinds: one character a paragraph; see Record.
    """

    row: int | None
    id: str
    url: str
    title: str
    labels: Labels
    published_at_ms: int
    main: npt.NDArray[np.float32]
    head: npt.NDArray[np.float32]
    ids: Ids
    weights: Weights
    surfaces: tuple[str, ...]
    masks: Masks
    sketch: Sketch
    kinds: str
    never_source: bool = False
    never_with: tuple[str, ...] = ()

    @property
    def masked_paragraphs(self) -> int:
        """Number of paragraphs, from the first, that `masks` tell apart."""
        return min(len(self.kinds), MASKED_PARAGRAPHS)


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A page that is not stored, analysed and embedded. An empty label is unknown."""

    body: Body
    vectors: Vectors
    analysis: Analysis
    published_at_ms: int
    url: str = ""
    labels: Labels = NO_LABELS


def stored_page(live: Live, row: int) -> Page:
    """Return the page of a stored article."""
    record = live.record(row)
    rows = np.array([row])
    ids, weights = unpack(live.signature(row))
    return Page(
        row=row,
        id=record.id,
        url=record.url,
        title=record.title,
        labels=record.labels,
        published_at_ms=live.published_at_ms(row),
        main=live.main_vector(row),
        head=live.head_vector(row),
        ids=ids,
        weights=weights,
        surfaces=record.surfaces[: len(ids)],
        masks=record.masks[: len(ids)],
        sketch=live.sketches(rows)[0],
        kinds=record.kinds,
        never_source=bool(live.flags(row) & Flag.NEVER_SOURCE),
        never_with=record.never_with,
    )


def draft_page(live: Live, draft: Draft) -> Page:
    """Return the page of a draft. Terms are weighted and vectors rounded as those of stored articles are."""
    terms = draft.analysis.terms
    signature = make_signature(terms, live.idf)
    return Page(
        row=None,
        id="",
        url=draft.url,
        title=draft.body.title,
        labels=draft.labels,
        published_at_ms=draft.published_at_ms,
        main=round_trip_8bit(draft.vectors.main),
        head=round_trip_4bit(draft.vectors.head),
        ids=signature.ids,
        weights=signature.weights,
        surfaces=tuple(terms.surfaces[i] for i in signature.order),
        masks=terms.masks[signature.order],
        sketch=draft.analysis.sketch,
        kinds=kinds_of(draft.body.paragraphs),
    )
