"""The corpus: vectors, columns and queries, made once and memory-mapped by every process.

Vectors are real passages (`python -m benchmarks.embed_passages`) if there are enough, else generated around them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.peers.generator import BLOCK, Generator, normalised
from benchmarks.peers.peer import Columns, Half, Rows
from recommender.clock import DAY_MS

SECTIONS = 1_024
"""Number of sections: k-means clusters of the real vectors, so that filters on sections correlate with the query."""
SITES = (0.1, 0.01, 0.001)
"""Shares of the rows on sites 0, 1 and 2, independent of content."""
SITES_OTHER = 29
"""Number of further sites, which share the other rows evenly."""
QUERIES_MAX = 1_000
"""Rows kept aside for queries."""
FIRST_MS = 1_420_000_000_000
"""Time of the oldest article: 2014-12-31."""
ARTICLES_PER_DAY = 66
"""Rate at which articles are published."""
_QUERY_BLOCK = 10_000_000
"""Number of the generated block that queries are from, beyond the blocks of any corpus."""


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Vectors to search, columns to filter by, and queries; similarity is the inner product.

    vectors: float16 (n, d), rows in time order.
    queries: float32 (m, d), none of them a row unless there are query_rows.
    centroids: float32 (sections, d).
    description: the source of the vectors, for the result.
    query_rows: int64 (m,), the rows that are the queries.
    """

    vectors: Half
    columns: Columns
    queries: npt.NDArray[np.float32]
    centroids: npt.NDArray[np.float32]
    description: dict[str, Any]
    query_rows: Rows | None = None

    def by_id(self, rows: Rows) -> Corpus:
        """Return the same corpus with these rows as queries."""
        return replace(self, queries=self.vectors[rows].astype(np.float32), query_rows=rows)


def make(folder: Path, passages: Path, rows: int, queries: int, seed: int, *, generated: bool | None = None) -> Corpus:
    """Write a corpus of `rows` vectors into `folder` and open it.

    generated: whether to generate rows, around all passages; None does so if there are too few passages.
    """
    real = normalised(np.load(passages).astype(np.float32))
    enough = rows + QUERIES_MAX <= len(real)
    if generated is False and not enough:
        raise ValueError(f"{passages} holds {len(real)} passages: at most {len(real) - QUERIES_MAX} real rows")
    generated = not enough if generated is None else generated
    centroids = _centroids(real, seed)
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (rows, real.shape[1]))
    drawn = _fill_generated(vectors, real, seed) if generated else _fill_real(vectors, real, seed)
    vectors.flush()
    _write_columns(folder, vectors, centroids, seed)
    np.save(folder / "queries.npy", drawn[:queries])
    source = passages.with_suffix(".json")
    description = {
        "vectors": "generated around real passages" if generated else "real passages",
        "rows": rows,
        "dimension": real.shape[1],
        "seed": seed,
        "queries": len(drawn[:queries]),
        "passages": json.loads(source.read_text()) if source.exists() else {"passages": len(real)},
    }
    (folder / "description.json").write_text(json.dumps(description))
    return load(folder)


def load(folder: Path) -> Corpus:
    """Open a corpus that `make` wrote."""
    columns = np.load(folder / "columns.npz")
    return Corpus(
        np.load(folder / "vectors.npy", mmap_mode="r"),
        Columns(columns["published_at_ms"], columns["section"], columns["site"]),
        np.load(folder / "queries.npy"),
        columns["centroids"],
        json.loads((folder / "description.json").read_text()),
    )


def _fill_real(vectors: Half, real: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(seed).permutation(len(real))
    vectors[:] = real[np.sort(drawn[QUERIES_MAX : QUERIES_MAX + len(vectors)])]
    queries: npt.NDArray[np.float32] = real[drawn[:QUERIES_MAX]]
    return queries


def _fill_generated(vectors: Half, real: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    generator = Generator(real, seed)
    for start in range(0, len(vectors), BLOCK):
        vectors[start : start + BLOCK] = generator.block(start // BLOCK)[: len(vectors) - start]
    return generator.block(_QUERY_BLOCK)[:QUERIES_MAX].astype(np.float32)


def _centroids(real: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    count = min(SECTIONS, len(real) // 10)
    clusters = faiss.Kmeans(real.shape[1], count, niter=10, seed=seed, spherical=True, min_points_per_centroid=1)
    clusters.train(real)
    centroids: npt.NDArray[np.float32] = clusters.centroids
    return centroids


def _write_columns(folder: Path, vectors: Half, centroids: npt.NDArray[np.float32], seed: int) -> None:
    rows = len(vectors)
    parts = (vectors[at : at + BLOCK].astype(np.float32) @ centroids.T for at in range(0, rows, BLOCK))
    shares = [*SITES, *[(1 - sum(SITES)) / SITES_OTHER] * SITES_OTHER]
    sites = np.random.default_rng((seed, 2)).choice(len(shares), rows, p=shares)
    np.savez(
        folder / "columns.npz",
        published_at_ms=FIRST_MS + np.arange(rows) * (DAY_MS // ARTICLES_PER_DAY),
        section=np.concatenate([part.argmax(axis=1) for part in parts]).astype(np.int32),
        site=sites.astype(np.int32),
        centroids=centroids,
    )
