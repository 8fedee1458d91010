"""hnswlib: HNSW in memory.

Tuned by its ALGO_PARAMS.md: M from 12 to 48 and ef_construction such that more gains little, ef above k. Filters by
its Python callback, which its README calls limited by the GIL.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import hnswlib
import numpy as np

from benchmarks.peers.peer import EVERYTHING, Columns, Filter, Half, Postings, Rows, Setting, Vector, folder_bytes

M = 32
"""Links of a node of the graph.

Chosen of 16, 24 and 32, at ef_construction 200 or 400, on 50,000 real passages: as fast as 16 at recall .98, with a
lower ef.
"""
EF_CONSTRUCTION = 200
"""Candidates for a node's links while the graph is built."""


class Peer:
    """One HNSW graph over float32 vectors."""

    name = "hnswlib"
    version = importlib.metadata.version("hnswlib")
    efforts: tuple[int, ...] = (100, 125, 150, 175, 200, 250, 300, 400, 500, 800, 1_600)
    filters = True
    rows_max = 1_000_000
    server_pid: int | None = None
    limits = "filters call back into Python for every row that the walk meets; raises where it finds fewer than k"

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Add all rows at once, on all cores."""
        self._folder = folder
        self._index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._index.init_index(max_elements=len(vectors), ef_construction=EF_CONSTRUCTION, M=M, random_seed=1)
        self._index.add_items(vectors.astype(np.float32), np.arange(len(vectors)))
        self._index.set_num_threads(1)
        self._postings = Postings(columns)
        self._index.save_index(str(folder / "index.hnsw"))

    def set_effort(self, effort: int) -> None:
        """Set ef."""
        self._index.set_ef(effort)

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Walk the graph."""
        if wanted == EVERYTHING:
            return self._rows(query, k)
        rows = self._postings.rows(wanted)
        passing = set(rows.tolist())
        try:
            return self._rows(query, min(k, len(rows)), passing.__contains__)
        except RuntimeError:  # fewer than k found
            return np.empty(0, np.int64)

    def _rows(self, query: Vector, k: int, passes: object = None) -> Rows:
        rows: Rows = self._index.knn_query(query, k, num_threads=1, filter=passes)[0][0].astype(np.int64)
        return rows

    def disk_bytes(self) -> int:
        """Return the size of all files."""
        return folder_bytes(self._folder)

    def settings(self) -> dict[str, Setting]:
        """Return how the graph was built."""
        return {"M": M, "ef_construction": EF_CONSTRUCTION, "threads": 1}

    def close(self) -> None:
        """Do nothing: nothing was started."""
