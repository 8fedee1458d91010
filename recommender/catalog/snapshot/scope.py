"""A scope: which articles may be chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import Flag, Tags, label_codes
from recommender.catalog.vectors.index import RowMask

ReadColumn = Callable[[str], npt.NDArray[Any]]
"""Function from a column's name to its values, for a certain set of rows."""


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
        """The labels that a column may hold, by column; without the columns that may hold any."""
        labels = {"section": self.sections, "language": self.languages, "site": self.sites}
        return {column: some for column, some in labels.items() if some is not None}

    @property
    def size(self) -> int:
        """Number of labels that the scope names."""
        return sum(map(len, (*self.labels.values(), self.tags or ())))

    def without_labels_of(self, column: str) -> Scope:
        """Return the same scope without its filter on one column."""
        any_label: dict[str, Any] = {f"{column}s": None}
        return replace(self, **any_label)

    def mask(self, read: ReadColumn, tags: Tags | None = None) -> RowMask:
        """Return bool (rows,): whether a row is in the scope.

        read: reads the rows' columns. tags: the rows' tags; needed only if the scope names tags.
        """
        mask: RowMask = (read("flags") & Flag.NEVER_TARGET.value) == 0
        for column, labels in self.labels.items():
            mask &= np.isin(read(column), label_codes(labels))
        if self.evergreen_only:
            mask &= (read("flags") & Flag.EVERGREEN.value) != 0
        if self.tags is not None:
            assert tags is not None
            mask &= tags.mask(self.tags)
        if self.published_from_ms:
            mask &= read("published_at_ms") >= self.published_from_ms
        if self.published_before_ms:
            mask &= read("published_at_ms") < self.published_before_ms
        return mask

    def narrowed(self, other: Scope) -> Scope:
        """Return the scope of the articles that are in both scopes."""
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
