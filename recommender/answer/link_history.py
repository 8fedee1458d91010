"""What editors linked to before: the links of earlier pages, as evidence for a page of now.

A story's articles are linked to again and again, and what the page of yesterday was linked to is likely to suit the
page of today. Only links of pages older than KNOWN_AFTER_MS count, so that what is measured on the past is what a
ranker fitted anew every night would have known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import id_hash
from recommender.clock import DAY_MS

KNOWN_AFTER_MS = DAY_MS
"""A page's links are known a day after the page, when the ranker was fitted again."""

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class PastLink:
    """One link that an editor placed. at_ms: when its source was published."""

    source_id: str
    target_id: str
    at_ms: int


class LinkHistory:
    """Editors' links, found by target. Immutable."""

    def __init__(self, links: Iterable[PastLink]) -> None:
        """Index the links; the same pair counts once, from its first time on."""
        first: dict[tuple[str, str], int] = {}
        for link in links:
            pair = (link.source_id, link.target_id)
            first[pair] = min(first.get(pair, link.at_ms), link.at_ms)
        self.links = tuple(PastLink(*pair, at_ms) for pair, at_ms in sorted(first.items()))
        targets = np.array([id_hash(link.target_id) for link in self.links], np.uint64)
        order = np.argsort(targets, kind="stable")
        self._targets = targets[order]
        self._sources = np.array([id_hash(link.source_id) for link in self.links], np.uint64)[order]
        self._at_ms = np.array([link.at_ms for link in self.links], np.int64)[order]
        self._times = np.unique(self._at_ms)

    def same_until_ms(self, as_of_ms: int) -> int:
        """Return when the next link becomes known after `as_of_ms`; 2**63 - 1 if none does."""
        known_at = self._times + KNOWN_AFTER_MS
        at = int(np.searchsorted(known_at, as_of_ms, "right"))
        return int(known_at[at]) if at < len(known_at) else 2**63 - 1

    def features(self, candidates: Hashes, likeness: Floats, as_of_ms: int) -> tuple[Floats, Floats]:
        """Return for each candidate how many pages link to it, and how like the likest of them is; both float32 (n,).

        The second looks at pages that are candidates themselves, and is 0 where none is. candidates: uint64 (n,),
        `id_hash` of their ids. likeness: float32 (n,), with the page.
        """
        count, nearest = np.zeros(len(candidates), np.float32), np.zeros(len(candidates), np.float32)
        starts = np.searchsorted(self._targets, candidates, "left")
        counts = np.searchsorted(self._targets, candidates, "right") - starts
        total = int(counts.sum())
        if not total:
            return count, nearest
        of = np.repeat(np.arange(len(candidates)), counts)
        flat = np.arange(total) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        known = self._at_ms[flat] <= as_of_ms - KNOWN_AFTER_MS
        of, sources = of[known], self._sources[flat[known]]
        count += np.bincount(of, minlength=len(candidates)).astype(np.float32)
        order = np.argsort(candidates)
        at = order[np.minimum(np.searchsorted(candidates, sources, sorter=order), len(candidates) - 1)]
        there = candidates[at] == sources
        np.maximum.at(nearest, of[there], likeness[at[there]])
        return count, nearest
