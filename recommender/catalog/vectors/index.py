"""The vector side: inner-product search over rows in time order. Only this module and compressed.py know FAISS.

Vectors lie at eight bits a component (see coding.py), row by row, in one memory-mapped array that worker processes
share. Few rows (a window of time, a narrow scope) are scanned exactly. Of many, their compressed codes say which are
likely the nearest, and these are compared exactly. Either way the scores are those of the vectors as they lie there.
Where codes bring fewer than k (nearly all rows of the visited lists are dead, or FAISS passes over what it estimates
lowest), all rows are scanned: there are always k hits if there are k rows.

FAISS threads: who searches decides (`limit_threads`); FAISS releases the GIL while it searches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from recommender.catalog.vectors.product_codes import FAR_COMPARED, Bitmap, InvertedLists, Spread, empty_8bit_index
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

SCANNED_ROWS, SCANNED_CODES = 12_000, 6
"""So many rows that follow each other are scanned exactly, 16 ns each (384 dims, one thread, measured): 0.2 ms. More of
them too, where an index would compare so many codes for each."""
GATHERED_ROWS, GATHERED_CODES = 2_000, 30
"""The same of rows that do not follow each other: 70 ns more each to bring them together."""
COMPARED_LEAST, COMPARED_TIMES = 800, 2
"""Of the likely rows so many are compared exactly, and so many times k more: recall@100 of 100,000 rows is .989."""
COMPARED_ROWS, COMPARED_GROWTH = 1_000_000, 0.4
"""Of more rows than these the least number grows by this power of theirs, to 2,010 of ten million: the more there are,
the closer the nearest are to each other, and the less codes tell them apart."""
_TIE_SLACK = 16

Rows = npt.NDArray[np.int64]
RowMask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Found rows and their inner products, best first, the higher row first among equals."""

    rows: Rows
    scores: npt.NDArray[np.float32]

    @staticmethod
    def none() -> Hits:
        """Return no hits."""
        return Hits(np.empty(0, np.int64), np.empty(0, np.float32))


def limit_threads(threads: int) -> None:
    """Bound the threads that one FAISS call of this thread may use."""
    faiss.omp_set_num_threads(threads)


class Vectors8Bit:
    """Vectors as coding.py encodes them, uint8 (n, dimension), C-contiguous; memory-mapped or not. Immutable.

    Queries and what is read are turned, float32. Queries are rounded as rows are, so that inner products are sums of
    whole numbers: the same on every processor, whatever is searched beside them.
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

    def scan(self, query: Vector, k: int, low: int, high: int, bits: Bitmap | None = None) -> Hits:
        """Return at most k rows of [low, high), exactly; of those whose bit is set. bits: little-endian, one a row."""
        if k <= 0 or low >= high:
            return Hits.none()
        if bits is None:
            scores, found = self._scan(self.codes[low:high], query, k)
            return best_of(scores, found + low, k)
        first = low // 8
        bits = bits[first : -(-high // 8)].copy()
        bits[0] &= 255 << (low % 8) & 255
        params = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        scores, found = self._scan(self.codes[8 * first : high], query, k, params)
        return best_of(scores[found >= 0], found[found >= 0] + 8 * first, k)

    def scan_rows(self, query: Vector, k: int, rows: Rows) -> Hits:
        """Return at most k of `rows`, exactly."""
        if k <= 0 or not len(rows):
            return Hits.none()
        codes = self.codes.take(rows, axis=0)
        scores, found = self._scan(codes, query, k)
        return best_of(scores, rows[found], k)

    def _scan(
        self, codes: ScalarCodes, query: Vector, k: int, params: faiss.SearchParameters | None = None
    ) -> tuple[npt.NDArray[np.float32], Rows]:
        """Return at least the k best and all rows that tie with the k-th, so that the choice is always the same.

        Of fewer that may be returned all; what follows them is -1.
        """
        index, asked = _over(empty_8bit_index(self.dimension), codes), levels_8bit(query)[None]
        fetch = k + _TIE_SLACK
        while True:
            fetch = min(fetch, len(codes))
            scores, rows = index.search(asked, fetch, params=params)
            if fetch == len(codes) or rows[0, -1] < 0 or scores[0, -1] < scores[0, k - 1]:
                return scores[0] * self._step**2, rows[0]
            fetch *= 4


class Vectors4Bit:
    """Vectors in short, uint8 (n, dimension / 2, rounded up), which are compared and not searched. Immutable."""

    def __init__(self, codes: ScalarCodes, dimension: int) -> None:
        """Compare `codes` in place, see coding.py."""
        self.codes = codes
        self.dimension = dimension

    def read(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return dequantise_4bit(self.codes[row], self.dimension)

    def cosines(self, rows: Rows, query: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): the inner products of these rows with `query`, turned, as a cosine at most 1.

        A vector's product with itself is 1.01, by what it is rounded.
        """
        products = np.empty(len(rows), np.float32)
        if len(rows):
            index = faiss.IndexScalarQuantizer(self.dimension, _SHORT, faiss.METRIC_INNER_PRODUCT)
            lowest_and_width = step_4bit(self.dimension) * np.array([-LEVELS_4BIT / 2, LEVELS_4BIT - 1], np.float32)
            faiss.copy_array_to_vector(lowest_and_width, index.sq.trained)
            index.is_trained = True
            scores, found = _over(index, self.codes.take(rows, axis=0)).search(query[None], len(rows))
            products[found[0]] = scores[0]
        return np.minimum(products, np.float32(1))


