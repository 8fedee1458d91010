"""The supervisor and its children's first words: what does not start is tried again, and no start cannot be stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import create_store
from recommender.config import Settings
from recommender.errors import RelatedNewsError, StorageError, UnavailableError
from recommender.processes import supervisor as supervisor_module
from recommender.processes.process import Process
from recommender.processes.supervisor import Commands, is_due, reserved_port
from tests.building import DIMENSION, FakeEmbedder, article, build_store
from tests.service.crew import runs
from tests.service.fake_encoder import GATE
from tests.service.hosting import ROOT, TIMEOUT_S, environment, fake_server


@pytest.mark.parametrize(
    ("changes", "rows", "compact_after", "due"),
    [
        (1_999, 100_000, 2_000, False),
        (2_000, 100_000, 2_000, True),
        (49, 10, 2_000, False),
        (50, 10, 2_000, True),
        (499, 1_000, 2_000, False),
        (500, 1_000, 2_000, True),
        (10, 40, 10, True),
        (0, 0, 10, False),
    ],
)
def test_when_a_new_snapshot_is_due(changes: int, rows: int, compact_after: int, due: bool) -> None:
    """After a number of changes; in a small archive after half as many as it has rows, but fifty at the least."""
    assert is_due(changes, rows, compact_after) == due


# The port


def test_a_port_that_is_reserved_can_be_shared_by_workers_only() -> None:
    """Those that ask for sharing may listen there; another service is refused."""
    with reserved_port("127.0.0.1", 0) as port:
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port))
            worker.listen()
            with pytest.raises(StorageError) as caught, reserved_port("127.0.0.1", port):
                pytest.fail("it got the port")
        assert str(caught.value) == (f"cannot listen on 127.0.0.1:{port} (choose another port, or stop who uses it)")


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host.invalid"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    """Whether it is another machine's or none."""
    with pytest.raises(StorageError, match=f"cannot listen on {host}:50051"), reserved_port(host, 50051):
        pytest.fail("it got the port")


# A child's first words

ECHO = "print('{\"ready\": ' + order.strip() + '}', flush=True); sys.exit(len(sys.stdin.readline()))"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('{\"ready\": {}}', flush=True); time.sleep(60)"
)


def child(program: str) -> tuple[str, ...]:
    """Return a command that runs a few lines of Python."""
    return (sys.executable, "-c", f"import sys; order = sys.stdin.readline(); {program}")


async def start(program: str) -> Process:
    """Start a child with an order."""
    return await Process.start("odd", child(program), {"a": 1})


def test_a_child_is_ready_when_it_says_so() -> None:
    """What it says of itself is kept; it gets its order and later ones as lines."""

    async def work() -> dict[str, Any]:
        process = await start(ECHO)
        process.order({"b": 2})
        assert await process.wait() == len('{"b": 2}\n')
        process.order({"nobody": "hears"})
        return process.about

    assert asyncio.run(work()) == {"a": 1}


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ('print(\'{"error": "no disk", "fix": "buy one"}\')', RelatedNewsError("no disk", fix="buy one")),
        ("pass", UnavailableError("the odd process ended without a word", fix="its log is above")),
    ],
)
def test_a_child_that_cannot_work_is_an_error(program: str, expected: RelatedNewsError) -> None:
    """Its own, or that it said none; it has ended then."""
    with pytest.raises(type(expected)) as caught:
        asyncio.run(start(program))
    assert str(caught.value) == str(expected)


def test_a_child_may_give_way_to_others() -> None:
    """Its niceness is there before it does anything."""

    async def niceness(wanted: int) -> int:
        program = "import json, os; print(json.dumps({'ready': {'nice': os.nice(0)}}), flush=True)"
        process = await Process.start("odd", child(program), {}, niceness=wanted)
        await process.wait()
        return int(process.about["nice"])

    own = os.nice(0)
    assert asyncio.run(niceness(0)) == own
    assert asyncio.run(niceness(own + 3)) == own + 3


def youngest_child() -> int:
    """Return the id of this process's child that was started last."""
    return int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])


