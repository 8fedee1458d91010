"""The supervisor of a service: it runs one encoder, N workers on one port, and from time to time a compactor.

The supervisor itself answers no call and loads neither model nor snapshot. It starts the other processes, restarts what
dies, passes on new settings (SIGHUP), and drains the workers when it is told to stop (SIGTERM, SIGINT).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from recommender.answer.fitted_ranker import FittedFormula
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, usable_folder
from recommender.catalog.snapshot.manifest import Manifest, current_snapshot
from recommender.catalog.snapshot.writer import make_current
from recommender.catalog.store.store import open_store
from recommender.config import Settings, address_of
from recommender.encoding.model_for import model_for
from recommender.errors import CorruptError, RelatedNewsError, StorageError
from recommender.processes.orders import (
    Compact,
    Compacted,
    EncoderReady,
    Message,
    NewSettings,
    StartEncoder,
    StartWorker,
    WorkerReady,
)
from recommender.processes.process import Process
from recommender.serving.ranker_file import read_ranker

log = logging.getLogger(__name__)

_BACKOFF_S = 0.1
"""Base of the wait before a restart: it doubles with every quick end, from four times this at the second."""
_BACKOFF_MAX_S = 5.0
"""Longest wait before a restart."""
_STEADY_S = 30.0
"""A process that ran at least this long did not end quickly: it is restarted without a wait."""
_DRAIN_MARGIN_S = 5.0
"""How much longer than `drain_s` a process may take to finish before it is killed."""
_COMPACTION_CHECK_S = 1.0
"""How often to check whether a new snapshot is due."""
_COMPACTION_RETRY_S = 30.0
"""Wait after a compaction that failed."""
_COMPACTION_NICENESS = 10
"""Niceness of a compactor beside a running service: it gets only the processor time that the others leave."""
_CHANGES_MIN = 50
"""Fewest changes that make a new snapshot due in a small archive, whatever its size."""
_CHANGED_SHARE_MAX = 0.5
"""Changes, as a share of the snapshot's rows, that make a new one due in a small archive."""
_RESTART_ONLY = ("host", "port", "workers")
"""Settings of the section `server` that only a restart of the service changes."""

T = TypeVar("T")
R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class Commands:
    """The command line of each kind of process."""

    worker: Sequence[str] = (sys.executable, "-m", "recommender.processes.worker")
    encoder: Sequence[str] = (sys.executable, "-m", "recommender.processes.encoder")
    compactor: Sequence[str] = (sys.executable, "-m", "recommender.processes.compactor")


