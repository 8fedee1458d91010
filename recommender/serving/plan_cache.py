"""Answers that were given already, given again while nothing can have changed them.

A page plan depends on the archive, the terms, and on what was public at `as_of`. Between two articles' becoming public
nothing in it depends on the time (ages count from the page's own date, the publishing rate from the newest article): a
plan made in between holds for all of it, to the bit. Any change of archive or terms drops every answer at once, so that
a takedown holds here as everywhere.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from recommender.answer.rank import Ranker
from recommender.catalog.live import Live

ANSWERS_KEPT = 2_000
"""About 6 kB each, and what the question holds."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    """An answer that is right for every as_of in [from_ms, until_ms)."""

    answer: T
    from_ms: int
    until_ms: int


class KeptAnswers(Generic[T]):
    """The answers asked for last, of one state of archive and terms. One thread."""

    def __init__(self, most: int = ANSWERS_KEPT) -> None:
        """Keep at most so many."""
        self._most = most
        self._state: tuple[object, ...] = ()
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()

    def at(self, live: Live, ranker: Ranker, terms: object) -> KeptAnswers[T]:
        """Return this, without any answer that was given in another state."""
        state = (weakref.ref(live), live.revision, ranker, terms)
        if state != self._state:
            self._state = state
            self._kept.clear()
        return self

    def find(self, question: Hashable, as_of_ms: int) -> T | None:
        """Return the answer to a question that was asked before and has the same answer at `as_of_ms`."""
        kept = self._kept.get(question)
        if kept is None or not kept.from_ms <= as_of_ms < kept.until_ms:
            return None
        self._kept.move_to_end(question)
        return kept.answer

    def keep(self, question: Hashable, answer: T, as_of_ms: int, until_ms: int) -> None:
        """Keep an answer that was made as of `as_of_ms` and holds until `until_ms`, not included; if that is later."""
        if until_ms <= as_of_ms:
            return
        self._kept[question] = _Kept(answer, as_of_ms, until_ms)
        self._kept.move_to_end(question)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


def same_until_ms(live: Live, ranker: Ranker, article_id: str, as_of_ms: int) -> int:
    """Return until when a stored page has the answer that it has at `as_of_ms`; `as_of_ms` itself if only then.

    The next article's becoming public ends it, or the next link's becoming known to the ranker. The windows of a page
    that is not published yet move with the time.
    """
    row = live.find(article_id)
    if row is None or live.published_at_ms(row) > as_of_ms:
        return as_of_ms
    return min(live.next_public_ms(as_of_ms), ranker.same_until_ms(as_of_ms))
