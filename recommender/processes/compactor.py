"""The process that writes snapshots while others serve: `python -m recommender.processes.compactor`; see child.py.

At the start of a service it makes sure that a usable snapshot exists; later it writes the next one.
"""

from __future__ import annotations

import os

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, open_live
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import open_store
from recommender.catalog.vectors.index import limit_threads
from recommender.processes.child import Orders, run_child
from recommender.processes.orders import Compact, Compacted


async def compact(orders: Orders[Compact]) -> None:
    """Do what the order says, on half of the machine's cores."""
    order = orders.first
    data_dir = order.settings.data_dir
    limit_threads(max(1, (os.cpu_count() or 2) // 2))
    store = open_store(data_dir / STORE_FILE)
    try:
        dimension = store.dimension() or order.dimension
        if order.only_if_missing:
            open_live(store, data_dir / SNAPSHOTS, dimension)
        else:
            write_snapshot(store, data_dir / SNAPSHOTS, dimension)
    finally:
        store.close()
    orders.ready(Compacted())


if __name__ == "__main__":
    run_child(Compact, compact)
