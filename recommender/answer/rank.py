"""From candidates to scored candidates: features, weighed as log-odds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recommender.answer.features import WEIGHED, Comparison, Detail, Features, Floats, read_features
from recommender.answer.page import Page
from recommender.answer.retrieve import Candidates
from recommender.catalog.live import Live
from recommender.catalog.text.overlap import TermTable

FRESHNESS_ARTICLES = 60
"""The half-life of freshness is the time in which the archive publishes this many articles: a day on a daily newspaper
with 66 articles a day, four months on a slow blog with one every second day."""
DEFAULT_WEIGHTS: Mapping[str, float] = {f.name: f.weight for f in WEIGHED if f.weight is not None}
"""Weights of the default formula by feature; their features are its score parts."""


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Log-odds, float32 (n,); parts_of(i): what each score part adds to those of candidate i, beside `base`."""

    odds: Floats
    parts_of: Callable[[int], dict[str, float]]
    base: float


class Formula(Protocol):
    """Weighs features: the default formula, or one fitted on a newsroom's own links."""

    @property
    def detail(self) -> Detail | None:
        """The detail features that it needs; None if none."""
        ...

    @property
    def name(self) -> str:
        """The name that receipts show."""
        ...

    def weigh(self, features: Features, half_life_days: float) -> Weighed:
        """Return the log-odds of every candidate, and their parts."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DefaultFormula:
    """The default formula: log-odds that an editor would accept the link, a weighted sum of features.

    Its shape follows measurements on editors' own links (design notes): the log-odds rise with the logarithm of the
    wording overlap, level off at high cosines, and fall with the logarithm of age; a title whose words the page uses
    is worth more than its share of the wording. The weights are those that a logistic regression gives on gov-blogs,
    rounded, with headline, section and age nearer to the large general-news archive of the design notes.
    """

    name: str = "formula-3"
    base: float = -6.7
    weights: Mapping[str, float] = field(default_factory=lambda: DEFAULT_WEIGHTS)

    @property
    def detail(self) -> None:
        """No detail features are needed."""
        return None

    def contributions(self, features: Features, half_life_days: float) -> dict[str, Floats]:
        """Return what each score part adds to the log-odds, beside `base`."""
        return {
            feature.name: self.weights[feature.name]
            * (feature.term(features, half_life_days) if feature.term else features[feature.name])
            for feature in WEIGHED
        }

    def weigh(self, features: Features, half_life_days: float) -> Weighed:
        """Return the log-odds of every candidate, and their parts."""
        parts = self.contributions(features, half_life_days)
        odds = np.sum(list(parts.values()), axis=0) + self.base
        return Weighed(odds, lambda index: {name: float(column[index]) for name, column in parts.items()}, self.base)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Candidates with scores in 0 to 1, parallel to `features.rows`."""

    features: Features
    scores: Floats
    weighed: Weighed

    def order(self) -> npt.NDArray[np.intp]:
        """Return indices, best first; ties newest first, then by id hash.

        So the order does not depend on which of the articles are in a snapshot.
        """
        return np.lexsort((self.features.id_hashes, -self.features.published_at_ms, -self.scores))

    def explain(self, index: int) -> list[tuple[str, float, float]]:
        """Return (name, value, contribution) of one candidate, largest contribution first, then ("base", 1, base)."""
        values = self.features.values(index)
        # Adding 0 turns -0.0 into 0.0: not every language's JSON has a negative zero.
        parts = [(name, values[name], added + 0.0) for name, added in self.weighed.parts_of(index).items()]
        return [*sorted(parts, key=lambda part: -abs(part[2])), ("base", 1.0, self.weighed.base)]


class Ranker:
    """Reads the features of candidates and scores them by a formula. Owns working memory: one thread."""

    def __init__(self, formula: Formula | None = None, detail: Detail | None = None) -> None:
        """Rank by `formula`, or the default one. detail: read these features instead of those the formula needs."""
        self.formula = formula or DefaultFormula()
        self._detail = detail or self.formula.detail
        self._table = TermTable()

    def gather(self, live: Live, page: Page, candidates: Candidates, as_of_ms: int) -> Features:
        """Read the features of every candidate, as they were known at `as_of_ms`."""
        return read_features(Comparison(live, page, candidates, as_of_ms, self._table, self._detail))

    def same_until_ms(self, as_of_ms: int) -> int:
        """Return the time until which the features of the same candidates stay as they are at `as_of_ms`."""
        history = self._detail.history if self._detail else None
        return history.same_until_ms(as_of_ms) if history else 2**63 - 1

    def score(self, features: Features, half_life_days: float) -> Scored:
        """Score every candidate; half_life_days: the age that freshness is measured in."""
        weighed = self.formula.weigh(features, half_life_days)
        return Scored(features, probabilities(weighed.odds), weighed)


def probabilities(odds: Floats) -> Floats:
    """Return the probabilities, 0 to 1, of log-odds: the logistic function."""
    return (1 / (1 + np.exp(-odds.astype(np.float64)))).astype(np.float32)


def default_half_life_days(live: Live, as_of_ms: int) -> float:
    """Return the days in which the archive publishes FRESHNESS_ARTICLES, at its rate in the year before `as_of_ms`."""
    per_day = live.published_per_day(as_of_ms)
    return FRESHNESS_ARTICLES / per_day if per_day else 1.0
