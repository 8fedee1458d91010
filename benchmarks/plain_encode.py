"""The product's embedder beside plain `SentenceTransformer.encode` in float32, on the same texts, by turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.result import SAMPLES, rounded_us
from recommender.encoding.embedder import EMBEDDED_MODEL, Matrix, locate_model

BLOCK_TEXTS = 64
"""Texts encoded by one before the other takes its turn."""
PLAIN_BATCH_TEXTS = 32
"""Texts in a batch of plain `encode`: its default."""

Encode = Callable[[Sequence[str]], Matrix]


def load_plain() -> Encode:
    """Return plain `encode` of sentence-transformers: the default model's files, float32, on the CPU."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(locate_model(EMBEDDED_MODEL)), device="cpu", local_files_only=True)
    return lambda texts: np.asarray(model.encode(list(texts), batch_size=PLAIN_BATCH_TEXTS, show_progress_bar=False))


def beside_plain(texts: Sequence[str], ours: Encode, plain: Encode) -> dict[str, Any]:
    """Encode every text both ways, block by block by turns, so that noise of the machine hits both.

    The one that begins changes from block to block; a first block of each is not counted. A sample is a whole block.
    """
    ways = {"ours": ours, "plain": plain}
    for encode in ways.values():
        encode(texts[:BLOCK_TEXTS])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cosines = []
    for number, start in enumerate(range(0, len(texts), BLOCK_TEXTS)):
        block = texts[start : start + BLOCK_TEXTS]
        made = {}
        for name in sorted(ways, reverse=number % 2 == 1):
            started = time.perf_counter()
            made[name] = ways[name](block)
            seconds[name].append(time.perf_counter() - started)
        cosines.append(_cosines(made["ours"], made["plain"]))
    per_second = {name: len(texts) / sum(spent) for name, spent in seconds.items()}
    every = np.concatenate(cosines)
    return {
        "texts": len(texts),
        "block_texts": BLOCK_TEXTS,
        "texts_per_s": per_second,
        "ratio": per_second["ours"] / per_second["plain"],
        "median_ratio_of_blocks": float(np.median(np.divide(seconds["plain"], seconds["ours"]))),
        "least_cosine": float(every.min()),
        "mean_cosine": float(every.mean()),
        "blocks": {name: {SAMPLES: rounded_us(spent)} for name, spent in seconds.items()},
    }


def _cosines(a: Matrix, b: Matrix) -> Matrix:
    a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
    cosines: Matrix = (a * b).sum(axis=1)
    return cosines
