"""Milvus Lite: an embedded engine in Python over FAISS, for development and small archives.

By its README: HNSW and INVERTED scalar indexes through pymilvus; a graph for each segment of at most 100,000 rows.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
from pymilvus import DataType, MilvusClient

from benchmarks.peers.peer import Columns, Filter, Half, Rows, Setting, Vector, folder_bytes, where

M = 32
"""Links of a node of the graph."""
EF_CONSTRUCTION = 200
"""Candidates for a node's links while the graph is built."""
_BATCH = 10_000
"""Rows inserted at once."""


class Peer:
    """A local file, called over gRPC within the process, as pymilvus does it."""

    name = "milvus-lite"
    version = importlib.metadata.version("milvus-lite")
    efforts: tuple[int, ...] = (100, 125, 150, 175, 200, 250, 300, 400, 500, 800, 1_600, 3_200, 6_400)
    filters = True
    rows_max = 100_000
    server_pid: int | None = None
    limits = "for development and small archives by its own README; skipped above rows_max; threads not settable"

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Insert, flush, index, load."""
        self._folder = folder
        self._client = MilvusClient(str(folder / "milvus.db"))
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        for name in ("published_at_ms", "section", "site"):
            schema.add_field(name, DataType.INT64)
        self._client.create_collection("articles", schema=schema)
        for start in range(0, len(vectors), _BATCH):
            self._client.insert("articles", _entities(vectors, columns, start))
        self._client.flush("articles")
        self._client.create_index("articles", self._index())
        self._client.load_collection("articles")
        self._effort = self.efforts[0]

    def _index(self) -> object:
        index = self._client.prepare_index_params()
        params = {"M": M, "efConstruction": EF_CONSTRUCTION}
        index.add_index("vector", index_type="HNSW", metric_type="IP", params=params)
        for name in ("published_at_ms", "section", "site"):
            index.add_index(name, index_type="INVERTED")
        return index

    def set_effort(self, effort: int) -> None:
        """Set ef."""
        self._effort = effort

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Search, and return ids only."""
        params = {"metric_type": "IP", "params": {"ef": self._effort}}
        condition = where(wanted).replace(" AND ", " and ").replace(" IN (", " in [").replace(")", "]")
        found = self._client.search("articles", [query], filter=condition, limit=k, search_params=params)
        return np.array([hit["id"] for hit in found[0]], np.int64)

    def disk_bytes(self) -> int:
        """Return the size of all files."""
        return folder_bytes(self._folder)

    def settings(self) -> dict[str, Setting]:
        """Return how the graphs were built."""
        return {
            "index": "HNSW",
            "M": M,
            "efConstruction": EF_CONSTRUCTION,
            "scalar_indexes": "INVERTED",
            "rows_max": self.rows_max,
            "threads": "not settable",
        }

    def close(self) -> None:
        """Stop its server thread."""
        self._client.close()


def _entities(vectors: Half, columns: Columns, start: int) -> list[dict[str, object]]:
    part = vectors[start : start + _BATCH].astype(np.float32)
    return [
        {
            "id": row,
            "vector": vector,
            "published_at_ms": int(columns.published_at_ms[row]),
            "section": int(columns.section[row]),
            "site": int(columns.site[row]),
        }
        for row, vector in enumerate(part, start)
    ]
