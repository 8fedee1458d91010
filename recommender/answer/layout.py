"""Layouts: what an operator configures, the slots of a page and how each is filled."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recommender.catalog.checks import clean_label, make_language
from recommender.catalog.snapshot.scope import Scope
from recommender.errors import InvalidInputError

DEFAULT_LAYOUT_NAME = "default"
"""Name of the layout that a request without one gets."""
_EVERY = "*"
"""Among languages or sites: all of them."""
PLACES_MAX = 50
"""Most places in all slots of a layout."""
SLOTS_MAX = 10
"""Most slots of a layout."""
LABELS_MAX = 100
"""Most labels in one filter."""
INLINE_MIN_SCORE = 0.5
"""Default threshold of an inline slot."""
END_MIN_SCORE = 0.25
"""Default threshold of an end slot."""

Name = Annotated[str, Field(min_length=1, max_length=64)]
Labels = Annotated[frozenset[str], Field(max_length=LABELS_MAX)]
Days = Annotated[float, Field(gt=0, le=3_652_500)]
"""A duration in days, at most the 10,000 years of a protobuf Duration."""


class Placement(enum.StrEnum):
    """Where a slot stands: between paragraphs, or after the last one."""

    INLINE = "inline"
    END = "end"


class Fallback(enum.StrEnum):
    """What fills a place that no related article is good enough for."""

    NONE = "none"
    LATEST_IN_SECTION = "latest_in_section"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SlotFilters(_Settings):
    """Restricts what a slot may link to. An empty list does not restrict, nor do languages or sites with "*"."""

    sections: Labels = frozenset()
    tags: Labels = frozenset()
    languages: Labels = frozenset()
    sites: Labels = frozenset()

    @field_validator("sections", "tags", "sites")
    @classmethod
    def _as_stored(cls, values: frozenset[str]) -> frozenset[str]:
        try:
            return frozenset(clean_label(value, "label") for value in values)
        except InvalidInputError as error:
            raise ValueError(f"a label {error.problem}") from None

    @field_validator("languages")
    @classmethod
    def _primary(cls, values: frozenset[str]) -> frozenset[str]:
        try:
            return frozenset(value if value == _EVERY else make_language(value) for value in values)
        except InvalidInputError as error:
            raise ValueError(error.problem) from None

    def scope(self) -> Scope:
        """Return the filters as a Scope."""
        languages = None if _EVERY in self.languages else self.languages or None
        sites = None if _EVERY in self.sites else self.sites or None
        return Scope(self.sections or None, self.tags or None, languages, sites)


class Slot(_Settings):
    """One slot: `count` places filled in the same way."""

    name: Name
    placement: Placement
    count: Annotated[int, Field(ge=1, le=20)]
    min_score: Annotated[float, Field(ge=0, le=1)] | None = None
    """Least score of a link, its threshold; None is 0.5 for inline, 0.25 for end."""
    max_age_days: Days | None = None
    """Greatest age of a linked article at the page's date; evergreen articles are exempt."""
    freshness_half_life_days: Days | None = None
    """The age that freshness is measured in; None derives it from the archive's publishing rate."""
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.3
    """How different the links of a page are to be: the weight of similarity in MMR, 1 - lambda."""
    filters: SlotFilters = SlotFilters()
    fallback: Fallback = Fallback.NONE
    first_after_text_paragraphs: Annotated[int, Field(ge=1, le=100)] = 3
    """Inline: least number of text paragraphs before a link."""
    spacing_text_paragraphs: Annotated[int, Field(ge=1, le=100)] = 2
    """Inline: least number of text paragraphs between two links."""
    min_text_paragraphs: Annotated[int, Field(ge=1, le=1000)] = 5
    """Inline: a page with fewer text paragraphs gets no link."""

    @property
    def threshold(self) -> float:
        """Return the least score of a link: min_score, or the placement's default."""
        if self.min_score is not None:
            return self.min_score
        return INLINE_MIN_SCORE if self.placement is Placement.INLINE else END_MIN_SCORE


class Layout(_Settings):
    """The slots of a page, filled in this order: an earlier slot has the first choice."""

    name: Name
    slots: Annotated[tuple[Slot, ...], Field(min_length=1, max_length=SLOTS_MAX)]

    @model_validator(mode="after")
    def _check(self) -> Layout:
        names = [slot.name for slot in self.slots]
        if len(set(names)) < len(names):
            raise ValueError("two slots have the same name")
        if sum(slot.count for slot in self.slots) > PLACES_MAX:
            raise ValueError(f"more than {PLACES_MAX} places in all")
        return self


DEFAULT_LAYOUT = Layout(
    name=DEFAULT_LAYOUT_NAME,
    slots=(
        Slot(name="related_news", placement=Placement.INLINE, count=2),
        Slot(name="read_more", placement=Placement.END, count=3),
    ),
)
"""A news page as readers know it: up to two "Related News" links in the text and a "Read More" list of three."""
