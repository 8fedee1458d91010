"""The graph over vectors: carried over to other rows it holds exactly their codes, and finds as much as a new one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from recommender.catalog import graph as graphs
from tests.recommender.test_vectors import Matrix, unit_vectors

ROWS, NEW, DIMENSION, K, EF = 1_000, 150, 16, 20, 64
Rows = npt.NDArray[np.int64]


def built(matrix: Matrix) -> faiss.IndexHNSWSQ:
    """Build a graph over the rows of `matrix` from nothing."""
    codes = graphs.codes_index(matrix.shape[1])
    codes.add(matrix.astype(np.float32))
    return graphs.build(codes)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Let FAISS use one thread: on so few rows several wait for each other more than they work."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """Return the vectors that are there at first, and after them some that come later."""
    return unit_vectors(ROWS + NEW, DIMENSION)


@pytest.fixture(scope="module")
def old(matrix: Matrix) -> faiss.IndexHNSWSQ:
    """Return the graph of those that are there at first."""
    return built(matrix[:ROWS])


@dataclass(frozen=True)
class Carried:
    """A graph that was carried over, and the vectors that its rows must be."""

    graph: faiss.IndexHNSWSQ
    expected: Matrix


def carry(old: faiss.IndexHNSWSQ, matrix: Matrix, gone: Rows, new: int) -> Carried:
    """Let some rows go and `new` ones come at random places."""
    kept = np.setdiff1d(np.arange(ROWS), gone)
    places = np.sort(np.random.default_rng(5).integers(0, len(kept) + 1, new))
    source = np.insert(kept, places, -1)
    arriving = matrix[ROWS : ROWS + new]
    expected = np.empty((len(source), matrix.shape[1]), np.float16)
    expected[source >= 0] = matrix[:ROWS][source[source >= 0]]
    expected[source < 0] = arriving
    return Carried(graphs.carried_over(old, source, iter([arriving[: new // 2], arriving[new // 2 :]])), expected)


def some(count: int) -> Rows:
    """Return so many of the rows, chosen at random."""
    return np.sort(np.random.default_rng(3).permutation(ROWS)[:count])


def near(matrix: Matrix, count: int) -> Rows:
    """Return the rows nearest to the first one: a whole subject."""
    return np.sort(np.argsort(-(matrix[:ROWS].astype(np.float32) @ matrix[0].astype(np.float32)))[:count])


def of_upper_levels(old: faiss.IndexHNSWSQ) -> Rows:
    """Return the rows by which a search comes in: all that are on more than the lowest level."""
    return np.flatnonzero(faiss.vector_to_array(old.hnsw.levels) > 1)


@pytest.fixture(
    scope="module",
    params=["nothing", "additions", "removals", "both", "a subject", "the entry point", "the upper levels"],
)
def carried(request: pytest.FixtureRequest, old: faiss.IndexHNSWSQ, matrix: Matrix) -> Carried:
    """Carry the graph over through one kind of change."""
    none = np.empty(0, np.int64)
    gone, new = {
        "nothing": (none, 0),
        "additions": (none, NEW),
        "removals": (some(100), 0),
        "both": (some(100), NEW),
        "a subject": (near(matrix, 80), 0),
        "the entry point": (np.array([old.hnsw.entry_point]), 0),
        "the upper levels": (of_upper_levels(old), 0),
    }[request.param]
    return carry(old, matrix, gone, new)


def all_links(graph: faiss.IndexHNSWSQ) -> list[list[list[int]]]:
    """Return the links of each row, level by level, those that fill up a level's places included."""
    hnsw = graph.hnsw
    offsets, levels = faiss.vector_to_array(hnsw.offsets).tolist(), faiss.vector_to_array(hnsw.levels).tolist()
    links = faiss.rev_swig_ptr(hnsw.neighbors.data(), hnsw.neighbors.size())
    ends = [hnsw.cum_nb_neighbors(level) for level in range(hnsw.max_level + 2)]
    return [
        [links[offsets[row] + ends[level] : offsets[row] + ends[level + 1]].tolist() for level in range(levels[row])]
        for row in range(graph.ntotal)
    ]


def found(graph: faiss.IndexHNSWSQ, queries: npt.NDArray[np.float32], k: int = K) -> Rows:
    """Search through the graph."""
    rows: Rows = graph.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=EF))[1]
    return rows


