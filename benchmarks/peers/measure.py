"""Measure one peer in a process of its own: build, then every case with rising effort until the recall is reached.

A sample is one call of `search`, from query vector and filter to row numbers; one query at a time. After the build the
process may use one core only; a server that is a process of its own is not restricted.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import processor_s
from benchmarks.peers.cases import DEPTHS, Case, recalls
from benchmarks.peers.corpus import Corpus
from benchmarks.peers.peer import EVERYTHING, Peer, Postings, Rows
from benchmarks.result import SAMPLES, rounded_us

K = max(DEPTHS)
"""Rows that a search returns."""
WARM_UP = 20
"""Queries before the measured ones."""
QUERIES_MIN = 20
"""Queries of a case at one effort, at least, however slow the peer is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure.

    recall: of the 100 nearest, to be reached.
    budget_s: time for one case at one effort; QUERIES_MIN are asked at least.
    cores: that the peer may use while it searches.
    """

    recall: float = 0.98
    budget_s: float = 10.0
    cores: int = 1


def measure(peer: Peer, corpus: Corpus, cases: list[Case], folder: Path, plan: Plan) -> dict[str, Any]:
    """Build and search; returns the values of the result, with the sweep of each case."""
    with built(peer, corpus, folder) as values, pin(plan.cores) as cores:
        return {
            **values,
            "cores_while_searching": cores,
            "cases": {case.name: sweep(peer, corpus, case, plan) for case in cases},
        }


@contextmanager
def built(peer: Peer, corpus: Corpus, folder: Path) -> Iterator[dict[str, Any]]:
    """Build and warm up, and close at the end; yields settings, sizes and build time."""
    before = _memory_bytes()
    started = time.perf_counter()
    peer.build(corpus.vectors, corpus.columns, folder)
    build_s = time.perf_counter() - started
    try:
        for query in corpus.queries[:WARM_UP]:
            peer.search(query, K, EVERYTHING)
        yield {
            "version": peer.version,
            "limits": peer.limits,
            "settings": peer.settings(),
            "build_s": round(build_s, 3),
            "disk_bytes": peer.disk_bytes(),
            "memory_bytes": _memory_bytes() - before,
        }
    finally:
        peer.close()


def sweep(peer: Peer, corpus: Corpus, case: Case, plan: Plan) -> dict[str, Any]:
    """Search every query of a case, with rising effort until the recall is reached."""
    if not peer.filters and case.filters[0] != EVERYTHING:
        return {"skipped": peer.limits}
    points = []
    for effort in peer.efforts:
        peer.set_effort(effort)
        points.append(_point(peer, corpus, case, effort, plan))
        if points[-1]["recall@100"] >= plan.recall:
            break
    return {
        "rows_passing": round(float(case.passing.mean()), 1),
        "reached": points[-1]["recall@100"] >= plan.recall,
        "points": points,
    }


def _point(peer: Peer, corpus: Corpus, case: Case, effort: int, plan: Plan) -> dict[str, Any]:
    search = _search_of(peer, corpus, case)
    for index in range(min(WARM_UP, len(corpus.queries))):
        search(index)
    samples: list[float] = []
    answers: list[Rows] = []
    gc.collect()
    gc.disable()
    try:
        cpu = cpu_s(peer.server_pid)
        until = time.perf_counter() + plan.budget_s
        for index in range(len(corpus.queries)):
            started = time.perf_counter()
            answers.append(search(index))
            ended = time.perf_counter()
            samples.append(ended - started)
            if ended > until and len(samples) >= QUERIES_MIN:
                break
        cpu = cpu_s(peer.server_pid) - cpu
    finally:
        gc.enable()
    cpu_us = round(cpu / len(samples) * 1e6, 1)
    return {"effort": effort, "cpu_us": cpu_us, **summary(samples, mean_recall(corpus, case, answers))}


def _search_of(peer: Peer, corpus: Corpus, case: Case) -> Callable[[int], Rows]:
    """Return a function that searches query i: by vector, or by row, which is read and left out of the answer."""
    if corpus.query_rows is None or not case.by_id:
        return lambda index: peer.search(corpus.queries[index], K, case.filters[index])
    rows = corpus.query_rows.tolist()
    vectors = corpus.vectors.view(np.ndarray)

    def by_row(index: int) -> Rows:
        nearest = peer.search(vectors[rows[index]].astype(np.float32), K + 1, case.filters[index])
        others: Rows = nearest[nearest != rows[index]][:K]
        return others

    return by_row


def summary(samples: list[float], recall: list[float]) -> dict[str, Any]:
    """Return recall at DEPTHS, percentiles and samples in microseconds. samples: seconds."""
    percentiles = np.percentile(np.array(samples) * 1e6, [50, 95, 99])
    return {
        **{f"recall@{depth}": round(float(value), 4) for depth, value in zip(DEPTHS, recall, strict=True)},
        **{f"p{n}_us": round(float(value), 1) for n, value in zip((50, 95, 99), percentiles, strict=True)},
        SAMPLES: rounded_us(samples),
    }


def mean_recall(corpus: Corpus, case: Case, answers: list[Rows]) -> list[float]:
    """Return the mean recall at DEPTHS of the first answers of a case."""
    postings = Postings(corpus.columns)
    shares = []
    for index, rows in enumerate(answers):
        mask = postings.mask(case.filters[index])
        shares.append(recalls(case, index, rows, corpus, mask))
    means: list[float] = np.mean(shares, axis=0).tolist()
    return means


@contextmanager
def pin(cores: int) -> Iterator[int]:
    """Restrict all threads of this process to its last `cores` cores; yields how many there are."""
    if not hasattr(os, "sched_setaffinity"):
        yield os.cpu_count() or 1
        return
    before = os.sched_getaffinity(0)
    allowed = set(sorted(before)[-cores:])
    _allow(allowed)
    try:
        yield len(allowed)
    finally:
        _allow(before)


def _allow(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(int(thread.name), cores)


def cpu_s(server_pid: int | None) -> float:
    """Return the processor time of this process and a server so far; load of other programs hardly changes it."""
    return time.process_time() + (0.0 if server_pid is None else processor_s(server_pid))


def _memory_bytes() -> int:
    """Return this process's resident memory, mapped files included, after freed memory is given back."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
