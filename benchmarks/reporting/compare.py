"""Whether one run is slower than another: every measurement that both hold, with an interval.

Two runs seldom see the same machine. Where both hold a baseline of their own, which no change of this project makes
slower, what is compared is how many times the baseline a measurement takes; otherwise plain time.

Nor does one run see one machine, where others share it: minutes later the baseline's next case may be twice as fast.
How much the baselines moved among themselves says by how much anything may have, and every interval is that much wider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from benchmarks.machine import unpack_samples
from benchmarks.reporting.bootstrap import Values, interval, resampled_medians
from benchmarks.reporting.kept import FLAT, Kept

EMPTY = "empty"
RECALL_LOST = 0.005
"""A recall that fell by more is told: speed won by it is none."""

Spot = tuple[str, ...]
"""Where in a result a measurement stands."""
_LEVELS = {"answers", "cases", "peers", "points"}


class Verdict(StrEnum):
    """What a comparison found."""

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
    """All rows, and what makes them less trustworthy. unrest: how much the machine's own changes widen intervals.

    unrest is a share: .1 where a difference below about 10 % cannot be told. None with fewer than two baselines.
    """

    rows: tuple[Row, ...]
    unrest: float | None
    warnings: tuple[str, ...]

    @property
    def slower(self) -> int:
        """How many measurements got slower."""
        return sum(row.verdict is Verdict.SLOWER for row in self.rows)

    def values(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        rows = [asdict(row) for row in self.rows]
        return {"slower": self.slower, "unrest": self.unrest, "warnings": list(self.warnings), "rows": rows}


def measurements(value: Any, spot: Spot = ()) -> Iterator[tuple[Spot, Mapping[str, Any]]]:
    """Yield every dict with samples and where it stands; list items by their effort if they have one, or else place."""
    if isinstance(value, Mapping):
        if "samples_us" in value:
            yield spot, value
            return
        for key, item in value.items():
            yield from measurements(item, (*spot, str(key)))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            named = isinstance(item, Mapping) and "effort" in item
            yield from measurements(item, (*spot, f"effort {item['effort']}" if named else str(place)))


def baselines(spot: Spot) -> list[Spot]:
    """Return where a measurement's baseline may stand in its result, the most alike first.

    Of a search FAISS flat in the same case; of a call the empty call, by as many clients, if there is one beside
    writes.
    """
    match spot:
        case ("peers", _, "cases", case, "points", _):
            return [("peers", module, "cases", case, "points", "effort 0") for module in (FLAT, FLAT.replace("-", "_"))]
        case ("cases", call):
            clients = call.split("/")[1:]
            return [("cases", "/".join([EMPTY, *clients[:many]])) for many in range(len(clients), 0, -1)]
    return []


def name_of(spot: Spot) -> str:
    """Return how a measurement is called, without the words that stand above all of its kind."""
    return " / ".join(part for part in spot if part not in _LEVELS)


def compare(a: Kept, b: Kept, least_change: float = 0.05) -> Comparison:
    """Compare what both hold. least_change: a share; smaller differences are told, but called too small to matter."""
    ours, theirs = dict(measurements(a.values)), dict(measurements(b.values))
    sides = _Side(ours), _Side(theirs)
    shared = [spot for spot in ours if spot in theirs]
    unrest = _unrest(sides, [spot for spot in shared if spot in baselines(spot)])
    rows = tuple(_row(spot, sides, unrest or 0.0, least_change) for spot in shared)
    warnings = [*_differences(a, b), *_lost_recall(ours, theirs, shared)]
    if unrest and unrest > least_change:
        warnings.append(
            f"the machine changed within a run: baselines moved unevenly, which hides changes below {unrest:.0%}"
        )
    return Comparison(rows, unrest, tuple(warnings))


class _Side:
    """One run's samples; resampled once each."""

    def __init__(self, measured: Mapping[Spot, Mapping[str, Any]]) -> None:
        self.samples = {spot: unpack_samples(found["samples_us"]) for spot, found in measured.items()}
        self._medians: dict[Spot, Values] = {}

    def median(self, spot: Spot) -> float:
        return float(np.median(self.samples[spot]))

    def medians(self, spot: Spot) -> Values:
        if spot not in self._medians:
            self._medians[spot] = resampled_medians(self.samples[spot])
        return self._medians[spot]


def _unrest(sides: tuple[_Side, _Side], baseline: Sequence[Spot]) -> float | None:
    """Return the 95 % half-width, a share, of what the machine's changes within a run do to a ratio to a baseline.

    Between runs all baselines should move by one factor. The standard deviation of the logarithms of what they moved
    by is that of one moment of the machine; two moments meet in a ratio, the measurement's and its baseline's.
    """
    if len(baseline) < 2:
        return None
    a, b = sides
    moved = np.log([b.median(spot) / a.median(spot) for spot in baseline])
    return float(np.expm1(student_t.ppf(0.975, len(moved) - 1) * 2**0.5 * moved.std(ddof=1)))


def _row(spot: Spot, sides: tuple[_Side, _Side], unrest: float, least_change: float) -> Row:
    a, b = sides
    over = next((one for one in baselines(spot) if one in a.samples and one in b.samples), None)
    ratio, replicates = b.median(spot) / a.median(spot), b.medians(spot) / a.medians(spot)
    if over and over != spot:
        ratio *= a.median(over) / b.median(over)
        replicates = replicates * a.medians(over) / b.medians(over)
    ci95 = interval(replicates) if over == spot else _widened(interval(replicates), ratio, unrest)
    return Row(
        name=name_of(spot),
        over=name_of(over) if over and over != spot else None,
        p50_us=(a.median(spot), b.median(spot)),
        samples=(len(a.samples[spot]), len(b.samples[spot])),
        ratio=ratio,
        ci95=ci95,
        verdict=Verdict.BASELINE if over == spot else _verdict(ratio, ci95, least_change),
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


def _differences(a: Kept, b: Kept) -> Iterator[str]:
    """Yield what else than the code differs."""
    if a.name != b.name:
        yield f"different benchmarks: {a.name}, {b.name}"
    machines = a.values["machine"], b.values["machine"]
    for name in ("cpu", "cores", "python"):
        yield from _differing(name, [machine.get(name) for machine in machines])
    packages = [machine.get("packages", {}) for machine in machines]
    for name in sorted({*packages[0], *packages[1]}):
        yield from _differing(name, [versions.get(name) for versions in packages])
    for name in ("seed", "corpus", "articles", "workers"):
        yield from _differing(name, [kept.values.get(name) for kept in (a, b)])


def _differing(name: str, values: Sequence[Any]) -> Iterator[str]:
    if values[0] != values[1]:
        yield f"different {name}: {values[0]}, {values[1]}"


def _lost_recall(
    a: Mapping[Spot, Mapping[str, Any]], b: Mapping[Spot, Mapping[str, Any]], shared: Sequence[Spot]
) -> Iterator[str]:
    for spot in shared:
        before, after = (side[spot].get("recall@100") for side in (a, b))
        if before is not None and after is not None and before - after > RECALL_LOST:
            yield f"recall@100 fell from {before:.3f} to {after:.3f}: {name_of(spot)}"
