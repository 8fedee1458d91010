"""Facts about a store, by name: which encoder is the active one, and which was before it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from recommender.errors import EncoderChangedError

ENCODER, PREVIOUS_ENCODER = "encoder", "previous_encoder"


def check_encoder(connection: sqlite3.Connection, path: Path, encoder: str) -> None:
    """Raise EncoderChangedError if `encoder` is not the active one."""
    active = read_fact(connection, ENCODER)
    if active != encoder:
        raise EncoderChangedError(
            f"{path} was indexed with {active}, the configured model is {encoder}",
            fix="unset model.name, or run `related-news reindex` to change the model",
        )


def read_fact(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a fact about the store, None if it is not known."""
    found = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return str(found[0]) if found else None


def write_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Keep a fact about the store."""
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
