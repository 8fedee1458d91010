"""Which processes serve a data folder, and which revision each has applied. A write waits for them.

Every serving process takes a seat in one file, `roster`: its process id, the socket that notifies it, and the last
revision that it has applied. A writer notifies all of them, then waits until every seat has reached its revision before
it acknowledges the write. A process that is too slow is killed, and its supervisor starts another.

A process takes its seat before it reads the change log for the last time and starts to answer. A writer that reads the
seats after its commit therefore either finds the seat, or the process finds the writer's change.

Seats are locked ranges of the file; the system releases a lock however its process ends. The file has its full size
from the start, so that a seat can be taken while the disk is full.
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
"""The name of the file in the data folder."""
SEATS_MAX = 256
"""Limits the processes that serve one data folder."""
_SEAT_BYTES = 512
"""The size of a seat in the file."""
_ABOUT_BYTES = 480
"""The part of a seat that describes its process, as JSON; the revision follows."""
_REVISION = struct.Struct("<QQ")
"""The revision, twice: if the two differ, they were read while they were being written."""
_LOCK = struct.Struct("hhqqi4x")
"""struct flock of Linux: type, whence, start, length, process id."""
_POLL_S = 0.001
"""The first pause between two reads of the seats that are behind; each next one is twice as long."""
_POLL_MAX_S = 0.02
"""The longest such pause."""
_KILL_WAIT_S = 5.0
"""Limits the wait until a killed process has lost its seat."""


@dataclass(frozen=True, slots=True)
class OtherSeat:
    """The seat of another process.

    pid: in its namespace of process ids, which is that of its container.
    socket_name: the abstract Unix socket that notifies it.
    encoder: the address of its encoder; empty if that is in the process itself.
    """

    number: int
    pid: int
    socket_name: str
    encoder: str
    namespace: str


class Roster:
    """The open file of a data folder's seats."""

    def __init__(self, data_dir: Path) -> None:
        """Open the file, or create it. Raises StorageError if the folder cannot be written, or the disk is full."""
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
        """Close the file, which frees the seats that were taken through it."""
        os.close(self._descriptor)

    def others(self, own: int | None = None) -> Iterator[OtherSeat]:
        """Yield the seats that are taken, except the own one."""
        for number in range(SEATS_MAX):
            if number != own and (other := self.other(number)):
                yield other

    def other(self, number: int) -> OtherSeat | None:
        """Return a seat; None if it is free or cannot be read."""
        if not self.is_taken(number):
            return None
        about = os.pread(self._descriptor, _ABOUT_BYTES, number * _SEAT_BYTES)
        try:
            values = json.loads(about.rstrip(b"\0"))
            return OtherSeat(number, values["pid"], values["doorbell"], values["encoder"], values.get("namespace", ""))
        except (ValueError, TypeError, LookupError):
            return None

    def is_taken(self, number: int) -> bool:
        """Say whether a living process has this seat."""
        asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, SEATS_MAX + number, 1, 0)
        answer: bytes = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, asked)
        return bool(_LOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def revision(self, number: int) -> int:
        """Return the last revision that the process on this seat has applied; 0 if it is being written just now."""
        raw = os.pread(self._descriptor, _REVISION.size, number * _SEAT_BYTES + _ABOUT_BYTES)
        first, second = _REVISION.unpack(raw)
        return int(first) if first == second else 0

    def take(self, socket_name: str, encoder: str, revision: int) -> int:
        """Take a free seat; returns its number.

        A seat has two locks: the first allows writing it, the second marks what is written as valid.
        """
        # "doorbell" is the file's word for the socket: services of several releases share one folder
        values = {"pid": os.getpid(), "namespace": _namespace(), "doorbell": socket_name, "encoder": encoder}
        about = json.dumps(values).encode()
        for number in range(SEATS_MAX):
            if self._lock(number):
                os.pwrite(self._descriptor, about.ljust(_ABOUT_BYTES, b"\0"), number * _SEAT_BYTES)
                self.report(number, revision)
                self._lock(SEATS_MAX + number)
                return number
        raise UnavailableError(f"{SEATS_MAX} processes serve this data folder already", fix="serve with fewer workers")

    def report(self, number: int, revision: int) -> None:
        """Write that the process on a seat has applied every change up to `revision`."""
        os.pwrite(self._descriptor, _REVISION.pack(revision, revision), number * _SEAT_BYTES + _ABOUT_BYTES)

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        except OSError:
            return False
        return True


class Seat:
    """This process's own seat. Take it, report to it, leave it; on one event loop."""

    def __init__(self, data_dir: Path, revision: int, encoder: str = "") -> None:
        """Take a seat at `revision`. Raises StorageError if the folder cannot be written."""
        self._roster = Roster(data_dir)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        name = f"related-news-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._socket.bind("\0" + name)
        self._number = self._roster.take(name, encoder, revision)

    def report(self, revision: int) -> None:
        """Report that every change up to `revision` is applied."""
        self._roster.report(self._number, revision)

    def on_notify(self, listener: Callable[[], None]) -> None:
        """Call `listener` on the running event loop whenever another process notifies this one."""

        def receive() -> None:
            with suppress(BlockingIOError):
                while self._socket.recv(16):
                    pass
            listener()

        asyncio.get_running_loop().add_reader(self._socket, receive)

    def leave(self) -> None:
        """Give up the seat; nobody waits for this process any more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._roster.close()

    def notify_others(self) -> None:
        """Notify the other processes of a new revision. A lost notification is harmless: each also polls the store."""
        for other in self._roster.others(self._number):
            with suppress(OSError):
                self._socket.sendto(b"!", "\0" + other.socket_name)

    async def wait_for_others(self, revision: int, timeout_s: float) -> list[int]:
        """Return once every other living process has applied `revision`; those that take longer are killed.

        Returns the ids of the processes that were killed. Raises UnavailableError if one is behind and cannot be killed
        from here, as in another container.
        """
        deadline, pause = time.monotonic() + timeout_s, _POLL_S
        behind = [other for other in self._roster.others(self._number) if not self._is_done(other, revision)]
        while behind and time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _POLL_MAX_S)
            behind = [other for other in behind if not self._is_done(other, revision)]
        stuck = [other.pid for other in behind if not await self._kill(other, revision)]
        if stuck:
            log.error("processes %s do not apply changes in time, and cannot be killed from here", stuck)
            raise UnavailableError(
                f"this is stored, but processes {stuck} may still answer without it", fix="stop them, and send it again"
            )
        return [other.pid for other in behind]

    def _is_done(self, other: OtherSeat, revision: int) -> bool:
        """Return whether nobody must wait for a seat: it is up to date, or another process has it.

        That process reads the change log after it has taken the seat.
        """
        return self._roster.revision(other.number) >= revision or self._roster.other(other.number) != other

    async def _kill(self, other: OtherSeat, revision: int) -> bool:
        """Kill a process, unless it is in another container or is this one; returns whether its seat is done."""
        if other.namespace == _namespace() and other.pid != os.getpid():
            log.error("process %d does not apply changes in time; it is taken out of service", other.pid)
            with suppress(OSError):
                os.kill(other.pid, signal.SIGKILL)
            deadline = time.monotonic() + _KILL_WAIT_S
            while self._roster.other(other.number) == other and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_S)
        return self._is_done(other, revision)


def _namespace() -> str:
    """Return the name of this process's namespace of process ids."""
    return str(Path("/proc/self/ns/pid").readlink())


@contextmanager
def open_roster(data_dir: Path) -> Iterator[Roster]:
    """Open a data folder's roster to read it."""
    roster = Roster(data_dir)
    try:
        yield roster
    finally:
        roster.close()
