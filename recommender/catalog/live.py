"""The live view: a snapshot and every change since then, replayed over it.

Rows of the snapshot come first, then those of the tail: row r >= snapshot.rows is row r - snapshot.rows of the tail. A
row of the snapshot dies when its article is changed or withdrawn; searches never return dead rows. Vectors are rotated,
see scalar_codes.py.

Not thread-safe: one thread applies changes and answers, so that each answer sees one revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import label_code
from recommender.catalog.snapshot.manifest import Manifest
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.row_values import RowValues, make_row_values
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.scoped_search import LiveRows
from recommender.catalog.snapshot.segment import Segment
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.store import Change
from recommender.catalog.tail import Tail
from recommender.catalog.text.near_copies import Sketch
from recommender.catalog.text.terms import Packed, Weights
from recommender.catalog.vectors.index import Hits, Rows, best_of
from recommender.catalog.vectors.scalar_codes import Vector
from recommender.clock import DAY_MS, YEAR_MS

T = TypeVar("T", bound=np.generic)

_FIRST_MS = 0
"""Before every article."""
_LAST_MS = 2**63 - 1
"""After every article."""
_EVERYTHING = Scope()
"""The scope of all articles that may be linked to."""


class Live:
    """The archive at one revision, which grows as changes are applied.

    Attributes are read-only for its users. revision: of the last applied change. manifest, folder, idf: the snapshot's.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        """Start at the snapshot's revision."""
        self._snapshot = snapshot
        self._tail = Tail(snapshot.manifest.dimension)
        self._dead = np.zeros(snapshot.rows, np.bool_)
        self._alive_bits = np.full(-(-snapshot.rows // 8), 255, np.uint8)
        self._dead_rows: list[int] = []
        self.revision = snapshot.manifest.revision
        self.manifest: Manifest = snapshot.manifest
        self.folder: Path = snapshot.folder
        self.idf: Weights = snapshot.idf

    # State

    @property
    def count(self) -> int:
        """Number of articles."""
        return self._snapshot.rows - len(self._dead_rows) + self._tail.living

    @property
    def changed_rows(self) -> int:
        """Number of rows that the snapshot lacks or that are dead in it."""
        return self._tail.rows + len(self._dead_rows)

    def recent_scopes(self) -> list[Scope]:
        """Return the scopes that were searched lately."""
        return self._snapshot.index.recent_scopes()

    def warm_up(self, scopes: Iterable[Scope]) -> None:
        """Find the rows of these scopes now, so that no request has to wait for that."""
        self._snapshot.index.warm_up(scopes)

    def row_values(self, stored: Iterable[StoredArticle]) -> dict[str, RowValues]:
        """Return what `apply` needs of changed articles, by id. Safe on any thread, at any time."""
        return {values.id: values for values in make_row_values(list(stored), self.idf)}

    def apply(self, changes: Sequence[Change], values: Mapping[str, RowValues]) -> None:
        """Apply changes in order. values: the present state of each changed article; one without it is withdrawn.

        The state may be newer than the change: applying the later change again gives the same.
        """
        ids = dict.fromkeys(change.article_id for change in changes)
        for article_id in ids:
            self._mark_dead(article_id)
        self._tail.update({article_id: values.get(article_id) for article_id in ids})
        if changes:
            self.revision = changes[-1].revision

    def with_article(self, values: RowValues) -> Live:
        """Return an independent view in which one article is added or replaced; it shares the snapshot."""
        other = copy(self)
        other._tail = self._tail.copy()
        other._dead, other._alive_bits = self._dead.copy(), self._alive_bits.copy()
        other._dead_rows = self._dead_rows.copy()
        other._mark_dead(values.id)
        other._tail.update({values.id: values})
        return other

    def _mark_dead(self, article_id: str) -> None:
        row = self._snapshot.find(article_id)
        if row is not None and not self._dead[row]:
            self._dead[row] = True
            self._alive_bits[row >> 3] &= np.uint8(255 ^ (1 << (row & 7)))
            self._dead_rows.append(row)

    # Reading single articles

    def find(self, article_id: str) -> int | None:
        """Return the row of an article, or None."""
        tail_row = self._tail.find(article_id)
        if tail_row is not None:
            return self._snapshot.rows + tail_row
        row = self._snapshot.find(article_id)
        return None if row is None or self._dead[row] else row

    def record(self, row: int) -> Record:
        """Read the record of one row."""
        segment, local = self._place(row)
        return segment.record(local)

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        segment, local = self._place(row)
        return segment.main_vector(local)

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        segment, local = self._place(row)
        return segment.head_vector(local)

    def signature(self, row: int) -> Packed:
        """Return uint32 (SIGNATURE_TERMS,)."""
        segment, local = self._place(row)
        packed: Packed = segment.signatures[local]
        return packed

    def _place(self, row: int) -> tuple[Segment, int]:
        return (self._snapshot, row) if row < self._snapshot.rows else (self._tail, row - self._snapshot.rows)

    # Reading many: `rows` ascending

    def column(self, name: str, rows: Rows) -> npt.NDArray[Any]:
        """Return a copy of one column of `rows`; name: a field of Columns."""
        return self._gather(rows, lambda segment, local: getattr(segment.columns, name).take(local))

    def signatures(self, rows: Rows) -> Packed:
        """Return uint32 (len(rows), SIGNATURE_TERMS)."""
        return self._gather(rows, lambda segment, local: segment.signatures.take(local, axis=0))

    def tag_overlaps(self, rows: Rows, tags: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): the Jaccard similarity of each row's tags to `tags`; 0 without `tags`."""
        if not tags:
            return np.zeros(len(rows), np.float32)
        wanted = np.unique(np.array([label_code(tag) for tag in tags], np.uint32))
        return self._gather(rows, lambda segment, local: segment.tags.jaccard(local, wanted))

    def id_hashes(self, rows: Rows) -> npt.NDArray[np.uint64]:
        """Return uint64 (len(rows),): `id_hash` of the rows' ids."""
        return self._gather(rows, lambda segment, local: segment.id_hashes[local])

    def sketches(self, rows: Rows) -> Sketch:
        """Return uint8 (len(rows), SKETCH_SIZE)."""
        return self._gather(rows, lambda segment, local: segment.sketches.take(local, axis=0))

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        return self._gather(rows, lambda segment, local: segment.main_vectors(local))

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): cosines of the rows' head vectors with `head`."""
        return self._gather(rows, lambda segment, local: segment.head_cosines(local, head))

    def _split(self, rows: Rows) -> tuple[Rows, Rows]:
        cut = int(np.searchsorted(rows, self._snapshot.rows))
        return rows[:cut], rows[cut:] - self._snapshot.rows

    def _gather(self, rows: Rows, read: Callable[[Segment, Rows], npt.NDArray[T]]) -> npt.NDArray[T]:
        of_snapshot, of_tail = self._split(rows)
        if not len(of_tail):
            return read(self._snapshot, of_snapshot)
        return np.concatenate((read(self._snapshot, of_snapshot), read(self._tail, of_tail)))

    # Searching

    def search(self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope) -> Hits:
        """Return the k best living rows in `scope` that became public in [from_ms, until_ms], best first."""
        alive = LiveRows(self._alive_bits, len(self._dead_rows)) if self._dead_rows else None
        hits = self._snapshot.index.search(query, k, from_ms, until_ms, scope, alive=alive)
        tail = self._tail.search(query, k, from_ms, until_ms, scope)
        if not len(tail.rows):
            return hits
        rows = np.concatenate((hits.rows, tail.rows + self._snapshot.rows))
        return best_of(np.concatenate((hits.scores, tail.scores)), rows, k)

    def window(self, scope: Scope, at_ms: int, until_ms: int, n: int) -> tuple[int, int]:
        """Return the period in which the n articles in `scope` before `at_ms`, and n / 2 after it, became public.

        Articles after `until_ms` do not count. Returns (first, last) in milliseconds.
        """
        at_ms = min(at_ms, until_ms)
        before = self.latest(scope, n, at_ms)
        after = self.earliest(scope, n // 2, at_ms + 1, until_ms)
        low = self.public_at_ms(int(before[-1])) if len(before) else at_ms
        high = self.public_at_ms(int(after[-1])) if len(after) else at_ms
        return low, high

    def latest(self, scope: Scope, n: int, until_ms: int) -> Rows:
        """Return the n rows in `scope` that became public last, up to `until_ms`, the latest first."""
        rows = self._snapshot.index.latest(scope, n + len(self._dead_rows), until_ms)[::-1]
        return self._merge_by_time(rows, scope, n, _FIRST_MS, until_ms, newest_first=True)

    def earliest(self, scope: Scope, n: int, from_ms: int, until_ms: int) -> Rows:
        """Return the n rows in `scope` that became public first in [from_ms, until_ms], the earliest first."""
        rows = self._snapshot.index.earliest(scope, n + len(self._dead_rows), from_ms, until_ms)
        return self._merge_by_time(rows, scope, n, from_ms, until_ms, newest_first=False)

    def _merge_by_time(
        self, rows: Rows, scope: Scope, n: int, from_ms: int, until_ms: int, *, newest_first: bool
    ) -> Rows:
        """Return the first n living rows: of `rows`, which are the snapshot's in order, and of the tail."""
        if self._dead_rows:
            rows = rows[~self._dead[rows]]
        tail = self._tail.public_in(from_ms, until_ms, scope)
        if not len(tail):
            return rows[:n]
        times = np.concatenate((self._snapshot.columns.public_at_ms[rows], self._tail.columns.public_at_ms[tail]))
        order = np.argsort(-times if newest_first else times, kind="stable")[:n]
        return np.concatenate((rows, tail + self._snapshot.rows))[order]

    def rows(self) -> Rows:
        """Return the rows of all articles, ascending."""
        tail = self._tail.public_in(_FIRST_MS, _LAST_MS)
        return np.concatenate((np.flatnonzero(~self._dead), tail + self._snapshot.rows))

    def published_at_ms(self, row: int) -> int:
        """Return the publication date of the article of `row`."""
        segment, local = self._place(row)
        return int(segment.columns.published_at_ms[local])

    def public_at_ms(self, row: int) -> int:
        """Return when the article of `row` became public."""
        segment, local = self._place(row)
        return int(segment.columns.public_at_ms[local])

    def flags(self, row: int) -> int:
        """Return the bits of `Flag` of the article of `row`."""
        segment, local = self._place(row)
        return int(segment.columns.flags[local])

    def label_share(self, column: str, label: str) -> float:
        """Return the share of all articles that has a label in a column, "section" or "site"; 0 for an empty label."""
        if not label or not self.count:
            return 0.0
        code, dead = label_code(label), 0
        if self._dead_rows:
            dead = int(np.count_nonzero(getattr(self._snapshot.columns, column)[self._dead_rows] == code))
        return (self._snapshot.label_count(column, code) - dead + self._tail.label_count(column, code)) / self.count

    def newest_ms(self, until_ms: int) -> int | None:
        """Return when the newest article up to `until_ms` became public; None if there is none."""
        newest = self.latest(_EVERYTHING, 1, until_ms)
        return self.public_at_ms(int(newest[0])) if len(newest) else None

    def next_public_ms(self, after_ms: int) -> int:
        """Return when the next article becomes public after `after_ms`, changed or withdrawn ones included."""
        times = self._snapshot.columns.public_at_ms
        at = int(np.searchsorted(times, after_ms, "right"))
        tail_times = self._tail.columns.public_at_ms
        later = tail_times[tail_times > after_ms]
        return min(int(times[at]) if at < len(times) else _LAST_MS, int(later.min(initial=_LAST_MS)))

    def published_per_day(self, until_ms: int) -> float:
        """Return articles a day over the last year up to the newest one, or over the archive's age if that is less.

        Articles after `until_ms` do not count.
        """
        end = self.newest_ms(until_ms)
        if end is None:
            return 0.0
        count, oldest = self._count_since(end - YEAR_MS, end)
        days = (end - max(oldest, end - YEAR_MS)) / DAY_MS
        return count / max(days, 1.0)

    def _count_since(self, from_ms: int, until_ms: int) -> tuple[int, int]:
        """Return how many living articles became public in [from_ms, until_ms], and when the first of them did."""
        times = self._snapshot.columns.public_at_ms
        low = int(np.searchsorted(times, from_ms, "left"))
        high = int(np.searchsorted(times, until_ms, "right"))
        dead = self._dead[low:high]
        living = high - low - int(np.count_nonzero(dead))
        oldest = int(times[low + int(np.argmin(dead))]) if living else until_ms
        tail = self._tail.public_in(from_ms, until_ms)
        if len(tail):
            oldest = min(oldest, int(self._tail.columns.public_at_ms[tail].min()))
        return living + len(tail), oldest
