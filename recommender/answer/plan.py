"""What an answer is made of: frozen values, free of gRPC and of the live view."""

from __future__ import annotations

from dataclasses import dataclass

from recommender.answer.layout import Slot
from recommender.answer.slots import Empty
from recommender.catalog.snapshot.record import Record


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of evidence: its value, and what it adds to the log-odds of the score."""

    name: str
    value: float
    contribution: float


@dataclass(frozen=True, slots=True, eq=False)
class Recommendation:
    """A chosen article, and why. score: 0 to 1, 0 for a fallback. parts: largest contribution first."""

    record: Record
    published_at_ms: int
    score: float
    parts: tuple[Part, ...]
    reason: str
    fallback: bool


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One place of a slot: a recommendation, or why there is none."""

    recommendation: Recommendation | None
    after_paragraph: int | None = None
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an answer came about. removals: how many candidates each rule removed, in the order of application."""

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
    """The filled page: each slot of the layout, in its order, with its places."""

    slots: tuple[tuple[Slot, tuple[Place, ...]], ...]
    receipt: Receipt


@dataclass(frozen=True, slots=True, eq=False)
class RelatedList:
    """A flat answer, best first."""

    recommendations: tuple[Recommendation, ...]
    receipt: Receipt
