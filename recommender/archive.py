"""The archive in a running service: store and live view together, on one event loop.

The loop's thread owns the live view. Disk and encoder work runs on two threads of their own, one each, so that a
commit never waits for an encoding and the loop never waits for either. Every change, ours or another process's,
reaches the live view the same way: from the store's change log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from recommender.catalog.articles import Article, Body
from recommender.catalog.derived import ANALYSIS, Analysis, Vectors, analyse
from recommender.catalog.live import Live
from recommender.catalog.snapshot import Snapshot, current_snapshot
from recommender.catalog.snapshot_writer import write_snapshot
from recommender.catalog.store import Change, Outcome, Store, Stored, Write, open_store
from recommender.embedding import Embedder
from recommender.errors import CorruptError, MismatchError, UnavailableError
from recommender.prepare import embed

log = logging.getLogger(__name__)

STORE_FILE = "store.sqlite3"
SNAPSHOTS = "snapshots"
REPLAYED_MOST = 5_000
"""A snapshot that lacks more changes than this is replaced at the start, instead of replaying them."""
_POLL_S = 0.05
_CHANGES_AT_ONCE = 200

T = TypeVar("T")


class Archive:
    """Store and live view of one data folder. Use on one event loop."""

    def __init__(self, store: Store, live: Live, embedder: Embedder) -> None:
        """Serve `live`, which is an image of `store`; see `open_archive`."""
        self.store = store
        self.live = live
        self.embedder = embedder
        self.store_revision = live.revision
        self.last_change_s: float | None = None
        self._disk = ThreadPoolExecutor(1, "disk")
        self._encoder = ThreadPoolExecutor(1, "encoder")
        self._advanced = asyncio.Condition()
        self._catching_up = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Start applying every change that any process commits to the store."""
        self._following = asyncio.create_task(self._follow(), name="follow the store")

    async def close(self) -> None:
        """Stop following and let both threads finish what they have begun."""
        if self._following:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await asyncio.to_thread(self._disk.shutdown)
        await asyncio.to_thread(self._encoder.shutdown)
        self.store.close()

    async def upsert(self, articles: Sequence[Article], *, keep_rules: Sequence[bool]) -> tuple[list[Outcome], int]:
        """Write articles; returns their outcomes and the revision, once it is durable and applied here.

        keep_rules: parallel to articles; True leaves the rules that are stored as they are.
        """
        changed = await self._on_disk(self._which_changed, articles, keep_rules)
        analyses = await self._in_encoder(lambda: [analyse(article) for article in changed])
        vectors = await self.embed(changed)
        keeping = dict(zip((a.id for a in articles), keep_rules, strict=True))
        writes = [
            Write(article, vector, analysis, keep_rules=keeping[article.id])
            for article, vector, analysis in zip(changed, vectors, analyses, strict=True)
        ]
        outcomes = await self._on_disk(self.store.write, writes)
        revision = await self._applied()
        by_id = {write.article.id: outcome for write, outcome in zip(writes, outcomes, strict=True)}
        return [by_id.get(article.id, Outcome.UNCHANGED) for article in articles], revision

    async def delete(self, ids: Sequence[str]) -> tuple[list[bool], int]:
        """Withdraw articles; returns which were there and the revision, once it is durable and applied here."""
        found = await self._on_disk(self.store.delete, ids)
        return found, await self._applied()

    async def get(self, article_id: str) -> Article | None:
        """Read one article from the store."""
        return await self._on_disk(self.store.get, article_id)

    async def embed(self, texts: Sequence[Article | Body]) -> list[Vectors]:
        """Embed texts on the encoder's thread; texts that the store knows are not embedded again."""
        hashes = [text.text_hash() if isinstance(text, Article) else b"" for text in texts]
        known = await self._on_disk(self.store.vectors_of, [h for h in hashes if h])
        missing = [text for text, h in zip(texts, hashes, strict=True) if h not in known]
        made = iter(await self._in_encoder(embed, missing, self.embedder) if missing else ())
        return [known[h] if h in known else next(made) for h in hashes]

    async def analyse(self, body: Body) -> Analysis:
        """Analyse a draft off the loop's thread."""
        return await self._in_encoder(analyse, body)

    async def wait_for(self, revision: int, timeout_s: float | None) -> None:
        """Return once `revision` is applied. Raises UnavailableError if it is not within `timeout_s` (None: 5 s)."""
        if self.live.revision >= revision:
            return
        timeout_s = 5.0 if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s * 0.9), self._advanced:
                await self._advanced.wait_for(lambda: self.live.revision >= revision)
        except TimeoutError:
            raise UnavailableError(
                f"revision {revision} is not here yet; this process is at {self.live.revision}",
                fix="try again, or send a revision that a write returned",
            ) from None

    async def catch_up(self) -> None:
        """Apply every change that is committed by now."""
        async with self._catching_up:
            while True:
                read = await self._on_disk(_read_changes, self.store, self.live.revision)
                if read is None:
                    break
                self.live.apply(*read)
                self.last_change_s = time.monotonic()
            self.store_revision = max(self.store_revision, self.live.revision)
        async with self._advanced:
            self._advanced.notify_all()

    async def _applied(self) -> int:
        await self.catch_up()
        return self.live.revision

    async def _follow(self) -> None:
        seen = -1
        while True:
            try:
                version = await self._on_disk(self.store.data_version)
                if version != seen:
                    seen = version
                    await self.catch_up()
            except Exception:
                log.exception("cannot read the store's changes; still answering from revision %d", self.live.revision)
                seen = -1
                await asyncio.sleep(1)
            await asyncio.sleep(_POLL_S)

    def _which_changed(self, articles: Sequence[Article], keep_rules: Sequence[bool]) -> list[Article]:
        before = self.store.get_many([article.id for article in articles])
        changed = []
        for article, keep in zip(articles, keep_rules, strict=True):
            old = before.get(article.id)
            wanted = replace(article, rules=old.rules) if old and keep else article
            if wanted != old:
                changed.append(article)
        return changed

    async def _on_disk(self, work: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *values)

    async def _in_encoder(self, work: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._encoder, work, *values)


