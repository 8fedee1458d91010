"""Ranking metrics over editors' links, one value a page; their mean and a bootstrap interval. Pure.

Every function takes `gains`, bool (k,): whether the link at each of the first k ranks, best first, is one that the
editor placed, and `relevant`, the number of links that the editor placed (1 or more).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from indexer.evaluation.report import SystemMetrics

CUTOFF = 10
"""Ranks that nDCG, MRR and recall look at."""
HIT_CUTOFF = 3
"""Ranks that the hit rate looks at."""
RESAMPLES = 2_000
"""Bootstrap samples of an interval."""
_SEED = 20_260_101
"""Seed of the bootstrap."""

Gains = npt.NDArray[np.bool_]


def gains(ranked: Sequence[str], relevant: frozenset[str]) -> Gains:
    """Return bool (CUTOFF,): which of the first ranks have a relevant id; False beyond the list's end."""
    first = list(ranked[:CUTOFF])
    return np.array([i < len(first) and first[i] in relevant for i in range(CUTOFF)])


def ndcg(gains: Gains, relevant: int) -> float:
    """Return nDCG (Jarvelin and Kekalainen 2002), binary gains, discount log2(rank + 1). `gains` may be shorter."""
    discounts = 1 / np.log2(np.arange(2, CUTOFF + 2))
    return float((gains * discounts[: len(gains)]).sum() / discounts[:relevant].sum())


def reciprocal_rank(gains: Gains) -> float:
    """Return 1 / rank of the first relevant one, 0 if there is none."""
    ranks = np.flatnonzero(gains)
    return 1 / (float(ranks[0]) + 1) if len(ranks) else 0.0


def recall(gains: Gains, relevant: int) -> float:
    """Return the share of the relevant ones that are among the first ranks."""
    return float(gains.sum()) / relevant


def hit(gains: Gains) -> float:
    """Return 1 if one of the first HIT_CUTOFF ranks is relevant, else 0."""
    return float(gains[:HIT_CUTOFF].any())


def page_metrics(ranked: Sequence[str], relevant: frozenset[str]) -> dict[str, float]:
    """Return all metrics of one page by name."""
    page_gains = gains(ranked, relevant)
    return {
        f"ndcg@{CUTOFF}": ndcg(page_gains, len(relevant)),
        f"mrr@{CUTOFF}": reciprocal_rank(page_gains),
        f"recall@{CUTOFF}": recall(page_gains, len(relevant)),
        f"hit@{HIT_CUTOFF}": hit(page_gains),
    }


def summarise(pages: Sequence[Mapping[str, float]]) -> SystemMetrics:
    """Return the mean of every metric over pages, with its bootstrap percentile interval.

    Pages are drawn with replacement RESAMPLES times (Efron 1979), with a fixed seed: the same pages give the same
    interval, and two systems on the same pages get the same draws.
    """
    if not pages:
        return SystemMetrics({}, {})
    names = list(pages[0])
    values = np.array([[page[name] for name in names] for page in pages])
    random = np.random.default_rng(_SEED)
    means = np.array([values[random.integers(0, len(values), len(values))].mean(axis=0) for _ in range(RESAMPLES)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return SystemMetrics(
        means={name: float(value) for name, value in zip(names, values.mean(axis=0), strict=True)},
        intervals={name: (float(low[i]), float(high[i])) for i, name in enumerate(names)},
    )
