"""Vectors distributed like embeddings, and brute-force search among them: the oracle of all searches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from recommender.catalog.snapshot import files
from recommender.catalog.vectors.index import Hits, Rows
from recommender.catalog.vectors.scalar_codes import (
    ZERO_CODE,
    ScalarCodes,
    Vector,
    levels_8bit,
    quantise_8bit,
    rotate,
    step_8bit,
)
from recommender.catalog.vectors.search_costs import MEASURED

Half = npt.NDArray[np.float16]
Mask = npt.NDArray[np.bool_]

_DIRECTIONS = 48
_NOISE = 0.02
COMPRESSIBLE = 16
"""Least number of rows that can have product codes: the number of a codebook's entries."""
CODES_ONLY = replace(MEASURED, scan_rows_max=0, gather_rows_max=0, scan_cost=1_000_000, gather_cost=1_000_000)
"""Costs by which every search of vectors with product codes goes through these, however few the rows."""


def topics_of(rows: int, topics: int, seed: int = 1) -> Rows:
    """Return int64 (rows,): the topic of each row."""
    return np.random.default_rng(seed).integers(0, topics, rows)


def unit_points(rows: int, dimension: int, seed: int = 1, topics: int = 100, world: int = 0) -> Half:
    """Return normalised vectors around the topics that `topics_of` gives for the same arguments.

    They vary in few strong directions and many weak ones. Vectors of two seeds share their topics, those of two worlds
    do not.
    """
    fixed, rng = np.random.default_rng(world), np.random.default_rng(seed)
    directions = min(dimension, _DIRECTIONS)
    centres = fixed.standard_normal((topics, directions), dtype=np.float32)
    rotation = fixed.standard_normal((directions, dimension), dtype=np.float32) / np.float32(dimension**0.5)
    weights = (1 + np.arange(directions, dtype=np.float32)) ** -0.5
    latent = centres[topics_of(rows, topics, seed)] + rng.standard_normal((rows, directions), dtype=np.float32)
    points = (latent * weights) @ rotation + _NOISE * rng.standard_normal((rows, dimension), dtype=np.float32)
    halves: Half = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16)
    return halves


def unit_vectors(rows: int, dimension: int, seed: int = 1, topics: int = 100, world: int = 0) -> ScalarCodes:
    """Return the 8-bit codes of `unit_points`."""
    return quantise_8bit(rotate(unit_points(rows, dimension, seed, topics, world)))


def exact(matrix: ScalarCodes, query: Vector, k: int, among: Iterable[int] | Rows) -> Hits:
    """Search rows by brute force in whole numbers; of equal scores the higher row comes first."""
    rows = np.fromiter(among, np.int64)
    products = (matrix[rows].astype(np.int64) - ZERO_CODE) @ levels_8bit(query).astype(np.int64)
    order = np.lexsort((-rows, -products))[: max(k, 0)]
    return Hits(rows[order], products[order].astype(np.float32) * np.float32(step_8bit(matrix.shape[1])) ** 2)


def bits_of(mask: Iterable[bool] | Mask) -> npt.NDArray[np.uint8]:
    """Return a bitmap, one bit a row, as searches take it."""
    return np.packbits(np.fromiter(mask, np.bool_), bitorder="little")


def recall(found: Rows, expected: Rows) -> float:
    """Return the share of the expected rows that were found."""
    return len(np.intersect1d(found, expected)) / max(len(expected), 1)


def assert_same(found: Hits, expected: Hits) -> None:
    """Check that rows and scores are equal, in order and to the bit."""
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


def assert_best(found: Hits, expected: Hits) -> None:
    """Check scores to single precision, best first; rows may differ where scores are equal to that precision."""
    assert len(set(found.rows.tolist())) == len(expected.rows) == len(found.rows)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=5e-7)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    if len(expected.rows):
        surely = expected.rows[expected.scores > expected.scores[-1] + 1e-6]
        assert set(surely.tolist()) <= set(found.rows.tolist())


@contextmanager
def small_archives_compressed() -> Iterator[None]:
    """Give product codes to the smallest snapshots that can have them.

    Searched with CODES_ONLY their hits are those of the oracle: all their rows are re-ranked.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "COMPRESSED_ROWS_MIN", COMPRESSIBLE)
        yield
