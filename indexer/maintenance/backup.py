"""Back up a data folder consistently while it is served and written to, and restore it.

A backup is a folder: the store, the current snapshot if there is one, and backup.json, which lists every file with its
size and checksum. The snapshot is copied first and the store after it, in one read transaction, so that the store has
every change of the snapshot.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.files import disk_errors, flush
from recommender.catalog.snapshot.manifest import (
    FileEntry,
    Manifest,
    check_file,
    crc32_of,
    current_snapshot,
    finished_snapshots,
)
from recommender.catalog.snapshot.writer import make_current
from recommender.catalog.store.locks import exclusive_run
from recommender.catalog.store.sqlite import copy_database
from recommender.catalog.store.store import open_store
from recommender.clock import now_ms
from recommender.errors import (
    CorruptError,
    InvalidInputError,
    MismatchError,
    NotFoundError,
)

ABOUT = "backup.json"
"""Name of the file that describes the backup."""
FORMAT = 1
"""Version of that file; another version is refused."""
_TRIES = 3
"""Attempts to copy a snapshot that is replaced meanwhile."""
_FULL, _FAILED = "no space left", "cannot be written"
"""What the messages of disk errors say after the folder's name."""
_ARRIVING = f"{STORE_FILE}.new"
"""Name of the store until it is whole."""


@dataclass(frozen=True, slots=True)
class About:
    """Describes a backup. made_at_ms: UTC. files: every other file, by its path in the backup."""

    format: int
    made_at_ms: int
    revision: int
    articles: int
    encoder: str
    files: dict[str, FileEntry]


def back_up(data_dir: Path, target: Path) -> About:
    """Copy a data folder to `target`, which must not exist or be empty; the service keeps running.

    Raises NotFoundError if there is no index, InvalidInputError if `target` is not empty, DiskFullError or StorageError
    if it cannot be written; then nothing remains there.
    """
    store = open_store(data_dir / STORE_FILE)
    with closing(store), _written_whole(target) as folder:
        _copy_snapshot(data_dir / SNAPSHOTS, folder / SNAPSHOTS)
        copy_database(store.path, folder / STORE_FILE)
        copy = open_store(folder / STORE_FILE)
        with closing(copy):
            revision, articles, encoder = copy.revision(), copy.count(), copy.encoder
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            flush(path)
        entries = {str(p.relative_to(folder)): FileEntry(p.stat().st_size, crc32_of(p)) for p in files}
        about = About(FORMAT, now_ms(), revision, articles, encoder, entries)
        (folder / ABOUT).write_text(json.dumps(asdict(about), indent=1) + "\n", "utf-8")
        flush(folder / ABOUT)
        return about


def restore(backup: Path, data_dir: Path) -> About:
    """Restore a backup to `data_dir`, which must not have an index.

    Files that a removed index left there are deleted first: its log, which SQLite would read into the new store, and
    its snapshots. Raises NotFoundError if `backup` is no backup, CorruptError naming a file that differs from what was
    copied, InvalidInputError if `data_dir` has an index, StorageError if it is not writable; nothing is restored then.
    """
    about = read_about(backup)
    for name, entry in about.files.items():
        check_file(backup / name, entry, verify=True, fix="use another backup")
    with disk_errors(data_dir, _FULL, _FAILED), exclusive_run(data_dir):
        if (data_dir / STORE_FILE).exists():
            raise InvalidInputError(str(data_dir), "has an index already", fix="choose another data_dir, or remove it")
        with _removed_on_failure(data_dir / SNAPSHOTS, data_dir / _ARRIVING):
            _remove(*_leftovers(data_dir))
            for name in about.files:
                copy = data_dir / (_ARRIVING if name == STORE_FILE else name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(backup / name, copy)
                flush(copy)
            for snapshot in finished_snapshots(data_dir / SNAPSHOTS):
                make_current(snapshot)
            (data_dir / _ARRIVING).rename(data_dir / STORE_FILE)
            flush(data_dir)
    return about


def read_about(backup: Path) -> About:
    """Read the description of a backup. Raises NotFoundError if it is no backup, CorruptError if it is unreadable."""
    try:
        values = json.loads((backup / ABOUT).read_text("utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']}, this release reads {FORMAT}")
        values["files"] = {_inside(name): FileEntry(**entry) for name, entry in dict(values["files"]).items()}
        return About(**values)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError("backup", str(backup), fix="name a folder that `related-news backup` made") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{backup / ABOUT}: unreadable: {error}", fix="use another backup") from None


def _inside(name: str) -> str:
    """Return a file's path in a backup. Raises ValueError if it leads out of it."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name!r} is not in it")
    return name


def _copy_snapshot(folder: Path, target: Path) -> None:
    """Copy the current snapshot, or the one that replaces it meanwhile; without one, the restored index writes one."""
    for _ in range(_TRIES):
        current = current_snapshot(folder)
        if current is None:
            return
        copy = target / current.name
        try:
            copy.mkdir(parents=True)
            for path in current.iterdir():
                shutil.copyfile(path, copy / path.name)
            Manifest.read(copy).check_files(copy, verify=True)
            return
        except (CorruptError, MismatchError, FileNotFoundError):
            _remove(target)


def _leftovers(data_dir: Path) -> Iterator[Path]:
    """Yield the files that an index whose store was removed may have left."""
    yield data_dir / SNAPSHOTS
    yield from (data_dir / f"{STORE_FILE}{end}" for end in ("-wal", "-shm", "-journal"))


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _written_whole(target: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to `target` when it is complete, or remove it."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInputError(str(target), "is not empty", fix="name a folder that does not exist yet")
    whole = target.absolute()
    arriving = whole.with_name(f".{whole.name}.{uuid.uuid4().hex[:8]}")
    with disk_errors(target, _FULL, _FAILED):
        try:
            arriving.mkdir(parents=True)
            yield arriving
            with suppress(FileNotFoundError):
                whole.rmdir()
            arriving.rename(whole)
            flush(whole.parent)
        except BaseException:
            shutil.rmtree(arriving, ignore_errors=True)
            raise


@contextmanager
def _removed_on_failure(*paths: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _remove(*paths)
        raise
