"""A real service in processes of its own, on its own cores; its start, processor time and memory. Linux only."""

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
"""The command line's module."""
START_S = 600.0
STOP_S = 30.0
_COMPACT_AFTER = 1_000_000
_KINDS = {"recommender.processes.worker": "worker", "encoder": "encoder"}
_MEMORY = {"Rss": "rss_mib", "Pss": "pss_mib", "Pss_Anon": "anonymous_mib", "Pss_File": "file_mib"}
_KIB_IN_MIB = 1024


@dataclass(frozen=True, slots=True)
class Cores:
    """Which processors those who ask may use, and which the service. The same where there is only one."""

    asking: frozenset[int]
    serving: frozenset[int]

    @staticmethod
    def split() -> Cores:
        """Give the last processor to those who ask, all others to the service."""
        every = sorted(os.sched_getaffinity(0))
        return Cores(frozenset(every[-1:]), frozenset(every[:-1] or every))


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers. start_s: from starting its process to SERVING."""

    address: str
    pid: int
    start_s: float

    def processes(self) -> dict[str, int]:
        """Return the ids of its lasting processes by name, such as "worker 0"; one that writes a snapshot is none."""
        found = {"supervisor": self.pid}
        for pid in map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()):
            command = _command(pid)
            for kind in (kind for part, kind in _KINDS.items() if part in command):
                found[f"{kind} {sum(name.startswith(kind) for name in found)}"] = pid
        return found

    def used_s(self) -> float:
        """Return the processor time of these processes so far, to a hundredth of a second."""
        return sum(map(processor_s, self.processes().values()))

    def memory(self) -> dict[str, dict[str, float]]:
        """Return MiB of each process; pss: its share of what several map, anonymous and file: the two parts of it."""
        return {name: _memory(pid) for name, pid in self.processes().items()}


@contextmanager
def serving(
    data_dir: Path, cores: Cores, *, workers: int = 1, module: str = REAL, more: tuple[str, ...] = ()
) -> Iterator[Running]:
    """Start `related-news serve` on a free port of loopback, wait until its health is SERVING; stop it at the end.

    It writes no snapshot meanwhile, unless half as many articles as it has are written. module: of the command line.
    more: arguments of that module. Settings of the environment and of the working folder do not count.
    """
    config = data_dir / "benchmark.toml"
    config.write_text(f"[index]\ncompact_after = {_COMPACT_AFTER}\n")
    options = ["--config", str(config), "--data-dir", str(data_dir), "serve", "--port", "0", "--workers", str(workers)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELATED_NEWS_")}
    log = data_dir / "benchmark.log"
    with log.open("w") as stream, _on(cores.serving):
        begun = time.perf_counter()
        command = [sys.executable, "-m", module, *more, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("serving on "):
            raise RuntimeError(f"the service does not start: {log.read_text()[-2_000:]}")
        address = line.removeprefix("serving on ").strip()
        _wait_until_serving(address)
        yield Running(address, process.pid, round(time.perf_counter() - begun, 3))
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def pin(cores: frozenset[int]) -> None:
    """Let this thread, and threads and processes that it starts from now on, run on these cores only."""
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
        while check(request, timeout=START_S, wait_for_ready=True).status != health_pb2.HealthCheckResponse.SERVING:
            time.sleep(0.001)


def _stub(channel: grpc.Channel) -> Any:
    """Return what the types of grpcio-health-checking leave out."""
    return health_pb2_grpc.HealthStub(channel)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:  # it has just ended
        return ""


def _memory(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return {ours: round(kib[name] / _KIB_IN_MIB, 2) for name, ours in _MEMORY.items()}
