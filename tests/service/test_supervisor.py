"""The supervisor and its processes: what they say to each other, how they are restarted, and how a start is stopped."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from recommender.answer.layout import Layout, Placement, Slot, SlotFilters
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import create_store
from recommender.config import Settings
from recommender.errors import InvalidInputError, RelatedNewsError, StorageError, UnavailableError
from recommender.processes import supervisor as supervisor_module
from recommender.processes.orders import (
    Compact,
    Compacted,
    EncoderReady,
    Failed,
    Message,
    NewSettings,
    Start,
    StartEncoder,
    StartWorker,
    WorkerReady,
    from_line,
    to_line,
)
from recommender.processes.process import Process
from recommender.processes.supervisor import Commands, is_due, reserved_port
from tests import ROOT
from tests.building import DIMENSION, FakeEmbedder, article, build_store
from tests.service.client import TIMEOUT_S
from tests.service.crew import runs
from tests.service.fake_encoder import GATE
from tests.service.servers import environment, fake_server

R = TypeVar("R", bound=Message)


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
    """A snapshot is due after `compact_after` changes; in a small archive after half its rows, but at least fifty."""
    assert is_due(changes, rows, compact_after) == due


# The port


def test_a_port_that_is_reserved_can_be_shared_by_workers_only() -> None:
    """A socket that asks for SO_REUSEPORT may listen there; another service is refused."""
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
    """The error names an address of another machine, and one that is none."""
    with pytest.raises(StorageError, match=f"cannot listen on {host}:50051"), reserved_port(host, 50051):
        pytest.fail("it got the port")


# Messages

LAYOUTS = {
    "side": Layout(
        name="side",
        slots=(
            Slot(
                name="beside",
                placement=Placement.END,
                count=2,
                max_age_days=0.5,
                filters=SlotFilters(sections=frozenset({"world", "é\n"})),
            ),
        ),
    )
}
SETTINGS = Settings(data_dir=Path("some/folder"), ranker=Path("ranker.json"), layouts=LAYOUTS)
MESSAGES = [
    StartWorker(settings=SETTINGS, model="m", encoder_address="unix-abstract:a"),
    StartEncoder(settings=SETTINGS, model="m", address="unix-abstract:a"),
    Compact(settings=SETTINGS, dimension=32, only_if_missing=True),
    NewSettings(settings=SETTINGS),
    WorkerReady(address="127.0.0.1:1"),
    EncoderReady(key="m@0/r", dimension=32),
    Compacted(),
    Failed(error="no disk\n", fix="buy one"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_one_line_that_gives_the_message_back(message: Message) -> None:
    """A message survives its way through a line, whatever its settings hold."""
    line = to_line(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert from_line(line, *map(type, MESSAGES), sender="supervisor") == message


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"Loading weights...\n", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"\xff\n", "is not JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"7\n", "is not of the kind WorkerReady or Failed"),
        (b"{}\n", "is not of the kind WorkerReady or Failed"),
        (b'{"kind": ["Failed"]}\n', "is not of the kind WorkerReady or Failed"),
        (to_line(Compacted()), "is not of the kind WorkerReady or Failed"),
        (b'{"kind": "WorkerReady"}\n', "is not a valid WorkerReady: address: Field required"),
        (
            b'{"kind": "Failed", "error": 1, "fix": "x"}\n',
            "is not a valid Failed: error: Input should be a valid string",
        ),
        (
            b'{"kind": "WorkerReady", "address": "", "pid": 1}\n',
            "is not a valid WorkerReady: pid: Extra inputs are not permitted",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_refused(line: bytes, problem: str) -> None:
    """The error names the sender and the problem."""
    with pytest.raises(InvalidInputError) as caught:
        from_line(line, WorkerReady, Failed, sender="worker 0 process")
    assert str(caught.value) == f"line from the worker 0 process: {problem}"


# A process and its first answer

START = Start(settings=Settings())
LATER = NewSettings(settings=Settings())
ECHO = (
    "import json; print(json.dumps({'kind': 'WorkerReady', 'address': order}), flush=True);"
    " sys.exit(len(sys.stdin.readline()) % 251)"
)
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    ' print(\'{"kind": "Compacted"}\', flush=True); time.sleep(60)'
)


def child(program: str) -> tuple[str, ...]:
    """Return a command that runs a few lines of Python."""
    return (sys.executable, "-c", f"import sys; order = sys.stdin.readline(); {program}")


async def start(program: str, ready: type[R]) -> Process[R]:
    """Start a process with an order."""
    return await Process.start("odd", child(program), START, ready)


def test_a_process_is_ready_when_it_says_so() -> None:
    """Its answer is kept; it gets its first order and later ones as lines."""

    async def work() -> str:
        process = await start(ECHO, WorkerReady)
        process.send(LATER)
        assert await process.wait() == len(to_line(LATER)) % 251
        process.send(LATER)  # nobody reads it
        return process.ready.address

    assert asyncio.run(work()) == to_line(START).decode()


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (
            'print(\'{"kind": "Failed", "error": "no disk", "fix": "buy one"}\')',
            RelatedNewsError("no disk", fix="buy one"),
        ),
        ("pass", UnavailableError("the odd process ended without a word", fix="its log is above")),
        (
            "print('Loading weights...')",
            InvalidInputError("line from the odd process", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ),
    ],
)
def test_a_process_that_cannot_work_is_an_error(program: str, expected: RelatedNewsError) -> None:
    """The error is the one that the process reports, or says that it reported none; the process has ended then."""
    with pytest.raises(type(expected)) as caught:
        asyncio.run(start(program, Compacted))
    assert str(caught.value) == str(expected)


def test_a_process_starts_at_its_niceness() -> None:
    """The niceness holds before the process does anything."""

    async def niceness(wanted: int) -> int:
        program = 'import os; print(\'{"kind": "WorkerReady", "address": "%d"}\' % os.nice(0), flush=True)'
        process = await Process.start("odd", child(program), START, WorkerReady, niceness=wanted)
        await process.wait()
        return int(process.ready.address)

    own = os.nice(0)
    assert asyncio.run(niceness(0)) == own
    assert asyncio.run(niceness(own + 3)) == own + 3


def youngest_child() -> int:
    """Return the id of the child process that was started last."""
    return int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])


def test_a_process_waits_for_its_first_order() -> None:
    """A process is started at once, gets its order when what must come before is done, and is killed if that fails."""
    pids = []

    async def work(*, fails: bool) -> str:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def before() -> None:
            begun.set()
            await go_on.wait()
            if fails:
                raise StorageError("no snapshot", fix="index something")

        starting = asyncio.create_task(Process.start("odd", child(ECHO), START, WorkerReady, after=before()))
        await begun.wait()
        pids.append(youngest_child())
        assert not starting.done()
        go_on.set()
        return (await starting).ready.address

    assert asyncio.run(work(fails=False)) == to_line(START).decode()
    with pytest.raises(StorageError, match="no snapshot"):
        asyncio.run(work(fails=True))
    assert not Path(f"/proc/{pids[1]}").exists()


def test_a_process_that_does_not_finish_is_killed() -> None:
    """A process is told to finish first, and is killed when its time is over."""

    async def work() -> int:
        process = await start(DEAF, Compacted)
        await process.end(0.1)
        return await process.wait()

    assert asyncio.run(work()) == -signal.SIGKILL


# A process's own side

SAYS = """
import logging
from recommender.processes.child import run_child
from recommender.processes.orders import StartEncoder, WorkerReady