def test_a_child_waits_for_its_first_order() -> None:
    """It is started at once, gets the order when what must come before is done, and none if that fails."""
    pids = []

    async def work(*, fails: bool) -> dict[str, Any]:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def before() -> None:
            begun.set()
            await go_on.wait()
            if fails:
                raise StorageError("no snapshot", fix="index something")

        starting = asyncio.create_task(Process.start("odd", child(ECHO), {"a": 1}, after=before()))
        await begun.wait()
        pids.append(youngest_child())
        assert not starting.done()
        go_on.set()
        return (await starting).about

    assert asyncio.run(work(fails=False)) == {"a": 1}
    with pytest.raises(StorageError, match="no snapshot"):
        asyncio.run(work(fails=True))
    assert not Path(f"/proc/{pids[1]}").exists()


def test_a_child_that_does_not_finish_is_killed() -> None:
    """It is told first, and has its time."""

    async def work() -> int:
        process = await start(DEAF)
        await process.end(0.1)
        return await process.wait()

    assert asyncio.run(work()) == -signal.SIGKILL


# Keeping


class Ended:
    """A process that has ended already, or never does."""

    name, pid = "worker 0", 7

    def __init__(self, *, ever: bool = True) -> None:
        self._ever = ever

    async def wait(self) -> int:
        if not self._ever:
            await asyncio.Event().wait()
        return 1


def supervisor(folder: Path) -> Any:
    """Return a supervisor that starts nothing by itself."""
    build_store(folder, [article()]).close()
    settings = Settings(data_dir=folder)
    return supervisor_module._Supervisor(settings, lambda: settings, Commands())


def test_what_does_not_start_is_tried_again_whatever_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours, of the system, or one nobody thought of: the worker comes back once it can."""
    monkeypatch.setattr(supervisor_module, "_BACKOFF_S", 0.001)
    reasons: list[Exception] = [UnavailableError("not now"), OSError("no memory"), ValueError("no JSON")]
    started = asyncio.Event()

    async def starting() -> Ended:
        if reasons:
            raise reasons.pop(0)
        started.set()
        return Ended(ever=False)

    async def work() -> None:
        one = supervisor(tmp_path)
        with closing(one._store):
            keeping = asyncio.create_task(one._keep(Ended(), starting))
            await asyncio.wait_for(started.wait(), 10)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(work())


def test_a_snapshot_that_fails_is_tried_again_whatever_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compaction goes on however often it failed."""
    for name in ("_LOOK_S", "_AFTER_FAILURE_S"):
        monkeypatch.setattr(supervisor_module, name, 0.001)
    reasons: list[Exception] = [StorageError("no disk"), OSError("no memory"), ValueError("no JSON")]
    written = asyncio.Event()

    async def write(task: str) -> None:
        assert task == "next"
        if reasons:
            raise reasons.pop(0)
        written.set()

    async def work() -> None:
        one = supervisor(tmp_path)
        monkeypatch.setattr(one, "_write_snapshot", write)
        monkeypatch.setattr(one, "_snapshot_is_due", lambda: True)
        with closing(one._store):
            compacting = asyncio.create_task(one._compact())
            await asyncio.wait_for(written.wait(), 10)
            compacting.cancel()
            await asyncio.gather(compacting, return_exceptions=True)

    asyncio.run(work())


# Stopping before it has begun


def slow_folder(folder: Path) -> Path:
    """Make an index whose model takes until the gate is opened to load."""
    embedder = FakeEmbedder("dawdle")
    store = create_store(folder / STORE_FILE, embedder.info.key)
    store.close()
    os.mkfifo(folder / GATE)
    return folder


@pytest.mark.parametrize(("number", "snapshot"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_start_that_takes_long_can_be_stopped(tmp_path: Path, number: signal.Signals, snapshot: bool) -> None:
    """A model that loads for minutes, or a snapshot that is written for so long, keeps nobody waiting."""
    folder = slow_folder(tmp_path)
    if snapshot:
        store = create_store(folder / STORE_FILE, FakeEmbedder("dawdle").info.key)
        write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
        store.close()
    command = fake_server(folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as process:
        gate = os.open(folder / GATE, os.O_WRONLY)  # the encoder is loading now
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert children
        assert not any(runs(int(pid)) for pid in children)
        os.close(gate)
