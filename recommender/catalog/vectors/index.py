"""Inner-product search over rows in time order. Only this module and product_codes.py use FAISS.

Vectors are 8-bit codes (see scalar_codes.py), row by row, in one memory-mapped array that worker processes share. Few
rows (a window of time, a narrow scope) are scanned exactly. Among many, product codes give the candidates, which are
re-ranked by their 8-bit codes. Scores are the same either way. Where product codes give fewer than k candidates (nearly
all rows of the probed lists are dead, or FAISS skips those of the lowest estimate), all rows are scanned: there are
always k hits if there are k rows.

FAISS threads: the caller of a search decides (`limit_threads`). FAISS releases the GIL while it searches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from recommender.catalog.vectors.product_codes import (
    Bitmap,
    InvertedLists,
    ListShares,
    empty_8bit_index,
)
from recommender.catalog.vectors.scalar_codes import (
    LEVELS_4BIT,
    ScalarCodes,
    Vector,
    dequantise_4bit,
    dequantise_8bit,
    levels_8bit,
    step_4bit,
    step_8bit,
)
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts

_TIE_SLACK = 16
"""Rows to fetch beyond k at first, so that rows that tie with the k-th are seen."""

Rows = npt.NDArray[np.int64]
RowMask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Rows and their inner products, parallel, best first; of equal scores the higher row first."""

    rows: Rows
    scores: npt.NDArray[np.float32]

    @staticmethod
    def none() -> Hits:
        """Return no hits."""
        return Hits(np.empty(0, np.int64), np.empty(0, np.float32))


def limit_threads(threads: int) -> None:
    """Limit the threads that one FAISS call of this thread may use."""
    faiss.omp_set_num_threads(threads)


