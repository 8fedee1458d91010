"""What the service's tests share: a newsroom, a real server on a background loop or in a process, refusals in full."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_status import rpc_status
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from recommender.answer.layout import Layout, Placement, Slot
from recommender.catalog.articles import Article
from recommender.catalog.opening import open_catalog
from recommender.clock import now_ms
from recommender.config import ServerSettings, Settings
from recommender.encoding.batcher import Batcher
from recommender.encoding.embedder import Embedder, Matrix
from recommender.errors import MismatchError
from recommender.rpc.messages import article_to, timestamp
from recommender.rpc.server import Server
from recommender.serving.archive import Archive
from recommender.serving.following import Follower
from tests.building import NOW_MS, FakeEmbedder, article

ROOT = Path(__file__).parents[2]
RELATED = "/related_news.v1.RelatedNewsService/"
ARTICLES = "/related_news.v1.ArticleService/"
NOW = timestamp(NOW_MS)
TIMEOUT_S = 20.0
"""Generous: a call that takes this long has hung."""

T = TypeVar("T")

# A newsroom

SECTIONS = ("harbour", "orchards", "railways", "theatre", "glaciers")
BEATS = {
    "harbour": "pier crane tide cargo pilot dredging berth customs tonnage breakwater mooring tug ferry quay container",
    "orchards": "apple blossom frost cider grafting pollen harvest beehive pruning orchardist pear irrigation crate",
    "railways": "tunnel signal gauge sleeper timetable locomotive junction freight viaduct commuter platform depot",
    "theatre": "rehearsal curtain playwright ensemble matinee premiere stagehand monologue costume critic balcony",
    "glaciers": "moraine meltwater crevasse snowpack borehole climate summit ablation icefall survey sediment ridge",
}
COMMON = "officials reported monday plans council residents budget spokesperson described changes region committee"
PER_SECTION = 8
PAGE = "harbour-0"
"""A stored page of eight paragraphs with something related in the archive."""
SIDE_LAYOUT = Layout(
    name="side", slots=(Slot(name="beside", placement=Placement.END, count=4, min_score=0.0, diversity=0.1),)
)
"""A layout that the tests' server has in its settings."""


def newsroom() -> list[Article]:
    """Return 40 articles, eight of each section, the first of each the newest; no two alike."""
    return [made_up(section, number) for section in SECTIONS for number in range(PER_SECTION)]


def made_up(section: str, number: int) -> Article:
    """Return one article of a section; another number is another text on the same beat."""
    rng = random.Random(f"{section}-{number}")
    beat, common = BEATS[section].split(), COMMON.split()

    def sentence(words: int) -> str:
        return " ".join(rng.choice(beat) if rng.random() < 0.6 else rng.choice(common) for _ in range(words)) + "."

    return article(
        f"{section}-{number}",
        title=f"{rng.choice(beat)} {rng.choice(beat)} {rng.choice(common)} {number}".capitalize(),
        summary=sentence(12).capitalize(),
        paragraphs=[sentence(24).capitalize() for _ in range(8)],
        days_ago=1 + number % 1_000 * 3,
        section=section,
        tags=[section, f"tag-{number % 2}"],
    )


def message(id: str, **changes: Any) -> common_pb.Article:
    """Return an article's message as a publisher sends it: any id, no rules. changes: arguments of `article`."""
    sent = article_to(article("valid", **{"url": "", **changes}))
    sent.id = id
    sent.ClearField("rules")
    return sent


def draft(section: str = "harbour", **changes: Any) -> related_pb.Draft:
    """Return a draft that continues the beat of a section."""
    like = made_up(section, 100)
    values: dict[str, Any] = {
        "title": like.title,
        "summary": like.summary,
        "paragraphs": [common_pb.Paragraph(text=p.text) for p in like.paragraphs],
        "language": "en",
        "section": section,
        "site": like.labels.site,
    }
    return related_pb.Draft(**{**values, **changes})


# Encoders


