"""A process of the supervisor, from its own side; process.py is the other side, orders.py what they say.

The first order comes at the start. The process answers once: that it is ready, or why it cannot be, and ends. The end
of its standard input, or SIGTERM, tells it to finish; so a supervisor that was killed leaves no process behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

from recommender.errors import InvalidInputError, RelatedNewsError
from recommender.processes.logs import log_to_stderr
from recommender.processes.orders import LINE_BYTES_MAX, Failed, Message, NewSettings, Start, from_line, to_line

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Start)


class Orders(Generic[F]):
    """The orders to this process. Iterate over it for those after the first; the iteration ends when it must finish."""

    def __init__(self, first: F) -> None:
        """first: the order that came at the start."""
        self.first = first
        self.orphaned = False
        """Whether standard input has ended: the supervisor is gone, or is ending."""
        self._later: asyncio.Queue[NewSettings | None] = asyncio.Queue()

    def ready(self, answer: Message) -> None:
        """Report to the supervisor that this process does its work now."""
        _send(answer)

    def finish(self) -> None:
        """End the iteration over orders."""
        self._later.put_nowait(None)

    async def follow(self, lines: asyncio.StreamReader) -> None:
        """Read orders until there are no more. One that cannot be read is logged and skipped."""
        while line := await lines.readline():
            try:
                self._later.put_nowait(from_line(line, NewSettings, sender="supervisor"))
            except InvalidInputError as error:
                log.error("order skipped: %s", error)
        self.orphaned = True
        self.finish()

    def __aiter__(self) -> AsyncIterator[NewSettings]:
        return self

    async def __anext__(self) -> NewSettings:
        order = await self._later.get()
        if order is None:
            raise StopAsyncIteration
        return order


def run_child(first: type[F], work: Callable[[Orders[F]], Awaitable[None]]) -> None:
    """Run this process to its end: read the first order, which is of the kind `first`, and do the work.

    An error raised on purpose is reported to the supervisor, and the exit code is 1.
    """
    try:
        asyncio.run(_run(first, work))
    except RelatedNewsError as error:
        _send(Failed(error=error.message, fix=error.fix))
        sys.exit(1)


async def _run(kind: type[F], work: Callable[[Orders[F]], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(0, "rb", closefd=False))
    orders = Orders(from_line(await lines.readline(), kind, sender="supervisor"))
    log_to_stderr(orders.first.settings.log_level)
    loop.add_signal_handler(signal.SIGTERM, orders.finish)
    for number in (signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: None)  # a terminal's Ctrl-C reaches all; the supervisor decides
    following = asyncio.create_task(orders.follow(lines), name="follow orders")
    try:
        await work(orders)
    finally:
        following.cancel()


def _send(answer: Message) -> None:
    sys.stdout.buffer.write(to_line(answer))
    sys.stdout.buffer.flush()
