"""A kept result as a Markdown table: latency at equal recall, for each peer and case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import unpack_samples


def markdown(result: Path) -> str:
    """Return one line a peer: p50, p95 and mean CPU in ms for each case; a recall that was missed is shown."""
    kept = json.loads(result.read_text())
    measured: dict[str, dict[str, Any]] = kept["peers"]
    cases = next((list(peer["cases"]) for peer in measured.values() if "cases" in peer), [])
    lines = [_line(["peer", "build s", "disk MB", "memory MB", *cases]), _line(["---"] * (4 + len(cases)))]
    lines += [_peer_line(module, values, cases) for module, values in measured.items()]
    corpus = kept["corpus"]
    title = (
        f"{corpus['rows']:,} rows, {corpus['vectors']}; p50 / p95 / CPU in ms at recall@100 >= {kept['recall_wanted']}"
    )
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
    p50, p95 = np.percentile(unpack_samples(point["samples_us"]), [50, 95]) / 1e3
    shown = f"{p50:.3g} / {p95:.3g} / {point['cpu_us'] / 1e3:.3g}"
    return shown + ("" if case["reached"] else f" ({point['recall@100']:.3f})")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
