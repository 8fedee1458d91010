"""Archives of any size for soaking, and articles whose texts and rules tell their versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from related_news.v1 import common_pb2 as common_pb

from recommender.catalog.articles import Article
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.writer import write_snapshot
from tests.building import DIMENSION, build_store
from tests.newsroom import SECTIONS, made_up
from tests.service.messages import message


def make_archive(folder: Path, articles: int) -> None:
    """Index a number of articles, an equal share of each section, with a snapshot of them."""
    folder.mkdir(parents=True, exist_ok=True)
    store = build_store(folder, [spread(number) for number in range(articles)])
    write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()


def spread(number: int) -> Article:
    """Return one of the articles of `make_archive`."""
    return made_up(SECTIONS[number % len(SECTIONS)], number // len(SECTIONS))


@dataclass(frozen=True, slots=True)
class Version:
    """The version of an article's text, and that of its rules, which may be changed without it."""

    text: int
    rules: int


def message_of(article_id: str, version: Version, *, with_rules: bool = True) -> common_pb.Article:
    """Return an article in a version. with_rules: False sends none, which leaves those that are stored."""
    like = made_up(SECTIONS[version.text % len(SECTIONS)], 10_000 + version.text)
    sent = message(
        article_id,
        title=f"{like.title} {article_id} {version.text}",
        summary=like.summary,
        paragraphs=[paragraph.text for paragraph in like.paragraphs],
        section=like.labels.section,
        tags=like.labels.tags,
        days_ago=1 + version.text % 50,
    )
    if with_rules:
        sent.rules.never_with.append(f"rules-{version.rules}")
    return sent


def version_of(article: common_pb.Article) -> Version:
    """Return which version a stored article is. Raises AssertionError if its parts are of several versions."""
    number = int(article.title.rpartition(" ")[2])
    sent = message_of(article.id, Version(number, 0))
    for part in ("title", "summary", "paragraphs", "section", "tags", "published_at"):
        assert getattr(article, part) == getattr(sent, part), f"{article.id} is half of another version: {part}"
    (rules,) = article.rules.never_with
    return Version(number, int(rules.removeprefix("rules-")))