class VectorIndex:
    """Vectors with their compressed codes, if they have any. Safe for concurrent searches; immutable."""

    def __init__(self, vectors: Vectors8Bit, lists: InvertedLists | None) -> None:
        """lists: of the same rows."""
        self.vectors = vectors
        self._lists = lists

    def search(self, query: Vector, k: int, low: int, high: int, alive: Bitmap | None = None) -> Hits:
        """Return at most k rows of [low, high) by inner product with `query`, float32 (dimension,).

        alive: little-endian bits, one a row, of the rows that may be returned; None for all.
        """
        low, high = max(low, 0), min(high, self.vectors.rows)
        if k <= 0:
            return Hits.none()
        if self._lists is None or high - low <= max(SCANNED_ROWS, self._lists.compared(high - low) // SCANNED_CODES):
            return self.vectors.scan(query, k, low, high, alive)
        likely = self._lists.candidates(query, _compared(k, high - low), low, high, alive)
        if len(likely) < min(k, high - low):
            return self.vectors.scan(query, k, low, high, alive)
        return self.vectors.scan_rows(query, k, np.sort(likely))

    def search_rows(
        self,
        query: Vector,
        k: int,
        rows: Rows,
        bits: Bitmap,
        own: InvertedLists | None = None,
        spread_of: Callable[[], Spread | None] = lambda: None,
    ) -> Hits:
        """Return at most k of `rows`, ascending, of those whose bit is set.

        bits: little-endian, one for each row of the index; not set of a row between `rows` that is not among them.
        own: codes of `rows` and hardly others, if there are any; else they are found among the codes of all. spread_of:
        says how they lie among those, which is asked only where it matters.
        """
        if k <= 0 or not len(rows):
            return Hits.none()
        lists = own or self._lists
        low, high = int(rows[0]), int(rows[-1]) + 1
        codes = lists.compared(len(rows)) if lists else self.vectors.rows * GATHERED_CODES
        scanned, gathered = SCANNED_CODES * (high - low), GATHERED_CODES * len(rows)
        if scanned <= max(codes, SCANNED_CODES * SCANNED_ROWS) and scanned <= gathered:
            return self.vectors.scan(query, k, low, high, bits)
        if lists is not None and gathered > max(codes, GATHERED_CODES * GATHERED_ROWS):
            compared, around, spread = _compared(k, len(rows)), None, spread_of()
            if self._lists and spread and (spread.clumped or not own):
                around = self._lists.around(query, spread)
                compared *= FAR_COMPARED if around.far else 1
            likely = lists.candidates(query, compared, low, high, bits, len(rows), None if own else around)
            if len(likely) >= min(k, len(rows)):
                return self.vectors.scan_rows(query, k, np.sort(likely))
        are_set = (bits[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1
        return self.vectors.scan_rows(query, k, rows[are_set != 0])


def _compared(k: int, rows: int) -> int:
    """Return how many of the likely rows are compared exactly where so many may be returned."""
    growth: float = max(1.0, rows / COMPARED_ROWS) ** COMPARED_GROWTH
    return round(COMPARED_LEAST * growth) + COMPARED_TIMES * k


def _over(index: faiss.IndexScalarQuantizer, codes: ScalarCodes) -> faiss.IndexScalarQuantizer:
    """Return an empty index over `codes` without copying them, which keeps them alive as long as it lives itself."""
    address = faiss.cast_integer_to_void_ptr(codes.ctypes.data)
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(address, codes.size, _NO_OWNER)
    index.ntotal = len(codes)
    index.referenced_objects = [codes]  # FAISS's own wrappers keep what they need under this name
    return index


def best_of(scores: npt.NDArray[np.float32], rows: Rows, k: int) -> Hits:
    """Return the k best of parallel `scores` and `rows`; of equal scores the higher row first."""
    order = np.lexsort((-rows, -scores))[:k]
    return Hits(rows[order], scores[order])


_SHORT = faiss.ScalarQuantizer.QT_4bit_uniform
_EMPTY = empty_8bit_index(1)
_NO_OWNER = _EMPTY.codes.owner  # points into _EMPTY
"""What FAISS shall keep alive for a view: nothing."""
