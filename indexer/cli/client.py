"""A small client of a running service for the command line; its statuses become our errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc_status import rpc_status
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from indexer.cleaning import clean
from indexer.sources import open_source
from indexer.sources.base import RawArticle
from recommender.answer.recommend import K_MAX
from recommender.catalog.checks import parse_time_ms
from recommender.errors import InvalidInputError, RelatedNewsError, UnavailableError
from recommender.rpc.messages import kind_to, timestamp

TIMEOUT_S = 10.0
"""Deadline of a call."""

Page = str | related_pb.Draft
"""Id of a stored article, or a draft."""


class Client:
    """Calls one service. Raises UnavailableError if none answers, RelatedNewsError with the text of a status."""

    def __init__(self, channel: grpc.Channel) -> None:
        """Call through `channel`."""
        self._related = related_grpc.RelatedNewsServiceStub(channel)
        self._articles = articles_grpc.ArticleServiceStub(channel)

    def list_related(self, page: Page, k: int) -> related_pb.ListRelatedResponse:
        """List related articles."""
        if not 1 <= k <= K_MAX:
            raise InvalidInputError("k", f"is {k}", fix=f"ask for 1 to {K_MAX}")
        request = related_pb.ListRelatedRequest(k=k)
        _set_page(request, page)
        with _statuses():
            return self._related.ListRelated(request, timeout=TIMEOUT_S)

    def fill_slots(self, page: Page, layout: str) -> related_pb.PagePlan:
        """Fill a page."""
        request = related_pb.FillSlotsRequest(layout_name=layout)
        _set_page(request, page)
        with _statuses():
            return self._related.FillSlots(request, timeout=TIMEOUT_S).plan

    def get_article(self, article_id: str) -> common_pb.Article:
        """Read one article."""
        with _statuses():
            return self._articles.GetArticle(articles_pb.GetArticleRequest(id=article_id), timeout=TIMEOUT_S).article

    def status(self) -> articles_pb.GetIndexStatusResponse:
        """Ask for the index's status."""
        with _statuses():
            return self._articles.GetIndexStatus(articles_pb.GetIndexStatusRequest(), timeout=TIMEOUT_S)

    def delete(self, ids: Sequence[str]) -> articles_pb.DeleteArticlesResponse:
        """Withdraw articles."""
        with _statuses():
            return self._articles.DeleteArticles(articles_pb.DeleteArticlesRequest(ids=ids), timeout=TIMEOUT_S)


@contextmanager
def connect(address: str, *, message_bytes_max: int) -> Iterator[Client]:
    """Connect to host:port, lazily: the first call fails if no service answers there."""
    options = [("grpc.max_receive_message_length", message_bytes_max)]
    with grpc.insecure_channel(address, options=options) as channel:
        yield Client(channel)


def read_draft(path: Path) -> related_pb.Draft:
    """Return the first article of a file or folder that `related-news index` can read, as a draft.

    Raises InvalidInputError if there is none.
    """
    raw = next(iter(open_source(path).records()), None)
    if not isinstance(raw, RawArticle):
        reason = f": {raw.where}: {raw.reason}" if raw else ""
        raise InvalidInputError(
            str(path), f"holds no readable article{reason}", fix="give one that `related-news index` can read"
        )
    cleaned = clean(raw)
    draft = related_pb.Draft(
        title=raw.title,
        summary=cleaned.summary,
        paragraphs=[common_pb.Paragraph(text=p.text, kind=kind_to(p.kind)) for p in cleaned.paragraphs],
        language=raw.labels.language,
        section=raw.labels.section,
        site=raw.labels.site,
        author=raw.labels.author,
        tags=raw.labels.tags,
        url=raw.url,
    )
    if raw.published_at:
        draft.published_at.CopyFrom(timestamp(parse_time_ms(raw.published_at)))
    return draft


def to_json(message: Message) -> str:
    """Return a message as JSON with the contract's field names."""
    return json_format.MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=False)


def _set_page(request: related_pb.FillSlotsRequest | related_pb.ListRelatedRequest, page: Page) -> None:
    if isinstance(page, str):
        request.article_id = page
    else:
        request.draft.CopyFrom(page)


@contextmanager
def _statuses() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        from_service = isinstance(error, grpc.Call) and rpc_status.from_call(error) is not None
        if error.code() is grpc.StatusCode.UNAVAILABLE and not from_service:
            raise UnavailableError(
                f"no service answers: {error.details()}", fix="start one with `related-news serve`, or give --address"
            ) from None
        raise RelatedNewsError(f"{error.code().name}: {error.details()}") from None
