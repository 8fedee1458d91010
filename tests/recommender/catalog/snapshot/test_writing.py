"""Writing a snapshot: whatever happens meanwhile, one whole snapshot is the current one."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot import writer
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import SNAPSHOTS_KEPT, write_snapshot
from recommender.catalog.store.store import Store, open_store
from recommender.errors import MismatchError, StorageError
from tests import ROOT
from tests.building import (
    DIMENSION,
    FakeEmbedder,
    RecordingProgress,
    article,
    writes,
)
from tests.recommender.catalog.snapshot.making import FILES, OTHER_NAMES, leftovers, write


def test_progress_is_reported_row_by_row(store: Store) -> None:
    """The stage says how many rows there are, and its steps add up to them."""
    progress = RecordingProgress()
    write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION, progress)
    assert (progress.stages, progress.steps) == ([("snapshot", 3)], [[3]])


def test_old_snapshots_are_removed_except_the_last(store: Store) -> None:
    """The current snapshot and the one before stay; an open one stays readable after its files are removed."""
    opened = Snapshot(write(store))
    paths = [opened.folder]
    for i in range(3):
        store.write(writes([article(f"x{i}")]))
        paths.append(write(store))
    folder = paths[0].parent
    assert sorted(p for p in folder.iterdir() if p.is_dir()) == paths[-SNAPSHOTS_KEPT:]
    assert current_snapshot(folder) == paths[-1]
    assert leftovers(folder) == []
    assert [opened.record(row).id for row in range(3)] == ["bare", "full", "later"]
    assert len(opened.main_vectors(np.arange(3))) == 3


def test_one_revision_may_have_two_snapshots(store: Store) -> None:
    """Writing again without a change makes a new folder, which is the current one."""
    first, second = write(store), write(store)
    assert first != second
    assert first.name.split("-")[0] == second.name.split("-")[0] == "000000000003"
    assert current_snapshot(first.parent) == second


def test_what_a_crashed_writer_left_is_removed(store: Store) -> None:
    """An unfinished folder is removed: writers take turns, so that no other one is at work."""
    half = store.path.parent / SNAPSHOTS / "new-0badc0de"
    half.mkdir(parents=True)
    (half / "heads.npy").write_bytes(b"half")
    write(store)
    assert not half.exists()


def test_writers_take_turns(store: Store) -> None:
    """A second writer waits for the first, and both snapshots are whole."""
    folder = store.path.parent / SNAPSHOTS
    other = open_store(store.path)
    second: list[Thread] = []

    class Starting(RecordingProgress):
        def begin(self, stage: str, total: int | None) -> None:
            super().begin(stage, total)
            second.append(Thread(target=lambda: write(other)))
            second[0].start()
            assert len(list(folder.glob("new-*"))) == 1

        def advance(self, steps: int = 1) -> None:
            super().advance(steps)
            assert len(list(folder.glob("new-*"))) == 1

    first = write_snapshot(store, folder, DIMENSION, Starting())
    second[0].join()
    other.close()
    current = current_snapshot(folder)
    assert current is not None
    assert current != first
    assert [Snapshot(path).rows for path in (first, current)] == [3, 3]


@pytest.mark.slow
def test_a_failure_at_any_flush_leaves_a_whole_current_snapshot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the writer got when the disk failed, the old or the new snapshot is current and all else is gone."""
    old = write(store)
    store.write(writes([article("new")]))
    folder, flush, calls = old.parent, os.fsync, 0
    failing = 0

    def fail_once(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    while True:
        failing, calls = failing + 1, 0
        try:
            new = write(store)
        except StorageError as error:
            assert str(error) == f"{folder}: cannot write a snapshot: Input/output error (check the folder)"
        else:
            break
        current = current_snapshot(folder)
        assert current is not None
        assert Snapshot(current).rows == (3 if current == old else 4)
        assert leftovers(folder) == []
        assert {p for p in folder.iterdir() if p.is_dir()} <= {old, current}
    assert failing > len(FILES) + 4
    assert (current_snapshot(folder), Snapshot(new).rows) == (new, 4)


@pytest.mark.parametrize("step", ["_manifest", "_statistics", "_publish", "make_current", "_prune"])
def test_an_interruption_leaves_nothing_unfinished(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """An exception of another kind, such as a signal's, is passed on, and nothing unfinished is left."""
    old = write(store)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(store)
    current = current_snapshot(old.parent)
    assert current is not None
    assert (current == old) == (step != "_prune")
    assert Snapshot(current).rows == 3
    assert leftovers(old.parent) == []


def test_a_folder_that_cannot_be_written_is_named(store: Store) -> None:
    """A file in the folder's place is reported as the cause."""
    folder = store.path.parent / SNAPSHOTS
    folder.touch()
    with pytest.raises(StorageError) as caught:
        write(store)
    assert (
        str(caught.value)
        == f"{folder}: cannot be written: File exists (make data_dir writable for this user, or choose another)"
    )


def test_an_article_without_vectors_of_the_model_stops_the_writer(store: Store) -> None:
    """The article is named, and the old snapshot stays."""
    old = write(store)
    other = Store(store.path, FakeEmbedder("other").info.key)
    with pytest.raises(MismatchError) as caught:
        write(other)
    assert str(caught.value) == "article 'bare' has no vectors of this model (run `related-news reindex`)"
    assert (current_snapshot(old.parent), leftovers(old.parent)) == (old, [])
    other.close()


_WRITER = """
import sys
from pathlib import Path
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import open_store
from tests.building import DIMENSION, FakeEmbedder
folder = Path(sys.argv[1])
store = open_store(folder / "store.sqlite3", FakeEmbedder().info.key)
while True:
    print(write_snapshot(store, folder / SNAPSHOTS, DIMENSION).name, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_writer_leaves_a_whole_current_snapshot(store: Store, seed: int) -> None:
    """After SIGKILL at a random moment the current snapshot is whole, and the next writer removes what is left."""
    rng = random.Random(seed)
    data_dir = store.path.parent
    folder = data_dir / SNAPSHOTS
    command = [sys.executable, "-c", _WRITER, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        for _ in range(rng.randint(1, 3)):
            child.stdout.readline()
        writing = rng.choice(FILES)
        while not list(folder.glob(f"new-*/{writing}")):
            assert child.poll() is None
        child.kill()
    assert child.returncode == -signal.SIGKILL
    current = current_snapshot(folder)
    assert current is not None
    assert Snapshot(current).rows == 3
    assert write(store) == current_snapshot(folder)
    assert leftovers(folder) == []
    assert len(list(folder.iterdir())) == SNAPSHOTS_KEPT + len(OTHER_NAMES)
