"""Writing a snapshot: unchanged rows are copied from the snapshot before, the others are made from the store.

Word weights come from the store's term statistics, which stay the same from snapshot to snapshot until the archive has
grown or shrunk much. So a snapshot with later changes replayed over it, the next one copied from it, and one written
from scratch hold the same rows, bit for bit.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from recommender.catalog.snapshot.files import (
    Batch,
    CopiedCodes,
    SnapshotFiles,
    copied_batch,
    disk_errors,
    flush,
    new_batch,
    replace_file,
)
from recommender.catalog.snapshot.manifest import (
    CURRENT,
    FORMAT,
    MANIFEST,
    UNFINISHED,
    FileEntry,
    Manifest,
    crc32_of,
    current_snapshot,
    finished_snapshots,
    unfinished_snapshots,
)
from recommender.catalog.snapshot.progress import SILENT, Progress
from recommender.catalog.snapshot.row_values import RowValues, make_row_values
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.store.locks import hold_lock
from recommender.catalog.store.reads import ReadTransaction, Statistics
from recommender.catalog.store.store import Store
from recommender.catalog.text.derived import ANALYSIS
from recommender.catalog.text.terms import TermStatistics, Weights
from recommender.catalog.vectors.index import Rows
from recommender.clock import DAY_MS, now_ms
from recommender.errors import CorruptError, MismatchError

SNAPSHOTS_KEPT = 2
"""Snapshots kept of the current one's encoder; of each other encoder one is kept, so that the index can go back."""
STATISTICS_GROWTH_MAX = 1.1
"""Count term statistics again once the archive has this many times more or fewer articles than they were counted over.

At 1.1 an idf is wrong by 0.1; a rare word has about 7.
"""
STATISTICS_AGE_DAYS_MAX = 7
"""Count term statistics again after this many days if something has changed: a new word has half its weight."""
TRAINED_GROWTH_MAX = 2.0
"""Train the product quantizer again once there are this many times more or fewer rows than it was trained for."""
CHANGED_SHARE_MAX = 0.5
"""Copy rows of the snapshot before while the changes are at most this share of its rows; beyond, scratch is cheaper."""
PROGRESS_STAGE = "snapshot"
"""Name of the stage that a Progress gets to see; its steps are rows."""
_FULL = "no space left for a snapshot; the previous one stays in use"
"""The message of a DiskFullError."""
_WRITER_LOCK = "writer.lock"
"""Name of the file that writers lock in turn."""
_BATCH_ROWS = 1_024
"""Rows that are made, or copied, and written at a time."""


def write_snapshot(
    store: Store, folder: Path, dimension: int, progress: Progress = SILENT, *, from_scratch: bool = False
) -> Path:
    """Write a snapshot of the store's present revision under `folder`, and remove old ones. Returns its folder.

    from_scratch: copy nothing from the snapshot before.

    It becomes the current one if the store's encoder is the active one. Writers in several processes take turns. A
    crash at any moment leaves the previous snapshot current.

    Raises DiskFullError or StorageError naming the folder, and then leaves nothing behind.
    """
    with disk_errors(folder, _FULL, "cannot write a snapshot"), hold_lock(folder / _WRITER_LOCK):
        _remove_unfinished(folder)
        temporary = folder / f"{UNFINISHED}{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            store.analyse_missing()
            base = None if from_scratch else _newest_base(store, folder, dimension)
            statistics = _statistics(store)
            with store.read_transaction() as transaction:
                writing = _Writing(transaction, temporary, dimension, statistics, base, progress)
                trained_rows = writing.write()
            manifest = _manifest(transaction, temporary, store.encoder, statistics.version, dimension, trained_rows)
            final = _publish(folder, temporary, manifest)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        try:
            flush(folder)
            if store.active_encoder() == store.encoder:
                make_current(final)
        except BaseException:
            if current_snapshot(folder) != final:
                shutil.rmtree(final, ignore_errors=True)
            raise
        _prune(folder, final)
        return final


def make_current(snapshot: Path) -> None:
    """Make a finished snapshot the current one: CURRENT beside it names it, put in place by one rename."""
    replace_file(snapshot.parent / CURRENT, snapshot.name + "\n")


def _newest_base(store: Store, folder: Path, dimension: int) -> Snapshot | None:
    """Return the newest whole snapshot that rows can be copied from, or None."""
    wanted = (store.encoder, ANALYSIS, dimension)
    for path in finished_snapshots(folder):
        with suppress(CorruptError, MismatchError):
            manifest = Manifest.read(path)
            behind = store.revision() - manifest.revision
            fits = (manifest.encoder, manifest.analysis, manifest.dimension) == wanted
            if fits and 0 <= behind <= manifest.rows * CHANGED_SHARE_MAX:
                return Snapshot(path)
    return None


def _statistics(store: Store) -> Statistics:
    """Return the store's term statistics, counted again if they are out of date."""
    statistics, count = store.statistics(), store.count()
    if statistics is not None:
        documents, age_days = statistics.terms.documents, (now_ms() - statistics.counted_at_ms) / DAY_MS
        same_size = documents / STATISTICS_GROWTH_MAX <= count <= documents * STATISTICS_GROWTH_MAX
        if same_size and age_days <= STATISTICS_AGE_DAYS_MAX:
            return statistics
    with store.read_transaction() as transaction:
        terms = TermStatistics.count(transaction.terms())
    return store.add_statistics(terms)