def open_archive(data_dir: Path, embedder: Embedder) -> tuple[Store, Live]:
    """Open a data folder for serving: its store, and the current snapshot or a new one if that is missing or broken.

    Raises NotFoundError if nothing was indexed there, MismatchError if it was for another model.
    """
    store = open_store(data_dir / STORE_FILE, embedder.info.key)
    folder = data_dir / SNAPSHOTS
    snapshot = _usable_snapshot(folder, store)
    if snapshot is None:
        log.info("writing a snapshot of revision %d", store.revision())
        snapshot = Snapshot(write_snapshot(store, folder, embedder.info.dimension), verify=False)
    return store, Live(snapshot)


def replay(store: Store, live: Live) -> None:
    """Apply every change that is committed by now; for those who have no event loop."""
    while changes_and_stored := _read_changes(store, live.revision):
        live.apply(*changes_and_stored)


def _read_changes(store: Store, revision: int) -> tuple[list[Change], dict[str, Stored]] | None:
    """Return some changes after `revision` with the present state of their articles, or None if there are none."""
    changes = store.changes_after(revision, _CHANGES_AT_ONCE)
    return (changes, store.stored(list({change.article_id for change in changes}))) if changes else None


def _usable_snapshot(folder: Path, store: Store) -> Snapshot | None:
    current = current_snapshot(folder)
    if current is None:
        return None
    try:
        snapshot = Snapshot(current)
    except (CorruptError, MismatchError) as error:
        log.warning("snapshot unusable, it is rebuilt from the store: %s", error)
        return None
    manifest, revision = snapshot.manifest, store.revision()
    behind = revision - manifest.revision
    fits = manifest.encoder == store.encoder and manifest.analysis == ANALYSIS
    if not fits or not 0 <= behind <= REPLAYED_MOST:
        log.info("snapshot %s is for %s, revision %d; not used", current.name, manifest.encoder, manifest.revision)
        return None
    return snapshot
