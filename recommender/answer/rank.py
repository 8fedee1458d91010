"""From candidates to scored candidates: exact evidence, weighed as log-odds. Pure but for reading the live view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recommender.answer.evidence import WORDING_OFFSET, Detail, Evidence, Extras, Floats
from recommender.answer.page import Page
from recommender.answer.retrieve import Candidates
from recommender.catalog.live import Live
from recommender.catalog.snapshot.columns import Flag, label_code
from recommender.catalog.text.overlap import Overlap, TermTable, overlap_detail, overlaps
from recommender.catalog.text.terms import IN_TITLE, Packed
from recommender.clock import DAY_MS

FRESHNESS_ARTICLES = 60
"""Freshness is measured in the time in which the archive publishes this many articles: on a daily newspaper with 66
articles a day that is a day, on a slow blog with one every second day it is four months."""


@dataclass(frozen=True, slots=True)
class DefaultFormula:
    """The default ranking: log-odds that an editor would accept the link, a weighted sum of evidence.

    Its shape follows measurements on editors' own links (design notes): the log-odds rise with the logarithm of the
    wording overlap, level off at high cosines, and fall with the logarithm of age; a title whose words the page uses
    is worth more than its share of the wording. The weights are those that a logistic regression gives on gov-blogs,
    rounded, with headline, section and age nearer to the large general-news archive of the design notes. Section and
    site count by what they tell: of an archive with one section all is of the page's section. The ceiling of cosines is
    .8 (gov-blogs .571, .568 at .6, before suppression); the design notes saw it at .6, with other vectors.
    """

    name: str = "formula-3"
    base: float = -6.7
    wording: float = 2.0
    wording_offset: float = WORDING_OFFSET
    meaning: float = 2.5
    headline: float = 1.5
    cosine_ceiling: float = 0.8
    title: float = 2.5
    freshness: float = 0.7
    section: float = 1.0
    tags: float = 0.8
    site: float = 0.8
    author: float = 0.3
    length: float = 0.4
    length_words: float = 300.0
    length_bound: float = 1.5

    @property
    def extras(self) -> None:
        """Nothing beside the usual evidence is needed."""
        return None

    def contributions(self, evidence: Evidence, half_life_days: float) -> dict[str, Floats]:
        """Return what each piece of evidence adds to the log-odds; the sum and `base` are the whole."""
        length = np.log(np.maximum(evidence.words, 1) / self.length_words)
        return {
            "wording": self.wording * np.log1p(np.maximum(evidence.wording, 0) / self.wording_offset),
            "meaning": self.meaning * np.minimum(evidence.meaning, self.cosine_ceiling),
            "headline": self.headline * np.minimum(evidence.headline, self.cosine_ceiling),
            "title": self.title * evidence.title,
            "freshness": -self.freshness * evidence.log_age(half_life_days),
            "section": self.section * (evidence.section - np.float32(evidence.section_share)),
            "tags": self.tags * evidence.tags,
            "site": self.site * (evidence.site - np.float32(evidence.site_share)),
            "author": self.author * evidence.author,
            "length": self.length * np.clip(length, -self.length_bound, self.length_bound),
        }

    def weigh(self, evidence: Evidence, half_life_days: float) -> Weighed:
        """Return the log-odds of every candidate, and how they come about."""
        parts = self.contributions(evidence, half_life_days)
        odds = np.sum(list(parts.values()), axis=0) + self.base
        return Weighed(odds, lambda index: {name: float(column[index]) for name, column in parts.items()}, self.base)


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Log-odds, float32 (n,); parts_of(i): what each piece of evidence adds to those of candidate i, beside `base`."""

    odds: Floats
    parts_of: Callable[[int], dict[str, float]]
    base: float


class Formula(Protocol):
    """Weighs features: the default formula, or one fitted on a newsroom's own links."""

    @property
    def extras(self) -> Extras | None:
        """What it needs beside the usual evidence."""
        ...

    @property
    def name(self) -> str:
        """As receipts show it."""
        ...

    def weigh(self, evidence: Evidence, half_life_days: float) -> Weighed:
        """Return the log-odds of every candidate, and how they come about."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Candidates with scores in 0 to 1, parallel to `evidence.rows`."""

    evidence: Evidence
    scores: Floats
    weighed: Weighed

    def order(self) -> npt.NDArray[np.intp]:
        """Return indices, best first; of equal scores the newer article first, of equal dates as their ids' hashes.

        So it is the same whichever of them a snapshot holds.
        """
        return np.lexsort((self.evidence.id_hashes, -self.evidence.published_at_ms, -self.scores))

    def explain(self, index: int) -> list[tuple[str, float, float]]:
        """Return (name, value, contribution) of one candidate, largest contribution first, then ("base", 1, base)."""
        values = self.evidence.values(index)
        # Adding 0 turns -0.0 into 0.0: not every language's JSON has a negative zero.
        parts = [(name, values[name], added + 0.0) for name, added in self.weighed.parts_of(index).items()]
        return [*sorted(parts, key=lambda part: -abs(part[2])), ("base", 1.0, self.weighed.base)]


