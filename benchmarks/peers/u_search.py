"""USearch: half precision, which its README recommends and which is exact for these vectors. Python gets no filter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import usearch
from usearch.index import Index

from benchmarks.peers.peer import Columns, Filter, Half, Rows, Setting, Vector, folder_bytes

CONNECTIVITY = 32
"""Links of a node of the graph."""
EXPANSION_ADD = 200
"""Candidates for a node's links while the graph is built."""


class Peer:
    """One HNSW graph over float16 vectors."""

    name = "usearch"
    version = str(usearch.__version__)
    efforts: tuple[int, ...] = (100, 125, 150, 175, 200, 250, 300, 400, 500, 800)
    filters = False
    rows_max = 1_000_000
    server_pid: int | None = None
    limits = "no filter in the Python package"

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Add all rows at once, on all cores."""
        self._folder = folder
        del columns
        self._index = Index(
            ndim=vectors.shape[1],
            metric="ip",
            dtype="f16",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
        )
        self._index.add(np.arange(len(vectors)), vectors.astype(np.float32))
        self._index.save(str(folder / "index.usearch"))

    def set_effort(self, effort: int) -> None:
        """Set expansion_search."""
        self._index.expansion_search = effort

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Walk the graph."""
        del wanted
        return np.asarray(self._index.search(query, k, threads=1).keys).astype(np.int64)

    def disk_bytes(self) -> int:
        """Return the size of all files."""
        return folder_bytes(self._folder)

    def settings(self) -> dict[str, Setting]:
        """Return how the graph was built."""
        return {
            "dtype": "f16",
            "connectivity": CONNECTIVITY,
            "expansion_add": EXPANSION_ADD,
            "hardware": str(self._index.hardware_acceleration),
            "threads": 1,
        }

    def close(self) -> None:
        """Do nothing: nothing was started."""
