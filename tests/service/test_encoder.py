"""The encoder's process and its client over a real socket: sizes, a kill, other models, deadlines, slow loading."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import uuid
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from related_news.internal.v1 import encoder_service_pb2 as encoder_pb

from recommender.catalog.checks import make_body
from recommender.config import Settings
from recommender.encoding import remote
from recommender.encoding.batcher import WAITING_TEXTS_MAX
from recommender.encoding.embed_articles import embed_by
from recommender.encoding.embedder import Embedder
from recommender.encoding.remote import TEXTS_PER_CALL, RemoteEncoder, connect_encoder
from recommender.errors import DeadlineError, MismatchError, NotFoundError, OverloadError, UnavailableError
from recommender.processes.encoder import MODELS_MAX, EncoderService
from recommender.processes.orders import EncoderReady, StartEncoder
from recommender.processes.process import Process
from tests.building import DIMENSION, FakeEmbedder
from tests.service.client import TIMEOUT_S
from tests.service.fake_encoder import GATE
from tests.service.fake_server import ENCODER
from tests.service.servers import Host

T = TypeVar("T")


class Rig:
    """Encoder processes at one address, and clients of it, on the tests' event loop."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix-abstract:related-news-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.processes: list[Process[EncoderReady]] = []
        self.clients: list[RemoteEncoder] = []
        self._host = host

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._host.loop.run(work)

    async def start(self, model: str = "fake") -> Process[EncoderReady]:
        settings = Settings(data_dir=self.folder, log_level="ERROR")
        order = StartEncoder(settings=settings, model=model, address=self.address)
        self.processes.append(await Process.start("encoder", ENCODER, order, EncoderReady))
        return self.processes[-1]

    async def connect(self, model: str = "fake", timeout_s: float = 10.0) -> RemoteEncoder:
        self.clients.append(await connect_encoder(self.address, model, timeout_s))
        return self.clients[-1]

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        for process in self.processes:
            await process.kill()


@pytest.fixture
def rig(host: Host, tmp_path: Path) -> Any:
    """Return an address with nobody there yet."""
    os.mkfifo(tmp_path / GATE)
    rig = Rig(host, tmp_path)
    yield rig
    rig.run(rig.close())


def texts(count: int) -> list[str]:
    """Return `count` different texts."""
    return [f"tide number {i}" for i in range(count)]


def test_vectors_come_through_the_socket_as_they_are(rig: Rig) -> None:
    """Vectors of any number of texts arrive in order and to the bit; the encoder reports which model it has."""

    async def work() -> None:
        process = await rig.start()
        encoder = await rig.connect()
        assert encoder.info == replace(FakeEmbedder().info, languages=frozenset())
        assert process.ready == EncoderReady(key=FakeEmbedder().info.key, dimension=DIMENSION)
        for count in (0, 1, 3, TEXTS_PER_CALL, 2 * TEXTS_PER_CALL + 7):
            for urgent in (True, False):
                vectors = await encoder.encode(texts(count), urgent=urgent)
                assert vectors.shape == (count, DIMENSION)
                assert vectors.tolist() == FakeEmbedder().encode(texts(count)).tolist()

    rig.run(work())


def test_a_text_may_be_of_any_size(rig: Rig) -> None:
    """A text may be larger than gRPC's default limit of 4 MiB for one message."""

    async def work() -> None:
        await rig.start()
        long = ["word " * 900_000]
        assert (await (await rig.connect()).encode(long)).shape == (1, DIMENSION)

    rig.run(work())


def test_one_encoder_has_several_models(rig: Rig) -> None:
    """Each client gets vectors of its own model; an unknown model is refused by name."""

    async def work() -> None:
        await rig.start()
        fake, wide = await rig.connect(), await rig.connect("wide")
        assert (await fake.encode(["tide"])).tolist() == FakeEmbedder().encode(["tide"]).tolist()
        assert (await wide.encode(["tide"])).shape == (1, 2 * DIMENSION)
        with pytest.raises(MismatchError, match="the encoder refuses: unknown model 'none'"):
            await rig.connect("none")

    rig.run(work())


