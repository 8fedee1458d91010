"""Writing a snapshot: what has not changed is carried over from the one before, the rest is read from the store.

Word weights come from the store's term statistics, which stay the same from snapshot to snapshot until the archive has
grown or shrunk much. A snapshot with later changes replayed over it, the next one carried over from it, and one made
from nothing therefore hold the same rows, to the bit.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from recommender.catalog.snapshot.files import Batch, Carried, SnapshotFiles, batch_from, batch_of, flush, put_in_place
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
from recommender.catalog.store.locks import in_turn
from recommender.catalog.store.reads import FrozenStore, Statistics
from recommender.catalog.store.store import Store
from recommender.catalog.text.derived import ANALYSIS
from recommender.catalog.text.terms import TermStatistics, Weights
from recommender.catalog.vectors.index import Rows
from recommender.clock import DAY_MS, now_ms
from recommender.errors import CorruptError, DiskFullError, MismatchError, StorageError

KEPT_SNAPSHOTS = 2
"""Snapshots kept of the current one's encoder; of each other encoder one is, so that one can go back to it."""
STATISTICS_DRIFT = 1.1
"""Term statistics are counted anew when the archive has so many times as many articles as they were counted over, or
so many times fewer: an idf is off by 0.1 then, of about 7 that a telling word has."""
STATISTICS_DAYS = 7
"""And when they are so old and something has changed: a word that is new to them counts half as much as it should."""
TRAINED_TIMES = 2.0
"""Vectors are compressed anew when there are so many times as many rows as the codebooks were made for, or so many
times fewer."""
CHANGED_SHARE = 0.5
"""With more changes than this share of the rows, a snapshot made from nothing is the cheaper one."""
_WRITER_LOCK = "writer.lock"
_BATCH_ROWS = 1_024

PROGRESS_STAGE = "snapshot"
"""Name of the stage that a Progress gets to see; its steps are rows."""


def write_snapshot(
    store: Store, folder: Path, dimension: int, progress: Progress = SILENT, *, from_nothing: bool = False
) -> Path:
    """Write an image of the store's present revision under `folder`, and prune old ones.

    It becomes the current one if the store's encoder is the active one. Writers of other processes take turns.
    Returns the snapshot's folder. A crash at any moment leaves the previous snapshot current.
    Raises DiskFullError or StorageError, naming the folder, and then leaves nothing behind.
    """
    with _disk_errors(folder), in_turn(folder / _WRITER_LOCK):
        _remove_unfinished(folder)
        temporary = folder / f"{UNFINISHED}{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            store.analyse_missing()
            base = None if from_nothing else _newest_fitting(store, folder, dimension)
            statistics = _statistics(store)
            with store.frozen() as frozen:
                writing = _Writing(frozen, temporary, dimension, statistics, base, progress)
                trained_rows = writing.write()
            manifest = _manifest(frozen, temporary, store.encoder, statistics.version, dimension, trained_rows)
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
    """Let the file CURRENT beside a finished snapshot name it, by one rename."""
    put_in_place(snapshot.parent / CURRENT, snapshot.name + "\n")


def _newest_fitting(store: Store, folder: Path, dimension: int) -> Snapshot | None:
    """Return the newest whole snapshot of the same making, to carry over from; None if there is none."""
    made_of = (store.encoder, ANALYSIS, dimension)
    for path in finished_snapshots(folder):
        with suppress(CorruptError, MismatchError):
            manifest = Manifest.read(path)
            behind = store.revision() - manifest.revision
            fits = (manifest.encoder, manifest.analysis, manifest.dimension) == made_of
            if fits and 0 <= behind <= manifest.rows * CHANGED_SHARE:
                return Snapshot(path)
    return None


def _statistics(store: Store) -> Statistics:
    """Return the store's term statistics, counted anew if the archive has outgrown them."""
    found, count = store.statistics(), store.count()
    if found is not None:
        documents, days = found.terms.documents, (now_ms() - found.counted_at_ms) / DAY_MS
        if documents / STATISTICS_DRIFT <= count <= documents * STATISTICS_DRIFT and days <= STATISTICS_DAYS:
            return found
    with store.frozen() as frozen:
        counted = TermStatistics.count(frozen.terms())
    return store.add_statistics(counted)


