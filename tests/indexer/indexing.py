"""Small files of articles, runs over them, and what is stored: what the tests of indexing share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from indexer.pipeline import Report, run
from indexer.sources import open_source
from recommender.catalog.articles import Article, EditorLink
from recommender.catalog.opening import STORE_FILE
from recommender.catalog.store.store import Store, open_store
from recommender.encoding.embedder import Matrix
from tests.building import FakeEmbedder

WORDS = ("anchor", "basalt", "cobalt", "damson", "ember", "fathom", "garnet", "hazel", "indigo", "juniper")
"""Each word stands in the title and the body of one article, and nowhere else."""


class RecordingEmbedder(FakeEmbedder):
    """Keeps every text that it was asked to embed."""

    def __init__(self, name: str = "fake") -> None:
        super().__init__(name)
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Matrix:
        self.seen += texts
        return super().encode(texts)


def record(word: str, **changes: Any) -> dict[str, Any]:
    """Return one valid record of a JSON Lines file."""
    return {
        "id": f"id-{word}",
        "url": f"https://courier.example/{word}",
        "title": f"Envoys speak about {word}",
        "summary": "",
        "paragraphs": [f"The {word} talks went on for a third day on Monday.", "No date was set for the next round."],
        "published_at": "2026-03-01T12:00:00Z",
        "site": "courier.example",
        "section": "diplomacy",
        "language": "en",
        **changes,
    }


def write(path: Path, records: Iterable[dict[str, Any] | str | bytes]) -> Path:
    """Write a JSON Lines file; a string or bytes is a line as it is."""
    lines = [json.dumps(r) if isinstance(r, dict) else r for r in records]
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


def index(path: Path, data_dir: Path, embedder: FakeEmbedder | None = None, **options: Any) -> Report:
    """Index a file."""
    return run(open_source(path), data_dir, embedder or FakeEmbedder(), **options)


def counts(report: Report) -> dict[str, int]:
    """Return the counts of a report that are not zero."""
    names = ("read", "added", "changed", "unchanged", "withdrawn", "refused", "editor_links")
    return {name: value for name in names if (value := getattr(report, name))}


def opened(data_dir: Path) -> Store:
    """Open the store of a data folder."""
    return open_store(data_dir / STORE_FILE, FakeEmbedder().info.key)


def ids_in(data_dir: Path) -> list[str]:
    """Return the ids in the store, in the order in which they were written."""
    store = opened(data_dir)
    try:
        return [change.article_id for change in store.changes_after(0, 1_000) if not change.deleted]
    finally:
        store.close()


def article_in(data_dir: Path, article_id: str) -> Article:
    """Read one stored article."""
    store = opened(data_dir)
    try:
        article = store.get(article_id)
        assert article is not None
        return article
    finally:
        store.close()


def links_in(data_dir: Path) -> list[EditorLink]:
    """Read every stored editor link."""
    store = opened(data_dir)
    try:
        return list(store.links())
    finally:
        store.close()


def words_in(texts: Iterable[str]) -> set[str]:
    """Return which articles' words stand in texts."""
    together = " ".join(texts)
    return {word for word in WORDS if word in together}
