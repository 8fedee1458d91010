"""Compressed vectors in inverted lists: which rows may be the nearest, at about a nanosecond a row.

A vector is cut into parts of PART_DIMENSIONS, each replaced by the nearest of 16 in a codebook (product quantisation,
Jegou et al. 2011), and filed in the list of its nearest centroid. FAISS compares a query with such codes by table
look-ups inside registers (fast scan, Andre et al. 2017). What that returns is an estimate: the caller compares the best
of it exactly. Codes and lists are columns of the archive like any others: a row keeps them for as long as the codebooks
last, and any choice of rows makes an index of its own within milliseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

import faiss
import numpy as np
import numpy.typing as npt

from recommender.catalog.vectors.scalar_codes import ScalarCodes, Vector, dequantise_8bit, levels_8bit

PqCodes = npt.NDArray[np.uint8]
ListNumbers = npt.NDArray[np.uint16]
Bitmap = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

PART_DIMENSIONS = 4
LISTS_ROWS = 300_000
"""Fewer rows are all in one list: 0.17 ms for 100,000 on one thread; several lists save nothing there."""
LISTS_MOST = 4_096
"""The nearest of more lists would take longer to find than they save."""
VISITED = (
    (30_000, 9_000),
    (100_000, 21_000),
    (300_000, 55_000),
    (1_000_000, 90_000),
    (10_000_000, 210_000),
    (100_000_000, 420_000),
)
"""(rows that may be returned, codes of them that are compared): recall@100 of the best 1,000 is then .98 to .99 on
generated vectors (the last is not measured), interpolated between. So it is whether these are all rows, or those of a
period or a site in a larger archive."""
FAR_HELD, FAR_VISITED, FAR_COMPARED = 0.5, 0.8, 4
"""Rows that lie clumped, in a few subjects, are far from a query if the lists that are visited for all rows hold less
than FAR_HELD of them. The nearest of them are about equally far then, and lists say little: FAR_VISITED of them are
visited, and FAR_COMPARED times as many compared exactly. Of 1 % of 10,000,000 rows, subjects drawn at random, the best
3,200 have recall@100 .992; the best 800, a quarter visited, .88."""
_TRAINING_ROWS = 65_536
_TRAINING_ROWS_A_LIST = 40
_TRAINING_ITERATIONS = 6
_SEED = 20_260_101
_CLUMPED = 2.0
_ONE_QUERY = 11
"""FAISS's number for its way to search list by list for one query, the best in a reservoir: over many lists a tenth
quicker than the one for batches, which it would choose."""
_BLOCK_ROWS = 32
_BITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Quantizers:
    """centroids: float32 (lists, dimension). codebooks: float32 (parts, 16, PART_DIMENSIONS)."""

    centroids: Vector
    codebooks: Vector

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return int(self.centroids.shape[1])

    def encode(self, vectors: Vector) -> tuple[PqCodes, ListNumbers]:
        """Return uint8 (n, dimension / 8), two parts a byte, and uint16 (n,), the list of each of `vectors`."""
        index = self.empty_index()
        _, nearest = index.quantizer.search(vectors, 1)
        return index.pq.compute_codes(vectors), nearest[:, 0].astype(np.uint16)

    def empty_index(self) -> faiss.IndexIVFPQFastScan:
        """Return a FAISS index of these quantizers without rows."""
        centroids = faiss.IndexFlatIP(self.dimension)
        centroids.add(self.centroids)
        index = _index(centroids, len(self.centroids))
        faiss.copy_array_to_vector(np.ascontiguousarray(self.codebooks).ravel(), index.pq.centroids)
        index.is_trained = True
        return index


def can_compress(dimension: int) -> bool:
    """Say whether vectors of this dimension can be compressed: into bytes of two parts."""
    return dimension % (2 * PART_DIMENSIONS) == 0


def train(vectors: ScalarCodes, rows: int) -> Quantizers:
    """Find codebooks and centroids for an archive of `rows` rows. vectors: uint8 (n, dimension), all or a sample."""
    lists = _lists(rows)
    step = max(1, len(vectors) // max(_TRAINING_ROWS, _TRAINING_ROWS_A_LIST * lists))
    sample = dequantise_8bit(vectors[::step])
    centroids = faiss.IndexFlatIP(sample.shape[1])
    index = _index(centroids, lists)
    index.cp.niter = _TRAINING_ITERATIONS
    index.cp.seed = index.pq.cp.seed = _SEED
    index.train(sample)
    codebooks = faiss.vector_to_array(index.pq.centroids).reshape(-1, 1 << _BITS, PART_DIMENSIONS)
    return Quantizers(centroids.reconstruct_n(0, index.nlist), codebooks)


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How some rows lie in the lists. shares: float64 (lists,), the share of them in each.

    clumped: whether two of them share a list at least twice as often as two of all rows do.
    """

    shares: npt.NDArray[np.float64]
    clumped: bool


