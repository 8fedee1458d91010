"""Product codes are laid out as FAISS lays them out, exclude what they must, and miss few of the nearest rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.vectors import product_codes
from recommender.catalog.vectors.index import Hits, Rows, VectorIndex, Vectors8Bit
from recommender.catalog.vectors.product_codes import (
    InvertedLists,
    ListShares,
    ProductCodes,
    Quantizers,
    can_compress,
    list_count,
    train,
)
from recommender.catalog.vectors.scalar_codes import ScalarCodes, Vector, dequantise_8bit, levels_8bit, quantise_8bit
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from tests.searching import CODES_ONLY, Mask, assert_best, bits_of, exact, recall, topics_of, unit_vectors

pytestmark = pytest.mark.slow
"""They train codes of 20,000 vectors to measure recall."""

PARTS_A_BYTE = 2


def quantizers_of(dimension: int, lists: int, seed: int = 3) -> Quantizers:
    """Return random quantizers, for which nothing has to be trained."""
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((lists, dimension), dtype=np.float32)
    codebooks = rng.standard_normal((dimension // 4, 16, 4), dtype=np.float32)
    return Quantizers(centroids, codebooks)


def points(rows: int, dimension: int, seed: int = 5) -> Vector:
    """Return float32 (rows, dimension), not normalised."""
    return np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)


# Codes and list numbers


@pytest.mark.parametrize("dimension", [8, 40, 384])
def test_a_code_is_the_nearest_entry_of_each_part_and_a_list_that_of_the_best_centroid(dimension: int) -> None:
    """A byte holds two parts, the first in its lower half; lists are chosen by inner product."""
    quantizers, vectors = quantizers_of(dimension, 5), points(70, dimension)
    codes, lists = quantizers.encode(vectors)
    assert (codes.shape, str(codes.dtype)) == ((70, dimension // 8), "uint8")
    assert (lists.shape, str(lists.dtype)) == ((70,), "uint16")
    parts = vectors.reshape(70, -1, 1, 4)
    nearest = ((parts - quantizers.codebooks) ** 2).sum(axis=3).argmin(axis=2)
    assert (codes & 15).tolist() == nearest[:, ::2].tolist()
    assert (codes >> 4).tolist() == nearest[:, 1::2].tolist()
    assert lists.tolist() == (vectors @ quantizers.centroids.T).argmax(axis=1).tolist()


def test_no_vectors_have_no_codes() -> None:
    """Encoding no vectors gives no codes."""
    codes, lists = quantizers_of(16, 3).encode(points(0, 16))
    assert (codes.shape, lists.shape) == ((0, 2), (0,))


@pytest.mark.parametrize(("dimension", "can"), [(8, True), (384, True), (1024, True), (12, False), (100, False)])
def test_dimensions_of_whole_bytes_can_be_compressed(dimension: int, can: bool) -> None:
    """A dimension can be compressed if it is a multiple of eight: two parts of four dimensions a byte."""
    assert can_compress(dimension) is can


@pytest.mark.parametrize("rows", [0, 1, 299_999, 300_000, 1_000_000, 20_000_000, 2**32])
def test_every_list_has_a_number_that_its_column_can_hold(rows: int) -> None:
    """Few rows have one list; many have a power of two near twice their square root, up to a limit."""
    lists = list_count(rows)
    assert lists & (lists - 1) == 0
    assert lists <= 1 + np.iinfo(np.uint16).max
    wanted = min(2 * rows**0.5, product_codes.LISTS_MAX)
    assert lists == 1 if rows < MEASURED.lists_rows_min else wanted / 2**0.5 <= lists <= wanted * 2**0.5


def test_list_numbers_use_all_sixteen_bits() -> None:
    """List numbers beyond a byte and beyond 32,767 are kept, and the rows of such lists are found."""
    centroids = np.zeros((40_000, 8), np.float32)
    for number, axis in ((200, 0), (300, 1), (33_000, 2), (39_999, 3)):
        centroids[number, axis] = 1
    quantizers = Quantizers(centroids, quantizers_of(8, 1).codebooks)
    vectors = np.eye(8, dtype=np.float32)[:4]
    codes, numbers = quantizers.encode(vectors)
    assert numbers.tolist() == [200, 300, 33_000, 39_999]
    assert sorted(InvertedLists(quantizers, codes, numbers).candidates(vectors[2], 4, 0, 4, None).tolist()) == [
        0,
        1,
        2,
        3,
    ]


# Compared with what FAISS makes of the same vectors


def list_of(index: faiss.IndexIVFPQFastScan, number: int) -> tuple[list[int], bytes]:
    """Return the ids of a list and its packed codes."""
    lists = index.invlists
    n = lists.list_size(number)
    if not n:
        return [], b""
    ids = faiss.rev_swig_ptr(lists.get_ids(number), n).tolist()
    size = -(-n // 32) * 32 * index.pq.M // PARTS_A_BYTE
    return ids, faiss.rev_swig_ptr(lists.get_codes(number), size).tobytes()


@pytest.mark.parametrize("lists", [1, 7])
@pytest.mark.parametrize("rows", [1, 16, 31, 32, 33, 64, 65, 1_000])
@pytest.mark.parametrize("dimension", [8, 24, 384])
def test_the_layout_is_that_of_faiss(dimension: int, rows: int, lists: int) -> None:
    """Lists from plain arrays have the ids, packed bytes and hits of an index to which FAISS added the vectors."""
    quantizers, vectors = quantizers_of(dimension, lists), points(rows, dimension)
    own = InvertedLists(quantizers, *quantizers.encode(vectors))._index
    theirs = quantizers.empty_index()
    theirs.add(vectors)
    assert own.ntotal == theirs.ntotal == rows
    assert [list_of(own, i) for i in range(lists)] == [list_of(theirs, i) for i in range(lists)]
    params = faiss.SearchParametersIVF(nprobe=lists)
    own.quantizer = theirs.quantizer  # ours probes lists in about the same order: equals come in another one
    for query in points(5, dimension, seed=6):
        found, expected = (index.search(query[None], min(rows, 50), params=params) for index in (own, theirs))
        assert found[0].tolist() == expected[0].tolist()
        assert found[1].tolist() == expected[1].tolist()


@pytest.mark.parametrize("rows", [33, 1_000])
def test_codes_do_not_depend_on_their_list(rows: int) -> None:
    """Codes are of the vectors, not of their residuals to a centroid."""
    quantizers, vectors = quantizers_of(24, 7), points(rows, 24)
    codes, _ = quantizers.encode(vectors)
    theirs = Quantizers(np.zeros((1, 24), np.float32), quantizers.codebooks).empty_index()
    theirs.add(vectors)
    assert list_of(InvertedLists(quantizers, codes, None)._index, 0) == list_of(theirs, 0)


def test_the_probed_lists_are_the_nearest() -> None:
    """8-bit centroids are ordered like those in single precision, but for some that are about equally near."""
    vectors = dequantise_8bit(unit_vectors(500, 384))
    quantizers = Quantizers(vectors[:200], quantizers_of(384, 1).codebooks)
    lists = InvertedLists(quantizers, *quantizers.encode(vectors))
    for query in vectors[200:240]:
        _, found = lists._centroids.search(levels_8bit(query)[None], 20)
        products = quantizers.centroids @ query
        assert products[found[0]].min() >= np.sort(products)[-20] - 0.005


# Exclusion

SMALL = quantizers_of(16, 6)
SMALL_VECTORS = points(300, 16)
SMALL_CODES, SMALL_LISTS = SMALL.encode(SMALL_VECTORS)


@pytest.mark.parametrize("one_list", [True, False], ids=["one list", "several lists"])
@given(
    chosen=st.lists(st.booleans(), min_size=300, max_size=300).filter(any),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    living=st.none() | st.lists(st.booleans(), min_size=300, max_size=300),
)
def test_excluded_rows_are_no_candidates(
    one_list: bool, chosen: list[bool], ends: list[float], living: list[bool] | None
) -> None:
    """With every list probed and all rows requested, each live row of the range is a candidate once."""
    rows = np.flatnonzero(chosen)
    lists = InvertedLists(SMALL, SMALL_CODES[rows], None if one_list else SMALL_LISTS[rows])
    low, high = int(ends[0] * (len(rows) - 1)), 1 + int(ends[1] * (len(rows) - 1))
    alive = None if living is None else living[: len(rows)]
    found = lists.candidates(SMALL_VECTORS[7], 1_000, low, high, None if alive is None else bits_of(alive))
    assert sorted(found.tolist()) == [at for at in range(low, high) if alive is None or alive[at]]


def test_spare_bits_of_the_last_byte_are_no_rows() -> None:
    """A set bit beyond the last row is ignored."""
    lists = InvertedLists(SMALL, SMALL_CODES[:3], None)
    found = lists.candidates(SMALL_VECTORS[0], 9, 0, 3, np.array([0b1111_1101], np.uint8))
    assert sorted(found.tolist()) == [0, 2]


# Recall

ROWS, TOPICS, K = 20_000, 100, 100
RECALL_MIN = {64: 0.95, 128: 0.985, 384: 0.998}
"""Recall by dimension: a code has one bit for each dimension, and 64 bits tell less than 384."""


@dataclass(frozen=True, eq=False)
class Archive:
    """Vectors as 8-bit codes and dequantised, their product codes, and queries of the same topics."""

    matrix: ScalarCodes
    vectors: Vector
    quantizers: Quantizers
    codes: npt.NDArray[np.uint8]
    list_numbers: npt.NDArray[np.uint16]
    queries: Vector

    @property
    def recall_min(self) -> float:
        """Return the recall that searches of one list of all codes must reach."""
        return RECALL_MIN[self.matrix.shape[1]]

    def lists(self, rows: Rows, *, one: bool, costs: SearchCosts = MEASURED) -> InvertedLists:
        """Return lists of some rows: one, or the archive's."""
        return InvertedLists(self.quantizers, self.codes[rows], None if one else self.list_numbers[rows], rows, costs)

    def recall(
        self, rows: Rows, lists: InvertedLists, low: int = 0, high: int = 2**62, alive: Mask | None = None
    ) -> float:
        """Return recall@K after re-ranking among rows[low:high], the mean over all queries."""
        index = VectorIndex(Vectors8Bit(self.matrix), None)
        within = rows[low:high]
        inside = within if alive is None else within[alive[low:high]]
        mask = np.zeros(len(self.matrix), np.bool_)
        mask[rows if alive is None else rows[alive]] = True
        bits = bits_of(mask)
        scores = self.queries @ self.vectors[inside].T
        recalls = []
        for query, best in zip(self.queries, np.argsort(-scores, axis=1)[:, :K], strict=True):
            found = index.search_rows(query, K, within, bits, lists)
            assert np.isin(found.rows, inside).all()
            recalls.append(recall(found.rows, inside[best]))
        return float(np.mean(recalls))


