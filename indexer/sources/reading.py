"""Read input files in bounded memory: plain or gzip, whole or line by line."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recommender.errors import StorageError

LINE_BYTES_MAX = 32 * 2**20
"""Refuse longer lines; an article has at most a million characters."""
FILE_BYTES_MAX = 64 * 2**20
"""Refuse larger files of formats that are read whole (page, feed, text), also after decompression."""

_GZIP_MAGIC = b"\x1f\x8b"
"""The first bytes of gzip data."""
_MIB = 2**20


class UnreadableError(Exception):
    """The content of one file cannot be read. Becomes a BadRecord; never leaves indexer.sources."""


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line with its 1-based number. problem: why it has no data; empty if it has."""

    number: int
    data: bytes
    problem: str = ""


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open `path` for reading; decompress if its first bytes are those of gzip, whatever its name.

    Raises UnreadableError if the gzip data is truncated or damaged (also later, while reading), StorageError if the
    operating system refuses.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.peek(2)[:2] == _GZIP_MAGIC
            yield gzip.GzipFile(fileobj=raw) if zipped else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UnreadableError(f"the compressed data is torn or broken ({error}); compress the file again") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def read_lines(path: Path) -> Iterator[Line]:
    """Yield every line, newline included. Over-long lines are skipped and reported, truncated gzip too, which ends it.

    Raises StorageError if the operating system refuses.
    """
    number = 0
    try:
        with open_bytes(path) as stream:
            while data := stream.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(data) <= LINE_BYTES_MAX:
                    yield Line(number, data)
                else:
                    _skip_rest(stream, data)
                    yield Line(number, b"", f"the line is longer than {LINE_BYTES_MAX // _MIB} MiB; split the record")
    except UnreadableError as error:
        yield Line(number + 1, b"", f"{error}; reading stopped here")


def read_whole(path: Path, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Return the content, decompressed. Raises UnreadableError (truncated, over `bytes_max`) or StorageError."""
    with open_bytes(path) as stream:
        data = stream.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise UnreadableError(f"is larger than {bytes_max // _MIB} MiB; split it")
    return data


def read_head(path: Path, size_bytes: int = 65_536) -> bytes:
    """Return up to the first `size_bytes` bytes, decompressed; fewer if the gzip data is truncated."""
    data = b""
    try:
        with open_bytes(path) as stream:
            while len(data) < size_bytes and (more := stream.read1(size_bytes - len(data))):
                data += more
    except UnreadableError:
        pass
    return data


def list_files(root: Path, wanted: Callable[[str], bool]) -> list[Path]:
    """Return the files at or below `root` whose lower-case name is `wanted`, sorted by path.

    Hidden files and folders are left out; links to folders are not followed. A `root` that is a file is the only one.
    Broken links and folders that cannot be listed are included: reading one says what is wrong with it.
    Raises StorageError if `root` itself cannot be listed.
    """
    if not root.is_dir():
        return [root]
    try:
        os.scandir(root).close()
    except OSError as error:
        raise StorageError(f"cannot list {root}: {error.strerror or error}") from error
    files: list[Path] = []
    unlisted: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=lambda error: unlisted.append(Path(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(folder, name) for name in names if not name.startswith(".") and wanted(name.lower())]
    return sorted(unlisted + [path for path in files if not _is_special(path)])


def _is_special(path: Path) -> bool:
    """Whether it exists and is no regular file but a pipe or a device."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def relative_stem(path: Path, root: Path, suffixes: tuple[str, ...]) -> str:
    """Return the path below `root` with forward slashes and without its suffix; the bare name if it is `root`."""
    name = path.name if path == root else path.relative_to(root).as_posix()
    size = next((len(suffix) for suffix in suffixes if name.lower().endswith(suffix)), 0)
    return name[: len(name) - size]


def _skip_rest(stream: io.BufferedIOBase, data: bytes) -> None:
    while data and not data.endswith(b"\n"):
        data = stream.readline(_MIB)
