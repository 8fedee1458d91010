"""Compressed vectors: codes and lists as FAISS makes them, what they exclude, and how many of the nearest they miss."""

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
    ProductCodes,
    Quantizers,
    Spread,
    can_compress,
    train,
)
from recommender.catalog.vectors.scalar_codes import ScalarCodes, Vector, dequantise_8bit, levels_8bit, quantise_8bit
from tests.searching import Mask, assert_best, bits_of, codes_alone, exact, recall, topics_of, unit_vectors

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


# Codes and lists


@pytest.mark.parametrize("dimension", [8, 40, 384])
def test_a_code_names_the_nearest_of_each_part_and_the_list_of_the_best_centroid(dimension: int) -> None:
    """Two parts a byte, the first one in its lower half; lists by inner product."""
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
    """Encoding nothing is no error."""
    codes, lists = quantizers_of(16, 3).encode(points(0, 16))
    assert (codes.shape, lists.shape) == ((0, 2), (0,))


@pytest.mark.parametrize(("dimension", "can"), [(8, True), (384, True), (1024, True), (12, False), (100, False)])
def test_whole_bytes_of_two_parts_of_four_can_be_compressed(dimension: int, can: bool) -> None:
    """Other dimensions are scanned exactly."""
    assert can_compress(dimension) is can


@pytest.mark.parametrize("rows", [0, 1, 299_999, 300_000, 1_000_000, 20_000_000, 2**32])
def test_every_list_has_a_number_that_its_column_can_hold(rows: int) -> None:
    """One list for few rows, a power of two near twice the square root of many, up to what is worth its while."""
    lists = product_codes._lists(rows)
    assert lists & (lists - 1) == 0
    assert lists <= 1 + np.iinfo(np.uint16).max
    wanted = min(2 * rows**0.5, product_codes.LISTS_MOST)
    assert lists == 1 if rows < product_codes.LISTS_ROWS else wanted / 2**0.5 <= lists <= wanted * 2**0.5


def test_lists_beyond_a_byte_and_beyond_half_of_their_column_are_told_apart() -> None:
    """Numbers are neither cut nor signed, and the rows of such lists are found."""
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


# What FAISS itself makes of the same vectors


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
    """An index from plain arrays has the ids and packed bytes of one to which FAISS added the vectors, and its hits."""
    quantizers, vectors = quantizers_of(dimension, lists), points(rows, dimension)
    own = InvertedLists(quantizers, *quantizers.encode(vectors))._index
    theirs = quantizers.empty_index()
    theirs.add(vectors)
    assert own.ntotal == theirs.ntotal == rows
    assert [list_of(own, i) for i in range(lists)] == [list_of(theirs, i) for i in range(lists)]
    params = faiss.SearchParametersIVF(nprobe=lists)
    own.quantizer = theirs.quantizer  # ours visits lists in about the same order: equals come in another one
    for query in points(5, dimension, seed=6):
        found, expected = (index.search(query[None], min(rows, 50), params=params) for index in (own, theirs))
        assert found[0].tolist() == expected[0].tolist()
        assert found[1].tolist() == expected[1].tolist()


@pytest.mark.parametrize("rows", [33, 1_000])
def test_one_list_holds_the_same_codes_whatever_lists_they_were_in(rows: int) -> None:
    """Codes are of the vectors themselves, not of what is left of them in a list."""
    quantizers, vectors = quantizers_of(24, 7), points(rows, 24)
    codes, _ = quantizers.encode(vectors)
    theirs = Quantizers(np.zeros((1, 24), np.float32), quantizers.codebooks).empty_index()
    theirs.add(vectors)
    assert list_of(InvertedLists(quantizers, codes, None)._index, 0) == list_of(theirs, 0)


def test_the_lists_that_are_visited_are_the_nearest() -> None:
    """Centroids at eight bits say so as those in single precision do, but for some that are about equally near."""
    vectors = dequantise_8bit(unit_vectors(500, 384))
    quantizers = Quantizers(vectors[:200], quantizers_of(384, 1).codebooks)
    lists = InvertedLists(quantizers, *quantizers.encode(vectors))
    for query in vectors[200:240]:
        _, found = lists._centroids.search(levels_8bit(query)[None], 20)
        products = quantizers.centroids @ query
        assert products[found[0]].min() >= np.sort(products)[-20] - 0.005


