"""What `evaluate` and `fit` show: the report as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table


def report_view(report: Mapping[str, Any]) -> RenderableType:
    """Return an evaluation as a table of systems and a few lines."""
    parts: list[RenderableType] = []
    if systems := report.get("systems"):
        names = [name for name in systems["related-news"] if name != "ci95"]
        table = Table("", *names, title=f"{report['sources']:,} pages with editors' links")
        for system, values in systems.items():
            table.add_row(system, *(_with_interval(values, name) for name in names))
        parts.append(table)
    if passed_over := report.get("passed_over"):
        counts = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in passed_over.items())
        parts.append(f"links passed over: {counts}")
    if "candidate_recall" in report:
        placed, found = report["placement"], report["candidates"]
        parts += [
            f"candidates: {report['candidate_recall']:.3f} of the links among {found['mean']:.0f} a page",
            f"placement within a paragraph: {placed['within_one']:.3f} of {placed['pairs']:,} links; "
            f"random {placed['random']:.3f}, first allowed {placed['first_allowed']:.3f}",
            f"places left empty: {report['empty_share']:.3f}",
        ]
    if near := report.get("near_copies"):
        parts.append(
            f"near copies: precision {near['precision']:.3f} ({near['precision_strict']:.3f} with versions as errors), "
            f"recall {near['recall']:.3f} on {near['near_copies']} of {near['pairs']} pairs"
        )
    return Group(*parts)


def _with_interval(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "-"
    low, high = values["ci95"][name]
    return f"{values[name]:.3f} [dim]{low:.3f}-{high:.3f}[/]"
