"""Keeps the live view of a process up to date with its store.

Every change, this process's own or another's, reaches the live view in the same way: from the store's change log. The
log is read on a thread of its own, through a connection that never writes. So it also finds a change whose client has
gone, and it never waits behind this process's own writes while other processes wait for this one.

A new snapshot, and with it a new model, is loaded beside the live view and swapped in between two answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, read_changes, replay, usable_snapshot
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.store.store import Store, open_store
from recommender.encoding.embedder import Encoder
from recommender.errors import EncoderChangedError, MismatchError, RelatedNewsError
from recommender.serving.roster import Seat

log = logging.getLogger(__name__)

T = TypeVar("T")
EncoderFor = Callable[[str], Awaitable[Encoder]]


@dataclass(frozen=True, slots=True)
class StoreState:
    """The store's data version and revision, and what is active: it differs as soon as there is anything new."""

    data_version: int
    revision: int
    encoder: str
    snapshot: Path | None


class Follower:
    """Follows the store of one data folder. Use on one event loop.

    store, live, encoder: the present ones. All three are replaced at once when a new model is swapped in.
    store_revision: the newest revision that is known to be stored; `live` may be behind it.
    last_change_s: when `live` last changed, on the clock of time.monotonic.
    is_switching: another model is active in the store than here.
    """

    def __init__(
        self,
        data_dir: Path,
        store: Store,
        live: Live,
        encoder: Encoder,
        encoder_for: EncoderFor,
        *,
        poll_s: float = 0.05,
        retry_s: float = 1.0,
    ) -> None:
        """Follow `store`, of which `live` is an image; see catalog/opening.py.

        encoder_for: returns the encoder of a ModelInfo's key, for when another one becomes active.
        poll_s: how often the store is read when no notification arrives. retry_s: the pause after a failure.
        """
        self.data_dir = data_dir
        self.store = store
        self.live = live
        self.encoder = encoder
        self.store_revision = live.revision
        self.last_change_s: float | None = None
        self.is_switching = False
        self._encoder_for = encoder_for
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._seat: Seat | None = None
        self._log_reader = ThreadPoolExecutor(1, "change log")
        self._advanced = asyncio.Condition()
        self._catching_up = asyncio.Lock()
        self._notified = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._swapping: asyncio.Task[None] | None = None
        self._state: StoreState | None = None
        """The state that was dealt with last; None makes the next look deal with it again."""
        self._swapped: tuple[str, Path | None] | None = None
        self._refused: set[tuple[str, Path | None]] = set()
        self._retired: list[tuple[Store, Encoder]] = []
        """Replaced ones, which answers that began before the swap may still use."""

    async def start(self, encoder_address: str = "") -> None:
        """Take a seat, apply every change that is committed by now, and go on following.

        encoder_address: where this process's encoder listens, for others to find it.
        """
        self._seat = Seat(self.data_dir, self.live.revision, encoder_address)
        self._seat.on_notify(self.notify)
        await self.catch_up()
        self._following = asyncio.create_task(self._follow(), name="follow the store")

    async def stop(self) -> None:
        """Stop following and give up the seat."""
        tasks = [task for task in (self._following, self._swapping) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._seat:
            self._seat.leave()
            self._seat = None

    async def close(self) -> None:
        """Close stores and encoders, once nobody uses them."""
        await asyncio.to_thread(self._log_reader.shutdown)
        used = [*self._retired, (self.store, self.encoder)]
        for _, encoder in used:
            await encoder.close()
        for store, _ in used:
            store.close()

    # Revisions

    def notify(self) -> None:
        """Read the store at once instead of at the next poll."""
        self._notified.set()

    async def publish(self, timeout_s: float) -> int:
        """Make every serving process apply what is committed by now; returns the revision that all have reached.

        timeout_s: a process that takes longer is killed.
        """
        if self._seat:
            self._seat.notify_others()
        await self.catch_up()
        revision = self.live.revision
        if self._seat:
            await self._seat.wait_for_others(revision, timeout_s)
        return revision

    async def catch_up(self) -> None:
        """Apply every change that is committed by now."""
        async with self._catching_up:
            while changes := await self._from_log(read_changes, self.store, self.live):
                self.live.apply(*changes)
                self.last_change_s = time.monotonic()
            self._report()
        await self.wake_waiters()

    async def wait_until(self, is_true: Callable[[], bool], timeout_s: float) -> None:
        """Return once something about `live`, `store` or the waiter's own state is true. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._advanced:
            await self._advanced.wait_for(is_true)

    async def wake_waiters(self) -> None:
        """Let `wait_until` check again."""
        async with self._advanced:
            self._advanced.notify_all()

    async def stored_revision(self) -> int:
        """Return the store's revision."""
        return await self._from_log(self.store.revision)

    async def _from_log(self, work: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._log_reader, work, *values)

    def _report(self) -> None:
        self.store_revision = max(self.store_revision, self.live.revision)
        if self._seat:
            self._seat.report(self.live.revision)

    async def _follow(self) -> None:
        while True:
            self._notified.clear()  # before reading, so that a notification meanwhile is not lost
            try:
                state = await self._from_log(self.read_state)
                if state != self._state:
                    self._state = state
                    self.store_revision = state.revision
                    self._swap_if_new(state.encoder, state.snapshot)
                    await self.catch_up()
            except Exception:
                log.exception("cannot read the store's changes; still answering from revision %d", self.live.revision)
                self._state = None
                await asyncio.sleep(self._retry_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._notified.wait()

    def read_state(self) -> StoreState:
        """Read the store's state, on the thread that reads the change log."""
        snapshot = current_snapshot(self.data_dir / SNAPSHOTS)
        return StoreState(self.store.data_version(), self.store.revision(), self.store.active_encoder(), snapshot)

    # Swapping in a new snapshot, or a new encoder with its own

    def _swap_if_new(self, encoder: str, snapshot: Path | None) -> None:
        if self._swapping is not None:
            return  # the state is read again when that is done
        is_new = encoder != self.store.encoder or (snapshot is not None and snapshot != self.live.folder)
        is_done = (encoder, snapshot) == self._swapped or (encoder, snapshot) in self._refused
        self.is_switching = encoder != self.store.encoder
        if is_new and not is_done:
            self._swapping = asyncio.create_task(self._try_swap(encoder, snapshot), name="swap in a snapshot")

    async def _try_swap(self, key: str, snapshot: Path | None) -> None:
        """Swap in a snapshot. If that fails, log why, and try again unless it can never succeed."""
        try:
            await self._swap(key)
            self._swapped = (key, snapshot)
        except EncoderChangedError:
            log.info("%s is not the active model any more", key)
        except MismatchError as error:
            log.error("snapshot %s of %s cannot be swapped in: %s", snapshot and snapshot.name, key, error)
            self._refused.add((key, snapshot))
        except Exception as error:
            trace = None if isinstance(error, RelatedNewsError) else error
            log.error("snapshot %s is not swapped in yet: %s", snapshot and snapshot.name, error, exc_info=trace)
            await asyncio.sleep(self._retry_s)
        finally:
            self._swapping = None
            self._state = None  # what has become current meanwhile was skipped
            self.notify()
        await self.wake_waiters()

    async def _swap(self, key: str) -> None:
        """Load a live view beside the present one, replay, and replace the present one between two answers."""
        begun = time.monotonic()
        store, encoder = self.store, self.encoder
        try:
            if key != self.store.encoder:
                encoder = await self._encoder_for(key)
                store = await asyncio.to_thread(open_store, self.data_dir / STORE_FILE, key)
            scopes = self.live.recent_scopes()
            live = await asyncio.to_thread(self.load, store, encoder.info.dimension, scopes)
            async with self._catching_up:
                while changes := await self._from_log(read_changes, store, live):
                    live.apply(*changes)
                paused = time.monotonic()
                if store is not self.store:
                    self._retired.append((self.store, self.encoder))
                self.store, self.live, self.encoder = store, live, encoder
                self.is_switching = False
                self._report()
        except BaseException:
            if encoder is not self.encoder:
                await encoder.close()
            if store is not self.store:
                store.close()
            raise
        log.info(
            "snapshot %s swapped in after %.2f s, %.2f ms of it without answering",
            live.folder.name,
            time.monotonic() - begun,
            (time.monotonic() - paused) * 1e3,
        )

    def load(self, store: Store, dimension: int, scopes: Sequence[Scope]) -> Live:
        """Return the live view of a store's newest usable snapshot. scopes: searched lately, to prepare for."""
        snapshot = usable_snapshot(store, self.data_dir / SNAPSHOTS, verify=False)
        if snapshot is None or snapshot.manifest.dimension != dimension:
            raise MismatchError("no snapshot fits the active model", fix="run `related-news reindex`")
        live = Live(snapshot)
        live.warm_up(scopes)
        replay(store, live)
        return live
