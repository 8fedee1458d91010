"""The roster: which processes serve a data folder and how far each is; a process that is too slow is killed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from recommender.errors import StorageError, UnavailableError
from recommender.serving import roster as roster_module
from recommender.serving.roster import ROSTER, SEATS_MAX, Roster, Seat, open_roster
from tests import ROOT

REVISION_AT = 480
"""Where on a seat its revision stands."""
SITTER = """
import asyncio, sys
from pathlib import Path
from recommender.serving.roster import Seat

async def main():
    seat = Seat(Path(sys.argv[1]), int(sys.argv[2]), "unix:encoder")
    if sys.argv[3] == "follows":
        loop = asyncio.get_running_loop()
        seat.on_notify(lambda: loop.call_later(0.05, seat.report, int(sys.argv[2]) + 1))
    print("seated", flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
"""Takes a seat until its standard input ends; "follows": is one revision further soon after it is notified."""


@contextmanager
def sitter(data_dir: Path, revision: int = 5, *, does: str = "sits") -> Iterator[subprocess.Popen[str]]:
    """Start another process that takes a seat; it is killed at the end."""
    command = [sys.executable, "-c", SITTER, str(data_dir), str(revision), does]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "seated\n"
            yield process
        finally:
            process.kill()


def killed_by(data_dir: Path, revision: int, timeout_s: float, *, notifies: bool = False) -> tuple[list[int], float]:
    """Take a seat and wait for all others; returns who was taken out, and how long that took, seconds."""

    async def wait() -> tuple[list[int], float]:
        seat = Seat(data_dir, revision)
        seat.on_notify(lambda: None)
        begun = time.monotonic()
        if notifies:
            seat.notify_others()
        try:
            return await seat.wait_for_others(revision, timeout_s), time.monotonic() - begun
        finally:
            seat.leave()

    return asyncio.run(wait())


@pytest.fixture
def roster(tmp_path: Path) -> Iterator[Roster]:
    """Return the roster of a folder that nobody serves, to look at it."""
    with open_roster(tmp_path) as roster:
        yield roster


def taken(roster: Roster) -> list[int]:
    """Return the numbers of the seats that are taken."""
    return [number for number in range(SEATS_MAX) if roster.is_taken(number)]


# Seats


def test_nobody_serves_a_new_folder(roster: Roster) -> None:
    """No seat is taken, and no process is waited for."""
    assert taken(roster) == []
    assert list(roster.others()) == []


def test_a_seat_names_its_process_and_its_revision(tmp_path: Path, roster: Roster) -> None:
    """Others read process, socket, encoder and revision; a process's own seat is not among the others."""
    with ExitStack() as stack:
        mine, yours = (stack.enter_context(open_roster(tmp_path)) for _ in range(2))
        first, second = mine.take("socket", "unix:encoder", 7), yours.take("other", "", 8)
        assert (first, second) == (0, 1)
        seats = [(s.number, s.pid, s.socket_name, s.encoder) for s in roster.others()]
        assert seats == [(0, os.getpid(), "socket", "unix:encoder"), (1, os.getpid(), "other", "")]
        assert [seat.number for seat in mine.others(first)] == [second]
        assert (roster.revision(0), roster.revision(1)) == (7, 8)
        mine.report(first, 2**40)
        assert roster.revision(0) == 2**40
    assert taken(roster) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "normal end"])
def test_a_seat_is_free_however_its_process_ends(tmp_path: Path, roster: Roster, number: signal.Signals | None) -> None:
    """What is still written there is ignored, and the next process takes that seat."""
    with sitter(tmp_path) as process:
        assert [seat.pid for seat in roster.others()] == [process.pid]
        if number is None:
            process.communicate()
        else:
            process.send_signal(number)
        process.wait()
        assert taken(roster) == []
        assert list(roster.others()) == []
        assert os.pread(os.open(tmp_path / ROSTER, os.O_RDONLY), 7, 0) == b'{"pid":', "it is still written there"
    with open_roster(tmp_path) as next_one:
        assert next_one.take("socket", "", 1) == 0


