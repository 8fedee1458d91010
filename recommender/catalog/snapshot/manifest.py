"""The manifest of a snapshot, and which snapshot is the current one. Reads no array.

A snapshot is a folder. manifest.json in it says what it is an image of, and names every other file with its size and
checksum. The file CURRENT beside the folders names the snapshot to use. Each is put in place by one rename, so that
nobody reads a half-written one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recommender.errors import CorruptError, MismatchError

FORMAT = 3
"""Version of a snapshot's files; this release reads no other."""
MANIFEST = "manifest.json"
"""Name of the manifest in a snapshot's folder."""
CURRENT = "CURRENT"
"""Name of the file that names the current snapshot."""
UNFINISHED = "new-"
"""Prefix of the names of folders that are still being written."""
FIX = "an older snapshot is used, or it is rebuilt from the store"
"""The advice in the errors of a damaged snapshot."""
_BLOCK_BYTES = 1 << 18
"""Bytes that are read and added to a checksum at a time."""
_CHECK_THREADS = 4
"""Files whose checksums are computed at the same time."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size in bytes and CRC-32 of one file."""

    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is an image of.

    revision: of the store. encoder, analysis: versions of what made its vectors and terms.
    statistics: version of the store's term statistics, which terms are weighed by.
    trained_rows: number of rows when the product quantizer was trained.
    created_at_ms: milliseconds since the epoch, UTC.
    files: every file but the manifest, by name.
    """

    format: int
    revision: int
    encoder: str
    analysis: str
    statistics: int
    dimension: int
    rows: int
    trained_rows: int
    created_at_ms: int
    files: dict[str, FileEntry]

    def to_json(self) -> str:
        """Return the manifest as indented JSON, with a checksum of its other values."""
        values = asdict(self)
        return json.dumps({**values, "checksum": _checksum(values)}, indent=1, sort_keys=True)

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read a snapshot's manifest.

        Raises CorruptError if it is missing or unreadable, MismatchError if another release wrote it.
        """
        path = folder / MANIFEST
        try:
            values = json.loads(path.read_text("utf-8"))
            if values["format"] != FORMAT:
                raise MismatchError(f"{path} has format {values['format']}, this release reads {FORMAT}", fix=FIX)
            if values.pop("checksum") != _checksum(values):
                raise ValueError("its checksum differs")
            values["files"] = {name: FileEntry(**entry) for name, entry in values["files"].items()}
            return Manifest(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{path}: unreadable: {error}", fix=FIX) from error

    def check_files(self, folder: Path, *, verify: bool, verified: Collection[str] = ()) -> None:
        """Raise CorruptError naming a file that is missing or has another size or, with `verify`, another checksum.

        verified: names of files whose checksums need not be compared.

        Several files are read at once, the largest first: a checksum takes 0.4 s a gigabyte and does not hold the GIL.
        """

        def check(name: str) -> None:
            check_file(folder / name, self.files[name], verify=verify and name not in verified)

        with ThreadPoolExecutor(_CHECK_THREADS) as pool:
            check_all = pool.map if verify else map
            for _ in check_all(check, sorted(self.files, key=lambda name: -self.files[name].size)):
                pass


def current_snapshot(folder: Path) -> Path | None:
    """Return the folder of the current snapshot under `folder`, or None if there is none."""
    try:
        name = (folder / CURRENT).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return folder / name if name and (folder / name).is_dir() else None


def finished_snapshots(folder: Path) -> list[Path]:
    """Return the folders of all finished snapshots under `folder`, the current one first, then the newest."""
    current = current_snapshot(folder)
    finished = sorted((p for p in _folders(folder) if not p.name.startswith(UNFINISHED)), reverse=True)
    return sorted(finished, key=lambda path: path != current)


def unfinished_snapshots(folder: Path) -> list[Path]:
    """Return the folders that are being written, or were when their writer died."""
    return [path for path in _folders(folder) if path.name.startswith(UNFINISHED)]


def crc32_of(path: Path) -> int:
    """Return the CRC-32 of a file's bytes."""
    checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def check_file(path: Path, entry: FileEntry, *, verify: bool, fix: str = FIX) -> None:
    """Raise CorruptError if a file is missing or has another size or, with `verify`, another checksum."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CorruptError(f"{path}: {error.strerror}", fix=fix) from error
    if size != entry.size:
        raise CorruptError(f"{path}: {size} bytes, expected {entry.size}", fix=fix)
    if verify and crc32_of(path) != entry.crc32:
        raise CorruptError(f"{path}: its checksum differs from the manifest's", fix=fix)


def _checksum(manifest: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())