def test_a_call_waits_for_the_encoder_that_is_started_again(rig: Rig) -> None:
    """A call that was lost with the encoder is made again; one that comes while there is no encoder waits."""

    async def work() -> None:
        first = await rig.start()
        encoder = await rig.connect()
        taken = asyncio.create_task(encoder.encode(["dawdle"]))
        gate = await asyncio.to_thread(open, rig.folder / GATE, "wb", 0)  # opens once the text has arrived
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        gate.close()
        waiting = asyncio.create_task(encoder.encode(["tide"]))
        await rig.start()
        (await asyncio.to_thread(open, rig.folder / GATE, "wb", 0)).close()
        assert (await taken).tolist() == FakeEmbedder().encode(["dawdle"]).tolist()
        assert (await waiting).tolist() == FakeEmbedder().encode(["tide"]).tolist()

    rig.run(work())


def test_an_encoder_that_makes_other_vectors_now_is_refused(rig: Rig) -> None:
    """If a model's weights change under a running worker, the new vectors are refused: they do not fit the old ones."""

    async def work() -> None:
        await rig.start()
        encoder = await rig.connect()
        encoder._info = replace(encoder.info, weights_sha256="f" * 64)
        with pytest.raises(MismatchError) as caught:
            await encoder.encode(["tide"])
        assert str(caught.value).startswith(
            f"the encoder refuses: the model is {FakeEmbedder().info.key} now, not fake@ffffffffffff/"
        )

    rig.run(work())


def test_a_draft_that_takes_too_long_is_given_up_at_its_deadline(rig: Rig) -> None:
    """The caller's deadline ends the wait; the next draft is answered once the encoder is free."""

    async def work() -> None:
        await rig.start()
        encoder = await rig.connect()
        dawdle, tide = (make_body(title, "", []) for title in ("dawdle", "tide"))
        with pytest.raises(DeadlineError, match="could not be encoded in time"):
            await embed_by([dawdle], encoder, urgent=True, timeout_s=0.3)
        (await asyncio.to_thread(open, rig.folder / GATE, "wb", 0)).close()
        [vectors] = await embed_by([tide], encoder, urgent=True, timeout_s=10)
        assert vectors.main.shape == (DIMENSION,)

    rig.run(work())