def archive_of(dimension: int, lists: int) -> Archive:
    """Return an archive of ROWS rows."""
    matrix = unit_vectors(ROWS, dimension, topics=TOPICS)
    quantizers = train(matrix, ROWS, lists)
    queries = dequantise_8bit(unit_vectors(20, dimension, seed=2, topics=TOPICS))
    vectors = dequantise_8bit(matrix)
    return Archive(matrix, vectors, quantizers, *quantizers.encode(vectors), queries)


@pytest.fixture(scope="module", params=[*RECALL_MIN], ids="{} dimensions".format)
def archive(request: pytest.FixtureRequest) -> Archive:
    """Return an archive that is all in one list."""
    return archive_of(request.param, lists=1)


@pytest.fixture(scope="module")
def listed() -> Archive:
    """Return an archive in 256 lists, more than the product would make of so few rows."""
    return archive_of(128, lists=256)


@pytest.mark.slow
def test_recall_among_all_rows_is_high(archive: Archive) -> None:
    """Recall@100 among tens of thousands of rows reaches what codes of that dimension can reach."""
    rows = np.arange(ROWS)
    assert archive.recall(rows, archive.lists(rows, one=True)) >= archive.recall_min


@pytest.mark.parametrize("share", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("of", ["topics", "any"])
def test_recall_within_a_filter_is_high(archive: Archive, share: float, of: str) -> None:
    """Lists of a tenth to a thousandth of the rows, of some topics or any, lose nothing more."""
    rng = np.random.default_rng(4)
    rows = np.flatnonzero(rng.random(ROWS) < share)
    if of == "topics":
        topics = topics_of(ROWS, TOPICS)
        rows = np.flatnonzero(topics < max(1, TOPICS * share))[: round(ROWS * share)]
    assert archive.recall(rows, archive.lists(rows, one=True)) >= 0.99


@pytest.mark.parametrize("living", [0.9, 0.5, 0.1])
def test_dead_rows_do_not_lower_recall(archive: Archive, living: float) -> None:
    """However many rows are dead, the nearest live rows are candidates."""
    rows = np.arange(ROWS)
    alive = np.random.default_rng(5).random(ROWS) < living
    assert archive.recall(rows, archive.lists(rows, one=True), alive=alive) >= archive.recall_min


@pytest.mark.slow
@pytest.mark.parametrize(("probed", "recall_min"), [(17_700, 0.98), (5_000, 0.97)])
def test_recall_is_high_where_some_lists_are_probed(listed: Archive, probed: int, recall_min: float) -> None:
    """Probing 227, or 64, of 256 lists finds nearly all of the nearest rows."""
    rows = np.arange(ROWS)
    costs = replace(MEASURED, probed_codes=((ROWS, probed),))
    assert listed.recall(rows, listed.lists(rows, one=False, costs=costs)) >= recall_min


def test_a_shorter_range_probes_more_lists(listed: Archive) -> None:
    """Recall stays high in a range of a tenth or a fiftieth of the rows."""
    costs = replace(MEASURED, probed_codes=((400, 360), (2_000, 1_100), (ROWS, 5_000)))
    rows = np.arange(ROWS)
    lists = listed.lists(rows, one=False, costs=costs)
    for low, high in ((9_000, 11_000), (ROWS - 400, ROWS)):
        assert listed.recall(rows, lists, low, high) >= 0.98


def test_clustered_rows_far_from_the_query_are_probed_more_deeply(listed: Archive) -> None:
    """Rows of a few subjects are recognised as clustered and far, and recall among them needs the deeper probing."""
    costs = replace(MEASURED, probed_codes=((2_000, 400), (ROWS, 2_000)))
    whole = ProductCodes(listed.quantizers, listed.codes, listed.list_numbers)
    lists, topics = whole.inverted_lists(costs), topics_of(ROWS, TOPICS)
    rows = np.flatnonzero(topics < TOPICS // 10)
    few_subjects, all_subjects = whole.list_shares(rows), whole.list_shares(np.arange(0, ROWS, 10))
    assert few_subjects is not None
    assert all_subjects is not None
    assert (few_subjects.clustered, all_subjects.clustered) == (True, False)
    bits, best = bits_of(np.isin(np.arange(ROWS), rows)), listed.queries @ listed.vectors[rows].T
    nearest = rows[np.argsort(-best, axis=1)[:, :K]]

    def recall_with(distribution: ListShares) -> float:
        recalls = []
        for query, wanted in zip(listed.queries, nearest, strict=True):
            coverage = lists.coverage(query, distribution)
            assert coverage.far == distribution.clustered
            recalls.append(recall(lists.candidates(query, 1_000, 0, ROWS, bits, len(rows), coverage), wanted))
        return float(np.mean(recalls))

    assert recall_with(few_subjects) >= 0.98
    assert recall_with(replace(few_subjects, clustered=False)) < 0.95


def test_no_more_lists_are_probed_than_needed(listed: Archive) -> None:
    """If one code is to be scanned, only the best list is probed."""
    lists = listed.lists(np.arange(ROWS), one=False, costs=replace(MEASURED, probed_codes=((ROWS, 1),)))
    for query in listed.queries:
        found = lists.candidates(query, ROWS, 0, ROWS, None)
        best = int(np.argmax(listed.quantizers.centroids @ query))
        assert found.tolist() and set(listed.list_numbers[found].tolist()) == {best}


def test_searches_from_threads_do_not_disturb_each_other(listed: Archive) -> None:
    """The same searches find the same rows from four threads as from one."""
    lists = listed.lists(np.arange(ROWS), one=False)
    alive = bits_of(np.arange(ROWS) % 3 > 0)

    def search(i: int) -> list[int]:
        query = listed.queries[i % len(listed.queries)]
        return sorted(lists.candidates(query, 100 + i, i, ROWS - i, alive if i % 2 else None).tolist())

    alone = [search(i) for i in range(80)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search, range(80))) == alone


# Training


@pytest.mark.slow
@pytest.mark.parametrize("lists", [1, 64])
def test_training_is_the_same_every_time(lists: int) -> None:
    """Training depends on its seed, not on the number of threads nor on earlier training."""
    matrix = unit_vectors(2_000, 32)
    made = []
    for threads in (1, 2, 1):
        faiss.omp_set_num_threads(threads)
        made.append(train(matrix, len(matrix), lists))
        train(matrix[:700], 700, lists)
    one, *others = made
    assert len(one.centroids) == lists
    for other in others:
        assert other.centroids.tolist() == one.centroids.tolist()
        assert other.codebooks.tolist() == one.codebooks.tolist()
    moved = train(unit_vectors(2_000, 32, seed=9), 2_000, lists)
    assert moved.codebooks.tolist() != one.codebooks.tolist()


@pytest.mark.slow
def test_a_sample_is_from_the_whole_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled rows are spread evenly over the archive, so codebooks suit its later half as well."""
    monkeypatch.setattr(product_codes, "_TRAINING_ROWS", 700)
    early, late = unit_vectors(3_500, 64, world=1), unit_vectors(3_500, 64, world=2)
    matrix = np.concatenate((early, late))
    quantizers = train(matrix, len(matrix))

    def error(vectors: ScalarCodes, by: Quantizers) -> float:
        parts = dequantise_8bit(vectors).reshape(len(vectors), -1, 1, 4)
        return float(((parts - by.codebooks) ** 2).sum(axis=3).min(axis=2).sum(axis=1).mean())

    for half in (early, late):
        assert error(half, quantizers) <= 1.1 * error(half, train(matrix, len(matrix)))
        assert error(half, quantizers) < 0.9 * error(half, train(early if half is late else late, 3_500))


# Copies


def near_copies(rows: int, dimension: int, apart: float) -> ScalarCodes:
    """Return normalised vectors around one point, which differ by about `apart`."""
    rng = np.random.default_rng(11)
    some = rng.standard_normal(dimension) + apart * rng.standard_normal((rows, dimension))
    return quantise_8bit((some / np.linalg.norm(some, axis=1, keepdims=True)).astype(np.float32))


def search_by_codes(matrix: ScalarCodes, query: Vector, k: int, lists: int = 1) -> Hits:
    """Return the hits of a search by product codes, with codebooks that were trained for `lists` lists."""
    quantizers = train(matrix, len(matrix), lists)
    codes, _ = quantizers.encode(dequantise_8bit(matrix))
    rows = np.arange(len(matrix))
    index = VectorIndex(Vectors8Bit(matrix), None, CODES_ONLY)
    return index.search_rows(query, k, rows, bits_of(rows >= 0), InvertedLists(quantizers, codes, None))


@pytest.mark.parametrize("lists", [1, 64])
def test_an_archive_of_copies_can_be_compressed(lists: int) -> None:
    """Fewer different vectors than codebook entries or lists are no error, and some of the copies are found."""
    for different in (1, 3):
        matrix = np.repeat(unit_vectors(different, 16), 1_200 // different, axis=0)
        found = search_by_codes(matrix, dequantise_8bit(matrix[-1]), 10, lists)
        assert found.scores.tolist() == pytest.approx([1.0] * 10, abs=0.01)
        assert len(set(found.rows.tolist())) == 10


def test_near_copies_of_the_page_are_put_in_order_exactly() -> None:
    """Hundreds of versions with nearly equal codes are re-ranked, and other articles do not displace them."""
    matrix = np.concatenate((unit_vectors(5_000, 64), near_copies(500, 64, 0.02), unit_vectors(5_000, 64, seed=2)))
    query = dequantise_8bit(matrix[5_250])
    assert_best(search_by_codes(matrix, query, 100), exact(matrix, query, 100, range(len(matrix))))


def test_of_more_near_copies_than_are_re_ranked_some_are_found() -> None:
    """Any of thousands of near copies may be found; nothing else is."""
    matrix = np.concatenate((unit_vectors(4_000, 64), near_copies(4_000, 64, 0.02)))
    found = search_by_codes(matrix, dequantise_8bit(matrix[5_000]), 100)
    assert (found.rows >= 4_000).all()
    assert found.scores.min() >= 0.999
