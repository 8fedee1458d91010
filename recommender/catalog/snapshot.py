"""An immutable, memory-mapped image of the store at one revision, opened; snapshot_writer.py writes them.

Rows are in the order of (public_at_ms, id), oldest first. A snapshot is a folder of plain NumPy files, one FAISS file
and a manifest. Worker processes share the mapped pages.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recommender.catalog.manifest import Manifest
from recommender.catalog.near_copies import Sketch
from recommender.catalog.segment import Columns, Record, Scope, Tags, Times, id_hash
from recommender.catalog.vectors import Allowed, Hits, Rows, Vector, VectorFile
from recommender.catalog.wording import Packed, Weights

VECTORS = "vectors.faiss"
RECORDS = "records.bin"
_SCOPES_CACHED = 64
_LABELS_CACHED = 10_000
_HEADER_BYTES = 128
"""A .npy file of this size holds no data, and nothing cannot be mapped."""


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
        self.manifest.check_files(folder, verify=verify)
        self._vectors = VectorFile(folder / VECTORS, rows=self.rows, dimension=self.manifest.dimension)
        self._columns = Columns(*(self._array(f"column_{f.name}") for f in fields(Columns)))
        self._tags = Tags(self._array("tag_offsets"), self._array("tag_codes"))
        self._signatures = self._array("signatures")
        self._sketches = self._array("sketches")
        self._heads = self._array("heads")
        self._hashes = self._array("hashes")
        self._sorted_hashes = self._array("sorted_hashes")
        self._rows_by_hash = self._array("rows_by_hash")
        self._record_offsets = self._array("record_offsets")
        self._records = np.memmap(folder / RECORDS, np.uint8, "r") if self.rows else np.empty(0, np.uint8)
        self.idf: Weights = self._array("idf")
        self._scopes: OrderedDict[Scope, _Allowed] = OrderedDict()
        self._label_counts: dict[tuple[str, int], int] = {}

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
    def vectors(self) -> VectorFile:
        """The main vectors."""
        return self._vectors

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

    @property
    def id_hashes(self) -> npt.NDArray[np.uint64]:
        """Return uint64 (rows,)."""
        return self._hashes

    def label_count(self, column: str, code: int) -> int:
        """Return the number of rows whose column of that name holds `code`."""
        count = self._label_counts.get((column, code))
        if count is None:
            count = int(np.count_nonzero(getattr(self._columns, column) == code))
            if len(self._label_counts) < _LABELS_CACHED:
                self._label_counts[column, code] = count
        return count

    def find(self, article_id: str) -> int | None:
        """Return the row of an article."""
        wanted = id_hash(article_id)
        at = int(np.searchsorted(self._sorted_hashes, wanted))
        while at < self.rows and self._sorted_hashes[at] == wanted:
            row = int(self._rows_by_hash[at])
            if self.record(row).id == article_id:
                return row
            at += 1
        return None

    def place_of(self, public_at_ms: int, article_id: str) -> int:
        """Return how many rows come before a row with these values, which need not be here."""
        low, high = self._range(self._columns.public_at_ms, public_at_ms, public_at_ms)
        return low + bisect_left(range(high - low), article_id, key=lambda at: self.record(low + at).id)

    def records(self, low: int, high: int) -> tuple[npt.NDArray[np.int64], bytes]:
        """Return the records of rows [low, high) as they stand in the file: the bytes of each, and all together."""
        offsets = self._record_offsets[low : high + 1]
        return np.diff(offsets), self._records[offsets[0] : offsets[-1]].tobytes()

    @property
    def heads(self) -> npt.NDArray[np.float16]:
        """Return float16 (rows, dimension)."""
        return self._heads

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

    def recent_scopes(self) -> list[Scope]:
        """Return the scopes that were asked for lately."""
        return list(self._scopes)

    def warm_up(self, scopes: Iterable[Scope]) -> None:
        """Find the rows of these scopes now, so that no request has to wait for it."""
        for scope in scopes:
            self._allowed(scope)

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