def test_a_call_has_a_limit_of_its_own(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller without a deadline does not wait forever for an encoder that hangs."""
    monkeypatch.setattr(remote, "_ENCODING_S", 0.3)

    async def work() -> None:
        await rig.start()
        encoder = await rig.connect()
        with pytest.raises(DeadlineError, match="could not be encoded in time"):
            await embed_by([make_body("dawdle", "", [])], encoder, urgent=False)
        (await asyncio.to_thread(open, rig.folder / GATE, "wb", 0)).close()

    rig.run(work())


def test_a_draft_waits_as_long_as_its_caller_allows(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of calls without a deadline does not end a draft whose deadline is later."""
    monkeypatch.setattr(remote, "_ENCODING_S", 0.1)

    async def work() -> None:
        await rig.start()
        encoder = await rig.connect()
        waiting = asyncio.create_task(embed_by([make_body("dawdle", "", [])], encoder, urgent=True, timeout_s=30))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        (await asyncio.to_thread(open, rig.folder / GATE, "wb", 0)).close()
        [vectors] = await waiting
        assert vectors.main.shape == (DIMENSION,)

    rig.run(work())


def test_an_encoder_with_too_much_to_do_says_so(rig: Rig) -> None:
    """A call to an overloaded encoder fails with the advice to try again, not as if something were broken."""

    async def work() -> None:
        await rig.start()
        encoder = await rig.connect()
        first = asyncio.create_task(encoder.encode(["dawdle"]))
        gate = await asyncio.to_thread(open, rig.folder / GATE, "wb", 0)  # opens once the text has arrived
        calls = range(WAITING_TEXTS_MAX // TEXTS_PER_CALL + 10)
        many = [asyncio.create_task(encoder.encode(texts(TEXTS_PER_CALL))) for _ in calls]
        refused, _ = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(OverloadError, match=r"\d+ texts wait to be encoded"):
            refused.pop().result()
        gate.close()
        await asyncio.gather(first, *many, return_exceptions=True)
        assert first.result().shape == (1, DIMENSION)

    rig.run(work())


def test_an_encoder_that_loses_its_supervisor_answers_the_last_calls(rig: Rig) -> None:
    """Workers that lose the supervisor at the same moment can finish their calls; then the encoder ends by itself."""

    async def work() -> None:
        process = await rig.start()
        encoder = await rig.connect()
        assert process._process.stdin is not None
        process._process.stdin.close()
        await asyncio.sleep(0.1)
        assert (await asyncio.wait_for(encoder.encode(["tide"]), 5)).shape == (1, DIMENSION)
        assert await asyncio.wait_for(process.wait(), 10) == 0

    rig.run(work())


def test_a_client_does_not_wait_forever_for_an_encoder(rig: Rig) -> None:
    """A client that connects waits for its encoder until its timeout."""

    async def work() -> None:
        with pytest.raises((DeadlineError, UnavailableError)):
            await rig.connect(timeout_s=0.2)

    rig.run(work())


def test_an_encoder_that_cannot_load_its_model_says_so_and_ends(rig: Rig) -> None:
    """The supervisor gets the error that the encoder met."""

    async def work() -> None:
        with pytest.raises(Exception, match="unknown model 'none'"):
            await rig.start("none")

    rig.run(work())


# The service itself, on models that load slowly


class SlowLoader:
    """Loads any model at once, but the one named "slow" only once the gate is open."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.gate = threading.Event()

    def __call__(self, name: str, settings: Settings) -> Embedder:
        del settings
        if name == "none":
            raise NotFoundError("model", name)
        if name == "slow":
            assert self.gate.wait(TIMEOUT_S)
        self.loaded.append(name)
        return FakeEmbedder(name)


async def encode(service: EncoderService, name: str) -> bytes:
    """Encode one text with a model, as a worker asks for it."""
    request = encoder_pb.EncodeRequest(model_key=FakeEmbedder(name).info.key, texts=["tide"], urgent=True)
    answer: encoder_pb.EncodeResponse = await service.Encode(request, None)  # type: ignore[arg-type]
    return answer.vectors


def vector(name: str) -> bytes:
    """Return what `encode` must return."""
    return FakeEmbedder(name).encode(["tide"]).tobytes()


def test_drafts_are_encoded_while_another_model_is_loaded(host: Host) -> None:
    """A reindex makes the encoder load its model, which takes seconds; no call for the running model waits for that."""

    async def work() -> None:
        load = SlowLoader()
        service = EncoderService(Settings(), load)
        await service.batcher("fake")
        loading = asyncio.create_task(service.batcher("slow"))
        await asyncio.sleep(0.01)
        try:
            assert await asyncio.wait_for(encode(service, "fake"), 2) == vector("fake")
        finally:
            load.gate.set()
        assert (await loading).info.name == "slow"
        await service.close()

    host.loop.run(work())


def test_a_model_is_loaded_once_however_many_ask(host: Host) -> None:
    """Calls that come while a model is being loaded get the same one."""

    async def work() -> None:
        load = SlowLoader()
        service = EncoderService(Settings(), load)
        asking = [asyncio.create_task(service.batcher("slow")) for _ in range(4)]
        await asyncio.sleep(0.01)
        load.gate.set()
        assert len({id(batcher) for batcher in await asyncio.gather(*asking)}) == 1
        assert load.loaded == ["slow"]
        await service.close()

    host.loop.run(work())


def test_a_model_that_fails_to_load_leaves_the_others(host: Host) -> None:
    """A model that failed to load does no harm to others, and is tried again at the next call."""

    async def work() -> None:
        service = EncoderService(Settings(), SlowLoader())
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await service.batcher("none")
        assert await encode(service, "fake") == vector("fake")
        await service.close()

    host.loop.run(work())


def test_the_least_recently_used_model_is_evicted(host: Host) -> None:
    """The model that pages are filled with stays, however many are tried beside it; an evicted one is loaded again."""

    async def work() -> None:
        load = SlowLoader()
        service = EncoderService(Settings(), load)
        for turn in range(MODELS_MAX + 1):
            assert await encode(service, "active") == vector("active")
            assert await encode(service, f"other-{turn}") == vector(f"other-{turn}")
        assert load.loaded.count("active") == 1
        assert await encode(service, "other-0") == vector("other-0")
        assert load.loaded.count("other-0") == 2
        await service.close()

    host.loop.run(work())
