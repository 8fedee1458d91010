"""A cache of page plans: a plan is returned again while nothing can have changed it.

A plan depends on the archive, the serving options, and on which articles were public at `as_of`. Between two articles'
publication nothing in it depends on the time: ages count from the page's own date, the publishing rate from the newest
article. A plan made in between is valid for that whole interval, to the bit. Any change of archive or options empties
the cache, so that a takedown holds here too.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from recommender.answer.layout import Layout
from recommender.answer.page import Draft
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Request
from recommender.catalog.live import Live
from recommender.serving.options import ServingOptions

PLANS_MAX = 2_000
"""Limits the cached plans; each takes about 6 kB, and its key."""
NAMES_MAX = 100
"""Limits the ids and labels that a cached request names; with more, its key would outweigh its plan."""

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[P]):
    """A plan that is valid for every as_of in [from_ms, until_ms)."""

    plan: P
    from_ms: int
    until_ms: int


class PlanCache(Generic[P]):
    """The plans requested last, of one state of archive and options. One thread."""

    def __init__(self, plans_max: int = PLANS_MAX) -> None:
        """Start empty; the plan requested longest ago makes room for a new one."""
        self._plans_max = plans_max
        self._state: tuple[object, ...] = ()
        self._entries: OrderedDict[Hashable, _Entry[P]] = OrderedDict()

    def plan(self, live: Live, options: ServingOptions, request: Request, layout: Layout, make: Callable[[], P]) -> P:
        """Return the plan of a page: the cached one if it is still right, else what `make` returns.

        The plan may differ in its receipt's as_of. Plans of drafts are not cached.
        """
        if isinstance(request.page, Draft):
            return make()
        self._empty_if_changed(live, options)
        key = (request.page, request.scope, request.on_page_ids, layout)
        plan = self.find(key, request.as_of_ms)
        if plan is None:
            plan = make()
            if _names(request, layout, options) <= NAMES_MAX:
                ranker = options.ranker_for(live.manifest.encoder)
                self.add(key, plan, request.as_of_ms, same_until_ms(live, ranker, request.page, request.as_of_ms))
        return plan

    def find(self, key: Hashable, as_of_ms: int) -> P | None:
        """Return the plan of a key if it is valid at `as_of_ms`."""
        entry = self._entries.get(key)
        if entry is None or not entry.from_ms <= as_of_ms < entry.until_ms:
            return None
        self._entries.move_to_end(key)
        return entry.plan

    def add(self, key: Hashable, plan: P, from_ms: int, until_ms: int) -> None:
        """Cache a plan that is valid in [from_ms, until_ms), unless that is empty."""
        if until_ms <= from_ms:
            return
        self._entries[key] = _Entry(plan, from_ms, until_ms)
        self._entries.move_to_end(key)
        if len(self._entries) > self._plans_max:
            self._entries.popitem(last=False)

    def _empty_if_changed(self, live: Live, options: ServingOptions) -> None:
        state = (weakref.ref(live), live.revision, options)
        if state != self._state:
            self._state = state
            self._entries.clear()


def _names(request: Request, layout: Layout, options: ServingOptions) -> int:
    """Return how many ids and labels a request names; a configured layout is shared by all requests and adds none."""
    is_shared = options.layouts.get(layout.name) is layout
    labels = 0 if is_shared else sum(slot.filters.scope().size for slot in layout.slots)
    return len(request.on_page_ids) + request.scope.size + labels


def same_until_ms(live: Live, ranker: Ranker, article_id: str, as_of_ms: int) -> int:
    """Return the time until which the plan of a stored page stays valid; `as_of_ms` if it must not be cached.

    It ends when the next article becomes public, or when the ranker learns of the next link. A page that is not
    published yet has candidates in a window that moves with the time.
    """
    row = live.find(article_id)
    if row is None or live.published_at_ms(row) > as_of_ms:
        return as_of_ms
    return min(live.next_public_ms(as_of_ms), ranker.same_until_ms(as_of_ms))
