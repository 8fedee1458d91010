"""One peer, measured in a process of its own: build, then every case with rising effort until recall is reached.

What a sample holds: one call of `search`, from query vector and filter to row numbers, one at a time. After the build
the process may use one core only; a server that is a process of its own is left as it is.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import pack_samples, processor_s
from benchmarks.peers.cases import DEPTHS, Case, recalls
from benchmarks.peers.corpus import Corpus
from benchmarks.peers.peer import EVERYTHING, Peer, Postings, Rows

K = max(DEPTHS)
WARM_UP = 20
QUERIES_MIN = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """recall: of the 100 nearest, to be reached. budget_s: for one case at one effort, after which QUERIES_MIN do."""

    recall: float = 0.98
    budget_s: float = 10.0
    cores: int = 1


def measure(peer: Peer, corpus: Corpus, cases: list[Case], folder: Path, plan: Plan) -> dict[str, Any]:
    """Build and search; returns everything measured, of cases with their sweeps."""
    before = _memory_bytes()
    vectors = corpus.float32()
    begun = time.perf_counter()
    peer.build(vectors, corpus.columns, folder)
    build_s = time.perf_counter() - begun
    del vectors
    try:
        with pin(plan.cores) as cores:
            for query in corpus.queries[:WARM_UP]:
                peer.search(query, K, EVERYTHING)
            memory = _memory_bytes() - before
            return {
                "version": peer.version,
                "limits": peer.limits,
                "settings": peer.settings(),
                "cores_while_searching": cores,
                "build_s": round(build_s, 3),
                "disk_bytes": peer.disk_bytes(),
                "memory_bytes": memory,
                "cases": {case.name: _sweep(peer, corpus, case, plan) for case in cases},
            }
    finally:
        peer.close()


def _sweep(peer: Peer, corpus: Corpus, case: Case, plan: Plan) -> dict[str, Any]:
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
    for query, wanted in zip(corpus.queries[:WARM_UP], case.filters[:WARM_UP], strict=True):
        peer.search(query, K, wanted)
    samples: list[float] = []
    answers: list[Rows] = []
    gc.collect()
    gc.disable()
    try:
        cpu = cpu_s(peer.server_pid)
        until = time.perf_counter() + plan.budget_s
        for query, wanted in zip(corpus.queries, case.filters, strict=True):
            begun = time.perf_counter()
            answers.append(peer.search(query, K, wanted))
            ended = time.perf_counter()
            samples.append(ended - begun)
            if ended > until and len(samples) >= QUERIES_MIN:
                break
        cpu = cpu_s(peer.server_pid) - cpu
    finally:
        gc.enable()
    found = _recall(corpus, case, answers)
    return {
        "effort": effort,
        **{f"recall@{depth}": round(float(value), 4) for depth, value in zip(DEPTHS, found, strict=True)},
        "p50_us": round(float(np.median(samples)) * 1e6, 1),
        "cpu_us": round(cpu / len(samples) * 1e6, 1),
        "samples_us": pack_samples(samples),
    }


def _recall(corpus: Corpus, case: Case, answers: list[Rows]) -> list[float]:
    postings = Postings(corpus.columns)
    shares = []
    for index, rows in enumerate(answers):
        mask = postings.mask(case.filters[index])
        shares.append(recalls(case, index, rows, corpus, mask))
    means: list[float] = np.mean(shares, axis=0).tolist()
    return means


@contextmanager
def pin(cores: int) -> Iterator[int]:
    """Let all threads of this process run on its last `cores` cores only; yields how many it may use."""
    if not hasattr(os, "sched_setaffinity"):
        yield os.cpu_count() or 1
        return
    before = os.sched_getaffinity(0)
    kept = set(sorted(before)[-cores:])
    _allow(kept)
    try:
        yield len(kept)
    finally:
        _allow(before)


def _allow(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it may have ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)


def cpu_s(server_pid: int | None) -> float:
    """Return the processor time used so far by this process and a server: what others' load hardly changes."""
    return time.process_time() + (0.0 if server_pid is None else processor_s(server_pid))


def _memory_bytes() -> int:
    """Return this process's resident memory, mapped files included, after unused memory was given back."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
