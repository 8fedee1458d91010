"""A real service in processes of its own, on its own cores: start, processor time, memory. Linux only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.machine import processor_s

REAL = "indexer"
"""Module of the real command line."""
START_TIMEOUT_S = 600.0
"""Longest wait until the service is SERVING."""
STOP_TIMEOUT_S = 30.0
"""Longest wait until the service has stopped; then it is killed."""
_COMPACT_AFTER = 1_000_000
"""Setting of the service that keeps it from writing snapshots."""
_KINDS = {"recommender.processes.worker": "worker", "encoder": "encoder"}
"""Kinds of processes by a part of their command."""
_MEMORY = {"Rss": "rss_mib", "Pss": "pss_mib", "Pss_Anon": "anonymous_mib", "Pss_File": "file_mib"}
"""Figures of memory by their names in /proc/PID/smaps_rollup."""
_KIB_IN_MIB = 1024
"""KiB of a MiB."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Cores of the clients (asking) and of the service (serving); the same if there is only one."""

    asking: frozenset[int]
    serving: frozenset[int]

    @staticmethod
    def split() -> Cores:
        """Give the last core to the clients and all others to the service."""
        every = sorted(os.sched_getaffinity(0))
        return Cores(frozenset(every[-1:]), frozenset(every[:-1] or every))


@dataclass(frozen=True, slots=True)
class Running:
    """A service that is SERVING. start_s: time from starting its process until then."""

    address: str
    pid: int
    start_s: float

    def processes(self) -> dict[str, int]:
        """Return the ids of its processes by name, such as "worker 0", without one that writes a snapshot."""
        pids = {"supervisor": self.pid}
        for pid in map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()):
            command = _command(pid)
            for kind in (kind for part, kind in _KINDS.items() if part in command):
                pids[f"{kind} {sum(name.startswith(kind) for name in pids)}"] = pid
        return pids

    def used_s(self) -> float:
        """Return the processor time of these processes so far, to a hundredth of a second."""
        return sum(map(processor_s, self.processes().values()))

    def memory(self) -> dict[str, dict[str, float]]:
        """Return MiB of each process. PSS divides shared pages; its parts are anonymous and file pages."""
        return {name: _memory(pid) for name, pid in self.processes().items()}


@contextmanager
def serving(
    data_dir: Path, cores: Cores, *, workers: int = 1, module: str = REAL, more: tuple[str, ...] = ()
) -> Iterator[Running]:
    """Start `related-news serve` on a free port of loopback, wait until its health is SERVING, and stop it at the end.

    It writes no snapshot unless half as many articles as it has are written. Settings of the environment and of the
    working folder do not count. module: the module of the command line. more: further arguments of that module.
    """
    config = data_dir / "benchmark.toml"
    config.write_text(f"[index]\ncompact_after = {_COMPACT_AFTER}\n")
    options = ["--config", str(config), "--data-dir", str(data_dir), "serve", "--port", "0", "--workers", str(workers)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELATED_NEWS_")}
    log = data_dir / "benchmark.log"
    with log.open("w") as stream, _on(cores.serving):
        started = time.perf_counter()
        command = [sys.executable, "-m", module, *more, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("serving on "):
            raise RuntimeError(f"the service does not start: {log.read_text()[-2_000:]}")
        address = line.removeprefix("serving on ").strip()
        _wait_until_serving(address)
        yield Running(address, process.pid, round(time.perf_counter() - started, 3))
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def pin(cores: frozenset[int]) -> None:
    """Restrict this thread, and threads and processes that it starts later, to these cores."""
    os.sched_setaffinity(0, cores)


@contextmanager
def _on(cores: frozenset[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    pin(cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait_until_serving(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        check, request = _stub(channel).Check, health_pb2.HealthCheckRequest()
        while (
            check(request, timeout=START_TIMEOUT_S, wait_for_ready=True).status
            != health_pb2.HealthCheckResponse.SERVING
        ):
            time.sleep(0.001)


def _stub(channel: grpc.Channel) -> Any:
    """Return a stub of the health service, which grpcio-health-checking has no types for."""
    return health_pb2_grpc.HealthStub(channel)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:  # the process has ended
        return ""


def _memory(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return {ours: round(kib[name] / _KIB_IN_MIB, 2) for name, ours in _MEMORY.items()}
