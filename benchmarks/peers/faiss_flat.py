"""FAISS IndexFlatIP: the exact baseline.

Filters by its own selectors (its wiki, "Setting search parameters for one query"): a range for a time window, a bitmap
for labels.
"""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np

from benchmarks.peers.peer import EVERYTHING, Columns, Filter, Half, Postings, Rows, Setting, Vector, folder_bytes


class Peer:
    """A scan of float32 vectors."""

    name = "faiss-flat"
    version = str(faiss.__version__)
    efforts: tuple[int, ...] = (0,)
    filters = True
    rows_max = 2_000_000
    server_pid: int | None = None
    limits = ""

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Copy the vectors."""
        self._folder = folder
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors.astype(np.float32))
        self._postings = Postings(columns)
        faiss.write_index(self._index, str(folder / "flat.faiss"))
        faiss.omp_set_num_threads(1)

    def set_effort(self, effort: int) -> None:
        """Do nothing: the search is exact."""

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Scan all rows; a selector says which pass."""
        nearest = self._index.search(query[None], k, params=self._params(wanted))[1][0]
        rows: Rows = nearest[nearest >= 0]
        return rows

    def _params(self, wanted: Filter) -> faiss.SearchParameters | None:
        if wanted == EVERYTHING:
            return None
        if not wanted.label:
            return faiss.SearchParameters(sel=faiss.IDSelectorRange(*self._postings.range(wanted)))
        bits = np.packbits(self._postings.mask(wanted), bitorder="little")
        return faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))

    def disk_bytes(self) -> int:
        """Return the size of all files."""
        return folder_bytes(self._folder)

    def settings(self) -> dict[str, Setting]:
        """Return the number of threads."""
        return {"threads": 1}

    def close(self) -> None:
        """Do nothing: nothing was started."""
