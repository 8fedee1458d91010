"""Micro-batches: every call gets its own vectors in order, urgent ones first, and no call suffers for another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest

from recommender.encoding import batcher
from recommender.encoding.batcher import OTHER_BATCH_MAX, URGENT_BATCH_MAX, Batcher
from recommender.encoding.embedder import Matrix
from recommender.errors import OverloadError
from tests.building import DIMENSION, FakeEmbedder


class RecordingEmbedder(FakeEmbedder):
    """Records its batches; fails at a text that says "mishap", and waits at the gate for one that says "wait"."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.begun, self.gate = threading.Event(), threading.Event()

    def encode(self, texts: Sequence[str]) -> Matrix:
        self.batches.append(list(texts))
        self.begun.set()
        if any("wait" in text for text in texts):
            assert self.gate.wait(10)
        if any("mishap" in text for text in texts):
            raise ValueError("cannot encode a mishap")
        return super().encode(texts)


def run(work: Callable[[Batcher, RecordingEmbedder], Awaitable[None]]) -> RecordingEmbedder:
    """Run a test with a batcher, close it, and return its embedder."""
    embedder = RecordingEmbedder()

    async def whole() -> None:
        batcher = Batcher(embedder)
        try:
            await work(batcher, embedder)
        finally:
            embedder.gate.set()
            await batcher.close()

    asyncio.run(whole())
    return embedder


def numbered(name: str, count: int) -> list[str]:
    """Return `count` different texts."""
    return [f"{name} number {i}" for i in range(count)]


async def busy(batcher: Batcher, embedder: RecordingEmbedder) -> asyncio.Task[Matrix]:
    """Keep the embedder busy until the gate is opened, so that what comes meanwhile waits."""
    task = asyncio.create_task(batcher.encode(["wait"]))
    await asyncio.to_thread(embedder.begun.wait)
    return task


def begun(batcher: Batcher, texts: Sequence[str], *, urgent: bool = True) -> asyncio.Task[Matrix]:
    """Start a call."""
    return asyncio.create_task(batcher.encode(texts, urgent=urgent))


def same(vectors: Matrix, texts: Sequence[str]) -> bool:
    """Say whether these are the vectors of the texts, in order."""
    return np.array_equal(vectors, FakeEmbedder().encode(texts))


@pytest.mark.parametrize(
    "count", [1, OTHER_BATCH_MAX, URGENT_BATCH_MAX, URGENT_BATCH_MAX + 1, 3 * URGENT_BATCH_MAX + 5]
)
@pytest.mark.parametrize("urgent", [True, False])
def test_a_call_gets_its_vectors_in_order(count: int, urgent: bool) -> None:
    """A call gets its vectors in order, however many batches its texts are spread over."""

    async def work(batcher: Batcher, _: RecordingEmbedder) -> None:
        assert same(await batcher.encode(numbered("a", count), urgent=urgent), numbered("a", count))

    batch_max = URGENT_BATCH_MAX if urgent else OTHER_BATCH_MAX
    batches = run(work).batches
    assert [len(batch) for batch in batches[:-1]] == [batch_max] * (len(batches) - 1)
    assert sum(map(len, batches)) == count


def test_no_text_is_no_work() -> None:
    """A call without texts is answered at once."""

    async def work(batcher: Batcher, _: RecordingEmbedder) -> None:
        assert (await batcher.encode([])).shape == (0, DIMENSION)

    assert run(work).batches == []


def test_calls_that_wait_are_encoded_together() -> None:
    """Ten calls of three texts that come while the embedder is busy are one batch; each gets its own vectors."""

    async def work(batcher: Batcher, embedder: RecordingEmbedder) -> None:
        first = await busy(batcher, embedder)
        calls = [begun(batcher, numbered(f"call {i}", 3)) for i in range(10)]
        await asyncio.sleep(0)
        embedder.gate.set()
        for i, call in enumerate(calls):
            assert same(await call, numbered(f"call {i}", 3))
        assert same(await first, ["wait"])

    assert [len(batch) for batch in run(work).batches] == [1, 30]


