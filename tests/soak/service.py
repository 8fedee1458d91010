"""A real service of several processes on a fake encoder, which can be killed and started again; its log in a file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc

from tests import ROOT
from tests.service.client import Client, connected
from tests.service.crew import ENCODER, WORKER, children, connections, eventually
from tests.service.servers import Served, environment, fake_server

START_S = 60.0
"""Seconds in which a service must be whole and up to date after its start."""


class Service:
    """Starts `related-news serve` on a data folder, with a fake encoder in the model's place."""

    def __init__(self, data_dir: Path, *options: str, prefix: Sequence[str] = ()) -> None:
        """options: of tests.service.fake_server. prefix: a command that runs another command."""
        self.data_dir = data_dir
        self.log_file = data_dir.parent / f"{data_dir.name}.log"
        self.starts = 0
        self._command = [*prefix, *fake_server(data_dir, "--log-level", "INFO", *options)]

    @contextmanager
    def running(self) -> Iterator[Served]:
        """Start it, and wait until it answers; kill it at the end, if it still runs."""
        with self.log_file.open("a") as log, self._started(log.fileno()) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line.startswith("serving on "), f"it does not start: {line}{self.log()[-3_000:]}"
                self.starts += 1
                with connected(line.removeprefix("serving on ").strip()) as client:
                    yield Served(process, client)
            finally:
                process.kill()

    def _started(self, log: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment()
        )

    def log(self) -> str:
        """Return what it has logged so far, over all its starts."""
        return self.log_file.read_text()


def whole(server: Served, workers: int) -> bool:
    """Say whether all its processes are there."""
    return (len(children(server, WORKER)), len(children(server, ENCODER))) == (workers, 1)


@contextmanager
def settled(server: Served, workers: int, count: int, is_true: Callable[[Client], bool]) -> Iterator[list[Client]]:
    """Open `count` connections of their own once all processes are there and something is true on each of them."""

    def is_so(client: Client) -> bool:
        try:
            return is_true(client)
        except grpc.RpcError:
            return False

    assert eventually(lambda: whole(server, workers), START_S), "not every process was started again"
    with connections(server.client.address, count) as clients:
        for client in clients:
            assert eventually(partial(is_so, client), START_S), "a worker does not come to the same state"
        yield clients
