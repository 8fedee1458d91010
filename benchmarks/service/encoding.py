"""Encode drafts without a service, one at a time, in a process of its own, as the service's encoder does."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.service.client import ANSWERS_MIN, Block
from benchmarks.service.hosting import pin
from recommender.encoding.embedder import Embedder


class _Encoder(NamedTuple):
    embedder: Embedder
    texts: Iterator[list[str]]
    load_s: float


_encoder: _Encoder


def load(cores: frozenset[int], make: Callable[[], Embedder], texts: list[list[str]]) -> None:
    """Start in a new process: pin it to the service's cores, so that torch sees as many, and load the model."""
    global _encoder
    pin(cores)
    started = time.perf_counter()
    embedder = make()
    load_s = time.perf_counter() - started
    for some in texts[:ANSWERS_MIN]:
        embedder.encode(some)
    _encoder = _Encoder(embedder, itertools.cycle(texts), load_s)


def load_seconds() -> float:
    """Return how long loading the model took, imports included."""
    return _encoder.load_s


def run(seconds: float) -> Block:
    """Encode the texts of one draft after the other for `seconds`, with garbage collection off."""
    samples: list[float] = []
    clock = time.perf_counter
    gc.collect()
    gc.disable()
    try:
        used, start = time.process_time(), clock()
        while len(samples) < ANSWERS_MIN or clock() < start + seconds:
            some = next(_encoder.texts)
            started = clock()
            _encoder.embedder.encode(some)
            samples.append(clock() - started)
        return Block(samples, clock() - start, time.process_time() - used)
    finally:
        gc.enable()
