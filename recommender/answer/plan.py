"""The answer as a caller reads it: frozen values, independent of gRPC and of the live view."""

from __future__ import annotations

from dataclasses import dataclass

from recommender.answer.layout import Slot
from recommender.answer.slots import Empty
from recommender.catalog.snapshot.record import Record


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a score: its value, and what it adds to the log-odds."""

    name: str
    value: float
    contribution: float


@dataclass(frozen=True, slots=True, eq=False)
class Recommendation:
    """A chosen article, and why.

    article: id, url, title and the other labels of the linked article.
    score: 0 to 1; 0 for a fallback.
    parts: largest contribution first, "base" last; none for a fallback.
    reason: a short English phrase for editors.
    fallback: whether it is there as the latest of its section, not as related.
    """

    article: Record
    published_at_ms: int
    score: float
    parts: tuple[Part, ...]
    reason: str
    fallback: bool


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One place of a slot: a recommendation, or the reason why there is none.

    after_paragraph: 0-based index of the paragraph that the link follows; None in an end slot.
    """

    recommendation: Recommendation | None
    after_paragraph: int | None = None
    empty: Empty | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FilledSlot:
    """One slot of the layout with its places. Inline links come in the order of the page, end links best first.

    Places without a link come last.
    """

    slot: Slot
    places: tuple[Place, ...]

    @property
    def name(self) -> str:
        """Return the slot's name."""
        return self.slot.name


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an answer came about. removals: number of candidates that each rule removed, in the order of application."""

    revision: int
    encoder: str
    ranker: str
    layout: str
    as_of_ms: int
    candidates_seen: int
    removals: dict[str, int]
    page_language: str


@dataclass(frozen=True, slots=True, eq=False)
class PagePlan:
    """The filled page: the layout's slots in its order."""

    slots: tuple[FilledSlot, ...]
    receipt: Receipt


@dataclass(frozen=True, slots=True, eq=False)
class RelatedList:
    """The related articles of a page, best first."""

    recommendations: tuple[Recommendation, ...]
    receipt: Receipt
