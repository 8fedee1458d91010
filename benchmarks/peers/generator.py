"""Vectors that resemble given real ones, in any number: seeded, block by block, in bounded memory.

A generated vector lies around a real one, in the directions in which that one's own neighbours lie: a Gaussian whose
covariance is that of the differences to its neighbours (Vincent and Bengio, "Manifold Parzen Windows", 2002). So dense
regions stay dense and thin ones thin, the number of local directions is the data's own, and clusters have their sizes.
How many neighbours is drawn for each vector, from few to many: few give close relatives, as versions of a story are,
many give the wider topic. One vector in COPIES is a near copy of another of its block.

How well it does: `python -m benchmarks.peers agreement`.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

BLOCK = 8_192
"""Rows of a block; block b of a seed is the same whatever was generated before it."""
NEIGHBOURS_MIN = 2
NEIGHBOURS_MAX = 64
SPREAD = 0.75
"""Width of the Gaussians, in units of the neighbours' own distances."""
PULL = 0.1
"""How far a vector is drawn to the mean of the neighbours, against the variance that the Gaussians add."""
COPIES = 50
COPY_NOISE = 0.15
"""Length of a near copy's difference before normalising: a cosine of about .99."""
_STEP = 1_024

Matrix = npt.NDArray[np.float32]


class Generator:
    """Generates around `base`, float (n, d) with rows of length 1; a copy of it stays in memory.

    The constants above were chosen on half of 20,000 real passages, so that 20,000 generated ones are as hard for HNSW
    and IVF as all the real ones (of 23 combinations the nearest; widths from .7 to 1.2, 64 to 256 neighbours).
    """

    def __init__(self, base: npt.NDArray[np.floating], seed: int) -> None:
        """Find the neighbours of all base vectors, exactly: seconds for 50,000."""
        self.base: Matrix = np.ascontiguousarray(base, np.float32)
        self.seed = seed
        index = faiss.IndexFlatIP(self.base.shape[1])
        index.add(self.base)
        self._neighbours = index.search(self.base, NEIGHBOURS_MAX + 1)[1][:, 1:]

    def block(self, number: int) -> npt.NDArray[np.float16]:
        """Return block `number`, float16 (BLOCK, d), rows of length 1."""
        random = np.random.default_rng((self.seed, number))
        parents = self._parents(number)
        block = np.concatenate([self._around(parents[at : at + _STEP], random) for at in range(0, BLOCK, _STEP)])
        _add_copies(random, block)
        return normalised(block).astype(np.float16)

    def _parents(self, number: int) -> npt.NDArray[np.int64]:
        """Each base vector is a parent once before any is one twice."""
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
    """Return the rows with length 1, a copy."""
    unit: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _add_copies(random: np.random.Generator, block: Matrix) -> None:
    copies = random.choice(len(block), len(block) // COPIES, replace=False)
    originals = random.integers(len(block), size=len(copies))
    noise = random.standard_normal((len(copies), block.shape[1]), np.float32)
    block[copies] = normalised(block[originals]) + COPY_NOISE * normalised(noise)
