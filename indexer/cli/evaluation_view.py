"""What `evaluate` and `fit` show: their reports as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table

from indexer.evaluation.report import EvaluationReport, FitReport, NearCopyReport, RelevanceReport, SystemMetrics


def evaluation_view(report: EvaluationReport) -> RenderableType:
    """Return an evaluation as a table of systems and a few lines."""
    parts: list[RenderableType] = []
    if report.relevance:
        parts += _systems(report.relevance.systems, report.relevance.pages, report.relevance.skipped)
        parts += _details(report.relevance)
    if report.near_copies:
        parts.append(_near_copies(report.near_copies))
    return Group(*parts)


def fit_view(report: FitReport) -> RenderableType:
    """Return the comparison of a fitted ranker with the default as a table."""
    return Group(*_systems(report.systems, report.pages, report.skipped))


def _systems(systems: Mapping[str, SystemMetrics], pages: int, skipped: Mapping[str, int]) -> Iterator[RenderableType]:
    names = list(systems["related-news"].means)
    table = Table("", *names, title=f"{pages:,} pages with editors' links")
    for system, metrics in systems.items():
        table.add_row(system, *(_with_interval(metrics, name) for name in names))
    yield table
    if skipped:
        counts = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in skipped.items())
        yield f"links passed over: {counts}"


def _details(report: RelevanceReport) -> Iterator[RenderableType]:
    candidates, placement = report.candidates, report.placement
    yield f"candidates: {candidates.recall:.3f} of the links among {candidates.mean:.0f} a page"
    yield (
        f"placement within a paragraph: {placement.within_one:.3f} of {placement.pairs:,} links; "
        f"random {placement.random:.3f}, first allowed {placement.first_allowed:.3f}"
    )
    yield f"places left empty: {report.empty_share:.3f}"


def _near_copies(report: NearCopyReport) -> str:
    return (
        f"near copies: precision {report.precision:.3f} ({report.precision_strict:.3f} with versions as errors), "
        f"recall {report.recall:.3f} on {report.near_copies} of {report.pairs} pairs"
    )


def _with_interval(metrics: SystemMetrics, name: str) -> str:
    if name not in metrics.means:
        return "-"
    low, high = metrics.intervals[name]
    return f"{metrics.means[name]:.3f} [dim]{low:.3f}-{high:.3f}[/]"
