"""The server process: load once, serve, drain. Health is SERVING only while calls are answered."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from recommender.archive import Archive, open_archive
from recommender.catalog.vectors import limit_threads
from recommender.config import Settings
from recommender.embedding import load_embedder
from recommender.errors import StorageError
from recommender.fitted import FittedModel, load_fit
from recommender.interceptor import Guard
from recommender.rank import Ranker
from recommender.service import ArticleService, Limits, RelatedNewsService

log = logging.getLogger(__name__)

SERVICE_NAMES = (
    related_pb.DESCRIPTOR.services_by_name["RelatedNewsService"].full_name,
    articles_pb.DESCRIPTOR.services_by_name["ArticleService"].full_name,
)


class Server:
    """One serving process. Make it, `start` it, `stop` it, on one event loop."""

    def __init__(self, settings: Settings, archive: Archive) -> None:
        """Serve `archive`, which is loaded; nothing listens yet."""
        self._settings = settings.server
        self._archive = archive
        self._health = health_aio.HealthServicer()
        self._grpc = grpc.aio.server(
            interceptors=[Guard()],
            maximum_concurrent_rpcs=self._settings.concurrent_calls_max,
            options=[
                ("grpc.max_receive_message_length", self._settings.message_bytes_max),
                ("grpc.max_send_message_length", self._settings.message_bytes_max),
                ("grpc.so_reuseport", 0),
            ],
        )
        limits = Limits(self._settings.pages_per_batch, self._settings.articles_per_write)
        related = RelatedNewsService(archive, settings.layouts, limits, make_ranker(settings, archive.store.encoder))
        related_grpc.add_RelatedNewsServiceServicer_to_server(related, self._grpc)
        articles_grpc.add_ArticleServiceServicer_to_server(ArticleService(archive, related, limits), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        names = (*SERVICE_NAMES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)

    async def start(self) -> str:
        """Listen and answer; returns the address. Raises StorageError if the address is taken or not ours."""
        wanted = f"{self._settings.host}:{self._settings.port}"
        try:
            port = self._grpc.add_insecure_port(wanted)
        except RuntimeError as error:
            raise StorageError(f"cannot listen on {wanted}", fix="choose another port, or stop who uses it") from error
        self._archive.follow()
        await self._archive.catch_up()
        await self._grpc.start()
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return f"{self._settings.host}:{port}"

    async def stop(self) -> None:
        """Report NOT_SERVING, let calls in flight finish within drain_s, and close the archive."""
        await self._health.enter_graceful_shutdown()
        await self._grpc.stop(self._settings.drain_s)
        await self._archive.close()


def make_ranker(settings: Settings, encoder: str) -> Ranker:
    """Return the ranker that the settings name, for an index of `encoder`. Errors as load_fit."""
    return Ranker(FittedModel(load_fit(settings.ranker, encoder))) if settings.ranker else Ranker()


async def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Load, serve until SIGTERM or SIGINT, drain. on_ready: called once with the address, when calls are answered."""
    limit_threads(settings.server.faiss_threads)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    model = settings.model
    embedder = load_embedder(model.name, precision=model.precision, threads=model.threads)
    store, live = open_archive(settings.data_dir, embedder)
    server = Server(settings, Archive(store, live, embedder))
    on_ready(await server.start())
    await stopping.wait()
    log.info("draining")
    await server.stop()
