"""The source of truth: SQLite in WAL mode, every commit on disk before it is acknowledged.

Each change of an article gets the next revision, in the transaction that makes the change. Everything else in a data
folder can be deleted and rebuilt from this one file.

A store has one active encoder: every article has vectors of it, and a writer that embeds with another is refused.
Vectors of other encoders may be stored too; `make_encoder_active` makes such an encoder the active one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recommender.catalog.articles import Article, EditorLink, article_from_json
from recommender.catalog.store.reads import (
    KEYS_PER_QUERY_MAX,
    SELECT_STORED,
    Embed,
    ReadTransaction,
    Statistics,
    StoredArticle,
    VectorLookup,
    to_analysis,
    to_stored,
)
from recommender.catalog.store.schema import ENCODER, PREVIOUS_ENCODER, check_encoder, migrate, read_fact, write_fact
from recommender.catalog.store.sqlite import connect, translated_errors
from recommender.catalog.store.writes import (
    FormerArticle,
    Outcome,
    Upsert,
    Write,
    delete_article,
    write_analysis,
    write_article,
    write_vectors,
)
from recommender.catalog.text.derived import ANALYSIS, Analysis, Vectors, analyse
from recommender.catalog.text.terms import TermStatistics
from recommender.clock import now_ms
from recommender.errors import NotFoundError, StorageError

_ANALYSED_AT_ONCE = 500
"""Articles analysed again in one transaction."""
_EMBEDDED_AT_ONCE = 64
"""Articles read at once when an encoder becomes active and some still lack its vectors."""
_STATISTICS_KEPT = 3
"""Versions of the term statistics that are kept; the older ones are deleted."""
_WITHOUT_VECTORS = (
    "FROM articles a LEFT JOIN vectors v ON v.text_hash = a.text_hash AND v.encoder = ? WHERE v.text_hash IS NULL"
)
"""Selects the articles without vectors; takes the encoder."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log."""

    revision: int
    article_id: str
    deleted: bool
    former: FormerArticle | None = None
    """What it replaced or withdrew; None if nothing was stored, or if the change is older than schema version 2."""


