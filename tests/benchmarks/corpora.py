"""Small corpora for tests of the benchmarks: clustered vectors in a file like those of benchmarks.embed_passages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.peers import corpus
from benchmarks.peers.generator import normalised

DIMENSION = 32


def write_passages(folder: Path, rows: int = 3_000) -> Path:
    """Write clustered unit vectors, float16 (rows, DIMENSION)."""
    random = np.random.default_rng(7)
    centres = random.standard_normal((40, DIMENSION)).astype(np.float32)
    vectors = centres[random.integers(40, size=rows)] + random.standard_normal((rows, DIMENSION)).astype(np.float32)
    path = folder / "passages.npy"
    np.save(path, normalised(vectors).astype(np.float16))
    return path


def small_corpus(folder: Path, rows: int = 1_500, queries: int = 40) -> corpus.Corpus:
    """Return a corpus of real passages in `folder`."""
    return corpus.make(folder / "corpus", write_passages(folder), rows, queries, seed=1)
