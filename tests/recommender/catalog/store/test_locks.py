"""Locks: one indexing run at a time in a data folder, however the process that holds it ends."""

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
from tests import ROOT

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
def test_a_second_run_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    """While another process holds the folder, a run is refused at once; the error names that process and the fix."""
    with holder(tmp_path) as process, pytest.raises(AlreadyRunningError) as caught, exclusive_run(tmp_path):
        pytest.fail("it got the lock")
    assert str(caught.value) == (
        f"{tmp_path}: another indexing run (process {process.pid}) is writing here (wait for it, or end it)"
    )


def test_a_second_run_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    """Two threads or calls of one process do not share the lock; the first one still holds it after the refusal."""
    with exclusive_run(tmp_path):
        for _ in range(2):
            with pytest.raises(AlreadyRunningError, match=rf"\(process {os.getpid()}\)"), exclusive_run(tmp_path):
                pytest.fail("it got the lock")


def test_a_holder_that_has_not_written_its_id_is_unknown(tmp_path: Path) -> None:
    """A process takes the lock a moment before it writes its id; the refusal then names an unknown process."""
    with (tmp_path / INDEX_LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunningError, match=r"\(process unknown\) is writing here"), exclusive_run(tmp_path):
            pytest.fail("it got the lock")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "normal end"])
def test_the_lock_is_free_however_its_holder_ends(tmp_path: Path, number: signal.Signals | None) -> None:
    """The system releases the lock of a process that ends; the file that remains needs no cleaning up."""
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
    """A run that fails does not exclude the next one of the same process."""
    with pytest.raises(ZeroDivisionError), exclusive_run(tmp_path):
        raise ZeroDivisionError
    with exclusive_run(tmp_path):
        assert (tmp_path / INDEX_LOCK).exists()


@pytest.mark.slow
def test_each_folder_has_its_own_lock_and_is_created(tmp_path: Path) -> None:
    """Each data folder has its own lock; a missing folder is created with its parents."""
    with holder(tmp_path / "one"), exclusive_run(tmp_path / "two" / "nested"):
        assert (tmp_path / "two" / "nested" / INDEX_LOCK).exists()


@pytest.mark.parametrize(
    ("below", "problem"),
    [("file", "File exists"), ("file/data", "Not a directory"), ("folder", "Is a directory")],
    ids=["a file", "inside a file", "the lock is a folder"],
)
def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path, below: str, problem: str) -> None:
    """The message names the folder, the system's reason and the fix."""
    (tmp_path / "file").touch()
    (tmp_path / "folder" / INDEX_LOCK).mkdir(parents=True)
    data_dir = tmp_path / below
    with pytest.raises(StorageError) as caught, exclusive_run(data_dir):
        pytest.fail("it got the lock")
    assert str(caught.value) == (
        f"{data_dir}: cannot be written: {problem} (make data_dir writable for this user, or choose another)"
    )
