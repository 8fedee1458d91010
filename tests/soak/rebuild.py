"""The answers of a snapshot written from scratch from a copy of the store, which a service has to equal."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.answer.recommend import Recommender, Request
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.sqlite import copy_database
from recommender.catalog.store.store import Store, open_store
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import model_of
from recommender.rpc.messages import plan_to
from tests.building import DIMENSION, NOW_MS, FakeEmbedder
from tests.service.client import Client
from tests.service.messages import equal


@contextmanager
def rebuilt(data_dir: Path) -> Iterator[tuple[Store, Live]]:
    """Copy a data folder's store, and open a snapshot of the copy that is written from scratch."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / STORE_FILE
        copy_database(data_dir / STORE_FILE, copy)
        store = open_store(copy)
        try:
            dimension = store.dimension() or DIMENSION
            path = write_snapshot(store, Path(folder) / SNAPSHOTS, dimension, from_scratch=True)
            yield store, Live(Snapshot(path, verify=False))
        finally:
            store.close()


def compare(clients: Sequence[Client], data_dir: Path, pages: Sequence[str]) -> int:
    """Check that every client is answered as a rebuild answers, byte for byte; returns how many plans were compared.

    pages: ids that are stored. Nobody writes meanwhile. Also checks each page's vectors and analysis.
    """
    with rebuilt(data_dir) as (store, live):
        embedder = FakeEmbedder(model_of(store.encoder))
        for page, stored in store.stored(pages).items():
            made = embed([stored.article], embedder)[0]
            assert stored.vectors.to_bytes() == made.to_bytes(), f"{page} has vectors of another text"
        for page in pages:
            expected = plan_to(Recommender(live).fill_slots(Request(page, NOW_MS)), [])
            for client in clients:
                plan = client.fill(article_id=page)
                assert equal(plan, expected), _difference(page, plan, expected)
    return len(pages) * len(clients)


def _difference(page: str, plan: related_pb.PagePlan, expected: related_pb.PagePlan) -> str:
    return f"page {page}: the service answers\n{plan}\na rebuild answers\n{expected}"
