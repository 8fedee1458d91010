"""A process of the supervisor, from its side; child.py is the other."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any

from recommender.errors import RelatedNewsError, UnavailableError
from recommender.processes.child import LINE_BYTES_MAX

log = logging.getLogger(__name__)


class Process:
    """A running child. `start` it, `order` it, `wait` for it, `end` it; on one event loop."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        """Take over a process that was started; see `start`."""
        self.name = name
        self.about: dict[str, Any] = {}
        self._process = process

    @staticmethod
    async def start(
        name: str,
        command: Sequence[str],
        first: dict[str, Any],
        *,
        after: Awaitable[None] | None = None,
        niceness: int = 0,
    ) -> Process:
        """Start a child with its first order; returns once it says that it does its work.

        after: what must be done before it gets that order; meanwhile it imports what it needs. niceness: see nice(1);
        from the first instruction on, since the imports alone take half a second of processor time.
        Raises the error that the child reports, or UnavailableError if it ends without a word.
        """
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE_BYTES_MAX)
        started = Process(name, child)
        try:
            if niceness:
                with suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, child.pid, niceness)
            if after:
                await after
            started.order(first)
            assert child.stdout is not None
            line = await child.stdout.readline()
            started.about = _about(name, json.loads(line) if line else {})
            return started
        except BaseException:
            await started.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def order(self, values: dict[str, Any]) -> None:
        """Send an order; one to a child that has ended goes nowhere."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(values).encode() + b"\n")

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        return await self._process.wait()

    async def end(self, patience_s: float) -> None:
        """Tell it to finish, and kill it if it has not after `patience_s`."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(patience_s):
                await self.wait()
        except TimeoutError:
            log.error("%s (process %d) does not finish; it is killed", self.name, self.pid)
            await self.kill()

    async def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self.wait()


def _about(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what a child says of itself, or raise what it reports."""
    if "ready" in answer:
        about: dict[str, Any] = answer["ready"]
        return about
    if "error" in answer:
        raise RelatedNewsError(answer["error"], fix=answer["fix"])
    raise UnavailableError(f"the {name} process ended without a word", fix="its log is above")
