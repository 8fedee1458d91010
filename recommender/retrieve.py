"""From a page to its candidates: nearest vectors in a few windows of time, all filters applied inside the search."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recommender.catalog.live import Live
from recommender.catalog.segment import Scope
from recommender.catalog.vectors import Hits, Rows
from recommender.page import Page

CANDIDATES = 380
"""Candidates of a page: those of the windows, then the nearest of any time up to this number. On a small or slow
archive the windows bring little that is not among the nearest anyway, and the number goes to older articles: on
gov-blogs .935 of the editors' links are candidates, against .877 with a fixed 180 of any time."""
EVERGREENS = 60
"""Candidates among evergreen articles, where a slot's max_age shuts out the old ones."""
WINDOWS = ((2_000, 100), (500, 100))
"""(articles before the page, candidates): windows of time around the page, as wide as the archive needs to publish so
many articles; half as many after the page count too. What editors link to is mostly near in time: on a large daily
archive 100 candidates of all time hold .60 of the editors' links, with 30 and 7 days beside them .89."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Candidates. rows ascending; cosines of the main vectors, parallel. excluded: rows left out as told, by rule."""

    rows: Rows
    cosines: npt.NDArray[np.float32]
    excluded: dict[str, int]

    @property
    def seen(self) -> int:
        """Number of distinct articles that the search returned, the excluded ones included."""
        return len(self.rows) + sum(self.excluded.values())


def retrieve(
    live: Live, page: Page, scope: Scope, as_of_ms: int, *, oldest_ms: int = 0, excluded: dict[int, str] | None = None
) -> Found:
    """Return the candidates for `page` that were public at `as_of_ms`.

    oldest_ms: nothing that became public before, evergreen articles apart. excluded: rows to leave out, each with the
    rule that says so; so many more are fetched that nothing is missing.
    """
    excluded = excluded or {}
    hits = []

    def search(k: int, from_ms: int, until_ms: int, within: Scope) -> None:
        found = live.search(page.main, k + len(excluded), from_ms, until_ms, within)
        hits.append(_split(found, excluded, k))

    for articles, k in WINDOWS:
        from_ms, until_ms = live.window(scope, page.published_at_ms, as_of_ms, articles)
        search(k, max(oldest_ms, from_ms), until_ms, scope)
    if oldest_ms > 0:
        search(EVERGREENS, 0, as_of_ms, replace(scope, evergreen_only=True))
    search(CANDIDATES, oldest_ms, as_of_ms, scope)
    kept = _union([best for best, _ in hits], CANDIDATES)
    left_out = np.unique(np.concatenate([out for _, out in hits])).tolist()
    return Found(kept.rows, kept.scores, dict(Counter(excluded[row] for row in left_out)))


def _split(hits: Hits, excluded: dict[int, str], k: int) -> tuple[Hits, Rows]:
    """Return the k best hits that are not excluded, and the rows that are."""
    out = np.isin(hits.rows, list(excluded))
    return Hits(hits.rows[~out][:k], hits.scores[~out][:k]), hits.rows[out]


def _union(hits: list[Hits], most: int) -> Hits:
    """Return the first `most` distinct rows of the concatenated hits, ascending."""
    rows, first = np.unique(np.concatenate([h.rows for h in hits]), return_index=True)
    kept = np.sort(np.argpartition(first, most)[:most]) if len(rows) > most else np.arange(len(rows))
    return Hits(rows[kept], np.concatenate([h.scores for h in hits])[first[kept]])