@dataclass(frozen=True, slots=True, eq=False)
class Around:
    """How some rows lie around a query. held: float64 (lists,), the share of them in the nearest one, two, ... lists.

    far: whether none of them is near; see FAR_HELD.
    """

    held: npt.NDArray[np.float64]
    far: bool


@dataclass(frozen=True, eq=False)
class ProductCodes:
    """Codes of an archive's rows, parallel. codes: uint8 (n, bytes). lists: uint16 (n,), the list of each."""

    quantizers: Quantizers
    codes: PqCodes
    lists: ListNumbers

    def spread(self, rows: Rows) -> Spread | None:
        """Return how some rows lie in the lists; None if all are in one."""
        lists = len(self.quantizers.centroids)
        if lists == 1:
            return None
        members = np.bincount(self.lists[rows], minlength=lists)
        return Spread(members / max(len(rows), 1), _share_a_list(members) >= _CLUMPED * self._all_share_a_list)

    @cached_property
    def _all_share_a_list(self) -> float:
        return _share_a_list(np.bincount(self.lists))

    def index(self) -> InvertedLists:
        """Return all rows, searchable."""
        return InvertedLists(self.quantizers, self.codes, self.lists)

    def index_of(self, rows: Rows) -> InvertedLists:
        """Return some rows, ascending, searchable. 38 ms for 100,000. Safe on any thread."""
        numbers = self.lists[rows] if len(rows) >= LISTS_ROWS else None
        return InvertedLists(self.quantizers, self.codes[rows], numbers, rows)


class InvertedLists:
    """Some rows, searchable by their codes. Immutable."""

    def __init__(
        self, quantizers: Quantizers, codes: PqCodes, lists: ListNumbers | None, rows: Rows | None = None
    ) -> None:
        """codes: uint8 (n, bytes). lists: uint16 (n,); None puts all into one list, which is best for few.

        rows: int64 (n,), the rows' numbers, ascending; None numbers them from 0.
        """
        if lists is None:
            quantizers = Quantizers(np.zeros((1, quantizers.dimension), np.float32), quantizers.codebooks)
            lists = np.zeros(len(codes), np.uint16)
        self.rows = len(codes)
        numbers = np.arange(len(codes)) if rows is None else rows
        self._first, self._last = (int(numbers[0]), int(numbers[-1])) if len(numbers) else (0, -1)
        self._index = quantizers.empty_index()
        self._count = int(self._index.nlist)
        order = np.argsort(lists, kind="stable")
        ends = np.cumsum(np.bincount(lists, minlength=self._count))
        for at, members in enumerate(np.split(order, ends[:-1])):
            if len(members):
                packed = _packed(codes[members])
                ids = np.ascontiguousarray(numbers[members], np.int64)
                self._index.invlists.add_entries(at, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(packed))
        self._index.ntotal = self.rows
        self._centroids = _coded(quantizers.centroids)
        self._index.quantizer = self._centroids

    def candidates(
        self,
        query: Vector,
        n: int,
        low: int,
        high: int,
        bits: Bitmap | None = None,
        passing: int | None = None,
        around: Around | None = None,
    ) -> Rows:
        """Return about n rows of [low, high) that are likely the nearest to `query`, in no order.

        bits: little-endian, one a row, of the rows that may be returned; None for all. passing: about how many may be;
        None for all in the range. around: how they lie around the query; None if as all rows do.
        """
        passing = high - low if passing is None else passing
        visited = self._visited_of(passing, around) if around else self._visited_lists(passing)
        params = faiss.SearchParametersIVF(nprobe=visited, sel=self._selector(low, high, bits))
        _, rows = self._index.search(levels_8bit(query)[None], min(n, passing), params=params)
        found: Rows = rows[0][rows[0] >= 0]
        return found

    def compared(self, passing: int) -> int:
        """Return about how many codes a search compares if so many rows may be returned."""
        return self.rows * self._visited_lists(passing) // self._count

    def _visited_lists(self, passing: int) -> int:
        """Return how many lists hold enough of `passing` rows that lie in them as all rows do."""
        if self._count == 1:
            return 1
        lists = self._count * _enough(passing) / max(passing, 1)
        return min(self._count, max(1, round(lists)))

    def around(self, query: Vector, spread: Spread) -> Around:
        """Return how rows that are spread so over these lists lie around a query."""
        _, nearest = self._centroids.search(levels_8bit(query)[None], self._count)
        held = np.cumsum(spread.shares[nearest[0]])
        return Around(held, spread.clumped and bool(held[self._visited_lists(self.rows) - 1] < FAR_HELD))

    def _visited_of(self, passing: int, around: Around) -> int:
        """Return how many of the nearest lists hold enough of the rows; of all rows as many at least."""
        share = FAR_VISITED if around.far else _enough(passing) / max(passing, 1)
        lists = int(np.searchsorted(around.held, share)) + 1
        return min(self._count, max(self._visited_lists(self.rows), lists))

    def _selector(self, low: int, high: int, bits: Bitmap | None) -> faiss.IDSelector | None:
        selectors = []
        if low > self._first or high <= self._last:
            selectors.append(faiss.IDSelectorRange(low, high))
        if bits is not None:
            selectors.append(faiss.IDSelectorBitmap(bits))
        if len(selectors) == 2:
            return faiss.IDSelectorAnd(*selectors)
        return selectors[0] if selectors else None


