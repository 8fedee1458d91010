"""Vector search: exact against NumPy, ties included; through the graph with exact scores and hardly anything missed."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog import vectors
from recommender.catalog.vectors import Allowed, Hits, Vector, VectorFile, best_of, write_vectors
from recommender.errors import CorruptError

Matrix = npt.NDArray[np.float16]


def vector_file(folder: Path, matrix: Matrix) -> VectorFile:
    """Write the rows of `matrix` as one file and open it."""
    path = folder / "vectors.faiss"
    write_vectors(path, matrix.shape[1], iter([matrix]))
    return VectorFile(path, rows=len(matrix), dimension=matrix.shape[1])


def scores_of(matrix: Matrix, query: Vector) -> npt.NDArray[np.float64]:
    """Return the inner products, computed in double precision."""
    products: npt.NDArray[np.float64] = matrix.astype(np.float64) @ query.astype(np.float64)
    return products


def exact(matrix: Matrix, query: Vector, k: int, low: int, high: int, allowed: Allowed | None) -> Hits:
    """Search by brute force; of equal scores the higher row comes first."""
    scores = scores_of(matrix, query)
    rows = [r for r in range(len(matrix)) if low <= r < high and (allowed is None or allowed[r])]
    rows = sorted(rows, key=lambda r: (-scores[r], -r))[: max(k, 0)]
    return Hits(np.array(rows, np.int64), scores[rows].astype(np.float32))


def assert_equal(found: Hits, expected: Hits) -> None:
    """Compare rows and scores, in order."""
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


def unit_vectors(rows: int, dimension: int, seed: int = 1) -> Matrix:
    """Return normalised vectors in loose clusters, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dimension))
    points = centres[rng.integers(0, 20, rows)] + rng.standard_normal((rows, dimension))
    halves: Matrix = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16)
    return halves


# Exact search

_small = st.integers(-2, 2)


@st.composite
def searches(draw: st.DrawFn) -> tuple[Matrix, Vector, int, int, int, Allowed | None]:
    """Draw a small file of integer vectors, so that many scores are equal, and a search in it."""
    dimension = draw(st.integers(1, 3))
    matrix = draw(st.lists(st.lists(_small, min_size=dimension, max_size=dimension), min_size=1, max_size=150))
    query = draw(st.lists(_small, min_size=dimension, max_size=dimension))
    rows = len(matrix)
    low, high = draw(st.just((0, rows)) | st.tuples(st.integers(-2, rows), st.integers(0, rows + 2)).map(sorted))
    allowed = draw(st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows))
    mask = None if allowed is None else np.array(allowed)
    return np.array(matrix, np.float16), np.array(query, np.float32), draw(st.integers(0, rows + 3)), low, high, mask


@given(searches())
def test_search_is_brute_force_with_ties(search: tuple[Matrix, Vector, int, int, int, Allowed | None]) -> None:
    """Whatever the window, the filter and k: the k best rows, the newer first among equals."""
    matrix, query, k, low, high, allowed = search
    with tempfile.TemporaryDirectory() as folder:
        found = vector_file(Path(folder), matrix).search(query, k, low, high, allowed)
    assert_equal(found, exact(matrix, query, k, low, high, allowed))


@pytest.mark.parametrize("k", [1, 5, 17, 299, 300, 1000])
def test_of_many_copies_the_newest_come_first(tmp_path: Path, k: int) -> None:
    """Three hundred equal rows, more than any search fetches at first, come newest first."""
    matrix = np.ones((300, 4), np.float16)
    found = vector_file(tmp_path, matrix).search(np.ones(4, np.float32), k, 0, 300)
    assert found.rows.tolist() == list(range(299, -1, -1))[:k]
    assert set(found.scores.tolist()) == {4.0}


def test_the_newest_of_many_copies_stand_behind_a_better_row(tmp_path: Path) -> None:
    """Ties at the k-th place are broken among all that tie, also when others are better."""
    matrix = np.ones((100, 4), np.float16)
    matrix[3] = 2
    matrix[50:60] = 0
    found = vector_file(tmp_path, matrix).search(np.ones(4, np.float32), 4, 0, 100)
    assert found.rows.tolist() == [3, 99, 98, 97]


@pytest.mark.parametrize(
    ("k", "low", "high", "allowed"),
    [
        pytest.param(0, 0, 4, None, id="k of 0"),
        pytest.param(-1, 0, 4, None, id="negative k"),
        pytest.param(3, 2, 2, None, id="empty window"),
        pytest.param(3, 3, 1, None, id="window that ends before it starts"),
        pytest.param(3, 4, 9, None, id="window after the last row"),
        pytest.param(3, -5, 0, None, id="window before the first row"),
        pytest.param(3, 0, 4, [False] * 4, id="nothing allowed"),
        pytest.param(3, 0, 2, [False, False, True, True], id="nothing allowed in the window"),
    ],
)
def test_nothing_to_find_is_no_hits(tmp_path: Path, k: int, low: int, high: int, allowed: list[bool] | None) -> None:
    """An empty selection is an empty answer of the right types."""
    matrix = np.eye(4, dtype=np.float16)
    mask = None if allowed is None else np.array(allowed)
    found = vector_file(tmp_path, matrix).search(np.ones(4, np.float32), k, low, high, mask)
    assert (found.rows.shape, found.scores.shape) == ((0,), (0,))
    assert (str(found.rows.dtype), str(found.scores.dtype)) == ("int64", "float32")


