"""One indexing run at a time in a data folder, whatever becomes of the process that holds it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recommender.catalog.store.locks import INDEX_LOCK, exclusive_run
from recommender.errors import AlreadyRunningError, StorageError

ROOT = Path(__file__).parents[4]
HOLDER = """
import sys
from pathlib import Path
from recommender.catalog.store.locks import exclusive_run

with exclusive_run(Path(sys.argv[1])):
    print("holding", flush=True)
    sys.stdin.read()
"""
"""Holds a folder's lock until its standard input ends."""


@contextmanager
def holder(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Start another process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLDER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_second_run_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    """While another process holds the folder, a run is refused at once with that process's id and what to do."""
    with holder(tmp_path) as process, pytest.raises(AlreadyRunningError) as caught, exclusive_run(tmp_path):
        pytest.fail("it got the lock")
    assert str(caught.value) == (
        f"{tmp_path}: another indexing run (process {process.pid}) is writing here (wait for it, or end it)"
    )


def test_a_second_run_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    """Two threads or two calls of one program do not share the lock; after the refusal the first one still has it."""
    with exclusive_run(tmp_path):
        for _ in range(2):
            with pytest.raises(AlreadyRunningError, match=rf"\(process {os.getpid()}\)"), exclusive_run(tmp_path):
                pytest.fail("it got the lock")


def test_a_holder_that_has_not_said_its_process_is_unknown(tmp_path: Path) -> None:
    """Between taking the lock and writing its id there is a moment; the refusal is as clear without the id."""
    with (tmp_path / INDEX_LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunningError, match=r"\(process unknown\) is writing here"), exclusive_run(tmp_path):
            pytest.fail("it got the lock")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "normal end"])
def test_the_lock_is_free_however_its_holder_ends(tmp_path: Path, number: signal.Signals | None) -> None:
    """Nothing has to be cleaned up by hand: the system lets go of the lock, the file that stays does not matter."""
    with holder(tmp_path) as process:
        if number is None:
            process.communicate()
        else:
            process.send_signal(number)
        process.wait()
        assert (tmp_path / INDEX_LOCK).read_text() == str(process.pid)
        with exclusive_run(tmp_path):
            assert (tmp_path / INDEX_LOCK).read_text() == str(os.getpid())


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    """A run that fails does not keep the next one of the same process out."""
    with pytest.raises(ZeroDivisionError), exclusive_run(tmp_path):
        raise ZeroDivisionError
    with exclusive_run(tmp_path):
        assert (tmp_path / INDEX_LOCK).exists()


@pytest.mark.slow
def test_folders_do_not_lock_each_other_and_are_made(tmp_path: Path) -> None:
    """Each data folder has a lock of its own; a folder that is not there yet is made, with its parents."""
    with holder(tmp_path / "one"), exclusive_run(tmp_path / "two" / "nested"):
        assert (tmp_path / "two" / "nested" / INDEX_LOCK).exists()


@pytest.mark.parametrize(
    ("below", "problem"),
    [("file", "File exists"), ("file/data", "Not a directory"), ("folder", "Is a directory")],
    ids=["a file", "inside a file", "the lock is a folder"],
)
def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path, below: str, problem: str) -> None:
    """The folder, the system's reason and the remedy are in the message."""
    (tmp_path / "file").touch()
    (tmp_path / "folder" / INDEX_LOCK).mkdir(parents=True)
    data_dir = tmp_path / below
    with pytest.raises(StorageError) as caught, exclusive_run(data_dir):
        pytest.fail("it got the lock")
    assert str(caught.value) == (
        f"{data_dir}: cannot be written: {problem} (make data_dir writable for this user, or choose another)"
    )
