"""What a figure depends on besides the code, and how a result is kept."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import result
from benchmarks.reporting import history

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or Path(__file__).parent / "results")
"""Folder of kept results. BENCHMARK_RESULTS names another one, so that a trial is not taken for a figure to report."""
HISTORY = "history.jsonl"
"""File beside RESULTS that has one line for each run."""
_PACKAGES = ("faiss-cpu", "numpy", "torch", "sentence-transformers", "grpcio", "protobuf")
"""Packages whose versions every result records."""


def describe(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return commit, processor, cores, Python, and the versions of _PACKAGES and `packages` as far as installed.

    A commit that ends in "+changes" had a working tree that was not clean.
    """
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD") + ("+changes" if _git("status", "--porcelain") else ""),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version for name in (*_PACKAGES, *packages) if (version := _version(name))},
    }


def keep(name: str, values: dict[str, Any], *, seed: int | None = None, packages: Iterable[str] = ()) -> Path:
    """Write a result with its command and the machine's description, and add its line to the history.

    Returns the result's file, NAME-<UTC time>.json in RESULTS; its samples go to an .npz file of the same name.

    values: as JSON takes it; lists under "samples_us" are latencies in microseconds (`benchmarks.result.rounded_us`).
    packages: others whose versions matter.
    """
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}-{at}.json"
    head: dict[str, Any] = {"benchmark": name, "at": at, "command": _command(), "machine": describe(packages)}
    head |= {} if seed is None else {"seed": seed}
    result.write(path, {**head, **values})
    history.append(RESULTS.parent / HISTORY, result.read(path))
    return path


@dataclass(slots=True)
class Stopwatch:
    """Sums of wall-clock and processor time; the latter depends less on what else runs on the machine."""

    seconds: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the time of the block."""
        started, started_cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - started
        self.cpu_s += time.process_time() - started_cpu


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process, pages of mapped files included. Linux only.

    getrusage does not do: on Linux its peak is at least that of the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def processor_s(pid: int) -> float:
    """Return the processor time of a process so far, user and system, to a hundredth of a second. Linux only."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _command() -> str:
    """Return the command of this process. Absolute paths lose their folders, which belong to one machine."""
    return shlex.join(["python", *(Path(word).name if word.startswith("/") else word for word in sys.orig_argv[1:])])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    ).stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
