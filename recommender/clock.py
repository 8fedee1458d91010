"""The clock and its units: milliseconds since the Unix epoch, UTC."""

from __future__ import annotations

import time

DAY_MS = 86_400_000
"""A day."""
YEAR_MS = 365 * DAY_MS
"""A year without a leap day."""


def now_ms() -> int:
    """Return the present time."""
    return time.time_ns() // 1_000_000
