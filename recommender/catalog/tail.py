"""The tail: articles changed since the snapshot, in memory, searched exactly.

Vectors are encoded and compared as the snapshot's are, so that a score is the same to the bit on either side of the
border, and an answer the same before and after the next snapshot, unless what is left out of the candidates ties with
what is in.
"""

from __future__ import annotations

from copy import copy
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import COLUMN_TYPES, Columns, Tags, Times
from recommender.catalog.snapshot.entry import Entry
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.text.near_copies import SKETCH_SIZE, Sketch
from recommender.catalog.text.terms import SIGNATURE_TERMS, Packed
from recommender.catalog.vectors.index import Hits, RowMask, Rows, Vectors4Bit, Vectors8Bit
from recommender.catalog.vectors.scalar_codes import Vector, dequantise_8bit

_SCOPES_CACHED = 64


class _Growing:
    """A NumPy array that grows at its end in amortised constant time."""

    def __init__(self, kind: npt.DTypeLike, *shape: int) -> None:
        self._buffer: npt.NDArray[Any] = np.empty((64, *shape), kind)
        self._size = 0

    def append(self, value: object) -> None:
        if self._size == len(self._buffer):
            self._buffer = np.concatenate((self._buffer, np.empty_like(self._buffer)))
        self._buffer[self._size] = value
        self._size += 1

    @property
    def array(self) -> npt.NDArray[Any]:
        return self._buffer[: self._size]

    def copy(self) -> _Growing:
        other = copy(self)
        other._buffer = self._buffer.copy()
        return other


class Tail:
    """A Segment that grows. Rows are in the order of arrival; a row that was replaced or withdrawn is dead."""

    def __init__(self, dimension: int) -> None:
        """Start empty."""
        self._mains = _Growing(np.uint8, dimension)
        self._heads = _Growing(np.uint8, -(-dimension // 2))
        self._dimension = dimension
        self._signatures = _Growing(np.uint32, SIGNATURE_TERMS)
        self._sketches = _Growing(np.uint8, SKETCH_SIZE)
        self._id_hashes = _Growing(np.uint64)
        self._columns = {name: _Growing(kind) for name, kind in COLUMN_TYPES.items()}
        self._alive = _Growing(np.bool_)
        self._records: list[Record] = []
        self._tag_codes: list[tuple[int, ...]] = []
        self._row_of: dict[str, int] = {}
        self._changed()

    def _changed(self) -> None:
        """Forget what was read off the rows: a page asks for the same some ten times."""
        self._columns_read: Columns | None = None
        self._tags: Tags | None = None
        self._living: dict[Scope | None, tuple[Rows, Times]] = {}

    def copy(self) -> Tail:
        """Return a tail of its own with the same rows."""
        other = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, _Growing | list | dict):
                setattr(other, name, value.copy())
        other._columns = {name: growing.copy() for name, growing in self._columns.items()}
        return other

    def put(self, entry: Entry) -> None:
        """Add an article; an earlier row of the same id dies."""
        self.remove(entry.id)
        self._mains.append(entry.main)
        self._heads.append(entry.head)
        self._signatures.append(entry.signature)
        self._sketches.append(entry.sketch)
        self._id_hashes.append(entry.id_hash)
        for growing, value in zip(self._columns.values(), entry.columns, strict=True):
            growing.append(value)
        self._alive.append(True)
        self._row_of[entry.id] = len(self._records)
        self._records.append(entry.record)
        self._tag_codes.append(entry.tag_codes)
        self._changed()

    def remove(self, article_id: str) -> None:
        """Let the row of an article die, if there is one."""
        row = self._row_of.pop(article_id, None)
        if row is not None:
            self._alive.array[row] = False
            self._changed()

    @property
    def rows(self) -> int:
        """Number of rows, dead ones included."""
        return len(self._records)

    @property
    def living(self) -> int:
        """Number of rows that are not dead."""
        return len(self._row_of)

    @property
    def columns(self) -> Columns:
        """The columns of all rows."""
        if self._columns_read is None:
            self._columns_read = Columns(*(self._columns[f.name].array for f in fields(Columns)))
        return self._columns_read

    @property
    def tags(self) -> Tags:
        """The tags of all rows."""
        if self._tags is None:
            counts = np.fromiter(map(len, self._tag_codes), np.int64, len(self._tag_codes))
            codes = np.fromiter((code for codes in self._tag_codes for code in codes), np.uint32, int(counts.sum()))
            self._tags = Tags(np.concatenate(([0], np.cumsum(counts))), codes)
        return self._tags

    def label_count(self, column: str, code: int) -> int:
        """Return the number of living rows whose column of that name holds `code`."""
        return int(np.count_nonzero((self._columns[column].array == code) & self._alive.array))

    @property
    def signatures(self) -> Packed:
        """Return uint32 (rows, SIGNATURE_TERMS)."""
        return self._signatures.array

    @property
    def sketches(self) -> Sketch:
        """Return uint8 (rows, SKETCH_SIZE)."""
        return self._sketches.array

    @property
    def id_hashes(self) -> npt.NDArray[np.uint64]:
        """Return uint64 (rows,)."""
        return self._id_hashes.array

    def find(self, article_id: str) -> int | None:
        """Return the living row of an article."""
        return self._row_of.get(article_id)

    def record(self, row: int) -> Record:
        """Read one record."""
        return self._records[row]

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        return Vectors8Bit(self._mains.array).read(rows)

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return dequantise_8bit(self._mains.array[row])

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return Vectors4Bit(self._heads.array, self._dimension).read(row)

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): inner products of the rows' head vectors with `head`."""
        return Vectors4Bit(self._heads.array, self._dimension).cosines(rows, head)

    def public_in(self, from_ms: int, until_ms: int, scope: Scope | None = None) -> Rows:
        """Return the living rows, of those in `scope`, that became public in [from_ms, until_ms], ascending."""
        rows, times = self._living_in(scope)
        return rows[(times >= from_ms) & (times <= until_ms)]

    def _living_in(self, scope: Scope | None) -> tuple[Rows, Times]:
        """Return the living rows, ascending, and when each became public."""
        found = self._living.get(scope)
        if found is None:
            living: RowMask = self._alive.array
            if scope is not None:
                living = living & scope.allowed(partial(getattr, self.columns), self.tags)
            rows = np.flatnonzero(living)
            if len(self._living) == _SCOPES_CACHED:
                self._living.clear()
            found = self._living[scope] = rows, self.columns.public_at_ms[rows]
        return found

    def search(self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope) -> Hits:
        """Return the k best living rows in `scope` that became public in [from_ms, until_ms]."""
        rows = self.public_in(from_ms, until_ms, scope)
        return Vectors8Bit(self._mains.array).scan_rows(query, k, rows)
