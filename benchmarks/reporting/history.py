"""The figures of every run, one JSON line each: what stays of a run when a newer one replaces its result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.reporting.sweeps import OURS, Sweep, ratios, sweeps
from benchmarks.result import SAMPLES, Result

_LEFT_OUT = {
    *("benchmark", "at", "command", "machine", "seed", "corpus", "plan", "cores", "settings", "ratios", "peers"),
    *("asking_busy", "serving_busy", SAMPLES),
}
"""Keys left out of `Run.figures`: settings, what a `Run` holds elsewhere, and "peers", which become "searches"."""

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    ratios: by name, those of this project's own search and service.
    figures: nested dicts of single numbers; of searches p50, p95 and recall at the effort that is compared.
    """

    at: str
    benchmark: str
    commit: str
    cpu: str
    command: str | None
    ratios: Mapping[str, float]
    figures: Figures


def run_of(result: Result) -> Run:
    """Return what the history tells of a result."""
    searches = {
        name: {case: _search(sweep) for case, sweep in cases.items() if sweep} for name, cases in sweeps(result).items()
    }
    return Run(
        at=result.at,
        benchmark=result.series,
        commit=result.commit,
        cpu=str(result.values["machine"].get("cpu")),
        command=result.command,
        ratios={name: _short(value) for name, value in ratios(result).items() if name.startswith(OURS) or not searches},
        figures=_numbers(result.values) | ({"searches": searches} if searches else {}),
    )


def append(path: Path, result: Result) -> None:
    """Add a result's run as the last line."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(run_of(result))) + "\n")


def read_history(path: Path) -> list[Run]:
    """Return all runs, the oldest first; none if there is no file."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return sorted((Run(**json.loads(line)) for line in lines), key=lambda run: run.at)


def commits(runs: Iterable[Run]) -> list[str]:
    """Return each commit once, in the order in which they were first measured."""
    return list(dict.fromkeys(run.commit for run in runs))


def _search(sweep: Sweep) -> dict[str, float]:
    point = sweep.chosen
    values = {"p50_us": point.p50_us, "p95_us": point.p95_us}
    return {name: _short(us) for name, us in values.items()} | {
        "recall@10": point.recall_10,
        "recall@100": point.recall_100,
    }


def _numbers(values: Figures) -> dict[str, Any]:
    """Return the numbers in nested dicts; lists, texts and flags are left out."""
    numbers: dict[str, Any] = {}
    for name, value in values.items():
        if name in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            if inner := _numbers(value):
                numbers[name] = inner
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[name] = _short(value)
    return numbers


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.5g}")
