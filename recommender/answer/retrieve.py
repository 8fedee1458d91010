"""From a page to its candidates: the nearest vectors in a few windows of time. All filters apply inside the search."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recommender.answer.page import Page
from recommender.catalog.live import Live
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.vectors.index import Hits, Rows

CANDIDATES = 380
"""Number of a page's candidates: those of the windows, then the nearest of any time up to this number. On a small or
slow archive the windows add little to the nearest, and the rest are older articles: on gov-blogs .935 of the editors'
links are candidates, against .877 with a fixed 180 of any time."""
EVERGREENS = 60
"""Number of candidates among evergreen articles, for slots whose max_age excludes old ones."""
WINDOWS = ((2_000, 100), (500, 100))
"""Windows of time around the page: (articles before the page, candidates). A window holds that many articles before the
page and half as many after it. Editors mostly link to what is near in time: on a large daily archive 100 candidates of
all time include .60 of the editors' links, with windows of 30 and 7 days as well .89."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The candidates of a page.

    rows: ascending. cosines: of the main vectors, parallel to rows.
    excluded: number of rows that each rule excluded from the hits.
    """

    rows: Rows
    cosines: npt.NDArray[np.float32]
    excluded: dict[str, int]


def retrieve(
    live: Live, page: Page, scope: Scope, as_of_ms: int, *, oldest_ms: int = 0, excluded: dict[int, str] | None = None
) -> Candidates:
    """Return the candidates for `page` that were public at `as_of_ms`.

    oldest_ms: articles that became public earlier are no candidates, unless they are evergreen.
    excluded: rows to leave out, each with the rule that excludes it. As many more are fetched to make up for them.
    """
    excluded = excluded or {}
    excluded_rows = np.sort(np.fromiter(excluded, np.int64, len(excluded)))
    hits, excluded_hits = [], []

    def search(k: int, from_ms: int, until_ms: int, within: Scope) -> None:
        nearest = live.search(page.main, k + len(excluded), from_ms, until_ms, within)
        is_excluded = _is_among(nearest.rows, excluded_rows)
        excluded_hits.append(nearest.rows[is_excluded])
        hits.append(Hits(nearest.rows[~is_excluded][:k], nearest.scores[~is_excluded][:k]))

    for articles, k in WINDOWS:
        from_ms, until_ms = live.window(scope, page.published_at_ms, as_of_ms, articles)
        search(k, max(oldest_ms, from_ms), until_ms, scope)
    if oldest_ms > 0:
        search(EVERGREENS, 0, as_of_ms, replace(scope, evergreen_only=True))
    search(CANDIDATES, oldest_ms, as_of_ms, scope)
    candidates = _union(hits, CANDIDATES)
    rules = Counter(excluded[row] for row in set(np.concatenate(excluded_hits).tolist()))
    return Candidates(candidates.rows, candidates.scores, dict(rules))


def _is_among(rows: Rows, some: Rows) -> npt.NDArray[np.bool_]:
    """Return bool (rows,): which rows are among `some`, ascending."""
    if not len(some):
        return np.zeros(len(rows), np.bool_)
    among: npt.NDArray[np.bool_] = some[np.minimum(some.searchsorted(rows), len(some) - 1)] == rows
    return among


def _union(hits: list[Hits], n: int) -> Hits:
    """Return the first `n` distinct rows of the concatenated hits, ascending."""
    rows, scores = np.concatenate([h.rows for h in hits]), np.concatenate([h.scores for h in hits])
    order = rows.argsort(kind="stable")
    ordered = rows[order]
    first = order[np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(ordered)]]
    if len(first) > n:
        first = first[np.sort(first.argpartition(n)[:n])]
    return Hits(rows[first], scores[first])
