"""The process that writes snapshots while others serve: `python -m recommender.processes.compactor`; see child.py.

At the start of a service it makes sure that there is a whole snapshot; later it writes the next one.
"""

from __future__ import annotations

import os

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, open_live
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import open_store
from recommender.catalog.vectors.index import limit_threads
from recommender.config import Settings
from recommender.processes.child import Orders, run_child


async def compact(orders: Orders) -> None:
    """Do what the order says: "prepare" a folder for serving, or write the "next" snapshot."""
    settings = Settings.model_validate(orders.first["settings"])
    folder = settings.data_dir / SNAPSHOTS
    limit_threads(max(1, (os.cpu_count() or 2) // 2))
    store = open_store(settings.data_dir / STORE_FILE)
    try:
        dimension = store.dimension() or int(orders.first["dimension"])
        if orders.first["task"] == "prepare":
            open_live(store, folder, dimension)
        else:
            write_snapshot(store, folder, dimension)
    finally:
        store.close()
    orders.ready({})


if __name__ == "__main__":
    run_child(compact)
