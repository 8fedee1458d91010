"""The cases of every peer: the same queries without and with filters, and the exact answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.peers.corpus import SITES, Corpus
from benchmarks.peers.peer import EVERYTHING, Filter, Postings, Rows

DEPTHS = (10, 100)
"""Numbers of nearest rows that recall is of."""
TIE = 1e-6
"""Inner products that differ by less count as equal: libraries add in different orders."""
_QUERIES_AT_ONCE = 16
"""Memory limit of the exact search: queries in one product."""
_ROWS_AT_ONCE = 262_144
"""Memory limit of the exact search: rows in one product."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One filter for each query, and what identifies the right answers.

    thresholds: float32 (queries, 2), inner products of the 10th and 100th best row that passes; of fewer rows the last.
    passing: int64 (queries,), number of rows that pass.
    by_id: the queries are rows of the corpus; a query's own row is in no answer.
    """

    name: str
    filters: tuple[Filter, ...]
    thresholds: npt.NDArray[np.float32]
    passing: Rows
    by_id: bool = False


def make_cases(corpus: Corpus, seed: int) -> list[Case]:
    """Return every case, with exact answers from comparing every query with every row."""
    return with_answers(corpus, _filters(corpus, seed))


def with_answers(corpus: Corpus, filters: dict[str, list[Filter]], *, by_id: bool = False) -> list[Case]:
    """Return a case for each list of filters, one filter a query. by_id: the queries are rows of the corpus."""
    postings = Postings(corpus.columns)
    thresholds = {name: np.zeros((len(corpus.queries), len(DEPTHS)), np.float32) for name in filters}
    passing = {name: np.zeros(len(corpus.queries), np.int64) for name in filters}
    for start in range(0, len(corpus.queries), _QUERIES_AT_ONCE):
        for index, row in enumerate(_scores(corpus, start), start):
            for name, wanted in filters.items():
                best = row if wanted[index] == EVERYTHING else row[postings.rows(wanted[index])]
                passing[name][index] = len(best) - by_id
                thresholds[name][index] = _nth_best(best, 1 if by_id else 0)
    return [Case(name, tuple(wanted), thresholds[name], passing[name], by_id) for name, wanted in filters.items()]


def _scores(corpus: Corpus, start: int) -> npt.NDArray[np.float32]:
    """Return float32 (_QUERIES_AT_ONCE, rows): inner products of some queries with every row, in bounded memory."""
    queries, rows = corpus.queries[start : start + _QUERIES_AT_ONCE], len(corpus.vectors)
    scores = np.empty((len(queries), rows), np.float32)
    for at in range(0, rows, _ROWS_AT_ONCE):
        scores[:, at : at + _ROWS_AT_ONCE] = queries @ corpus.vectors[at : at + _ROWS_AT_ONCE].astype(np.float32).T
    return scores


def recalls(case: Case, index: int, answer: Rows, corpus: Corpus, mask: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """Return recall at DEPTHS of one answer. A row that does not pass, or the repetition of one, does not count."""
    shares = []
    for depth, threshold in zip(DEPTHS, case.thresholds[index], strict=True):
        wanted = min(depth, int(case.passing[index]))
        rows = np.unique(answer[:depth])
        scores = corpus.vectors[rows[mask[rows]]].astype(np.float32) @ corpus.queries[index]
        shares.append(min(1.0, float(np.count_nonzero(scores >= threshold - TIE)) / wanted) if wanted else 1.0)
    return tuple(shares)


def _nth_best(scores: npt.NDArray[np.float32], better: int) -> list[float]:
    """Return the scores at DEPTHS, the best `better` ones left out."""
    if len(scores) <= better:
        return [np.inf] * len(DEPTHS)
    places = [min(depth + better, len(scores)) - 1 for depth in DEPTHS]
    best = -np.partition(-scores, places)
    return [float(best[place]) for place in places]


def _filters(corpus: Corpus, seed: int) -> dict[str, list[Filter]]:
    random = np.random.default_rng((seed, 3))
    count = len(corpus.queries)
    sections = _Sections(corpus)
    filters = {"all": [EVERYTHING] * count}
    for share in SITES[:2]:
        filters[f"window {share:.1%}"] = [_window(corpus, share, random) for _ in range(count)]
    for code, share in enumerate(SITES):
        filters[f"site {share:.1%}"] = [Filter(label="site", codes=(code,))] * count
    for share in SITES:
        filters[f"near sections {share:.1%}"] = [sections.near(query, share) for query in range(count)]
    others = (np.arange(count) + random.integers(1, count, count)) % count
    filters[f"other sections {SITES[1]:.1%}"] = [sections.near(int(other), SITES[1]) for other in others]
    return filters


def _window(corpus: Corpus, share: float, random: np.random.Generator) -> Filter:
    times = corpus.columns.published_at_ms
    length = max(1, int(share * len(times)))
    low = int(random.integers(len(times) - length + 1))
    until_ms = int(times[low + length]) if low + length < len(times) else None
    return Filter(from_ms=int(times[low]), until_ms=until_ms)


class _Sections:
    """The sections nearest to a query that together have about a given share of the rows."""

    def __init__(self, corpus: Corpus) -> None:
        self._order = np.argsort(-(corpus.queries @ corpus.centroids.T), axis=1)
        self._sizes = np.bincount(corpus.columns.section, minlength=len(corpus.centroids))

    def near(self, query: int, share: float) -> Filter:
        order = self._order[query]
        rows = np.cumsum(self._sizes[order])
        taken = int(np.searchsorted(rows, share * rows[-1])) + 1
        return Filter(label="section", codes=tuple(sorted(order[:taken].tolist())))
