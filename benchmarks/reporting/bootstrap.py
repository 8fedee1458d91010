"""Intervals for medians of latencies. These are serially correlated, and so are resampled in blocks of neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RESAMPLES = 1_000
"""Number of resampled series that an interval is made of."""
_SEED = 20_260_101
"""Seed of all draws, together with the length of the series."""
_VALUES_AT_ONCE = 2_000_000
"""Memory limit: number of samples drawn in one array."""

Samples = npt.NDArray[np.float64]


def resampled_medians(samples: Samples) -> Samples:
    """Return medians, float64 (RESAMPLES,), of `samples`, float64 (n,), in the order in which they were taken.

    Circular block bootstrap (Politis and Romano 1992): blocks of sqrt(n) neighbours, drawn with replacement, so that a
    slow second of the machine stays together. With lag-1 correlations of 0, .5 and .9 and n = 300, intervals of the
    ratio of two medians held the truth in 94, 96 and 81 % of simulations; without blocks in 99, 80 and 35 %.

    Series of one length get the same draws. Those of the same queries in the same order so stay paired; for unrelated
    ones it makes no difference. Raises ValueError if there are no samples.
    """
    n = len(samples)
    if not n:
        raise ValueError("no samples")
    block = max(1, round(n**0.5))
    random = np.random.default_rng((_SEED, n))
    within = np.arange(block)
    medians = []
    for count in _parts(RESAMPLES, max(1, _VALUES_AT_ONCE // n)):
        starts = random.integers(0, n, (count, -(-n // block), 1))
        drawn = ((starts + within) % n).reshape(count, -1)[:, :n]
        medians.append(np.median(samples[drawn], axis=1))
    return np.concatenate(medians)


def interval(replicates: Samples) -> tuple[float, float]:
    """Return the 95 % percentile interval."""
    low, high = np.percentile(replicates, [2.5, 97.5]).tolist()
    return low, high


def _parts(total: int, part_max: int) -> list[int]:
    return [min(part_max, total - done) for done in range(0, total, part_max)]
