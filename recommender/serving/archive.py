"""The archive in a serving process: store and live view together, on one event loop.

The loop's thread owns the live view. Disk work runs on a thread of its own, encoding in another process or thread, so
that the loop never waits for either. Every change, ours or another process's, reaches the live view the same way: from
the store's change log. It is read on another thread still, by a connection that never writes: so it sees also what a
call of ours has written whose client is gone, and never waits behind our own writes while others wait for us. A new
snapshot, and with it a new model, is loaded beside the live view, then takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from recommender.catalog.articles import Article, Body
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, read_changes, replay, usable_snapshot
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.store.store import Store, open_store
from recommender.catalog.store.writes import Outcome, Write
from recommender.catalog.text.derived import Analysis, Vectors, analyse
from recommender.encoding.embed_articles import embed_by
from recommender.encoding.embedder import Encoder
from recommender.errors import EncoderChangedError, MismatchError, OverloadError, RelatedNewsError, UnavailableError
from recommender.serving.roster import Seat

log = logging.getLogger(__name__)

_POLL_S = 0.05
"""How often the store is looked at when nobody rings."""
_RETRY_S = 1.0
_WAIT_S = 5.0
"""Longest wait for a revision or a switch of models when the caller sets no deadline."""
_SWITCHES_MAX = 3

T = TypeVar("T")
EncoderFor = Callable[[str], Awaitable[Encoder]]
_Seen = tuple[int, int, str, Path | None]
"""The store's data version, its revision, its encoder, and the current snapshot."""


