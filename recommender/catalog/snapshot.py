"""An immutable, memory-mapped image of the store at one revision, opened; snapshot_writer.py writes them.

Rows are in the order of (public_at_ms, id), oldest first. A snapshot is a folder of plain NumPy files and a manifest.
Worker processes share the mapped pages; each has an index of the compressed codes of its own, 60 bytes a row.
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

from recommender.catalog.compressed import LISTS_ROWS, Bits, ListNumbers, Lists, PartCodes, Quantizers
from recommender.catalog.manifest import Manifest
from recommender.catalog.near_copies import Sketch
from recommender.catalog.segment import Columns, Record, Scope, Tags, Times, id_hash
from recommender.catalog.vectors import GATHERED_ROWS, HalfVectors, Hits, Rows, Vector, VectorIndex
from recommender.catalog.wording import Packed, Weights

RECORDS = "records.bin"
_SCOPES_CACHED = 64
_LISTED_TIMES = 1.0
_LABELS_CACHED = 10_000
_HEADER_BYTES = 128
"""A .npy file of this size holds no data, and nothing cannot be mapped."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Which rows of a snapshot have not been changed or withdrawn since.

    bits: little-endian, one a row. dead: how many have been; two of one snapshot with the same number are the same.
    """

    bits: Bits
    dead: int


@dataclass(slots=True, eq=False)
class _Allowed:
    """A scope's rows in one snapshot. rows: ascending; None if every row is in. times: public_at_ms of those in.

    lists: compressed codes of these rows, made when they are first needed.
    """

    rows: Rows | None
    times: Times
    lists: Lists | None = None
    _alive: Alive | None = None

    def between(self, start: int, end: int) -> Rows:
        """Return the rows at [start, end) of those that are in."""
        return np.arange(start, max(start, end)) if self.rows is None else self.rows[start:end]

    def alive_among(self, alive: Alive) -> Bits:
        """Return the bits of these rows, by position."""
        assert self.rows is not None
        if self._alive is None or self._alive.dead != alive.dead:
            bits = (alive.bits[self.rows >> 3] >> (self.rows & 7).astype(np.uint8)) & 1
            self._alive = Alive(np.packbits(bits, bitorder="little"), alive.dead)
        return self._alive.bits


class Snapshot:
    """An open snapshot; a Segment. Not safe for several threads at once: it caches the rows of recent scopes."""

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        """Map a snapshot. verify: also compare checksums, which reads every byte once.

        Raises CorruptError naming the file that is not what was written.
        """
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.manifest.check_files(folder, verify=verify)
        self._columns = Columns(*(self._array(f"column_{f.name}") for f in fields(Columns)))
        self._tags = Tags(self._array("tag_offsets"), self._array("tag_codes"))
        self._signatures = self._array("signatures")
        self._sketches = self._array("sketches")
        self._heads = HalfVectors(self._array("heads"))
        self._codes, self._lists = self._array("codes"), self._array("lists")
        self.quantizers = Quantizers(self._array("centroids"), self._array("codebooks"))
        compressed = Lists(self.quantizers, self._codes, self._lists) if len(self._codes) else None
        self._index = VectorIndex(HalfVectors(self._array("mains")), compressed)
        self._hashes = self._array("hashes")
        self._sorted_hashes = self._array("sorted_hashes")
        self._rows_by_hash = self._array("rows_by_hash")
        self._record_offsets = self._array("record_offsets")
        self._records = (
            np.memmap(folder / RECORDS, np.uint8, "r").view(np.ndarray) if self.rows else np.empty(0, np.uint8)
        )
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
    def codes(self) -> PartCodes:
        """Return uint8 (rows, bytes): compressed main vectors; of no rows if the snapshot is too small for them."""
        return self._codes

    @property
    def lists(self) -> ListNumbers:
        """Return uint16 (rows,): the list that each row's code is in; of no rows like `codes`."""
        return self._lists

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
            if Record.is_of(self._blob(row), article_id):
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

    def record(self, row: int) -> Record:
        """Read one record."""
        return Record.from_bytes(self._blob(row))

    def _blob(self, row: int) -> bytes:
        start, end = self._record_offsets[row : row + 2].tolist()
        return self._records[start:end].tobytes()

    @property
    def mains(self) -> HalfVectors:
        """The main vectors, which are searched."""
        return self._index.vectors

    @property
    def heads(self) -> HalfVectors:
        """The head vectors, which are compared."""
        return self._heads

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        return self._index.vectors.read(rows)

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        main: Vector = self._index.vectors.half[row].astype(np.float32)
        return main

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        head: Vector = self._heads.half[row].astype(np.float32)
        return head

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): inner products of the rows' head vectors with `head`."""
        return self._heads.cosines(rows, head)

    def search(
        self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope, *, alive: Alive | None = None
    ) -> Hits:
        """Return the k best rows in `scope` that became public in [from_ms, until_ms]; of those `alive`, if given."""
        allowed = self._allowed(scope)
        low, high = self._range(allowed.times, from_ms, until_ms)
        if allowed.rows is None:
            return self._index.search(query, k, low, high, alive.bits if alive else None)
        bits = allowed.alive_among(alive) if alive else None
        if high - low <= GATHERED_ROWS or not len(self._codes):
            return self._index.scan_among(query, k, allowed.rows, low, high, bits)
        return self._index.search_among(query, k, allowed.rows, self._lists_of(allowed), low, high, bits)

    def _lists_of(self, allowed: _Allowed) -> Lists:
        """Return a scope's compressed codes. All scopes together hold about as many as there are rows."""
        if allowed.lists is None:
            rows = allowed.rows
            assert rows is not None
            held = sum(other.lists.rows for other in self._scopes.values() if other.lists)
            for other in self._scopes.values():
                if held + len(rows) > _LISTED_TIMES * self.rows and other.lists:
                    held -= other.lists.rows
                    other.lists = None
            numbers = self._lists[rows] if len(rows) >= LISTS_ROWS else None
            allowed.lists = Lists(self.quantizers, self._codes[rows], numbers)
        return allowed.lists

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
        """Find the rows of these scopes now, and their codes, so that no request has to wait for it."""
        for scope in scopes:
            allowed = self._allowed(scope)
            if allowed.rows is not None and len(allowed.rows) > GATHERED_ROWS and len(self._codes):
                self._lists_of(allowed)

    def _allowed(self, scope: Scope) -> _Allowed:
        found = self._scopes.get(scope)
        if found is None:
            mask = scope.allowed(self._columns, self._tags)
            times = self._columns.public_at_ms
            found = _Allowed(None, times) if mask.all() else _Allowed(np.flatnonzero(mask), times[mask])
            self._scopes[scope] = found
            if len(self._scopes) > _SCOPES_CACHED:
                self._scopes.popitem(last=False)
        else:
            self._scopes.move_to_end(scope)
        return found
