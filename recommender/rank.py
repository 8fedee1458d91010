"""From candidates to scored candidates: exact evidence, weighed as log-odds. Pure but for reading the live view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recommender.catalog.live import DAY_MS, Live
from recommender.catalog.segment import Flag, label_code
from recommender.catalog.vectors import Rows
from recommender.catalog.wording import TERM_BUCKETS, overlaps
from recommender.page import Page
from recommender.retrieve import Found

Floats = npt.NDArray[np.float32]

FRESHNESS_ARTICLES = 60
"""Freshness counts half at the age in which the archive publishes this many articles: on a daily newspaper with 66
articles a day that is a day, on a slow blog with one every second day it is four months."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of each candidate beside the page; all arrays float32 (n,), parallel to `rows`, ascending.

    wording: TF-IDF cosine of full texts, 0 to 1. meaning, headline: cosines of main and head vectors. age_days: how far
    in time from the page, either way. evergreen, same_section, same_site: 0 or 1.
    """

    rows: Rows
    wording: Floats
    meaning: Floats
    headline: Floats
    age_days: Floats
    evergreen: Floats
    same_section: Floats
    same_site: Floats
    published_at_ms: npt.NDArray[np.int64]

    def values(self, index: int) -> dict[str, float]:
        """Return one candidate's evidence under the names of the score parts."""
        return {
            "wording": float(self.wording[index]),
            "meaning": float(self.meaning[index]),
            "headline": float(self.headline[index]),
            "freshness": float(self.age_days[index]),
            "section": float(self.same_section[index]),
            "site": float(self.same_site[index]),
        }


@dataclass(frozen=True, slots=True)
class Formula:
    """The default ranking: log-odds that an editor would accept the link, a weighted sum of evidence.

    Its shape follows measurements on editors' own links (design notes): the log-odds rise with the logarithm of the
    wording overlap, level off at high cosines, and fall with the logarithm of age. The weights are those that a
    logistic regression gives on gov-blogs (wording 2.3, meaning and headline together 4.1, age -0.9, same site 1.8),
    rounded, with meaning and headline balanced as on the large general-news archive of the design notes.
    """

    name: str = "formula-1"
    base: float = -7.2
    wording: float = 2.0
    wording_offset: float = 0.02
    meaning: float = 3.0
    headline: float = 1.5
    cosine_ceiling: float = 0.9
    freshness: float = 0.8
    same_section: float = 0.8
    same_site: float = 0.8

    def contributions(self, evidence: Evidence, half_life_days: float) -> dict[str, Floats]:
        """Return what each piece of evidence adds to the log-odds; the sum and `base` are the whole."""
        age = evidence.age_days / max(half_life_days, 1e-6)
        return {
            "wording": self.wording * np.log1p(np.maximum(evidence.wording, 0) / self.wording_offset),
            "meaning": self.meaning * np.minimum(evidence.meaning, self.cosine_ceiling),
            "headline": self.headline * np.minimum(evidence.headline, self.cosine_ceiling),
            "freshness": -self.freshness * np.log1p(age) * (1 - evidence.evergreen),
            "section": self.same_section * evidence.same_section,
            "site": self.same_site * evidence.same_site,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Candidates with scores in 0 to 1, parallel to `evidence.rows`; parts: contributions by name, log-odds."""

    evidence: Evidence
    scores: Floats
    parts: dict[str, Floats]
    base: float

    def order(self) -> npt.NDArray[np.intp]:
        """Return indices, best first; of equal scores the newer article first."""
        return np.lexsort((-self.evidence.rows, -self.evidence.published_at_ms, -self.scores))

    def explain(self, index: int) -> list[tuple[str, float, float]]:
        """Return (name, value, contribution) of one candidate, largest contribution first, then ("base", 1, base)."""
        values = self.evidence.values(index)
        # Adding 0 turns -0.0 into 0.0: not every language's JSON has a negative zero.
        parts = [(name, values[name], float(column[index]) + 0.0) for name, column in self.parts.items()]
        return [*sorted(parts, key=lambda part: -abs(part[2])), ("base", 1.0, self.base)]


class Ranker:
    """Gathers evidence and scores it. Owns scratch memory: one thread."""

    def __init__(self, formula: Formula | None = None) -> None:
        """Rank by `formula`, or the default one."""
        self.formula = formula or Formula()
        self._scratch = np.zeros(TERM_BUCKETS, np.float32)

    def gather(self, live: Live, page: Page, found: Found) -> Evidence:
        """Read the evidence of every candidate."""
        rows = found.rows
        columns = live.columns(rows)
        signature_cosines = overlaps(page.ids, page.weights, live.signatures(rows), self._scratch)
        return Evidence(
            rows=rows,
            wording=signature_cosines,
            meaning=found.cosines,
            headline=live.head_cosines(rows, page.head),
            age_days=(np.abs(page.published_at_ms - columns.published_at_ms) / DAY_MS).astype(np.float32),
            evergreen=((columns.flags & Flag.EVERGREEN) != 0).astype(np.float32),
            same_section=_same(columns.section, page.section),
            same_site=_same(columns.site, page.site),
            published_at_ms=columns.published_at_ms,
        )

    def score(self, evidence: Evidence, half_life_days: float) -> Scored:
        """Score every candidate; half_life_days: the age at which freshness counts half."""
        parts = self.formula.contributions(evidence, half_life_days)
        odds = np.sum(list(parts.values()), axis=0) + self.formula.base
        scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
        return Scored(evidence, scores, parts, self.formula.base)


def default_half_life_days(live: Live, as_of_ms: int) -> float:
    """Return the days in which the archive publishes FRESHNESS_ARTICLES, at its rate in the year before `as_of_ms`."""
    per_day = live.published_per_day(as_of_ms)
    return FRESHNESS_ARTICLES / per_day if per_day else 1.0


def _same(codes: npt.NDArray[np.uint32], label: str) -> Floats:
    """Say where a label is the page's; an unknown label of the page equals none."""
    return (codes == label_code(label)).astype(np.float32) if label else np.zeros(len(codes), np.float32)
