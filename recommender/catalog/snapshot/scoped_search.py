"""Search within a scope and a period, over one immutable set of vectors in time order. Caches the rows of scopes.

The first search of a scope goes through the product codes of all rows with a bitmap of the scope's rows. A narrow scope
that is searched again gets inverted lists of its own, made in the background, so that its cost follows its size. Few
rows are compared exactly. docs/measurements.md says what each of this saves.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from recommender.catalog.snapshot.columns import Columns, LabelPostings, Tags, Times
from recommender.catalog.snapshot.scope import ReadColumn, Scope
from recommender.catalog.vectors.index import Hits, Rows, VectorIndex, Vectors8Bit
from recommender.catalog.vectors.product_codes import Bitmap, InvertedLists, ListShares, ProductCodes
from recommender.catalog.vectors.scalar_codes import Vector
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts

_SCOPES_MAX = 64
"""Number of scopes whose rows are cached."""
_CACHED_ROWS_TIMES = 8.0
"""Memory budget for the rows of all cached scopes, as a multiple of the index's row count (9 bytes a row)."""
_OWN_LISTS_TIMES = 1.0
"""Memory budget for the scopes' own inverted lists, as a multiple of the index's row count (60 bytes a row)."""
_OWN_LISTS_SHARE_MAX = 0.25
"""Largest share of all rows for which a scope gets lists of its own; a wider scope would save little by them."""


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Rows of a snapshot that were neither changed nor withdrawn since.

    bits: little-endian, one a row; owned by the live view, which clears bits in place. dead: number of cleared bits.
    """

    bits: Bitmap
    dead: int

    def equals(self, other: LiveRows) -> bool:
        """Say whether both hold the same rows: they are of the same live view, with no change in between."""
        return self.bits is other.bits and self.dead == other.dead


@dataclass(slots=True, eq=False)
class _ScopeRows:
    """The rows of one scope. rows: ascending; None if all are in the scope. bitmap: of all rows.

    searches: how often it was searched. own_lists: of these rows, requested by the second search. list_shares: cached,
    see ProductCodes.
    """

    rows: Rows | None
    bitmap: Bitmap | None
    searches: int = 0
    own_lists: Future[InvertedLists] | None = None
    list_shares: ListShares | None = None
    _alive: tuple[LiveRows, Bitmap] | None = None

    def __len__(self) -> int:
        """Return the number of rows in memory: none if all are in the scope."""
        return 0 if self.rows is None else len(self.rows)

    def positions(self, low: int, high: int) -> tuple[int, int]:
        """Return the range of positions among the scope's rows that holds those in [low, high)."""
        if self.rows is None:
            return low, high
        start, end = np.searchsorted(self.rows, (low, high)).tolist()
        return start, end

    def at(self, start: int, end: int) -> Rows:
        """Return the rows at positions [start, end)."""
        return np.arange(start, max(start, end)) if self.rows is None else self.rows[start:end]

    def alive_bitmap(self, alive: LiveRows | None) -> Bitmap:
        """Return the bitmap of those that are alive; all are if `alive` is None."""
        assert self.bitmap is not None
        if alive is None:
            return self.bitmap
        if self._alive is None or not self._alive[0].equals(alive):
            self._alive = alive, self.bitmap & alive.bits
        return self._alive[1]

    def finished_lists(self) -> InvertedLists | None:
        """Return the scope's own lists, once they are made."""
        return self.own_lists.result() if self.own_lists is not None and self.own_lists.done() else None


