"""Features: the numbers about a page and a candidate that a ranker weighs. FEATURES is the table of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recommender.answer.link_history import LinkHistory
from recommender.answer.page import Page
from recommender.answer.retrieve import Candidates
from recommender.catalog.live import Live
from recommender.catalog.snapshot.columns import Flag, label_code
from recommender.catalog.text.overlap import OverlapDetail, TermTable, overlap_detail, overlaps
from recommender.catalog.text.terms import IN_TITLE
from recommender.catalog.vectors.index import Rows
from recommender.clock import DAY_MS

Floats = npt.NDArray[np.float32]

FEATURES_VERSION = "features-2"
"""Names the columns of `Features.matrix` and their computation; changes whenever they do."""
HISTORY = "history"
"""The score part that only a fitted ranker has: what editors linked to before."""
WORDING_OFFSET = 0.02
"""The overlap of wording counts as ln(1 + overlap / 0.02): below a fiftieth two texts share next to nothing."""
COSINE_CEILING = 0.8
"""Cosine from which the default formula adds no more. On gov-blogs nDCG@10 is .571 with .8, .568 with .6, before
suppression; the design notes saw .6, with other vectors."""
LENGTH_WORDS = 300.0
"""Length of a candidate to which the default formula adds nothing; longer is better."""
LENGTH_LIMIT = 1.5
"""Largest natural logarithm of words / LENGTH_WORDS that counts, either way."""


@dataclass(frozen=True, slots=True)
class Detail:
    """Asks for the detail features too, which only a fitted ranker weighs. history: None if there are no links."""

    history: LinkHistory | None = None


class Comparison:
    """A page beside its candidates: what features are read from."""

    def __init__(
        self, live: Live, page: Page, candidates: Candidates, as_of_ms: int, table: TermTable, detail: Detail | None
    ) -> None:
        """table: working memory."""
        self.live, self.page, self.rows, self.cosines = live, page, candidates.rows, candidates.cosines
        self.as_of_ms, self.detail = as_of_ms, detail
        self.published_at_ms = live.column("published_at_ms", self.rows)
        self.id_hashes, self._signatures = live.id_hashes(self.rows), live.signatures(self.rows)
        self.overlap = overlaps(page.ids, page.weights, self._signatures, table)

    def has_label(self, column: str, label: str) -> Floats:
        """Return 1 for each candidate that has the page's label, else 0; an unknown label of the page equals none."""
        if not label:
            return np.zeros(len(self.rows), np.float32)
        codes = self.live.column(column, self.rows)
        same: Floats = (codes == label_code(label)).astype(np.float32)
        return same

    @cached_property
    def overlap_detail(self) -> OverlapDetail:
        """How single terms make up the overlap."""
        in_title = (self.page.masks & np.uint64(IN_TITLE)) != 0
        return overlap_detail(self.page.weights, in_title, self._signatures, self.overlap.matches)

    @cached_property
    def links(self) -> tuple[Floats, Floats]:
        """As LinkHistory.features; zeros without a history."""
        if self.detail is None or self.detail.history is None:
            return np.zeros(len(self.rows), np.float32), np.zeros(len(self.rows), np.float32)
        return self.detail.history.features(self.id_hashes, self.overlap.cosine, self.as_of_ms)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The features of each candidate, float32 (n,), parallel to `rows`, ascending.

    raw: as `Feature.read` returns them, by name. `features["name"]` reads them.
    evergreen: 0 or 1.
    section_share, site_share: share of the archive's articles that have the page's label.
    """

    rows: Rows
    published_at_ms: npt.NDArray[np.int64]
    id_hashes: npt.NDArray[np.uint64]
    evergreen: Floats
    raw: Mapping[str, Floats]
    section_share: float = 0.0
    site_share: float = 0.0

    def __getitem__(self, name: str) -> Floats:
        """Return a feature's raw values; zeros if it was not read."""
        values = self.raw.get(name)
        return np.zeros(len(self.rows), np.float32) if values is None else values

    def values(self, index: int) -> dict[str, float]:
        """Return what a candidate's score parts show: the raw value of each part's first feature."""
        return {part: float(self[name][index]) for part, name in _FIRST_OF_PART.items()}

    def matrix(self, half_life_days: float) -> Floats:
        """Return float32 (n, len(FEATURES)), C-contiguous: what a fitted ranker sees; see FEATURES_VERSION."""
        columns = [f.column(self, half_life_days) if f.column else self[f.name] for f in FEATURES]
        return np.ascontiguousarray(np.column_stack(columns), np.float32)

    def log_age(self, half_life_days: float) -> Floats:
        """Return ln(1 + age in half-lives); 0 for evergreen articles."""
        ages: Floats = np.log1p(self["freshness"] / max(half_life_days, 1e-6)) * (1 - self.evergreen)
        return ages

    def log_wording(self) -> Floats:
        """Return ln(1 + overlap / WORDING_OFFSET)."""
        logs: Floats = np.log1p(np.maximum(self["wording"], 0) / WORDING_OFFSET)
        return logs


Column = Callable[[Features, float], Floats]
"""From all features and the half-life of freshness in days to one column, float32 (n,)."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: how it is read, weighed and shown.

    read: the raw values; None if the column is computed from other features.
    column: what a fitted ranker sees; None: the raw values.
    weight, term: the default formula adds weight * term. No weight: it ignores the feature. No term: the raw values.
    shown_in: the score part that shows what the feature adds; "": one of its own name.
    is_detail: it is read only for a ranker that asks for Detail.
    """

    name: str
    read: Callable[[Comparison], Floats] | None = None
    column: Column | None = None
    weight: float | None = None
    term: Column | None = None
    shown_in: str = ""
    is_detail: bool = False

    @property
    def part(self) -> str:
        """The score part that shows what the feature adds."""
        return self.shown_in or self.name


