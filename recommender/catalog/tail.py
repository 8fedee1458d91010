"""The tail: articles changed since the snapshot, in memory, searched exactly.

Vectors are quantised and compared as the snapshot's are, so that an article has the same score, to the bit, in either.
A plan is therefore the same before and after the next snapshot, unless the last candidate ties with the first one that
is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import COLUMN_TYPES, Columns, Tags, Times
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.row_values import RowValues
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.text.near_copies import SKETCH_SIZE
from recommender.catalog.text.terms import SIGNATURE_TERMS
from recommender.catalog.vectors.index import Hits, RowMask, Rows, Vectors4Bit, Vectors8Bit
from recommender.catalog.vectors.scalar_codes import Vector, dequantise_8bit

_SCOPES_CACHED_MAX = 64
"""Scopes whose rows are cached between two changes."""


class _GrowingArray:
    """A NumPy array that grows at its end in amortised constant time."""

    def __init__(self, kind: npt.DTypeLike, *shape: int) -> None:
        """Start empty; shape: of one element."""
        self._buffer: npt.NDArray[Any] = np.empty((64, *shape), kind)
        self._size = 0

    def append(self, value: object) -> None:
        if self._size == len(self._buffer):
            self._buffer = np.concatenate((self._buffer, np.empty_like(self._buffer)))
        self._buffer[self._size] = value
        self._size += 1

    @property
    def array(self) -> npt.NDArray[Any]:
        """A view of the elements; it does not grow."""
        return self._buffer[: self._size]

    def copy(self) -> _GrowingArray:
        other = copy(self)
        other._buffer = self._buffer.copy()
        return other


class Tail:
    """A Segment that grows, with its attributes; `rows` counts all rows, `living` those that are not dead.

    Rows are in order of arrival. A row dies when its article is changed again or withdrawn.
    """

    def __init__(self, dimension: int) -> None:
        """Start empty; dimension: of the vectors."""
        self._dimension = dimension
        self._mains = _GrowingArray(np.uint8, dimension)
        self._heads = _GrowingArray(np.uint8, -(-dimension // 2))
        self._signatures = _GrowingArray(np.uint32, SIGNATURE_TERMS)
        self._sketches = _GrowingArray(np.uint8, SKETCH_SIZE)
        self._id_hashes = _GrowingArray(np.uint64)
        self._columns = {name: _GrowingArray(kind) for name, kind in COLUMN_TYPES.items()}
        self._tag_codes = _GrowingArray(np.uint32)
        self._tag_offsets = _GrowingArray(np.int64)
        self._tag_offsets.append(0)
        self._alive = _GrowingArray(np.bool_)
        self._records: list[Record] = []
        self._row_of: dict[str, int] = {}
        self._refresh()

    def _refresh(self) -> None:
        """Set what is read of the rows after a change of them."""
        self.rows = len(self._records)
        self.living = len(self._row_of)
        self.columns = Columns(*(self._columns[f.name].array for f in fields(Columns)))
        self.tags = Tags(self._tag_offsets.array, self._tag_codes.array)
        self.signatures = self._signatures.array
        self.sketches = self._sketches.array
        self.id_hashes = self._id_hashes.array
        self._rows_by_scope: dict[Scope | None, tuple[Rows, Times]] = {}

    def copy(self) -> Tail:
        """Return an independent tail with the same rows."""
        other = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, _GrowingArray | list | dict):
                setattr(other, name, value.copy())
        other._columns = {name: column.copy() for name, column in self._columns.items()}
        other._refresh()
        return other

    def update(self, changes: Mapping[str, RowValues | None]) -> None:
        """Add articles by id, or with None withdraw them; an earlier row of the same id dies."""
        for article_id, values in changes.items():
            self._kill(article_id)
            if values is not None:
                self._append(values)
        self._refresh()

    def _append(self, values: RowValues) -> None:
        self._mains.append(values.main)
        self._heads.append(values.head)
        self._signatures.append(values.signature)
        self._sketches.append(values.sketch)
        self._id_hashes.append(values.id_hash)
        for column, value in zip(self._columns.values(), values.columns, strict=True):
            column.append(value)
        for code in values.tag_codes:
            self._tag_codes.append(code)
        self._tag_offsets.append(len(self._tag_codes.array))
        self._alive.append(True)
        self._row_of[values.id] = len(self._records)
        self._records.append(values.record)

    def _kill(self, article_id: str) -> None:
        row = self._row_of.pop(article_id, None)
        if row is not None:
            self._alive.array[row] = False

    def label_count(self, column: str, code: int) -> int:
        """Return the number of living rows whose column of that name holds `code`."""
        return int(np.count_nonzero((getattr(self.columns, column) == code) & self._alive.array))

    def find(self, article_id: str) -> int | None:
        """Return the living row of an article, or None."""
        return self._row_of.get(article_id)

    def record(self, row: int) -> Record:
        """Return one record."""
        return self._records[row]

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return dequantise_8bit(self._mains.array[row])

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return Vectors4Bit(self._heads.array, self._dimension).read(row)

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        return Vectors8Bit(self._mains.array).read(rows)

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): cosines of the rows' head vectors with `head`."""
        return Vectors4Bit(self._heads.array, self._dimension).cosines(rows, head)

    def public_in(self, from_ms: int, until_ms: int, scope: Scope | None = None) -> Rows:
        """Return the living rows that became public in [from_ms, until_ms], ascending; only those in `scope`, if given.

        Without a scope, articles that are never a target count too.
        """
        rows, times = self._rows_in(scope)
        return rows[(times >= from_ms) & (times <= until_ms)]

    def _rows_in(self, scope: Scope | None) -> tuple[Rows, Times]:
        """Return the living rows in a scope, ascending, and when each became public. A page asks some ten times."""
        cached = self._rows_by_scope.get(scope)
        if cached is None:
            allowed: RowMask = self._alive.array
            if scope is not None:
                allowed = allowed & scope.mask(partial(getattr, self.columns), self.tags)
            rows = np.flatnonzero(allowed)
            if len(self._rows_by_scope) == _SCOPES_CACHED_MAX:
                self._rows_by_scope.clear()
            cached = self._rows_by_scope[scope] = rows, self.columns.public_at_ms[rows]
        return cached

    def search(self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope) -> Hits:
        """Return the k best living rows in `scope` that became public in [from_ms, until_ms]."""
        rows = self.public_in(from_ms, until_ms, scope)
        return Vectors8Bit(self._mains.array).scan_rows(query, k, rows)