class Store:
    """One open store. Several threads may use it; several processes may read and write the same file.

    Writers take turns: a write waits BUSY_TIMEOUT_S for another transaction, then raises UnavailableError.
    """

    def __init__(self, path: Path, encoder: str, embed: Embed | None = None) -> None:
        """Open an existing store for vectors of `encoder`; see `open_store` and `create_store`.

        embed: makes vectors for articles without them; such articles exist while `encoder` is not the active one.
        """
        self.path = path
        self.encoder = encoder
        self._embed = embed
        self._local = threading.local()
        self._write_lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []

    def close(self) -> None:
        """Close every thread's connection."""
        with self._write_lock:
            while self._connections:
                self._connections.pop().close()

    # Reading

    def revision(self) -> int:
        """Return the revision of the last committed change; 0 if there is none."""
        with translated_errors(self.path):
            return int(self._read("SELECT COALESCE(MAX(revision), 0) FROM changes").fetchone()[0])

    def data_version(self) -> int:
        """Return a number that changes, for this thread, whenever another connection commits."""
        with translated_errors(self.path):
            return int(self._read("PRAGMA data_version").fetchone()[0])

    def active_encoder(self) -> str:
        """Return the active encoder: this store's, until another process switches to another one."""
        with translated_errors(self.path):
            return read_fact(self._connection(), ENCODER) or self.encoder

    def dimension(self) -> int | None:
        """Return the number of components of this encoder's vectors; None if none are stored."""
        with translated_errors(self.path):
            row = self._read("SELECT data FROM vectors WHERE encoder = ? LIMIT 1", (self.encoder,)).fetchone()
        return len(Vectors.from_bytes(row[0]).main) if row else None

    def count(self) -> int:
        """Return the number of articles."""
        with translated_errors(self.path):
            return int(self._read("SELECT COUNT(*) FROM articles").fetchone()[0])

    def get(self, article_id: str) -> Article | None:
        """Return one article, or None."""
        with translated_errors(self.path):
            row = self._read("SELECT content FROM articles WHERE id = ?", (article_id,)).fetchone()
        return article_from_json(row[0]) if row else None

    def ids(self) -> set[str]:
        """Return the ids of all articles."""
        with translated_errors(self.path):
            return {row[0] for row in self._read("SELECT id FROM articles")}

    def withdrawn(self, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` whose last change is a deletion."""
        return {row[0] for row in self._by_key("SELECT article_id FROM withdrawn WHERE article_id IN ({})", ids)}

    def get_many(self, ids: Sequence[str]) -> dict[str, Article]:
        """Return the stored articles among `ids`, by id."""
        rows = self._by_key("SELECT id, content FROM articles WHERE id IN ({})", ids)
        return {article_id: article_from_json(content) for article_id, content in rows}

    def changed(self, upserts: Sequence[Upsert]) -> list[Upsert]:
        """Return the upserts that would change the stored article, its rules or its links."""
        ids = [upsert.article.id for upsert in upserts]
        articles, links = self.get_many(ids), self.links_of(ids)
        return [u for u, i in zip(upserts, ids, strict=True) if u.is_change(articles.get(i), links.get(i, ()))]

    def look_up_vectors(self, articles: Sequence[Article]) -> VectorLookup:
        """Return the stored vectors of these articles' texts, and the texts that are yet to be embedded."""
        hashes = [article.text_hash() for article in articles]
        vectors = self.vectors_of(hashes)
        missing = {text: article for text, article in zip(hashes, articles, strict=True) if text not in vectors}
        return VectorLookup(hashes, vectors, missing)

    def vectors_of(self, text_hashes: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the stored vectors of these texts, by this store's encoder."""
        sql = "SELECT text_hash, data FROM vectors WHERE encoder = ? AND text_hash IN ({})"
        rows = self._by_key(sql, text_hashes, (self.encoder,))
        return {text_hash: Vectors.from_bytes(data) for text_hash, data in rows}

    def changes_after(self, revision: int, limit: int) -> list[Change]:
        """Return at most `limit` changes after `revision`, in order."""
        sql = "SELECT revision, article_id, deleted, before FROM changes WHERE revision > ? ORDER BY revision LIMIT ?"
        with translated_errors(self.path):
            rows = self._read(sql, (revision, limit)).fetchall()
        return [Change(r, i, bool(d), FormerArticle.from_json(former) if former else None) for r, i, d, former in rows]

    def not_yet_public(self, revision: int) -> list[tuple[int, str]]:
        """Return (public_at_ms, id) of the articles that were stored but not yet public when `revision` was written.

        None are for revision 0, the empty store.
        """
        sql = (
            "SELECT a.public_at_ms, a.id FROM articles a, changes c"
            " WHERE c.revision = ? AND a.public_at_ms > c.at_ms AND a.revision <= c.revision"
        )
        with translated_errors(self.path):
            return list(self._read(sql, (revision,)))

    def stored(self, ids: Sequence[str]) -> dict[str, StoredArticle]:
        """Return the stored articles among `ids`, by id, with what is derived from their texts.

        An article without vectors of this store's encoder is left out: it was written after another became active.
        """
        rows = self._by_key(f"{SELECT_STORED} WHERE a.id IN ({{}})", ids, (self.encoder, ANALYSIS))
        return {stored.article.id: stored for stored in (to_stored(row) for row in rows if row[1] is not None)}

    def analysis_of(self, text_hash: bytes) -> Analysis | None:
        """Return the analysis of a text that was ever stored; None if it is of another release's version."""
        sql = "SELECT terms, sketch FROM analyses WHERE version = ? AND text_hash IN ({})"
        row = next(self._by_key(sql, [text_hash], (ANALYSIS,)), None)
        return to_analysis(*row) if row else None

    def statistics(self) -> Statistics | None:
        """Return the latest term statistics of this release's analysis; None if there are none."""
        sql = "SELECT version, counted_at_ms, data FROM statistics WHERE analysis = ? ORDER BY version DESC LIMIT 1"
        with translated_errors(self.path):
            row = self._read(sql, (ANALYSIS,)).fetchone()
        return Statistics(row[0], row[1], TermStatistics.from_bytes(row[2])) if row else None

    def links(self) -> Iterator[EditorLink]:
        """Yield every harvested editor link, by source and position."""
        sql = "SELECT source_id, target, paragraph, anchor FROM editor_links ORDER BY source_id, position"
        with translated_errors(self.path):
            for source_id, target, paragraph, anchor in self._read(sql):
                yield EditorLink(source_id, target, paragraph, anchor)

    def links_of(self, source_ids: Sequence[str]) -> dict[str, tuple[EditorLink, ...]]:
        """Return the harvested editor links of these articles by id; an article without links is left out."""
        links: dict[str, list[EditorLink]] = {}
        sql = "SELECT source_id, target, paragraph, anchor FROM editor_links WHERE source_id IN ({}) ORDER BY position"
        for row in self._by_key(sql, source_ids):
            link = EditorLink(*row)
            links.setdefault(link.source_id, []).append(link)
        return {source_id: tuple(own_links) for source_id, own_links in links.items()}

    @contextmanager
    def read_transaction(self) -> Iterator[ReadTransaction]:
        """Read the store at one revision, whatever is committed meanwhile; vectors are of this store's encoder."""
        connection = connect(self.path)
        try:
            with translated_errors(self.path):
                connection.execute("BEGIN")
                yield ReadTransaction(connection, self.encoder, self._embed)
        finally:
            connection.close()

    # Writing

    def write(self, writes: Sequence[Write], at_ms: int | None = None) -> list[Outcome]:
        """Add or replace articles in one transaction, durable on return; returns an outcome for each.

        at_ms: time of the change; now if None. Raises EncoderChangedError if another encoder has become active; then
        nothing is written.
        """
        if not writes:
            return []
        at_ms = now_ms() if at_ms is None else at_ms
        with self._transaction() as connection:
            check_encoder(connection, self.path, self.encoder)
            stored: dict[str, Article | None] = dict(self.get_many([w.upsert.article.id for w in writes]))
            outcomes = []
            for write in writes:
                article_id = write.upsert.article.id
                outcome, stored[article_id] = write_article(
                    connection, write, stored.get(article_id), self.encoder, at_ms
                )
                outcomes.append(outcome)
            return outcomes

    def analyse_missing(self) -> int:
        """Analyse the texts without an analysis of this release's version; returns their number. Needs no model."""
        count = 0
        sql = (
            "SELECT DISTINCT a.text_hash, a.content FROM articles a LEFT JOIN analyses t"
            " ON t.text_hash = a.text_hash AND t.version = ? WHERE t.text_hash IS NULL LIMIT ?"
        )
        while True:
            with translated_errors(self.path):
                rows = self._read(sql, (ANALYSIS, _ANALYSED_AT_ONCE)).fetchall()
            if not rows:
                return count
            analyses = [(text_hash, analyse(article_from_json(content))) for text_hash, content in rows]
            with self._transaction() as connection:
                for text_hash, analysis in analyses:
                    write_analysis(connection, text_hash, analysis)
            count += len(analyses)

    def delete(self, ids: Sequence[str], at_ms: int | None = None) -> list[bool]:
        """Withdraw articles in one transaction, durable on return; False for each id that is not stored."""
        at_ms = now_ms() if at_ms is None else at_ms
        with self._transaction() as connection:
            return [delete_article(connection, article_id, at_ms) for article_id in ids]

    def add_statistics(self, terms: TermStatistics, at_ms: int | None = None) -> Statistics:
        """Store new term statistics; all but the last _STATISTICS_KEPT versions are deleted."""
        at_ms = now_ms() if at_ms is None else at_ms
        sql = "INSERT INTO statistics (analysis, counted_at_ms, data) VALUES (?, ?, ?) RETURNING version"
        with self._transaction() as connection:
            (version,) = connection.execute(sql, (ANALYSIS, at_ms, terms.to_bytes())).fetchone()
            connection.execute("DELETE FROM statistics WHERE version <= ?", (version - _STATISTICS_KEPT,))
        return Statistics(version, at_ms, terms)

    # Changing the encoder

    def count_without_vectors(self) -> int:
        """Return the number of texts without vectors of this store's encoder."""
        with translated_errors(self.path):
            return int(
                self._read(f"SELECT COUNT(DISTINCT a.text_hash) {_WITHOUT_VECTORS}", (self.encoder,)).fetchone()[0]
            )

    def without_vectors(self, limit: int, after: bytes = b"") -> dict[bytes, Article]:
        """Return at most `limit` texts without vectors of this store's encoder: an article for each text hash.

        after: only hashes greater than this one. The result is in the order of hashes.
        """
        sql = f"SELECT a.text_hash, a.content {_WITHOUT_VECTORS} AND a.text_hash > ? GROUP BY a.text_hash LIMIT ?"
        with translated_errors(self.path):
            rows = self._read(sql, (self.encoder, after, limit)).fetchall()
        return {text_hash: article_from_json(content) for text_hash, content in rows}

    def add_vectors(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Store vectors of this store's encoder by text hash, durable on return."""
        with self._transaction() as connection:
            for text_hash, one in vectors.items():
                write_vectors(connection, text_hash, self.encoder, one)

    def make_encoder_active(self) -> None:
        """Make this store's encoder the active one, in one transaction that also embeds what still lacks vectors."""
        with self._transaction() as connection:
            while missing := self.without_vectors(_EMBEDDED_AT_ONCE):
                for text_hash, article in missing.items():
                    assert self._embed is not None, "a store that becomes active can embed"
                    write_vectors(connection, text_hash, self.encoder, self._embed(article))
            active = read_fact(connection, ENCODER)
            if active and active != self.encoder:
                write_fact(connection, PREVIOUS_ENCODER, active)
                write_fact(connection, ENCODER, self.encoder)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock, translated_errors(self.path):
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
            self._connections.append(connection)
        return connection

    def _read(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connection().execute(sql, values)

    def _by_key(
        self, sql: str, keys: Sequence[str] | Sequence[bytes], values: Sequence[object] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query whose `{}` takes the keys, in portions of KEYS_PER_QUERY_MAX."""
        with translated_errors(self.path):
            for start in range(0, len(keys), KEYS_PER_QUERY_MAX):
                part = keys[start : start + KEYS_PER_QUERY_MAX]
                yield from self._read(sql.format(",".join("?" * len(part))), [*values, *part])


def create_store(path: Path, encoder: str) -> Store:
    """Open the store at `path` for vectors of `encoder`; create it if there is none, migrate it if it is older.

    Raises EncoderChangedError if another encoder is active, StorageError if the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create {path.parent}: {error.strerror}", fix="choose another data_dir") from error
    with translated_errors(path), closing(connect(path)) as connection:
        migrate(connection, str(path))
        connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (ENCODER, encoder))
        check_encoder(connection, path, encoder)
    return Store(path, encoder)


def open_store(path: Path, encoder: str | None = None) -> Store:
    """Open the store at `path`, by default for its active encoder.

    Raises NotFoundError if there is none, otherwise what `create_store` raises.
    """
    _check_exists(path)
    return create_store(path, encoder or encoders_of(path)[0])


def _check_exists(path: Path) -> None:
    try:
        if path.exists():
            return
    except OSError as error:  # a folder that may not be searched
        raise StorageError(f"{path}: cannot be read: {error.strerror}", fix="let this user read data_dir") from error
    raise _nothing_indexed(path)


def encoders_of(path: Path) -> tuple[str, str | None]:
    """Return the active encoder of the store at `path`, and the one before the last switch; None if there was none.

    Raises NotFoundError if there is no store, CorruptError if the file is no store.
    """
    _check_exists(path)
    with translated_errors(path), closing(connect(path)) as connection:
        migrate(connection, str(path))
        active = read_fact(connection, ENCODER)
        if active is None:
            raise _nothing_indexed(path)
        return active, read_fact(connection, PREVIOUS_ENCODER)


def _nothing_indexed(path: Path) -> NotFoundError:
    return NotFoundError("data folder", str(path.parent), fix="run `related-news index ARTICLES` first")
