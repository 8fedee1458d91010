"""What a snapshot is an image of, which files it has, and which snapshot is the current one. Knows no array.

A snapshot is a folder. manifest.json names every other file with its size and checksum; the file CURRENT beside the
folders names the one to use. Both are put in place by one rename each, so that neither is ever seen half-written.
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
MANIFEST = "manifest.json"
CURRENT = "CURRENT"
UNFINISHED = "new-"
"""The name of a folder that is still being written begins so."""
FIX = "an older snapshot is used, or it is rebuilt from the store"
_BLOCK_BYTES = 1 << 18
_CHECKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a snapshot: bytes, and CRC-32 of them."""

    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is an image of.

    statistics: version of the store's term statistics that words are weighed by. trained_rows: rows that there
    were when the codebooks of its compressed vectors were made. created_at_ms: UTC.
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
        """Return the manifest as readable JSON, with a checksum over the rest of it."""
        values = asdict(self)
        return json.dumps({**values, "checksum": _checksum(values)}, indent=1, sort_keys=True)

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read a snapshot's manifest. Raises CorruptError if it is missing or unreadable, MismatchError if not ours."""
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

    def check_files(self, folder: Path, *, verify: bool, whole: Collection[str] = ()) -> None:
        """Raise CorruptError naming a file that is missing or not of its size, or, to verify, of its bytes.

        Several are read at once, the largest first: a checksum takes 0.4 s a gigabyte, and the GIL for none of it.
        whole: files whose bytes are known to be right.
        """

        def check(name: str) -> None:
            check_file(folder / name, self.files[name], verify=verify and name not in whole)

        with ThreadPoolExecutor(_CHECKED_AT_ONCE) as pool:
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
    """Return every folder that is being written, or was when its writer died."""
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
    """Raise CorruptError if a file is missing or not of its size, or, to verify, of its bytes."""
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
