"""The gRPC server of one process: listen, answer, drain. Health is SERVING only while calls are answered."""

from __future__ import annotations

import logging
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
from recommender.answer.rank import Ranker
from recommender.config import Settings, address_of
from recommender.errors import RelatedNewsError, StorageError
from recommender.rpc.interceptor import Guard
from recommender.rpc.services import ArticleService, Fitted, RelatedNewsService, Terms
from recommender.serving.archive import Archive
from recommender.serving.ranker_file import read_ranker

log = logging.getLogger(__name__)

SERVICE_NAMES = (
    related_pb.DESCRIPTOR.services_by_name["RelatedNewsService"].full_name,
    articles_pb.DESCRIPTOR.services_by_name["ArticleService"].full_name,
)


class Server:
    """One serving process. Make it, `start` it, `stop` it, on one event loop."""

    def __init__(self, settings: Settings, archive: Archive, *, reuse_port: bool = False) -> None:
        """Serve `archive`, which is loaded; nothing listens yet. reuse_port: other processes listen there too."""
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
        archive.takedown_timeout_s = self._settings.takedown_timeout_s
        archive.encodings_max = -(-self._settings.concurrent_calls_max // 2)
        self._related = RelatedNewsService(archive, make_terms(settings))
        related_grpc.add_RelatedNewsServiceServicer_to_server(self._related, self._grpc)
        articles_grpc.add_ArticleServiceServicer_to_server(ArticleService(archive, self._related), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        names = (*SERVICE_NAMES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)

    async def start(self, encoder_address: str = "") -> str:
        """Listen and answer; returns the address. Raises StorageError if the address is taken or not ours.

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
        """Take over layouts, ranker and limits; the rest takes a new start."""
        self._related.terms = make_terms(settings)

    async def stop(self) -> None:
        """Report NOT_SERVING, let calls in flight finish within drain_s, and close the archive."""
        await self._health.enter_graceful_shutdown()
        await self._archive.drain()
        await self._grpc.stop(self._settings.drain_s)
        await self._archive.close()


def make_terms(settings: Settings) -> Terms:
    """Return on what terms the services answer; the supervisor has checked the ranker, see `check_ranker`.

    One that cannot be read any more is no reason not to answer: answers are ranked by the default then, and say so.
    """
    return Terms(
        layouts=settings.layouts,
        pages_per_batch=settings.server.pages_per_batch,
        articles_per_write=settings.server.articles_per_write,
        fitted=_fitted(settings.ranker) if settings.ranker else None,
    )


def _fitted(path: Path) -> Fitted:
    try:
        parameters = read_ranker(path)
        return Fitted(Ranker(FittedFormula(parameters)), parameters.encoder)
    except RelatedNewsError as error:
        log.error("ranked by the default: %s", error)
        return Fitted(None, "")
