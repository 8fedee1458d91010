"""The HNSW graph over a snapshot's vectors: built from nothing, or carried over from the snapshot before.

A FAISS graph cannot forget a row and takes in rows only at its end, while the rows of a snapshot are in time order and
some go with each new one. `carried_over` therefore edits the graph's arrays: links to a row that goes are led on to its
nearest neighbour that stays, FAISS inserts the new rows, and `permute_entries` brings all into the new order. That
costs about a millisecond for each changed row, instead of for each row there is.
"""

from __future__ import annotations

from collections.abc import Iterable

import faiss
import numpy as np
import numpy.typing as npt

Half = npt.NDArray[np.float16]
Links = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]

NEIGHBOURS = 32
EF_CONSTRUCTION = 120
_BLOCK_ROWS = 100_000
_SEED = 20_260_101
_NONE = np.iinfo(np.int32).max


def codes_index(dimension: int) -> faiss.IndexScalarQuantizer:
    """Return an empty index of half-precision vectors, compared by inner product."""
    return faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def build(codes: faiss.IndexScalarQuantizer) -> faiss.IndexHNSWSQ:
    """Return a graph over all of `codes`, in their order.

    Rows are inserted in random order: in the order of time, the early ones would be linked without knowing any later
    subject, which costs recall.
    """
    graph = _empty(codes.d)
    order = np.random.default_rng(_SEED).permutation(codes.ntotal)
    for block in np.array_split(order, max(1, -(-len(order) // _BLOCK_ROWS))):
        graph.add(codes.reconstruct_batch(block))
    _reorder(graph, order)
    return graph


def carried_over(old: faiss.IndexHNSWSQ, source: Rows, new: Iterable[Half]) -> faiss.IndexHNSWSQ:
    """Return a graph of the rows that `source` names, in its order; `old` stays as it is.

    source: int64 (rows,): rows of `old`, ascending, and -1 wherever the next one of `new` stands. new: blocks float16
    (m, dimension).
    """
    graph = _only(old, source[source >= 0])
    for block in new:
        graph.add(block.astype(np.float32))
    _reorder(graph, np.concatenate((np.flatnonzero(source >= 0), np.flatnonzero(source < 0))))
    return graph


def _empty(dimension: int) -> faiss.IndexHNSWSQ:
    graph = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_fp16, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = EF_CONSTRUCTION
    return graph


def _reorder(graph: faiss.IndexHNSWSQ, order: Rows) -> None:
    """Bring the rows of `graph` into another order; order[i] is where its row i goes."""
    came_from = np.empty_like(order)
    came_from[order] = np.arange(len(order))
    graph.permute_entries(came_from)


def _only(old: faiss.IndexHNSWSQ, kept: Rows) -> faiss.IndexHNSWSQ:
    """Return a graph of the rows `kept`, ascending, without the others."""
    before = _Arrays(old)
    graph = _empty(old.d)
    storage = faiss.downcast_index(graph.storage)
    _fill(storage.codes, before.codes[kept].ravel())
    storage.ntotal = graph.ntotal = len(kept)
    levels = before.levels[kept]
    offsets = np.concatenate(([0], np.cumsum(np.diff(before.offsets)[kept])))
    _fill(graph.hnsw.neighbors, before.links_of(kept, offsets))
    faiss.copy_array_to_vector(levels, graph.hnsw.levels)
    faiss.copy_array_to_vector(offsets.astype(np.uint64), graph.hnsw.offsets)
    graph.hnsw.max_level = int(levels.max(initial=0)) - 1
    graph.hnsw.entry_point = int(np.argmax(levels)) if len(levels) else -1
    return graph


class _Arrays:
    """The arrays of a graph, seen through NumPy. levels: int32 (rows,), how many levels a row is on, 1 or more.

    links: int32, those of row i at [offsets[i], offsets[i + 1]), level by level; -1 fills up a level's places.
    """

    def __init__(self, graph: faiss.IndexHNSWSQ) -> None:
        self._hnsw = graph.hnsw
        rows = int(graph.ntotal)
        self.levels: Links = faiss.vector_to_array(graph.hnsw.levels)
        self.offsets: Rows = faiss.vector_to_array(graph.hnsw.offsets).astype(np.int64)
        self.links: Links = faiss.rev_swig_ptr(graph.hnsw.neighbors.data(), graph.hnsw.neighbors.size())
        codes = faiss.rev_swig_ptr(faiss.downcast_index(graph.storage).codes.data(), rows * 2 * graph.d)
        self.codes: npt.NDArray[np.uint8] = codes.reshape(rows, 2 * graph.d)

    def links_of(self, kept: Rows, offsets: Rows) -> Links:
        """Return the links of the rows `kept` as those of rows 0, 1, ...; offsets: where each one's begin then."""
        place = np.full(len(self.levels), -1, np.int32)
        place[kept] = np.arange(len(kept), dtype=np.int32)
        links = np.full(int(offsets[-1]), -1, np.int32)
        for level in range(int(self.levels[kept].max(initial=0))):
            places = self._places(level)
            target = np.append(self._led_on(level, places, place), np.int32(-1))  # a link of -1 reads the last one
            here = np.flatnonzero(self.levels[kept] > level)
            for part in np.array_split(here, max(1, -(-len(here) // _BLOCK_ROWS))):
                theirs = target[self.links[self.offsets[kept[part], None] + places]]
                links[offsets[part, None] + places] = _tidied(theirs, part.astype(np.int32))
        return links

    def _places(self, level: int) -> Rows:
        """Return where in a row's links those of one level stand."""
        return np.arange(self._hnsw.cum_nb_neighbors(level), self._hnsw.cum_nb_neighbors(level + 1))

    def _led_on(self, level: int, places: Rows, place: Links) -> Links:
        """Return for each row the new row that a link to it shall lead to: itself, or its nearest that stays; or -1."""
        target = place.copy()
        for row in np.flatnonzero((place < 0) & (self.levels > level)).tolist():
            near = self.links[self.offsets[row] + places]
            near = near[near >= 0]
            near = near[place[near] >= 0]
            if len(near):
                vectors = self.codes[near].view(np.float16).astype(np.float32)
                nearest = np.argmax(vectors @ self.codes[row].view(np.float16).astype(np.float32))
                target[row] = place[near[nearest]]
        return target


def _tidied(links: Links, rows: Links) -> Links:
    """Return links, (m, places), without repeats and links to the row itself; what is left comes first, then -1."""
    tidy = np.where((links < 0) | (links == rows[:, None]), _NONE, links)
    tidy.sort(axis=1)
    tidy[:, 1:][tidy[:, 1:] == tidy[:, :-1]] = _NONE
    tidy.sort(axis=1)
    tidy[tidy == _NONE] = -1
    return tidy


def _fill(vector: faiss.MaybeOwnedVectorInt32 | faiss.MaybeOwnedVectorUInt8, values: npt.NDArray[np.generic]) -> None:
    """Make a FAISS vector hold `values`."""
    vector.resize(values.size)
    faiss.memcpy(vector.data(), faiss.swig_ptr(np.ascontiguousarray(values)), values.nbytes)
