"""The gRPC server of one process: listen, answer, drain. Its health is SERVING only while it answers calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from recommender.answer.fitted_ranker import FittedFormula
from recommender.answer.layout import DEFAULT_LAYOUT, DEFAULT_LAYOUT_NAME
from recommender.answer.rank import Ranker
from recommender.config import Settings, address_of
from recommender.errors import RelatedNewsError, StorageError
from recommender.rpc.interceptor import Guard
from recommender.rpc.services import ArticleService, RelatedNewsService
from recommender.serving.archive import Archive
from recommender.serving.options import FittedRanker, ServingOptions
from recommender.serving.ranker_file import read_ranker

log = logging.getLogger(__name__)

SERVICE_NAMES = (
    related_pb.DESCRIPTOR.services_by_name["RelatedNewsService"].full_name,
    articles_pb.DESCRIPTOR.services_by_name["ArticleService"].full_name,
)
"""The services whose health is reported, besides "", which stands for the whole server."""


class Server:
    """One serving process. Create, `start` and `stop` it on one event loop."""

    def __init__(
        self, settings: Settings, archive: Archive, now_ms: Callable[[], int], *, reuse_port: bool = False
    ) -> None:
        """Serve `archive`, which is loaded; nothing listens yet.

        now_ms: the clock. reuse_port: other processes listen on the same port.
        """
        self._settings = settings.server
        self._archive = archive
        self._health = health_aio.HealthServicer()
        self._grpc = grpc.aio.server(
            interceptors=[Guard()],
            maximum_concurrent_rpcs=self._settings.concurrent_calls_max,
            options=[
                ("grpc.max_receive_message_length", self._settings.message_bytes_max),
                ("grpc.max_send_message_length", self._settings.message_bytes_max),
                ("grpc.so_reuseport", int(reuse_port)),
            ],
        )
        self._options = make_options(settings)
        related = RelatedNewsService(archive, lambda: self._options, now_ms)
        articles = ArticleService(archive, lambda: self._options, now_ms)
        related_grpc.add_RelatedNewsServiceServicer_to_server(related, self._grpc)
        articles_grpc.add_ArticleServiceServicer_to_server(articles, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        names = (*SERVICE_NAMES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)

    async def start(self, encoder_address: str = "") -> str:
        """Listen and answer; returns the address. Raises StorageError if the address is taken or not this machine's.

        encoder_address: where this process's encoder listens, for others to find it.
        """
        wanted = address_of(self._settings.host, self._settings.port)
        try:
            port = self._grpc.add_insecure_port(wanted)
        except RuntimeError as error:
            raise StorageError(f"cannot listen on {wanted}", fix="choose another port, or stop who uses it") from error
        await self._archive.follow(encoder_address)
        await self._grpc.start()
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return address_of(self._settings.host, port)

    def reload(self, settings: Settings) -> None:
        """Apply layouts, ranker and limits; other settings need a restart."""
        self._options = make_options(settings)

    async def stop(self) -> None:
        """Report NOT_SERVING, let calls in flight finish within drain_s, and close the archive."""
        await self._health.enter_graceful_shutdown()
        await self._archive.drain()
        await self._grpc.stop(self._settings.drain_s)
        await self._archive.close()


def make_options(settings: Settings) -> ServingOptions:
    """Return the options of the services.

    The supervisor has checked the ranker, see `check_ranker`. If it cannot be read any more, the default formula ranks,
    and answers carry a warning.
    """
    return ServingOptions(
        layouts={DEFAULT_LAYOUT_NAME: DEFAULT_LAYOUT, **settings.layouts},
        pages_per_batch=settings.server.pages_per_batch,
        articles_per_write=settings.server.articles_per_write,
        fitted=_read_ranker(settings.ranker) if settings.ranker else None,
    )


def _read_ranker(path: Path) -> FittedRanker:
    try:
        parameters = read_ranker(path)
        return FittedRanker(Ranker(FittedFormula(parameters)), parameters.encoder)
    except RelatedNewsError as error:
        log.error("ranked by the default: %s", error)
        return FittedRanker(None, "")
