"""Stored articles with what is derived from their texts, and reading the whole store at one revision."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recommender.catalog.articles import Article, article_from_json
from recommender.catalog.text.derived import ANALYSIS, Analysis, Vectors, analyse
from recommender.catalog.text.terms import Terms, TermStatistics
from recommender.errors import MismatchError

KEYS_PER_QUERY_MAX = 500
"""Limits the keys of one query: SQLite accepts a bounded number of values."""
SELECT_STORED = (
    "SELECT a.content, v.data, t.terms, t.sketch FROM articles a"
    " LEFT JOIN vectors v ON v.text_hash = a.text_hash AND v.encoder = ?"
    " LEFT JOIN analyses t ON t.text_hash = a.text_hash AND t.version = ?"
)
"""Selects what a StoredArticle needs; takes encoder and analysis version. `to_stored` reads its rows."""

Embed = Callable[[Article], Vectors]
"""Makes the vectors of an article that lacks them."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredArticle:
    """One article with what is derived from its text, as stored."""

    article: Article
    vectors: Vectors
    analysis: Analysis


@dataclass(frozen=True, slots=True, eq=False)
class VectorLookup:
    """Which vectors the store has for the texts of some articles.

    text_hashes: of the articles, in order. missing: an article for each text without vectors.
    """

    text_hashes: list[bytes]
    stored: dict[bytes, Vectors]
    missing: dict[bytes, Article]

    def complete(self, embedded: Sequence[Vectors]) -> list[Vectors]:
        """Return every article's vectors, in order. embedded: the vectors of `missing`, in its order."""
        vectors = self.stored | dict(zip(self.missing, embedded, strict=True))
        return [vectors[text_hash] for text_hash in self.text_hashes]


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Stored term statistics. version: grows with each count."""

    version: int
    counted_at_ms: int
    terms: TermStatistics


class ReadTransaction:
    """The store at one revision; see `Store.read_transaction`."""

    def __init__(self, connection: sqlite3.Connection, encoder: str, embed: Embed | None) -> None:
        """connection: inside a transaction. embed: makes vectors for articles without them."""
        self._connection = connection
        self._embed = embed
        self._keys = (encoder, ANALYSIS)
        self.revision = int(connection.execute("SELECT COALESCE(MAX(revision), 0) FROM changes").fetchone()[0])
        self.count = int(connection.execute("SELECT COUNT(*) FROM articles").fetchone()[0])

    def terms(self) -> Iterator[Terms]:
        """Yield the terms of every article, in no particular order."""
        sql = "SELECT t.terms FROM articles a JOIN analyses t ON t.text_hash = a.text_hash AND t.version = ?"
        for row in self._connection.execute(sql, (ANALYSIS,)):
            yield Terms.from_bytes(row[0])

    def in_time_order(self) -> Iterator[StoredArticle]:
        """Yield every article by (public_at_ms, id). Raises MismatchError if one has no vectors of the encoder."""
        for row in self._connection.execute(f"{SELECT_STORED} ORDER BY a.public_at_ms, a.id", self._keys):
            yield to_stored(row, self._embed)

    def ids_changed_after(self, revision: int) -> list[str]:
        """Return the distinct ids of articles that were changed or withdrawn after `revision`."""
        sql = "SELECT DISTINCT article_id FROM changes WHERE revision > ?"
        return [row[0] for row in self._connection.execute(sql, (revision,))]

    def stored(self, ids: Sequence[str]) -> Iterator[StoredArticle]:
        """Yield the stored articles among `ids`. Raises MismatchError if one has no vectors of the encoder."""
        for start in range(0, len(ids), KEYS_PER_QUERY_MAX):
            part = ids[start : start + KEYS_PER_QUERY_MAX]
            sql = f"{SELECT_STORED} WHERE a.id IN ({','.join('?' * len(part))})"
            for row in self._connection.execute(sql, (*self._keys, *part)):
                yield to_stored(row, self._embed)


def to_stored(row: Sequence[object], embed: Embed | None = None) -> StoredArticle:
    """Return a row of SELECT_STORED as a value; analyse the article if its analysis is of another release's version.

    embed: makes the vectors if none are stored; without it MismatchError is raised.
    """
    content, data, terms, sketch = row
    assert isinstance(content, str)
    article = article_from_json(content)
    if isinstance(data, bytes):
        vectors = Vectors.from_bytes(data)
    elif embed is not None:
        vectors = embed(article)
    else:
        raise MismatchError(f"article {article.id!r} has no vectors of this model", fix="run `related-news reindex`")
    if isinstance(terms, bytes) and isinstance(sketch, bytes):
        analysis = to_analysis(terms, sketch)
    else:
        analysis = analyse(article)
    return StoredArticle(article, vectors, analysis)


def to_analysis(terms: bytes, sketch: bytes) -> Analysis:
    """Return an analysis from its two stored values."""
    return Analysis(Terms.from_bytes(terms), np.frombuffer(sketch, np.uint8))
