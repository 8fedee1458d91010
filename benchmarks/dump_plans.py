"""Write every answer of an index to a file, for `cmp` to prove that a change of the code changes no answer.

python -m benchmarks.dump_plans DATA_DIR --to before.jsonl     # then change the code, and once more: --to after.jsonl
cmp before.jsonl after.jsonl

A real service answers over gRPC. Two runs on one index give the same bytes: each request names its time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from benchmarks.data import open_live
from benchmarks.service.hosting import Cores, serving

_TIMEOUT_S = 60.0
"""Deadline of one call, seconds."""
_LISTED = 20
"""Number of articles asked for by ListRelated."""
_DRAFT_FIELDS = tuple(field.name for field in related_pb.Draft.DESCRIPTOR.fields)
"""Fields of a draft; an Article has all of them under the same names."""


class _Service:
    """A client of one running service that turns each answer into one line of JSON."""

    def __init__(self, channel: grpc.Channel, now: Timestamp) -> None:
        """now: the time of every request but those as of the page's own time."""
        self._related = related_grpc.RelatedNewsServiceStub(channel)
        self._articles = articles_grpc.ArticleServiceStub(channel)
        self._now = now

    def page(self, article_id: str) -> Iterator[str]:
        """Ask for a stored page: its plan now, its plan when it was published, and its related articles."""
        published_at = self._article(article_id).published_at
        for name, as_of in (("plan", self._now), ("plan_when_published", published_at)):
            request = related_pb.FillSlotsRequest(article_id=article_id, as_of=as_of)
            yield _line(article_id, name, self._related.FillSlots(request, timeout=_TIMEOUT_S))
        listed = related_pb.ListRelatedRequest(article_id=article_id, as_of=self._now, k=_LISTED)
        yield _line(article_id, "related", self._related.ListRelated(listed, timeout=_TIMEOUT_S))

    def draft(self, article_id: str) -> str:
        """Ask for the same page as a draft, which the service embeds."""
        article = self._article(article_id)
        draft = related_pb.Draft(**{name: getattr(article, name) for name in _DRAFT_FIELDS})
        request = related_pb.FillSlotsRequest(draft=draft, as_of=self._now)
        return _line(article_id, "draft", self._related.FillSlots(request, timeout=_TIMEOUT_S))

    def _article(self, article_id: str) -> common_pb.Article:
        request = articles_pb.GetArticleRequest(id=article_id)
        return self._articles.GetArticle(request, timeout=_TIMEOUT_S).article


def main(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index.")],
    to: Annotated[Path, typer.Option(help="File to write.")],
    drafts: Annotated[int, typer.Option(min=0, help="Articles, evenly spread, asked for as drafts too.")] = 50,
) -> None:
    """Write one line for each answer."""
    live = open_live(data_dir)
    rows = live.rows()
    ids = [live.record(int(row)).id for row in rows]
    now = Timestamp()
    now.FromMilliseconds(int(live.column("public_at_ms", rows).max()))
    step = max(1, len(ids) // max(1, drafts))
    started = time.perf_counter()
    lines: list[str] = []
    with serving(data_dir, Cores.split()) as service, grpc.insecure_channel(service.address) as channel:
        client = _Service(channel, now)
        for number, article_id in enumerate(ids):
            lines.extend(client.page(article_id))
            if drafts and number % step == 0:
                lines.append(client.draft(article_id))
    to.write_text("".join(lines), encoding="utf-8")
    typer.echo(f"{to}: {len(lines)} answers of {len(ids)} pages in {time.perf_counter() - started:.0f} s")


def _line(article_id: str, name: str, answer: Message) -> str:
    values = MessageToDict(answer, preserving_proto_field_name=True)
    return json.dumps([article_id, name, values], ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    typer.run(main)