async def supervise(
    settings: Settings,
    on_ready: Callable[[str], None],
    reload: Callable[[], Settings],
    commands: Commands | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    on_ready: called once with the address, when every worker answers; if the signal comes earlier, what has been
    started is ended. reload: reads the settings again, on SIGHUP.
    Raises NotFoundError if nothing was indexed, MismatchError if the index is of another model than the configured one,
    StorageError if the port is taken; nothing is left running then.
    """
    supervisor = _Supervisor(settings, reload, commands or Commands())
    await supervisor.run(on_ready)


def check_ranker(settings: Settings) -> None:
    """Read the ranker that the settings name, if any. Raises what `read_ranker` raises if no index can use it."""
    if settings.ranker:
        FittedFormula(read_ranker(settings.ranker))


def is_due(changes: int, rows: int, compact_after: int) -> bool:
    """Say whether a snapshot of `rows` rows is to be replaced after `changes` changes.

    In a small archive fewer than `compact_after` are enough: half as many as it has rows, but at least 50. Its term
    weights are out of date sooner.
    """
    return changes >= min(compact_after, max(_CHANGES_MIN, int(rows * _CHANGED_SHARE_MAX)))


class _Supervisor:
    def __init__(self, settings: Settings, reload: Callable[[], Settings], commands: Commands) -> None:
        self._settings = settings
        self._reload = reload
        self._commands = commands
        self._store = open_store(settings.data_dir / STORE_FILE)
        self._encoder_address = f"unix-abstract:related-news-encoder-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._encoder: Process[EncoderReady] | None = None
        self._workers: dict[int, Process[WorkerReady]] = {}

    async def run(self, on_ready: Callable[[str], None]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_settings)
        server = self._settings.server
        tasks: list[asyncio.Task[None]] = []
        model_for(self._settings.data_dir, self._settings.model.name)
        with closing(self._store), reserved_port(server.host, server.port) as port:
            self._settings = _with_server(self._settings, port=port)
            try:
                started = await _unless_set(stopping, self._start_all(server.workers))
                if started is None:
                    return
                encoder, workers = started
                on_ready(workers[0].ready.address)
                restarting = self._restart_whenever_it_ends(encoder, self._start_encoder)
                tasks.append(asyncio.create_task(restarting, name="restart the encoder"))
                for slot, worker in enumerate(workers):
                    restarting = self._restart_whenever_it_ends(worker, partial(self._start_worker, slot))
                    tasks.append(asyncio.create_task(restarting, name=f"restart worker {slot}"))
                tasks.append(asyncio.create_task(self._compact_when_due(), name="compact"))
                await stopping.wait()
                log.info("draining")
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._end_all()

    # Starting

    def _model(self) -> str:
        """Return the name of the index's own model, which may have changed since the service was started."""
        return model_for(self._settings.data_dir, None)

    async def _start_encoder(self) -> Process[EncoderReady]:
        order = StartEncoder(settings=self._settings, model=self._model(), address=self._encoder_address)
        self._encoder = await Process.start("encoder", self._commands.encoder, order, EncoderReady)
        return self._encoder

    async def _start_worker(self, slot: int, *, after: Awaitable[None] | None = None) -> Process[WorkerReady]:
        settings = self._settings
        order = StartWorker(settings=settings, model=self._model(), encoder_address=self._encoder_address)
        worker = await Process.start(f"worker {slot}", self._commands.worker, order, WorkerReady, after=after)
        self._workers[slot] = worker
        if self._settings is not settings:
            worker.send(NewSettings(settings=self._settings))
        return worker

    async def _start_all(self, workers: int) -> tuple[Process[EncoderReady], list[Process[WorkerReady]]]:
        """Start every process, as many at once as possible. Raises the first error; nothing is left running then."""
        try:
            async with asyncio.TaskGroup() as group:
                encoder = group.create_task(self._start_encoder())
                loadable = group.create_task(self._ensure_loadable(encoder))
                started = [group.create_task(self._start_worker(slot, after=loadable)) for slot in range(workers)]
        except ExceptionGroup as group:
            raise next((error for error in group.exceptions if isinstance(error, RelatedNewsError)), group) from None
        return encoder.result(), [task.result() for task in started]

    async def _ensure_loadable(self, encoder: Awaitable[Process[EncoderReady]]) -> None:
        """Check the ranker, and ensure that there is a snapshot that workers can load without a check."""
        await asyncio.to_thread(check_ranker, self._settings)  # trees take a second to load; the encoder takes longer
        if not await asyncio.to_thread(self._has_usable_snapshot):
            await encoder
            await self._compact(only_if_missing=True)

    def _has_usable_snapshot(self) -> bool:
        """Check the current snapshot, or go back to an older one, so that no worker has to."""
        folder = self._settings.data_dir / SNAPSHOTS
        usable = usable_folder(self._store, folder)
        if usable is not None and usable != current_snapshot(folder):
            make_current(usable)
        return usable is not None

    async def _compact(self, *, only_if_missing: bool) -> None:
        """Run a compactor to its end. Raises its error."""
        assert self._encoder is not None
        dimension = self._encoder.ready.dimension
        order = Compact(settings=self._settings, dimension=dimension, only_if_missing=only_if_missing)
        niceness = 0 if only_if_missing else _COMPACTION_NICENESS  # a start waits for the missing one
        process = await Process.start("compaction", self._commands.compactor, order, Compacted, niceness=niceness)
        await process.wait()

    # Restarting and compacting

    async def _restart_whenever_it_ends(self, process: Process[R], start: Callable[[], Awaitable[Process[R]]]) -> None:
        """Restart a process whenever it ends, after a wait if it keeps ending quickly."""
        quick_ends, begun = 0, time.monotonic()
        while True:
            code = await process.wait()
            quick_ends = 0 if time.monotonic() - begun >= _STEADY_S else quick_ends + 1
            log.error("%s (process %d) ended with %d; it is started again", process.name, process.pid, code)
            if quick_ends > 1:
                await asyncio.sleep(min(_BACKOFF_S * 2**quick_ends, _BACKOFF_MAX_S))
            begun = time.monotonic()
            with self._logged(process.name):
                process = await start()

    async def _compact_when_due(self) -> None:
        """Write the next snapshot whenever enough has changed, or the current one is of another model."""
        while True:
            await asyncio.sleep(_COMPACTION_CHECK_S)
            try:
                if await asyncio.to_thread(self._snapshot_is_due):
                    await self._compact(only_if_missing=False)
                continue
            except RelatedNewsError as error:
                log.error("no new snapshot: %s", error)
            except Exception:
                log.exception("no new snapshot")
            await asyncio.sleep(_COMPACTION_RETRY_S)

    def _snapshot_is_due(self) -> bool:
        folder = self._settings.data_dir / SNAPSHOTS
        try:
            manifest = Manifest.read(current_snapshot(folder) or folder)
        except CorruptError:
            return True
        if manifest.encoder != self._store.active_encoder():
            return True
        changes = self._store.revision() - manifest.revision
        return is_due(changes, manifest.rows, self._settings.index.compact_after)

    @contextmanager
    def _logged(self, name: str) -> Iterator[None]:
        """Log an error instead of raising it, whatever it is: the start is tried again."""
        try:
            yield
        except RelatedNewsError as error:
            log.error("%s does not start: %s", name, error)
        except Exception:
            log.exception("%s does not start", name)

    # Settings

    def _reload_settings(self) -> None:
        try:
            new = self._reload()
            check_ranker(new)
        except RelatedNewsError as error:
            log.error("settings not reloaded: %s", error)
            return
        old = self._settings
        fixed = {name: getattr(old.server, name) for name in _RESTART_ONLY}
        self._settings = _with_server(new, **fixed).model_copy(update={"data_dir": old.data_dir})
        for worker in self._workers.values():  # one that is being started gets them once it is ready
            worker.send(NewSettings(settings=self._settings))
        log.info("settings reloaded: layouts, ranker, pages_per_batch, articles_per_write and compact_after")

    # Ending

    async def _end_all(self) -> None:
        """Drain the workers, then end the encoder, which they need until then."""
        timeout_s = self._settings.server.drain_s + _DRAIN_MARGIN_S
        await asyncio.gather(*(worker.end(timeout_s) for worker in self._workers.values()))
        if self._encoder:
            await self._encoder.end(timeout_s)


async def _unless_set(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns, or cancel it and return None if `stopping` is set first."""
    working, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        stop.cancel()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    return None


def _with_server(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"server": settings.server.model_copy(update=changes)})


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Bind a port with SO_REUSEPORT, so that workers can share it and it stays ours while none listens; 0: a free one.

    Raises StorageError if somebody listens there, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        holder = socket.socket(family, kind, protocol)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
    except OSError as error:
        wanted = address_of(host, port)
        raise StorageError(f"cannot listen on {wanted}", fix="choose another port, or stop who uses it") from error
    with holder:
        yield holder.getsockname()[1]
