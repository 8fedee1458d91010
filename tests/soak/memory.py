"""How much memory each process of a service has, from /proc, sampled while something goes on."""

from __future__ import annotations

import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.service.crew import COMPACTION, ENCODER, WORKER, children
from tests.service.servers import Served

MIB = 1 << 20
EVERY_S = 1.0
"""Seconds between two samples."""


@dataclass(frozen=True, slots=True)
class Size:
    """MiB of one process. pss: its share of what it maps, pages of the snapshot included; own: what only it has."""

    rss: float
    pss: float
    own: float


@dataclass
class Memory:
    """Samples by process name, in order."""

    samples: dict[str, list[Size]] = field(default_factory=lambda: defaultdict(list))

    def report(self) -> dict[str, dict[str, Any]]:
        """Return for each process what it has in the end, at most, and by how much its own memory has grown.

        Medians of the quarters of the time; the first one is the warm-up, and growth is from the second to the last.
        """
        return {name: _report(sizes) for name, sizes in self.samples.items() if len(sizes) >= 4}


def _report(sizes: list[Size]) -> dict[str, Any]:
    quarter = len(sizes) // 4
    late = sizes[-quarter:]
    own = [statistics.median(size.own for size in sizes[i * quarter : (i + 1) * quarter]) for i in range(4)]
    return {
        "rss_mib": round(statistics.median(size.rss for size in late), 1),
        "pss_mib": round(statistics.median(size.pss for size in late), 1),
        "pss_mib_max": round(max(size.pss for size in sizes), 1),
        "own_mib": [round(size, 1) for size in own],
        "grown_mib": round(own[3] - own[1], 1),
    }


@contextmanager
def watched(server: Served) -> Iterator[Memory]:
    """Look every second until the end."""
    memory, stop = Memory(), threading.Event()

    def watch() -> None:
        while not stop.wait(EVERY_S):
            for name, pid in _processes(server):
                if size := size_of(pid):
                    memory.samples[name].append(size)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        stop.set()
        thread.join()


def size_of(pid: int) -> Size | None:
    """Return what a process has; None if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return Size(*(kib[name] * 1024 / MIB for name in ("Rss", "Pss", "Pss_Anon")))


def _processes(server: Served) -> Iterator[tuple[str, int]]:
    yield "supervisor", server.process.pid
    yield from ((f"worker {n}", pid) for n, pid in enumerate(children(server, WORKER)))
    yield from (("encoder", pid) for pid in children(server, ENCODER))
    yield from (("compaction", pid) for pid in children(server, COMPACTION))
