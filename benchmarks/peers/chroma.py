"""Chroma: an embedded collection, HNSW with metadata filters.

Tuned by docs.trychroma.com/docs/collections/configure: ef_construction raised for recall, ef_search swept, one thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.api import ClientAPI
from chromadb.config import Settings

from benchmarks.peers.peer import Columns, Filter, Half, Rows, Setting, Vector, folder_bytes

MAX_NEIGHBORS = 32
"""Links of a node of the graph."""
EF_CONSTRUCTION = 200
"""Candidates for a node's links while the graph is built."""


class Peer:
    """An embedded collection on disk."""

    name = "chroma"
    version = str(chromadb.__version__)
    efforts: tuple[int, ...] = (100, 125, 150, 175, 200, 250, 300, 400, 500, 800)
    filters = True
    rows_max = 1_000_000
    server_pid: int | None = None
    limits = "ids are strings, translated here within the time measured"

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Add the rows in the largest batches that Chroma takes."""
        self._folder = folder
        client = self._open()
        graph = {"space": "ip", "max_neighbors": MAX_NEIGHBORS, "ef_construction": EF_CONSTRUCTION, "num_threads": 1}
        self._collection = client.create_collection("articles", configuration={"hnsw": graph}, embedding_function=None)
        step = client.get_max_batch_size()
        for start in range(0, len(vectors), step):
            rows = slice(start, min(start + step, len(vectors)))
            ids = [str(row) for row in range(rows.start, rows.stop)]
            self._collection.add(ids, vectors[rows].astype(np.float32), _metadata(columns, rows))

    def set_effort(self, effort: int) -> None:
        """Set ef_search and load the collection again, from when on it counts."""
        self._collection.modify(configuration={"hnsw": {"ef_search": effort}})
        self._client.close()
        self._collection = self._open().get_collection("articles", embedding_function=None)

    def _open(self) -> ClientAPI:
        self._client = chromadb.PersistentClient(str(self._folder), Settings(anonymized_telemetry=False))
        return self._client

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Search, and return ids only."""
        found = self._collection.query(query[None], n_results=k, where=_where(wanted), include=[])
        return np.array(found["ids"][0], np.int64)

    def disk_bytes(self) -> int:
        """Return the size of graph, metadata in SQLite, and log."""
        return folder_bytes(self._folder)

    def settings(self) -> dict[str, Setting]:
        """Return how the graph was built."""
        return {"max_neighbors": MAX_NEIGHBORS, "ef_construction": EF_CONSTRUCTION, "num_threads": 1}

    def close(self) -> None:
        """Close the files."""
        self._client.close()


def _metadata(columns: Columns, rows: slice) -> list[dict[str, int]]:
    values = zip(
        columns.published_at_ms[rows].tolist(), columns.section[rows].tolist(), columns.site[rows].tolist(), strict=True
    )
    return [{"published_at_ms": at, "section": section, "site": site} for at, section, site in values]


def _where(wanted: Filter) -> dict[str, Any] | None:
    parts: list[dict[str, Any]] = []
    if wanted.from_ms is not None:
        parts.append({"published_at_ms": {"$gte": wanted.from_ms}})
    if wanted.until_ms is not None:
        parts.append({"published_at_ms": {"$lt": wanted.until_ms}})
    if wanted.label:
        parts.append({wanted.label: {"$in": list(wanted.codes)}})
    return {"$and": parts} if len(parts) > 1 else parts[0] if parts else None
