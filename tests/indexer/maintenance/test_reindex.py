"""Reindexing: every text once, whatever happens on the way, one switch, and the same way back."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.maintenance import reindex as module
from indexer.maintenance.reindex import model_to_move_to, reindex
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, replay
from recommender.catalog.snapshot.manifest import Manifest, current_snapshot, finished_snapshots
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store, encoders_of, open_store
from recommender.config import Settings
from recommender.encoding.embed_articles import embed
from recommender.errors import MismatchError, NotFoundError
from recommender.processes.orders import EncoderReady, StartEncoder, to_line
from recommender.serving.roster import open_roster
from tests import ROOT
from tests.building import DIMENSION, FakeEmbedder, RecordingProgress, article, build_store, open_archive, writes
from tests.service.fake_server import ENCODER

COUNT = 10


def wide() -> FakeEmbedder:
    """Return another encoder than the index's, of more dimensions."""
    return FakeEmbedder("wide", 2 * DIMENSION)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return the store of an index of some articles, two of which have the same text, and one that was withdrawn."""
    articles = [article(f"a{i}", title=f"Tide number {i}") for i in range(COUNT - 1)]
    store = build_store(tmp_path, [*articles, article("copy", title="Tide number 0"), article("gone", title="Gone")])
    store.delete(["gone"])
    write_snapshot(store, tmp_path / SNAPSHOTS, DIMENSION)
    yield store
    store.close()


def texts_of(count: int) -> int:
    """Return how many texts the encoder gets of so many articles of one paragraph: head and passage."""
    return 2 * count


def is_of(data_dir: Path, embedder: FakeEmbedder) -> bool:
    """Say whether an index is of an encoder, throughout: store, current snapshot, and every article's vectors."""
    opened_store, live = open_archive(data_dir, embedder)
    try:
        replay(opened_store, live)
        stored = opened_store.stored(sorted(opened_store.ids()))
        right = all(one.vectors.to_bytes() == embed([one.article], embedder)[0].to_bytes() for one in stored.values())
        current = current_snapshot(data_dir / SNAPSHOTS)
        assert current is not None
        keys = {encoders_of(opened_store.path)[0], Manifest.read(current).encoder, live.manifest.encoder}
        return right and keys == {embedder.info.key} and live.count == len(stored) == len(opened_store.ids())
    finally:
        opened_store.close()


# Moving


def test_the_whole_index_moves_to_another_model(store: Store, tmp_path: Path) -> None:
    """Each text is embedded once, what was withdrawn is not; the report says from what to what."""
    embedder, progress = wide(), RecordingProgress()
    report = reindex(tmp_path, embedder, progress=progress)
    assert (report.before, report.now) == (store.encoder, embedder.info.key)
    assert (report.embedded, report.services) == (COUNT - 1, 0)
    assert embedder.texts == texts_of(COUNT - 1)
    assert progress.stages == [("embedding", COUNT - 1), ("snapshot", COUNT)]
    assert progress.steps[0] == [COUNT - 1]
    assert report.snapshot == current_snapshot(tmp_path / SNAPSHOTS)
    assert is_of(tmp_path, wide())


def test_there_and_back_costs_nothing_twice(store: Store, tmp_path: Path) -> None:
    """The way back, and the way there again, embed nothing; what was written meanwhile is embedded alone."""
    first, other = FakeEmbedder(), wide()
    reindex(tmp_path, other)
    written = Store(store.path, other.info.key)
    written.write(writes([article("new", title="New")], wide()))
    written.close()
    assert model_to_move_to(tmp_path, None, back=True) == "fake"
    assert (reindex(tmp_path, first).embedded, first.texts) == (1, texts_of(1))
    assert is_of(tmp_path, FakeEmbedder())
    assert model_to_move_to(tmp_path, None, back=True) == "wide"
    again = wide()
    assert (reindex(tmp_path, again).embedded, again.texts) == (0, 0)
    assert is_of(tmp_path, wide())


