"""The processes of a service, and connections that are spread over its workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from tests.service.client import TIMEOUT_S, Client
from tests.service.servers import Served

WORKER, ENCODER, COMPACTION = "recommender.processes.worker", "fake_encoder", "recommender.processes.compactor"


def children(server: Served, module: str) -> list[int]:
    """Return the ids of the supervisor's processes that run a module, ascending."""
    listed = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return sorted(int(pid) for pid in listed if module in _command(int(pid)))


def runs(pid: int) -> bool:
    """Return whether a process runs and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(true: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> bool:
    """Wait until `true` returns True; return whether it does in time."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end(pid: int) -> None:
    """Kill a process."""
    os.kill(pid, signal.SIGKILL)


@contextmanager
def connections(address: str, count: int) -> Iterator[list[Client]]:
    """Open separate connections, which the system spreads over the workers."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    with ExitStack() as stack:
        yield [
            Client(address, stack.enter_context(grpc.insecure_channel(address, options=options))) for _ in range(count)
        ]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""
