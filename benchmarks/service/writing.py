"""A writer in a process of its own: upserts and deletions by turns at a steady rate, and how soon a write is shown.

Its texts are embedded once, at the start; fifty new texts a second would measure the encoder.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from benchmarks.service.client import TIMEOUT_S
from benchmarks.service.hosting import pin

ARTICLES = 20
"""Articles that are written by turns."""
PROBE_EVERY = 25
"""Writes from one probe to the next."""
PROBES = "benchmark-probes"
"""Section that only the probe's article is in."""
SHOWN_TIMEOUT_S = 10.0
"""Longest wait until a probe's article is shown."""


@dataclass(slots=True)
class Written:
    """Times of writes, in seconds.

    writes_s: of each write. fresh_s: from each probe's acknowledgement to the end of the first call that shows it.
    seconds: of everything, including waits until a write was due.
    """

    writes_s: list[float] = field(default_factory=list)
    fresh_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Written) -> None:
        """Add later measurements."""
        self.writes_s += other.writes_s
        self.fresh_s += other.fresh_s
        self.seconds += other.seconds

    def values(self) -> dict[str, Any]:
        """Return rate and quantiles as JSON takes them."""
        rate = round(len(self.writes_s) / self.seconds, 1) if self.seconds else 0.0
        return {"per_second": rate, "write_ms": _quantiles_ms(self.writes_s), "fresh_ms": _quantiles_ms(self.fresh_s)}


def _quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {"count": 0}
    p50, p99, most = (np.quantile(seconds, [0.5, 0.99, 1.0]) * 1e3).round(3).tolist()
    return {"count": len(seconds), "p50": p50, "p99": p99, "max": most}


class _Writer:
    def __init__(self, address: str, drafts: Sequence[related_pb.Draft], page: bytes) -> None:
        channel = grpc.insecure_channel(address)
        self._articles = articles_grpc.ArticleServiceStub(channel)
        self._related = related_grpc.RelatedNewsServiceStub(channel)
        self._written = [_article(draft, f"benchmark-{n}") for n, draft in enumerate(drafts[:ARTICLES])]
        self._probe = _article(drafts[0], "benchmark-probe", section=PROBES)
        self._look = related_pb.ListRelatedRequest.FromString(page)
        self._look.filters.CopyFrom(common_pb.Filters(sections=[PROBES], languages=["*"], sites=["*"]))
        self._turns = itertools.count()
        self._upsert(*self._written, self._probe)

    def write(self, rate: float, seconds: float) -> Written:
        """Write `rate` times a second for `seconds`; late writes are made up for."""
        written = Written()
        due = start = time.perf_counter()
        until = due + seconds
        while (now := time.perf_counter()) < until:
            time.sleep(max(0.0, due - now))
            due += 1 / rate
            turn = next(self._turns)
            started = time.perf_counter()
            self._write(turn)
            written.writes_s.append(time.perf_counter() - started)
            if turn % PROBE_EVERY == 0:
                written.fresh_s.append(self._time_until_shown())
        written.seconds = time.perf_counter() - start
        return written

    def _write(self, turn: int) -> None:
        article = self._written[turn // 2 % len(self._written)]
        if turn % 2:
            self._upsert(article)
        else:
            self._delete(article.id)

    def _time_until_shown(self) -> float:
        self._delete(self._probe.id)
        self._upsert(self._probe)
        acknowledged = time.perf_counter()
        while not self._related.ListRelated(self._look, timeout=TIMEOUT_S).recommendations:
            if time.perf_counter() > acknowledged + SHOWN_TIMEOUT_S:
                raise RuntimeError(f"an article that was acknowledged is not shown after {SHOWN_TIMEOUT_S} s")
        return time.perf_counter() - acknowledged

    def _upsert(self, *articles: common_pb.Article) -> None:
        answer = self._articles.UpsertArticles(articles_pb.UpsertArticlesRequest(articles=articles), timeout=TIMEOUT_S)
        refused = [result for result in answer.results if result.HasField("problem")]
        if refused:
            raise RuntimeError(f"an article is refused: {refused[0]}")

    def _delete(self, article_id: str) -> None:
        self._articles.DeleteArticles(articles_pb.DeleteArticlesRequest(ids=[article_id]), timeout=TIMEOUT_S)


def _article(draft: related_pb.Draft, article_id: str, section: str = "") -> common_pb.Article:
    article = common_pb.Article(
        id=article_id,
        title=draft.title,
        paragraphs=draft.paragraphs,
        language=draft.language,
        section=section or draft.section,
        site=draft.site,
        tags=draft.tags,
    )
    article.published_at.GetCurrentTime()
    return article


_writer: _Writer


def begin(cores: frozenset[int], address: str, drafts: list[bytes], page: bytes) -> None:
    """Start in a new process: pin it to these cores, connect, and have the texts embedded.

    drafts: FillSlotsRequests that the texts are from. page: a ListRelatedRequest whose answers should show probes.
    """
    global _writer
    pin(cores)
    _writer = _Writer(address, [related_pb.FillSlotsRequest.FromString(one).draft for one in drafts], page)


def write(rate: float, seconds: float) -> Written:
    """Write `rate` times a second for `seconds`."""
    return _writer.write(rate, seconds)
