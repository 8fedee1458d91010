"""Opening a data folder: the newest snapshot that is whole and fits is used, whatever else is in the folder."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from recommender.catalog import opening
from recommender.catalog.opening import (
    SNAPSHOTS,
    STORE_FILE,
    open_catalog,
    open_live,
    read_changes,
    replay,
    usable_folder,
    usable_snapshot,
)
from recommender.catalog.snapshot.manifest import current_snapshot, finished_snapshots
from recommender.catalog.snapshot.writer import make_current, write_snapshot
from recommender.catalog.store.sqlite import copy_database
from recommender.catalog.store.store import Store, create_store, open_store
from recommender.encoding.embedder import EMBEDDED_MODEL
from recommender.encoding.model_for import model_for
from recommender.errors import CorruptError, MismatchError
from tests.building import DIMENSION, FakeEmbedder, article, build_store, writes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store of three articles."""
    store = build_store(tmp_path, [article(id) for id in "abc"])
    yield store
    store.close()


@pytest.fixture
def folder(store: Store) -> Path:
    """Return the folder of its snapshots."""
    return store.path.parent / SNAPSHOTS


def write(store: Store) -> Path:
    """Write a snapshot."""
    return write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION)


def add(store: Store, *ids: str) -> None:
    """Write articles, each of them a change."""
    store.write(writes([article(id) for id in ids]))


def opened(store: Store) -> tuple[Path, int, int]:
    """Open the live view; returns its snapshot's folder, its revision, and its articles after replay."""
    live = open_live(store, store.path.parent / SNAPSHOTS, DIMENSION)
    revision = live.revision
    replay(store, live)
    return live.folder, revision, live.count


# Which snapshot


def test_without_a_snapshot_one_is_written(store: Store, folder: Path) -> None:
    """A folder without a snapshot gets one, which is the current one."""
    path, revision, count = opened(store)
    assert (path, revision, count) == (current_snapshot(folder), 3, 3)


def test_the_current_one_is_opened_and_later_changes_are_replayed(store: Store, folder: Path) -> None:
    """The current snapshot is opened and later changes are replayed; no snapshot is written for that."""
    path = write(store)
    add(store, "d", "e")
    store.delete(["a"])
    assert opened(store) == (path, 3, 4)
    assert finished_snapshots(folder) == [path]


def test_the_one_that_current_names_is_preferred_to_a_newer_one(store: Store) -> None:
    """An older snapshot that CURRENT names, by hand or after a switch back, is used."""
    older = write(store)
    add(store, "d")
    write(store)
    make_current(older)
    assert opened(store) == (older, 3, 4)


@pytest.mark.parametrize("broken", [1, 2], ids=["the newest broken", "both broken"])
def test_an_older_one_takes_the_place_of_a_broken_one(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture, broken: int
) -> None:
    """The older one becomes the current one, or a new one if none is whole; each broken one is named in a line."""
    paths = [write(store)]
    add(store, "d")
    paths.append(write(store))
    for path in paths[-broken:]:
        (path / "heads.npy").unlink()
    path, revision, count = opened(store)
    assert count == 4
    assert current_snapshot(folder) == path
    assert (path, revision) == (paths[0], 3) if broken == 1 else path not in paths
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [line.split(":")[0] for line in warnings] == [
        f"snapshot {path.name} is not used" for path in reversed(paths[-broken:])
    ]


def test_the_supervisor_finds_the_same_without_loading_it(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor answers no call, and chooses the same snapshot without the time and memory of an index."""
    paths = [write(store)]
    add(store, "d")
    paths.append(write(store))
    usable = [usable_snapshot(store, folder)]
    (paths[1] / "heads.npy").unlink()
    usable.append(usable_snapshot(store, folder))
    assert [snapshot and snapshot.folder for snapshot in usable] == paths[::-1]
    monkeypatch.setattr(opening, "Snapshot", None)
    assert usable_folder(store, folder) == paths[0]
    (paths[0] / "heads.npy").unlink()
    assert usable_folder(store, folder) is None


def test_checksums_are_compared_only_when_asked_for(store: Store, folder: Path) -> None:
    """Checksums are compared only when asked for: the supervisor does it once for all its workers."""
    path = write(store)
    data = bytearray((path / "heads.npy").read_bytes())
    data[-1] ^= 1
    (path / "heads.npy").write_bytes(data)
    assert usable_snapshot(store, folder, verify=False) is not None
    assert usable_snapshot(store, folder) is None
    assert usable_folder(store, folder) is None


def test_a_worker_does_not_change_current(store: Store, folder: Path) -> None:
    """A worker that finds the current snapshot broken uses an older one but does not change CURRENT."""
    paths = [write(store)]
    add(store, "d")
    paths.append(write(store))
    (paths[1] / "heads.npy").unlink()
    assert open_live(store, folder, DIMENSION, verify=False).folder == paths[0]
    assert current_snapshot(folder) == paths[1]
    assert open_live(store, folder, DIMENSION).folder == current_snapshot(folder) == paths[0]


def test_one_of_another_encoder_is_left_alone(store: Store, folder: Path) -> None:
    """A snapshot that was prepared for another model waits for its switch, also when it is the newest."""
    path = write(store)
    wide = FakeEmbedder("wide", 2 * DIMENSION)
    other = Store(store.path, wide.info.key, lambda a: writes([a], wide)[0].vectors)
    add(store, "d")
    prepared = write_snapshot(other, folder, 2 * DIMENSION)
    other.close()
    assert opened(store) == (path, 3, 4)
    assert prepared in finished_snapshots(folder)


def test_one_of_another_release_s_analysis_is_not_used(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot whose terms another release extracted is not used."""
    write(store)
    monkeypatch.setattr(opening, "ANALYSIS", "terms-0+sketch-0")
    assert usable_snapshot(store, folder) is None


@pytest.mark.parametrize(("changes", "used"), [(4, True), (5, False)])
def test_one_that_is_too_far_behind_is_written_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch, changes: int, used: bool
) -> None:
    """Up to a number of changes they are replayed; beyond it a new snapshot is written."""
    monkeypatch.setattr(opening, "REPLAYED_CHANGES", 4)
    path = write(store)
    add(store, *"defgh"[:changes])
    opened_path, revision, count = opened(store)
    assert (opened_path == path, revision) == (used, 3 if used else 3 + changes)
    assert count == 3 + changes


