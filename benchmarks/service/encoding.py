"""Encoding drafts alone, in a process of its own, as the service's encoder process does it for one draft at a time."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.service.client import LEAST_EACH, Block
from benchmarks.service.hosting import pin
from recommender.encoding.embedder import Embedder


class _Encoder(NamedTuple):
    embedder: Embedder
    texts: Iterator[list[str]]
    load_s: float


_encoder: _Encoder


def load(cores: frozenset[int], make: Callable[[], Embedder], texts: list[list[str]]) -> None:
    """Begin in a new process: take the service's cores, so that torch sees as many as there, and load the model."""
    global _encoder
    pin(cores)
    begun = time.perf_counter()
    embedder = make()
    load_s = time.perf_counter() - begun
    for some in texts[:LEAST_EACH]:
        embedder.encode(some)
    _encoder = _Encoder(embedder, itertools.cycle(texts), load_s)


def load_seconds() -> float:
    """Return how long loading took, imports included."""
    return _encoder.load_s


def run(seconds: float) -> Block:
    """Encode one draft's texts after the other for so long, garbage collection off."""
    samples: list[float] = []
    clock = time.perf_counter
    gc.collect()
    gc.disable()
    try:
        used, start = time.process_time(), clock()
        while len(samples) < LEAST_EACH or clock() < start + seconds:
            some = next(_encoder.texts)
            begun = clock()
            _encoder.embedder.encode(some)
            samples.append(clock() - begun)
        return Block(samples, clock() - start, time.process_time() - used)
    finally:
        gc.enable()
