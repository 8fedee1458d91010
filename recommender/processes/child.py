"""How the supervisor and its processes talk: one JSON object a line, orders on standard input, answers on output.

The first order comes at the start. A child answers {"ready": ...} once, or {"error": ..., "fix": ...} and ends. The end
of its input, or SIGTERM, tells it to finish; a supervisor that was killed therefore leaves no child behind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from recommender.errors import RelatedNewsError

LINE_BYTES_MAX = 1 << 26


class Orders:
    """A child's end. Iterate over it for later orders; the iteration ends when the child shall."""

    def __init__(self, first: dict[str, Any]) -> None:
        """first: the order that came at the start."""
        self.first = first
        self.orphaned = False
        """Its input has ended: the supervisor is gone, or ends."""
        self._later: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def ready(self, about: dict[str, Any]) -> None:
        """Tell the supervisor that this child does its work now."""
        _answer({"ready": about})

    def finish(self) -> None:
        """End the iteration over orders."""
        self._later.put_nowait(None)

    async def follow(self, lines: asyncio.StreamReader) -> None:
        """Take in orders until there are no more."""
        while line := await lines.readline():
            self._later.put_nowait(json.loads(line))
        self.orphaned = True
        self.finish()

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        order = await self._later.get()
        if order is None:
            raise StopAsyncIteration
        return order


def run_child(work: Callable[[Orders], Awaitable[None]]) -> None:
    """Run a child to its end: read the first order, do the work, report an error of ours as one."""
    try:
        asyncio.run(_run(work))
    except RelatedNewsError as error:
        _answer({"error": error.message, "fix": error.fix})
        sys.exit(1)


async def _run(work: Callable[[Orders], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(0, "rb", closefd=False))
    first = json.loads(await lines.readline())
    logging.basicConfig(
        level=first["settings"]["log_level"],
        format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("httpx", "httpcore", "filelock", "urllib3", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    orders = Orders(first)
    loop.add_signal_handler(signal.SIGTERM, orders.finish)
    for number in (signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: None)  # a terminal's Ctrl-C reaches all; the supervisor decides
    following = asyncio.create_task(orders.follow(lines), name="follow orders")
    try:
        await work(orders)
    finally:
        following.cancel()


def _answer(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()
