"""A process that answers calls; the supervisor runs it as `python -m recommender.processes.worker`; see child.py."""

from __future__ import annotations

import sys

from recommender.catalog.opening import open_catalog
from recommender.catalog.vectors.index import limit_threads
from recommender.clock import now_ms
from recommender.encoding.embedder import Encoder, model_of
from recommender.encoding.remote import connect_encoder
from recommender.errors import MismatchError
from recommender.processes.child import Orders, run_child
from recommender.processes.orders import StartWorker, WorkerReady
from recommender.rpc.server import Server
from recommender.serving.archive import Archive
from recommender.serving.following import Follower

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter while another waits for it. Python's default, 5 ms, lets the disk's thread
delay answers so long that the slowest ones show it."""


async def serve(orders: Orders[StartWorker]) -> None:
    """Load, answer calls, apply new settings as they come, and drain."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    settings, address = orders.first.settings, orders.first.encoder_address
    limit_threads(settings.server.faiss_threads)

    async def encoder_for(key: str) -> Encoder:
        encoder = await connect_encoder(address, model_of(key))
        if encoder.info.key != key:
            raise MismatchError(f"the encoder has {encoder.info.key}, not {key}", fix="run `related-news reindex`")
        return encoder

    encoder = await connect_encoder(address, orders.first.model)
    catalog = open_catalog(settings.data_dir, encoder.info.key, encoder.info.dimension, verify=False)
    follower = Follower(settings.data_dir, catalog.store, catalog.live, encoder, encoder_for)
    archive = Archive(
        follower,
        takedown_timeout_s=settings.server.takedown_timeout_s,
        concurrent_calls_max=settings.server.concurrent_calls_max,
    )
    server = Server(settings, archive, now_ms, reuse_port=True)
    orders.ready(WorkerReady(address=await server.start(address)))
    async for order in orders:
        server.reload(order.settings)
    await server.stop()


if __name__ == "__main__":
    run_child(StartWorker, serve)