class Archive:
    """Store and live view of one data folder. Use on one event loop."""

    def __init__(self, data_dir: Path, store: Store, live: Live, encoder: Encoder, encoder_for: EncoderFor) -> None:
        """Serve `live`, which is an image of `store`; see opening.py.

        encoder_for: returns the encoder of a ModelInfo's key, for when another one becomes active.
        """
        self.data_dir = data_dir
        self.store = store
        self.live = live
        self.encoder = encoder
        self.store_revision = live.revision
        self.last_change_s: float | None = None
        self.takedown_timeout_s = 3.0
        self.encodings_max = 500
        self._encodings = 0
        self._encoder_for = encoder_for
        self._seat: Seat | None = None
        self._disk = ThreadPoolExecutor(1, "disk")
        self._log_reader = ThreadPoolExecutor(1, "change log")
        self._advanced = asyncio.Condition()
        self._catching_up = asyncio.Lock()
        self._rung = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._taking_up: asyncio.Task[None] | None = None
        self._switching = False
        self._seen: _Seen | None = None
        self._taken: tuple[str, Path | None] | None = None
        self._refused: set[tuple[str, Path | None]] = set()
        self._retired_stores: list[Store] = []
        self._retired_encoders: list[Encoder] = []
        """Answers that began before a switch may still use these."""
        self.draining = False

    async def follow(self, encoder_address: str = "") -> None:
        """Take a seat, apply every change that is committed by now, and go on applying those that any process makes.

        encoder_address: where this process's encoder listens, for others to find it.
        """
        self._seat = Seat(self.data_dir, self.live.revision, encoder_address)
        self._seat.on_ring(self._rung.set)
        await self.catch_up()
        self._following = asyncio.create_task(self._follow(), name="follow the store")

    async def close(self) -> None:
        """Stop following, give up the seat, and let the disk's thread finish what it has begun."""
        tasks = [task for task in (self._following, self._taking_up) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._seat:
            self._seat.leave()
            self._seat = None
        for thread in (self._disk, self._log_reader):
            await asyncio.to_thread(thread.shutdown)
        for encoder in (self.encoder, *self._retired_encoders):
            await encoder.close()
        for store in (self.store, *self._retired_stores):
            store.close()

    # Writing

    async def upsert(self, articles: Sequence[Article], *, keep_rules: Sequence[bool]) -> tuple[list[Outcome], int]:
        """Write articles; returns their outcomes and the revision, once durable and applied by every serving process.

        keep_rules: parallel to articles; True leaves the rules that are stored as they are.
        """
        changed = await self.on_disk(self._which_changed, articles, keep_rules)
        analyses = await asyncio.to_thread(lambda: [analyse(article) for article in changed])
        keeping = dict(zip((a.id for a in articles), keep_rules, strict=True))

        async def write(store: Store, encoder: Encoder) -> list[Outcome]:
            vectors = await self._embed(changed, store, encoder)
            writes = [
                Write(article, vector, analysis, keep_rules=keeping[article.id])
                for article, vector, analysis in zip(changed, vectors, analyses, strict=True)
            ]
            return await self.on_disk(store.write, writes)

        outcomes = await self._with_active_encoder(write)
        revision = await self._applied_everywhere()
        by_id = {article.id: outcome for article, outcome in zip(changed, outcomes, strict=True)}
        return [by_id.get(article.id, Outcome.UNCHANGED) for article in articles], revision

    async def delete(self, ids: Sequence[str]) -> tuple[list[bool], int]:
        """Withdraw articles; returns which were there and the revision, as `upsert` does."""
        found = await self.on_disk(self.store.delete, ids)
        return found, await self._applied_everywhere()

    async def _applied_everywhere(self) -> int:
        if self._seat:
            self._seat.ring_others()
        await self.catch_up()
        revision = self.live.revision
        if self._seat:
            await self._seat.wait_for_others(revision, self.takedown_timeout_s)
        return revision

    # Reading

    async def get(self, article_id: str) -> Article | None:
        """Read one article from the store."""
        return await self.on_disk(self.store.get, article_id)

    async def read_draft(self, body: Body, timeout_s: float | None) -> tuple[Vectors, Analysis]:
        """Embed and analyse a draft for the live view as it is when this returns. Raises Deadline- or OverloadError."""

        async def read() -> tuple[list[Vectors], Analysis]:
            return await asyncio.gather(
                embed_by([body], self.encoder, urgent=True, timeout_s=timeout_s), asyncio.to_thread(analyse, body)
            )

        for _ in range(_SWITCHES_MAX):
            encoder = self.encoder
            with self._encoding():
                (vectors,), analysis = await read()
            if encoder is self.encoder:
                return vectors, analysis
        raise UnavailableError("the model is being changed", fix="try again")

    async def wait_for(self, revision: int, timeout_s: float | None) -> None:
        """Return once `revision` is applied. Raises UnavailableError if it is not within `timeout_s` (None: 5 s)."""

        def is_here() -> bool:
            return self.live.revision >= revision and not self._switching

        if is_here():
            return
        try:
            async with asyncio.timeout((_WAIT_S if timeout_s is None else timeout_s) * 0.9), self._advanced:
                await self._advanced.wait_for(is_here)
        except TimeoutError:
            raise UnavailableError(
                f"revision {revision} is not here yet; this process is at {self.live.revision}",
                fix="try again, or send a revision that a write returned",
            ) from None

    async def wait_for_more(self, revision: int, timeout_s: float) -> None:
        """Return once something after `revision` is applied, after `timeout_s`, or when the process drains."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._advanced:
                await self._advanced.wait_for(lambda: self.live.revision > revision or self.draining)

    async def stored_revision(self) -> int:
        """Return the store's revision, which may be ahead of the live view's."""
        return await self._from_log(self.store.revision)

    async def drain(self) -> None:
        """Let those who wait for changes go."""
        self.draining = True
        async with self._advanced:
            self._advanced.notify_all()

    async def on_disk(self, work: Callable[..., T], *values: object) -> T:
        """Do something with the store on the thread that is there for that."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *values)

    async def _from_log(self, work: Callable[..., T], *values: object) -> T:
        """Do something with the store on the thread that follows it."""
        return await asyncio.get_running_loop().run_in_executor(self._log_reader, work, *values)

    # Following the store

    async def catch_up(self) -> None:
        """Apply every change that is committed by now."""
        async with self._catching_up:
            while changes := await self._from_log(read_changes, self.store, self.live):
                self.live.apply(*changes)
                self.last_change_s = time.monotonic()
            self._moved()
        async with self._advanced:
            self._advanced.notify_all()

    def _moved(self) -> None:
        self.store_revision = max(self.store_revision, self.live.revision)
        if self._seat:
            self._seat.report(self.live.revision)

    async def _follow(self) -> None:
        while True:
            self._rung.clear()  # before looking: whoever rings meanwhile is not forgotten
            try:
                found = await self._from_log(self._look)
                if found != self._seen:
                    self._seen = found
                    _, self.store_revision, encoder, snapshot = found
                    self._take_up_if_new(encoder, snapshot)
                    await self.catch_up()
            except Exception:
                log.exception("cannot read the store's changes; still answering from revision %d", self.live.revision)
                self._seen = None
                await asyncio.sleep(_RETRY_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._rung.wait()

    def _look(self) -> _Seen:
        """Return what tells whether there is something new."""
        store = self.store
        snapshot = current_snapshot(self.data_dir / SNAPSHOTS)
        return store.data_version(), store.revision(), store.active_encoder(), snapshot

    # Taking up a new snapshot, or a new encoder with its own

    def _take_up_if_new(self, encoder: str, snapshot: Path | None) -> None:
        new = encoder != self.store.encoder or (snapshot is not None and snapshot != self.live.folder)
        dealt_with = (encoder, snapshot) == self._taken or (encoder, snapshot) in self._refused
        if self._taking_up is not None:
            return  # it is looked again when that is done
        self._switching = encoder != self.store.encoder
        if new and not dealt_with:
            self._taking_up = asyncio.create_task(self._take_up(encoder, snapshot), name="take up a snapshot")

    async def _take_up(self, key: str, snapshot: Path | None) -> None:
        """Take up a snapshot; say why if that fails, and try again unless it can never succeed."""
        try:
            await self._replace(key)
            self._taken = (key, snapshot)
        except EncoderChangedError:
            log.info("%s is not the active model any more", key)
        except MismatchError as error:
            log.error("snapshot %s of %s is not taken up: %s", snapshot and snapshot.name, key, error)
            self._refused.add((key, snapshot))
        except Exception as error:
            trace = None if isinstance(error, RelatedNewsError) else error
            log.error("snapshot %s is not taken up yet: %s", snapshot and snapshot.name, error, exc_info=trace)
            await asyncio.sleep(_RETRY_S)
        finally:
            self._taking_up = None
            self._seen = None  # what has become current meanwhile was passed over
            self._rung.set()
        async with self._advanced:
            self._advanced.notify_all()

    async def _replace(self, key: str) -> None:
        """Load beside the live view, replay, and let it take the live view's place between two answers."""
        begun = time.monotonic()
        store, encoder = self.store, self.encoder
        try:
            if key != self.store.encoder:
                encoder = await self._encoder_for(key)
                store = await asyncio.to_thread(open_store, self.data_dir / STORE_FILE, key)
            scopes = self.live.recent_scopes()
            live = await asyncio.to_thread(self._load, store, encoder.info.dimension, scopes)
            async with self._catching_up:
                while changes := await self._from_log(read_changes, store, live):
                    live.apply(*changes)
                paused = time.monotonic()
                if store is not self.store:
                    self._retired_stores.append(self.store)
                    self._retired_encoders.append(self.encoder)
                self.store, self.live, self.encoder = store, live, encoder
                self._switching = False
                self._moved()
        except BaseException:
            if encoder is not self.encoder:
                await encoder.close()
            if store is not self.store:
                store.close()
            raise
        log.info(
            "snapshot %s taken up in %.2f s, %.2f ms of it without answering",
            live.folder.name,
            time.monotonic() - begun,
            (time.monotonic() - paused) * 1e3,
        )

    def _load(self, store: Store, dimension: int, scopes: Sequence[Scope]) -> Live:
        snapshot = usable_snapshot(store, self.data_dir / SNAPSHOTS, verify=False)
        if snapshot is None or snapshot.manifest.dimension != dimension:
            raise MismatchError("no snapshot fits the active model", fix="run `related-news reindex`")
        live = Live(snapshot)
        live.warm_up(scopes)
        replay(store, live)
        return live

    # Plumbing

    async def _with_active_encoder(self, write: Callable[[Store, Encoder], Awaitable[T]]) -> T:
        """Write with a store and its encoder; if another one has become active meanwhile, do it again with that."""
        for _ in range(_SWITCHES_MAX):
            store = self.store
            try:
                return await write(store, self.encoder)
            except EncoderChangedError:
                await self._switched_from(store)
        raise UnavailableError("the model is being changed", fix="try again")

    async def _switched_from(self, store: Store) -> None:
        try:
            async with asyncio.timeout(_WAIT_S), self._advanced:
                await self._advanced.wait_for(lambda: self.store is not store)
        except TimeoutError:
            raise UnavailableError("the model is being changed", fix="try again") from None

    async def _embed(self, articles: Sequence[Article], store: Store, encoder: Encoder) -> list[Vectors]:
        """Embed articles; texts that the store knows are not embedded again."""
        hashes = [article.text_hash() for article in articles]
        known = await self.on_disk(store.vectors_of, hashes)
        missing = {text: article for text, article in zip(hashes, articles, strict=True) if text not in known}
        if missing:
            with self._encoding():
                made = await embed_by(list(missing.values()), encoder, urgent=False)
            known |= zip(missing, made, strict=True)
        return [known[text] for text in hashes]

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        """Count who waits for the encoder: one that is slow or gone must not take all calls of this process with it."""
        if self._encodings >= self.encodings_max:
            raise OverloadError(f"{self._encodings} calls wait for the encoder already", fix="try again later")
        self._encodings += 1
        try:
            yield
        finally:
            self._encodings -= 1

    def _which_changed(self, articles: Sequence[Article], keep_rules: Sequence[bool]) -> list[Article]:
        before = self.store.get_many([article.id for article in articles])
        changed = []
        for article, keep in zip(articles, keep_rules, strict=True):
            old = before.get(article.id)
            wanted = replace(article, rules=old.rules) if old and keep else article
            if wanted != old:
                changed.append(article)
        return changed
