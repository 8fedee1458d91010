"""The service's processes: one encoder, N workers on one port, now and then one that writes the next snapshot.

The supervisor itself answers no call and loads neither model nor snapshot. It starts the others, starts again what
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
from recommender.processes.process import Process
from recommender.serving.ranker_file import read_ranker

log = logging.getLogger(__name__)

_BACKOFF_S, _BACKOFF_MAX_S = 0.1, 5.0
_STEADY_S = 30.0
"""A process that lived so long is started again at once."""
_MARGIN_S = 5.0
_LOOK_S = 1.0
_AFTER_FAILURE_S = 30.0
_NICENESS = 10
"""Of what writes a snapshot while others serve: it takes only what they leave."""
_LEAST_CHANGES = 50
_CHANGED_SHARE = 0.5
T = TypeVar("T")
_FIXED = ("host", "port", "workers")
"""Settings of the section `server` that only a new start changes."""


@dataclass(frozen=True, slots=True)
class Commands:
    """How each kind of process is started."""

    worker: Sequence[str] = (sys.executable, "-m", "recommender.processes.worker")
    encoder: Sequence[str] = (sys.executable, "-m", "recommender.processes.encoder")
    compaction: Sequence[str] = (sys.executable, "-m", "recommender.processes.compactor")


async def supervise(
    settings: Settings,
    on_ready: Callable[[str], None],
    reload: Callable[[], Settings],
    commands: Commands | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    on_ready: called once with the address, when every worker answers. reload: reads the settings again, on SIGHUP. Told
    to stop before that, it ends what has been started.
    Raises NotFoundError if nothing was indexed, MismatchError if it was for another model than the configured one,
    StorageError if the port is taken; nothing runs then.
    """
    supervisor = _Supervisor(settings, reload, commands or Commands())
    await supervisor.run(on_ready)


def check_ranker(settings: Settings) -> None:
    """Read the ranker that the settings name, if any. Raises as `read_ranker` if it cannot be used on any index."""
    if settings.ranker:
        FittedFormula(read_ranker(settings.ranker))


def is_due(changes: int, rows: int, compact_after: int) -> bool:
    """Say whether a snapshot of `rows` rows shall be replaced after so many changes.

    In a small archive half as many changes as it has rows are enough: its word weights are soon out of date.
    """
    return changes >= min(compact_after, max(_LEAST_CHANGES, int(rows * _CHANGED_SHARE)))


