"""The vector side: inner-product search over rows in time order. Only this module and graph.py know FAISS.

Vectors live as half-precision codes, row-major, in one FAISS file that is memory-mapped: worker processes share it,
and every way of searching reads the same memory.

- A range of at most EXACT_ROWS rows (a time window) is scanned exactly, through a view on the mapped codes.
- A filter that leaves at most EXACT_ROWS rows is scanned exactly, over a gathered copy of their codes.
- Only what is larger goes through HNSW, which a file gets from GRAPH_ROWS rows on.

FAISS threads: the process decides (`limit_threads`); FAISS releases the GIL while it searches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from recommender.catalog import graph
from recommender.catalog.graph import Half
from recommender.errors import CorruptError

EXACT_ROWS = 20_000
"""At 32 ns a row (384 dims, one thread, measured) an exact scan of this many costs 0.65 ms."""
GRAPH_ROWS = 50_000
"""Smaller files are scanned exactly throughout: 1.6 ms at the most."""
GRAPH_EF_SEARCH = 256
"""Recall@100 on 72,775 real embeddings: .983 at ef 100, .995 at 200 (design notes); more where a filter thins rows."""
_TIE_SLACK = 16

Vector = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Allowed = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Found rows and their inner products, best first, the newer row first among equals."""

    rows: Rows
    scores: npt.NDArray[np.float32]

    @staticmethod
    def none() -> Hits:
        """Return no hits."""
        return Hits(np.empty(0, np.int64), np.empty(0, np.float32))


def limit_threads(threads: int) -> None:
    """Bound the threads that one FAISS call may use, for the whole process."""
    faiss.omp_set_num_threads(threads)


def write_vectors(path: Path, dimension: int, batches: Iterable[Half]) -> None:
    """Write the vectors of all rows, in row order, to `path` as one FAISS file.

    batches: float16 (m, dimension) each, normalised. A graph is added from GRAPH_ROWS rows on; that takes minutes for
    each million rows and holds the file in memory.
    """
    codes = graph.codes_index(dimension)
    for batch in batches:
        codes.add(batch.astype(np.float32))
    _write(path, graph.build(codes) if codes.ntotal >= GRAPH_ROWS else codes)


def write_changed_vectors(path: Path, old: VectorFile, source: Rows, new: Iterable[Half]) -> None:
    """Write the vectors of `old` with some rows gone and others new, its graph carried over; see graph.carried_over."""
    _write(path, graph.carried_over(old.index, source, new))


def _write(path: Path, index: faiss.Index) -> None:
    with path.open("wb") as stream:  # FAISS itself only prints that the last block did not fit on the disk
        faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))


