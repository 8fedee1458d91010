"""Open a data folder: choose the newest snapshot that is whole and fits the store, and replay later changes over it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from recommender.catalog.live import Live
from recommender.catalog.snapshot.manifest import Manifest, current_snapshot, finished_snapshots
from recommender.catalog.snapshot.row_values import RowValues
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.verified import verify_snapshot
from recommender.catalog.snapshot.writer import make_current, write_snapshot
from recommender.catalog.store.store import Change, Store, open_store
from recommender.catalog.text.derived import ANALYSIS
from recommender.errors import CorruptError, MismatchError, NotFoundError

log = logging.getLogger(__name__)

STORE_FILE = "store.sqlite3"
"""Name of the store in a data folder."""
SNAPSHOTS = "snapshots"
"""Name of the folder of snapshots in a data folder."""
REPLAYED_CHANGES = 5_000
"""Use a snapshot if at most this many changes came after it, however few rows it has."""
REPLAYED_SHARE = 0.2
"""Use a snapshot if the changes after it are at most this share of its rows; else a new one is written first."""
CHANGES_PER_BATCH = 64
"""Changes that a service applies between two answers."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Catalog:
    """An open data folder: its store, and a live view at the store's revision. A context manager, which closes it."""

    store: Store
    live: Live

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_catalog(
    data_dir: Path, encoder: str | None = None, dimension: int | None = None, *, verify: bool = True
) -> Catalog:
    """Open a data folder: its store, a snapshot, and every later change replayed over that.

    encoder: key of the encoder whose vectors are used; the active one unless given.
    dimension: components of its vectors; as stored unless given, which an empty store needs.
    verify: compare the snapshot's checksums, see `open_live`.

    Raises NotFoundError if there is no store, or nothing was ever indexed and no dimension is given; MismatchError if
    another encoder is active.
    """
    store = open_store(data_dir / STORE_FILE, encoder)
    try:
        live = open_live(store, data_dir / SNAPSHOTS, dimension or store.dimension() or 0, verify=verify)
        replay(store, live)
    except BaseException:
        store.close()
        raise
    return Catalog(store, live)


def open_live(store: Store, folder: Path, dimension: int, *, verify: bool = True) -> Live:
    """Return the live view of a store at its snapshot's revision; `replay` brings it up to date.

    verify: compare checksums, and make an older snapshot the current one if that is broken.

    A new snapshot is written if none can be used. Raises NotFoundError if that is not possible because nothing was ever
    indexed: `dimension` is 0 then.
    """
    snapshot = usable_snapshot(store, folder, verify=verify)
    if snapshot is None:
        if not dimension:
            raise NotFoundError(
                "index", str(folder.parent), fix="nothing is indexed there yet: run `related-news index`"
            )
        log.info("writing a snapshot of revision %d", store.revision())
        snapshot = Snapshot(write_snapshot(store, folder, dimension), verify=False)
    elif verify and snapshot.folder != current_snapshot(folder):
        make_current(snapshot.folder)
    return Live(snapshot)


def usable_snapshot(store: Store, folder: Path, *, verify: bool = True) -> Snapshot | None:
    """Return the current snapshot, or the newest other one if that cannot be used, or None.

    A snapshot can be used if it is whole, of the store's encoder, and not too far behind. One that is ahead of the
    store is removed: the store was cut short, or replaced by a backup.
    """
    return _first_usable(store, folder, lambda path: Snapshot(path, verify=verify))


def usable_folder(store: Store, folder: Path) -> Path | None:
    """Return the folder of the snapshot that `usable_snapshot` would return, verified, without loading it."""
    return _first_usable(store, folder, _verified)


def _verified(path: Path) -> Path:
    verify_snapshot(path)
    return path


def _first_usable(store: Store, folder: Path, opened: Callable[[Path], T]) -> T | None:
    """Return the first snapshot that fits the store, opened. opened: raises CorruptError if a snapshot is broken."""
    for path in finished_snapshots(folder):
        try:
            if _fits(Manifest.read(path), path, store):
                return opened(path)
        except (CorruptError, MismatchError, OSError) as error:  # OSError: it was removed meanwhile
            log.warning("snapshot %s is not used: %s", path.name, error)
    return None


def replay(store: Store, live: Live) -> None:
    """Apply every change committed by now to a live view that no other thread uses meanwhile."""
    while changes := read_changes(store, live):
        live.apply(*changes)


def read_changes(store: Store, live: Live) -> tuple[list[Change], dict[str, RowValues]] | None:
    """Return the next changes after the live view's revision and their articles' present state, or None.

    Safe on any thread, as long as no other thread applies changes to `live`.
    """
    changes = store.changes_after(live.revision, CHANGES_PER_BATCH)
    if not changes:
        return None
    return changes, live.row_values(store.stored(list({change.article_id for change in changes})).values())


def _fits(manifest: Manifest, path: Path, store: Store) -> bool:
    behind = store.revision() - manifest.revision
    if behind < 0:
        log.error(
            "snapshot %s is removed: the store is at revision %d and has lost what came after",
            path.name,
            store.revision(),
        )
        shutil.rmtree(path, ignore_errors=True)  # its revisions will be those of other changes
        return False
    if manifest.encoder != store.encoder or manifest.analysis != ANALYSIS:
        log.info("snapshot %s is of %s, %s; not used", path.name, manifest.encoder, manifest.analysis)
        return False
    if behind > max(REPLAYED_CHANGES, REPLAYED_SHARE * manifest.rows):
        log.info("snapshot %s is %d changes behind; not used", path.name, behind)
        return False
    return True
