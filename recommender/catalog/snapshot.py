"""An immutable, memory-mapped image of the store at one revision: reading and choosing. snapshot_writer.py writes them.

Rows are in the order of (public_at_ms, id), oldest first. A snapshot is a folder of plain NumPy files, one FAISS file
and manifest.json, which names every other file with its size and CRC-32. The file CURRENT beside the folders names the
one to use. Worker processes share the mapped pages.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections import OrderedDict
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recommender.catalog.near_copies import Sketch
from recommender.catalog.segment import Columns, Record, Scope, Tags, Times
from recommender.catalog.vectors import Allowed, Hits, Rows, Vector, VectorFile
from recommender.catalog.wording import Packed, Weights
from recommender.errors import CorruptError, MismatchError

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
CURRENT = "CURRENT"
VECTORS = "vectors.faiss"
RECORDS = "records.bin"
_SCOPES_CACHED = 64
_SHARES_CACHED = 10_000
_HEADER_BYTES = 128
"""A .npy file of this size holds no data, and nothing cannot be mapped."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a snapshot: bytes and CRC-32."""

    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is an image of. created_at_ms: UTC. documents: articles that the idf table was counted over."""

    format: int
    revision: int
    encoder: str
    analysis: str
    dimension: int
    rows: int
    documents: int
    created_at_ms: int
    files: dict[str, FileEntry]

    def to_json(self) -> str:
        """Return the manifest as readable JSON, with a checksum over the rest of it."""
        values = asdict(self)
        return json.dumps({**values, "checksum": _checksum(values)}, indent=1, sort_keys=True)

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read a snapshot's manifest. Raises CorruptError if it is missing or unreadable, MismatchError if too new."""
        path = folder / MANIFEST
        try:
            values = json.loads(path.read_text("utf-8"))
            if values["format"] != FORMAT:
                raise MismatchError(
                    f"{path} has format {values['format']}, this release reads {FORMAT}",
                    fix="delete the snapshots folder; it is rebuilt from the store",
                )
            if values.pop("checksum") != _checksum(values):
                raise ValueError("its checksum differs")
            values["files"] = {name: FileEntry(**entry) for name, entry in values["files"].items()}
            return Manifest(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{path}: unreadable: {error}", fix="it is rebuilt from the store") from error


@dataclass(frozen=True, slots=True, eq=False)
class _Allowed:
    """A scope's rows in one snapshot. mask, rows: None if every row is in. times: public_at_ms of those in."""

    mask: Allowed | None
    rows: Rows | None
    times: Times

    def between(self, start: int, end: int) -> Rows:
        """Return the rows at [start, end) of those that are in."""
        return np.arange(start, max(start, end)) if self.rows is None else self.rows[start:end]


class Snapshot:
    """An open snapshot; a Segment. Not safe for several threads at once: it caches the rows of recent scopes."""

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        """Map a snapshot. verify: also compare checksums, which reads every byte once.

        Raises CorruptError naming the file that is not what was written.
        """
        self.folder = folder
        self.manifest = Manifest.read(folder)
        for name, entry in self.manifest.files.items():
            _check_file(folder / name, entry, verify=verify)
        self._vectors = VectorFile(folder / VECTORS, rows=self.rows, dimension=self.manifest.dimension)
        self._columns = Columns(*(self._array(f"column_{f.name}") for f in fields(Columns)))
        self._tags = Tags(self._array("tag_offsets"), self._array("tag_codes"))
        self._signatures = self._array("signatures")
        self._sketches = self._array("sketches")
        self._heads = self._array("heads")
        self._sorted_hashes = self._array("id_hashes")
        self._id_rows = self._array("id_rows")
        self._record_offsets = self._array("record_offsets")
        self._records = np.memmap(folder / RECORDS, np.uint8, "r") if self.rows else np.empty(0, np.uint8)
        self.idf: Weights = self._array("idf")
        self._scopes: OrderedDict[Scope, _Allowed] = OrderedDict()
        self._shares: dict[tuple[str, int], float] = {}

    def _array(self, name: str) -> npt.NDArray[Any]:
        path = self.folder / f"{name}.npy"
        array: npt.NDArray[Any] = np.load(
            path, "r" if path.stat().st_size > _HEADER_BYTES else None, allow_pickle=False
        )
        return array.view(np.ndarray)  # the same pages, without np.memmap's cost of 10 us an access

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.manifest.rows

    @property
    def kind(self) -> str:
        """Name the vector structure: "flat" or "hnsw"."""
        return self._vectors.kind

    @property
    def columns(self) -> Columns:
        """The columns of all rows."""
        return self._columns

    @property
    def tags(self) -> Tags:
        """The tags of all rows."""
        return self._tags

    @property
    def signatures(self) -> Packed:
        """Return uint32 (rows, SIGNATURE_TERMS)."""
        return self._signatures

    @property
    def sketches(self) -> Sketch:
        """Return uint16 (rows, SKETCH_SIZE)."""
        return self._sketches

    @cached_property
    def id_hashes(self) -> npt.NDArray[np.uint64]:
        """Return uint64 (rows,)."""
        hashes = np.empty(self.rows, np.uint64)
        hashes[self._id_rows] = self._sorted_hashes
        return hashes

    def label_share(self, column: str, code: int) -> float:
        """Return the share of rows whose column of that name holds `code`; 0 if there are no rows."""
        share = self._shares.get((column, code))
        if share is None:
            share = np.count_nonzero(getattr(self._columns, column) == code) / max(self.rows, 1)
            if len(self._shares) < _SHARES_CACHED:
                self._shares[column, code] = share
        return share

    def find(self, article_id: str) -> int | None:
        """Return the row of an article."""
        wanted = id_hash(article_id)
        at = int(np.searchsorted(self._sorted_hashes, wanted))
        while at < self.rows and self._sorted_hashes[at] == wanted:
            row = int(self._id_rows[at])
            if self.record(row).id == article_id:
                return row
            at += 1
        return None

    def record(self, row: int) -> Record:
        """Read one record."""
        start, end = self._record_offsets[row], self._record_offsets[row + 1]
        return Record.from_bytes(self._records[start:end].tobytes())

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        return self._vectors.vectors(rows)

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        head: Vector = self._heads[row].astype(np.float32)
        return head

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): inner products of the rows' head vectors with `head`."""
        return self._vectors.compare(self._heads[rows], head)

    def search(
        self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope, *, alive: Allowed | None = None
    ) -> Hits:
        """Return the k best rows in `scope` that became public in [from_ms, until_ms]; of those `alive`, if given."""
        low, high = self._range(self._columns.public_at_ms, from_ms, until_ms)
        allowed = self._allowed(scope).mask
        if alive is not None:
            allowed = alive if allowed is None else allowed & alive
        return self._vectors.search(query, k, low, high, allowed)

    def latest(self, scope: Scope, n: int, until_ms: int) -> Rows:
        """Return the last n rows, or fewer, in `scope` that became public up to `until_ms`, ascending."""
        allowed = self._allowed(scope)
        end = int(np.searchsorted(allowed.times, until_ms, "right"))
        return allowed.between(max(0, end - n), end)

    def earliest(self, scope: Scope, n: int, from_ms: int, until_ms: int) -> Rows:
        """Return the first n rows in `scope` that became public in [from_ms, until_ms], ascending."""
        allowed = self._allowed(scope)
        start, end = self._range(allowed.times, from_ms, until_ms)
        return allowed.between(start, min(start + n, end))

    @staticmethod
    def _range(times: Times, from_ms: int, until_ms: int) -> tuple[int, int]:
        return int(np.searchsorted(times, from_ms, "left")), int(np.searchsorted(times, until_ms, "right"))

    def _allowed(self, scope: Scope) -> _Allowed:
        found = self._scopes.get(scope)
        if found is None:
            mask = scope.allowed(self._columns, self._tags)
            times = self._columns.public_at_ms
            found = _Allowed(None, None, times) if mask.all() else _Allowed(mask, np.flatnonzero(mask), times[mask])
            self._scopes[scope] = found
            if len(self._scopes) > _SCOPES_CACHED:
                self._scopes.popitem(last=False)
        else:
            self._scopes.move_to_end(scope)
        return found


def id_hash(article_id: str) -> np.uint64:
    """Return the 64-bit hash under which a snapshot files an id."""
    data = article_id.encode()
    return np.uint64((zlib.crc32(data) << 32) | zlib.adler32(data))


def current_snapshot(folder: Path) -> Path | None:
    """Return the folder of the current snapshot under `folder`, or None if there is none."""
    try:
        name = (folder / CURRENT).read_text("utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return folder / name if name and (folder / name).is_dir() else None


def _check_file(path: Path, entry: FileEntry, *, verify: bool) -> None:
    fix = "the snapshot is rebuilt from the store"
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


def crc32_of(path: Path) -> int:
    """Return the CRC-32 of a file's bytes."""
    checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return checksum
