"""Ranking metrics over editors' links, one value a page; their mean and a bootstrap interval. Pure.

Every function takes `gains`, bool (k,): whether each of the first k places holds a link that the editor placed, best
place first, and `relevant`, the number of links that the editor placed (1 or more).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

CUTOFF = 10
HIT_CUTOFF = 3
RESAMPLES = 2_000
_SEED = 20_260_101

Gains = npt.NDArray[np.bool_]


def gains(ranked: Sequence[str], relevant: frozenset[str]) -> Gains:
    """Return bool (CUTOFF,): which of the first places hold a relevant id; False beyond the list's end."""
    first = list(ranked[:CUTOFF])
    return np.array([i < len(first) and first[i] in relevant for i in range(CUTOFF)])


def ndcg(gains: Gains, relevant: int) -> float:
    """Return nDCG (Jarvelin and Kekalainen 2002), binary gains, discount log2(place + 1). `gains` may be shorter."""
    discounts = 1 / np.log2(np.arange(2, CUTOFF + 2))
    return float((gains * discounts[: len(gains)]).sum() / discounts[:relevant].sum())


def reciprocal_rank(gains: Gains) -> float:
    """Return 1 / place of the first relevant one, 0 if there is none."""
    places = np.flatnonzero(gains)
    return 1 / (float(places[0]) + 1) if len(places) else 0.0


def recall(gains: Gains, relevant: int) -> float:
    """Return the share of the relevant ones that are among the first places."""
    return float(gains.sum()) / relevant


def hit(gains: Gains) -> float:
    """Return 1 if one of the first HIT_CUTOFF places is relevant, else 0."""
    return float(gains[:HIT_CUTOFF].any())


def page_metrics(ranked: Sequence[str], relevant: frozenset[str]) -> dict[str, float]:
    """Return all metrics of one page by name."""
    found = gains(ranked, relevant)
    return {
        f"ndcg@{CUTOFF}": ndcg(found, len(relevant)),
        f"mrr@{CUTOFF}": reciprocal_rank(found),
        f"recall@{CUTOFF}": recall(found, len(relevant)),
        f"hit@{HIT_CUTOFF}": hit(found),
    }


def summarise(pages: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the mean of every metric over pages, and under "ci95" the bootstrap percentile intervals of the means.

    Pages are drawn with replacement RESAMPLES times (Efron 1979), with a fixed seed: the same pages give the same
    interval, and two systems on the same pages see the same draws.
    """
    if not pages:
        return {}
    names = list(pages[0])
    values = np.array([[page[name] for name in names] for page in pages])
    random = np.random.default_rng(_SEED)
    means = np.array([values[random.integers(0, len(values), len(values))].mean(axis=0) for _ in range(RESAMPLES)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    summary: dict[str, Any] = {name: float(value) for name, value in zip(names, values.mean(axis=0), strict=True)}
    summary["ci95"] = {name: [float(low[i]), float(high[i])] for i, name in enumerate(names)}
    return summary
