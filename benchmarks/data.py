"""The archive that a benchmark runs on: an index as it is, without loading its model."""

from __future__ import annotations

from pathlib import Path

import typer

from recommender.archive import SNAPSHOTS, STORE_FILE
from recommender.catalog.derived import ANALYSIS
from recommender.catalog.live import Live
from recommender.catalog.snapshot import Snapshot, current_snapshot
from recommender.catalog.snapshot_writer import write_snapshot
from recommender.catalog.store import open_store


def open_live(data_dir: Path) -> Live:
    """Return the live view of an index's current snapshot, written anew if another release's analysis made it."""
    folder = current_snapshot(data_dir / SNAPSHOTS)
    if folder is None:
        raise typer.BadParameter(f"{data_dir} has no snapshot; index an archive first")
    snapshot = Snapshot(folder)
    manifest = snapshot.manifest
    if manifest.analysis != ANALYSIS:
        store = open_store(data_dir / STORE_FILE, manifest.encoder)
        try:
            snapshot = Snapshot(write_snapshot(store, data_dir / SNAPSHOTS, manifest.dimension))
        finally:
            store.close()
    return Live(snapshot)
