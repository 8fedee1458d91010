"""The source of truth: SQLite in WAL mode, every commit on disk before it is acknowledged.

Each change of an article gets the next revision, in the transaction that makes the change. Everything else in a data
folder can be deleted and rebuilt from this one file.
"""

from __future__ import annotations

import enum
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recommender.catalog.articles import Article, EditorLink, article_from_json
from recommender.catalog.derived import ANALYSIS, Analysis, Vectors, analyse
from recommender.catalog.near_copies import Sketch
from recommender.catalog.schema import migrate
from recommender.catalog.sqlite import connect, explained
from recommender.catalog.wording import Terms
from recommender.errors import MismatchError, NotFoundError, StorageError

_LOOKUP_IDS = 500


class Outcome(enum.Enum):
    """What a write did to one article."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """One article to write with what is derived from its text.

    keep_rules: the stored rules stay as they are, and article.rules is used only if there are none stored.
    links: the editor links harvested from its body; None leaves the stored ones.
    """

    article: Article
    vectors: Vectors
    analysis: Analysis
    keep_rules: bool = False
    links: tuple[EditorLink, ...] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log."""

    revision: int
    article_id: str
    deleted: bool


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """One article as the store has it, with what is derived from its text."""

    article: Article
    vectors: Vectors
    analysis: Analysis


