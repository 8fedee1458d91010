"""The feed of affected pages: every change from a revision on, then those to come, and articles whose time has come."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from recommender.answer.affected_pages import AffectedPages, Former
from recommender.answer.layout import Layout
from recommender.answer.rank import Ranker
from recommender.catalog.store.store import Change, Store
from recommender.serving.archive import Archive

CHANGES_AT_ONCE = 64
_IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Affected:
    """One change and the pages that it affects, the changed article's own first."""

    revision: int
    article_id: str
    withdrawn: bool
    page_ids: list[str]


class Watcher:
    """One client's feed. Plans pages between the answers of other calls; on the archive's event loop."""

    def __init__(
        self, archive: Archive, ranker: Callable[[], Ranker], layout: Layout, now_ms: Callable[[], int]
    ) -> None:
        """ranker: the service's present one. layout: whose plans are meant."""
        self._archive = archive
        self._ranker = ranker
        self._layout = layout
        self._now_ms = now_ms
        self._waiting: list[tuple[int, str]] = []

    async def follow(self, revision: int) -> AsyncIterator[Affected]:
        """Yield every change after `revision`, the oldest first; and on, until the caller ends it.

        Articles that were written before and become public after the change at `revision` count as changed then.
        """
        self._waiting = await self._archive.on_disk(self._archive.store.public_later, revision)
        heapq.heapify(self._waiting)
        while not self._archive.draining:
            changes = await self._archive.on_disk(self._archive.store.changes_after, revision, CHANGES_AT_ONCE)
            for change in changes:
                await self._archive.wait_for(change.revision, None)
                self._note(change.article_id)
                yield await self._affected(change)
                revision = change.revision
            while self._waiting and self._waiting[0][0] <= self._now_ms():
                due_ms, article_id = heapq.heappop(self._waiting)
                while self._waiting and self._waiting[0] == (due_ms, article_id):
                    heapq.heappop(self._waiting)
                if self._becomes_public_ms(article_id) == due_ms:
                    yield await self._affected(Change(revision, article_id, deleted=False))
            if not changes:
                await self._archive.wait_for_more(revision, _IDLE_S)

    def _note(self, article_id: str) -> None:
        """Remember when an article becomes public, if that lies ahead."""
        at_ms = self._becomes_public_ms(article_id)
        if at_ms is not None and at_ms > self._now_ms():
            heapq.heappush(self._waiting, (at_ms, article_id))

    def _becomes_public_ms(self, article_id: str) -> int | None:
        live = self._archive.live
        row = live.find(article_id)
        return None if row is None else live.public_at_ms(row)

    async def _affected(self, change: Change) -> Affected:
        former = await self._archive.on_disk(_former, self._archive.store, change)
        now = AffectedPages(self._archive.live, self._ranker(), self._layout, self._now_ms())
        pages = now.own_page(change.article_id)
        for view in [now] if former is None else [now, now.before(change.article_id, former)]:
            for page_id in view.likely(change.article_id):
                await asyncio.sleep(0)  # other calls have their turn
                if page_id not in pages and view.shows(page_id, change.article_id):
                    pages.append(page_id)
        return Affected(change.revision, change.article_id, change.deleted, pages)


def _former(store: Store, change: Change) -> Former | None:
    """Read what the store still has of an article as it was before a change."""
    if change.before is None:
        return None
    text_hash = bytes.fromhex(change.before.text_hash)
    vectors, analysis = store.vectors_of([text_hash]).get(text_hash), store.analysis_of(text_hash)
    return Former(change.before, vectors, analysis) if vectors is not None and analysis is not None else None