def test_urgent_calls_go_first() -> None:
    """An urgent call that comes last is encoded before others that wait, also between two batches of a long call."""

    async def work(batcher: Batcher, embedder: RecordingEmbedder) -> None:
        await busy(batcher, embedder)
        slow = begun(batcher, numbered("slow", 3 * OTHER_BATCH_MAX), urgent=False)
        await asyncio.sleep(0)
        urgent = begun(batcher, numbered("urgent", 2))
        await asyncio.sleep(0)
        embedder.gate.set()
        assert same(await urgent, numbered("urgent", 2))
        assert not slow.done()
        assert same(await begun(batcher, ["another"]), ["another"])
        assert not slow.done()
        assert same(await slow, numbered("slow", 3 * OTHER_BATCH_MAX))

    batches = run(work).batches
    assert batches[1] == numbered("urgent", 2)
    assert ["another"] in batches[2:-1]


def test_a_call_that_fails_fails_alone() -> None:
    """Calls of its batch fail with it, for the same reason; later calls do not. Its other texts are dropped."""

    async def work(batcher: Batcher, embedder: RecordingEmbedder) -> None:
        await busy(batcher, embedder)
        bad = begun(batcher, ["mishap", *numbered("rest", 2 * URGENT_BATCH_MAX)])
        after = begun(batcher, ["fine"])
        await asyncio.sleep(0)
        embedder.gate.set()
        with pytest.raises(ValueError, match="cannot encode a mishap"):
            await bad
        assert same(await after, ["fine"])
        assert same(await batcher.encode(["later"]), ["later"])

    assert [len(batch) for batch in run(work).batches] == [1, URGENT_BATCH_MAX, 1, 1]


def test_a_cancelled_call_is_skipped() -> None:
    """The texts of a cancelled call are not encoded, and its neighbours get their own vectors."""

    async def work(batcher: Batcher, embedder: RecordingEmbedder) -> None:
        await busy(batcher, embedder)
        calls = [begun(batcher, numbered(f"call {i}", 2)) for i in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.sleep(0)
        embedder.gate.set()
        assert same(await calls[0], numbered("call 0", 2))
        assert same(await calls[2], numbered("call 2", 2))

    assert run(work).batches[1:] == [[*numbered("call 0", 2), *numbered("call 2", 2)]]


def test_a_call_may_be_cancelled_in_the_middle() -> None:
    """The rest of a cancelled long call is dropped, and the count of waiting texts is right after it."""

    async def work(batcher: Batcher, embedder: RecordingEmbedder) -> None:
        long = begun(batcher, ["wait", *numbered("long", 10 * OTHER_BATCH_MAX)], urgent=False)
        await asyncio.to_thread(embedder.begun.wait)
        long.cancel()
        await asyncio.sleep(0)
        embedder.gate.set()
        assert same(await batcher.encode(["fine"], urgent=False), ["fine"])
        assert batcher._waiting_texts == 0

    assert len(run(work).batches) == 2


def test_a_call_is_refused_when_too_much_is_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that meets a full queue fails at once, with advice to try again; what waits is encoded all the same."""
    monkeypatch.setattr(batcher, "WAITING_TEXTS_MAX", 50)

    async def work(batcher: Batcher, embedder: RecordingEmbedder) -> None:
        await busy(batcher, embedder)
        waiting = begun(batcher, numbered("much", 51), urgent=False)
        await asyncio.sleep(0)
        with pytest.raises(OverloadError) as caught:
            await batcher.encode(["one more"])
        assert str(caught.value) == "51 texts wait to be encoded (try again later)"
        embedder.gate.set()
        assert same(await waiting, numbered("much", 51))
        assert same(await batcher.encode(["one more"]), ["one more"])

    run(work)


def test_closing_finishes_what_waits() -> None:
    """A batcher that is closed encodes every call that waits, except cancelled ones."""

    async def work(batcher: Batcher, embedder: RecordingEmbedder) -> None:
        in_hand, waiting, dropped = await busy(batcher, embedder), begun(batcher, ["later"]), begun(batcher, ["never"])
        await asyncio.sleep(0)
        dropped.cancel()
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        embedder.gate.set()
        await asyncio.wait_for(closing, 5)
        assert same(await asyncio.wait_for(in_hand, 5), ["wait"])
        assert same(await asyncio.wait_for(waiting, 5), ["later"])

    assert run(work).batches == [["wait"], ["later"]]


def test_an_idle_batcher_is_closed_at_once() -> None:
    """A batcher that never worked can be closed, even twice."""

    async def work(batcher: Batcher, _: RecordingEmbedder) -> None:
        await batcher.close()

    run(work)