def test_a_seat_counts_only_once_it_is_written(tmp_path: Path, roster: Roster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between taking a seat and writing it, nobody reads what the former process wrote there."""
    seen: list[list[int]] = []
    real = os.pwrite

    def look_first(*arguments: int | bytes) -> int:
        seen.append([seat.pid for seat in roster.others()])
        return real(*arguments)  # type: ignore[arg-type]

    with open_roster(tmp_path) as before:
        before.take("socket", "", 99)
    with open_roster(tmp_path) as mine:
        monkeypatch.setattr(os, "pwrite", look_first)
        mine.take("socket", "", 1)
        assert seen == [[], []]
        assert [seat.pid for seat in roster.others()] == [os.getpid()]


def test_the_number_of_seats_is_limited(tmp_path: Path) -> None:
    """The next process is refused; a seat that becomes free can be taken."""
    with ExitStack() as stack:
        sitting = [stack.enter_context(open_roster(tmp_path)) for _ in range(SEATS_MAX)]
        assert [one.take(str(i), "", i) for i, one in enumerate(sitting)] == list(range(SEATS_MAX))
        with open_roster(tmp_path) as late:
            with pytest.raises(UnavailableError) as caught:
                late.take("socket", "", 1)
            assert str(caught.value) == (
                f"{SEATS_MAX} processes serve this data folder already (serve with fewer workers)"
            )
            os.close(sitting[17]._descriptor)
            assert late.take("socket", "", 1) == 17
            sitting[17]._descriptor = os.open(tmp_path / ROSTER, os.O_RDONLY)


def test_a_half_written_revision_is_not_read(tmp_path: Path, roster: Roster) -> None:
    """Two halves that differ are no revision: the reader reads again."""
    with open_roster(tmp_path) as mine:
        number = mine.take("socket", "", 7)
        with (tmp_path / ROSTER).open("r+b") as stream:
            stream.seek(REVISION_AT)
            stream.write((2**40).to_bytes(8, "little"))
        assert roster.revision(number) == 0
        mine.report(number, 8)
        assert roster.revision(number) == 8


def test_a_damaged_seat_is_skipped(tmp_path: Path, roster: Roster) -> None:
    """A seat that cannot be read is neither waited for nor killed, whoever damaged the file."""
    with open_roster(tmp_path) as mine:
        mine.take("socket", "", 7)
        for rubbish in (b"\xff" * REVISION_AT, json.dumps({"pid": 1}).encode().ljust(REVISION_AT, b"\0"), b"3"):
            with (tmp_path / ROSTER).open("r+b") as stream:
                stream.write(rubbish)
            assert list(roster.others()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error names the file, the system's reason and the fix."""
    (tmp_path / ROSTER).mkdir()
    with pytest.raises(StorageError) as caught:
        Roster(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / ROSTER}: cannot be written: Is a directory (make data_dir writable for this user, free space)"
    )


_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from recommender.serving.roster import Roster
from recommender.errors import StorageError
folder = Path(sys.argv[1])
if sys.argv[2] == "there":
    Roster(folder).close()
with (folder / "filler").open("wb", buffering=0) as stream:
    try:
        while stream.write(bytes(4096)):
            pass
    except OSError:
        pass
try:
    roster = Roster(folder)
    number = roster.take("socket", "", 7)
    roster.report(number, 8)
    print(roster.revision(number))
except StorageError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("file", ["there", "not there"])
def test_a_seat_can_be_taken_on_a_full_disk(tmp_path: Path, file: str) -> None:
    """An existing file already has its full size; the error names one that cannot be created."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"mount -t tmpfs -o size=1m none {disk}; exec {shlex.quote(sys.executable)} - {disk} '{file}'"
    try:
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script], input=_ON_A_FULL_DISK, capture_output=True, text=True, cwd=ROOT
        )
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    if "mount" in ended.stderr and "Traceback" not in ended.stderr:
        pytest.skip(f"this user may not mount: {ended.stderr.strip()}")
    refused = f"{disk / ROSTER}: cannot be written: No space left on device"
    assert ended.stdout.startswith("8\n" if file == "there" else refused), ended.stderr


# Waiting for others


def test_a_process_does_not_wait_for_itself(tmp_path: Path) -> None:
    """A process's own seat is not among the others."""
    pids, seconds = killed_by(tmp_path, 7, 5.0)
    assert (pids, seconds < 1) == ([], True)


