"""Generate any number of vectors that resemble real ones: with a seed, block by block, in bounded memory.

A generated vector lies around a real one, in the directions of its neighbours: a Gaussian with the covariance of the
differences to the neighbours (Vincent and Bengio, "Manifold Parzen Windows", 2002). So dense regions stay dense and
sparse ones sparse, and local dimensionality and cluster sizes are those of the data. The number of neighbours is drawn
for each vector: few give close relatives, like versions of a story, many give the wider topic. One vector in COPIES is
a near copy of another of its block.

`python -m benchmarks.peers agreement` measures how well generated vectors resemble real ones.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

BLOCK = 8_192
"""Rows of a block; a block depends on the seed and its number only."""
NEIGHBOURS_MIN = 2
"""Fewest neighbours that a vector is generated among."""
NEIGHBOURS_MAX = 64
"""Most neighbours that a vector is generated among."""
SPREAD = 0.75
"""Width of the Gaussians, in units of the neighbours' own distances."""
PULL = 0.1
"""Shift of a vector to the mean of its neighbours, a share; it offsets the variance that the Gaussians add."""
COPIES = 50
"""One vector in so many is a near copy."""
COPY_NOISE = 0.15
"""Length of a near copy's difference before normalising; the cosine is about .99."""
_ROWS_AT_ONCE = 1_024
"""Memory limit: rows generated in one product."""

Matrix = npt.NDArray[np.float32]


class Generator:
    """A generator around `base`, float (n, d), rows of length 1, of which it holds a copy.

    The constants above were chosen on half of 20,000 real passages, so that 20,000 generated ones are as hard for HNSW
    and IVF as all real ones: the best of 23 combinations with widths from .7 to 1.2 and 64 to 256 neighbours.
    """

    def __init__(self, base: npt.NDArray[np.floating], seed: int) -> None:
        """Find the neighbours of all base vectors by exact search; it takes seconds for 50,000."""
        self.base: Matrix = np.ascontiguousarray(base, np.float32)
        self.seed = seed
        index = faiss.IndexFlatIP(self.base.shape[1])
        index.add(self.base)
        self._neighbours = index.search(self.base, NEIGHBOURS_MAX + 1)[1][:, 1:]

    def block(self, number: int) -> npt.NDArray[np.float16]:
        """Return block `number`, float16 (BLOCK, d), rows of length 1."""
        random = np.random.default_rng((self.seed, number))
        parents = self._parents(number)
        block = np.concatenate(
            [self._around(parents[at : at + _ROWS_AT_ONCE], random) for at in range(0, BLOCK, _ROWS_AT_ONCE)]
        )
        _add_copies(random, block)
        return normalised(block).astype(np.float16)

    def _parents(self, number: int) -> npt.NDArray[np.int64]:
        """Return the base vector of each row; all are used once before any is used twice."""
        rounds, places = np.divmod(np.arange(number * BLOCK, (number + 1) * BLOCK), len(self.base))
        parents = np.empty(BLOCK, np.int64)
        for turn in np.unique(rounds).tolist():
            order = np.random.default_rng((self.seed, turn, 1)).permutation(len(self.base))
            parents[rounds == turn] = order[places[rounds == turn]]
        return parents

    def _around(self, parents: npt.NDArray[np.int64], random: np.random.Generator) -> Matrix:
        logarithms = random.uniform(np.log(NEIGHBOURS_MIN), np.log(NEIGHBOURS_MAX), (len(parents), 1))
        among = np.exp(logarithms).astype(np.float32)
        weights = SPREAD / np.sqrt(among) * random.standard_normal((len(parents), NEIGHBOURS_MAX), np.float32)
        weights = np.where(np.arange(NEIGHBOURS_MAX) < among, weights + PULL / among, 0)
        # parent + sum of weight * (neighbour - parent)
        moved = np.einsum("pn,pnd->pd", weights, self.base[self._neighbours[parents]], optimize=True)
        around: Matrix = self.base[parents] * (1 - weights.sum(axis=1, keepdims=True)) + moved
        return around


def normalised(vectors: Matrix) -> Matrix:
    """Return a copy of the rows with length 1."""
    unit: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _add_copies(random: np.random.Generator, block: Matrix) -> None:
    copies = random.choice(len(block), len(block) // COPIES, replace=False)
    originals = random.integers(len(block), size=len(copies))
    noise = random.standard_normal((len(copies), block.shape[1]), np.float32)
    block[copies] = normalised(block[originals]) + COPY_NOISE * normalised(noise)
