"""The interface of whole answers that are measured: an article goes in, related articles come out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.peers.peer import Setting, Vector
from recommender.catalog.articles import Article


@dataclass(frozen=True, slots=True)
class Question:
    """A stored article, and a filter: public by as_of_ms, of one language, site and section; "" means any."""

    article_id: str
    as_of_ms: int
    language: str = ""
    site: str = ""
    section: str = ""

    def labels(self) -> dict[str, str]:
        """Return the labels that restrict, by the name of the field."""
        named = {"language": self.language, "site": self.site, "section": self.section}
        return {name: value for name, value in named.items() if value}


class AnswerPeer(Protocol):
    """One way to find related articles. Used by one thread."""

    name: str
    version: str
    limits: str
    server_pid: int | None
    """The process that searches, if it is not this one."""

    def build(self, articles: Iterable[tuple[Article, Vector]], folder: Path) -> None:
        """Index articles with their vectors, and leave everything in `folder`, which is empty."""
        ...

    def related(self, question: Question, k: int) -> list[str]:
        """Return at most k ids, best first, the article itself left out."""
        ...

    def settings(self) -> dict[str, Setting]:
        """Return every setting that is not a default."""
        ...

    def close(self) -> None:
        """Stop what `build` started."""
        ...
