"""What a figure depends on besides the code, and the one way to keep a result."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or Path(__file__).parent / "results")
"""Where results are kept; a trial's go elsewhere, so that they are not taken for figures to report."""
_PACKAGES = ("faiss-cpu", "numpy", "torch", "sentence-transformers", "grpcio", "protobuf")


def describe(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return commit, processor, cores, Python and versions of the usual and the named packages that are installed.

    "+changes": the working tree was not clean.
    """
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD") + ("+changes" if _git("status", "--porcelain") else ""),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version for name in (*_PACKAGES, *packages) if (version := _version(name))},
    }


def keep(name: str, values: dict[str, Any], *, seed: int | None = None, packages: Iterable[str] = ()) -> Path:
    """Write a result with its command and the machine's description; returns the file, results/NAME-<UTC time>.json.

    packages: whose versions matter besides the usual ones.
    """
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}-{at}.json"
    head: dict[str, Any] = {"benchmark": name, "at": at, "command": _command(), "machine": describe(packages)}
    head |= {} if seed is None else {"seed": seed}
    path.write_text(json.dumps({**head, **values}, indent=1) + "\n")
    return path


@dataclass(slots=True)
class Stopwatch:
    """Time added up: by the clock, and of the processor, which a machine that others share lengthens less."""

    seconds: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is inside."""
        begun, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - begun
        self.cpu_s += time.process_time() - cpu


def peak_memory_bytes() -> int:
    """Return the most that this process has held resident since it was started, pages of mapped files included.

    getrusage would not do: on Linux its peak is at least that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def pack_samples(seconds: Sequence[float]) -> str:
    """Return latencies as microseconds of four digits in one line, in the order in which they were taken."""
    return " ".join(f"{sample * 1e6:.4g}" if sample < 0.01 else f"{sample * 1e6:.0f}" for sample in seconds)


def unpack_samples(packed: str) -> npt.NDArray[np.float64]:
    """Return the microseconds of `pack_samples`, float64 (n,)."""
    return np.array(packed.split(), np.float64)


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used so far, to a hundredth of a second. Linux only."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")  # user and system


def _command() -> str:
    """Return how this process was started, absolute paths without their folders: those are one machine's."""
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
