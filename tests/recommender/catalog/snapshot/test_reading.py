"""Reading a snapshot: what is read is what was written."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.columns import Columns
from recommender.catalog.snapshot.manifest import FORMAT, MANIFEST, Manifest
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.scoped_search import LiveRows
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store
from recommender.catalog.text.derived import ANALYSIS
from recommender.catalog.text.terms import TERM_BUCKETS, TermStatistics, make_signature
from recommender.catalog.vectors.scalar_codes import round_trip_4bit, round_trip_8bit
from recommender.errors import CorruptError
from tests.building import (
    DIMENSION,
    NOW_MS,
    RecordingProgress,
    article,
    build_store,
    writes,
)
from tests.recommender.catalog.snapshot.making import (
    ARTICLES,
    FILES,
    QUERY,
    write,
)
from tests.searching import (
    bits_of,
)


def test_rows_are_the_articles_in_time_order(store: Store) -> None:
    """Each row has its article's columns, record, vectors, signature and sketch; rows are in time order."""
    snapshot = Snapshot(write(store))
    in_time = [ARTICLES[i] for i in (1, 0, 2)]
    expected = store.stored([a.id for a in ARTICLES])
    assert snapshot.rows == 3
    assert [snapshot.find(a.id) for a in in_time] == [0, 1, 2]
    assert snapshot.find("nothing") is None
    for row, a in enumerate(in_time):
        stored = expected[a.id]
        terms = stored.analysis.terms
        signature = make_signature(terms, snapshot.idf)
        values = [getattr(snapshot.columns, field.name)[row] for field in fields(Columns)]
        assert values == list(Columns.row_of(a, terms.words))
        assert snapshot.signatures[row].tolist() == signature.pack().tolist()
        assert snapshot.sketches[row].tolist() == stored.analysis.sketch.tolist()
        assert snapshot.main_vectors(np.array([row]))[0].tolist() == round_trip_8bit(stored.vectors.main).tolist()
        assert snapshot.head_vector(row).tolist() == round_trip_4bit(stored.vectors.head).tolist()
        record = snapshot.record(row)
        for field in fields(Record):
            if hasattr(a, field.name):
                assert getattr(record, field.name) == getattr(a, field.name), field.name
        assert record.never_with == a.rules.never_with
        assert record.surfaces == tuple(terms.surfaces[i] for i in signature.order)
        assert record.masks.tolist() == terms.masks[signature.order].tolist()
    assert snapshot.record(1).kinds == "1332", "a paragraph without text counts as media"


def test_the_manifest_describes_the_snapshot(store: Store) -> None:
    """It has the revision, the encoder, the analysis, the numbers of rows, and each file with its size."""
    store.delete(["bare"])
    path = write(store)
    manifest = Manifest.read(path)
    assert (manifest.format, manifest.revision, manifest.rows, manifest.trained_rows) == (FORMAT, 4, 2, 2)
    assert (manifest.encoder, manifest.analysis, manifest.dimension) == (store.encoder, ANALYSIS, DIMENSION)
    assert {name: entry.size for name, entry in manifest.files.items()} == {
        name: (path / name).stat().st_size for name in FILES
    }
    assert sorted(p.name for p in path.iterdir()) == sorted((*FILES, MANIFEST))


def test_idf_is_counted_over_the_archive(store: Store) -> None:
    """The idf table is counted over all articles of the snapshot."""
    snapshot = Snapshot(write(store))
    expected = TermStatistics.count(s.analysis.terms for s in store.stored([a.id for a in ARTICLES]).values())
    assert snapshot.idf.shape == (TERM_BUCKETS,)
    assert (snapshot.idf == expected.idf()).all()


def test_an_empty_store_has_a_snapshot(tmp_path: Path) -> None:
    """An archive without articles has a snapshot, in which nothing is found."""
    store = build_store(tmp_path, [])
    snapshot = Snapshot(write(store))
    store.close()
    assert (snapshot.rows, snapshot.manifest.revision, snapshot.manifest.trained_rows) == (0, 0, 0)
    assert (snapshot.mains.codes.shape, snapshot.compressed) == ((0, DIMENSION), None)
    assert snapshot.find("a") is None
    for scope in (Scope(), Scope(sections=frozenset(["world"]))):
        snapshot.index.warm_up([scope])
        assert snapshot.index.search(QUERY, 5, 0, NOW_MS, scope).rows.tolist() == []
        assert snapshot.index.search(QUERY, 5, 0, NOW_MS, scope, alive=LiveRows(bits_of([]), 0)).rows.tolist() == []


def test_a_snapshot_is_of_one_revision_whatever_is_written_meanwhile(store: Store) -> None:
    """Changes that are committed while it is being written are not in it."""

    class Changing(RecordingProgress):
        def begin(self, stage: str, total: int | None) -> None:
            super().begin(stage, total)
            store.write(writes([article("new"), replace(ARTICLES[0], title="Changed")]))
            store.delete(["later"])

    path = write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION, Changing())
    snapshot = Snapshot(path)
    assert (snapshot.manifest.revision, store.revision(), snapshot.rows) == (3, 6, 3)
    assert [snapshot.record(row).title for row in range(3)] == [ARTICLES[i].title for i in (1, 0, 2)]


def test_records_that_are_cut_off_while_they_are_served_are_named(store: Store) -> None:
    """Reading beyond the end is an error of that article alone; the others are read as before."""
    snapshot = Snapshot(write(store))
    first, last = snapshot.record(0), snapshot.rows - 1
    path = snapshot.folder / "records.bin"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CorruptError, match=r"records\.bin: cut off before byte \d+"):
        snapshot.record(last)
    assert snapshot.record(0).id == first.id


def open_files() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_released_snapshot_closes_its_files(store: Store) -> None:
    """A worker swaps in a new snapshot every few minutes for months, so that each must close its files."""
    folder = write(store)
    before = open_files()
    for _ in range(3):
        Snapshot(folder).record(0)
    assert open_files() == before
