"""From candidates to scored candidates: exact evidence, weighed as log-odds. Pure but for reading the live view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit

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

    wording: TF-IDF cosine of full texts, 0 to 1. meaning, headline: cosines of main and head vectors. title: share of
    the candidate's title that the page's text uses. age_days: how far in time from the page, either way. tags: Jaccard
    coefficient. evergreen; section, site, author: whether the page's is the same, 0 or 1. words: the candidate's.
    """

    rows: Rows
    wording: Floats
    meaning: Floats
    headline: Floats
    title: Floats
    age_days: Floats
    evergreen: Floats
    section: Floats
    tags: Floats
    site: Floats
    author: Floats
    words: Floats
    published_at_ms: npt.NDArray[np.int64]

    def values(self, index: int) -> dict[str, float]:
        """Return one candidate's evidence under the names of the score parts."""
        return {name: float(getattr(self, _FIELDS.get(name, name))[index]) for name in PARTS}

    def features(self, half_life_days: float) -> Floats:
        """Return float32 (n, len(PARTS)), C-contiguous: what a fitted ranker sees; see FEATURES_VERSION."""
        columns = {name: getattr(self, _FIELDS.get(name, name)) for name in PARTS}
        columns["wording"] = np.log1p(np.maximum(self.wording, 0) / WORDING_OFFSET)
        columns["freshness"] = self.log_age(half_life_days)
        columns["length"] = np.log1p(self.words)
        return np.ascontiguousarray(np.column_stack([columns[name] for name in PARTS]), np.float32)

    def log_age(self, half_life_days: float) -> Floats:
        """Return ln(1 + age in half-lives); 0 for evergreen articles."""
        ages: Floats = np.log1p(self.age_days / max(half_life_days, 1e-6)) * (1 - self.evergreen)
        return ages


PARTS = (
    "wording",
    "meaning",
    "headline",
    "title",
    "freshness",
    "section",
    "tags",
    "site",
    "author",
    "length",
)
"""Names of the evidence, as score parts show it."""
WORDING_OFFSET = 0.02
"""Evidence of wording is ln(1 + overlap / 0.02): below a fiftieth two texts share next to nothing."""
FEATURES_VERSION = "features-1"
"""Names the columns of `Evidence.features` and how they are computed; changes whenever they do."""
_FIELDS = {"freshness": "age_days", "length": "words"}


@dataclass(frozen=True, slots=True)
class Formula:
    """The default ranking: log-odds that an editor would accept the link, a weighted sum of evidence.

    Its shape follows measurements on editors' own links (design notes): the log-odds rise with the logarithm of the
    wording overlap, level off at high cosines, and fall with the logarithm of age; a title whose words the page uses is
    worth more than its share of the wording. The weights are those that a logistic regression gives on gov-blogs,
    rounded, with headline, section and age as on the large general-news archive of the design notes.
    """

    name: str = "formula-2"
    base: float = -7.5
    wording: float = 2.0
    wording_offset: float = WORDING_OFFSET
    meaning: float = 2.5
    headline: float = 1.0
    cosine_ceiling: float = 0.9
    title: float = 2.0
    freshness: float = 0.7
    section: float = 1.0
    tags: float = 0.8
    site: float = 0.8
    author: float = 0.3
    length: float = 0.4
    length_words: float = 300.0
    length_bound: float = 1.5

    def contributions(self, evidence: Evidence, half_life_days: float) -> dict[str, Floats]:
        """Return what each piece of evidence adds to the log-odds; the sum and `base` are the whole."""
        length = np.log(np.maximum(evidence.words, 1) / self.length_words)
        return {
            "wording": self.wording * np.log1p(np.maximum(evidence.wording, 0) / self.wording_offset),
            "meaning": self.meaning * np.minimum(evidence.meaning, self.cosine_ceiling),
            "headline": self.headline * np.minimum(evidence.headline, self.cosine_ceiling),
            "title": self.title * evidence.title,
            "freshness": -self.freshness * evidence.log_age(half_life_days),
            "section": self.section * evidence.section,
            "tags": self.tags * evidence.tags,
            "site": self.site * evidence.site,
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


class Model(Protocol):
    """Weighs evidence: the default formula, or a ranker fitted on a newsroom's own links."""

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
        """Return indices, best first; of equal scores the newer article first."""
        return np.lexsort((-self.evidence.rows, -self.evidence.published_at_ms, -self.scores))

    def explain(self, index: int) -> list[tuple[str, float, float]]:
        """Return (name, value, contribution) of one candidate, largest contribution first, then ("base", 1, base)."""
        values = self.evidence.values(index)
        # Adding 0 turns -0.0 into 0.0: not every language's JSON has a negative zero.
        parts = [(name, values[name], added + 0.0) for name, added in self.weighed.parts_of(index).items()]
        return [*sorted(parts, key=lambda part: -abs(part[2])), ("base", 1.0, self.weighed.base)]


class Ranker:
    """Gathers evidence and scores it. Owns scratch memory: one thread."""

    def __init__(self, model: Model | None = None) -> None:
        """Rank by `model`, or the default formula."""
        self.model = model or Formula()
        self._scratch = np.zeros(TERM_BUCKETS, np.float32)

    def gather(self, live: Live, page: Page, found: Found) -> Evidence:
        """Read the evidence of every candidate."""
        rows = found.rows
        columns = live.columns(rows)
        overlap = overlaps(page.ids, page.weights, live.signatures(rows), self._scratch)
        return Evidence(
            rows=rows,
            wording=overlap.cosine,
            meaning=found.cosines,
            headline=live.head_cosines(rows, page.head),
            title=overlap.title,
            age_days=(np.abs(page.published_at_ms - columns.published_at_ms) / DAY_MS).astype(np.float32),
            evergreen=((columns.flags & Flag.EVERGREEN) != 0).astype(np.float32),
            section=_same(columns.section, page.section),
            tags=live.tag_overlaps(rows, page.tags),
            site=_same(columns.site, page.site),
            author=_same(columns.author, page.author),
            words=columns.words.astype(np.float32),
            published_at_ms=columns.published_at_ms,
        )

    def score(self, evidence: Evidence, half_life_days: float) -> Scored:
        """Score every candidate; half_life_days: the age at which freshness counts half."""
        weighed = self.model.weigh(evidence, half_life_days)
        scores = expit(weighed.odds).astype(np.float32)
        return Scored(evidence, scores, weighed)


def default_half_life_days(live: Live, as_of_ms: int) -> float:
    """Return the days in which the archive publishes FRESHNESS_ARTICLES, at its rate in the year before `as_of_ms`."""
    per_day = live.published_per_day(as_of_ms)
    return FRESHNESS_ARTICLES / per_day if per_day else 1.0


def _same(codes: npt.NDArray[np.uint32], label: str) -> Floats:
    """Say where a label is the page's; an unknown label of the page equals none."""
    return (codes == label_code(label)).astype(np.float32) if label else np.zeros(len(codes), np.float32)
