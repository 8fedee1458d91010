"""Real servers for tests: on a background loop of this process, or in a process of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from recommender.answer.layout import Layout, Placement, Slot
from recommender.catalog.opening import open_catalog
from recommender.clock import now_ms
from recommender.config import ServerSettings, Settings
from recommender.encoding.batcher import Batcher
from recommender.encoding.embedder import Embedder, Matrix
from recommender.errors import MismatchError
from recommender.rpc.server import Server
from recommender.serving.archive import Archive
from recommender.serving.following import Follower
from tests import ROOT
from tests.building import FakeEmbedder
from tests.service.client import TIMEOUT_S, Client, connected

T = TypeVar("T")

SIDE_LAYOUT = Layout(
    name="side", slots=(Slot(name="beside", placement=Placement.END, count=4, min_score=0.0, diversity=0.1),)
)
"""A layout that the tests' server has in its settings."""


class TroubledEmbedder(FakeEmbedder):
    """Fails with the text itself when that names a mishap; waits at a gate for a text that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self.gate = threading.Event()

    def encode(self, texts: Sequence[str]) -> Matrix:
        for text in texts:
            if "mishap" in text:
                raise ValueError(f"cannot encode {text}")
            if "dawdle" in text:
                self.waiting.set()
                assert self.gate.wait(TIMEOUT_S), "nobody opened the gate"
        return super().encode(texts)


# A server on a background loop


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers")
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.begin(work).result(TIMEOUT_S)

    def call(self, work: Callable[[], object]) -> None:
        """Run a function on the loop's thread, which it may block; returns at once."""
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class Host:
    """Starts real servers on one background loop, all in this process."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    @contextmanager
    def server(
        self,
        data_dir: Path,
        embedder: Embedder | None = None,
        clock: Callable[[], int] = now_ms,
        **settings: Any,
    ) -> Iterator[tuple[Client, Server]]:
        """Serve a data folder on a free port. settings: of the section `server`."""
        server = self.loop.run(_start(data_dir, embedder or FakeEmbedder(), clock, settings))
        try:
            with connected(server.address) as client:
                yield client, server.server
        finally:
            self.loop.run(server.server.stop())


@dataclass(frozen=True)
class _Started:
    server: Server
    address: str


async def _start(data_dir: Path, embedder: Embedder, clock: Callable[[], int], settings: Mapping[str, Any]) -> _Started:
    effective = Settings(
        data_dir=data_dir, server=ServerSettings(**{"port": 0, **settings}), layouts={SIDE_LAYOUT.name: SIDE_LAYOUT}
    )
    server = Server(effective, in_process(effective, embedder), clock)
    return _Started(server, await server.start())


def in_process(settings: Settings, embedder: Embedder) -> Archive:
    """Return the archive of the settings' data folder; its encoder is in this process and the only one there is."""
    catalog = open_catalog(settings.data_dir, embedder.info.key, embedder.info.dimension)

    async def no_other(key: str) -> Batcher:
        raise MismatchError(f"this process has no encoder {key}")

    return Archive(
        Follower(settings.data_dir, catalog.store, catalog.live, Batcher(embedder), no_other),
        takedown_timeout_s=settings.server.takedown_timeout_s,
        concurrent_calls_max=settings.server.concurrent_calls_max,
    )


# A server in a process of its own


@dataclass(frozen=True)
class Served:
    """A serving process that has said its address."""

    process: subprocess.Popen[str]
    client: Client

    def end(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(TIMEOUT_S)


@contextmanager
def served(command: Sequence[str]) -> Iterator[Served]:
    """Start a serving process; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving on "):
                process.kill()
                pytest.fail(f"the server did not start: {line}{process.stderr.read() if process.stderr else ''}")
            with connected(line.removeprefix("serving on ").strip()) as client:
                yield Served(process, client)
        finally:
            process.kill()


def fake_server(data_dir: Path, *more: str) -> list[str]:
    """Return the command of a real server process on a fake encoder; see fake_server.py."""
    return [sys.executable, "-m", "tests.service.fake_server", str(data_dir), *more]


def environment() -> dict[str, str]:
    """Return this environment without settings of the service, which would reach the processes under test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RELATED_NEWS_")}