class Ranker:
    """Gathers evidence and scores it. Owns a table to work with: one thread."""

    def __init__(self, formula: Formula | None = None, extras: Extras | None = None) -> None:
        """Rank by `formula`, or the default one. extras: gather these instead of what the formula needs."""
        self.formula = formula or DefaultFormula()
        self._extras = extras or self.formula.extras
        self._table = TermTable()

    def gather(self, live: Live, page: Page, found: Candidates, as_of_ms: int) -> Evidence:
        """Read the evidence of every candidate, as it was known at `as_of_ms`."""
        rows = found.rows
        published_at_ms = live.column("published_at_ms", rows)
        id_hashes, packed = live.id_hashes(rows), live.signatures(rows)
        overlap = overlaps(page.ids, page.weights, packed, self._table)
        extras = self._extras
        return Evidence(
            rows=rows,
            wording=overlap.cosine,
            meaning=found.cosines,
            headline=live.head_cosines(rows, page.head),
            title=overlap.title,
            age_days=(np.abs(page.published_at_ms - published_at_ms) / DAY_MS).astype(np.float32),
            evergreen=((live.column("flags", rows) & Flag.EVERGREEN.value) != 0).astype(np.float32),
            section=_same(live.column("section", rows), page.labels.section),
            tags=live.tag_overlaps(rows, page.labels.tags),
            site=_same(live.column("site", rows), page.labels.site),
            author=_same(live.column("author", rows), page.labels.author),
            words=live.column("words", rows).astype(np.float32),
            published_at_ms=published_at_ms,
            id_hashes=id_hashes,
            section_share=live.label_share("section", page.labels.section),
            site_share=live.label_share("site", page.labels.site),
            detail=self._detail(page, id_hashes, packed, overlap, extras, as_of_ms) if extras else None,
        )

    def _detail(
        self,
        page: Page,
        id_hashes: npt.NDArray[np.uint64],
        packed: Packed,
        overlap: Overlap,
        extras: Extras,
        as_of_ms: int,
    ) -> Detail:
        in_title = (page.masks & np.uint64(IN_TITLE)) != 0
        more = overlap_detail(page.weights, in_title, packed, overlap.matches)
        none = np.zeros(len(packed), np.float32)
        linked = (none, none)
        if extras.history is not None:
            linked = extras.history.evidence(id_hashes, overlap.cosine, as_of_ms)
        return Detail(more.shared, more.strongest, more.own_title, more.titles, *linked)

    def same_until_ms(self, as_of_ms: int) -> int:
        """Return until when the evidence of the same candidates is what it is at `as_of_ms`."""
        history = self._extras.history if self._extras else None
        return history.same_until_ms(as_of_ms) if history else 2**63 - 1

    def score(self, evidence: Evidence, half_life_days: float) -> Scored:
        """Score every candidate; half_life_days: the age that freshness is measured in."""
        weighed = self.formula.weigh(evidence, half_life_days)
        return Scored(evidence, probabilities(weighed.odds), weighed)


def probabilities(odds: Floats) -> Floats:
    """Return the probabilities, 0 to 1, of log-odds: the logistic function."""
    return (1 / (1 + np.exp(-odds.astype(np.float64)))).astype(np.float32)


def default_half_life_days(live: Live, as_of_ms: int) -> float:
    """Return the days in which the archive publishes FRESHNESS_ARTICLES, at its rate in the year before `as_of_ms`."""
    per_day = live.published_per_day(as_of_ms)
    return FRESHNESS_ARTICLES / per_day if per_day else 1.0


def _same(codes: npt.NDArray[np.uint32], label: str) -> Floats:
    """Say where a label is the page's; an unknown label of the page equals none."""
    return (codes == label_code(label)).astype(np.float32) if label else np.zeros(len(codes), np.float32)
