"""Messages as a publisher sends them, requests as of the tests' clock, and what is read from answers."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.rpc.messages import article_to, timestamp
from tests.building import NOW_MS, article
from tests.newsroom import made_up

NOW = timestamp(NOW_MS)
"""The tests' clock as a message."""


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


def like_page(article_id: str, **changes: object) -> common_pb.Article:
    """Return an article that PAGE and every other page of the harbour links to. changes: arguments of `message`."""
    near = draft(title=f"Pier and crane and tide {article_id}")
    values = {"title": near.title, "summary": near.summary, "paragraphs": [p.text for p in near.paragraphs]}
    return message(article_id, section="harbour", **{**values, **changes})


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


def equal(one: Message, other: Message) -> bool:
    """Say whether two answers are the same, byte for byte."""
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
