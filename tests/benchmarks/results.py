"""Small made-up results, as the benchmarks keep them, for tests of what is derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import Result, read, rounded_us, write

CASES = ("all", "window 10.0%", "site 1.0%", "near sections 1.0%")


def samples(
    p50_us: float, *, seed: int = 0, count: int = 300, correlation: float = 0.5, spread: float = 0.1
) -> list[float]:
    """Return latencies around a median, in microseconds: log-normal and serially correlated (an AR(1) process)."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(count)
    for i in range(1, count):
        values[i] = correlation * values[i - 1] + (1 - correlation**2) ** 0.5 * values[i]
    return rounded_us((p50_us * np.exp(spread * values) / 1e6).tolist())


def point(p50_us: float, recall: float = 1.0, *, effort: int = 0, seed: int = 0) -> dict[str, Any]:
    """Return one effort of a sweep."""
    return {
        "effort": effort,
        "recall@10": min(1.0, recall + 0.005),
        "recall@100": recall,
        "p50_us": p50_us,
        "cpu_us": p50_us,
        "samples_us": samples(p50_us, seed=seed),
    }


def searcher(name: str, cases: Mapping[str, list[dict[str, Any]] | None]) -> dict[str, Any]:
    """Return one search of a result of core or peers; None stands for a case that it does not support."""
    swept = {
        case: {"skipped": "no filters"}
        if points is None
        else {"rows_passing": 10.0, "reached": points[-1]["recall@100"] >= 0.98, "points": points}
        for case, points in cases.items()
    }
    sizes = {"build_s": 1.0, "disk_bytes": 1_000_000, "memory_bytes": 2_000_000}
    return {"name": name, "version": "1", "limits": "", "settings": {}, **sizes, "cases": swept}


def search_values(rows: int, searchers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the values of a run of core or peers."""
    corpus = {"vectors": "real passages", "rows": rows, "dimension": 384, "queries": 300}
    return {
        "corpus": corpus,
        "k": 100,
        "recall_wanted": 0.98,
        "peers": {one["name"].replace("-", "_"): one for one in searchers},
    }


def core_values(rows: int, ours_us: float, flat_us: float, *, recall: float = 0.99, seed: int = 0) -> dict[str, Any]:
    """Return the values of a run of core: ours and FAISS flat in every case, filtered ones in half the time."""
    both = []
    for number, (name, us, reached) in enumerate((("faiss-flat", flat_us, 1.0), ("related-news", ours_us, recall))):
        cases: dict[str, list[dict[str, Any]] | None] = {
            case: [point(us if case == "all" else us / 2, reached, seed=1_000 * seed + 10 * index + number)]
            for index, case in enumerate(CASES)
        }
        both.append(searcher(name, cases))
    return search_values(rows, both)


def service_values(articles: int, fill_us: float, empty_us: float, *, seed: int = 0) -> dict[str, Any]:
    """Return the values of a run of the service: calls by one and by 16 clients."""
    calls = {
        "empty/1": empty_us,
        "fill_slots by id/1": fill_us,
        "empty/16": empty_us * 9,
        "fill_slots by id/16": fill_us * 9,
    }
    cases = {}
    for number, (call, us) in enumerate(calls.items()):
        rate = int(call.rpartition("/")[2]) * 1e6 / us
        figures = {"p50_us": us, "p95_us": us * 1.2, "p99_us": us * 1.3}
        some = samples(us, seed=100 * seed + number, count=400 + number)
        cases[call] = {"count": 400, "seconds": 400 / rate, "per_second": rate, **figures, "samples_us": some}
    ratio = fill_us / empty_us
    ratios = {"fill_slots by id/1": ratio, "throughput fill_slots by id/16": 1 / ratio, "draft over encoding": 1.25}
    return {"articles": articles, "workers": 1, "cases": cases, "ratios": ratios}


def keep_in(
    folder: Path, name: str, values: dict[str, Any], *, at: str = "20260101T000000Z", cpu: str = "Example CPU"
) -> Result:
    """Write a result as `benchmarks.machine.keep` does, of one made-up machine, and read it again."""
    machine = {"commit": "abc123def456", "cpu": cpu, "cores": 2, "python": "3.11.7", "packages": {"numpy": "2.4.6"}}
    head = {
        "benchmark": name,
        "at": at,
        "command": f"python -m benchmarks.{name.partition('-')[0]}",
        "machine": machine,
    }
    path = folder / f"{name}-{at}.json"
    write(path, {**head, **values})
    return read(path)
