"""Times what a call does by wrapping functions from outside; the code that is timed knows nothing of it."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

_TRIES = 20_000


@dataclass(frozen=True, slots=True)
class Stage:
    """A function by its owner, a module or class, and its name there.

    labels: what its time counts as; the n-th call in a round counts as the n-th, later ones as the last.
    """

    owner: Any
    name: str
    labels: tuple[str, ...]


class Stopwatch:
    """Adds up what functions take themselves, without the wrapped functions that they call. One thread."""

    def __init__(self) -> None:
        """Begin with an empty round."""
        self._seconds: dict[str, float] = {}
        self._calls = 0
        self._nth: Counter[int] = Counter()
        self._inside: list[float] = [0.0]

    def take(self) -> tuple[dict[str, float], int]:
        """End a round: return the seconds of each label in it and the number of wrapped calls, and begin the next."""
        taken = self._seconds, self._calls
        self._seconds, self._calls, self._nth, self._inside = {}, 0, Counter(), [0.0]
        return taken

    @contextmanager
    def watching(self, stages: Sequence[Stage]) -> Iterator[None]:
        """Wrap these functions until the end."""
        with ExitStack() as stack:
            for number, stage in enumerate(stages):
                watched = self.watched(getattr(stage.owner, stage.name), stage.labels, number)
                stack.enter_context(mock.patch.object(stage.owner, stage.name, watched))
            yield

    def watched(self, function: Callable[..., Any], labels: tuple[str, ...], number: int) -> Callable[..., Any]:
        """Return a function wrapped. number: tells functions apart when calls of a round are counted."""
        clock = time.perf_counter

        @functools.wraps(function)
        def call(*values: Any, **named: Any) -> Any:
            nth = self._nth[number]
            self._nth[number] = nth + 1
            label = labels[min(nth, len(labels) - 1)]
            inside = self._inside
            inside.append(0.0)
            begun = clock()
            try:
                return function(*values, **named)
            finally:
                took = clock() - begun
                self._seconds[label] = self._seconds.get(label, 0.0) + took - inside.pop()
                inside[-1] += took
                self._calls += 1

        return call


def wrapper_s() -> float:
    """Return what wrapping costs for one call, seconds: the median difference to the same call without."""

    def nothing() -> None:
        return None

    stopwatch = Stopwatch()
    wrapped = stopwatch.watched(nothing, ("nothing",), 0)
    return _each(wrapped) - _each(nothing)


def _each(function: Callable[[], object]) -> float:
    samples = []
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(_TRIES // 20):
            function()
        samples.append((time.perf_counter() - begun) / (_TRIES // 20))
    return float(np.median(samples))
