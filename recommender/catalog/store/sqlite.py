"""SQLite connections, and its errors as this project's errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from recommender.errors import CorruptError, DiskFullError, RelatedNewsError, StorageError, UnavailableError

BUSY_TIMEOUT_S = 5.0
"""Limits the wait for another writer's transaction."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a database in write-ahead mode, every commit on disk. The caller begins each transaction itself."""
    with translated_errors(path):
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def copy_database(path: Path, target: Path) -> None:
    """Copy a database as of one moment, while others write to it, and check the copy.

    All pages are copied in one step: in several, each write between them would restart the copy. Raises CorruptError if
    the database is damaged.
    """
    with translated_errors(target), closing(connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy, pages=-1)
        with translated_errors(path):  # damage of the copy is damage of the original
            (result,) = copy.execute("PRAGMA integrity_check").fetchone()
        if result != "ok":
            raise CorruptError(f"{path}: is damaged: {result}", fix="restore the store from a backup")


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as this project's errors, which name the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translated(error, path) from error


def _translated(error: sqlite3.DatabaseError, path: Path) -> RelatedNewsError:
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
