"""Texts of many calls, encoded together: dynamic micro-batches around one encoder."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from recommender.encoding.embedder import Embedder, Matrix, ModelInfo
from recommender.errors import OverloadError

URGENT_TEXTS = 64
"""Most texts of one urgent batch: about sixteen drafts."""
OTHER_TEXTS = 32
"""Most texts of one other batch, which an urgent text may have to wait for: a third of a second on two cores."""
WAITING_TEXTS_MAX = 20_000


@dataclass(slots=True, eq=False)
class _Call:
    texts: Sequence[str]
    done: asyncio.Future[Matrix]
    taken: int = 0
    parts: list[Matrix] = field(default_factory=list)


class Batcher:
    """Encodes on one thread, always as much as is waiting: no call waits for others to come. Use on one event loop.

    Urgent calls go first. A call that was cancelled is passed over.
    """

    def __init__(self, embedder: Embedder) -> None:
        """Encode by `embedder`."""
        self._embedder = embedder
        self._urgent: deque[_Call] = deque()
        self._others: deque[_Call] = deque()
        self._waiting_texts = 0
        self._thread = ThreadPoolExecutor(1, "encoder")
        self._running: asyncio.Task[None] | None = None

    @property
    def info(self) -> ModelInfo:
        """Identify the model."""
        return self._embedder.info

    async def encode(self, texts: Sequence[str], *, urgent: bool = True) -> Matrix:
        """Return float32 (len(texts), dimension), rows normalised to length 1, in the order of `texts`.

        urgent: before all texts that are not. Raises OverloadError if too many texts are waiting already.
        """
        if not texts:
            return np.empty((0, self.info.dimension), np.float32)
        if self._waiting_texts > WAITING_TEXTS_MAX:
            raise OverloadError(f"{self._waiting_texts} texts wait to be encoded", fix="try again later")
        call = _Call(texts, asyncio.get_running_loop().create_future())
        (self._urgent if urgent else self._others).append(call)
        self._waiting_texts += len(texts)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="encode")
        return await call.done

    async def close(self) -> None:
        """Encode what waits, but for calls that were cancelled, and end the thread."""
        if self._running:
            await self._running
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            texts = [text for call, start, end in batch for text in call.texts[start:end]]
            try:
                encoded = await loop.run_in_executor(self._thread, self._embedder.encode, texts)
            except Exception as error:
                for call, _, _ in batch:
                    if not call.done.done():
                        call.done.set_exception(error)
                continue
            at = 0
            for call, start, end in batch:
                _give(call, encoded[at : at + end - start])
                at += end - start

    def _next_batch(self) -> list[tuple[_Call, int, int]]:
        """Take what is to be encoded next: (call, start, end) of its texts."""
        queue, room = (self._urgent, URGENT_TEXTS) if self._urgent else (self._others, OTHER_TEXTS)
        batch = []
        while queue and room:
            call = queue[0]
            end = len(call.texts) if call.done.done() else min(call.taken + room, len(call.texts))
            self._waiting_texts -= end - call.taken
            if not call.done.done():
                batch.append((call, call.taken, end))
                room -= end - call.taken
            call.taken = end
            if end == len(call.texts):
                queue.popleft()
        return batch or (self._next_batch() if self._others else [])


def _give(call: _Call, part: Matrix) -> None:
    """Hand a call some of its vectors, and all of them once they are there."""
    call.parts.append(part)
    if call.taken == len(call.texts) and not call.done.done() and sum(map(len, call.parts)) == len(call.texts):
        call.done.set_result(call.parts[0] if len(call.parts) == 1 else np.concatenate(call.parts))
