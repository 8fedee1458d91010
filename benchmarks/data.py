"""The archive that a benchmark runs on: an index as it is, without loading its model."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import typer

from recommender import opening
from recommender.catalog.live import Live
from recommender.catalog.store import open_store
from recommender.errors import NotFoundError


def open_live(data_dir: Path) -> Live:
    """Return the live view of an index at its present revision, its snapshot written anew if this release needs to."""
    try:
        store = open_store(data_dir / opening.STORE_FILE)
    except NotFoundError as error:
        raise typer.BadParameter(str(error)) from None
    with closing(store):
        live = opening.open_live(store, data_dir / opening.SNAPSHOTS, store.dimension() or 0)
        opening.replay(store, live)
        return live