@dataclass(frozen=True, slots=True)
class _Writing:
    """A snapshot while it is written.

    base: snapshot to copy from: rows if its terms have the same weights, product codes in any case; None for scratch.
    """

    transaction: ReadTransaction
    folder: Path
    dimension: int
    statistics: Statistics
    base: Snapshot | None
    progress: Progress

    def write(self) -> int:
        """Write all files but the manifest; returns Manifest.trained_rows."""
        idf, base, rows = self.statistics.terms.idf(), self.base, self.transaction.count
        if base is None:
            self._write(self._from_store(idf), idf, None)
            return rows
        changed_ids = self.transaction.ids_changed_after(base.manifest.revision)
        outdated = [row for row in map(base.find, changed_ids) if row is not None]
        changed = make_row_values(list(self.transaction.stored(changed_ids)), idf)
        changed.sort(key=lambda values: values.key)
        base_rows = _base_rows(base, outdated, changed)
        trained_rows = base.manifest.trained_rows
        same_weights = base.manifest.statistics == self.statistics.version
        same_size = trained_rows / TRAINED_GROWTH_MAX <= rows <= trained_rows * TRAINED_GROWTH_MAX
        batches = _copied(base, base_rows, changed) if same_weights else self._from_store(idf)
        copied_codes = CopiedCodes(base.compressed, base_rows) if base.compressed and same_size else None
        self._write(batches, idf, copied_codes)
        return trained_rows if copied_codes else rows

    def _write(self, batches: Iterator[Batch], idf: Weights, copied_codes: CopiedCodes | None) -> None:
        rows = self.transaction.count
        self.progress.begin(PROGRESS_STAGE, rows)
        with SnapshotFiles(self.folder, rows, self.dimension, idf) as files:
            for batch in batches:
                files.append(batch)
                self.progress.advance(len(batch.hashes))
            files.finish(copied_codes)

    def _from_store(self, idf: Weights) -> Iterator[Batch]:
        articles = self.transaction.in_time_order()
        while batch := list(islice(articles, _BATCH_ROWS)):
            yield new_batch(make_row_values(batch, idf))


def _base_rows(base: Snapshot, outdated: Sequence[int], changed: Sequence[RowValues]) -> Rows:
    """Return for each row of the new snapshot its row in `base`, or -1 for the next one of `changed`."""
    is_current = np.ones(base.rows, np.bool_)
    is_current[list(outdated)] = False
    rows_before = np.concatenate(([0], np.cumsum(is_current)))
    places = [rows_before[base.insertion_row(*values.key)] for values in changed]
    return np.insert(np.flatnonzero(is_current), np.array(places, np.int64), -1)


def _copied(base: Snapshot, base_rows: Rows, changed: Sequence[RowValues]) -> Iterator[Batch]:
    new = iter(changed)
    for low, high in _runs(base_rows):
        yield new_batch([next(new)]) if low < 0 else copied_batch(base, low, high)


def _runs(base_rows: Rows) -> Iterator[tuple[int, int]]:
    """Yield consecutive rows of the base as [low, high), at most _BATCH_ROWS each, and (-1, 0) for a changed row."""
    breaks = np.flatnonzero((np.diff(base_rows) != 1) | (base_rows[1:] == 0)) + 1
    for run in np.split(base_rows, breaks):
        if len(run) and run[0] < 0:
            yield -1, 0
        else:
            for part in np.array_split(run, -(-len(run) // _BATCH_ROWS)) if len(run) else ():
                yield int(part[0]), int(part[-1]) + 1


def _manifest(
    transaction: ReadTransaction, folder: Path, encoder: str, statistics: int, dimension: int, trained_rows: int
) -> Manifest:
    files = sorted(folder.iterdir())
    for path in files:
        flush(path)
    return Manifest(
        format=FORMAT,
        revision=transaction.revision,
        encoder=encoder,
        analysis=ANALYSIS,
        statistics=statistics,
        dimension=dimension,
        rows=transaction.count,
        trained_rows=trained_rows,
        created_at_ms=now_ms(),
        files={path.name: FileEntry(path.stat().st_size, crc32_of(path)) for path in files},
    )


def _publish(folder: Path, temporary: Path, manifest: Manifest) -> Path:
    """Write the manifest and give the folder its final name."""
    final = folder / f"{manifest.revision:012d}-{temporary.name.rsplit('-', 1)[1]}"
    (temporary / MANIFEST).write_text(manifest.to_json(), "utf-8")
    flush(temporary / MANIFEST)
    flush(temporary)
    temporary.rename(final)
    return final


def _prune(folder: Path, written: Path) -> None:
    """Remove old and unreadable snapshots, but never the one just written. Files that are mapped stay readable.

    The names of two snapshots of one revision do not say which is newer, so the current and the new one count first.
    """
    counts: Counter[str] = Counter()
    first = (current_snapshot(folder), written)
    for path in sorted(finished_snapshots(folder), key=lambda path: path not in first):
        try:
            encoder = Manifest.read(path).encoder
        except (CorruptError, MismatchError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        counts[encoder] += 1
        if counts[encoder] > (SNAPSHOTS_KEPT if encoder == next(iter(counts)) else 1):
            shutil.rmtree(path, ignore_errors=True)


def _remove_unfinished(folder: Path) -> None:
    """Remove folders of writers that died; the caller holds the lock, so no other writer is running."""
    for path in unfinished_snapshots(folder):
        shutil.rmtree(path, ignore_errors=True)
