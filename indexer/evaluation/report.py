"""What `evaluate` and `fit` measure, as values, and the JSON that they print and benchmarks keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SystemMetrics:
    """How well one system ranks, over pages.

    means, intervals: by metric; an interval is the 95 % bootstrap interval of the mean. Both are empty without pages.
    pages_after_fitting: of a given ranker, pages later than those it was fitted on; only they count.
    folds, folds_with_trees: of cross-fitting, the number of fitted rankers, and of those with trees.
    """

    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    pages_after_fitting: int | None = None
    folds: int | None = None
    folds_with_trees: int | None = None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Candidates with scores from `low` to `high`: how many, and the share that editors linked to."""

    low: float
    high: float
    candidates: int
    linked_share: float


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """The share of the editors' links among the candidates, the candidates a page, and how scores are calibrated."""

    recall: float
    mean: float
    max: int
    calibration: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True)
class PlacementReport:
    """Shares of the editors' links with a known paragraph, on pages long enough for an inline link.

    pairs: number of links. within_one: placed alone, it stands near the editor's paragraph. random: the same, expected
    of a position drawn from the allowed ones. first_allowed: of the first allowed position.
    """

    pairs: int
    within_one: float
    random: float
    first_allowed: float


@dataclass(frozen=True, slots=True)
class NearCopyReport:
    """Precision and recall of the near-copy rule on labelled pairs.

    unknown_pairs: an article is not in the index. near_copies, versions: by their labels. detected_from: the rule's
    threshold. precision: of the pairs that the rule detects, versions left out; precision_strict: versions are errors.
    """

    pairs: int
    unknown_pairs: int
    near_copies: int
    versions: int
    detected_from: float
    precision: float
    precision_strict: float
    recall: float


@dataclass(frozen=True, slots=True)
class RelevanceReport:
    """Relevance on editors' links.

    pages, links: with links that can be used, and their number. skipped: links that cannot, by reason. articles: in
    the index. empty_share: of the places of the default layout. seconds: by stage.
    """

    pages: int
    links: int
    skipped: dict[str, int]
    articles: int
    candidates: CandidateReport
    systems: dict[str, SystemMetrics]
    placement: PlacementReport
    empty_share: float
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What `evaluate` measured, None for what it was not asked for. seconds: before measuring, by stage."""

    relevance: RelevanceReport | None = None
    near_copies: NearCopyReport | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FittedOn:
    """What a ranker was fitted on. until_ms: publication of the latest page, UTC. links: the links' file."""

    pages: int
    until_ms: int
    links: str


@dataclass(frozen=True, slots=True)
class FitReport:
    """How a ranker fitted on earlier pages compares with the default on `pages` later ones, and one fitted on all."""

    pages: int
    skipped: dict[str, int]
    fitted_on: FittedOn
    with_trees: bool
    systems: dict[str, SystemMetrics]
    seconds: dict[str, float]


def system_json(system: SystemMetrics) -> dict[str, Any]:
    """Return a system's metrics by name, its intervals under "ci95", and its counts."""
    counts = {
        "pages_after_fitting": system.pages_after_fitting,
        "folds": system.folds,
        "with_trees": system.folds_with_trees,
    }
    intervals = {name: list(interval) for name, interval in system.intervals.items()}
    return {
        **{name: count for name, count in counts.items() if count is not None},
        **system.means,
        **({"ci95": intervals} if intervals else {}),
    }


def systems_json(systems: Mapping[str, SystemMetrics]) -> dict[str, Any]:
    """Return every system's metrics, by its name."""
    return {name: system_json(system) for name, system in systems.items()}


def relevance_json(report: RelevanceReport) -> dict[str, Any]:
    """Return what `evaluate --json` prints of a relevance report."""
    candidates = report.candidates
    return {
        "sources": report.pages,
        "links": report.links,
        "passed_over": report.skipped,
        "articles": report.articles,
        "candidate_recall": candidates.recall,
        "candidates": {"mean": candidates.mean, "max": candidates.max},
        "calibration": [
            {"from": one.low, "to": one.high, "candidates": one.candidates, "linked": one.linked_share}
            for one in candidates.calibration
        ],
        "systems": systems_json(report.systems),
        "placement": asdict(report.placement),
        "empty_share": report.empty_share,
        "seconds": report.seconds,
    }


def evaluation_json(report: EvaluationReport) -> dict[str, Any]:
    """Return what `evaluate --json` prints."""
    values = relevance_json(report.relevance) if report.relevance else {}
    if report.near_copies:
        values["near_copies"] = asdict(report.near_copies)
    values["seconds"] = {**report.seconds, **values.get("seconds", {})}
    return values


def fit_json(report: FitReport) -> dict[str, Any]:
    """Return what `fit --json` prints."""
    return {
        "sources": report.pages,
        "passed_over": report.skipped,
        "fitted_on": asdict(report.fitted_on),
        "with_trees": report.with_trees,
        "systems": systems_json(report.systems),
        "seconds": report.seconds,
    }