def test_a_large_archive_replays_a_share_of_its_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many changes as a fifth of the rows are replayed, however low the fixed number is."""
    monkeypatch.setattr(opening, "REPLAYED_CHANGES", 0)
    add(store, *(f"x{i}" for i in range(7)))
    path = write(store)
    add(store, "d", "e")
    assert opened(store)[0] == path
    add(store, "f")
    assert opened(store)[0] != path


def test_a_snapshot_ahead_of_the_store_is_removed(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A restored store gives the same revisions to other changes, so that a snapshot ahead of it must go."""
    write(store)
    copy_database(store.path, tmp_path / "older")
    add(store, "lost", "gone")
    future = write(store)
    store.close()
    shutil.copy(tmp_path / "older", store.path)
    restored = open_store(store.path)
    path, revision, count = opened(restored)
    assert (revision, count) == (3, 3)
    assert path != future
    assert not future.exists()
    add(restored, "d", "e", "f")
    assert opened(restored) == (path, 3, 6)
    restored.close()
    assert f"snapshot {future.name} is removed: the store is at revision 3 and has lost what came after" in caplog.text


# Replay


def test_changes_are_read_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are read in batches, so that a service answers between two; each has its articles' present state."""
    live = open_live(store, store.path.parent / SNAPSHOTS, DIMENSION)
    monkeypatch.setattr(opening, "CHANGES_PER_BATCH", 2)
    add(store, *"defgh")
    store.delete(["h"])
    sizes = []
    while part := read_changes(store, live):
        sizes.append(len(part[0]))
        live.apply(*part)
    assert (sizes, live.revision, live.count) == ([2, 2, 2], 9, 7)
    assert read_changes(store, live) is None


# Store and live view together


def test_a_catalog_is_at_the_store_s_revision(store: Store, tmp_path: Path) -> None:
    """Opening a data folder replays every change after the snapshot, for the active encoder unless one is named."""
    write(store)
    add(store, "d", "e")
    store.delete(["a"])
    for catalog in (open_catalog(tmp_path), open_catalog(tmp_path, store.encoder, DIMENSION, verify=False)):
        with catalog:
            assert (catalog.live.revision, catalog.live.count) == (6, 4)
            assert catalog.store.revision() == 6
            assert catalog.store.encoder == store.encoder


def test_an_empty_catalog_takes_its_dimension_from_the_caller(tmp_path: Path) -> None:
    """A store without articles does not know the dimension of its encoder."""
    info = FakeEmbedder().info
    create_store(tmp_path / STORE_FILE, info.key).close()
    with open_catalog(tmp_path, info.key, info.dimension) as catalog:
        assert (catalog.live.count, catalog.live.manifest.dimension) == (0, DIMENSION)


def test_a_catalog_that_does_not_open_leaves_no_store_open(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is closed when a catalog is closed, and when no live view can be opened of it."""
    closed = []
    monkeypatch.setattr(Store, "close", lambda store: closed.append(store.path))
    open_catalog(tmp_path).close()
    assert closed == [store.path]
    monkeypatch.setattr(opening, "open_live", Mock(side_effect=CorruptError("no snapshot")))
    with pytest.raises(CorruptError, match="no snapshot"):
        open_catalog(tmp_path)
    assert closed == 2 * [store.path]


# Which model


def test_a_new_index_has_the_configured_model_or_the_embedded_one(tmp_path: Path) -> None:
    """A new index takes any configured model, by default the embedded one."""
    assert model_for(tmp_path, None) == EMBEDDED_MODEL
    assert model_for(tmp_path, "mine") == "mine"


def test_an_index_remembers_its_model(store: Store, tmp_path: Path) -> None:
    """The index's model is the default, and may be configured; another one is refused by name."""
    assert model_for(tmp_path, None) == model_for(tmp_path, "fake") == "fake"
    with pytest.raises(MismatchError) as caught:
        model_for(tmp_path, "mine")
    assert str(caught.value) == (
        f"{store.path} was indexed with {store.encoder}, the configured model is mine"
        " (unset model.name, or run `related-news reindex` to change the model)"
    )


def test_the_name_of_a_model_may_have_an_at_sign(tmp_path: Path) -> None:
    """The name of a model's folder may hold an at sign."""
    create_store(tmp_path / STORE_FILE, FakeEmbedder("/models/a@b/c").info.key).close()
    assert model_for(tmp_path, None) == "/models/a@b/c"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b"no database at all" * 100), id="not SQLite"),
        pytest.param(lambda path: os.truncate(path, 1000), id="cut short"),
    ],
)
def test_a_damaged_store_is_named(store: Store, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """A damaged store is named when its model is asked for, before anything is started."""
    store.close()
    damage(store.path)
    with pytest.raises(CorruptError, match=str(store.path)):
        model_for(tmp_path, None)


def test_snapshots_say_what_they_are_in_a_file_for_people(store: Store) -> None:
    """The manifest is JSON that people can read."""
    values = json.loads((write(store) / "manifest.json").read_text())
    assert (values["revision"], values["rows"], values["encoder"]) == (3, 3, store.encoder)
