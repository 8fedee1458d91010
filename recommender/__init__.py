"""Related News: the articles of a publisher's own archive that fill a page's slots.

    from recommender import open_index

    with open_index("data") as index:
        plan = index.fill_slots("an-article-id")

Names are imported when they are first used: `import recommender` costs nothing, and to answer by id imports neither
grpc nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recommender import errors as errors
    from recommender.answer.layout import Fallback as Fallback
    from recommender.answer.layout import Layout as Layout
    from recommender.answer.layout import Placement as Placement
    from recommender.answer.layout import Slot as Slot
    from recommender.answer.layout import SlotFilters as SlotFilters
    from recommender.answer.page import Draft as Draft
    from recommender.answer.plan import FilledSlot as FilledSlot
    from recommender.answer.plan import PagePlan as PagePlan
    from recommender.answer.plan import Place as Place
    from recommender.answer.plan import Recommendation as Recommendation
    from recommender.answer.plan import RelatedList as RelatedList
    from recommender.answer.recommend import Recommender as Recommender
    from recommender.answer.recommend import Request as Request
    from recommender.catalog.articles import Labels as Labels
    from recommender.catalog.articles import Paragraph as Paragraph
    from recommender.catalog.articles import ParagraphKind as ParagraphKind
    from recommender.catalog.snapshot.scope import Scope as Scope
    from recommender.index import Index as Index
    from recommender.index import open_index as open_index

_HOMES = {
    "Draft": "recommender.answer.page",
    "Fallback": "recommender.answer.layout",
    "FilledSlot": "recommender.answer.plan",
    "Index": "recommender.index",
    "Labels": "recommender.catalog.articles",
    "Layout": "recommender.answer.layout",
    "PagePlan": "recommender.answer.plan",
    "Paragraph": "recommender.catalog.articles",
    "ParagraphKind": "recommender.catalog.articles",
    "Place": "recommender.answer.plan",
    "Placement": "recommender.answer.layout",
    "Recommendation": "recommender.answer.plan",
    "Recommender": "recommender.answer.recommend",
    "RelatedList": "recommender.answer.plan",
    "Request": "recommender.answer.recommend",
    "Scope": "recommender.catalog.snapshot.scope",
    "Slot": "recommender.answer.layout",
    "SlotFilters": "recommender.answer.layout",
    "open_index": "recommender.index",
}
"""The module of each public name. The imports above tell type checkers the same; a test compares the two."""

__all__ = [
    "Draft",
    "Fallback",
    "FilledSlot",
    "Index",
    "Labels",
    "Layout",
    "PagePlan",
    "Paragraph",
    "ParagraphKind",
    "Place",
    "Placement",
    "Recommendation",
    "Recommender",
    "RelatedList",
    "Request",
    "Scope",
    "Slot",
    "SlotFilters",
    "errors",
    "open_index",
]

if not TYPE_CHECKING:  # a checker that saw this would believe any name

    def __getattr__(name: str) -> object:
        """Import a public name on its first use (PEP 562)."""
        if name == "errors":
            return importlib.import_module("recommender.errors")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