def test_a_file_without_rows_finds_nothing(tmp_path: Path) -> None:
    """No rows at all is a valid file."""
    path = tmp_path / "vectors.faiss"
    write_vectors(path, 8, iter([]))
    empty = VectorFile(path, rows=0, dimension=8)
    query = np.ones(8, np.float32)
    assert not empty.has_graph
    assert empty.search(query, 5, 0, 0).rows.tolist() == []
    assert empty.search(query, 5, 0, 10, np.empty(0, np.bool_)).rows.tolist() == []
    assert empty.vectors(np.empty(0, np.int64)).shape == (0, 8)
    assert empty.compare(np.empty((0, 8), np.float16), query).tolist() == []


def test_scores_of_real_valued_vectors_are_inner_products(tmp_path: Path) -> None:
    """Scores are those of the stored half-precision vectors, to single precision, and the best come first."""
    matrix, query = unit_vectors(500, 48), unit_vectors(1, 48, seed=2)[0].astype(np.float32)
    found = vector_file(tmp_path, matrix).search(query, 50, 0, 500)
    expected = exact(matrix, query, 50, 0, 500, None)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=2e-7)
    assert set(found.rows.tolist()) == set(expected.rows.tolist())
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


@pytest.mark.parametrize("sizes", [[10], [1] * 10, [3, 0, 7], [9, 1]], ids=str)
def test_batches_are_written_in_order(tmp_path: Path, sizes: list[int]) -> None:
    """However the rows are batched, row i of the file is the i-th row given."""
    matrix = unit_vectors(10, 16)
    ends = np.cumsum(sizes)
    path = tmp_path / "vectors.faiss"
    write_vectors(path, 16, iter(np.split(matrix, ends[:-1])))
    file = VectorFile(path, rows=10, dimension=16)
    assert file.vectors(np.arange(10)).tolist() == matrix.astype(np.float32).tolist()


def test_vectors_are_copies_in_the_asked_order(tmp_path: Path) -> None:
    """Reading rows gives them in the order asked for, repeated ones too, and changing them changes no file."""
    matrix = unit_vectors(6, 16)
    file = vector_file(tmp_path, matrix)
    read = file.vectors(np.array([4, 0, 4]))
    assert read.tolist() == matrix[[4, 0, 4]].astype(np.float32).tolist()
    read[:] = 7
    assert file.vectors(np.array([4])).tolist() == matrix[[4]].astype(np.float32).tolist()


def test_compare_keeps_the_order_of_its_rows(tmp_path: Path) -> None:
    """Each of the given vectors, also of a slice with strides, gets its own inner product at its own place."""
    matrix = np.arange(-20, 20, dtype=np.float16).reshape(10, 4)
    query = np.array([1, 2, -1, 0], np.float32)
    file = vector_file(tmp_path, matrix)
    assert file.compare(matrix, query).tolist() == scores_of(matrix, query).tolist()
    assert file.compare(matrix[::-2], query).tolist() == scores_of(matrix[::-2], query).tolist()


def test_concurrent_searches_do_not_disturb_each_other(tmp_path: Path) -> None:
    """The same searches give the same hits from four threads as from one."""
    matrix = unit_vectors(800, 32)
    queries = unit_vectors(40, 32, seed=3).astype(np.float32)
    mask = np.arange(800) % 3 > 0
    file = vector_file(tmp_path, matrix)

    def search(i: int) -> Hits:
        return file.search(queries[i], 10, i, 800 - i, mask if i % 2 else None)

    alone = [search(i) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(search, range(40)), strict=True):
            assert_equal(other, one)


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
    """Best first, of equal scores the higher row, at most k."""
    found = best_of(np.array(scores, np.float32), np.array(rows, np.int64), k)
    assert found.rows.tolist() == expected
    assert found.scores.tolist() == [scores[rows.index(row)] for row in expected]


# The graph

ROWS, DIMENSION = 3_000, 32
EXACT, GRAPH = 200, 1_000


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """Return the vectors of `graph`."""
    return unit_vectors(ROWS, DIMENSION)