@pytest.mark.slow
def test_a_process_that_is_up_to_date_is_not_waited_for(tmp_path: Path) -> None:
    """The same revision is enough, and so is a later one."""
    with sitter(tmp_path, 7), sitter(tmp_path, 8) as process:
        pids, seconds = killed_by(tmp_path, 7, 5.0)
        assert (pids, seconds < 1, process.poll()) == ([], True, None)


@pytest.mark.slow
def test_a_process_that_is_notified_and_catches_up_is_waited_for(tmp_path: Path) -> None:
    """The other process receives the notification, and its report is read here."""
    with sitter(tmp_path, 6, does="follows") as process:
        pids, seconds = killed_by(tmp_path, 7, 5.0, notifies=True)
        assert (pids, process.poll()) == ([], None)
        assert 0.04 < seconds < 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [None, signal.SIGSTOP], ids=["does not come", "hangs"])
def test_a_process_that_is_too_slow_is_killed(
    tmp_path: Path, roster: Roster, caplog: pytest.LogCaptureFixture, number: signal.Signals | None
) -> None:
    """It is gone when the wait ends, and the log says so; a process that is up to date is left alone."""
    with sitter(tmp_path, 5) as late, sitter(tmp_path, 7) as other:
        if number:
            late.send_signal(number)
        pids, seconds = killed_by(tmp_path, 7, 0.2)
        assert pids == [late.pid]
        assert [seat.pid for seat in roster.others()] == [other.pid]
        assert late.wait() == -signal.SIGKILL
        assert other.poll() is None
        assert 0.2 <= seconds < 5
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line == f"process {late.pid} does not apply changes in time; it is taken out of service"


@pytest.mark.slow
def test_a_process_that_dies_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    """A seat that becomes free is not waited for."""
    with sitter(tmp_path, 5) as process:

        async def wait() -> tuple[list[int], float]:
            seat = Seat(tmp_path, 7)
            seat.on_notify(lambda: None)
            begun = time.monotonic()
            asyncio.get_running_loop().call_later(0.1, process.kill)
            pids = await seat.wait_for_others(7, 20.0)
            seat.leave()
            return pids, time.monotonic() - begun

        pids, seconds = asyncio.run(wait())
        assert (pids, seconds < 10) == ([], True)


@pytest.mark.slow
def test_a_process_that_takes_a_freed_seat_is_not_waited_for(tmp_path: Path) -> None:
    """It reads the change log after it took the seat, and it is not killed in place of the former process."""
    with sitter(tmp_path, 5) as late, ExitStack() as stack:

        async def wait() -> list[int]:
            seat = Seat(tmp_path, 7)
            seat.on_notify(lambda: None)

            def replace() -> None:
                late.kill()
                late.wait()
                stack.enter_context(sitter(tmp_path, 5))

            waiting = asyncio.create_task(seat.wait_for_others(7, 20.0))
            await asyncio.sleep(0.05)
            replace()
            pids = await asyncio.wait_for(waiting, 10)
            seat.leave()
            return pids

        assert asyncio.run(wait()) == []


@pytest.mark.parametrize("namespace", [None, "pid:[1]"], ids=["this process", "another container's"])
def test_a_write_is_not_acknowledged_while_a_process_that_cannot_be_killed_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespace: str | None
) -> None:
    """The same number is another process in another container, and must not be killed here."""
    killed: list[Sequence[int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    with open_roster(tmp_path) as mine, monkeypatch.context() as patch:
        if namespace:
            patch.setattr(roster_module, "_namespace", lambda: namespace)
            patch.setattr(os, "getpid", lambda: 1)
        mine.take("socket", "", 5)
        patch.undo()
        with pytest.raises(
            UnavailableError, match=r"this is stored, but processes \[\d+\] may still answer without it"
        ):
            killed_by(tmp_path, 7, 0.05)
        mine.report(0, 7)
        assert killed_by(tmp_path, 7, 0.05)[0] == []
    assert killed == []
