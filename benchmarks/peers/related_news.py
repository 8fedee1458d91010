"""This project's own vector side: rows in time order, a range for a window, masks for labels."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.peers.peer import Columns, Filter, Matrix, Postings, Rows, Setting, Vector, folder_bytes
from recommender.catalog import vectors as ours

_BATCH = 50_000


class Peer:
    """A memory-mapped vector file, as a snapshot holds one."""

    name = "related-news"
    version = importlib.metadata.version("related-news")
    efforts: tuple[int, ...] = (0,)
    filters = True
    rows_max = 10_000_000
    server_pid: int | None = None
    limits = ""

    def build(self, vectors: Matrix, columns: Columns, folder: Path) -> None:
        """Write the file and map it."""
        self._folder = folder
        path = folder / "vectors"
        rows = ours.write_vectors(path, vectors.shape[1], _batches(vectors))
        self._file = ours.VectorFile(path, rows=rows, dimension=vectors.shape[1])
        self._postings = Postings(columns)
        ours.limit_threads(1)

    def set_effort(self, effort: int) -> None:
        """The product sets its own."""

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Search a range of rows, through a mask where labels are named."""
        low, high = self._postings.range(wanted)
        allowed = self._postings.mask(wanted) if wanted.label else None
        return self._file.search(query, k, low, high, allowed).rows

    def disk_bytes(self) -> int:
        """The file."""
        return folder_bytes(self._folder)

    def settings(self) -> dict[str, Setting]:
        """The product's own constants."""
        constants = {name.lower(): value for name in dir(ours) if isinstance(value := getattr(ours, name), int)}
        return {**constants, "kind": self._file.kind, "threads": 1}

    def close(self) -> None:
        """Nothing was started."""


def _batches(vectors: Matrix) -> Iterator[npt.NDArray[np.float16]]:
    for start in range(0, len(vectors), _BATCH):
        yield vectors[start : start + _BATCH].astype(np.float16)