class ScopedIndex:
    """Vectors, their product codes, and the columns that scopes filter by.

    Not safe for several threads at once: it caches scopes.
    """

    def __init__(
        self,
        vectors: Vectors8Bit,
        product_codes: ProductCodes | None,
        columns: Columns,
        tags: Tags,
        costs: SearchCosts = MEASURED,
    ) -> None:
        """All are of the same rows, in the order of public_at_ms. product_codes: None if all searches are exact."""
        self.vectors = vectors
        self.rows = vectors.rows
        self._product_codes = product_codes
        self._costs = costs
        self._index = VectorIndex(vectors, product_codes.inverted_lists(costs) if product_codes else None, costs)
        self._columns = columns
        self._read: ReadColumn = partial(getattr, columns)
        self._tags = tags
        self._postings: dict[str, Future[LabelPostings]] = {}
        self._scopes: dict[Scope, _ScopeRows] = {}  # the latest last; an OrderedDict's values hash every key
        self._background = ThreadPoolExecutor(1, "scope codes")

    def search(
        self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope, *, alive: LiveRows | None = None
    ) -> Hits:
        """Return the k best rows in `scope` that became public in [from_ms, until_ms]; of those `alive`, if given."""
        inside = self._scope_rows(scope)
        low, high = self._between(from_ms, until_ms)
        if inside.rows is None:
            return self._index.search(query, k, low, high, alive.bits if alive else None)
        inside.searches += 1
        if inside.searches > 1:
            self._request_lists(inside)
        rows, list_shares = inside.at(*inside.positions(low, high)), partial(self._list_shares, inside)
        return self._index.search_rows(query, k, rows, inside.alive_bitmap(alive), inside.finished_lists(), list_shares)

    def _between(self, from_ms: int, until_ms: int) -> tuple[int, int]:
        """Return the range of all rows that became public in [from_ms, until_ms]."""
        return time_range(self._columns.public_at_ms, from_ms, until_ms)

    def _list_shares(self, inside: _ScopeRows) -> ListShares | None:
        if inside.list_shares is None and self._product_codes and inside.rows is not None:
            inside.list_shares = self._product_codes.list_shares(inside.rows)
        return inside.list_shares

    def _request_lists(self, inside: _ScopeRows) -> None:
        """Have a narrow scope's lists made, if they fit into the budget once the oldest scopes' lists are dropped."""
        rows, product_codes = inside.rows, self._product_codes
        if inside.own_lists or rows is None or product_codes is None:
            return
        if not self._costs.gather_rows_max < len(rows) <= _OWN_LISTS_SHARE_MAX * self.rows:
            return
        listed = sum(len(other) for other in self._scopes.values() if other.own_lists)
        for other in self._scopes.values():
            if listed + len(rows) > _OWN_LISTS_TIMES * self.rows and other.own_lists:
                listed -= len(other)
                other.own_lists, other.searches = None, 0
        inside.own_lists = self._background.submit(product_codes.inverted_lists_of, rows, self._costs)

    def latest(self, scope: Scope, n: int, until_ms: int) -> Rows:
        """Return the last n rows, or fewer, in `scope` that became public up to `until_ms`, ascending."""
        inside = self._scope_rows(scope)
        _, end = inside.positions(*self._between(0, until_ms))
        return inside.at(max(0, end - n), end)

    def earliest(self, scope: Scope, n: int, from_ms: int, until_ms: int) -> Rows:
        """Return the first n rows in `scope` that became public in [from_ms, until_ms], ascending."""
        inside = self._scope_rows(scope)
        start, end = inside.positions(*self._between(from_ms, until_ms))
        return inside.at(start, min(start + n, end))

    def recent_scopes(self) -> list[Scope]:
        """Return the cached scopes that were searched more than once, or that hold all rows."""
        return [scope for scope, inside in self._scopes.items() if inside.rows is None or inside.searches > 1]

    def warm_up(self, scopes: Iterable[Scope]) -> None:
        """Find the rows of these scopes and make their lists now, so that no request waits for them."""
        for scope in scopes:
            inside = self._scope_rows(scope)
            self._request_lists(inside)
            inside.searches = 1
            if inside.own_lists:
                inside.own_lists.result()

    def _scope_rows(self, scope: Scope) -> _ScopeRows:
        inside = self._scopes.pop(scope, None)
        if inside is not None:
            self._scopes[scope] = inside
            return inside
        rows = self._find_rows(scope)
        inside = self._scopes[scope] = _ScopeRows(rows, None if rows is None else _bitmap_of(rows, self.rows))
        self._evict()
        return inside

    def _evict(self) -> None:
        """Drop the least recently used scopes while they are too many or hold too many rows."""
        cached = sum(map(len, self._scopes.values()))
        while len(self._scopes) > 1 and (len(self._scopes) > _SCOPES_MAX or cached > _CACHED_ROWS_TIMES * self.rows):
            cached -= len(self._scopes.pop(next(iter(self._scopes))))

    def _find_rows(self, scope: Scope) -> Rows | None:
        """Return the rows in a scope, ascending; None if all are.

        Where postings are ready, only the rows of the scope's labels are looked at: of the column with the fewest.
        """
        postings = {column: ready for column, labels in scope.labels.items() if (ready := self._ready(column, labels))}
        rows_by_label = {column: ready.rows_by_label(scope.labels[column]) for column, ready in postings.items()}
        if not rows_by_label or scope.tags is not None:
            rows = np.flatnonzero(scope.mask(self._read, self._tags))
        else:
            column = min(rows_by_label, key=lambda column: sum(map(len, rows_by_label[column])))
            rows = np.sort(np.concatenate(rows_by_label[column])).astype(np.int64)
            rows = rows[scope.without_labels_of(column).mask(lambda name: self._read(name).take(rows))]
        return None if len(rows) == self.rows else rows

    def _ready(self, column: str, labels: frozenset[str]) -> LabelPostings | None:
        """Return the postings of a column, if they are made.

        The first scope with several labels has them made in the background. A page's own language and site are one
        label each, for which they are not worth it.
        """
        making = self._postings.get(column)
        if making is None and len(labels) > 1 and self._product_codes is not None:
            making = self._postings[column] = self._background.submit(LabelPostings, self._read(column))
        return making.result() if making is not None and making.done() else None


def _bitmap_of(rows: Rows, total: int) -> Bitmap:
    """Return little-endian bits, one for each of `total` rows, set for `rows`."""
    mask = np.zeros(total, np.bool_)
    mask[rows] = True
    return np.packbits(mask, bitorder="little")


def time_range(times: Times, from_ms: int, until_ms: int) -> tuple[int, int]:
    """Return the range of ascending `times` in [from_ms, until_ms]."""
    return int(np.searchsorted(times, from_ms, "left")), int(np.searchsorted(times, until_ms, "right"))