# What is excluded

SMALL = quantizers_of(16, 6)
SMALL_VECTORS = points(300, 16)
SMALL_CODES, SMALL_LISTS = SMALL.encode(SMALL_VECTORS)


@pytest.mark.parametrize("one_list", [True, False], ids=["one list", "several lists"])
@given(
    chosen=st.lists(st.booleans(), min_size=300, max_size=300).filter(any),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    living=st.none() | st.lists(st.booleans(), min_size=300, max_size=300),
)
def test_any_choice_of_rows_is_searched_without_what_is_excluded(
    one_list: bool, chosen: list[bool], ends: list[float], living: list[bool] | None
) -> None:
    """With every list visited, asking for all gives each living row of the range once, numbered as chosen."""
    rows = np.flatnonzero(chosen)
    lists = InvertedLists(SMALL, SMALL_CODES[rows], None if one_list else SMALL_LISTS[rows])
    low, high = int(ends[0] * (len(rows) - 1)), 1 + int(ends[1] * (len(rows) - 1))
    alive = None if living is None else living[: len(rows)]
    found = lists.candidates(SMALL_VECTORS[7], 1_000, low, high, None if alive is None else bits_of(alive))
    assert sorted(found.tolist()) == [at for at in range(low, high) if alive is None or alive[at]]


def test_the_last_byte_s_spare_bits_are_no_rows() -> None:
    """Rows that are not there are not returned, although their bits are set."""
    lists = InvertedLists(SMALL, SMALL_CODES[:3], None)
    found = lists.candidates(SMALL_VECTORS[0], 9, 0, 3, np.array([0b1111_1101], np.uint8))
    assert sorted(found.tolist()) == [0, 2]


# How much is missed

ROWS, TOPICS, ASKED = 20_000, 100, 100
LEAST = {64: 0.95, 128: 0.985, 384: 0.998}
"""Recall by dimensions: a code has one bit for each, and 64 bits say less than 384."""


@dataclass(frozen=True, eq=False)
class Archive:
    """Vectors, also at single precision, their compressed codes, and queries beside them."""

    matrix: ScalarCodes
    wide: Vector
    quantizers: Quantizers
    codes: npt.NDArray[np.uint8]
    numbers: npt.NDArray[np.uint16]
    queries: Vector

    @property
    def least(self) -> float:
        """Return the recall that searches by one list of all codes must have."""
        return LEAST[self.matrix.shape[1]]

    def lists(self, rows: Rows, *, one: bool) -> InvertedLists:
        """Return chosen rows, searchable."""
        return InvertedLists(self.quantizers, self.codes[rows], None if one else self.numbers[rows], rows)

    def recall(
        self, rows: Rows, lists: InvertedLists, low: int = 0, high: int = 2**62, alive: Mask | None = None
    ) -> float:
        """Return recall@ASKED after exact comparison, the mean over all queries, among rows[low:high]."""
        index = VectorIndex(Vectors8Bit(self.matrix), None)
        within = rows[low:high]
        inside = within if alive is None else within[alive[low:high]]
        mask = np.zeros(len(self.matrix), np.bool_)
        mask[rows if alive is None else rows[alive]] = True
        bits = bits_of(mask)
        scores = self.queries @ self.wide[inside].T
        recalls = []
        for query, best in zip(self.queries, np.argsort(-scores, axis=1)[:, :ASKED], strict=True):
            found = index.search_rows(query, ASKED, within, bits, lists)
            assert np.isin(found.rows, inside).all()
            recalls.append(recall(found.rows, inside[best]))
        return float(np.mean(recalls))


def archive_of(dimension: int) -> Archive:
    """Return ROWS rows of so many dimensions."""
    matrix = unit_vectors(ROWS, dimension, topics=TOPICS)
    quantizers = train(matrix, ROWS)
    queries = dequantise_8bit(unit_vectors(20, dimension, seed=2, topics=TOPICS))
    wide = dequantise_8bit(matrix)
    return Archive(matrix, wide, quantizers, *quantizers.encode(wide), queries)


