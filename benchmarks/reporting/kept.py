"""Kept results as they are read again: the newest of each benchmark, and searches' sweeps beside FAISS flat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import unpack_samples

OURS = "related-news"
FLAT = "faiss-flat"
"""The exact baseline of every vector search."""
UNFILTERED = "all"
FILTERS = ("window", "site", "near sections", "other sections")
"""How the names of filtered cases begin: benchmarks.peers.cases."""


RECALL_WANTED = 0.98
"""Where a result does not say itself whether a case reached what was wanted."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One result of `benchmarks.machine.keep`."""

    path: Path
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What was measured, with the size where there are several: "core-100000"."""
        return str(self.values["benchmark"])

    @property
    def commit(self) -> str:
        """Of the code that was measured; "+changes" where that is not all."""
        return str(self.values["machine"]["commit"])

    @property
    def command(self) -> str | None:
        """How it was measured; None of results that did not record it."""
        return self.values.get("command")


def read(path: Path) -> Kept:
    """Return one result. Raises ValueError if the file is not one."""
    values = json.loads(path.read_text("utf-8"))
    if not isinstance(values, dict) or not {"benchmark", "at", "machine"} <= values.keys():
        raise ValueError(f"{path} is no result of a benchmark")
    return Kept(path, values)


def newest(folder: Path) -> dict[str, Kept]:
    """Return the newest result of each benchmark by its name."""
    found = sorted(map(read, folder.glob("*.json")), key=lambda kept: str(kept.values["at"]))
    return {kept.name: kept for kept in found}


@dataclass(frozen=True, slots=True)
class Point:
    """One effort of one search in one case: latencies in microseconds, recall as shares."""

    p50_us: float
    p95_us: float
    recall_10: float
    recall_100: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """One search in one case, effort rising. reached: the last point has the recall that was wanted."""

    points: tuple[Point, ...]
    reached: bool

    @property
    def chosen(self) -> Point:
        """The point to compare with others': the least effort that reached the recall, or else the greatest."""
        return self.points[-1]


Sweeps = dict[str, dict[str, Sweep | None]]


def sweeps(kept: Kept) -> Sweeps:
    """Return {search: {case: sweep}} of a result of core or peers; None where a search does not support a case.

    Searches that were skipped or failed are left out; other benchmarks' results hold none.
    """
    measured = {
        str(values.get("name") or module.replace("_", "-")): values["cases"]
        for module, values in kept.values.get("peers", {}).items()
        if "cases" in values
    }
    return {name: {case: _sweep(one) for case, one in cases.items()} for name, cases in measured.items()}


def _sweep(case: Mapping[str, Any]) -> Sweep | None:
    if "skipped" in case:
        return None
    points = tuple(map(_point, case["points"]))
    return Sweep(points, bool(case.get("reached", points[-1].recall_100 >= RECALL_WANTED)))


def _point(point: Mapping[str, Any]) -> Point:
    p50, p95 = np.percentile(unpack_samples(point["samples_us"]), [50, 95]).tolist()
    return Point(p50, p95, float(point["recall@10"]), float(point["recall@100"]))


def ratios(kept: Kept) -> dict[str, float]:
    """Return every ratio of a result by its name: those that it states itself, and of searches what they are to FLAT.

    "X over faiss-flat, CASE" is of medians at equal recall; "recall@100 of X, CASE" is that of the same point.
    """
    found: dict[str, float] = dict(kept.values.get("ratios", {}))
    measured = sweeps(kept)
    flat = measured.get(FLAT, {})
    for name, cases in measured.items():
        for case, sweep in cases.items():
            beside = flat.get(case)
            if sweep and beside and name != FLAT:
                found[f"{name} over {FLAT}, {case}"] = sweep.chosen.p50_us / beside.chosen.p50_us
                found[f"recall@100 of {name}, {case}"] = sweep.chosen.recall_100
    return found
