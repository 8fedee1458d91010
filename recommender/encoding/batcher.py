"""Encodes the texts of many calls together: dynamic micro-batches around one embedder."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from recommender.encoding.embedder import Embedder, Matrix, ModelInfo
from recommender.errors import OverloadError

URGENT_BATCH_MAX = 64
"""Most texts of one urgent batch: about sixteen drafts."""
OTHER_BATCH_MAX = 32
"""Most texts of one other batch. An urgent text may have to wait for it: a third of a second on two cores."""
WAITING_TEXTS_MAX = 20_000
"""More waiting texts than this refuse the next call."""


@dataclass(slots=True, eq=False)
class _Call:
    """One call of `encode`. batched: how many of its texts have gone into batches; parts: their vectors, in order."""

    texts: Sequence[str]
    vectors: asyncio.Future[Matrix]
    batched: int = 0
    parts: list[Matrix] = field(default_factory=list)


class Batcher:
    """Encodes on one thread whatever is waiting; no call waits for a batch to fill. Use on one event loop.

    Urgent calls go first. A call that was cancelled is skipped.
    """

    def __init__(self, embedder: Embedder) -> None:
        """Encode with `embedder`."""
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
        return await call.vectors

    async def close(self) -> None:
        """Encode what is waiting, except for cancelled calls, and end the thread."""
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
                    if not call.vectors.done():
                        call.vectors.set_exception(error)
                continue
            at = 0
            for call, start, end in batch:
                _deliver(call, encoded[at : at + end - start])
                at += end - start

    def _next_batch(self) -> list[tuple[_Call, int, int]]:
        """Take the next batch off the queues: (call, start, end) of its texts."""
        queue, room = (self._urgent, URGENT_BATCH_MAX) if self._urgent else (self._others, OTHER_BATCH_MAX)
        batch = []
        while queue and room:
            call = queue[0]
            end = len(call.texts) if call.vectors.done() else min(call.batched + room, len(call.texts))
            self._waiting_texts -= end - call.batched
            if not call.vectors.done():
                batch.append((call, call.batched, end))
                room -= end - call.batched
            call.batched = end
            if end == len(call.texts):
                queue.popleft()
        return batch or (self._next_batch() if self._others else [])


def _deliver(call: _Call, part: Matrix) -> None:
    """Add a part of a call's vectors, and complete the call if it was the last."""
    call.parts.append(part)
    if not call.vectors.done() and sum(map(len, call.parts)) == len(call.texts):
        call.vectors.set_result(call.parts[0] if len(call.parts) == 1 else np.concatenate(call.parts))