def _index(centroids: faiss.IndexFlatIP, lists: int) -> faiss.IndexIVFPQFastScan:
    """Return an empty index; codes are of the vectors themselves, so that they are the same in whatever list."""
    parts = centroids.d // PART_DIMENSIONS
    index = faiss.IndexIVFPQFastScan(centroids, centroids.d, lists, parts, _BITS, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    index.implem = _ONE_QUERY
    return index


def _coded(centroids: Vector) -> faiss.IndexScalarQuantizer:
    """Return centroids at eight bits, to be asked in steps: four times as quick as in single precision."""
    index = empty_8bit_index(centroids.shape[1])
    index.add(levels_8bit(centroids))
    return index


def empty_8bit_index(dimension: int) -> faiss.IndexScalarQuantizer:
    """Return an empty index of vectors as coding.py encodes them: asked in steps, it answers in whole numbers."""
    return faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
    )


def _lists(rows: int) -> int:
    """Return the number of lists for so many rows: the power of two next to twice the square root of their number."""
    return 1 if rows < LISTS_ROWS else min(LISTS_MOST, 1 << round(np.log2(2 * rows**0.5)))


def _enough(passing: int) -> float:
    """Return how many of `passing` rows are compared: VISITED, interpolated in logarithms, the ends beyond them."""
    at = bisect_right(VISITED, passing, key=itemgetter(0))
    (rows, codes), (more_rows, more_codes) = VISITED[max(at - 1, 0)], VISITED[min(at, len(VISITED) - 1)]
    between = math.log(passing / rows) / math.log(more_rows / rows) if rows < more_rows else 0.0
    return float(min(passing, codes * (more_codes / codes) ** between))


def _share_a_list(members: npt.NDArray[np.int64]) -> float:
    """Return the probability that two of these rows are in the same list. members: number of them in each."""
    rows = int(members.sum())
    return float((members * (members - 1)).sum() / max(rows * (rows - 1), 1))


_WITHIN_LANE = np.array([0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15])


def _packed(codes: PqCodes) -> PqCodes:
    """Return codes in the order in which FAISS's registers take them in: blocks of 32 rows, byte by byte.

    Of each byte's two parts the first ones of all 32 rows come first; rows i and i + 16 share a byte. A test compares
    this with what FAISS itself makes of the same vectors.
    """
    rows, width = codes.shape
    padded = np.zeros((-(-rows // _BLOCK_ROWS) * _BLOCK_ROWS, width), np.uint8)
    padded[:rows] = codes
    by_byte = padded.reshape(-1, _BLOCK_ROWS, width).transpose(0, 2, 1)
    packed = np.empty((len(by_byte), width, _BLOCK_ROWS), np.uint8)
    for half, parts in enumerate((by_byte & 15, by_byte >> 4)):
        lanes = parts[:, :, _WITHIN_LANE] | (parts[:, :, _WITHIN_LANE + 16] << 4)
        packed[:, :, 16 * half : 16 * (half + 1)] = lanes
    return packed.reshape(-1)
