"""Approximate search: product codes in inverted lists (IVF-PQ fast scan), about a nanosecond a row.

A vector is cut into parts of PART_DIMENSIONS, each replaced by the nearest of 16 entries of a codebook (product
quantisation, Jegou et al. 2011), and filed in the list of its nearest centroid. FAISS scans the codes of the probed
lists by table look-ups in registers (fast scan, Andre et al. 2017). The result is an estimate, which the caller
re-ranks. Codes and list numbers are columns of the archive: a row keeps them as long as the codebooks last, and any
set of rows can be made into lists of its own within milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np
import numpy.typing as npt

from recommender.catalog.vectors.scalar_codes import ScalarCodes, Vector, dequantise_8bit, levels_8bit
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts

PqCodes = npt.NDArray[np.uint8]
ListNumbers = npt.NDArray[np.uint16]
Bitmap = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

PART_DIMENSIONS = 4
"""Dimensions of a vector's part that one code of 4 bits stands for."""
LISTS_MAX = 4_096
"""Largest number of lists: the nearest of more would take longer to find than they save."""
_CLUSTERED_RATIO = 2.0
"""Rows are clustered if two of them share a list at least this many times as often as two of all rows do."""
_TRAINING_ROWS = 65_536
"""Least number of sampled rows to train on, of an archive that has them."""
_TRAINING_ROWS_PER_LIST = 40
"""Sampled rows to train on for each list, if that is more than _TRAINING_ROWS."""
_TRAINING_ITERATIONS = 6
"""Iterations of k-means for the centroids."""
_SEED = 20_260_101
"""Seed of both trainings."""
_LIST_BY_LIST = 11
"""FAISS's number (`implem`) for scanning one query list by list into a reservoir: over many lists a tenth quicker than
the implementation for batches, which is the default."""
_BITS = 4
"""Bits of one part's code; fast scan has no other number."""


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
    """Say whether vectors of this dimension have product codes: whole bytes of two parts."""
    return dimension % (2 * PART_DIMENSIONS) == 0


