"""There is always one whole current snapshot: a service starts whatever lies in the folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recommender.catalog import opening
from recommender.catalog.opening import SNAPSHOTS, replay
from recommender.catalog.snapshot import writer
from recommender.catalog.snapshot.manifest import CURRENT, MANIFEST, current_snapshot
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.store import reads
from recommender.catalog.store import store as store_module
from recommender.catalog.store import writes as writes_module
from recommender.catalog.store.store import Store
from recommender.catalog.text.derived import ANALYSIS, analyse
from recommender.catalog.text.terms import TermStatistics, make_signature
from tests.building import (
    NOW_MS,
    FakeEmbedder,
    article,
    build_store,
    open_archive,
    writes,
)
from tests.recommender.catalog.snapshot.making import (
    ARTICLES,
    DAMAGES,
    FILES,
    Damage,
    write,
)


def no_pointer(folder: Path) -> None:
    """Remove CURRENT."""
    (folder / CURRENT).unlink()


def pointing(data: bytes) -> Damage:
    """Return a damage: CURRENT holds other bytes."""
    return lambda folder: (folder / CURRENT).write_bytes(data)


POINTERS = {
    "missing": no_pointer,
    "empty": pointing(b""),
    "a line feed": pointing(b"\n"),
    "to nothing": pointing(b"000000000001-gone\n"),
    "not UTF-8": pointing(b"\xb0\xff\n"),
    "a NUL": pointing(b"a\0b\n"),
    "to a file": pointing(b"CURRENT\n"),
}


@pytest.mark.parametrize("pointer", POINTERS)
def test_current_may_name_nothing(store: Store, pointer: str) -> None:
    """Whatever CURRENT holds, a service starts on the newest whole snapshot and makes it the current one again."""
    old = write(store)
    folder = store.path.parent / SNAPSHOTS
    assert current_snapshot(folder) == old
    POINTERS[pointer](folder)
    assert current_snapshot(folder) is None
    opened, live = open_archive(store.path.parent)
    opened.close()
    assert (current_snapshot(folder), live.count) == (old, 3)


def test_a_missing_folder_has_no_current_snapshot(tmp_path: Path) -> None:
    """A data folder without a folder of snapshots has no current one."""
    assert current_snapshot(tmp_path / SNAPSHOTS) is None


@pytest.mark.parametrize("damage", ["cut in half", "middle byte flipped", "removed"])
@pytest.mark.parametrize("name", ["mains.npy", "codes.npy", "heads.npy", MANIFEST])
def test_a_service_starts_beside_a_damaged_snapshot(
    store: Store, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    """The service names the broken file in one line, and goes on with a new snapshot of the store."""
    broken = write(store)
    DAMAGES[damage][0](broken / name)
    opened, live = open_archive(store.path.parent)
    opened.close()
    [warning] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warning.startswith(f"snapshot {broken.name} is not used: {broken / name}: ")
    assert live.count == 3
    assert current_snapshot(broken.parent) != broken


@pytest.mark.parametrize("damage", ["cut in half", "middle byte flipped", "removed"])
@pytest.mark.parametrize("name", FILES)
def test_a_service_goes_back_to_the_snapshot_before_a_damaged_one(store: Store, name: str, damage: str) -> None:
    """The older snapshot becomes the current one, and what came after it is replayed."""
    older = write(store)
    store.write(writes([article("new")]))
    broken = write(store)
    DAMAGES[damage][0](broken / name)
    opened, live = open_archive(store.path.parent)
    assert (current_snapshot(older.parent), live.revision) == (older, 3)
    replay(opened, live)
    opened.close()
    assert (live.revision, live.count, live.find("new")) == (4, 4, 3)


def test_a_service_starts_on_the_archive_of_a_release_that_analysed_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot is not used; a new one has today's terms, with nothing embedded again."""
    stale = analyse(article("x", title="Stale", paragraphs=["Stale words, of which there are five or more."]))
    with monkeypatch.context() as older:
        for module in (opening, writes_module, writer, store_module, reads):
            older.setattr(module, "ANALYSIS", "terms-0+sketch-0")
        store = build_store(tmp_path, [])
        store.write([replace(w, analysis=stale) for w in writes(ARTICLES)], NOW_MS)
        old = write(store)
        store.close()
        opened, live = open_archive(tmp_path)
        assert current_snapshot(old.parent) == old
        assert set(live.record(0).surfaces) >= {"Stale"}
        opened.close()
    embedder = FakeEmbedder()
    opened, live = open_archive(tmp_path, embedder)
    opened.close()
    new = current_snapshot(old.parent)
    assert new is not None
    assert new != old
    assert Snapshot(new).manifest.analysis == ANALYSIS
    assert embedder.texts == 0
    statistics = TermStatistics.count(analyse(a).terms for a in ARTICLES)
    assert live.idf.tolist() == statistics.idf().tolist()
    for a in ARTICLES:
        row = live.find(a.id)
        assert row is not None
        analysis = analyse(a)
        assert live.signature(row).tolist() == make_signature(analysis.terms, live.idf).pack().tolist()
        assert live.sketches(np.array([row])).tolist() == [analysis.sketch.tolist()]
    with monkeypatch.context() as patch:
        patch.setattr(opening, "write_snapshot", None)
        again, _ = open_archive(tmp_path, embedder)
        again.close()
