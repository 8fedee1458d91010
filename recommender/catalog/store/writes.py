"""The SQL that writes or withdraws one article, inside a transaction."""

from __future__ import annotations

import enum
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace

from recommender.catalog.articles import Article, EditorLink, Labels, Rules, article_from_json
from recommender.catalog.text.derived import ANALYSIS, Analysis, Vectors


class Outcome(enum.Enum):
    """What a write did to one article."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    WITHDRAWN = "withdrawn"
    """The article had been withdrawn, and the upsert was not to restore it: nothing was written."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """An article to add or replace.

    keep_rules: leave the stored rules as they are; article.rules is used only if none are stored. links: the editor
    links harvested from its body; None leaves the stored ones. restore: bring it back if it was withdrawn.
    """

    article: Article
    keep_rules: bool = False
    links: tuple[EditorLink, ...] | None = None
    restore: bool = True

    def applied_to(self, stored: Article | None) -> Article:
        """Return the article as the store holds it afterwards; equal to `stored` if it does not change."""
        return replace(self.article, rules=stored.rules) if self.keep_rules and stored else self.article

    def is_change(self, stored: Article | None, links: tuple[EditorLink, ...]) -> bool:
        """Say whether the article, its rules or its links differ from the stored ones."""
        return self.applied_to(stored) != stored or self.links not in (None, links)


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """An upsert with what is derived from the article's text."""

    upsert: Upsert
    vectors: Vectors
    analysis: Analysis


@dataclass(frozen=True, slots=True)
class FormerArticle:
    """What the change log records of an article that a change replaced or withdrew: labels, no text.

    text_hash: key of its vectors and analysis, hexadecimal; those are never deleted.
    """

    text_hash: str
    published_at_ms: int
    public_at_ms: int
    labels: Labels
    evergreen: bool
    never_target: bool

    def to_json(self) -> str:
        """Serialise; `FormerArticle.from_json` reads it back."""
        labels = self.labels.to_values()
        values = {
            "text_hash": self.text_hash,
            "published_at_ms": self.published_at_ms,
            "public_at_ms": self.public_at_ms,
            **{name: labels[name] for name in ("section", "site", "language", "author", "tags")},
            "evergreen": self.evergreen,
            "never_target": self.never_target,
        }
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> FormerArticle:
        """Read back what `to_json` wrote."""
        values = json.loads(text)
        return FormerArticle(
            values["text_hash"],
            values["published_at_ms"],
            values["public_at_ms"],
            Labels.from_values(values),
            values["evergreen"],
            values["never_target"],
        )

    def to_article(self, article_id: str) -> Article:
        """Return the article as far as it is recorded: without texts, headline, address and never_with."""
        rules = Rules(never_target=self.never_target, evergreen=self.evergreen, embargo_until_ms=self.public_at_ms)
        return Article(article_id, "", "", "", (), self.published_at_ms, self.labels, rules=rules)


def former_article(article: Article) -> FormerArticle:
    """Return what the change log records of an article."""
    return FormerArticle(
        text_hash=article.text_hash().hex(),
        published_at_ms=article.published_at_ms,
        public_at_ms=article.public_at_ms,
        labels=article.labels,
        evergreen=article.rules.evergreen,
        never_target=article.rules.never_target,
    )


def write_article(
    connection: sqlite3.Connection, write: Write, old: Article | None, encoder: str, at_ms: int
) -> tuple[Outcome, Article | None]:
    """Add or replace one article, stored as `old` until now; returns the outcome, and what is stored now."""
    upsert = write.upsert
    if old is None and not upsert.restore and _is_withdrawn(connection, upsert.article.id):
        return Outcome.WITHDRAWN, None
    article = upsert.applied_to(old)
    _write_links(connection, article.id, upsert.links)
    if article == old:
        return Outcome.UNCHANGED, article
    text_hash = article.text_hash()
    write_vectors(connection, text_hash, encoder, write.vectors)
    write_analysis(connection, text_hash, write.analysis)
    revision = _log(connection, article.id, old, deleted=False, at_ms=at_ms)
    connection.execute(
        "INSERT OR REPLACE INTO articles (id, content, content_hash, text_hash, public_at_ms, revision)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (article.id, article.to_json(), article.content_hash(), text_hash, article.public_at_ms, revision),
    )
    connection.execute("DELETE FROM withdrawn WHERE article_id = ?", (article.id,))
    return Outcome.CHANGED if old else Outcome.ADDED, article


def delete_article(connection: sqlite3.Connection, article_id: str, at_ms: int) -> bool:
    """Withdraw one article; returns False if it is not stored."""
    row = connection.execute("DELETE FROM articles WHERE id = ? RETURNING content", (article_id,)).fetchone()
    if not row:
        return False
    connection.execute("DELETE FROM editor_links WHERE source_id = ?", (article_id,))
    revision = _log(connection, article_id, article_from_json(row[0]), deleted=True, at_ms=at_ms)
    connection.execute("INSERT OR REPLACE INTO withdrawn VALUES (?, ?)", (article_id, revision))
    return True


def _is_withdrawn(connection: sqlite3.Connection, article_id: str) -> bool:
    sql = "SELECT 1 FROM withdrawn WHERE article_id = ?"
    return connection.execute(sql, (article_id,)).fetchone() is not None


def write_vectors(connection: sqlite3.Connection, text_hash: bytes, encoder: str, vectors: Vectors) -> None:
    """Store the vectors of a text, unless they are stored already."""
    connection.execute("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", (text_hash, encoder, vectors.to_bytes()))


def write_analysis(connection: sqlite3.Connection, text_hash: bytes, analysis: Analysis) -> None:
    """Store the analysis of a text, unless it is stored already."""
    connection.execute(
        "INSERT OR IGNORE INTO analyses VALUES (?, ?, ?, ?)",
        (text_hash, ANALYSIS, analysis.terms.to_bytes(), analysis.sketch.tobytes()),
    )


def _write_links(connection: sqlite3.Connection, source_id: str, links: Iterable[EditorLink] | None) -> None:
    if links is None:
        return
    connection.execute("DELETE FROM editor_links WHERE source_id = ?", (source_id,))
    connection.executemany(
        "INSERT INTO editor_links VALUES (?, ?, ?, ?, ?)",
        [(source_id, i, link.target, link.paragraph, link.anchor) for i, link in enumerate(links)],
    )


def _log(connection: sqlite3.Connection, article_id: str, old: Article | None, *, deleted: bool, at_ms: int) -> int:
    """Append a change to the change log; returns its revision."""
    cursor = connection.execute(
        "INSERT INTO changes (article_id, deleted, at_ms, before) VALUES (?, ?, ?, ?)",
        (article_id, int(deleted), at_ms, former_article(old).to_json() if old else None),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid
