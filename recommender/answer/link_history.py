"""What editors linked to before: the links of earlier pages, read as features of a page's candidates.

A story's articles are linked to again and again: what suited yesterday's page is likely to suit today's. Only links of
pages older than KNOWN_AFTER_MS count, so that measurements on the past use what a ranker fitted every night would have
known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import id_hash
from recommender.clock import DAY_MS

KNOWN_AFTER_MS = DAY_MS
"""Milliseconds from a page's publication until its links count: a day, until the ranker is fitted again."""

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class PastLink:
    """One link that an editor placed. at_ms: when its source was published."""

    source_id: str
    target_id: str
    at_ms: int


class LinkHistory:
    """Editors' links, indexed by target. Immutable."""

    def __init__(self, links: Iterable[PastLink]) -> None:
        """Index the links. A pair that occurs twice counts once, from its earlier time on."""
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
        """Return the time after `as_of_ms` at which the next link begins to count; 2**63 - 1 if none does."""
        known_at = self._times + KNOWN_AFTER_MS
        index = int(np.searchsorted(known_at, as_of_ms, "right"))
        return int(known_at[index]) if index < len(known_at) else 2**63 - 1

    def features(self, candidates: Hashes, similarity: Floats, as_of_ms: int) -> tuple[Floats, Floats]:
        """Return for each candidate the number of pages that link to it, and the largest similarity of such a page.

        Both are float32 (n,). The second considers only pages that are candidates themselves; 0 if none is.
        candidates: uint64 (n,), `id_hash` of their ids.
        similarity: float32 (n,), of each candidate to the page.
        """
        linked, largest = np.zeros(len(candidates), np.float32), np.zeros(len(candidates), np.float32)
        starts = np.searchsorted(self._targets, candidates, "left")
        counts = np.searchsorted(self._targets, candidates, "right") - starts
        total = int(counts.sum())
        if not total:
            return linked, largest
        target = np.repeat(np.arange(len(candidates)), counts)
        flat = np.arange(total) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        counts_now = self._at_ms[flat] <= as_of_ms - KNOWN_AFTER_MS
        target, sources = target[counts_now], self._sources[flat[counts_now]]
        linked += np.bincount(target, minlength=len(candidates)).astype(np.float32)
        order = np.argsort(candidates)
        source = order[np.minimum(np.searchsorted(candidates, sources, sorter=order), len(candidates) - 1)]
        is_candidate = candidates[source] == sources
        np.maximum.at(largest, target[is_candidate], similarity[source[is_candidate]])
        return linked, largest
