"""Near copies: whether two bodies share most of their running text.

A body is the set of its shingles (runs of SHINGLE_WORDS words); two bodies are as alike as the Jaccard coefficient of
their sets. A sketch estimates it without the texts: MinHash (Broder 1997) with SKETCH_SIZE permutations, cut to 16
bits each. The standard error at Jaccard j is sqrt(j (1 - j) / SKETCH_SIZE): 0.035 at 0.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recommender.catalog.articles import Paragraph, ParagraphKind
from recommender.catalog.wording import word_hash, words_of

SHINGLE_WORDS = 5
SKETCH_SIZE = 128
_EMPTY = np.uint16(0)

Sketch = npt.NDArray[np.uint16]

_random = np.random.default_rng(20_260_101)
_MULTIPLIERS = _random.integers(1, 2**63, SKETCH_SIZE, dtype=np.uint64) | np.uint64(1)
_INCREMENTS = _random.integers(0, 2**63, SKETCH_SIZE, dtype=np.uint64)
_POWERS = np.array([pow(0x9E3779B97F4A7C15, i + 1, 2**64) for i in range(SHINGLE_WORDS)], np.uint64)
del _random


def make_sketch(paragraphs: Sequence[Paragraph]) -> Sketch:
    """Return uint16 (SKETCH_SIZE,) of a body, captions left out; all zeros if it has fewer than SHINGLE_WORDS words."""
    words = [w.lower() for p in paragraphs if p.kind is not ParagraphKind.MEDIA for w in words_of(p.text)]
    if len(words) < SHINGLE_WORDS:
        return np.zeros(SKETCH_SIZE, np.uint16)
    hashes = np.fromiter((word_hash(w) for w in words), np.uint64, len(words))
    windows = np.lib.stride_tricks.sliding_window_view(hashes, SHINGLE_WORDS)
    shingles = np.unique((windows * _POWERS).sum(axis=1, dtype=np.uint64))
    lowest = np.full(SKETCH_SIZE, np.iinfo(np.uint64).max, np.uint64)
    for part in np.array_split(shingles, max(1, len(shingles) // 4096)):
        lowest = np.minimum(lowest, _permute(part).min(axis=0))
    return np.maximum((lowest >> np.uint64(16)).astype(np.uint16), np.uint16(1))


def resemblance(sketch: Sketch, others: Sketch) -> npt.NDArray[np.float32]:
    """Return float32 (n,): the estimated Jaccard coefficient with each row of `others`, uint16 (n, SKETCH_SIZE).

    An empty body resembles nothing, not even another empty one.
    """
    same: npt.NDArray[np.float32] = (others == sketch).mean(axis=1, dtype=np.float32)
    same[others[:, 0] == _EMPTY] = 0
    return same


def _permute(shingles: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed = shingles[:, None] * _MULTIPLIERS + _INCREMENTS
    return mixed ^ (mixed >> np.uint64(29))