@dataclass(frozen=True, slots=True)
class _Writing:
    """A snapshot in the making. base: what to carry over from: codes, and, weighed by the same statistics, rows."""

    frozen: FrozenStore
    folder: Path
    dimension: int
    statistics: Statistics
    base: Snapshot | None
    progress: Progress

    def write(self) -> int:
        """Write all files but the manifest; returns Manifest.trained_rows."""
        idf, base, rows = self.statistics.terms.idf(), self.base, self.frozen.count
        if base is None:
            self._write(self._from_store(idf), idf, None)
            return rows
        changed = self.frozen.ids_changed_after(base.manifest.revision)
        gone = [row for row in map(base.find, changed) if row is not None]
        entries = sorted(make_row_values(list(self.frozen.stored(changed)), idf), key=lambda entry: entry.key)
        source = _source(base, gone, entries)
        trained_rows = base.manifest.trained_rows
        same_words = base.manifest.statistics == self.statistics.version
        same_size = trained_rows / TRAINED_TIMES <= rows <= trained_rows * TRAINED_TIMES
        batches = _carried_over(base, source, entries) if same_words else self._from_store(idf)
        carried = Carried(base.compressed, source) if base.compressed and same_size else None
        self._write(batches, idf, carried)
        return trained_rows if carried else rows

    def _write(self, batches: Iterator[Batch], idf: Weights, carried: Carried | None) -> None:
        rows = self.frozen.count
        self.progress.begin(PROGRESS_STAGE, rows)
        with SnapshotFiles(self.folder, rows, self.dimension, idf) as files:
            for batch in batches:
                files.append(batch)
                self.progress.advance(len(batch.hashes))
            files.finish(carried)

    def _from_store(self, idf: Weights) -> Iterator[Batch]:
        articles = self.frozen.in_time_order()
        while some := list(islice(articles, _BATCH_ROWS)):
            yield batch_of(make_row_values(some, idf))


def _source(base: Snapshot, gone: Sequence[int], entries: Sequence[RowValues]) -> Rows:
    """Return for each row of the new snapshot its row in `base`, or -1 for the next one of `entries`."""
    kept = np.ones(base.rows, np.bool_)
    kept[list(gone)] = False
    before = np.concatenate(([0], np.cumsum(kept)))
    places = [before[base.insertion_row(*entry.key)] for entry in entries]
    return np.insert(np.flatnonzero(kept), np.array(places, np.int64), -1)


def _carried_over(base: Snapshot, source: Rows, entries: Sequence[RowValues]) -> Iterator[Batch]:
    new = iter(entries)
    for low, high in _runs(source):
        yield batch_of([next(new)]) if low < 0 else batch_from(base, low, high)


def _runs(source: Rows) -> Iterator[tuple[int, int]]:
    """Yield rows that follow each other in the base as [low, high), at most _BATCH_ROWS, and (-1, 0) for an entry."""
    breaks = np.flatnonzero((np.diff(source) != 1) | (source[1:] == 0)) + 1
    for run in np.split(source, breaks):
        if len(run) and run[0] < 0:
            yield -1, 0
        else:
            for part in np.array_split(run, -(-len(run) // _BATCH_ROWS)) if len(run) else ():
                yield int(part[0]), int(part[-1]) + 1


def _manifest(
    frozen: FrozenStore, folder: Path, encoder: str, statistics: int, dimension: int, trained_rows: int
) -> Manifest:
    files = sorted(folder.iterdir())
    for path in files:
        flush(path)
    return Manifest(
        format=FORMAT,
        revision=frozen.revision,
        encoder=encoder,
        analysis=ANALYSIS,
        statistics=statistics,
        dimension=dimension,
        rows=frozen.count,
        trained_rows=trained_rows,
        created_at_ms=now_ms(),
        files={path.name: FileEntry(path.stat().st_size, crc32_of(path)) for path in files},
    )


def _publish(folder: Path, temporary: Path, manifest: Manifest) -> Path:
    """Give a finished snapshot its name."""
    final = folder / f"{manifest.revision:012d}-{temporary.name.rsplit('-', 1)[1]}"
    (temporary / MANIFEST).write_text(manifest.to_json(), "utf-8")
    flush(temporary / MANIFEST)
    flush(temporary)
    temporary.rename(final)
    return final


def _prune(folder: Path, written: Path) -> None:
    """Remove old snapshots, and those that cannot be read, but not the one just written. Mapped files stay readable.

    Of two of one revision the names do not say which is the newer one.
    """
    kept: Counter[str] = Counter()
    spared = (current_snapshot(folder), written)
    for path in sorted(finished_snapshots(folder), key=lambda path: path not in spared):
        try:
            encoder = Manifest.read(path).encoder
        except (CorruptError, MismatchError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        kept[encoder] += 1
        if kept[encoder] > (KEPT_SNAPSHOTS if encoder == next(iter(kept)) else 1):
            shutil.rmtree(path, ignore_errors=True)


def _remove_unfinished(folder: Path) -> None:
    """Remove what writers left that died: whoever holds the lock is the only one."""
    for path in unfinished_snapshots(folder):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(
                f"{folder}: no space left for a snapshot; the previous one stays in use",
                fix="free space, then try again",
            ) from error
        raise StorageError(f"{folder}: cannot write a snapshot: {error.strerror}", fix="check the folder") from error


def _silent(done: int, total: int) -> None:
    del done, total