def test_there_and_back_without_a_change_leaves_a_current_snapshot(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshots of one revision differ in the random part of their names: whichever comes first, the new one stays."""
    numbers = itertools.count(2**31, -1)
    assert store.revision()
    with monkeypatch.context() as patch:
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers) << 96))
        for embedder in (wide(), FakeEmbedder()) * 2:
            snapshot = reindex(tmp_path, embedder).snapshot
            assert current_snapshot(tmp_path / SNAPSHOTS) == snapshot
    assert is_of(tmp_path, FakeEmbedder())


def test_without_another_model_there_is_a_new_snapshot_from_nothing(store: Store, tmp_path: Path) -> None:
    """Nothing is embedded; the snapshot is of the present revision."""
    store.write(writes([article("new")]))
    embedder = FakeEmbedder()
    before = current_snapshot(tmp_path / SNAPSHOTS)
    report = reindex(tmp_path, embedder)
    assert (report.embedded, embedder.texts, report.before) == (0, 0, report.now)
    assert report.snapshot == current_snapshot(tmp_path / SNAPSHOTS) != before
    assert Manifest.read(report.snapshot).revision == store.revision()
    assert encoders_of(store.path)[1] is None, "that is no switch to go back from"


def test_it_may_stop_before_the_switch(store: Store, tmp_path: Path) -> None:
    """Everything is ready then, and the service's model is the old one; the same again switches without embedding."""
    before = current_snapshot(tmp_path / SNAPSHOTS)
    report = reindex(tmp_path, wide(), switch=False)
    assert (report.before, report.now) == (store.encoder, store.encoder)
    assert current_snapshot(tmp_path / SNAPSHOTS) == before
    assert Manifest.read(report.snapshot).encoder == wide().info.key
    assert is_of(tmp_path, FakeEmbedder())
    store.write(writes([article("new", title="New")]))
    embedder = wide()
    assert reindex(tmp_path, embedder).now == embedder.info.key
    assert embedder.texts == texts_of(1)
    assert is_of(tmp_path, wide())


def test_a_snapshot_that_was_prepared_is_not_pruned_by_the_running_service(store: Store, tmp_path: Path) -> None:
    """However often that writes its own meanwhile; and it is not used for it."""
    prepared = reindex(tmp_path, wide(), switch=False).snapshot
    for number in range(3):
        store.write(writes([article(f"n{number}")]))
        write_snapshot(store, tmp_path / SNAPSHOTS, DIMENSION)
    assert prepared in finished_snapshots(tmp_path / SNAPSHOTS)
    assert is_of(tmp_path, FakeEmbedder())


def test_what_is_written_and_withdrawn_meanwhile_is_in_it(store: Store, tmp_path: Path) -> None:
    """After its snapshot was begun as before it, by writers who know only the old model."""

    class Writing(RecordingProgress):
        def begin(self, stage: str, total: int | None) -> None:
            super().begin(stage, total)
            self._write_one()

        def advance(self, steps: int = 1) -> None:
            super().advance(steps)
            self._write_one()

        def _write_one(self) -> None:
            (stage, total), done = self.stages[-1], sum(self.steps[-1])
            if stage == "snapshot":
                store.write(writes([article(f"late-{done}", title=f"Late {done} of {total}")]))
                store.delete([f"a{done % 9}"])

    reindex(tmp_path, wide(), progress=Writing())
    assert is_of(tmp_path, wide())
    ids = open_archive(tmp_path, wide())[0].ids()
    assert {"late-0", f"late-{COUNT}"} <= ids
    assert not {"a0", f"a{COUNT % 9}"} & ids


# What is refused


def test_without_an_index_there_is_nothing_to_reindex(tmp_path: Path) -> None:
    """The folder and the remedy are named."""
    for work in (lambda: reindex(tmp_path, wide()), lambda: model_to_move_to(tmp_path, None, back=False)):
        with pytest.raises(NotFoundError, match=r"unknown data folder .* \(run `related-news index ARTICLES` first\)"):
            work()
    assert list(tmp_path.iterdir()) == []


def test_there_may_be_nothing_to_go_back_to(store: Store, tmp_path: Path) -> None:
    """Before the first switch."""
    assert store.revision()
    with pytest.raises(NotFoundError) as caught:
        model_to_move_to(tmp_path, None, back=True)
    assert str(caught.value) == (
        f"unknown model before '{tmp_path}' (there was no switch yet; name a model with --model)"
    )


def test_which_model_is_meant(store: Store, tmp_path: Path) -> None:
    """The one that is named, else the index's own."""
    assert store.revision()
    assert model_to_move_to(tmp_path, "wide", back=False) == "wide"
    assert model_to_move_to(tmp_path, None, back=False) == "fake"


class Service:
    """A seat of a running service whose encoder is a process of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.address = f"unix-abstract:related-news-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        settings = Settings(data_dir=data_dir, log_level="ERROR")
        order = StartEncoder(settings=settings, model="fake", address=self.address)
        self.process = subprocess.Popen(ENCODER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(to_line(order).decode())
        self.process.stdin.flush()
        assert EncoderReady.__name__ in self.process.stdout.readline()


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    """Return a running service's seat and encoder, of which two workers have seats."""
    service = Service(store.path.parent)
    with open_roster(tmp_path) as one, open_roster(tmp_path) as other, service.process:
        for roster in (one, other):
            roster.take("doorbell", service.address, 0)
        yield service
        service.process.kill()


@pytest.mark.slow
def test_a_running_service_loads_the_model_before_the_switch(service: Service, tmp_path: Path) -> None:
    """It is one service, however many workers it has."""
    assert service.process.poll() is None
    assert reindex(tmp_path, wide()).services == 1
    assert is_of(tmp_path, wide())


@pytest.mark.slow
def test_a_service_of_another_release_stops_the_switch(service: Service, tmp_path: Path) -> None:
    """It makes other vectors of the same name: that is refused by name, and the index stays as it was."""
    embedder = wide()
    embedder._info = replace(embedder.info, weights_sha256="f" * 64)
    theirs = wide().info.key
    assert service.process.poll() is None
    with pytest.raises(MismatchError) as caught:
        reindex(tmp_path, embedder)
    assert str(caught.value) == (
        f"a running service makes {theirs} of this model, not {embedder.info.key}"
        " (it is of another release, or cannot see these files; stop it, then run this again)"
    )
    assert is_of(tmp_path, FakeEmbedder())


@pytest.mark.slow
def test_a_service_that_cannot_load_the_model_stops_the_switch(service: Service, tmp_path: Path) -> None:
    """Its encoder's own words are in the error."""
    assert service.process.poll() is None
    with pytest.raises(MismatchError, match="the encoder refuses: unknown model 'none'"):
        reindex(tmp_path, FakeEmbedder("none"))
    assert is_of(tmp_path, FakeEmbedder())


# Killed on the way

RUN = """
import sys
from pathlib import Path
from indexer.maintenance import reindex as module
from tests.building import DIMENSION, FakeEmbedder

class Told(FakeEmbedder):
    def encode(self, texts):
        print("embedding", flush=True)
        sys.stdin.readline()
        return super().encode(texts)

module.BATCH_ARTICLES = 2
real = module.write_snapshot
def told(*arguments, **options):
    print("snapshot", flush=True)
    sys.stdin.readline()
    made = real(*arguments, **options)
    print("switch", flush=True)
    sys.stdin.readline()
    return made
module.write_snapshot = told
module.reindex(Path(sys.argv[1]), Told("wide", 2 * DIMENSION))
print("done", flush=True)
"""
"""Reindexes in batches of two texts; says what it is about to do, and waits for a line each time."""


def killed_at(data_dir: Path, step: str, times: int) -> None:
    """Run RUN until it is about to do something for so many times, and kill it then."""
    command = [sys.executable, "-c", RUN, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while (line := process.stdout.readline().strip()) != step or (times := times - 1):
            assert line != "done"
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "times", "left"), [("embedding", 1, 9), ("embedding", 3, 5), ("snapshot", 1, 0), ("switch", 1, 0)]
)
def test_a_run_that_was_killed_goes_on_where_it_was(
    store: Store, tmp_path: Path, step: str, times: int, left: int
) -> None:
    """SIGKILL at any step: the index is as it was, and only what is left is embedded the next time."""
    killed_at(tmp_path, step, times)
    assert is_of(tmp_path, FakeEmbedder())
    store.write(writes([article("new", title="New")]))
    embedder = wide()
    report = reindex(tmp_path, embedder)
    assert (report.embedded, embedder.texts) == (left + 1, texts_of(left + 1))
    assert is_of(tmp_path, wide())


def test_a_switch_that_was_killed_before_the_snapshot_became_current_is_a_switch(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two a kill leaves the old one as the current snapshot: the start finds the right one."""

    def killed(_: Path) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(module, "make_current", killed)
        reindex(tmp_path, wide())
    assert encoders_of(store.path) == (wide().info.key, store.encoder)
    assert is_of(tmp_path, wide())
    reopened = open_store(tmp_path / STORE_FILE)
    assert reopened.encoder == wide().info.key
    reopened.close()
