"""How figures are written."""

from __future__ import annotations

import math

_SIZES = ((1_000_000, "M"), (1_000, "k"))
"""Units of corpus sizes with their letters, the largest first."""


def duration(us: float) -> str:
    """Return microseconds with three digits and the unit that suits: "453 µs", "4.97 ms", "1.2 s"."""
    for least, unit in ((1e6, "s"), (1e3, "ms")):
        if us >= least * 0.9995:
            return f"{_digits(us / least)} {unit}"
    return f"{_digits(us)} µs"


def count(number: int) -> str:
    """Return a corpus size in short, "10k" or "1M"; in full where that would round it."""
    for unit, letter in _SIZES:
        if number >= unit and number % unit == 0:
            return f"{number // unit}{letter}"
    return f"{number:,}"


def share(value: float) -> str:
    """Return a recall with three digits, rounded down so that none looks better than it is: ".979"."""
    return f"{math.floor(value * 1_000 + 1e-6) / 1_000:.3f}".removeprefix("0")


def ratio(value: float) -> str:
    """Return a ratio with three digits: "1.85", "0.452"."""
    return _digits(value)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"
