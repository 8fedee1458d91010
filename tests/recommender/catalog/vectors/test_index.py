"""Exact search equals brute force, ties included; search by product codes has exact scores and high recall."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.vectors.index import Hits, Rows, VectorIndex, Vectors8Bit, best_of
from recommender.catalog.vectors.product_codes import InvertedLists, train
from recommender.catalog.vectors.scalar_codes import (
    ZERO_CODE,
    ScalarCodes,
    Vector,
    dequantise_8bit,
    quantise_8bit,
    step_8bit,
)
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from tests.searching import CODES_ONLY, Mask, assert_best, assert_same, bits_of, exact, recall, unit_vectors

NEVER_SCAN = replace(MEASURED, scan_rows_max=0)
Make = Callable[..., VectorIndex]


def one_list(matrix: ScalarCodes) -> InvertedLists:
    """Return product codes of vectors in one list."""
    quantizers = train(matrix, len(matrix))
    pq_codes, _ = quantizers.encode(dequantise_8bit(matrix))
    return InvertedLists(quantizers, pq_codes, None)


def uncompressed(matrix: ScalarCodes, costs: SearchCosts = MEASURED) -> VectorIndex:
    """Return an index without product codes."""
    return VectorIndex(Vectors8Bit(matrix), None, costs)


def compressed(matrix: ScalarCodes, costs: SearchCosts = NEVER_SCAN) -> VectorIndex:
    """Return an index with product codes in one list, which searches by them."""
    return VectorIndex(Vectors8Bit(matrix), one_list(matrix), costs)


# Exact search

_small = st.integers(-2, 2)


def codes(levels: npt.ArrayLike) -> ScalarCodes:
    """Return the 8-bit codes of levels."""
    return (np.asarray(levels, np.int64) + ZERO_CODE).astype(np.uint8)


@st.composite
def searches(draw: st.DrawFn) -> tuple[ScalarCodes, Vector, int, int, int, list[bool] | None]:
    """Draw a few integer vectors, of which many have equal scores, and a search among them."""
    dimension = draw(st.integers(1, 3))
    matrix = draw(st.lists(st.lists(_small, min_size=dimension, max_size=dimension), min_size=1, max_size=150))
    query = draw(st.lists(_small, min_size=dimension, max_size=dimension))
    rows = len(matrix)
    low, high = draw(st.just((0, rows)) | st.tuples(st.integers(-2, rows), st.integers(0, rows + 2)).map(sorted))
    alive = draw(st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows))
    return codes(matrix), dequantise_8bit(codes(query)), draw(st.integers(-1, rows + 3)), low, high, alive


@given(search=searches())
def test_search_is_brute_force_with_ties(
    search: tuple[ScalarCodes, Vector, int, int, int, list[bool] | None],
) -> None:
    """A search returns the k best rows for any window, live rows and k, the newer first among equals."""
    matrix, query, k, low, high, alive = search
    within = [row for row in range(len(matrix)) if low <= row < high and (alive is None or alive[row])]
    found = uncompressed(matrix).search(query, k, low, high, None if alive is None else bits_of(alive))
    assert_same(found, exact(matrix, query, k, within))


@given(search=searches(), data=st.data())
def test_search_of_given_rows_is_brute_force(
    search: tuple[ScalarCodes, Vector, int, int, int, list[bool] | None], data: st.DataObject
) -> None:
    """Given rows, in any order, are searched as if there were no others."""
    matrix, query, k, *_ = search
    rows = data.draw(st.lists(st.integers(0, len(matrix) - 1), unique=True))
    found = Vectors8Bit(matrix).scan_rows(query, k, np.array(rows, np.int64))
    assert_same(found, exact(matrix, query, k, rows))


@pytest.mark.parametrize("k", [1, 5, 17, 299, 300, 1000])
@pytest.mark.parametrize("make", [uncompressed, compressed])
def test_of_many_copies_the_newest_come_first(make: Make, k: int) -> None:
    """Three hundred equal rows, more than any scan fetches at first, come newest first."""
    found = make(codes(np.ones((300, 8)))).search(dequantise_8bit(codes(np.ones(8))), k, 0, 300)
    assert found.rows.tolist() == list(range(299, -1, -1))[:k]
    assert found.scores.tolist() == pytest.approx([8 * step_8bit(8) ** 2] * len(found.rows))


def test_the_newest_of_many_copies_stand_behind_a_better_row() -> None:
    """Ties at the k-th place are broken among all rows that tie, also if other rows are better."""
    matrix = np.ones((100, 4))
    matrix[3] = 2
    matrix[50:60] = 0
    found = uncompressed(codes(matrix)).search(dequantise_8bit(codes(np.ones(4))), 4, 0, 100)
    assert found.rows.tolist() == [3, 99, 98, 97]


@pytest.mark.parametrize("make", [uncompressed, compressed])
@pytest.mark.parametrize(
    ("k", "low", "high", "alive"),
    [
        pytest.param(0, 0, 40, None, id="k of 0"),
        pytest.param(-1, 0, 40, None, id="negative k"),
        pytest.param(-1, 0, 40, [False, True] * 20, id="negative k and half of them dead"),
        pytest.param(3, 2, 2, None, id="empty window"),
        pytest.param(3, 30, 1, None, id="window that ends before it starts"),
        pytest.param(3, 30, 1, [True] * 40, id="window that ends before it starts, all alive"),
        pytest.param(3, 40, 90, None, id="window after the last row"),
        pytest.param(3, -50, 0, None, id="window before the first row"),
        pytest.param(3, 0, 40, [False] * 40, id="nothing alive"),
        pytest.param(3, 0, 20, [False] * 20 + [True] * 20, id="nothing alive in the window"),
    ],
)
def test_nothing_to_find_is_no_hits(
    make: Make,
    k: int,
    low: int,
    high: int,
    alive: list[bool] | None,
) -> None:
    """An empty selection gives an empty answer of the right types."""
    bits = None if alive is None else bits_of(alive)
    found = make(unit_vectors(40, 8)).search(np.ones(8, np.float32), k, low, high, bits)
    assert (found.rows.shape, found.scores.shape) == ((0,), (0,))
    assert (str(found.rows.dtype), str(found.scores.dtype)) == ("int64", "float32")


def test_no_rows_find_nothing() -> None:
    """An index without rows can be searched, read and compared."""
    none, query = Vectors8Bit(np.empty((0, 8), np.uint8)), np.ones(8, np.float32)
    nothing = np.empty(0, np.int64)
    assert (none.rows, none.dimension) == (0, 8)
    assert VectorIndex(none, None).search(query, 5, 0, 10).rows.tolist() == []
    assert VectorIndex(none, None).search(query, 5, 0, 10, np.empty(0, np.uint8)).rows.tolist() == []
    assert none.scan_rows(query, 5, nothing).rows.tolist() == []
    assert none.read(nothing).shape == (0, 8)


def test_scores_of_real_valued_vectors_are_inner_products() -> None:
    """Scores are inner products of the stored vectors, to single precision, best first."""
    matrix, query = unit_vectors(500, 48), dequantise_8bit(unit_vectors(1, 48, seed=2)[0])
    assert_best(uncompressed(matrix).search(query, 50, 0, 500), exact(matrix, query, 50, range(500)))


@pytest.mark.parametrize("dead", ["few", "many", "all but one"])
@pytest.mark.parametrize(("low", "high"), [(0, 203), (0, 8), (7, 9), (8, 16), (9, 202), (63, 65), (195, 203), (5, 6)])
def test_bitmaps_are_read_right_at_every_byte(low: int, high: int, dead: str) -> None:
    """Ranges may begin and end within a byte, and the last byte's spare bits are ignored."""
    matrix, query = unit_vectors(203, 16), dequantise_8bit(unit_vectors(1, 16, seed=2)[0])
    rng = np.random.default_rng(low + high)
    alive: Mask = rng.random(203) < {"few": 0.9, "many": 0.1, "all but one": 0.0}[dead]
    alive[(low + high) // 2] = True
    bits = bits_of(alive)
    bits[-1] |= 0b1111_1000
    found = uncompressed(matrix).search(query, 10, low, high, bits)
    assert_best(found, exact(matrix, query, 10, low + np.flatnonzero(alive[low:high])))


# Reading and comparing


def test_reading_gives_copies_in_the_given_order() -> None:
    """Rows come in the given order, repeated ones too, and changing them does not change what is stored."""
    matrix = unit_vectors(6, 16)
    stored = Vectors8Bit(matrix)
    read = stored.read(np.array([4, 0, 4]))
    assert read.dtype == np.float32
    assert read.tolist() == dequantise_8bit(matrix[[4, 0, 4]]).tolist()
    read[:] = 7
    assert stored.read(np.array([4])).tolist() == dequantise_8bit(matrix[[4]]).tolist()


def test_a_part_of_an_array_is_searched_in_place(tmp_path: Path) -> None:
    """Rows of a part of a mapped file are searched and read without a copy."""
    matrix, query = unit_vectors(300, 16), dequantise_8bit(unit_vectors(1, 16, seed=2)[0])
    np.save(tmp_path / "mains.npy", matrix)
    mapped: ScalarCodes = np.load(tmp_path / "mains.npy", "r")
    part = Vectors8Bit(mapped[37:241])
    assert np.shares_memory(part.codes, mapped)
    assert_best(part.scan(query, 20, 0, 204), exact(matrix[37:241], query, 20, range(204)))
    assert part.read(np.array([0, 203])).tolist() == dequantise_8bit(matrix[[37, 240]]).tolist()


def test_gathered_rows_stay_in_memory_while_they_are_searched() -> None:
    """Hundreds of searches of all sizes see only their own rows, although their memory is reused at once."""
    matrix, query = unit_vectors(400, 32), dequantise_8bit(unit_vectors(1, 32, seed=2)[0])
    stored = Vectors8Bit(matrix)
    for n in range(1, 400, 3):
        rows = np.arange(0, 400, 400 // n)
        assert_best(stored.scan_rows(query, n, rows), exact(matrix, query, n, rows))


@pytest.mark.parametrize("make", [uncompressed, compressed])
def test_concurrent_searches_do_not_disturb_each_other(make: Make) -> None:
    """The same searches give the same hits from four threads as from one."""
    index = make(unit_vectors(800, 32), replace(NEVER_SCAN, rerank_min=50))
    queries = dequantise_8bit(unit_vectors(80, 32, seed=3))
    alive = bits_of(np.arange(800) % 3 > 0)

    def search(i: int) -> Hits:
        return index.search(queries[i], 10, i, 800 - i, alive if i % 2 else None)

    alone = [search(i) for i in range(80)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(search, range(80)), strict=True):
            assert_same(other, one)


@pytest.mark.parametrize(
    ("scores", "rows", "k", "expected"),
    [
        pytest.param([], [], 3, [], id="none"),
        pytest.param([1, 3, 2], [7, 8, 9], 2, [8, 9], id="best first"),
        pytest.param([1, 1, 1], [4, 9, 6], 3, [9, 6, 4], id="equals by row"),
        pytest.param([0.0, -0.0], [1, 2], 2, [2, 1], id="zero equals minus zero"),
        pytest.param([-1, -2], [1, 2], 5, [1, 2], id="fewer than k"),
    ],
)
def test_best_of(scores: list[float], rows: list[int], k: int, expected: list[int]) -> None:
    """`best_of` returns at most k rows, best first, of equal scores the higher row first."""
    found = best_of(np.array(scores, np.float32), np.array(rows, np.int64), k)
    assert found.rows.tolist() == expected
    assert found.scores.tolist() == [scores[rows.index(row)] for row in expected]


# By product codes

ROWS, DIMENSION, SCANNED = 6_000, 64, 500
SCAN_FEW = replace(MEASURED, scan_rows_max=SCANNED)


@pytest.fixture(scope="module")
def matrix() -> ScalarCodes:
    """Return the vectors of `lists` and `index`."""
    return unit_vectors(ROWS, DIMENSION)


@pytest.fixture(scope="module")
def lists(matrix: ScalarCodes) -> InvertedLists:
    """Return the product codes of `index`."""
    return one_list(matrix)


@pytest.fixture(scope="module")
def index(matrix: ScalarCodes, lists: InvertedLists) -> VectorIndex:
    """Return an index that searches ranges of more than SCANNED rows by product codes."""
    return VectorIndex(Vectors8Bit(matrix), lists, SCAN_FEW)


_every_third: Mask = np.arange(ROWS) % 3 == 0
SELECTIONS: dict[str, tuple[int, int, Mask | None]] = {
    "everything": (0, ROWS, None),
    "window": (700, 4_300, None),
    "window from the start": (0, SCANNED + 1, None),
    "some dead": (0, ROWS, ~_every_third),
    "most dead": (0, ROWS, _every_third),
    "window, some dead": (503, 4_501, ~_every_third),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_recall_by_product_codes_is_high(index: VectorIndex, matrix: ScalarCodes, name: str) -> None:
    """Hits are selected, distinct, best first, with exact scores; recall@50 is at least .99."""
    low, high, alive = SELECTIONS[name]
    inside = np.arange(low, high) if alive is None else low + np.flatnonzero(alive[low:high])
    recalls = []
    for query in dequantise_8bit(unit_vectors(30, DIMENSION, seed=4)):
        found = index.search(query, 50, low, high, None if alive is None else bits_of(alive))
        assert len(set(found.rows.tolist())) == 50
        assert np.isin(found.rows, inside).all()
        assert_best(found, exact(matrix, query, 50, found.rows))
        recalls.append(recall(found.rows, exact(matrix, query, 50, inside).rows))
    assert np.mean(recalls) >= 0.99


@pytest.mark.parametrize(("low", "high"), [(700, 700 + SCANNED), (0, SCANNED), (ROWS - 7, ROWS + 10)])
@pytest.mark.parametrize("alive", [None, _every_third], ids=["all alive", "some dead"])
def test_a_short_range_is_scanned_exactly(
    lists: InvertedLists, matrix: ScalarCodes, low: int, high: int, alive: Mask | None
) -> None:
    """Up to `scan_rows_max` rows are scanned, so nothing is missed although hardly any candidate would be re-ranked."""
    index = VectorIndex(Vectors8Bit(matrix), lists, replace(SCAN_FEW, rerank_min=1, rerank_per_hit=1))
    inside = np.arange(low, min(high, ROWS)) if alive is None else low + np.flatnonzero(alive[low:high])
    bits = None if alive is None else bits_of(alive)
    for query in dequantise_8bit(unit_vectors(10, DIMENSION, seed=6)):
        assert_best(index.search(query, 30, low, high, bits), exact(matrix, query, 30, inside))


def test_k_beyond_the_rows_gives_every_row_once(index: VectorIndex, matrix: ScalarCodes) -> None:
    """A k larger than the range gives all its rows in the exact order."""
    query = dequantise_8bit(unit_vectors(1, DIMENSION, seed=5)[0])
    for low, high in ((0, ROWS), (13, 3_001)):
        assert_best(index.search(query, 10 * ROWS, low, high), exact(matrix, query, ROWS, range(low, high)))


def test_the_number_of_re_ranked_candidates_grows_with_k(index: VectorIndex, matrix: ScalarCodes) -> None:
    """Recall is high for the last of a thousand hits too."""
    recalls = []
    for query in dequantise_8bit(unit_vectors(10, DIMENSION, seed=7)):
        found = index.search(query, 1_000, 0, ROWS)
        recalls.append(recall(found.rows, exact(matrix, query, 1_000, range(ROWS)).rows))
    assert np.mean(recalls) >= 0.99


def test_the_number_of_re_ranked_candidates_grows_with_the_archive(lists: InvertedLists, matrix: ScalarCodes) -> None:
    """Above `rerank_growth_rows` more than `rerank_min` candidates are re-ranked, which raises recall."""
    recalls = []
    for rows in (ROWS, ROWS // 100):
        costs = replace(SCAN_FEW, rerank_min=10, rerank_per_hit=1, rerank_growth_rows=rows)
        index = VectorIndex(Vectors8Bit(matrix), lists, costs)
        found = [
            (query, index.search(query, 50, 0, ROWS)) for query in dequantise_8bit(unit_vectors(20, DIMENSION, seed=8))
        ]
        recalls.append(np.mean([recall(f.rows, exact(matrix, q, 50, range(ROWS)).rows) for q, f in found]))
    assert recalls[0] + 0.02 < recalls[1]


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_set_of_rows_is_searched_by_lists_of_its_own(index: VectorIndex, matrix: ScalarCodes, share: float) -> None:
    """Hits are among the given rows that are alive, numbered as in the whole index."""
    rng = np.random.default_rng(8)
    rows: Rows = np.flatnonzero(rng.random(ROWS) < share)
    quantizers = train(matrix, ROWS)
    pq_codes, _ = quantizers.encode(dequantise_8bit(matrix[rows]))
    lists, within = InvertedLists(quantizers, pq_codes, None, rows), rows[len(rows) // 5 : -3]
    alive: Mask = rng.random(ROWS) < 0.7
    inside = within[alive[within]]
    bits = bits_of(alive & np.isin(np.arange(ROWS), rows))
    recalls = []
    for query in dequantise_8bit(unit_vectors(30, DIMENSION, seed=9)):
        found = index.search_rows(query, 50, within, bits, lists)
        assert np.isin(found.rows, inside).all()
        assert_best(found, exact(matrix, query, 50, found.rows))
        recalls.append(recall(found.rows, exact(matrix, query, 50, inside).rows))
    assert np.mean(recalls) >= 0.99


@pytest.mark.parametrize("given_rows", [False, True], ids=["a range", "given rows"])
def test_there_are_k_hits_if_there_are_k_rows(given_rows: bool) -> None:
    """Where the probed lists hold dead rows only, or FAISS skips the worst rows, all rows are scanned."""
    costs = replace(CODES_ONLY, probed_codes=((1, 1),))
    matrix = unit_vectors(2_000, 16)
    matrix[1_000:] = quantise_8bit(-dequantise_8bit(matrix[0]))
    quantizers = train(matrix, len(matrix), lists=64)
    lists = InvertedLists(quantizers, *quantizers.encode(dequantise_8bit(matrix)), costs=costs)
    index, query = VectorIndex(Vectors8Bit(matrix), lists, costs), dequantise_8bit(matrix[0])
    alive: Mask = np.arange(2_000) % 97 == 5
    all_rows: Mask = np.ones(2_000, np.bool_)
    for low, high, living in ((0, 2_000, alive), (900, 2_000, alive), (1_000, 2_000, None)):
        inside = np.arange(low, high) if living is None else low + np.flatnonzero(living[low:high])
        bits = None if living is None else bits_of(living)
        k = min(15, len(inside))
        assert len(lists.candidates(query, 800, low, high, bits)) < k, "or this tests nothing"
        if given_rows:
            found = index.search_rows(
                query, k, np.arange(low, high), bits_of(living if living is not None else all_rows)
            )
        else:
            found = index.search(query, k, low, high, bits)
        assert_best(found, exact(matrix, query, k, inside))
