"""How SQLite is opened, and what its errors mean here."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from recommender.errors import CorruptError, DiskFullError, RelatedNewsError, StorageError, UnavailableError

BUSY_TIMEOUT_S = 5.0


def connect(path: Path) -> sqlite3.Connection:
    """Open a database in write-ahead mode, every commit on disk; transactions are the caller's to begin."""
    with explained(path):
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def copy_database(path: Path, target: Path) -> None:
    """Copy a database as of one moment, while others write to it, and check the copy.

    In one step: in several, a writer in between would start the copy again. Raises CorruptError if it is damaged.
    """
    with explained(target), closing(connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy, pages=-1)
        with explained(path):  # what is wrong with the copy is wrong with the original
            (said,) = copy.execute("PRAGMA integrity_check").fetchone()
        if said != "ok":
            raise CorruptError(f"{path}: is damaged: {said}", fix="restore the store from a backup")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into this project's, naming the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _explain(error, path) from error


def _explain(error: sqlite3.DatabaseError, path: Path) -> RelatedNewsError:
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UnavailableError(f"{path}: another writer holds the store", fix="try again; its transaction is short")
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:  # no room for the log's index
        return DiskFullError(f"{path}: no space left; nothing of this write was kept", fix="free space, then try again")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StorageError(
            f"{path}: cannot be opened for writing: {error}", fix="make data_dir writable for this user, or move it"
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(f"{path}: is damaged: {error}", fix="restore the store from a backup")
    return StorageError(f"{path}: {error}", fix="check the disk")
