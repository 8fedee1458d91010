"""Who serves a data folder, and which revision each has applied: what a write waits for before it is acknowledged.

Every serving process takes a seat in one file, `roster`: its process id, the name of its doorbell, and the last
revision that it has applied. A writer rings all doorbells and then waits until every seat has come to its revision. One
that does not come in time is taken out of service: its process is killed, and its supervisor starts another.

A process takes its seat before it last reads the change log and starts to answer. A writer that looks at the seats
after its commit therefore either finds the seat, or the process finds the writer's change.

Seats are locked ranges of the file, which the system frees however a process ends. The file has its full size from the
start, so that a seat can be taken when the disk is full.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from recommender.errors import StorageError, UnavailableError

log = logging.getLogger(__name__)

ROSTER = "roster"
SEATS_MAX = 256
_SEAT_BYTES = 512
_ABOUT_BYTES = 480
_REVISION = struct.Struct("<QQ")
"""The revision, twice: two numbers that differ were read while they were being written."""
_LOCK = struct.Struct("hhqqi4x")
"""struct flock of Linux: type, whence, start, length, process id."""
_LOOK_S = 0.001
_LOOK_MAX_S = 0.02
_KILLED_S = 5.0


@dataclass(frozen=True, slots=True)
class Other:
    """The seat of another process. encoder: where its encoder listens; empty if it is in the process itself.

    pid: in its namespace of process ids, which is that of its container.
    """

    number: int
    pid: int
    doorbell: str
    encoder: str
    namespace: str = ""


class Roster:
    """The file of a data folder's seats, open."""

    def __init__(self, data_dir: Path) -> None:
        """Open it, or make it. Raises StorageError if the folder cannot be written, or the disk is full."""
        path = data_dir / ROSTER
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._descriptor).st_size < SEATS_MAX * _SEAT_BYTES:
                os.posix_fallocate(self._descriptor, 0, SEATS_MAX * _SEAT_BYTES)
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be written: {error.strerror}", fix="make data_dir writable for this user, free space"
            ) from error

    def close(self) -> None:
        """Close the file; seats that were taken through it are free."""
        os.close(self._descriptor)

    def others(self, own: int | None = None) -> Iterator[Other]:
        """Yield the seats that are taken, but for the own one."""
        for number in range(SEATS_MAX):
            if number != own and (other := self.other(number)):
                yield other

    def other(self, number: int) -> Other | None:
        """Return who has this seat; None if nobody has, or what is written there cannot be read."""
        if not self.is_taken(number):
            return None
        about = os.pread(self._descriptor, _ABOUT_BYTES, number * _SEAT_BYTES)
        try:
            return Other(number, **json.loads(about.rstrip(b"\0")))
        except (ValueError, TypeError):
            return None

    def is_taken(self, number: int) -> bool:
        """Say whether a living process has this seat."""
        asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, SEATS_MAX + number, 1, 0)
        answer: bytes = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, asked)
        return bool(_LOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def revision(self, number: int) -> int:
        """Return the last revision that the process on this seat has applied; 0 if it cannot be read just now."""
        raw = os.pread(self._descriptor, _REVISION.size, number * _SEAT_BYTES + _ABOUT_BYTES)
        first, second = _REVISION.unpack(raw)
        return int(first) if first == second else 0

    def take(self, doorbell: str, encoder: str, revision: int) -> int:
        """Take a free seat; returns its number.

        A seat has two locks: the first is for writing on it, the second says that what is written there holds.
        """
        values = {"pid": os.getpid(), "namespace": _namespace(), "doorbell": doorbell, "encoder": encoder}
        about = json.dumps(values).encode()
        for number in range(SEATS_MAX):
            if self._lock(number):
                os.pwrite(self._descriptor, about.ljust(_ABOUT_BYTES, b"\0"), number * _SEAT_BYTES)
                self.report(number, revision)
                self._lock(SEATS_MAX + number)
                return number
        raise UnavailableError(f"{SEATS_MAX} processes serve this data folder already", fix="serve with fewer workers")

    def report(self, number: int, revision: int) -> None:
        """Write on a seat that every change up to `revision` is applied."""
        os.pwrite(self._descriptor, _REVISION.pack(revision, revision), number * _SEAT_BYTES + _ABOUT_BYTES)

    def _lock(self, place: int) -> bool:
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
        except OSError:
            return False
        return True


class Seat:
    """This process's own seat. Take it, report to it, leave it; on one event loop."""

    def __init__(self, data_dir: Path, revision: int, encoder: str = "") -> None:
        """Take a seat at `revision`. Raises StorageError if the folder cannot be written."""
        self._roster = Roster(data_dir)
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        doorbell = f"related-news-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._bell.bind("\0" + doorbell)
        self._number = self._roster.take(doorbell, encoder, revision)

    def report(self, revision: int) -> None:
        """Say that every change up to `revision` is applied."""
        self._roster.report(self._number, revision)

    def on_ring(self, listener: Callable[[], None]) -> None:
        """Call `listener` on the running event loop whenever somebody rings."""

        def rung() -> None:
            with suppress(BlockingIOError):
                while self._bell.recv(16):
                    pass
            listener()

        asyncio.get_running_loop().add_reader(self._bell, rung)

    def leave(self) -> None:
        """Give the seat up: nobody waits for this process any more."""
        asyncio.get_running_loop().remove_reader(self._bell)
        self._bell.close()
        self._roster.close()

    def ring_others(self) -> None:
        """Tell all others that there is something new in the store; whom this does not reach soon looks by itself."""
        for other in self._roster.others(self._number):
            with suppress(OSError):
                self._bell.sendto(b"!", "\0" + other.doorbell)

    async def wait_for_others(self, revision: int, timeout_s: float) -> list[int]:
        """Return once every other living process has applied `revision`; those that have not in time are killed.

        Returns the ids of the processes that were taken out of service. Raises UnavailableError if one can neither be
        waited for nor killed, as in another container.
        """
        deadline, pause = time.monotonic() + timeout_s, _LOOK_S
        behind = [other for other in self._roster.others(self._number) if not self._has_come(other, revision)]
        while behind and time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LOOK_MAX_S)
            behind = [other for other in behind if not self._has_come(other, revision)]
        stuck = [other.pid for other in behind if not await self._is_dealt_with(other, revision)]
        if stuck:
            log.error("processes %s do not apply changes in time, and cannot be killed from here", stuck)
            raise UnavailableError(
                f"this is stored, but processes {stuck} may still answer without it", fix="stop them, and send it again"
            )
        return [other.pid for other in behind]

    def _has_come(self, other: Other, revision: int) -> bool:
        """Say whether nobody has to wait for it: whoever took its seat since then reads the change log after that."""
        return self._roster.revision(other.number) >= revision or self._roster.other(other.number) != other

    async def _is_dealt_with(self, other: Other, revision: int) -> bool:
        """Kill a process, unless it is of another container or this one; returns whether nobody has to wait for it."""
        if other.namespace == _namespace() and other.pid != os.getpid():
            log.error("process %d does not apply changes in time; it is taken out of service", other.pid)
            with suppress(OSError):
                os.kill(other.pid, signal.SIGKILL)
            deadline = time.monotonic() + _KILLED_S
            while self._roster.other(other.number) == other and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
                await asyncio.sleep(_LOOK_S)
        return self._has_come(other, revision)


def _namespace() -> str:
    """Return what names this process's namespace of process ids."""
    return str(Path("/proc/self/ns/pid").readlink())


@contextmanager
def opened(data_dir: Path) -> Iterator[Roster]:
    """Open a data folder's roster to look at it."""
    roster = Roster(data_dir)
    try:
        yield roster
    finally:
        roster.close()
