"""The archive in a serving process: write, read, and prepare drafts. Use on one event loop.

The loop's thread owns the live view, which following.py keeps up to date. Disk work runs on a thread of its own,
encoding in another process or thread, so that the loop never waits for either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

from recommender.catalog.articles import Article, Body
from recommender.catalog.live import Live
from recommender.catalog.store.store import Store
from recommender.catalog.store.writes import Outcome, Upsert, Write
from recommender.catalog.text.derived import Analysis, Vectors, analyse
from recommender.encoding.embed_articles import embed_by
from recommender.encoding.embedder import Encoder
from recommender.errors import EncoderChangedError, OverloadError, UnavailableError
from recommender.serving.following import Follower

_WAIT_S = 5.0
"""Limits the wait for a revision if the caller sets no deadline, and the wait for a switch of models."""
_DRAFT_S = 60.0
"""Limits the wait for a draft's vectors if the caller sets no deadline."""
_WAITED_SHARE = 0.9
"""The share of a caller's remaining time that is waited, so that the answer still arrives."""
_SWITCHES_MAX = 3
"""How often work is tried if the model changes each time before it is done."""

T = TypeVar("T")


class Archive:
    """Store and live view of one data folder, to read and to change."""

    def __init__(
        self, follower: Follower, *, takedown_timeout_s: float = 3.0, concurrent_calls_max: int = 1_000
    ) -> None:
        """takedown_timeout_s: the longest wait of a write for other processes.

        concurrent_calls_max: calls that this process accepts; half of them may wait for the encoder.
        """
        self._follower = follower
        self._takedown_timeout_s = takedown_timeout_s
        self._encodings_max = -(-concurrent_calls_max // 2)
        self._encodings = 0
        self._disk = ThreadPoolExecutor(1, "disk")
        self.draining = False

    @property
    def live(self) -> Live:
        """The present live view."""
        return self._follower.live

    @property
    def store(self) -> Store:
        """The store of the present model; use it through `on_disk`."""
        return self._follower.store

    @property
    def encoder(self) -> Encoder:
        """The present model's encoder."""
        return self._follower.encoder

    async def follow(self, encoder_address: str = "") -> None:
        """Apply every change that is committed by now, and go on applying those that any process makes.

        encoder_address: where this process's encoder listens, for others to find it.
        """
        await self._follower.start(encoder_address)

    async def drain(self) -> None:
        """Release those who wait for changes."""
        self.draining = True
        await self._follower.wake_waiters()

    async def close(self) -> None:
        """Stop following, and let the disk's thread finish what it has begun."""
        await self._follower.stop()
        await asyncio.to_thread(self._disk.shutdown)
        await self._follower.close()

    # Writing

    async def upsert(self, upserts: Sequence[Upsert]) -> tuple[dict[str, Outcome], int]:
        """Write articles, no two with one id.

        Returns their outcomes by id and the revision, once durable and applied by every serving process.
        """
        changed = await self.on_disk(self.store.changed, upserts)
        analyses = await asyncio.to_thread(lambda: [analyse(upsert.article) for upsert in changed])

        async def write(store: Store, encoder: Encoder) -> list[Outcome]:
            vectors = await self._embed([upsert.article for upsert in changed], store, encoder)
            parts = zip(changed, vectors, analyses, strict=True)
            writes = [Write(upsert, own_vectors, analysis) for upsert, own_vectors, analysis in parts]
            return await self.on_disk(store.write, writes)

        outcomes = await self._with_active_encoder(write)
        revision = await self._follower.publish(self._takedown_timeout_s)
        written = {upsert.article.id: outcome for upsert, outcome in zip(changed, outcomes, strict=True)}
        return {u.article.id: written.get(u.article.id, Outcome.UNCHANGED) for u in upserts}, revision

    async def delete(self, ids: Sequence[str]) -> tuple[list[bool], int]:
        """Withdraw articles; returns which were stored, and the revision as `upsert` does."""
        were_stored = await self.on_disk(self.store.delete, ids)
        return were_stored, await self._follower.publish(self._takedown_timeout_s)

    # Reading

    async def get(self, article_id: str) -> Article | None:
        """Read one article from the store."""
        return await self.on_disk(self.store.get, article_id)

    async def read_draft(self, body: Body, timeout_s: float | None) -> tuple[Vectors, Analysis]:
        """Embed and analyse a draft for the live view as it is when this returns. Raises Deadline- or OverloadError.

        timeout_s: the caller's remaining time; None: a minute.
        """
        limit_s = _DRAFT_S if timeout_s is None else timeout_s

        async def read() -> tuple[list[Vectors], Analysis]:
            return await asyncio.gather(
                embed_by([body], self.encoder, urgent=True, timeout_s=limit_s), asyncio.to_thread(analyse, body)
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

        def is_applied() -> bool:
            return self.live.revision >= revision and not self._follower.is_switching

        if is_applied():
            return
        try:
            await self._follower.wait_until(is_applied, (_WAIT_S if timeout_s is None else timeout_s) * _WAITED_SHARE)
        except TimeoutError:
            raise UnavailableError(
                f"revision {revision} is not here yet; this process is at {self.live.revision}",
                fix="try again, or send a revision that a write returned",
            ) from None

    async def wait_for_more(self, revision: int, timeout_s: float) -> None:
        """Return once a change after `revision` is applied, after `timeout_s`, or when the process drains."""
        with suppress(TimeoutError):
            await self._follower.wait_until(lambda: self.live.revision > revision or self.draining, timeout_s)

    @property
    def store_revision(self) -> int:
        """The newest revision that is known to be stored, which may be ahead of the live view's."""
        return max(self._follower.store_revision, self.live.revision)

    async def stored_revision(self) -> int:
        """Read the store's revision."""
        return await self._follower.stored_revision()

    def last_change_age_s(self) -> float | None:
        """Return the seconds since the live view last changed; None if it has not since the start."""
        last_change_s = self._follower.last_change_s
        return None if last_change_s is None else time.monotonic() - last_change_s

    async def on_disk(self, work: Callable[..., T], *values: object) -> T:
        """Run work with the store on the disk's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *values)

    # Plumbing

    async def _with_active_encoder(self, write: Callable[[Store, Encoder], Awaitable[T]]) -> T:
        """Write with a store and its encoder; once more with the new ones if another model became active meanwhile."""
        for _ in range(_SWITCHES_MAX):
            store = self.store
            try:
                return await write(store, self.encoder)
            except EncoderChangedError:
                await self._wait_for_switch_from(store)
        raise UnavailableError("the model is being changed", fix="try again")

    async def _wait_for_switch_from(self, store: Store) -> None:
        try:
            await self._follower.wait_until(lambda: self.store is not store, _WAIT_S)
        except TimeoutError:
            raise UnavailableError("the model is being changed", fix="try again") from None

    async def _embed(self, articles: Sequence[Article], store: Store, encoder: Encoder) -> list[Vectors]:
        """Embed articles, except those whose text's vectors are stored."""
        lookup = await self.on_disk(store.look_up_vectors, articles)
        embedded: list[Vectors] = []
        if lookup.missing:
            with self._encoding():
                embedded = await embed_by(list(lookup.missing.values()), encoder, urgent=False)
        return lookup.complete(embedded)

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        """Limit the calls that wait for the encoder: a slow one must not use up all calls of this process."""
        if self._encodings >= self._encodings_max:
            raise OverloadError(f"{self._encodings} calls wait for the encoder already", fix="try again later")
        self._encodings += 1
        try:
            yield
        finally:
            self._encodings -= 1
