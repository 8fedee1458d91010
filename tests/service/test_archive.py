"""The archive that follows its store: nothing that happens while it is busy with something else is skipped."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recommender.catalog.articles import Body, Rules
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, open_live, read_changes, replay
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.writer import make_current, write_snapshot
from recommender.catalog.store.store import Store, open_store
from recommender.catalog.store.writes import Outcome, Upsert
from recommender.encoding.batcher import Batcher
from recommender.encoding.embedder import Encoder, Matrix, model_of
from recommender.errors import DeadlineError, MismatchError, OverloadError, UnavailableError
from recommender.serving import archive, following
from recommender.serving.archive import Archive
from recommender.serving.following import Follower, StoreState
from tests.building import DIMENSION, FakeEmbedder, article, open_archive, writes
from tests.newsroom import PAGE
from tests.service.crew import eventually
from tests.service.servers import Host

FAKE, OTHER = FakeEmbedder(), FakeEmbedder("other")


class Rig:
    """An archive that follows its store on the tests' event loop, and that store opened once more beside it."""

    def __init__(self, host: Host, data_dir: Path, *, poll_s: float = 0.05, calls_max: int = 1_000) -> None:
        self.loop, self.data_dir, self.asked = host.loop, data_dir, 0
        self.encoder_for: Callable[[str], Encoder] = lambda key: Batcher(FakeEmbedder(model_of(key)))
        self.store = open_store(data_dir / STORE_FILE)
        self.follower, self.archive = self.loop.run(self._start(poll_s, calls_max))

    async def _start(self, poll_s: float, calls_max: int) -> tuple[Follower, Archive]:
        """Start them; a failure is tried again at once."""
        store, live = open_archive(self.data_dir)
        encoder = Batcher(FakeEmbedder())
        follower = Follower(self.data_dir, store, live, encoder, self._encoder_for, poll_s=poll_s, retry_s=0.01)
        archive = Archive(follower, concurrent_calls_max=calls_max)
        await archive.follow()
        return follower, archive

    async def _encoder_for(self, key: str) -> Encoder:
        self.asked += 1
        return await asyncio.to_thread(self.encoder_for, key)

    def snapshot(self) -> Path:
        """Write a snapshot of the active encoder; it is the current one then."""
        return write_snapshot(self.store, self.data_dir / SNAPSHOTS, DIMENSION)

    def switch(self, embedder: FakeEmbedder) -> None:
        """Let another encoder become active, with its snapshot."""
        store = Store(self.store.path, embedder.info.key, lambda a: writes([a], embedder)[0].vectors)
        snapshot = write_snapshot(store, self.data_dir / SNAPSHOTS, DIMENSION)
        store.make_encoder_active()
        make_current(snapshot)
        store.close()

    def close(self) -> None:
        self.loop.run(self.archive.close())
        self.store.close()


@pytest.fixture
def rig(host: Host, data_dir: Path) -> Iterator[Rig]:
    """Follow a fresh copy of the newsroom."""
    rig = Rig(host, data_dir)
    yield rig
    rig.close()


