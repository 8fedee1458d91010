"""Whether one run is slower than another: every measurement that both have, with an interval.

Two runs seldom meet the same machine. If both have a baseline that no change of this project makes slower, a
measurement is compared by its ratio to the baseline; otherwise by plain time.

One run does not meet one machine either, where others share it: minutes later the next baseline may be twice as fast.
How unevenly the baselines moved says by how much anything may have moved; every interval is widened by that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from benchmarks.reporting.bootstrap import Samples, interval, resampled_medians
from benchmarks.reporting.sweeps import FLAT
from benchmarks.result import SAMPLES, Result

EMPTY = "empty"
"""Name of the call that is the baseline of all others: the health check."""
RECALL_LOSS_MIN = 0.005
"""Warn if a recall fell by more than this: a search that finds less is no faster one."""
_GROUPS = {"answers", "cases", "peers", "points"}
"""Keys that are left out of a measurement's name, because all of its kind stand below them."""

Location = tuple[str, ...]
"""Keys that lead to a measurement in its result."""


class Verdict(StrEnum):
    """Outcome of one comparison."""

    SLOWER = "slower"
    FASTER = "faster"
    SMALL = "too small to matter"
    NONE = "no difference found"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement in both runs. ratio: B / A, of medians or of their ratios to `over`, with its 95 % interval."""

    name: str
    over: str | None
    p50_us: tuple[float, float]
    samples: tuple[int, int]
    ratio: float
    ci95: tuple[float, float]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, and what makes them less trustworthy.

    unrest: by which share the machine's own changes widen the intervals; at .1 a difference below about 10 % cannot be
    seen. None with fewer than two baselines.
    """

    rows: tuple[Row, ...]
    unrest: float | None
    warnings: tuple[str, ...]

    @property
    def slower(self) -> int:
        """Number of measurements that got slower."""
        return sum(row.verdict is Verdict.SLOWER for row in self.rows)

    def values(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        rows = [asdict(row) for row in self.rows]
        return {"slower": self.slower, "unrest": self.unrest, "warnings": list(self.warnings), "rows": rows}


def measurements(value: Any, location: Location = ()) -> Iterator[tuple[Location, Mapping[str, Any]]]:
    """Yield every dict with samples and its location. Items of a list are named by their effort, else by position."""
    if isinstance(value, Mapping):
        if SAMPLES in value:
            yield location, value
            return
        for key, item in value.items():
            yield from measurements(item, (*location, str(key)))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            has_effort = isinstance(item, Mapping) and "effort" in item
            yield from measurements(item, (*location, f"effort {item['effort']}" if has_effort else str(position)))


def baselines(location: Location) -> list[Location]:
    """Return where a measurement's baseline may be in its result, the most similar first.

    The baseline of a search is FAISS flat in the same case. That of a call is the empty call by as many clients, beside
    writes if there is one.
    """
    match location:
        case ("peers", _, "cases", case, "points", _):
            return [("peers", module, "cases", case, "points", "effort 0") for module in (FLAT, FLAT.replace("-", "_"))]
        case ("cases", call):
            clients = call.split("/")[1:]
            return [("cases", "/".join([EMPTY, *clients[:many]])) for many in range(len(clients), 0, -1)]
    return []


def name_of(location: Location) -> str:
    """Return the name of a measurement."""
    return " / ".join(part for part in location if part not in _GROUPS)


def compare(a: Result, b: Result, least_change: float = 0.05) -> Comparison:
    """Compare every measurement of both. least_change: a share; smaller differences are too small to matter."""
    of_a, of_b = dict(measurements(a.values)), dict(measurements(b.values))
    sides = _Side(of_a), _Side(of_b)
    common = [location for location in of_a if location in of_b]
    unrest = _unrest(sides, [location for location in common if location in baselines(location)])
    rows = tuple(_row(location, sides, unrest or 0.0, least_change) for location in common)
    warnings = [*_differences(a, b), *_lost_recall(of_a, of_b, common)]
    if unrest and unrest > least_change:
        warnings.append(
            f"the machine changed within a run: baselines moved unevenly, which hides changes below {unrest:.0%}"
        )
    return Comparison(rows, unrest, tuple(warnings))


class _Side:
    """The samples of one run; each measurement is resampled once."""

    def __init__(self, measured: Mapping[Location, Mapping[str, Any]]) -> None:
        self.samples: dict[Location, Samples] = {
            location: np.asarray(measurement[SAMPLES]) for location, measurement in measured.items()
        }
        self._medians: dict[Location, Samples] = {}

    def median(self, location: Location) -> float:
        return float(np.median(self.samples[location]))

    def medians(self, location: Location) -> Samples:
        if location not in self._medians:
            self._medians[location] = resampled_medians(self.samples[location])
        return self._medians[location]


def _unrest(sides: tuple[_Side, _Side], baseline: Sequence[Location]) -> float | None:
    """Return how far the machine's changes within a run move a ratio to a baseline: a share, half of a 95 % interval.

    Between runs all baselines should move by one factor. The standard deviation of the logarithms of their factors is
    that of one moment of the machine; two moments meet in a ratio, the measurement's and its baseline's.
    """
    if len(baseline) < 2:
        return None
    a, b = sides
    moved = np.log([b.median(location) / a.median(location) for location in baseline])
    return float(np.expm1(student_t.ppf(0.975, len(moved) - 1) * 2**0.5 * moved.std(ddof=1)))


def _row(location: Location, sides: tuple[_Side, _Side], unrest: float, least_change: float) -> Row:
    a, b = sides
    over = next((one for one in baselines(location) if one in a.samples and one in b.samples), None)
    ratio, replicates = b.median(location) / a.median(location), b.medians(location) / a.medians(location)
    if over and over != location:
        ratio *= a.median(over) / b.median(over)
        replicates = replicates * a.medians(over) / b.medians(over)
    ci95 = interval(replicates) if over == location else _widened(interval(replicates), ratio, unrest)
    return Row(
        name=name_of(location),
        over=name_of(over) if over and over != location else None,
        p50_us=(a.median(location), b.median(location)),
        samples=(len(a.samples[location]), len(b.samples[location])),
        ratio=ratio,
        ci95=ci95,
        verdict=Verdict.BASELINE if over == location else _verdict(ratio, ci95, least_change),
    )


def _widened(ci95: tuple[float, float], ratio: float, unrest: float) -> tuple[float, float]:
    """Add an independent source of error to an interval; widths of logarithms add as squares."""
    low, high = (np.hypot(np.log(end / ratio), np.log1p(unrest)) for end in ci95)
    return float(ratio * np.exp(-low)), float(ratio * np.exp(high))


def _verdict(ratio: float, ci95: tuple[float, float], least_change: float) -> Verdict:
    low, high = ci95
    if low <= 1 <= high:
        return Verdict.NONE
    if 1 / (1 + least_change) < ratio < 1 + least_change:
        return Verdict.SMALL
    return Verdict.SLOWER if ratio > 1 else Verdict.FASTER


def _differences(a: Result, b: Result) -> Iterator[str]:
    """Yield a warning for each thing besides the code that differs."""
    if a.series != b.series:
        yield f"different benchmarks: {a.series}, {b.series}"
    machines = a.values["machine"], b.values["machine"]
    for name in ("cpu", "cores", "python"):
        yield from _difference(name, [machine.get(name) for machine in machines])
    packages = [machine.get("packages", {}) for machine in machines]
    for name in sorted({*packages[0], *packages[1]}):
        yield from _difference(name, [versions.get(name) for versions in packages])
    for name in ("seed", "corpus", "articles", "workers"):
        yield from _difference(name, [result.values.get(name) for result in (a, b)])


def _difference(name: str, values: Sequence[Any]) -> Iterator[str]:
    if values[0] != values[1]:
        yield f"different {name}: {values[0]}, {values[1]}"


def _lost_recall(
    a: Mapping[Location, Mapping[str, Any]], b: Mapping[Location, Mapping[str, Any]], common: Sequence[Location]
) -> Iterator[str]:
    for location in common:
        before, after = (side[location].get("recall@100") for side in (a, b))
        if before is not None and after is not None and before - after > RECALL_LOSS_MIN:
            yield f"recall@100 fell from {before:.3f} to {after:.3f}: {name_of(location)}"