class Vectors8Bit:
    """8-bit codes, uint8 (n, dimension), C-contiguous, memory-mapped or not; exact search. Immutable.

    Queries and vectors that are read are rotated, float32. Queries are quantised like rows, so inner products are sums
    of whole numbers: the same on every processor, and whatever rows are searched together.
    """

    def __init__(self, codes: ScalarCodes) -> None:
        """Search `codes` in place."""
        self.rows, self.dimension = codes.shape
        self.codes = codes
        self._step = np.float32(step_8bit(self.dimension))

    def read(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        vectors: Vector = dequantise_8bit(self.codes.take(rows, axis=0))
        return vectors

    def scan(self, query: Vector, k: int, low: int, high: int, bitmap: Bitmap | None = None) -> Hits:
        """Return the k best rows of [low, high), exactly.

        bitmap: little-endian, one bit a row, set for the rows that may be returned; None for all.
        """
        if k <= 0 or low >= high:
            return Hits.none()
        if bitmap is None:
            scores, rows = self._search(self.codes[low:high], query, k)
            return best_of(scores, rows + low, k)
        first = low // 8
        bitmap = bitmap[first : -(-high // 8)].copy()
        bitmap[0] &= 255 << (low % 8) & 255
        params = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        scores, rows = self._search(self.codes[8 * first : high], query, k, params)
        return best_of(scores[rows >= 0], rows[rows >= 0] + 8 * first, k)

    def scan_rows(self, query: Vector, k: int, rows: Rows) -> Hits:
        """Return the k best of `rows`, exactly."""
        if k <= 0 or not len(rows):
            return Hits.none()
        scores, positions = self._search(self.codes.take(rows, axis=0), query, k)
        return best_of(scores, rows[positions], k)

    def _search(
        self, codes: ScalarCodes, query: Vector, k: int, params: faiss.SearchParameters | None = None
    ) -> tuple[npt.NDArray[np.float32], Rows]:
        """Return at least the k best and all rows that tie with the k-th, so that the choice is always the same.

        If fewer than k may be returned, the rest is filled up with row -1.
        """
        index, levels = _view(empty_8bit_index(self.dimension), codes), levels_8bit(query)[None]
        fetch = k + _TIE_SLACK
        while True:
            fetch = min(fetch, len(codes))
            scores, rows = index.search(levels, fetch, params=params)
            if fetch == len(codes) or rows[0, -1] < 0 or scores[0, -1] < scores[0, k - 1]:
                return scores[0] * self._step**2, rows[0]
            fetch *= 4


class Vectors4Bit:
    """4-bit codes, uint8 (n, ceil(dimension / 2)), which are compared and not searched. Immutable."""

    def __init__(self, codes: ScalarCodes, dimension: int) -> None:
        """Compare `codes` (see scalar_codes.py) in place."""
        self.codes = codes
        self.dimension = dimension

    def read(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return dequantise_4bit(self.codes[row], self.dimension)

    def cosines(self, rows: Rows, query: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): inner products of these rows with `query`, rotated, cut off at 1.

        By rounding, a vector's inner product with itself may reach 1.01.
        """
        products = np.empty(len(rows), np.float32)
        if len(rows):
            index = faiss.IndexScalarQuantizer(
                self.dimension, faiss.ScalarQuantizer.QT_4bit_uniform, faiss.METRIC_INNER_PRODUCT
            )
            lowest_and_width = step_4bit(self.dimension) * np.array([-LEVELS_4BIT / 2, LEVELS_4BIT - 1], np.float32)
            faiss.copy_array_to_vector(lowest_and_width, index.sq.trained)
            index.is_trained = True
            scores, positions = _view(index, self.codes.take(rows, axis=0)).search(query[None], len(rows))
            products[positions[0]] = scores[0]
        return np.minimum(products, np.float32(1))


class VectorIndex:
    """8-bit vectors with their product codes, if they have any. Safe for concurrent searches; immutable."""

    def __init__(self, vectors: Vectors8Bit, lists: InvertedLists | None, costs: SearchCosts = MEASURED) -> None:
        """lists: product codes of the same rows; None if all searches are exact."""
        self.vectors = vectors
        self._lists = lists
        self._costs = costs

    def search(self, query: Vector, k: int, low: int, high: int, alive: Bitmap | None = None) -> Hits:
        """Return the k best rows of [low, high) by inner product with `query`, float32 (dimension,).

        alive: little-endian, one bit a row, set for the rows that may be returned; None for all.
        """
        low, high = max(low, 0), min(high, self.vectors.rows)
        rows, costs = high - low, self._costs
        if k <= 0:
            return Hits.none()
        if self._lists is None or rows <= max(costs.scan_rows_max, self._lists.scanned_codes(rows) // costs.scan_cost):
            return self.vectors.scan(query, k, low, high, alive)
        candidates = self._lists.candidates(query, costs.rows_to_rerank(k, rows), low, high, alive)
        if len(candidates) < min(k, rows):
            return self.vectors.scan(query, k, low, high, alive)
        return self.vectors.scan_rows(query, k, np.sort(candidates))

    def search_rows(
        self,
        query: Vector,
        k: int,
        rows: Rows,
        bitmap: Bitmap,
        own: InvertedLists | None = None,
        list_shares: Callable[[], ListShares | None] = lambda: None,
    ) -> Hits:
        """Return the k best of `rows`, ascending, whose bit is set.

        bitmap: little-endian, one bit for each row of the index; between the first and the last of `rows`, bits of
        other rows are not set. own: lists of `rows` and hardly any others; None searches the lists of all rows.
        list_shares: computes how `rows` are distributed over the lists of all rows; called only where it matters.
        """
        if k <= 0 or not len(rows):
            return Hits.none()
        lists, costs = own or self._lists, self._costs
        low, high = int(rows[0]), int(rows[-1]) + 1
        scan, gather = costs.scan_cost * (high - low), costs.gather_cost * len(rows)
        codes = lists.scanned_codes(len(rows)) if lists else self.vectors.rows * costs.gather_cost
        if scan <= max(codes, costs.scan_cost * costs.scan_rows_max) and scan <= gather:
            return self.vectors.scan(query, k, low, high, bitmap)
        if lists is not None and gather > max(codes, costs.gather_cost * costs.gather_rows_max):
            rerank, coverage, distribution = costs.rows_to_rerank(k, len(rows)), None, list_shares()
            if self._lists and distribution and (distribution.clustered or not own):
                coverage = self._lists.coverage(query, distribution)
                rerank *= costs.far_rerank_times if coverage.far else 1
            candidates = lists.candidates(query, rerank, low, high, bitmap, len(rows), None if own else coverage)
            if len(candidates) >= min(k, len(rows)):
                return self.vectors.scan_rows(query, k, np.sort(candidates))
        is_set = (bitmap[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1
        return self.vectors.scan_rows(query, k, rows[is_set != 0])


def best_of(scores: npt.NDArray[np.float32], rows: Rows, k: int) -> Hits:
    """Return the k best of parallel `scores` and `rows`; of equal scores the higher row first."""
    order = np.lexsort((-rows, -scores))[:k]
    return Hits(rows[order], scores[order])


def _view(index: faiss.IndexScalarQuantizer, codes: ScalarCodes) -> faiss.IndexScalarQuantizer:
    """Let an empty index search `codes` without a copy, and keep them alive as long as the index.

    FAISS's documented way, `add_sa_codes`, copies them: with 12,000 rows a search takes 1.06 ms instead of .35.
    """
    address = faiss.cast_integer_to_void_ptr(codes.ctypes.data)
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(address, codes.size, _NO_OWNER)
    index.ntotal = len(codes)
    index.referenced_objects = [codes]  # FAISS's own wrappers keep what they need under this name
    return index


_EMPTY_INDEX = empty_8bit_index(1)
"""Keeps the memory of _NO_OWNER."""
_NO_OWNER = _EMPTY_INDEX.codes.owner
"""The owner of a view's memory: none. A null pointer, which FAISS's Python wrapper does not take as None."""
