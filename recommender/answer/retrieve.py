"""From a page to its candidates: nearest vectors in a few windows of time, all filters applied inside the search."""

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
class Candidates:
    """Candidates. rows ascending; cosines of the main vectors, parallel. excluded: rows left out as told, by rule."""

    rows: Rows
    cosines: npt.NDArray[np.float32]
    excluded: dict[str, int]


def retrieve(
    live: Live, page: Page, scope: Scope, as_of_ms: int, *, oldest_ms: int = 0, excluded: dict[int, str] | None = None
) -> Candidates:
    """Return the candidates for `page` that were public at `as_of_ms`.

    oldest_ms: nothing that became public before, evergreen articles apart. excluded: rows to leave out, each with the
    rule that says so; so many more are fetched that nothing is missing.
    """
    excluded = excluded or {}
    unwanted = np.sort(np.fromiter(excluded, np.int64, len(excluded)))
    hits, left_out = [], []

    def search(k: int, from_ms: int, until_ms: int, within: Scope) -> None:
        found = live.search(page.main, k + len(excluded), from_ms, until_ms, within)
        out = _is_among(found.rows, unwanted)
        left_out.append(found.rows[out])
        hits.append(Hits(found.rows[~out][:k], found.scores[~out][:k]))

    for articles, k in WINDOWS:
        from_ms, until_ms = live.window(scope, page.published_at_ms, as_of_ms, articles)
        search(k, max(oldest_ms, from_ms), until_ms, scope)
    if oldest_ms > 0:
        search(EVERGREENS, 0, as_of_ms, replace(scope, evergreen_only=True))
    search(CANDIDATES, oldest_ms, as_of_ms, scope)
    kept = _union(hits, CANDIDATES)
    rules = Counter(excluded[row] for row in set(np.concatenate(left_out).tolist()))
    return Candidates(kept.rows, kept.scores, dict(rules))


def _is_among(rows: Rows, some: Rows) -> npt.NDArray[np.bool_]:
    """Say which rows are among `some`, ascending."""
    if not len(some):
        return np.zeros(len(rows), np.bool_)
    among: npt.NDArray[np.bool_] = some[np.minimum(some.searchsorted(rows), len(some) - 1)] == rows
    return among


def _union(hits: list[Hits], most: int) -> Hits:
    """Return the first `most` distinct rows of the concatenated hits, ascending."""
    rows, scores = np.concatenate([h.rows for h in hits]), np.concatenate([h.scores for h in hits])
    order = rows.argsort(kind="stable")
    ordered = rows[order]
    first = order[np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(ordered)]]
    if len(first) > most:
        first = first[np.sort(first.argpartition(most)[:most])]
    return Hits(rows[first], scores[first])
