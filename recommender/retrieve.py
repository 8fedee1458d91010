"""From a page to its candidates: nearest vectors in a few windows of time, all filters applied inside the search."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recommender.catalog.live import Live
from recommender.catalog.segment import Scope
from recommender.catalog.vectors import Hits, Rows
from recommender.page import Page

ANY_TIME = 180
"""Candidates from the whole archive."""
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
    windows = [(oldest_ms, as_of_ms, ANY_TIME, scope)]
    for articles, k in WINDOWS:
        from_ms, until_ms = live.window(scope, page.published_at_ms, as_of_ms, articles)
        windows.append((max(oldest_ms, from_ms), until_ms, k, scope))
    if oldest_ms > 0:
        windows.append((0, as_of_ms, ANY_TIME, replace(scope, evergreen_only=True)))
    hits = [
        live.search(page.main, k + len(excluded), from_ms, until_ms, within) for from_ms, until_ms, k, within in windows
    ]
    return _without(_union(hits), excluded)


def _union(hits: list[Hits]) -> Hits:
    rows, first = np.unique(np.concatenate([h.rows for h in hits]), return_index=True)
    return Hits(rows, np.concatenate([h.scores for h in hits])[first])


def _without(hits: Hits, excluded: dict[int, str]) -> Found:
    if not excluded:
        return Found(hits.rows, hits.scores, {})
    out = np.isin(hits.rows, list(excluded))
    removed: dict[str, int] = {}
    for row in hits.rows[out].tolist():
        removed[excluded[row]] = removed.get(excluded[row], 0) + 1
    return Found(hits.rows[~out], hits.scores[~out], removed)