class _Supervisor:
    def __init__(self, settings: Settings, reload: Callable[[], Settings], commands: Commands) -> None:
        self._settings = settings
        self._reload = reload
        self._commands = commands
        self._store = open_store(settings.data_dir / STORE_FILE)
        self._encoder_address = f"unix-abstract:related-news-encoder-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._encoder: Process | None = None
        self._workers: dict[int, Process] = {}

    async def run(self, on_ready: Callable[[str], None]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_settings)
        server = self._settings.server
        keepers: list[asyncio.Task[None]] = []
        model_for(self._settings.data_dir, self._settings.model.name)
        with closing(self._store), reserved_port(server.host, server.port) as port:
            self._settings = _with_server(self._settings, port=port)
            try:
                started = await _unless(stopping, self._start_all(server.workers))
                if started is None:
                    return
                encoder, workers = started
                on_ready(workers[0].about["address"])
                keepers.append(asyncio.create_task(self._keep(encoder, self._start_encoder), name="keep the encoder"))
                for slot, worker in enumerate(workers):
                    keep = self._keep(worker, partial(self._start_worker, slot))
                    keepers.append(asyncio.create_task(keep, name=f"keep worker {slot}"))
                keepers.append(asyncio.create_task(self._compact(), name="compact"))
                await stopping.wait()
                log.info("draining")
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)
                await self._end_all()

    # Starting

    def _order(self, **values: Any) -> dict[str, Any]:
        """Return an order. Its model is the index's own, which may have changed since the start."""
        model = model_for(self._settings.data_dir, None)
        return {**self._settings_order(), "model": model, **values}

    def _settings_order(self) -> dict[str, Any]:
        return {"settings": self._settings.model_dump(mode="json")}

    async def _start_encoder(self) -> Process:
        order = self._order(address=self._encoder_address)
        self._encoder = await Process.start("encoder", self._commands.encoder, order)
        return self._encoder

    async def _start_worker(self, slot: int, *, after: Awaitable[None] | None = None) -> Process:
        settings, order = self._settings, self._order(encoder=self._encoder_address)
        worker = await Process.start(f"worker {slot}", self._commands.worker, order, after=after)
        self._workers[slot] = worker
        if self._settings is not settings:
            worker.order(self._settings_order())
        return worker

    async def _start_all(self, workers: int) -> tuple[Process, list[Process]]:
        """Start every process, as much as can be at once. Raises the first error; nothing runs then."""
        try:
            async with asyncio.TaskGroup() as group:
                encoder = group.create_task(self._start_encoder())
                prepared = group.create_task(self._prepare(encoder))
                started = [group.create_task(self._start_worker(slot, after=prepared)) for slot in range(workers)]
        except ExceptionGroup as group:
            ours = next((error for error in group.exceptions if isinstance(error, RelatedNewsError)), group)
            raise ours from None
        return encoder.result(), [task.result() for task in started]

    async def _prepare(self, encoder: Awaitable[Process]) -> None:
        """Return once the ranker is checked and there is a snapshot that workers can load without checking it."""
        await asyncio.to_thread(check_ranker, self._settings)  # trees take a second to load; the encoder takes longer
        if not await asyncio.to_thread(self._has_whole_snapshot):
            await encoder
            await self._write_snapshot("prepare")

    def _has_whole_snapshot(self) -> bool:
        """Check the current snapshot, or go back to an older one, so that no worker has to."""
        folder = self._settings.data_dir / SNAPSHOTS
        usable = usable_folder(self._store, folder)
        if usable is not None and usable != current_snapshot(folder):
            make_current(usable)
        return usable is not None

    async def _write_snapshot(self, task: str) -> None:
        """Do a task of compaction.py. Raises its error."""
        assert self._encoder is not None
        order = self._order(task=task, dimension=self._encoder.about["dimension"])
        niceness = 0 if task == "prepare" else _NICENESS
        process = await Process.start("compaction", self._commands.compaction, order, niceness=niceness)
        await process.wait()

    # Keeping

    async def _keep(self, process: Process, start: Callable[[], Awaitable[Process]]) -> None:
        """Start a process again, as it was started, whenever it ends."""
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

    async def _compact(self) -> None:
        """Write the next snapshot whenever enough has changed, or the current one is of another model."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if await asyncio.to_thread(self._snapshot_is_due):
                    await self._write_snapshot("next")
                continue
            except RelatedNewsError as error:
                log.error("no new snapshot: %s", error)
            except Exception:
                log.exception("no new snapshot")
            await asyncio.sleep(_AFTER_FAILURE_S)

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
        """Log an error; what does not start now, for whatever reason, is tried again."""
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
        fixed = {name: getattr(old.server, name) for name in _FIXED}
        self._settings = _with_server(new, **fixed).model_copy(update={"data_dir": old.data_dir})
        for worker in self._workers.values():  # one that is being started gets the settings when it is
            worker.order(self._settings_order())
        log.info("settings reloaded: layouts, ranker, pages_per_batch, articles_per_write and compact_after")

    # Ending

    async def _end_all(self) -> None:
        """Drain the workers, then end the encoder, which they need for that."""
        patience_s = self._settings.server.drain_s + _MARGIN_S
        await asyncio.gather(*(worker.end(patience_s) for worker in self._workers.values()))
        if self._encoder:
            await self._encoder.end(patience_s)


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns, or None if it was ended because `stopping` was set meanwhile."""
    working, told = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        told.cancel()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    return None


def _with_server(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"server": settings.server.model_copy(update=changes)})


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Hold a port that workers may share, so that it stays ours while none of them listens; 0 takes a free one.

    Raises StorageError if somebody listens there, or the address is not of this machine.
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