def _gap(values: Floats, at_least: float) -> Floats:
    """Return how far each value is below the largest one of the page's candidates."""
    gaps: Floats = values - values.max(initial=at_least)
    return gaps


def _length_term(features: Features, _half_life_days: float) -> Floats:
    logs: Floats = np.log(np.maximum(features["length"], 1) / LENGTH_WORDS)
    return np.clip(logs, -LENGTH_LIMIT, LENGTH_LIMIT)


FEATURES = (
    # TF-IDF cosine of the full texts, 0 to 1.
    Feature(
        "wording",
        read=lambda c: c.overlap.cosine,
        column=lambda f, _: f.log_wording(),
        weight=2.0,
        term=lambda f, _: f.log_wording(),
    ),
    # Cosine of the main vectors.
    Feature(
        "meaning", read=lambda c: c.cosines, weight=2.5, term=lambda f, _: np.minimum(f["meaning"], COSINE_CEILING)
    ),
    # Cosine of the head vectors.
    Feature(
        "headline",
        read=lambda c: c.live.head_cosines(c.rows, c.page.head),
        weight=1.5,
        term=lambda f, _: np.minimum(f["headline"], COSINE_CEILING),
    ),
    # Share of the candidate's title that the page's text uses.
    Feature("title", read=lambda c: c.overlap.title, weight=2.5),
    # Days between page and candidate, either way.
    Feature(
        "freshness",
        read=lambda c: (np.abs(c.page.published_at_ms - c.published_at_ms) / DAY_MS).astype(np.float32),
        column=lambda f, half_life_days: f.log_age(half_life_days),
        weight=0.7,
        term=lambda f, half_life_days: -f.log_age(half_life_days),
    ),
    # The page's section, 0 or 1. It counts by how rare it is: in an archive with one section it says nothing.
    Feature(
        "section",
        read=lambda c: c.has_label("section", c.page.labels.section),
        weight=1.0,
        term=lambda f, _: f["section"] - np.float32(f.section_share),
    ),
    # Jaccard coefficient of the tags.
    Feature("tags", read=lambda c: c.live.tag_overlaps(c.rows, c.page.labels.tags), weight=0.8),
    # The page's site, 0 or 1; counts as the section does.
    Feature(
        "site",
        read=lambda c: c.has_label("site", c.page.labels.site),
        weight=0.8,
        term=lambda f, _: f["site"] - np.float32(f.site_share),
    ),
    # The page's author, 0 or 1.
    Feature("author", read=lambda c: c.has_label("author", c.page.labels.author), weight=0.3),
    # The candidate's words.
    Feature(
        "length",
        read=lambda c: c.live.column("words", c.rows).astype(np.float32),
        column=lambda f, _: np.log1p(f["length"]),
        weight=0.4,
        term=_length_term,
    ),
    # How far a candidate is below the best of its page.
    Feature("wording_gap", column=lambda f, _: _gap(f.log_wording(), 0), shown_in="wording"),
    Feature("meaning_gap", column=lambda f, _: _gap(f["meaning"], -1), shown_in="meaning"),
    Feature("headline_gap", column=lambda f, _: _gap(f["headline"], -1), shown_in="headline"),
    # See OverlapDetail.
    Feature(
        "shared",
        read=lambda c: c.overlap_detail.shared,
        column=lambda f, _: np.log1p(f["shared"]),
        shown_in="wording",
        is_detail=True,
    ),
    Feature("strongest", read=lambda c: c.overlap_detail.strongest, shown_in="wording", is_detail=True),
    Feature("own_title", read=lambda c: c.overlap_detail.own_title, shown_in="title", is_detail=True),
    Feature("titles", read=lambda c: c.overlap_detail.titles, shown_in="title", is_detail=True),
    # Number of earlier pages whose editors linked to the candidate.
    Feature(
        "linked",
        read=lambda c: c.links[0],
        column=lambda f, _: np.log1p(f["linked"]),
        shown_in=HISTORY,
        is_detail=True,
    ),
    # The largest overlap of wording with such a page.
    Feature("linked_near", read=lambda c: c.links[1], shown_in=HISTORY, is_detail=True),
)
"""All features, in the order of a fitted ranker's columns."""
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
"""Names of FEATURES, in their order."""
FEATURE_PARTS = tuple(feature.part for feature in FEATURES)
"""Score parts of FEATURES, in their order."""
WEIGHED = tuple(feature for feature in FEATURES if feature.weight is not None)
"""The features that the default formula weighs."""
PARTS = tuple(feature.name for feature in WEIGHED)
"""Score parts of the default formula."""
_FIRST_OF_PART = {feature.part: feature.name for feature in reversed(FEATURES)}


def read_features(comparison: Comparison) -> Features:
    """Read the features of every candidate."""
    live, page, rows = comparison.live, comparison.page, comparison.rows
    raw = {
        feature.name: feature.read(comparison)
        for feature in FEATURES
        if feature.read and (comparison.detail or not feature.is_detail)
    }
    return Features(
        rows=rows,
        published_at_ms=comparison.published_at_ms,
        id_hashes=comparison.id_hashes,
        evergreen=((live.column("flags", rows) & Flag.EVERGREEN.value) != 0).astype(np.float32),
        raw=raw,
        section_share=live.label_share("section", page.labels.section),
        site_share=live.label_share("site", page.labels.site),
    )
