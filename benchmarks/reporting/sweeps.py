"""Searches of a result of core or peers: latency and recall at each effort, and their ratios to FAISS flat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.result import SAMPLES, Result

OURS = "related-news"
"""Name of this project's own search."""
FLAT = "faiss-flat"
"""Name of the exact search that is the baseline of all others."""
UNFILTERED = "all"
"""Name of the case without a filter."""
FILTERS = ("window", "site", "near sections", "other sections")
"""Beginnings of the names of filtered cases; see benchmarks.peers.cases."""
RECALL_MIN = 0.98
"""Least recall@100 at which searches are compared, where a result does not say itself whether a case reached it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One effort of one search in one case: latencies in microseconds, recalls as shares."""

    p50_us: float
    p95_us: float
    recall_10: float
    recall_100: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """One search in one case, by rising effort. reached: the last point has the recall that was asked for."""

    points: tuple[Point, ...]
    reached: bool

    @property
    def chosen(self) -> Point:
        """The point to compare with other searches: the least effort that reached the recall, else the greatest."""
        return self.points[-1]


Sweeps = dict[str, dict[str, Sweep | None]]


def sweeps(result: Result) -> Sweeps:
    """Return {search: {case: sweep}}; None where a search does not support a case.

    Searches that were skipped or failed are left out. Results of other benchmarks have none.
    """
    measured = {
        str(values.get("name") or module.replace("_", "-")): values["cases"]
        for module, values in result.values.get("peers", {}).items()
        if "cases" in values
    }
    return {name: {case: _sweep(values) for case, values in cases.items()} for name, cases in measured.items()}


def _sweep(case: Mapping[str, Any]) -> Sweep | None:
    if "skipped" in case:
        return None
    points = tuple(map(_point, case["points"]))
    return Sweep(points, bool(case.get("reached", points[-1].recall_100 >= RECALL_MIN)))


def _point(point: Mapping[str, Any]) -> Point:
    p50, p95 = np.percentile(point[SAMPLES], [50, 95]).tolist()
    return Point(p50, p95, float(point["recall@10"]), float(point["recall@100"]))


def ratios(result: Result) -> dict[str, float]:
    """Return every ratio of a result by its name: those that it states, and those of its searches to FLAT.

    "X over faiss-flat, CASE" is the ratio of the medians at equal recall; "recall@100 of X, CASE" is the recall there.
    """
    by_name: dict[str, float] = dict(result.values.get("ratios", {}))
    measured = sweeps(result)
    flat = measured.get(FLAT, {})
    for name, cases in measured.items():
        for case, sweep in cases.items():
            baseline = flat.get(case)
            if sweep and baseline and name != FLAT:
                by_name[f"{name} over {FLAT}, {case}"] = sweep.chosen.p50_us / baseline.chosen.p50_us
                by_name[f"recall@100 of {name}, {case}"] = sweep.chosen.recall_100
    return by_name