@pytest.fixture(scope="module")
def graph_path(matrix: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file with a graph, for which it would be too small."""
    path = tmp_path_factory.mktemp("graph") / "vectors.faiss"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "GRAPH_ROWS", GRAPH)
        write_vectors(path, DIMENSION, iter(np.array_split(matrix, 7)))
    return path


@pytest.fixture
def graph(graph_path: Path, monkeypatch: pytest.MonkeyPatch) -> VectorFile:
    """Open the file with a graph; what leaves more than EXACT rows goes through it."""
    monkeypatch.setattr(vectors, "EXACT_ROWS", EXACT)
    return VectorFile(graph_path, rows=ROWS, dimension=DIMENSION)


_every_third = np.arange(ROWS) % 3 == 0
_first_half = np.arange(ROWS) < ROWS // 2
SELECTIONS: dict[str, tuple[int, int, Allowed | None]] = {
    "everything": (0, ROWS, None),
    "window": (700, 2_300, None),
    "window from the start": (0, EXACT + 1, None),
    "filter": (0, ROWS, _every_third),
    "filter and window": (500, 2_500, _every_third),
    "filter that keeps all in the window": (100, 1_400, _first_half),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_graph_misses_hardly_anything(graph: VectorFile, matrix: Matrix, name: str) -> None:
    """Hits are in the selection, distinct, sorted, with exact scores; recall@20 is at least .98."""
    low, high, allowed = SELECTIONS[name]
    inside = np.zeros(ROWS, np.bool_)
    inside[low:high] = True if allowed is None else allowed[low:high]
    hit = 0
    queries = unit_vectors(40, DIMENSION, seed=4).astype(np.float32)
    for query in queries:
        found = graph.search(query, 20, low, high, allowed)
        rows = found.rows.tolist()
        assert len(set(rows)) == 20
        assert inside[rows].all()
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        np.testing.assert_allclose(found.scores, scores_of(matrix, query)[rows], rtol=0, atol=2e-7)
        hit += len(set(rows) & set(exact(matrix, query, 20, low, high, allowed).rows.tolist()))
    assert hit >= 0.98 * 20 * len(queries)


@pytest.mark.parametrize(
    ("low", "high", "keep"),
    [
        pytest.param(400, 400 + EXACT, None, id="window"),
        pytest.param(0, ROWS, EXACT, id="filter"),
        pytest.param(10, ROWS - 10, 7, id="narrow filter and window"),
    ],
)
def test_what_leaves_few_rows_is_exact_in_a_file_with_a_graph(
    graph: VectorFile, matrix: Matrix, low: int, high: int, keep: int | None
) -> None:
    """Up to EXACT_ROWS rows are scanned: nothing is missed."""
    rng = np.random.default_rng(5)
    allowed = None
    if keep is not None:
        allowed = np.zeros(ROWS, np.bool_)
        allowed[rng.choice(np.arange(low, high), keep, replace=False)] = True
    for query in unit_vectors(20, DIMENSION, seed=6).astype(np.float32):
        found = graph.search(query, 30, low, high, allowed)
        expected = exact(matrix, query, 30, low, high, allowed)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=2e-7)
        assert set(found.rows.tolist()) == set(expected.rows.tolist())


@pytest.mark.parametrize(("rows", "has_graph"), [(GRAPH - 1, False), (GRAPH, True)])
def test_a_file_gets_a_graph_from_graph_rows_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, has_graph: bool
) -> None:
    """The threshold is inclusive, and the rows read the same either way."""
    monkeypatch.setattr(vectors, "GRAPH_ROWS", GRAPH)
    matrix = unit_vectors(rows, 8)
    file = vector_file(tmp_path, matrix)
    assert file.has_graph is has_graph
    some = np.array([0, rows // 2, rows - 1])
    assert file.vectors(some).tolist() == matrix[some].astype(np.float32).tolist()


def test_a_graph_answers_k_beyond_its_rows(graph: VectorFile) -> None:
    """A k larger than the file gives every row once."""
    found = graph.search(np.ones(DIMENSION, np.float32), 10 * ROWS, 0, ROWS)
    assert sorted(found.rows.tolist()) == list(range(ROWS))


# Damage


def _text(path: Path) -> None:
    path.write_text("no index at all")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(Path.unlink, id="missing"),
        pytest.param(_text, id="not an index"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="truncated"),
    ],
)
def test_what_faiss_cannot_read_is_named(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """The error names the file and says what to do."""
    path = tmp_path / "vectors.faiss"
    write_vectors(path, 8, iter([unit_vectors(10, 8)]))
    damage(path)
    with pytest.raises(CorruptError) as caught:
        VectorFile(path, rows=10, dimension=8)
    assert str(caught.value).startswith(f"{path}: FAISS cannot read it: ")
    assert caught.value.fix == "rebuild the snapshot"


@pytest.mark.parametrize(("rows", "dimension"), [(9, 8), (11, 8), (10, 16)])
def test_other_rows_or_dimension_than_expected_are_refused(tmp_path: Path, rows: int, dimension: int) -> None:
    """A whole file that belongs to another snapshot is not used."""
    path = tmp_path / "vectors.faiss"
    write_vectors(path, 8, iter([unit_vectors(10, 8)]))
    with pytest.raises(CorruptError) as caught:
        VectorFile(path, rows=rows, dimension=dimension)
    assert str(caught.value) == (f"{path}: 10 vectors of 8, expected {rows} of {dimension} (rebuild the snapshot)")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full here")
@pytest.mark.parametrize("rows", [1, 5_000], ids=["less than a block", "many blocks"])
def test_a_full_disk_is_an_error_however_small_the_file(rows: int) -> None:
    """Bytes that did not fit are never passed over."""
    with pytest.raises(OSError) as caught:
        write_vectors(Path("/dev/full"), 16, iter([unit_vectors(rows, 16)]))
    assert caught.value.errno == errno.ENOSPC