class Store:
    """One open store. Safe for use by several threads; several processes may read and write the same file.

    Writers take turns: a write waits BUSY_TIMEOUT_S for another one's transaction, then fails as UnavailableError.
    """

    def __init__(self, path: Path, encoder: str) -> None:
        """Open an existing store for vectors of `encoder`; see `open_store` and `create_store`."""
        self.path = path
        self.encoder = encoder
        self._local = threading.local()
        self._write_lock = threading.Lock()
        self._all: list[sqlite3.Connection] = []

    def close(self) -> None:
        """Close every thread's connection."""
        with self._write_lock:
            while self._all:
                self._all.pop().close()

    # Reading

    def revision(self) -> int:
        """Return the revision of the last committed change; 0 if there was none."""
        with explained(self.path):
            return int(self._read("SELECT COALESCE(MAX(revision), 0) FROM changes").fetchone()[0])

    def data_version(self) -> int:
        """Return a number that differs from this thread's last call if another connection has committed since."""
        with explained(self.path):
            return int(self._read("PRAGMA data_version").fetchone()[0])

    def count(self) -> int:
        """Return the number of articles."""
        with explained(self.path):
            return int(self._read("SELECT COUNT(*) FROM articles").fetchone()[0])

    def get(self, article_id: str) -> Article | None:
        """Return one article, or None."""
        with explained(self.path):
            row = self._read("SELECT content FROM articles WHERE id = ?", (article_id,)).fetchone()
        return article_from_json(row[0]) if row else None

    def ids(self) -> set[str]:
        """Return the ids of all articles."""
        with explained(self.path):
            return {row[0] for row in self._read("SELECT id FROM articles")}

    def content_hashes(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the content hash of each of `ids` that is stored."""
        return dict(self._by_key("SELECT id, content_hash FROM articles WHERE id IN ({})", ids))

    def withdrawn(self, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` whose last change is a deletion."""
        return {row[0] for row in self._by_key("SELECT article_id FROM withdrawn WHERE article_id IN ({})", ids)}

    def get_many(self, ids: Sequence[str]) -> dict[str, Article]:
        """Return the stored articles among `ids`, by id."""
        rows = self._by_key("SELECT id, content FROM articles WHERE id IN ({})", ids)
        return {article_id: article_from_json(content) for article_id, content in rows}

    def vectors_of(self, text_hashes: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the vectors that are stored for these texts and this store's encoder."""
        sql = f"SELECT text_hash, data FROM vectors WHERE encoder = {_quote(self.encoder)} AND text_hash IN ({{}})"
        return {text_hash: Vectors.from_bytes(data) for text_hash, data in self._by_key(sql, text_hashes)}

    def changes_after(self, revision: int, limit: int) -> list[Change]:
        """Return at most `limit` changes after `revision`, in order."""
        sql = "SELECT revision, article_id, deleted FROM changes WHERE revision > ? ORDER BY revision LIMIT ?"
        with explained(self.path):
            return [Change(r, i, bool(d)) for r, i, d in self._read(sql, (revision, limit))]

    def stored(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Return those of `ids` that exist, with what is derived from their texts."""
        rows = self._by_key(f"SELECT {_STORED_COLUMNS} FROM {_STORED_TABLES} WHERE a.id IN ({{}})", ids, self._keys())
        return {stored.article.id: stored for stored in map(_to_stored, rows)}

    def links(self) -> Iterator[EditorLink]:
        """Yield every harvested editor link, by source and position."""
        sql = "SELECT source_id, target, paragraph, anchor FROM editor_links ORDER BY source_id, position"
        with explained(self.path):
            for source_id, target, paragraph, anchor in self._read(sql):
                yield EditorLink(source_id, target, paragraph, anchor)

    def links_of(self, source_ids: Sequence[str]) -> dict[str, tuple[EditorLink, ...]]:
        """Return the harvested editor links of these articles; one that has none is left out."""
        found: dict[str, list[EditorLink]] = {}
        sql = "SELECT source_id, target, paragraph, anchor FROM editor_links WHERE source_id IN ({}) ORDER BY position"
        for row in self._by_key(sql, source_ids):
            link = EditorLink(*row)
            found.setdefault(link.source_id, []).append(link)
        return {source_id: tuple(links) for source_id, links in found.items()}

    @contextmanager
    def frozen(self) -> Iterator[FrozenStore]:
        """Open a view of the store at one revision, whatever is committed meanwhile."""
        connection = connect(self.path)
        try:
            with explained(self.path):
                connection.execute("BEGIN")
                yield FrozenStore(connection, self.path, self._keys())
        finally:
            connection.close()

    # Writing

    def write(self, writes: Sequence[Write], now_ms: int | None = None) -> list[Outcome]:
        """Add or replace articles in one transaction, durable on return; the outcomes are in the order of `writes`."""
        if not writes:
            return []
        at_ms = _now_ms() if now_ms is None else now_ms
        with self._transaction() as connection:
            before = self.get_many([w.article.id for w in writes if w.keep_rules])
            return [_write_one(connection, w, before, self.encoder, at_ms) for w in writes]

    def analyse_missing(self) -> int:
        """Analyse the articles whose analysis is of another release's version; returns how many. Needs no model."""
        done = 0
        sql = (
            "SELECT DISTINCT a.text_hash, a.content FROM articles a LEFT JOIN analyses t"
            " ON t.text_hash = a.text_hash AND t.version = ? WHERE t.text_hash IS NULL LIMIT ?"
        )
        while True:
            with explained(self.path):
                rows = self._read(sql, (ANALYSIS, _ANALYSED_AT_ONCE)).fetchall()
            if not rows:
                return done
            made = [(text_hash, analyse(article_from_json(content))) for text_hash, content in rows]
            with self._transaction() as connection:
                for text_hash, analysis in made:
                    _write_analysis(connection, text_hash, analysis)
            done += len(made)

    def delete(self, ids: Sequence[str], now_ms: int | None = None) -> list[bool]:
        """Withdraw articles in one transaction, durable on return; False for each id that was not there."""
        at_ms = _now_ms() if now_ms is None else now_ms
        with self._transaction() as connection:
            return [_delete_one(connection, article_id, at_ms) for article_id in ids]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock, explained(self.path):
            connection = self._connection()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    # Plumbing

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self.path)
            self._all.append(connection)
        return connection

    def _read(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connection().execute(sql, values)

    def _by_key(
        self, sql: str, keys: Sequence[str] | Sequence[bytes], values: Sequence[object] = ()
    ) -> Iterator[tuple[Any, ...]]:
        with explained(self.path):
            for start in range(0, len(keys), _LOOKUP_IDS):
                part = keys[start : start + _LOOKUP_IDS]
                yield from self._read(sql.format(",".join("?" * len(part))), [*values, *part])

    def _keys(self) -> tuple[str, str]:
        return (self.encoder, ANALYSIS)


class FrozenStore:
    """The store at one revision; made by `Store.frozen`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, keys: tuple[str, str]) -> None:
        """Read through `connection`, which is inside a transaction."""
        self._connection = connection
        self._path = path
        self._keys = keys
        self.revision = int(connection.execute("SELECT COALESCE(MAX(revision), 0) FROM changes").fetchone()[0])
        self.count = int(connection.execute("SELECT COUNT(*) FROM articles").fetchone()[0])

    def terms(self) -> Iterator[Terms]:
        """Yield the terms of every article, in no particular order."""
        sql = "SELECT t.terms FROM articles a JOIN analyses t ON t.text_hash = a.text_hash AND t.version = ?"
        for row in self._connection.execute(sql, (ANALYSIS,)):
            yield Terms.from_bytes(row[0])

    def in_time_order(self) -> Iterator[Stored]:
        """Yield every article by (public_at_ms, id). Raises MismatchError if one has no vectors of the encoder."""
        sql = f"SELECT {_STORED_COLUMNS} FROM {_STORED_TABLES} ORDER BY a.public_at_ms, a.id"
        for row in self._connection.execute(sql, self._keys):
            yield _to_stored(row)


def create_store(path: Path, encoder: str) -> Store:
    """Open the store at `path` for vectors of `encoder`, creating it if there is none; migrations are applied.

    Raises MismatchError if it was made for another encoder, StorageError if the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create {path.parent}: {error.strerror}", fix="choose another data_dir") from error
    with explained(path):
        connection = connect(path)
        try:
            migrate(connection, str(path))
            connection.execute("INSERT OR IGNORE INTO facts VALUES ('encoder', ?)", (encoder,))
            _check_encoder(connection, path, encoder)
        finally:
            connection.close()
    return Store(path, encoder)


def open_store(path: Path, encoder: str) -> Store:
    """Open the store at `path`. Raises NotFoundError if there is none; else as `create_store`."""
    if not path.exists():
        raise NotFoundError("data folder", str(path.parent), fix="run `related-news index ARTICLES` first")
    return create_store(path, encoder)


def _check_encoder(connection: sqlite3.Connection, path: Path, encoder: str) -> None:
    made_for = connection.execute("SELECT value FROM facts WHERE name = 'encoder'").fetchone()[0]
    if made_for != encoder:
        raise MismatchError(
            f"{path} was indexed with {made_for}, the configured model is {encoder}",
            fix="configure that model again, or index into another data_dir",
        )


_ANALYSED_AT_ONCE = 500
_STORED_COLUMNS = "a.content, v.data, t.terms, t.sketch"
_STORED_TABLES = (
    "articles a LEFT JOIN vectors v ON v.text_hash = a.text_hash AND v.encoder = ?"
    " LEFT JOIN analyses t ON t.text_hash = a.text_hash AND t.version = ?"
)


def _to_stored(row: Sequence[object]) -> Stored:
    content, vectors, terms, sketch = row
    assert isinstance(content, str)
    article = article_from_json(content)
    if not isinstance(vectors, bytes):
        raise MismatchError(f"article {article.id!r} has no vectors of this model", fix="index the archive again")
    if isinstance(terms, bytes) and isinstance(sketch, bytes):
        analysis = Analysis(Terms.from_bytes(terms), _sketch(sketch))
    else:  # made by a release with another ANALYSIS
        analysis = analyse(article)
    return Stored(article, Vectors.from_bytes(vectors), analysis)


def _sketch(blob: bytes) -> Sketch:
    return np.frombuffer(blob, np.uint16)


def _write_one(
    connection: sqlite3.Connection, write: Write, before: dict[str, Article], encoder: str, at_ms: int
) -> Outcome:
    article = write.article
    if write.keep_rules and (old := before.get(article.id)):
        article = replace(article, rules=old.rules)
    content_hash, text_hash = article.content_hash(), article.text_hash()
    content = article.to_json()
    found = connection.execute("SELECT content FROM articles WHERE id = ?", (article.id,)).fetchone()
    _write_links(connection, article.id, write.links)
    if found and found[0] == content:
        return Outcome.UNCHANGED
    _write_derived(connection, text_hash, encoder, write)
    revision = _log(connection, article.id, deleted=False, at_ms=at_ms)
    connection.execute(
        "INSERT OR REPLACE INTO articles (id, content, content_hash, text_hash, public_at_ms, revision)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (article.id, content, content_hash, text_hash, article.public_at_ms, revision),
    )
    connection.execute("DELETE FROM withdrawn WHERE article_id = ?", (article.id,))
    return Outcome.CHANGED if found else Outcome.ADDED


def _write_derived(connection: sqlite3.Connection, text_hash: bytes, encoder: str, write: Write) -> None:
    connection.execute("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", (text_hash, encoder, write.vectors.to_bytes()))
    _write_analysis(connection, text_hash, write.analysis)


def _write_analysis(connection: sqlite3.Connection, text_hash: bytes, analysis: Analysis) -> None:
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


def _delete_one(connection: sqlite3.Connection, article_id: str, at_ms: int) -> bool:
    if not connection.execute("DELETE FROM articles WHERE id = ?", (article_id,)).rowcount:
        return False
    connection.execute("DELETE FROM editor_links WHERE source_id = ?", (article_id,))
    revision = _log(connection, article_id, deleted=True, at_ms=at_ms)
    connection.execute("INSERT OR REPLACE INTO withdrawn VALUES (?, ?)", (article_id, revision))
    return True


def _log(connection: sqlite3.Connection, article_id: str, *, deleted: bool, at_ms: int) -> int:
    cursor = connection.execute(
        "INSERT INTO changes (article_id, deleted, at_ms) VALUES (?, ?, ?)", (article_id, int(deleted), at_ms)
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
