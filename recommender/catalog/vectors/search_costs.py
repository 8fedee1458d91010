"""What decides how a search goes: exactly or by product codes, how many lists it probes, how many rows it re-ranks."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCosts:
    """Costs and limits of vector search, with measured defaults. The unit of cost is the scan of one product code."""

    scan_rows_max: int = 12_000
    """Up to this number of contiguous rows are always scanned exactly: .2 ms, 16 ns a row.

    Measured with 384 dimensions on one thread.
    """
    scan_cost: int = 6
    """Cost of comparing one contiguous row exactly. Larger ranges are scanned too where codes would cost more."""
    gather_rows_max: int = 2_000
    """Up to this number of scattered rows are always compared exactly."""
    gather_cost: int = 30
    """Cost of comparing one scattered row exactly: gathering it takes 70 ns more."""
    probed_codes: tuple[tuple[int, int], ...] = (
        (30_000, 9_000),
        (100_000, 21_000),
        (300_000, 55_000),
        (1_000_000, 90_000),
        (10_000_000, 210_000),
        (100_000_000, 420_000),
    )
    """(eligible rows, codes to scan), ascending, interpolated log-linearly.

    Calibrated on generated vectors to recall@100 of .98 to .99 with 1,000 rows re-ranked; the last point is
    extrapolated. The table holds for a whole archive as for a period or a site of a larger one.
    """
    rerank_min: int = 800
    """Re-rank this number of candidates, and `rerank_per_hit` times k more. Recall@100 at 100,000 rows: .989."""
    rerank_per_hit: int = 2
    """Candidates to re-rank for each requested hit, beside `rerank_min`."""
    rerank_growth_rows: int = 1_000_000
    """Above this number of eligible rows `rerank_min` grows: in a denser archive codes tell the nearest less well."""
    rerank_growth: float = 0.4
    """Exponent of that growth: `rerank_min` is 2,010 at 10,000,000 rows."""
    far_coverage: float = 0.5
    """Clustered rows are far from a query if the lists probed for all rows hold less than this share of them."""
    far_probed_share: float = 0.8
    """Probe lists until they hold this share of clustered rows that are far from the query.

    The nearest of such rows are about equally far, so the order of the lists says little.
    """
    far_rerank_times: int = 4
    """Re-rank this many times more candidates among such rows.

    Measured among 1 % of 10,000,000 rows, subjects drawn at random: recall@100 is .992 with 3,200 candidates; it is .88
    with 800 of them and a quarter of the rows probed. See docs/measurements.md.
    """
    lists_rows_min: int = 300_000
    """Smaller sets of rows are one list: it takes .17 ms for 100,000 rows on one thread, and several save nothing."""

    def codes_to_scan(self, eligible: int) -> float:
        """Return how many of `eligible` rows' codes a search scans."""
        at = bisect_right(self.probed_codes, eligible, key=itemgetter(0))
        rows, codes = self.probed_codes[max(at - 1, 0)]
        more_rows, more_codes = self.probed_codes[min(at, len(self.probed_codes) - 1)]
        between = math.log(eligible / rows) / math.log(more_rows / rows) if rows < more_rows else 0.0
        return float(min(eligible, codes * (more_codes / codes) ** between))

    def rows_to_rerank(self, k: int, eligible: int) -> int:
        """Return how many candidates among `eligible` rows are re-ranked for k hits."""
        growth: float = max(1.0, eligible / self.rerank_growth_rows) ** self.rerank_growth
        return round(self.rerank_min * growth) + self.rerank_per_hit * k


MEASURED = SearchCosts()
"""The product's own costs; tests pass others to force one way of searching."""