@pytest.fixture(scope="module", params=[*LEAST], ids="{} dimensions".format)
def archive(request: pytest.FixtureRequest) -> Archive:
    """Return an archive that is all in one list."""
    return archive_of(request.param)


@pytest.fixture(scope="module")
def listed() -> Archive:
    """Return an archive in many lists, for which it is too small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product_codes, "LISTS_ROWS", 1_000)
        made = archive_of(128)
    assert len(made.quantizers.centroids) == 256
    return made


def test_of_the_nearest_hardly_any_is_missed(archive: Archive) -> None:
    """Recall@100 of tens of thousands is as good as codes of so many dimensions can be, after exact comparison."""
    rows = np.arange(ROWS)
    assert archive.recall(rows, archive.lists(rows, one=True)) >= archive.least


@pytest.mark.parametrize("share", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("of", ["topics", "any"])
def test_a_filter_misses_no_more(archive: Archive, share: float, of: str) -> None:
    """Of a tenth to a thousandth of the rows, of some topics or any: an index of their own loses nothing more."""
    rng = np.random.default_rng(4)
    rows = np.flatnonzero(rng.random(ROWS) < share)
    if of == "topics":
        topics = topics_of(ROWS, TOPICS)
        rows = np.flatnonzero(topics < max(1, TOPICS * share))[: round(ROWS * share)]
    assert archive.recall(rows, archive.lists(rows, one=True)) >= 0.99


@pytest.mark.parametrize("living", [0.9, 0.5, 0.1])
def test_the_dead_cost_none_of_the_living(archive: Archive, living: float) -> None:
    """However many rows are dead, the living that are nearest are among the likely."""
    rows = np.arange(ROWS)
    alive = np.random.default_rng(5).random(ROWS) < living
    assert archive.recall(rows, archive.lists(rows, one=True), alive=alive) >= archive.least


@pytest.mark.parametrize(("visited", "least"), [(17_700, 0.98), (5_000, 0.97)])
def test_a_part_of_many_lists_holds_the_nearest(
    listed: Archive, monkeypatch: pytest.MonkeyPatch, visited: int, least: float
) -> None:
    """Of 256 lists the best 227, or 64, are visited."""
    monkeypatch.setattr(product_codes, "VISITED", ((ROWS, visited),))
    rows = np.arange(ROWS)
    assert listed.recall(rows, listed.lists(rows, one=False)) >= least


def test_the_fewer_rows_of_a_range_the_more_lists_are_visited(listed: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a tenth or a fiftieth of the rows count, as many of those are compared as of all."""
    monkeypatch.setattr(product_codes, "VISITED", ((400, 360), (2_000, 1_100), (ROWS, 5_000)))
    rows = np.arange(ROWS)
    lists = listed.lists(rows, one=False)
    for low, high in ((9_000, 11_000), (ROWS - 400, ROWS)):
        assert listed.recall(rows, lists, low, high) >= 0.98


