"""Whether generated vectors are as hard to search as real ones: the same HNSW and IVF indexes over as many of each.

The generator sees only half of the passages, every other stretch of HALF_STRETCH rows; the other half is new to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.machine import keep
from benchmarks.peers.generator import BLOCK, Generator, normalised

QUERIES = 500
"""Queries, none of them a row."""
K = 100
"""Nearest rows that recall is of."""
HALF_STRETCH = 64
"""Consecutive passages that the generator sees, and then does not see."""
EF = (100, 150, 200, 300, 500)
"""Efforts of HNSW."""
NPROBE = (4, 8, 16, 32, 64, 128)
"""Efforts of IVF: lists probed."""
LISTS = 512
"""Inverted lists of IVF."""
GRAPH_NEIGHBOURS = 16
"""Links of a node of HNSW."""
GRAPH_EF_CONSTRUCTION = 120
"""Candidates for a node's links while HNSW is built."""

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    rows: Matrix
    queries: Matrix


def compare(passages: Path, rows: int, seed: int) -> Path:
    """Measure both, print them side by side and keep the result; returns its file."""
    real = normalised(np.load(passages).astype(np.float32))
    if len(real) < rows + QUERIES:
        raise ValueError(f"{passages} holds {len(real)} passages, fewer than {rows} rows and {QUERIES} queries")
    values = {"real": _describe(_drawn(real, rows, seed)), "generated": _describe(_generated(real, rows, seed))}
    for name in values["real"]:
        print(f"{name:24} real {values['real'][name]:.4f}  generated {values['generated'][name]:.4f}")
    return keep("peers-agreement", {"rows": rows, "queries": QUERIES, "lists": LISTS, **values}, seed=seed)


def _drawn(vectors: Matrix, rows: int, seed: int) -> _Data:
    order = np.random.default_rng(seed).permutation(len(vectors))
    return _Data(vectors[np.sort(order[QUERIES : QUERIES + rows])], vectors[order[:QUERIES]])


def _generated(real: Matrix, rows: int, seed: int) -> _Data:
    half = real[np.arange(len(real)) // HALF_STRETCH % 2 == 0]
    generator = Generator(half, seed)
    blocks = [generator.block(number).astype(np.float32) for number in range((rows + QUERIES) // BLOCK + 1)]
    return _drawn(np.concatenate(blocks), rows, seed)


def _describe(data: _Data) -> dict[str, float]:
    """Return cosines of the 1st, 10th and 100th nearest, local dimensionality, and recall@100 of HNSW and IVF."""
    exact = faiss.IndexFlatIP(data.rows.shape[1])
    exact.add(data.rows)
    scores, truth = exact.search(data.queries, K + 1)
    values: dict[str, float] = {}
    for rank in (1, 10, 100):
        for share in (0.1, 0.5, 0.9):
            values[f"cosine of {rank}, q{share}"] = float(np.quantile(scores[:, rank - 1], share))
    values["local dimensions"] = _local_dimensions(scores)
    return values | _graph_recall(data, truth[:, :K]) | _lists_recall(data, truth[:, :K])


def _local_dimensions(scores: Matrix) -> float:
    """Return the median over queries of the estimate of Levina and Bickel (2004) from the K nearest."""
    distances = np.sqrt(np.maximum(2 - 2 * scores, 1e-9))
    return float(np.median(-1 / np.log(distances[:, :K] / distances[:, K:]).mean(axis=1)))


def _graph_recall(data: _Data, truth: npt.NDArray[np.int64]) -> dict[str, float]:
    graph = faiss.IndexHNSWFlat(data.rows.shape[1], GRAPH_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = GRAPH_EF_CONSTRUCTION
    graph.add(data.rows)
    return {f"HNSW, ef {ef}": _recall(graph, data, truth, faiss.SearchParametersHNSW(efSearch=ef)) for ef in EF}


def _lists_recall(data: _Data, truth: npt.NDArray[np.int64]) -> dict[str, float]:
    coarse = faiss.IndexFlatIP(data.rows.shape[1])
    lists = faiss.IndexIVFFlat(coarse, data.rows.shape[1], LISTS, faiss.METRIC_INNER_PRODUCT)
    lists.train(data.rows)
    lists.add(data.rows)
    return {f"IVF, nprobe {n}": _recall(lists, data, truth, faiss.SearchParametersIVF(nprobe=n)) for n in NPROBE}


def _recall(index: Any, data: _Data, truth: npt.NDArray[np.int64], params: Any) -> float:
    rows = index.search(data.queries, K, params=params)[1]
    return float(np.mean([len(np.intersect1d(*pair)) / K for pair in zip(rows, truth, strict=True)]))