class VectorFile:
    """A file of `write_vectors`, opened for searching. Safe for concurrent searches; immutable."""

    def __init__(self, path: Path, *, rows: int, dimension: int) -> None:
        """Map the file. Raises CorruptError if it is not a FAISS file with `rows` vectors of `dimension`."""
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise CorruptError(f"{path}: FAISS cannot read it: {reason}", fix="rebuild the snapshot") from error
        if index.ntotal != rows or index.d != dimension:
            raise CorruptError(
                f"{path}: {index.ntotal} vectors of {index.d}, expected {rows} of {dimension}",
                fix="rebuild the snapshot",
            )
        self.rows = rows
        self.dimension = dimension
        self.index = index
        self._has_graph = isinstance(index, faiss.IndexHNSW)
        self._flat = faiss.downcast_index(index.storage) if self._has_graph else index
        self._codes = self._map_codes()

    def _map_codes(self) -> npt.NDArray[np.uint8]:
        if self.rows == 0:
            return np.empty((0, 2 * self.dimension), np.uint8)
        flat: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(self._flat.codes.data(), self.rows * 2 * self.dimension)
        return flat.reshape(self.rows, 2 * self.dimension)

    @property
    def has_graph(self) -> bool:
        """Say whether there is a graph, or every search is a scan."""
        return self._has_graph

    def codes(self, low: int, high: int) -> Half:
        """Return float16 (high - low, dimension): the vectors of rows [low, high) in the mapped file."""
        return self._codes[low:high].view(np.float16)

    def vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension), a copy."""
        half: npt.NDArray[np.float16] = self._codes[rows].view(np.float16)
        return half.astype(np.float32)

    def compare(self, vectors: npt.NDArray[np.float16], query: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (m,): the inner products of `query` with each of `vectors`, float16 (m, dimension)."""
        products = np.empty(len(vectors), np.float32)
        if len(vectors):
            codes = np.ascontiguousarray(vectors).view(np.uint8)
            scores, rows = self._view(codes).search(query[None], len(codes))
            products[rows[0]] = scores[0]
        return products

    def search(self, query: Vector, k: int, low: int, high: int, allowed: Allowed | None = None) -> Hits:
        """Return at most k rows of [low, high) by inner product with `query`, float32 (dimension,).

        allowed: bool (rows,); rows where it is False are not searched. Fewer than k hits if fewer rows qualify.
        """
        low, high = max(low, 0), min(high, self.rows)
        if k <= 0 or low >= high:
            return Hits.none()
        if allowed is not None:
            qualified = int(np.count_nonzero(allowed[low:high]))
            if qualified < high - low:
                if qualified <= EXACT_ROWS or not self._has_graph:
                    return self._scan_rows(query, k, low + np.flatnonzero(allowed[low:high]))
                return self._walk_graph(query, k, low, high, allowed, qualified)
        if high - low <= EXACT_ROWS or not self._has_graph:
            return self._scan_range(query, k, low, high)
        return self._walk_graph(query, k, low, high, None, high - low)

    def _scan_range(self, query: Vector, k: int, low: int, high: int) -> Hits:
        scores, found = _scan(self._view(self._codes[low:high]), query, k)
        return best_of(scores, found + low, k)

    def _scan_rows(self, query: Vector, k: int, rows: Rows) -> Hits:
        if not len(rows):
            return Hits.none()
        gathered = self._codes[rows]
        scores, found = _scan(self._view(gathered), query, k)
        return best_of(scores, rows[found], k)

    def _view(self, codes: npt.NDArray[np.uint8]) -> faiss.IndexScalarQuantizer:
        """Return an index over `codes` without copying them; the caller keeps `codes` alive while it searches."""
        index = graph.codes_index(self.dimension)
        address = faiss.cast_integer_to_void_ptr(codes.ctypes.data)
        index.codes = faiss.MaybeOwnedVectorUInt8.create_view(address, codes.size, self._flat.codes.owner)
        index.ntotal = len(codes)
        return index

    def _walk_graph(self, query: Vector, k: int, low: int, high: int, allowed: Allowed | None, qualified: int) -> Hits:
        thinning = min(self.rows / max(qualified, 1), 16.0)
        params = faiss.SearchParametersHNSW(efSearch=int(max(GRAPH_EF_SEARCH, 2 * k) * thinning))
        if allowed is not None:
            params.sel = faiss.IDSelectorBitmap(np.packbits(_within(allowed, low, high), bitorder="little"))
        elif (low, high) != (0, self.rows):
            params.sel = faiss.IDSelectorRange(low, high)
        scores, rows = self.index.search(query[None], min(k, qualified), params=params)
        found = rows[0] >= 0
        return best_of(scores[0][found], rows[0][found], k)


def best_of(scores: npt.NDArray[np.float32], rows: Rows, k: int) -> Hits:
    """Return the k best of parallel `scores` and `rows`; of equal scores the higher (newer) row first."""
    order = np.lexsort((-rows, -scores))[:k]
    return Hits(rows[order], scores[order])


def _scan(index: faiss.IndexScalarQuantizer, query: Vector, k: int) -> tuple[npt.NDArray[np.float32], Rows]:
    """Return at least the k best and all rows that tie with the k-th, so that the choice is always the same."""
    total = int(index.ntotal)
    fetch = k + _TIE_SLACK
    while True:
        fetch = min(fetch, total)
        scores, rows = index.search(query[None], fetch)
        if fetch == total or scores[0, -1] < scores[0, k - 1]:
            return scores[0], rows[0]
        fetch *= 4


def _within(allowed: Allowed, low: int, high: int) -> Allowed:
    if low == 0 and high == len(allowed):
        return allowed
    inside = np.zeros_like(allowed)
    inside[low:high] = allowed[low:high]
    return inside