def test_a_notification_while_the_store_is_being_read_is_not_lost(
    host: Host, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that is committed just after the store was read is applied at once, not at the next poll."""
    with closing(Rig(host, data_dir, poll_s=30.0)) as rig:
        real, once = rig.follower.read_state, threading.Event()

        def read_state() -> StoreState:
            state = real()
            if not once.is_set():
                once.set()
                rig.store.write(writes([article("new")]))
                rig.loop.call(rig.follower.notify)
                threading.Event().wait(0.05)
            return state

        monkeypatch.setattr(rig.follower, "read_state", read_state)
        rig.loop.call(rig.follower.notify)
        assert eventually(lambda: rig.archive.live.find("new") is not None)


def test_a_snapshot_that_comes_while_another_is_swapped_in_is_swapped_in_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no further change of the store."""
    newest: list[Path] = []
    real = rig.follower.load

    def load(store: Store, dimension: int, scopes: Sequence[Scope]) -> Live:
        live = real(store, dimension, scopes)
        if not newest:
            newest.append(rig.snapshot())
            threading.Event().wait(0.2)
        return live

    monkeypatch.setattr(rig.follower, "load", load)
    rig.snapshot()
    assert eventually(lambda: bool(newest) and rig.archive.live.folder == newest[0])


def test_a_switch_that_is_undone_meanwhile_is_undone_here_too(rig: Rig) -> None:
    """If the first model becomes active again while this process still loads the other one, writes go on."""
    gate = threading.Event()

    def slow(key: str) -> Encoder:
        if key == OTHER.info.key:
            assert gate.wait(10)
        return Batcher(FakeEmbedder(model_of(key)))

    rig.encoder_for = slow
    rig.switch(OTHER)
    assert eventually(lambda: rig.asked == 1)
    rig.switch(FAKE)
    threading.Event().wait(0.2)
    gate.set()
    assert eventually(lambda: rig.archive.store.encoder == FAKE.info.key and not rig.follower.is_switching)
    outcomes, revision = rig.loop.run(rig.archive.upsert([Upsert(article("new"), keep_rules=True)]))
    assert (len(outcomes), revision) == (1, 41)
    assert rig.archive.live.manifest.encoder == FAKE.info.key


@pytest.mark.parametrize("error", [UnavailableError("being started"), OSError("no memory")])
def test_a_snapshot_that_cannot_be_swapped_in_now_is_tried_again(
    rig: Rig, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """An encoder that is being started again does not leave a worker on the old model for good."""
    reasons = [error, error]

    def failing(key: str) -> Encoder:
        if reasons:
            raise reasons.pop()
        return Batcher(FakeEmbedder(model_of(key)))

    rig.encoder_for = failing
    rig.switch(OTHER)
    assert eventually(lambda: rig.archive.encoder.info.key == OTHER.info.key)
    assert rig.archive.live.manifest.encoder == rig.archive.store.encoder == OTHER.info.key
    lines = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [line.getMessage().endswith(f"is not swapped in yet: {error}") for line in lines] == [True, True]
    assert all(bool(line.exc_info) == isinstance(error, OSError) for line in lines)


def test_a_model_that_does_not_fit_is_refused_once_and_the_old_one_answers(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """The model of another release gives one log line, and pages are still filled by the model before."""

    def refuse(key: str) -> Encoder:
        raise MismatchError(f"there is no {key}")

    rig.encoder_for = refuse
    rig.switch(OTHER)
    assert eventually(lambda: rig.asked == 1)
    threading.Event().wait(0.3)
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert [line.split(": ", 1)[1] for line in lines] == [f"there is no {OTHER.info.key}"]
    assert rig.archive.live.manifest.encoder == FAKE.info.key
    assert rig.archive.live.find("harbour-0") is not None


def test_a_current_snapshot_that_does_not_fit_is_tried_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A reindex that was killed just after its switch leaves the old model's snapshot as the current one."""
    caplog.set_level(logging.INFO, "recommender.serving.following")
    old = current_snapshot(rig.data_dir / SNAPSHOTS)
    assert old is not None
    rig.switch(OTHER)
    assert eventually(lambda: rig.archive.store.encoder == OTHER.info.key)
    make_current(old)
    threading.Event().wait(0.3)
    assert rig.archive.live.manifest.encoder == OTHER.info.key
    assert 1 <= len([r for r in caplog.records if "swapped in after" in r.getMessage()]) <= 2


def test_a_reader_keeps_its_snapshot_when_that_is_pruned(rig: Rig) -> None:
    """A live view that does not follow still answers from files that are unlinked; then it catches up."""
    old = current_snapshot(rig.data_dir / SNAPSHOTS)
    assert old is not None
    store = open_store(rig.store.path)
    reader = open_live(store, rig.data_dir / SNAPSHOTS, DIMENSION)
    before = [reader.record(row) for row in range(40)]
    for number in range(3):
        rig.store.write(writes([article(f"n{number}")]))
        rig.snapshot()
    assert not old.exists()
    for number, record in enumerate(before):
        assert reader.record(number).to_bytes() == record.to_bytes()
        row = reader.find(record.id)
        assert row is not None
        vector = reader.main_vectors(np.array([row]))[0]
        assert reader.search(vector, 1, 0, 2**62, Scope()).rows.tolist() == [row]
    replay(store, reader)
    assert (reader.count, reader.revision) == (43, 43)
    store.close()
    assert eventually(lambda: rig.archive.live.folder == current_snapshot(rig.data_dir / SNAPSHOTS))


# Writes whose callers are gone, slow disks, slow encoders


def test_the_write_of_a_cancelled_call_is_still_applied(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up while another writer holds the store ends the call, not the write."""
    live, other = rig.archive.live, sqlite3.connect(rig.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun, real = threading.Event(), rig.archive.store.delete

    def delete(ids: Sequence[str]) -> list[bool]:
        begun.set()
        return real(ids)

    monkeypatch.setattr(rig.archive.store, "delete", delete)
    deleting = rig.loop.begin(rig.archive.delete([PAGE]))
    assert begun.wait(10)
    deleting.cancel()
    other.execute("COMMIT")
    other.close()
    assert eventually(lambda: live.find(PAGE) is None)
    assert rig.archive.live.revision == rig.store.revision()


def test_changes_are_applied_while_a_write_of_our_own_waits(rig: Rig) -> None:
    """Otherwise another writer, which waits for this process, would kill it after three seconds."""
    gate = threading.Event()
    waiting = rig.loop.begin(rig.archive.on_disk(gate.wait, 10))
    try:
        rig.store.write(writes([article("new")]))
        assert eventually(lambda: rig.archive.live.find("new") is not None)
        assert not waiting.done()
    finally:
        gate.set()


def test_the_archive_reports_how_far_the_store_is_ahead(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's revision is reported before and after its changes are applied."""
    gate = threading.Event()

    def slow(store: Store, live: Live) -> Any:
        assert gate.wait(10)
        return read_changes(store, live)

    monkeypatch.setattr(following, "read_changes", slow)
    before = rig.archive.live.revision
    rig.store.write(writes([article("new")]))
    assert eventually(lambda: rig.archive.store_revision == before + 1)
    assert rig.archive.live.revision == before
    gate.set()
    assert eventually(lambda: rig.archive.live.revision == before + 1)


class Hanging(FakeEmbedder):
    """An embedder that hangs until its gate opens."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self._gate = gate

    def encode(self, texts: Sequence[str]) -> Matrix:
        assert self._gate.wait(10)
        return super().encode(texts)


def test_a_draft_without_a_deadline_does_not_wait_forever(
    host: Host, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that sets no deadline gets DeadlineError from an encoder that hangs."""
    gate = threading.Event()
    monkeypatch.setattr(archive, "_DRAFT_S", 0.1)
    with closing(Rig(host, data_dir)) as rig, monkeypatch.context() as patch:
        patch.setattr(rig.follower, "encoder", Batcher(Hanging(gate)))
        with pytest.raises(DeadlineError):
            rig.loop.run(rig.archive.read_draft(Body("Talks", "", ()), None))
        gate.set()


def test_only_half_of_the_calls_may_wait_for_the_encoder(
    host: Host, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that hangs does not use up all calls of a process: withdrawals need no encoder."""
    gate = threading.Event()
    body = Body("Talks", "", ())
    with closing(Rig(host, data_dir, calls_max=2)) as rig, monkeypatch.context() as patch:
        patch.setattr(rig.follower, "encoder", Batcher(Hanging(gate)))
        first = rig.loop.begin(rig.archive.read_draft(body, 10.0))
        assert eventually(lambda: rig.archive._encodings == 1)
        with pytest.raises(OverloadError, match="1 calls wait for the encoder already"):
            rig.loop.run(rig.archive.read_draft(body, 10.0))
        with pytest.raises(OverloadError):
            rig.loop.run(rig.archive.upsert([Upsert(article("new"), keep_rules=True)]))
        stored = rig.loop.run(rig.archive.get(PAGE))
        assert stored is not None
        hidden = replace(stored, rules=Rules(never_target=True))
        upsert = rig.archive.upsert([Upsert(hidden, keep_rules=False)])
        assert rig.loop.run(upsert)[0] == {PAGE: Outcome.CHANGED}
        assert rig.loop.run(rig.archive.delete([PAGE]))[0] == [True]
        gate.set()
        assert first.result(10)
        assert rig.loop.run(rig.archive.read_draft(body, 10.0))
