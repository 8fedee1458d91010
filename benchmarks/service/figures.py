"""Figures, ratios and the table of a run, made of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.result import SAMPLES, rounded_us
from benchmarks.service.calls import AGAIN, DRAFT, EMPTY, ENCODING, FILL, LIST
from benchmarks.service.client import Block
from benchmarks.service.turns import PAUSED, WRITES

SAMPLES_MAX = 5_000
"""Samples of one case that are kept, evenly spread over all."""

Figures = dict[str, Any]


def figures(blocks: Sequence[Block]) -> Figures:
    """Return the figures of all blocks of one case. Percentiles are of all samples; SAMPLES_MAX are kept.

    asking_busy, serving_busy: cores that the clients and the service used on average.
    """
    samples = np.concatenate([np.array(block.samples) for block in blocks])
    seconds = sum(block.seconds for block in blocks)
    p50, p95, p99 = (np.percentile(samples, [50, 95, 99]) * 1e6).round(1).tolist()
    return {
        "count": len(samples),
        "seconds": round(seconds, 3),
        "per_second": round(len(samples) / seconds, 2),
        "p50_us": p50,
        "p95_us": p95,
        "p99_us": p99,
        "p50_us_by_round": [round(float(np.median(block.samples)) * 1e6, 1) for block in blocks],
        "asking_busy": round(sum(block.own_s for block in blocks) / seconds, 2),
        "serving_busy": round(sum(block.server_s for block in blocks) / seconds, 2),
        SAMPLES: rounded_us(thinned(samples, SAMPLES_MAX).tolist()),
    }


def thinned(samples: npt.NDArray[np.float64], count_max: int) -> npt.NDArray[np.float64]:
    """Return at most `count_max` samples, evenly spread over all, in their order."""
    if len(samples) <= count_max:
        return samples
    return samples[np.arange(count_max) * len(samples) // count_max]


def ratios(cases: Mapping[str, Figures]) -> dict[str, float]:
    """Return the ratios of calls to the empty call, of drafts to encoding, and with writes to without."""
    by_name: dict[str, float] = {}

    def add(name: str, figure: str, one: str, other: str) -> None:
        if one in cases and other in cases:
            by_name[name] = round(cases[one][figure] / cases[other][figure], 3)

    for call in (FILL, AGAIN, LIST):
        add(f"{call}/1", "p50_us", f"{call}/1", f"{EMPTY}/1")
        for clients in (16, 64):
            add(f"throughput {call}/{clients}", "per_second", f"{call}/{clients}", f"{EMPTY}/{clients}")
    add("draft over encoding", "p50_us", f"{DRAFT}/1", f"{ENCODING}/1")
    for clients in (16, 64):
        add(f"drafts {clients} over 1", "per_second", f"{DRAFT}/{clients}", f"{DRAFT}/1")
    for name, figure in (("p50", "p50_us"), ("p99", "p99_us")):
        add(f"{name} with writes over without", figure, f"{FILL}/1/{WRITES}", f"{FILL}/1/{PAUSED}")
    return by_name


def per_article(memory: Mapping[str, Mapping[str, float]], articles: int) -> dict[str, Any]:
    """Return memory by process, and bytes an article without the encoder, whose model is the same for any archive.

    Bytes an article are given in total, and apart for anonymous memory and for file pages, which the system can evict.
    """
    ours = [size for name, size in memory.items() if not name.startswith("encoder")]
    parts = {"bytes": "pss_mib", "anonymous_bytes": "anonymous_mib", "file_bytes": "file_mib"}
    shares = {
        f"{part}_per_article": round(sum(size[name] for size in ours) * (1 << 20) / articles, 1)
        for part, name in parts.items()
    }
    return {**shares, "processes": dict(memory)}


def table(values: Mapping[str, Any]) -> str:
    """Return cases and ratios of a run in Markdown."""
    lines = [
        "| call / clients | calls/s | p50 ms | p95 ms | p99 ms | asking | serving |",
        "| --- " + "| ---: " * 6 + "|",
    ]
    for name, case in values["cases"].items():
        times = " | ".join(f"{case[f'p{percent}_us'] / 1e3:.3f}" for percent in (50, 95, 99))
        busy = f"{case['asking_busy']:.2f} | {case['serving_busy']:.2f}"
        lines.append(f"| {name} | {case['per_second']:,.1f} | {times} | {busy} |")
    lines += ["", "| ratio | |", "| --- | ---: |"]
    lines += [f"| {name} | {ratio:.3f} |" for name, ratio in values["ratios"].items()]
    memory = values["memory"]
    lines += [
        "",
        f"start to SERVING {values['start_s']:.2f} s, {values['start_without_model_s']:.2f} s of it without the model, "
        f"{values['restart_without_model_s']:.2f} s if the snapshot was checked before; "
        f"{memory['bytes_per_article']:,.0f} bytes per article without the encoder's process; "
        f"{values['articles']:,} articles",
    ]
    return "\n".join(lines)