class TroubledEmbedder(FakeEmbedder):
    """Fails with the text itself when that names a mishap; waits at a gate for a text that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self.gate = threading.Event()

    def encode(self, texts: Sequence[str]) -> Matrix:
        for text in texts:
            if "mishap" in text:
                raise ValueError(f"cannot encode {text}")
            if "dawdle" in text:
                self.waiting.set()
                assert self.gate.wait(TIMEOUT_S), "nobody opened the gate"
        return super().encode(texts)


# Clients


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


def fill_request(**values: Any) -> related_pb.FillSlotsRequest:
    """Return a request as of the tests' clock."""
    return related_pb.FillSlotsRequest(**{"as_of": NOW, **values})


def list_request(**values: Any) -> related_pb.ListRelatedRequest:
    """Return a request as of the tests' clock."""
    return related_pb.ListRelatedRequest(**{"as_of": NOW, **values})


def ids_of(answer: related_pb.PagePlan | related_pb.ListRelatedResponse) -> list[str]:
    """Return the recommended ids in order."""
    if isinstance(answer, related_pb.PagePlan):
        filled = (place for slot in answer.slots for place in slot.places)
        return [place.recommendation.article.id for place in filled if place.HasField("recommendation")]
    return [recommendation.article.id for recommendation in answer.recommendations]


def _as_it_is(data: bytes) -> bytes:
    return data


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to host:port, reconnecting at once when that is possible again."""
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
    with grpc.insecure_channel(address, options=options) as channel:
        yield Client(address, channel)


# Refusals


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


# A server on a background loop


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers")
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.begin(work).result(TIMEOUT_S)

    def call(self, work: Callable[[], object]) -> None:
        """Run a function on the loop's thread, which it may block; returns at once."""
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class Host:
    """Starts real servers on one background loop, all in this process."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    @contextmanager
    def server(
        self,
        data_dir: Path,
        embedder: Embedder | None = None,
        clock: Callable[[], int] = now_ms,
        **settings: Any,
    ) -> Iterator[tuple[Client, Server]]:
        """Serve a data folder on a free port. settings: of the section `server`."""
        server = self.loop.run(_start(data_dir, embedder or FakeEmbedder(), clock, settings))
        try:
            with connected(server.address) as client:
                yield client, server.server
        finally:
            self.loop.run(server.server.stop())


@dataclass(frozen=True)
class _Started:
    server: Server
    address: str


async def _start(data_dir: Path, embedder: Embedder, clock: Callable[[], int], settings: Mapping[str, Any]) -> _Started:
    effective = Settings(
        data_dir=data_dir, server=ServerSettings(**{"port": 0, **settings}), layouts={SIDE_LAYOUT.name: SIDE_LAYOUT}
    )
    server = Server(effective, in_process(effective, embedder), clock)
    return _Started(server, await server.start())


def in_process(settings: Settings, embedder: Embedder) -> Archive:
    """Return the archive of the settings' data folder; its encoder is in this process and the only one there is."""
    catalog = open_catalog(settings.data_dir, embedder.info.key, embedder.info.dimension)

    async def no_other(key: str) -> Batcher:
        raise MismatchError(f"this process has no encoder {key}")

    return Archive(
        Follower(settings.data_dir, catalog.store, catalog.live, Batcher(embedder), no_other),
        takedown_timeout_s=settings.server.takedown_timeout_s,
        concurrent_calls_max=settings.server.concurrent_calls_max,
    )


# A server in a process of its own


@dataclass(frozen=True)
class Served:
    """A serving process that has said its address."""

    process: subprocess.Popen[str]
    client: Client

    def end(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(TIMEOUT_S)


@contextmanager
def served(command: Sequence[str]) -> Iterator[Served]:
    """Start a serving process; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving on "):
                process.kill()
                pytest.fail(f"the server did not start: {line}{process.stderr.read() if process.stderr else ''}")
            with connected(line.removeprefix("serving on ").strip()) as client:
                yield Served(process, client)
        finally:
            process.kill()


def fake_server(data_dir: Path, *more: str) -> list[str]:
    """Return the command of a real server process on a fake encoder; see fake_server.py."""
    return [sys.executable, "-m", "tests.service.fake_server", str(data_dir), *more]


def environment() -> dict[str, str]:
    """Return this environment without settings of the service, which would reach the processes under test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RELATED_NEWS_")}


def equal(one: Message, other: Message) -> bool:
    """Say whether two answers are the same, byte for byte."""
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