def train(vectors: ScalarCodes, rows: int, lists: int | None = None) -> Quantizers:
    """Train codebooks and centroids for an archive of `rows` rows.

    vectors: uint8 (n, dimension), all or a sample. lists: their number; None for `list_count(rows)`.
    """
    lists = lists or list_count(rows)
    step = max(1, len(vectors) // max(_TRAINING_ROWS, _TRAINING_ROWS_PER_LIST * lists))
    sample = dequantise_8bit(vectors[::step])
    centroids = faiss.IndexFlatIP(sample.shape[1])
    index = _index(centroids, lists)
    index.cp.niter = _TRAINING_ITERATIONS
    index.cp.seed = index.pq.cp.seed = _SEED
    index.train(sample)
    codebooks = faiss.vector_to_array(index.pq.centroids).reshape(-1, 1 << _BITS, PART_DIMENSIONS)
    return Quantizers(centroids.reconstruct_n(0, index.nlist), codebooks)


def list_count(rows: int) -> int:
    """Return the number of lists for an archive: the power of two nearest to twice the square root of its rows."""
    return 1 if rows < MEASURED.lists_rows_min else min(LISTS_MAX, 1 << round(np.log2(2 * rows**0.5)))


@dataclass(frozen=True, slots=True, eq=False)
class ListShares:
    """How a set of rows is distributed over the lists.

    shares: float64 (lists,), the share of the rows in each list. clustered: see _CLUSTERED_RATIO.
    """

    shares: npt.NDArray[np.float64]
    clustered: bool


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """How much of a set of rows the lists nearest to a query hold.

    shares: float64 (lists,), the share in the nearest list, in the nearest two, and so on. far: see
    `SearchCosts.far_coverage`.
    """

    shares: npt.NDArray[np.float64]
    far: bool


@dataclass(frozen=True, eq=False)
class ProductCodes:
    """Codes of an archive's rows, parallel. codes: uint8 (n, bytes). lists: uint16 (n,), the list of each."""

    quantizers: Quantizers
    codes: PqCodes
    lists: ListNumbers

    def list_shares(self, rows: Rows) -> ListShares | None:
        """Return how some rows are distributed over the lists; None if there is one list only."""
        lists = len(self.quantizers.centroids)
        if lists == 1:
            return None
        sizes = np.bincount(self.lists[rows], minlength=lists)
        clustered = _same_list_probability(sizes) >= _CLUSTERED_RATIO * self._same_list_probability
        return ListShares(sizes / max(len(rows), 1), clustered)

    @cached_property
    def _same_list_probability(self) -> float:
        return _same_list_probability(np.bincount(self.lists))

    def inverted_lists(self, costs: SearchCosts = MEASURED) -> InvertedLists:
        """Return searchable lists of all rows."""
        return InvertedLists(self.quantizers, self.codes, self.lists, costs=costs)

    def inverted_lists_of(self, rows: Rows, costs: SearchCosts = MEASURED) -> InvertedLists:
        """Return searchable lists of some rows, ascending: 38 ms for 100,000. Safe on any thread."""
        lists = self.lists[rows] if len(rows) >= costs.lists_rows_min else None
        return InvertedLists(self.quantizers, self.codes[rows], lists, rows, costs)


class InvertedLists:
    """Rows searchable by their product codes. Immutable."""

    def __init__(
        self,
        quantizers: Quantizers,
        codes: PqCodes,
        lists: ListNumbers | None,
        rows: Rows | None = None,
        costs: SearchCosts = MEASURED,
    ) -> None:
        """File codes, uint8 (n, bytes), in lists.

        lists: uint16 (n,); None puts all into one list, which is best for few. rows: int64 (n,), the rows' numbers,
        ascending; None numbers them from 0.
        """
        if lists is None:
            quantizers = Quantizers(np.zeros((1, quantizers.dimension), np.float32), quantizers.codebooks)
            lists = np.zeros(len(codes), np.uint16)
        self.rows = len(codes)
        self._costs = costs
        numbers = np.arange(len(codes)) if rows is None else rows
        self._first, self._last = (int(numbers[0]), int(numbers[-1])) if len(numbers) else (0, -1)
        self._index = quantizers.empty_index()
        self._count = int(self._index.nlist)
        order = np.argsort(lists, kind="stable")
        ends = np.cumsum(np.bincount(lists, minlength=self._count))
        for number, members in enumerate(np.split(order, ends[:-1])):
            if len(members):
                packed = _packed(codes[members])
                ids = np.ascontiguousarray(numbers[members], np.int64)
                self._index.invlists.add_entries(number, len(ids), faiss.swig_ptr(ids), packed.codes.get())
        self._index.ntotal = self.rows
        self._centroids = _quantised(quantizers.centroids)
        self._index.quantizer = self._centroids

    def candidates(
        self,
        query: Vector,
        n: int,
        low: int,
        high: int,
        bitmap: Bitmap | None = None,
        eligible: int | None = None,
        coverage: Coverage | None = None,
    ) -> Rows:
        """Return about n rows of [low, high) that are probably the nearest to `query`, unordered.

        bitmap: little-endian, one bit a row, set for eligible rows; None for all. eligible: about how many rows are;
        None for the whole range. coverage: of the eligible rows; None if they are distributed as all rows are.
        """
        eligible = high - low if eligible is None else eligible
        probes = self._probes_for(eligible, coverage) if coverage else self._probes(eligible)
        params = faiss.SearchParametersIVF(nprobe=probes, sel=self._selector(low, high, bitmap))
        _, rows = self._index.search(levels_8bit(query)[None], min(n, eligible), params=params)
        candidates: Rows = rows[0][rows[0] >= 0]
        return candidates

    def scanned_codes(self, eligible: int) -> int:
        """Return about how many codes a search scans if so many rows are eligible."""
        return self.rows * self._probes(eligible) // self._count

    def coverage(self, query: Vector, distribution: ListShares) -> Coverage:
        """Return how much of rows with this distribution over these lists the lists nearest to a query hold."""
        _, nearest = self._centroids.search(levels_8bit(query)[None], self._count)
        shares = np.cumsum(distribution.shares[nearest[0]])
        far = distribution.clustered and bool(shares[self._probes(self.rows) - 1] < self._costs.far_coverage)
        return Coverage(shares, far)

    def _probes(self, eligible: int) -> int:
        """Return how many lists to probe if eligible rows are distributed as all rows are."""
        if self._count == 1:
            return 1
        lists = self._count * self._costs.codes_to_scan(eligible) / max(eligible, 1)
        return min(self._count, max(1, round(lists)))

    def _probes_for(self, eligible: int, coverage: Coverage) -> int:
        """Return how many of the nearest lists hold enough of the eligible rows; at least as many as for all rows."""
        share = self._costs.far_probed_share if coverage.far else self._costs.codes_to_scan(eligible) / max(eligible, 1)
        lists = int(np.searchsorted(coverage.shares, share)) + 1
        return min(self._count, max(self._probes(self.rows), lists))

    def _selector(self, low: int, high: int, bitmap: Bitmap | None) -> faiss.IDSelector | None:
        selectors = []
        if low > self._first or high <= self._last:
            selectors.append(faiss.IDSelectorRange(low, high))
        if bitmap is not None:
            selectors.append(faiss.IDSelectorBitmap(bitmap))
        if len(selectors) == 2:
            return faiss.IDSelectorAnd(*selectors)
        return selectors[0] if selectors else None


def empty_8bit_index(dimension: int) -> faiss.IndexScalarQuantizer:
    """Return an empty index of 8-bit codes (see scalar_codes.py); queries are levels, inner products whole numbers."""
    return faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
    )


def _index(centroids: faiss.IndexFlatIP, lists: int) -> faiss.IndexIVFPQFastScan:
    """Return an empty index. Codes are of vectors, not of residuals, so they are the same in whatever list."""
    parts = centroids.d // PART_DIMENSIONS
    index = faiss.IndexIVFPQFastScan(centroids, centroids.d, lists, parts, _BITS, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    index.implem = _LIST_BY_LIST
    return index


def _quantised(centroids: Vector) -> faiss.IndexScalarQuantizer:
    """Return an index of centroids at 8 bits, queried by levels: four times as quick as single precision."""
    index = empty_8bit_index(centroids.shape[1])
    index.add(levels_8bit(centroids))
    return index


def _same_list_probability(sizes: npt.NDArray[np.int64]) -> float:
    """Return the probability that two rows are in the same list. sizes: number of rows in each list."""
    rows = int(sizes.sum())
    return float((sizes * (sizes - 1)).sum() / max(rows * (rows - 1), 1))


def _packed(codes: PqCodes) -> faiss.IndexPQFastScan:
    """Return codes in the block layout of fast scan, made by FAISS's own conversion of a plain PQ index."""
    parts = 2 * codes.shape[1]
    plain = faiss.IndexPQ(parts, parts, _BITS)
    plain.is_trained = True
    plain.add_sa_codes(codes)
    return faiss.IndexPQFastScan(plain)
