"""A blocking client of one server, and its refused calls in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_status import rpc_status
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from tests.newsroom import PAGE
from tests.service.messages import fill_request, ids_of, list_request

RELATED = "/related_news.v1.RelatedNewsService/"
"""Prefix of the full names of RelatedNewsService's methods."""
ARTICLES = "/related_news.v1.ArticleService/"
"""Prefix of the full names of ArticleService's methods."""
TIMEOUT_S = 20.0
"""Limits one call. It is generous: a call that takes this long has hung."""


@dataclass(frozen=True)
class Client:
    """Blocking stubs of one server."""

    address: str
    channel: grpc.Channel

    @property
    def related(self) -> related_grpc.RelatedNewsServiceStub:
        return related_grpc.RelatedNewsServiceStub(self.channel)

    @property
    def articles(self) -> articles_grpc.ArticleServiceStub:
        return articles_grpc.ArticleServiceStub(self.channel)

    @property
    def health(self) -> Any:
        return health_pb2_grpc.HealthStub(self.channel)

    def fill(self, **values: Any) -> related_pb.PagePlan:
        """Call FillSlots as of the tests' clock."""
        return self.related.FillSlots(fill_request(**values), timeout=TIMEOUT_S).plan

    def list(self, **values: Any) -> related_pb.ListRelatedResponse:
        """Call ListRelated as of the tests' clock."""
        return self.related.ListRelated(list_request(**values), timeout=TIMEOUT_S)

    def upsert(self, *articles: common_pb.Article) -> articles_pb.UpsertArticlesResponse:
        """Call UpsertArticles."""
        return self.articles.UpsertArticles(articles_pb.UpsertArticlesRequest(articles=articles), timeout=TIMEOUT_S)

    def delete(self, *ids: str) -> articles_pb.DeleteArticlesResponse:
        """Call DeleteArticles."""
        return self.articles.DeleteArticles(articles_pb.DeleteArticlesRequest(ids=ids), timeout=TIMEOUT_S)

    def get(self, article_id: str) -> common_pb.Article:
        """Call GetArticle."""
        return self.articles.GetArticle(articles_pb.GetArticleRequest(id=article_id), timeout=TIMEOUT_S).article

    def status(self) -> articles_pb.GetIndexStatusResponse:
        """Call GetIndexStatus."""
        return self.articles.GetIndexStatus(articles_pb.GetIndexStatusRequest(), timeout=TIMEOUT_S)

    def raw(self, method: str, data: bytes) -> bytes:
        """Send bytes as they are to a method given as its full path; returns the answer's bytes."""
        call = self.channel.unary_unary(method, request_serializer=_as_it_is, response_deserializer=_as_it_is)
        answer: bytes = call(data, timeout=TIMEOUT_S)
        return answer


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to host:port, reconnecting at once when that is possible again."""
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
    with grpc.insecure_channel(address, options=options) as channel:
        yield Client(address, channel)


def shown(client: Client) -> list[str]:
    """Return the ids that PAGE shows, and those that are listed for it."""
    return [*ids_of(client.fill(article_id=PAGE)), *ids_of(client.list(article_id=PAGE, k=20))]


def _as_it_is(data: bytes) -> bytes:
    return data


@dataclass(frozen=True)
class Refusal:
    """A call's status with its details."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    violations: Mapping[str, str] = field(default_factory=dict)
    resource: tuple[str, str] | None = None


def refusal(call: Callable[[], object]) -> Refusal:
    """Make a call that must fail; returns its status. The rich status must agree with the plain one."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    assert isinstance(error, grpc.Call)
    plain = Refusal(error.code(), error.details() or "")
    rich = rpc_status.from_call(error)
    if rich is None:
        return plain
    assert code_pb2.Code.Name(rich.code) == plain.code.name
    values: dict[str, Any] = {}
    for detail in rich.details:
        values |= _detail_values(detail)
    return Refusal(plain.code, plain.message, **values)


def _detail_values(packed: Any) -> dict[str, Any]:
    info, bad, resource = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.ResourceInfo(),
    )
    if packed.Unpack(info):
        return {"reason": info.reason, "domain": info.domain}
    if packed.Unpack(bad):
        return {"violations": {v.field: v.description for v in bad.field_violations}}
    assert packed.Unpack(resource), packed.type_url
    return {"resource": (resource.resource_type, resource.resource_name)}
