"""A scope: which articles may be chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import Flag, Tags, label_codes
from recommender.catalog.vectors.index import RowMask

Read = Callable[[str], npt.NDArray[Any]]
"""From the name of a column to its values for the rows in question."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which articles may be chosen; None means all, an empty set none. Published in [from, before); 0 for no bound.

    An article that is never a target is in no scope.
    """

    sections: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    languages: frozenset[str] | None = None
    sites: frozenset[str] | None = None
    published_from_ms: int = 0
    published_before_ms: int = 0
    evergreen_only: bool = False

    @property
    def labels(self) -> dict[str, frozenset[str]]:
        """The labels that it asks for, by column; none for a column that may hold any."""
        asked = {"section": self.sections, "language": self.languages, "site": self.sites}
        return {column: labels for column, labels in asked.items() if labels is not None}

    @property
    def size(self) -> int:
        """Number of labels that it names."""
        return sum(map(len, (*self.labels.values(), self.tags or ())))

    def without_labels_of(self, column: str) -> Scope:
        """Return the scope that any label of this column passes."""
        any_label: dict[str, Any] = {f"{column}s": None}
        return replace(self, **any_label)

    def allowed(self, read: Read, tags: Tags | None = None) -> RowMask:
        """Return bool (rows,). read: the columns of the rows in question. tags: theirs, if it asks for tags."""
        allowed: RowMask = (read("flags") & Flag.NEVER_TARGET.value) == 0
        for column, labels in self.labels.items():
            allowed &= np.isin(read(column), label_codes(labels))
        if self.evergreen_only:
            allowed &= (read("flags") & Flag.EVERGREEN.value) != 0
        if self.tags is not None:
            assert tags is not None
            allowed &= tags.rows_with(self.tags)
        if self.published_from_ms:
            allowed &= read("published_at_ms") >= self.published_from_ms
        if self.published_before_ms:
            allowed &= read("published_at_ms") < self.published_before_ms
        return allowed

    def narrowed(self, other: Scope) -> Scope:
        """Return the scope of articles that are in both."""
        befores = [ms for ms in (self.published_before_ms, other.published_before_ms) if ms]
        return Scope(
            sections=_both(self.sections, other.sections),
            tags=_both(self.tags, other.tags),
            languages=_both(self.languages, other.languages),
            sites=_both(self.sites, other.sites),
            published_from_ms=max(self.published_from_ms, other.published_from_ms),
            published_before_ms=min(befores, default=0),
            evergreen_only=self.evergreen_only or other.evergreen_only,
        )


def _both(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second
