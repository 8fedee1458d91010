"""A result of core or peers as a Markdown table: latency at equal recall, for each search and case."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.reporting.sweeps import RECALL_MIN
from benchmarks.result import SAMPLES, Values


def markdown(values: Values) -> str:
    """Return one line a search: p50, p95 and mean processor time in ms for each case, and a recall that was missed.

    values: those of a `benchmarks.result.Result`.
    """
    measured: dict[str, dict[str, Any]] = values["peers"]
    cases = next((list(peer["cases"]) for peer in measured.values() if "cases" in peer), [])
    lines = [_line(["peer", "build s", "disk MB", "memory MB", *cases]), _line(["---"] * (4 + len(cases)))]
    lines += [_peer_line(module, peer, cases) for module, peer in measured.items()]
    corpus, recall = values["corpus"], values.get("recall_wanted", RECALL_MIN)
    title = f"{corpus['rows']:,} rows, {corpus['vectors']}; p50 / p95 / CPU in ms at recall@100 >= {recall}"
    return "\n".join([title, "", *lines])


def _peer_line(module: str, values: dict[str, Any], cases: list[str]) -> str:
    if "cases" not in values:
        return _line([module, values.get("skipped") or values["failed"].splitlines()[-1], *[""] * (2 + len(cases))])
    sizes = [f"{values['build_s']:.1f}", *(f"{values[name] / 1e6:.0f}" for name in ("disk_bytes", "memory_bytes"))]
    return _line([f"{values['name']} {values['version']}", *sizes, *(_cell(values["cases"][case]) for case in cases)])


def _cell(case: dict[str, Any]) -> str:
    if "skipped" in case:
        return "no"
    point = case["points"][-1]
    p50, p95 = np.percentile(point[SAMPLES], [50, 95]) / 1e3
    shown = f"{p50:.3g} / {p95:.3g} / " + (f"{point['cpu_us'] / 1e3:.3g}" if "cpu_us" in point else "-")
    reached = case.get("reached", point["recall@100"] >= RECALL_MIN)
    return shown + ("" if reached else f" ({point['recall@100']:.3f})")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
