"""Search by scope and time: which rows a scope holds, remembered, over one immutable set of vectors in time order.

A scope that is asked for once is a bitmap over the codes of all rows. One that comes again and is narrow gets codes of
its own, made beside the searches, so that it costs what its size does. Few rows are compared exactly, without codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from recommender.catalog.snapshot.columns import Columns, LabelRows, Tags, Times
from recommender.catalog.snapshot.scope import Read, Scope
from recommender.catalog.vectors.index import GATHERED_ROWS, Hits, Rows, VectorIndex, Vectors8Bit
from recommender.catalog.vectors.product_codes import Bitmap, InvertedLists, ProductCodes, Spread
from recommender.catalog.vectors.scalar_codes import Vector

_SCOPES_CACHED = 64
_HELD_TIMES = 8.0
"""Scopes that are remembered hold at most so many times the index's rows together, 9 bytes each."""
_LISTED_TIMES = 1.0
"""Of these rows at most so many times the index's have codes of their own, 60 bytes each."""
_NARROW = 0.25
"""Share of all rows above which a scope is so wide that codes of its own would save little."""
_LISTED_SHARE, _LABELS_COMPARED = 0.25, 8
"""Up to this share of all rows those with certain labels are looked up, rather than all rows compared with the labels;
more of them too where the labels are more."""


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Which rows of a snapshot have not been changed or withdrawn since.

    bits: little-endian, one a row; a view's own, cleared in place as rows die. dead: how many have been.
    """

    bits: Bitmap
    dead: int

    def equals(self, other: LiveRows) -> bool:
        """Say whether the same rows are alive in the other: it is of the same view, and none has died in between."""
        return self.bits is other.bits and self.dead == other.dead


@dataclass(slots=True, eq=False)
class _Allowed:
    """A scope's rows. rows: ascending; None if every row is in. bits: of all rows.

    making: compressed codes of these rows alone, once they are asked for a second time. spread: see Compressed.
    """

    rows: Rows | None
    bits: Bitmap | None
    searches: int = 0
    making: Future[InvertedLists] | None = None
    spread: Spread | None = None
    _marked: tuple[LiveRows, Bitmap] | None = None

    def __len__(self) -> int:
        """Return the number of rows that are held."""
        return 0 if self.rows is None else len(self.rows)

    def positions(self, low: int, high: int) -> tuple[int, int]:
        """Return from which to which of those that are in, not included, lie in [low, high)."""
        if self.rows is None:
            return low, high
        start, end = np.searchsorted(self.rows, (low, high)).tolist()
        return start, end

    def at(self, start: int, end: int) -> Rows:
        """Return the rows at [start, end) of those that are in."""
        return np.arange(start, max(start, end)) if self.rows is None else self.rows[start:end]

    def marked(self, alive: LiveRows | None) -> Bitmap:
        """Return the bits of these rows that are alive, one for each row of the index."""
        assert self.bits is not None
        if alive is None:
            return self.bits
        if self._marked is None or not self._marked[0].equals(alive):
            self._marked = alive, self.bits & alive.bits
        return self._marked[1]

    def own(self) -> InvertedLists | None:
        """Return the codes of these rows alone, if they are made."""
        return self.making.result() if self.making is not None and self.making.done() else None


class ScopedIndex:
    """Vectors, their codes, and what scopes look at. Not safe for several threads at once: it remembers scopes."""

    def __init__(self, vectors: Vectors8Bit, compressed: ProductCodes | None, columns: Columns, tags: Tags) -> None:
        """All of the same rows, in the order of public_at_ms. compressed: None if all searches are exact."""
        self.vectors = vectors
        self.rows = vectors.rows
        self._compressed = compressed
        self._index = VectorIndex(vectors, compressed.index() if compressed else None)
        self._columns = columns
        self._read: Read = partial(getattr, columns)
        self._tags = tags
        self._label_rows: dict[str, Future[LabelRows]] = {}
        self._scopes: dict[Scope, _Allowed] = {}  # as last asked for; an OrderedDict's values hash every key
        self._maker = ThreadPoolExecutor(1, "scope codes")

    def search(
        self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope, *, alive: LiveRows | None = None
    ) -> Hits:
        """Return the k best rows in `scope` that became public in [from_ms, until_ms]; of those `alive`, if given."""
        allowed = self._allowed(scope)
        low, high = self._between(from_ms, until_ms)
        if allowed.rows is None:
            return self._index.search(query, k, low, high, alive.bits if alive else None)
        allowed.searches += 1
        if allowed.searches > 1:
            self._make_lists(allowed)
        rows, spread = allowed.at(*allowed.positions(low, high)), partial(self._spread, allowed)
        return self._index.search_rows(query, k, rows, allowed.marked(alive), allowed.own(), spread)

    def _between(self, from_ms: int, until_ms: int) -> tuple[int, int]:
        """Return the range of all rows that became public in [from_ms, until_ms]."""
        return time_range(self._columns.public_at_ms, from_ms, until_ms)

    def _spread(self, allowed: _Allowed) -> Spread | None:
        if allowed.spread is None and self._compressed and allowed.rows is not None:
            allowed.spread = self._compressed.spread(allowed.rows)
        return allowed.spread

    def _make_lists(self, allowed: _Allowed) -> None:
        """Begin to make a narrow scope's codes. All scopes together hold about as many as there are rows."""
        rows, compressed = allowed.rows, self._compressed
        if allowed.making or rows is None or compressed is None:
            return
        if not GATHERED_ROWS < len(rows) <= _NARROW * self.rows:
            return
        held = sum(len(other) for other in self._scopes.values() if other.making)
        for other in self._scopes.values():
            if held + len(rows) > _LISTED_TIMES * self.rows and other.making:
                held -= len(other)
                other.making, other.searches = None, 0
        allowed.making = self._maker.submit(compressed.index_of, rows)

    def latest(self, scope: Scope, n: int, until_ms: int) -> Rows:
        """Return the last n rows, or fewer, in `scope` that became public up to `until_ms`, ascending."""
        allowed = self._allowed(scope)
        _, end = allowed.positions(*self._between(0, until_ms))
        return allowed.at(max(0, end - n), end)

    def earliest(self, scope: Scope, n: int, from_ms: int, until_ms: int) -> Rows:
        """Return the first n rows in `scope` that became public in [from_ms, until_ms], ascending."""
        allowed = self._allowed(scope)
        start, end = allowed.positions(*self._between(from_ms, until_ms))
        return allowed.at(start, min(start + n, end))

    def recent_scopes(self) -> list[Scope]:
        """Return the scopes that were asked for lately, more than once."""
        return [scope for scope, allowed in self._scopes.items() if allowed.rows is None or allowed.searches > 1]

    def warm_up(self, scopes: Iterable[Scope]) -> None:
        """Find the rows of these scopes now, and their codes, so that no request has to wait for it."""
        for scope in scopes:
            allowed = self._allowed(scope)
            self._make_lists(allowed)
            allowed.searches = 1
            if allowed.making:
                allowed.making.result()

    def _allowed(self, scope: Scope) -> _Allowed:
        found = self._scopes.pop(scope, None)
        if found is not None:
            self._scopes[scope] = found
            return found
        rows = self._rows_in(scope)
        found = self._scopes[scope] = _Allowed(rows, None if rows is None else _bits_of(rows, self.rows))
        self._forget()
        return found

    def _forget(self) -> None:
        """Forget the scopes that were asked for longest ago, while there are too many."""
        held = sum(map(len, self._scopes.values()))
        while len(self._scopes) > 1 and (len(self._scopes) > _SCOPES_CACHED or held > _HELD_TIMES * self.rows):
            held -= len(self._scopes.pop(next(iter(self._scopes))))

    def _rows_in(self, scope: Scope) -> Rows | None:
        """Return the rows in a scope, ascending; None if every row is.

        Where few rows have the labels that it asks for in some column, only these are looked at.
        """
        listed = {column: found for column, labels in scope.labels.items() if (found := self._listed(column, labels))}
        parts = {column: found.parts(scope.labels[column]) for column, found in listed.items()}
        counts = {column: sum(map(len, some)) for column, some in parts.items()}
        column = min(counts, key=counts.__getitem__, default="")
        if not column or scope.tags is not None or not self._is_narrow(counts[column], scope.labels[column]):
            rows = np.flatnonzero(scope.allowed(self._read, self._tags))
        else:
            rows = listed[column].merged(parts[column])
            rows = rows[scope.without_labels_of(column).allowed(lambda name: self._read(name).take(rows))]
        return None if len(rows) == self.rows else rows

    def _is_narrow(self, rows: int, labels: frozenset[str]) -> bool:
        """Say whether it is quicker to look up so many rows than to compare all rows with the labels."""
        return rows <= _LISTED_SHARE * self.rows or len(labels) > _LABELS_COMPARED

    def _listed(self, column: str, labels: frozenset[str]) -> LabelRows | None:
        """Return the rows of each label of a column, once they are found.

        The first who asks for several has that begun; a page's own language and site are one each.
        """
        finding = self._label_rows.get(column)
        if finding is None and len(labels) > 1 and self._compressed is not None:
            finding = self._label_rows[column] = self._maker.submit(LabelRows, self._read(column))
        return finding.result() if finding is not None and finding.done() else None


def _bits_of(rows: Rows, total: int) -> Bitmap:
    """Return little-endian bits, one for each of `total` rows, set of `rows`."""
    marked = np.zeros(total, np.bool_)
    marked[rows] = True
    return np.packbits(marked, bitorder="little")


def time_range(times: Times, from_ms: int, until_ms: int) -> tuple[int, int]:
    """Return the range of ascending `times` in [from_ms, until_ms]."""
    return int(np.searchsorted(times, from_ms, "left")), int(np.searchsorted(times, until_ms, "right"))