def recall(graph: faiss.IndexHNSWSQ, vectors: Matrix, k: int = K) -> float:
    """Return which share of the nearest, found by brute force, the graph finds too."""
    queries = unit_vectors(100, DIMENSION, seed=9).astype(np.float32)
    scores = queries @ vectors.astype(np.float32).T
    nearest = np.argsort(-scores, axis=1)[:, :k]
    hits = found(graph, queries, k)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(nearest.tolist(), hits.tolist(), strict=True)]))


def assert_whole(carried: Carried) -> None:
    """Codes are exactly those of the rows; links lead to rows of their level, none to itself, none twice.

    Places without a link come last, where FAISS stops reading; the search begins on the highest level.
    """
    graph = carried.graph
    stored = graph.reconstruct_n(0, graph.ntotal)
    assert stored.tolist() == carried.expected.astype(np.float32).tolist()
    levels = faiss.vector_to_array(graph.hnsw.levels)
    assert levels[graph.hnsw.entry_point] == levels.max() == graph.hnsw.max_level + 1
    for row, by_level in enumerate(all_links(graph)):
        for level, places in enumerate(by_level):
            links = [link for link in places if link >= 0]
            assert places[len(links) :] == [-1] * (len(places) - len(links))
            assert len(set(links)) == len(links)
            assert row not in links
            assert all(link < graph.ntotal and levels[link] > level for link in links)


def test_a_graph_that_was_carried_over_is_whole(carried: Carried) -> None:
    """Whatever went and came."""
    assert_whole(carried)


def test_it_finds_as_much_as_a_new_one(carried: Carried) -> None:
    """Compared with brute force, hardly less than a graph of the same rows that was built from nothing."""
    assert recall(carried.graph, carried.expected) >= recall(built(carried.expected), carried.expected) - 0.01


def test_every_row_can_be_found(carried: Carried) -> None:
    """Asked for its own vector, hardly any row is not the first: none was cut off from the others."""
    vectors = carried.expected.astype(np.float32)
    first = found(carried.graph, vectors, 1)[:, 0]
    same = np.einsum("ij,ij->i", vectors[first], vectors) >= np.einsum("ij,ij->i", vectors, vectors) - 1e-3
    assert np.mean(same) >= 0.995


def test_the_old_graph_stays_as_it_was(old: faiss.IndexHNSWSQ, matrix: Matrix) -> None:
    """It is the mapped file of a snapshot that others read."""
    links, codes = all_links(old), old.reconstruct_n(0, ROWS)
    carry(old, matrix, some(300), NEW)
    assert all_links(old) == links
    assert old.reconstruct_n(0, ROWS).tolist() == codes.tolist() == matrix[:ROWS].astype(np.float32).tolist()


@pytest.mark.parametrize("new", [0, 40])
def test_all_rows_may_go(old: faiss.IndexHNSWSQ, matrix: Matrix, new: int) -> None:
    """What is left is empty, or the new rows alone."""
    carried = carry(old, matrix, np.arange(ROWS), new)
    assert carried.graph.ntotal == new
    hits = found(carried.graph, matrix[:1].astype(np.float32), 60)[0]
    assert sorted(hits[hits >= 0].tolist()) == list(range(new))


def test_with_nearly_all_rows_gone_the_rest_is_whole_but_for_a_few_that_are_cut_off(
    old: faiss.IndexHNSWSQ, matrix: Matrix
) -> None:
    """Five rows without a neighbour that stays: at most those are not found, which is why a new graph is built then."""
    carried = carry(old, matrix, np.arange(5, ROWS), NEW)
    assert_whole(carried)
    hits = found(carried.graph, carried.expected.astype(np.float32), NEW)
    assert len(np.unique(hits[hits >= 0])) >= NEW


def test_carried_over_again_and_again_it_still_finds(old: faiss.IndexHNSWSQ, matrix: Matrix) -> None:
    """Ten times a fiftieth of the rows goes and as many come: no more is carried over before a new one is built."""
    rng = np.random.default_rng(11)
    vectors, graph = matrix[:ROWS], old
    for turn in range(10):
        kept = np.sort(rng.permutation(ROWS)[: ROWS - 20])
        arriving = unit_vectors(20, DIMENSION, seed=100 + turn)
        source = np.append(kept, np.full(20, -1))
        graph = graphs.carried_over(graph, source, iter([arriving]))
        vectors = np.concatenate((vectors[kept], arriving))
    assert recall(graph, vectors) >= recall(built(vectors), vectors) - 0.02
