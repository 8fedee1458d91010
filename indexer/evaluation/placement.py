"""Whether an inline link is placed where the editor put it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from indexer.evaluation.links import GoldPage
from indexer.evaluation.report import PlacementReport
from recommender.answer.layout import DEFAULT_LAYOUT, Layout, Placement
from recommender.answer.page import stored_page
from recommender.answer.records import RecordCache
from recommender.answer.shared_terms import ParagraphFit, SharedTerms
from recommender.answer.slots import Pool, allowed_positions, fill
from recommender.catalog.live import Live

NEAR_PARAGRAPHS_MAX = 1
"""A position counts if it is at most this many paragraphs from the editor's."""

_SLOT = next(slot for slot in DEFAULT_LAYOUT.slots if slot.placement is Placement.INLINE)
_ONE_LINK = Layout(name="one", slots=(_SLOT.model_copy(update={"count": 1, "min_score": 0.0}),))


def measure(live: Live, pages: Sequence[GoldPage]) -> PlacementReport:
    """Measure the editors' links with a known paragraph, on pages long enough for an inline link."""
    hits: list[tuple[float, float, float]] = []
    for gold in pages:
        page = stored_page(live, gold.row)
        allowed = np.array(allowed_positions(page.kinds, _SLOT, ()))
        placed_links = [link for link in gold.links if link.paragraph is not None]
        if not len(allowed) or not placed_links:
            continue
        paragraph_fit = ParagraphFit(page, SharedTerms(live, page, RecordCache(live)))
        for link in placed_links:
            near = np.abs(allowed - (link.paragraph or 0)) <= NEAR_PARAGRAPHS_MAX
            row = live.find(link.target_id)
            if row is not None:
                chosen = _position(live, paragraph_fit, row, page.kinds)
                hits.append((float(near[allowed == chosen].any()), float(near.mean()), float(near[0])))
    shares = np.mean(hits, axis=0).tolist() if hits else [0.0, 0.0, 0.0]
    return PlacementReport(len(hits), *shares)


def _position(live: Live, paragraph_fit: ParagraphFit, row: int, kinds: str) -> int | None:
    vectors = live.main_vectors(np.array([row]))
    candidates, none = _pool(row, vectors), _pool(None, vectors[:0])
    page_links = fill(_ONE_LINK, [candidates], [none], kinds, _no_rule, paragraph_fit.fit)
    return page_links.slots[0].links[0].after_paragraph


def _no_rule(_row: int, _links: Sequence[int]) -> None:
    """Return None: the editor has chosen the link."""


def _pool(row: int | None, vectors: npt.NDArray[np.float32]) -> Pool:
    rows = np.array([] if row is None else [row], np.int64)
    return Pool(rows, np.ones(len(rows), np.float32), vectors)
