"""The feed of affected pages: every change from a revision on, and articles whose publication time has come."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from recommender.answer.affected_pages import AffectedPages, Former
from recommender.answer.layout import Layout
from recommender.answer.rank import Ranker
from recommender.catalog.store.store import Change, Store
from recommender.errors import InvalidInputError, OverloadError
from recommender.serving.archive import Archive

WATCHERS_MAX = 8
"""Limits the clients that one worker plans affected pages for at the same time."""
CHANGES_AT_ONCE = 64
"""Limits the changes that are read from the store at once."""
_IDLE_S = 1.0
"""How often publication times are checked while there are no changes."""


@dataclass(frozen=True, slots=True)
class Affected:
    """One change and the pages that it affects, the changed article's own first."""

    revision: int
    article_id: str
    withdrawn: bool
    page_ids: list[str]


class AffectedFeed:
    """Admits the clients that watch one process."""

    def __init__(self, archive: Archive, ranker: Callable[[], Ranker], now_ms: Callable[[], int]) -> None:
        """ranker: returns the present one. now_ms: the clock."""
        self._archive = archive
        self._ranker = ranker
        self._now_ms = now_ms
        self._watchers = 0

    async def start_revision(self, after: int | None, timeout_s: float | None) -> int:
        """Return the revision whose later changes a client wants, once it is applied here; None is the present one.

        Raises InvalidInputError if the store has not reached it.
        """
        if after is None:
            return self._archive.live.revision
        if after > self._archive.live.revision:
            stored = await self._archive.stored_revision()
            if after > stored:
                raise InvalidInputError(
                    "after_revision", f"is {after}; the last one is {stored}", fix="send one you have seen"
                )
            await self._archive.wait_for(after, timeout_s)  # another worker, which was ahead, reported it
        return after

    @contextmanager
    def watcher(self, layout: Layout) -> Iterator[Watcher]:
        """Admit one client, which watches pages in `layout`. Raises OverloadError if WATCHERS_MAX watch already."""
        if self._watchers >= WATCHERS_MAX:
            raise OverloadError(
                f"{self._watchers} clients watch here already", fix="share one feed, or try again later"
            )
        self._watchers += 1
        try:
            yield Watcher(self._archive, self._ranker, layout, self._now_ms)
        finally:
            self._watchers -= 1


class Watcher:
    """The feed of one client. It plans pages between the answers of other calls, on the archive's event loop."""

    def __init__(
        self, archive: Archive, ranker: Callable[[], Ranker], layout: Layout, now_ms: Callable[[], int]
    ) -> None:
        """ranker: returns the service's present one. layout: the one that pages are planned in. now_ms: the clock."""
        self._archive = archive
        self._ranker = ranker
        self._layout = layout
        self._now_ms = now_ms
        self._later: list[tuple[int, str]] = []
        """A heap of (time of publication, article id): articles that are written but not public yet."""

    async def follow(self, revision: int) -> AsyncIterator[Affected]:
        """Yield every change after `revision`, the oldest first, until the caller stops or the process drains.

        An article that was written earlier and becomes public after the change at `revision` counts as changed then.
        """
        self._later = await self._archive.on_disk(self._archive.store.not_yet_public, revision)
        heapq.heapify(self._later)
        while not self._archive.draining:
            changes = await self._archive.on_disk(self._archive.store.changes_after, revision, CHANGES_AT_ONCE)
            for change in changes:
                await self._archive.wait_for(change.revision, None)
                self._note(change.article_id)
                yield await self._affected(change)
                revision = change.revision
            while self._later and self._later[0][0] <= self._now_ms():
                due_ms, article_id = heapq.heappop(self._later)
                while self._later and self._later[0] == (due_ms, article_id):
                    heapq.heappop(self._later)
                if self._public_at_ms(article_id) == due_ms:
                    yield await self._affected(Change(revision, article_id, deleted=False))
            if not changes:
                await self._archive.wait_for_more(revision, _IDLE_S)

    def _note(self, article_id: str) -> None:
        """Remember when an article becomes public, if that is in the future."""
        at_ms = self._public_at_ms(article_id)
        if at_ms is not None and at_ms > self._now_ms():
            heapq.heappush(self._later, (at_ms, article_id))

    def _public_at_ms(self, article_id: str) -> int | None:
        live = self._archive.live
        row = live.find(article_id)
        return None if row is None else live.public_at_ms(row)

    async def _affected(self, change: Change) -> Affected:
        former = await self._archive.on_disk(_former, self._archive.store, change)
        now = AffectedPages(self._archive.live, self._ranker(), self._layout, self._now_ms())
        pages = now.own_page(change.article_id)
        for view in [now] if former is None else [now, now.before(change.article_id, former)]:
            for page_id in view.likely(change.article_id):
                await asyncio.sleep(0)  # other calls get their turn
                if page_id not in pages and view.shows(page_id, change.article_id):
                    pages.append(page_id)
        return Affected(change.revision, change.article_id, change.deleted, pages)


def _former(store: Store, change: Change) -> Former | None:
    """Read what the store still has of an article as it was before a change."""
    if change.former is None:
        return None
    text_hash = bytes.fromhex(change.former.text_hash)
    vectors, analysis = store.vectors_of([text_hash]).get(text_hash), store.analysis_of(text_hash)
    return Former(change.former, vectors, analysis) if vectors is not None and analysis is not None else None
