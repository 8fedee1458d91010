"""Time the stages of a call by wrapping functions from outside; the timed code knows nothing of it."""

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
"""Calls that measure the cost of one wrapper."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A function, by its owner (a module or class) and its name there.

    labels: what its time is booked under: the n-th call of a round under the n-th, later calls under the last.
    """

    owner: Any
    name: str
    labels: tuple[str, ...]


class StageTimer:
    """Sums of the time in wrapped functions, without the wrapped functions that they call. One thread."""

    def __init__(self) -> None:
        """Begin with an empty round."""
        self._seconds: dict[str, float] = {}
        self._calls = 0
        self._nth: Counter[int] = Counter()
        self._inside: list[float] = [0.0]

    def take(self) -> tuple[dict[str, float], int]:
        """End a round and begin the next: return the seconds of each label and the number of wrapped calls."""
        taken = self._seconds, self._calls
        self._seconds, self._calls, self._nth, self._inside = {}, 0, Counter(), [0.0]
        return taken

    @contextmanager
    def timing(self, stages: Sequence[Stage]) -> Iterator[None]:
        """Wrap these functions within the block."""
        with ExitStack() as stack:
            for number, stage in enumerate(stages):
                wrapped = self.wrapped(getattr(stage.owner, stage.name), stage.labels, number)
                stack.enter_context(mock.patch.object(stage.owner, stage.name, wrapped))
            yield

    def wrapped(self, function: Callable[..., Any], labels: tuple[str, ...], number: int) -> Callable[..., Any]:
        """Return a function that times `function`. number: identifies it when calls of a round are counted."""
        clock = time.perf_counter

        @functools.wraps(function)
        def call(*values: Any, **named: Any) -> Any:
            nth = self._nth[number]
            self._nth[number] = nth + 1
            label = labels[min(nth, len(labels) - 1)]
            inside = self._inside
            inside.append(0.0)
            started = clock()
            try:
                return function(*values, **named)
            finally:
                took = clock() - started
                self._seconds[label] = self._seconds.get(label, 0.0) + took - inside.pop()
                inside[-1] += took
                self._calls += 1

        return call


def wrapper_s() -> float:
    """Return the cost of wrapping for one call, seconds: the difference of the medians with and without."""

    def nothing() -> None:
        return None

    wrapped = StageTimer().wrapped(nothing, ("nothing",), 0)
    return _each(wrapped) - _each(nothing)


def _each(function: Callable[[], object]) -> float:
    samples = []
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(_TRIES // 20):
            function()
        samples.append((time.perf_counter() - started) / (_TRIES // 20))
    return float(np.median(samples))