def test_of_subjects_far_from_the_query_most_lists_are_visited(
    listed: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a few subjects are told from as many of all subjects, and the nearest lists are not trusted for them."""
    monkeypatch.setattr(product_codes, "VISITED", ((2_000, 400), (ROWS, 2_000)))
    whole = ProductCodes(listed.quantizers, listed.codes, listed.numbers)
    lists, topics = whole.index(), topics_of(ROWS, TOPICS)
    rows = np.flatnonzero(topics < TOPICS // 10)
    spread, mixed = whole.spread(rows), whole.spread(np.arange(0, ROWS, 10))
    assert spread is not None
    assert mixed is not None
    assert (spread.clumped, mixed.clumped) == (True, False)
    bits, best = bits_of(np.isin(np.arange(ROWS), rows)), listed.queries @ listed.wide[rows].T
    nearest = rows[np.argsort(-best, axis=1)[:, :ASKED]]

    def found(n: int, spread: Spread) -> float:
        recalls = []
        for query, wanted in zip(listed.queries, nearest, strict=True):
            around = lists.around(query, spread)
            assert around.far == spread.clumped
            recalls.append(recall(lists.candidates(query, n, 0, ROWS, bits, len(rows), around), wanted))
        return float(np.mean(recalls))

    assert found(1_000, spread) >= 0.98
    assert found(1_000, replace(spread, clumped=False)) < 0.95


def test_hardly_any_list_is_visited_in_vain(listed: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more codes than told are compared: a single list's rows are what a small bound leaves, those of the best."""
    monkeypatch.setattr(product_codes, "VISITED", ((ROWS, 1),))
    lists = listed.lists(np.arange(ROWS), one=False)
    for query in listed.queries:
        found = lists.candidates(query, ROWS, 0, ROWS, None)
        best = int(np.argmax(listed.quantizers.centroids @ query))
        assert found.tolist() and set(listed.numbers[found].tolist()) == {best}


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


@pytest.mark.parametrize("lists_rows", [300_000, 500], ids=["one list", "several lists"])
def test_training_is_the_same_every_time(monkeypatch: pytest.MonkeyPatch, lists_rows: int) -> None:
    """Its seed decides, not the number of threads, and nothing that was trained before."""
    monkeypatch.setattr(product_codes, "LISTS_ROWS", lists_rows)
    matrix = unit_vectors(2_000, 32)
    made = []
    for threads in (1, 2, 1):
        faiss.omp_set_num_threads(threads)
        made.append(train(matrix, len(matrix)))
        train(matrix[:700], 700)
    one, *others = made
    assert len(one.centroids) == (1 if lists_rows > 2_000 else 64)
    for other in others:
        assert other.centroids.tolist() == one.centroids.tolist()
        assert other.codebooks.tolist() == one.codebooks.tolist()
    moved = train(unit_vectors(2_000, 32, seed=9), 2_000)
    assert moved.codebooks.tolist() != one.codebooks.tolist()


def test_a_sample_is_from_the_whole_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more rows than are needed every other, or every tenth, is learnt from: a later half is not unknown."""
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
    """Return normalised vectors around one, which differ by about `apart`."""
    rng = np.random.default_rng(11)
    some = rng.standard_normal(dimension) + apart * rng.standard_normal((rows, dimension))
    return quantise_8bit((some / np.linalg.norm(some, axis=1, keepdims=True)).astype(np.float32))


def found_in(matrix: ScalarCodes, query: Vector, k: int) -> Hits:
    """Return what a search by codes finds in all of it."""
    quantizers = train(matrix, len(matrix))
    codes, _ = quantizers.encode(dequantise_8bit(matrix))
    rows = np.arange(len(matrix))
    index = VectorIndex(Vectors8Bit(matrix), None)
    with pytest.MonkeyPatch.context() as patch:
        codes_alone(patch)
        return index.search_rows(query, k, rows, bits_of(rows >= 0), InvertedLists(quantizers, codes, None))


@pytest.mark.parametrize("lists_rows", [300_000, 100], ids=["one list", "several lists"])
def test_an_archive_of_copies_can_be_compressed(monkeypatch: pytest.MonkeyPatch, lists_rows: int) -> None:
    """Fewer different vectors than a codebook or the lists have room for are no error: any of the copies are found."""
    monkeypatch.setattr(product_codes, "LISTS_ROWS", lists_rows)
    for different in (1, 3):
        matrix = np.repeat(unit_vectors(different, 16), 1_200 // different, axis=0)
        found = found_in(matrix, dequantise_8bit(matrix[-1]), 10)
        assert found.scores.tolist() == pytest.approx([1.0] * 10, abs=0.01)
        assert len(set(found.rows.tolist())) == 10


def test_near_copies_of_the_page_are_put_in_order_exactly() -> None:
    """Hundreds of versions that codes cannot tell apart are compared themselves; strangers do not push them out."""
    matrix = np.concatenate((unit_vectors(5_000, 64), near_copies(500, 64, 0.02), unit_vectors(5_000, 64, seed=2)))
    query = dequantise_8bit(matrix[5_250])
    assert_best(found_in(matrix, query, 100), exact(matrix, query, 100, range(len(matrix))))


def test_of_more_near_copies_than_are_compared_some_are_found() -> None:
    """Which of thousands is free; none is worse than all of them are."""
    matrix = np.concatenate((unit_vectors(4_000, 64), near_copies(4_000, 64, 0.02)))
    found = found_in(matrix, dequantise_8bit(matrix[5_000]), 100)
    assert (found.rows >= 4_000).all()
    assert found.scores.min() >= 0.999
