"""The store's tables, how an older file is migrated, and the two facts that it records about itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from recommender.errors import EncoderChangedError, MismatchError

_VERSION_1 = """
CREATE TABLE articles (
    id TEXT NOT NULL UNIQUE,
    content TEXT NOT NULL,          -- Article.to_json
    content_hash BLOB NOT NULL,     -- Article.content_hash; the indexer of earlier releases compares it
    text_hash BLOB NOT NULL,        -- Article.text_hash; key into vectors and analyses
    public_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL       -- the change that wrote this row
);
CREATE INDEX articles_in_time ON articles (public_at_ms, id);
CREATE INDEX articles_by_text ON articles (text_hash);

CREATE TABLE changes (              -- every committed change, in order; never rewritten
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    article_id TEXT NOT NULL,
    deleted INTEGER NOT NULL,       -- 1: the change withdrew the article
    at_ms INTEGER NOT NULL
);
CREATE TABLE withdrawn (            -- ids whose last change is a withdrawal: another indexing run does not restore them
    article_id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE vectors (              -- never deleted: the same text is not embedded twice
    text_hash BLOB NOT NULL,
    encoder TEXT NOT NULL,          -- ModelInfo.key
    data BLOB NOT NULL,             -- Vectors.to_bytes
    PRIMARY KEY (text_hash, encoder)
);
CREATE TABLE analyses (
    text_hash BLOB NOT NULL,
    version TEXT NOT NULL,          -- derived.ANALYSIS
    terms BLOB NOT NULL,            -- Terms.to_bytes
    sketch BLOB NOT NULL,
    PRIMARY KEY (text_hash, version)
);

CREATE TABLE editor_links (
    source_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    target TEXT NOT NULL,
    paragraph INTEGER NOT NULL,
    anchor TEXT NOT NULL,
    PRIMARY KEY (source_id, position)
) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_VERSION_2 = """
ALTER TABLE changes ADD COLUMN before TEXT;  -- FormerArticle.to_json of what the change replaced; NULL if nothing
CREATE TABLE statistics (           -- document frequencies of all terms as of some past moment
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    analysis TEXT NOT NULL,         -- derived.ANALYSIS
    counted_at_ms INTEGER NOT NULL,
    data BLOB NOT NULL              -- TermStatistics.to_bytes
);
"""

_STEPS = (_VERSION_1, _VERSION_2)
"""Step i migrates a file from version i to i + 1."""

SCHEMA_VERSION = len(_STEPS)
"""The version that this release reads and writes."""

ENCODER = "encoder"
"""The fact that names the active encoder."""
PREVIOUS_ENCODER = "previous_encoder"
"""The fact that names the encoder that was active before the last switch."""


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring the store to SCHEMA_VERSION in one transaction. Raises MismatchError if it is from a later release."""
    if _version(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > SCHEMA_VERSION:
            raise MismatchError(
                f"{name} has schema version {version}, this release knows {SCHEMA_VERSION}",
                fix="run the release that wrote it, or a newer one",
            )
        for step in _STEPS[version:]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_encoder(connection: sqlite3.Connection, path: Path, encoder: str) -> None:
    """Raise EncoderChangedError if `encoder` is not the active one."""
    active = read_fact(connection, ENCODER)
    if active != encoder:
        raise EncoderChangedError(
            f"{path} was indexed with {active}, the configured model is {encoder}",
            fix="unset model.name, or run `related-news reindex` to change the model",
        )


def read_fact(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a fact about the store; None if it is not recorded."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def write_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Record a fact about the store in place of the former one."""
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> list[str]:
    without_comments = "\n".join(line.split("--")[0] for line in script.splitlines())
    return [statement for part in without_comments.split(";") if (statement := part.strip())]
