"""A process of the supervisor, from the supervisor's side; child.py is the other side, orders.py what they say."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from recommender.errors import RelatedNewsError, UnavailableError
from recommender.processes.orders import LINE_BYTES_MAX, Failed, Message, Start, from_line, to_line

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Message)


class Process(Generic[R]):
    """A running process. `start` it, `send` it orders, `wait` for it, `end` it; on one event loop."""

    ready: R
    """The answer that it gave when it was ready."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        """Take over a process that was started; see `start`."""
        self.name = name
        self._process = process

    @staticmethod
    async def start(
        name: str,
        command: Sequence[str],
        first: Start,
        ready: type[R],
        *,
        after: Awaitable[None] | None = None,
        niceness: int = 0,
    ) -> Process[R]:
        """Start a process with its first order; return once it answers that it is ready, with a message of that kind.

        after: what must be done before the process gets its order; meanwhile it imports its modules. niceness: see
        nice(1); it holds from the first instruction, as the imports alone take half a second of processor time.
        Raises the error that the process reports, or UnavailableError if it ends without an answer.
        """
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE_BYTES_MAX)
        process: Process[R] = Process(name, child)
        try:
            if niceness:
                with suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, child.pid, niceness)
            if after:
                await after
            process.send(first)
            assert child.stdout is not None
            process.ready = _answer(name, await child.stdout.readline(), ready)
            return process
        except BaseException:
            await process.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, order: Message) -> None:
        """Send an order. One to a process that has ended is lost."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(to_line(order))

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return await self._process.wait()

    async def end(self, timeout_s: float) -> None:
        """Tell it to finish, and kill it if it has not within `timeout_s`."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await self.wait()
        except TimeoutError:
            log.error("%s (process %d) does not finish; it is killed", self.name, self.pid)
            await self.kill()

    async def kill(self) -> None:
        """Kill it, and wait for its end."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self.wait()


def _answer(name: str, line: bytes, ready: type[R]) -> R:
    """Return what a process answers, or raise the error that it reports."""
    if not line:
        raise UnavailableError(f"the {name} process ended without a word", fix="its log is above")
    answer = from_line(line, ready, Failed, sender=f"{name} process")
    if isinstance(answer, Failed):
        raise RelatedNewsError(answer.error, fix=answer.fix)
    assert isinstance(answer, ready)
    return answer
