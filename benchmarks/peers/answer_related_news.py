"""This project's own answer, in process: what ListRelated calls, from candidates to explained links."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from benchmarks.peers.answer import Question
from benchmarks.peers.peer import Setting, Vector
from recommender.answer.recommend import EVERY, Recommender, Request
from recommender.catalog.articles import Article
from recommender.catalog.live import Live
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.vectors.index import limit_threads


class Peer:
    """The recommender over an index that is already open."""

    name = "related-news"
    version = importlib.metadata.version("related-news")
    limits = ""
    server_pid: int | None = None

    def __init__(self, live: Live) -> None:
        """Answer from `live`."""
        self._recommender = Recommender(live)

    def build(self, articles: Iterable[tuple[Article, Vector]], folder: Path) -> None:
        """Do nothing: `related-news index` built the index."""
        del articles, folder
        limit_threads(1)

    def related(self, question: Question, k: int) -> list[str]:
        """Return the related articles as of the question's time."""
        scope = Scope(
            sections=frozenset({question.section}) if question.section else None,
            languages=frozenset({question.language}) if question.language else EVERY,
            sites=frozenset({question.site}) if question.site else EVERY,
        )
        request = Request(question.article_id, question.as_of_ms, scope)
        return [link.article.id for link in self._recommender.list_related(request, k).recommendations]

    def settings(self) -> dict[str, Setting]:
        """Return the number of threads; all else is default."""
        return {"ranker": self._recommender.ranker.formula.name, "threads": 1}

    def close(self) -> None:
        """Do nothing: nothing was started."""
