"""Fields are counted before a message is parsed, whatever its bytes are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.errors import InvalidInputError
from recommender.rpc import field_limit
from recommender.rpc.field_limit import UNCOUNTED_BYTES, check_fields

UPSERT = articles_pb.UpsertArticlesRequest.DESCRIPTOR
FILL = related_pb.FillSlotsRequest.DESCRIPTOR
GROUP = b"\xa3\x06\xa4\x06"
"""An empty group: an old kind of field, which the parser skips."""


def write(articles: int, paragraphs: int, chars: int = 1) -> articles_pb.UpsertArticlesRequest:
    """Return a write of `articles` articles with `paragraphs` paragraphs each."""
    body = [common_pb.Paragraph(text="x" * chars)] * paragraphs
    return articles_pb.UpsertArticlesRequest(articles=[common_pb.Article(id="a", paragraphs=body)] * articles)


def fields_of(message: Message) -> int:
    """Return the number of fields that are set, with those of submessages that can hold more than single values."""
    count = 0
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        count += len(values)
        if field.message_type and any(inner.is_repeated or inner.message_type for inner in field.message_type.fields):
            count += sum(map(fields_of, values))
    return count


@pytest.mark.parametrize(
    "message",
    [
        write(3, 40),
        related_pb.FillSlotsRequest(article_id="a", on_page_ids=["b", "", "c"], min_revision=2**63),
        related_pb.ListRelatedRequest(draft=related_pb.Draft(title="x"), k=5, min_score=0.5),
        related_pb.FillSlotsRequest(layout=related_pb.Layout(name="x", slots=[related_pb.Slot(count=3)] * 4)),
    ],
)
def test_every_field_is_counted(monkeypatch: pytest.MonkeyPatch, message: Message) -> None:
    """A limit of exactly as many fields as the message has passes, one less is refused."""
    monkeypatch.setattr(field_limit, "UNCOUNTED_BYTES", 0)
    data, count = message.SerializeToString(), fields_of(message)
    kind: Any = message.DESCRIPTOR
    check_fields(data, kind, count)
    with pytest.raises(InvalidInputError, match=f"request: has more than {count - 1} fields"):
        check_fields(data, kind, count - 1)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (UPSERT, b"\x0a\x00" * 600_000),
        (UPSERT, write(1, 600_000, 0).SerializeToString()),
        (FILL, related_pb.FillSlotsRequest(draft=related_pb.Draft(tags=[""] * 600_000)).SerializeToString()),
        (FILL, related_pb.FillSlotsRequest(on_page_ids=[""] * 600_000).SerializeToString()),
        (UPSERT, GROUP + b"\x0a\x00" * 600_000),
        (UPSERT, write(1, 600_000, 0).SerializeToString() + b"\x0f"),
    ],
    ids=["articles", "paragraphs", "tags", "ids", "articles after a group", "paragraphs before a bad byte"],
)
def test_a_message_that_would_fill_the_memory_is_refused(kind: Any, data: bytes) -> None:
    """The message is a megabyte on the wire and would be a hundred once it is parsed."""
    with pytest.raises(InvalidInputError, match=r"has more than 500,000 fields \(send less at once\)"):
        check_fields(data, kind)


def test_a_number_without_end_is_skipped_at_once() -> None:
    """Adding it up would take hours."""
    data = b"\xff" * (2 * UNCOUNTED_BYTES) + b"\x01"
    check_fields(data, UPSERT)
    with pytest.raises(DecodeError):
        articles_pb.UpsertArticlesRequest.FromString(data)


def test_a_full_write_passes() -> None:
    """Five hundred long articles pass, of many paragraphs or of few."""
    check_fields(write(500, 400, 60).SerializeToString(), UPSERT)
    check_fields(write(500, 3, 20_000).SerializeToString(), UPSERT)


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda data: data, lambda data: data[:-1], lambda data: b"\xff" * 20 + data])
@given(data=st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(make: Callable[[bytes], bytes], data: bytes) -> None:
    """The parser refuses malformed bytes in its own words."""
    padded = make(data + write(2, 2).SerializeToString() + data)
    check_fields(padded + b"\x0a" * UNCOUNTED_BYTES, UPSERT)
