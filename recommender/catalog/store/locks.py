"""File locks: work in a data folder that one process at a time may do."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recommender.errors import AlreadyRunningError, StorageError

INDEX_LOCK = "index.lock"
"""Lock file of the process that indexes, reindexes or restores; it holds the process's id."""


@contextmanager
def exclusive_run(data_dir: Path) -> Iterator[None]:
    """Exclude other processes that index, reindex or restore; the lock ends with the process at the latest.

    Raises AlreadyRunningError naming the process that holds the lock, StorageError if the folder cannot be written.
    """
    path = data_dir / INDEX_LOCK
    with _open(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"{data_dir}: another indexing run (process {holder}) is writing here", fix="wait for it, or end it"
            ) from None
        with suppress(OSError):  # the disk is full: a refused process reads "unknown" then
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; wait until it is free."""
    with _open(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def _open(path: Path) -> Iterator[int]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(
            f"{path.parent}: cannot be written: {error.strerror}",
            fix="make data_dir writable for this user, or choose another",
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
