"""One indexing run at a time in one data folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recommender.errors import AlreadyRunningError, StorageError

LOCK_FILE = "index.lock"


@contextmanager
def only_run(data_dir: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it however the process ends.

    Raises AlreadyRunningError naming the process that holds it, StorageError if the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        stream = (data_dir / LOCK_FILE).open("a+")
    except OSError as error:
        raise StorageError(
            f"{data_dir}: cannot be written: {error.strerror}",
            fix="make data_dir writable for this user, or choose another",
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise AlreadyRunningError(
                f"{data_dir}: another indexing run (process {holder}) is writing here", fix="wait for it, or end it"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