async def work(orders):
    orders.ready(WorkerReady(address=orders.first.address))
    async for order in orders:
        logging.getLogger("recommender").error("now %s", order.settings.log_level)

run_child(StartEncoder, work)
"""


def test_a_process_skips_an_order_that_it_cannot_read() -> None:
    """The order is logged; those after it are followed, and the end of the input ends the process."""
    first = StartEncoder(settings=Settings(), model="m", address="here")
    lines = [to_line(first), b"nonsense\n", to_line(first), to_line(NewSettings(settings=Settings(log_level="ERROR")))]
    command, given = [sys.executable, "-c", SAYS], b"".join(lines)
    done = subprocess.run(
        command, input=given, capture_output=True, env=environment(), cwd=ROOT, timeout=60, check=True
    )
    assert done.stdout == to_line(WorkerReady(address="here"))
    skipped = "ERROR {} recommender.processes.child: order skipped: line from the supervisor: is not "
    logged = [re.sub(r"^\S+ \S+ (\w+) \d+", r"\1 {}", line) for line in done.stderr.decode().splitlines()]
    assert logged == [
        f"{skipped}JSON: Expecting value: line 1 column 1 (char 0)",
        f"{skipped}of the kind NewSettings",
        "ERROR {} recommender: now ERROR",
    ]


@pytest.mark.parametrize("line", [b"", b"nonsense\n", to_line(LATER)], ids=["none", "no JSON", "another kind"])
def test_a_process_reports_a_first_order_that_it_cannot_read(line: bytes) -> None:
    """The supervisor gets the problem as the process's answer."""
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        input=line,
        capture_output=True,
        env=environment(),
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    answer = from_line(done.stdout, Failed, sender="child")
    assert answer.error.startswith("line from the supervisor: is not ")
    assert (done.returncode, done.stderr) == (1, b"")


# Restarting


class Ended:
    """A process that has ended already, or never ends."""

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
    """After an error of ours, of the system, or one that nobody thought of, the worker comes back once it can."""
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
            restarting = asyncio.create_task(one._restart_whenever_it_ends(Ended(), starting))
            await asyncio.wait_for(started.wait(), 10)
            restarting.cancel()
            await asyncio.gather(restarting, return_exceptions=True)

    asyncio.run(work())


def test_a_snapshot_that_fails_is_tried_again_whatever_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compaction goes on, however often and for whatever reason it failed."""
    for name in ("_COMPACTION_CHECK_S", "_COMPACTION_RETRY_S"):
        monkeypatch.setattr(supervisor_module, name, 0.001)
    reasons: list[Exception] = [StorageError("no disk"), OSError("no memory"), ValueError("no JSON")]
    written = asyncio.Event()

    async def write(*, only_if_missing: bool) -> None:
        assert not only_if_missing
        if reasons:
            raise reasons.pop(0)
        written.set()

    async def work() -> None:
        one = supervisor(tmp_path)
        monkeypatch.setattr(one, "_compact", write)
        monkeypatch.setattr(one, "_snapshot_is_due", lambda: True)
        with closing(one._store):
            compacting = asyncio.create_task(one._compact_when_due())
            await asyncio.wait_for(written.wait(), 10)
            compacting.cancel()
            await asyncio.gather(compacting, return_exceptions=True)

    asyncio.run(work())


# Stopping before it has begun


def slow_folder(folder: Path) -> Path:
    """Make an index whose model loads only once the gate is opened."""
    embedder = FakeEmbedder("dawdle")
    store = create_store(folder / STORE_FILE, embedder.info.key)
    store.close()
    os.mkfifo(folder / GATE)
    return folder


@pytest.mark.parametrize(("number", "snapshot"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_start_that_takes_long_can_be_stopped(tmp_path: Path, number: signal.Signals, snapshot: bool) -> None:
    """A model that loads for minutes, or a snapshot that is written for minutes, does not delay the stop."""
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
