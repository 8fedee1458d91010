"""Summaries of figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return count, median, p99 and largest, milliseconds."""
    if not seconds:
        return {"count": 0}
    p50, p95, p99, most = np.quantile(np.array(seconds) * 1e3, [0.5, 0.95, 0.99, 1.0])
    ms = {"p50": p50, "p95": p95, "p99": p99, "max": most}
    return {"count": len(seconds), **{name: round(float(value), 2) for name, value in ms.items()}}
