"""Snapshots: what is read is what was written, damage is found by name, and there is always one whole current one."""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from recommender.catalog import opening
from recommender.catalog.articles import Paragraph, ParagraphKind, Rules
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, replay
from recommender.catalog.snapshot import files, scoped_search, writer
from recommender.catalog.snapshot.columns import Columns
from recommender.catalog.snapshot.manifest import CURRENT, FORMAT, MANIFEST, Manifest, current_snapshot
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.scoped_search import LiveRows
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import SNAPSHOTS_KEPT, write_snapshot
from recommender.catalog.store import reads
from recommender.catalog.store import store as store_module
from recommender.catalog.store import writes as writes_module
from recommender.catalog.store.store import Store, create_store, open_store
from recommender.catalog.store.writes import Upsert, Write
from recommender.catalog.text.derived import ANALYSIS, Vectors, analyse
from recommender.catalog.text.terms import TERM_BUCKETS, TermStatistics, make_signature
from recommender.catalog.vectors import product_codes
from recommender.catalog.vectors.product_codes import Quantizers, train
from recommender.catalog.vectors.scalar_codes import ScalarCodes, dequantise_8bit, round_trip_4bit, round_trip_8bit
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from recommender.clock import DAY_MS
from recommender.errors import CorruptError, DiskFullError, MismatchError, StorageError
from tests.building import (
    DIMENSION,
    NOW_MS,
    FakeEmbedder,
    RecordingProgress,
    article,
    build_store,
    open_archive,
    writes,
)
from tests.searching import (
    CODES_ONLY,
    COMPRESSIBLE,
    Half,
    Mask,
    assert_best,
    bits_of,
    exact,
    recall,
    small_archives_compressed,
    topics_of,
    unit_points,
    unit_vectors,
)

ROOT = Path(__file__).parents[4]
CODES = ("centroids.npy", "codebooks.npy", "codes.npy", "lists.npy")
FILES = (
    *(f"column_{field.name}.npy" for field in fields(Columns)),
    *CODES,
    "hashes.npy",
    "heads.npy",
    "idf.npy",
    "mains.npy",
    "record_offsets.npy",
    "records.bin",
    "rows_by_hash.npy",
    "signatures.npy",
    "sketches.npy",
    "sorted_hashes.npy",
    "tag_codes.npy",
    "tag_offsets.npy",
)
QUERY = np.ones(DIMENSION, np.float32)
KEPT = (CURRENT, "writer.lock")
"""Names in a snapshots folder beside the snapshots'."""
ARTICLES = [
    article(
        "full",
        title="A Vienna deal",
        summary="Sum",
        paragraphs=["Envoys met.", Paragraph("Map", ParagraphKind.MEDIA), "", Paragraph("Next", ParagraphKind.HEADING)],
        tags=["x", "y"],
        days_ago=3,
        rules=Rules(never_with=("b", "c"), evergreen=True),
    ),
    article("bare", paragraphs=(), url="", section="", site="", language="", days_ago=9),
    article("later", days_ago=20, tags=["y"], rules=Rules(embargo_until_ms=NOW_MS - DAY_MS, never_target=True)),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store of a few articles."""
    store = build_store(tmp_path, ARTICLES)
    yield store
    store.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a whole snapshot; copy it to change it."""
    folder = tmp_path_factory.mktemp("whole")
    store = build_store(folder, ARTICLES)
    path = write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of the snapshot that the test may damage; see `own` for its files."""
    return Path(shutil.copytree(whole, tmp_path / "copy", copy_function=os.symlink))


def own(path: Path) -> Path:
    """Make one file of `folder` a file of its own: they are links, since copies of all take long."""
    target = path.resolve()
    path.unlink()
    return Path(shutil.copyfile(target, path))


def write(store: Store) -> Path:
    """Write a snapshot of the store."""
    return write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION)


def leftovers(folder: Path) -> list[str]:
    """Return what is under a snapshots folder beside finished snapshots and CURRENT."""
    return [p.name for p in folder.iterdir() if p.name not in KEPT and not (p / MANIFEST).is_file()]


# Contents


def test_rows_are_the_articles_in_time_order(store: Store) -> None:
    """Every column, record, vector, signature and sketch is the article's, rows by the time of becoming public."""
    snapshot = Snapshot(write(store))
    in_time = [ARTICLES[i] for i in (1, 0, 2)]
    expected = store.stored([a.id for a in ARTICLES])
    assert snapshot.rows == 3
    assert [snapshot.find(a.id) for a in in_time] == [0, 1, 2]
    assert snapshot.find("nothing") is None
    for row, a in enumerate(in_time):
        kept = expected[a.id]
        terms = kept.analysis.terms
        signature = make_signature(terms, snapshot.idf)
        values = [getattr(snapshot.columns, field.name)[row] for field in fields(Columns)]
        assert values == list(Columns.row_of(a, terms.words))
        assert snapshot.signatures[row].tolist() == signature.pack().tolist()
        assert snapshot.sketches[row].tolist() == kept.analysis.sketch.tolist()
        assert snapshot.main_vectors(np.array([row]))[0].tolist() == round_trip_8bit(kept.vectors.main).tolist()
        assert snapshot.head_vector(row).tolist() == round_trip_4bit(kept.vectors.head).tolist()
        record = snapshot.record(row)
        for field in fields(Record):
            if hasattr(a, field.name):
                assert getattr(record, field.name) == getattr(a, field.name), field.name
        assert record.never_with == a.rules.never_with
        assert record.surfaces == tuple(terms.surfaces[i] for i in signature.order)
        assert record.masks.tolist() == terms.masks[signature.order].tolist()
    assert snapshot.record(1).kinds == "1332", "a paragraph without text counts as media"


def test_the_manifest_tells_what_it_is_an_image_of(store: Store) -> None:
    """Revision, model, analysis, sizes, and each file with its size."""
    store.delete(["bare"])
    path = write(store)
    manifest = Manifest.read(path)
    assert (manifest.format, manifest.revision, manifest.rows, manifest.trained_rows) == (FORMAT, 4, 2, 2)
    assert (manifest.encoder, manifest.analysis, manifest.dimension) == (store.encoder, ANALYSIS, DIMENSION)
    assert {name: entry.size for name, entry in manifest.files.items()} == {
        name: (path / name).stat().st_size for name in FILES
    }
    assert sorted(p.name for p in path.iterdir()) == sorted((*FILES, MANIFEST))


def test_idf_is_that_of_the_archive(store: Store) -> None:
    """The table is counted over all articles of the image."""
    snapshot = Snapshot(write(store))
    expected = TermStatistics.count(s.analysis.terms for s in store.stored([a.id for a in ARTICLES]).values())
    assert snapshot.idf.shape == (TERM_BUCKETS,)
    assert (snapshot.idf == expected.idf()).all()


def test_an_empty_store_has_a_snapshot(tmp_path: Path) -> None:
    """No articles is an archive too."""
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


def test_progress_is_reported_row_by_row(store: Store) -> None:
    """The stage says how many rows there are, and its steps add up to them."""
    progress = RecordingProgress()
    write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION, progress)
    assert (progress.stages, progress.steps) == ([("snapshot", 3)], [[3]])


def test_an_image_is_of_one_revision_whatever_is_written_meanwhile(store: Store) -> None:
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


# Compressed vectors

MANY, TOPICS = 1_500, 12


def vector_writes(points: Half, first: int = 0, title: str = "Title") -> list[Write]:
    """Return an article a vector, an hour apart, from `first` on: its section is its topic, its tag its last digit."""
    analysis = analyse(article())
    topics = topics_of(len(points), TOPICS)
    return [
        Write(
            Upsert(
                article(
                    f"r{at}",
                    title=f"{title} {at}",
                    days_ago=200 - at / 24,
                    section=f"topic {topics[at - first]}",
                    tags=[f"tag {at % 10}"],
                )
            ),
            Vectors(main, main),
            analysis,
        )
        for at, main in enumerate(points.astype(np.float32), first)
    ]


def vector_store(folder: Path, points: Half) -> Store:
    """Return a store of one article a vector."""
    store = create_store(folder / STORE_FILE, FakeEmbedder().info.key)
    store.write(vector_writes(points), NOW_MS)
    return store


@pytest.fixture(scope="module")
def matrix() -> ScalarCodes:
    """Return the vectors of `many`, in row order."""
    return unit_vectors(MANY, DIMENSION, topics=TOPICS)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a snapshot with codes, for which it would be too small."""
    folder = tmp_path_factory.mktemp("many")
    store = vector_store(folder, unit_points(MANY, DIMENSION, topics=TOPICS))
    with small_archives_compressed():
        path = write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let snapshots of few rows be compressed, and be carried over whatever has changed."""
    monkeypatch.setattr(files, "COMPRESSED_ROWS_MIN", COMPRESSIBLE)
    monkeypatch.setattr(writer, "CHANGED_SHARE_MAX", 1e9)


def assert_encoded(snapshot: Snapshot, by: Quantizers) -> None:
    """Check that every row has the code and the list that these quantizers give its vector."""
    codes, lists = by.encode(dequantise_8bit(snapshot.mains.codes))
    found = snapshot.compressed
    assert found is not None
    assert found.codes.tolist() == codes.tolist()
    assert found.lists.tolist() == lists.tolist()
    assert found.quantizers.centroids.tolist() == by.centroids.tolist()
    assert found.quantizers.codebooks.tolist() == by.codebooks.tolist()


def quantizers_of(snapshot: Snapshot) -> Quantizers:
    """Return the codebooks of a snapshot that has some."""
    assert snapshot.compressed is not None
    return snapshot.compressed.quantizers


def test_a_snapshot_from_nothing_has_codes_of_its_own(many: Path, matrix: ScalarCodes) -> None:
    """Codebooks are trained on its vectors, in row order, and all of them are encoded."""
    snapshot = Snapshot(many)
    assert snapshot.mains.codes.tolist() == matrix.tolist()
    assert snapshot.manifest.trained_rows == MANY
    assert_encoded(snapshot, train(matrix, MANY))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lists", [1, 16])
@pytest.mark.parametrize("same_words", [True, False], ids=["rows carried over", "words weighed anew"])
def test_codes_are_carried_over_as_encoding_anew_would_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: int, same_words: bool
) -> None:
    """What stayed keeps its code, what is new or changed gets one by the same codebooks, and only that is encoded."""
    monkeypatch.setattr(product_codes, "list_count", lambda _: lists)
    monkeypatch.setattr(writer, "STATISTICS_GROWTH_MAX", 1e9 if same_words else 1.0)
    monkeypatch.setattr(files, "_ENCODED_ROWS", 9)
    store = vector_store(tmp_path, unit_points(90, DIMENSION))
    base = Snapshot(write(store))
    store.delete([f"r{at}" for at in (0, 1, 7, 50, 89)])
    store.write(vector_writes(unit_points(12, DIMENSION, seed=2), first=30, title="Changed"), NOW_MS)
    store.write(vector_writes(unit_points(20, DIMENSION, seed=3), first=90), NOW_MS)
    encode, encoded = Quantizers.encode, []

    def counted(self: Quantizers, vectors: Any) -> Any:
        encoded.append(len(vectors))
        return encode(self, vectors)

    with monkeypatch.context() as patch:
        patch.setattr(Quantizers, "encode", counted)
        snapshot = Snapshot(write(store))
    store.close()
    assert (snapshot.rows, snapshot.manifest.trained_rows) == (105, 90)
    assert (snapshot.manifest.statistics == base.manifest.statistics) == same_words
    assert sum(encoded) == 12 + 20
    assert max(encoded) <= 9
    assert_encoded(snapshot, quantizers_of(base))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("sizes", [[32, 47, 64, 65], [64, 40, 32, 31]], ids=["growing", "shrinking"])
def test_codebooks_last_until_the_archive_has_doubled_or_halved(tmp_path: Path, sizes: list[int]) -> None:
    """Twice and half as many rows are not yet too many or too few; one more or less is trained for anew."""
    some = vector_writes(unit_points(80, DIMENSION))
    store = create_store(tmp_path / STORE_FILE, FakeEmbedder().info.key)
    made = []
    for size in sizes:
        store.write(some[:size], NOW_MS)
        store.delete([w.upsert.article.id for w in some[size:]])
        made.append(Snapshot(write(store)))
    store.close()
    assert [s.rows for s in made] == sizes
    assert [s.manifest.trained_rows for s in made] == [sizes[0], sizes[0], sizes[0], sizes[3]]
    for snapshot in made[:3]:
        assert_encoded(snapshot, quantizers_of(made[0]))
    assert_encoded(made[3], train(made[3].mains.codes, sizes[3]))


@pytest.mark.usefixtures("small")
def test_an_archive_gets_codes_when_it_is_large_enough_and_loses_them_when_it_no_longer_is(tmp_path: Path) -> None:
    """The threshold is inclusive; codebooks of an earlier time are not waited for."""
    some = vector_writes(unit_points(COMPRESSIBLE, DIMENSION))
    store = create_store(tmp_path / STORE_FILE, FakeEmbedder().info.key)
    for size in (COMPRESSIBLE - 1, COMPRESSIBLE, COMPRESSIBLE - 1, COMPRESSIBLE):
        store.write(some[:size], NOW_MS)
        store.delete([w.upsert.article.id for w in some[size:]])
        snapshot = Snapshot(write(store))
        assert snapshot.rows == size
        if size < COMPRESSIBLE:
            assert snapshot.compressed is None
        else:
            assert_encoded(snapshot, train(snapshot.mains.codes, size))
        found = snapshot.index.search(QUERY, 5, 0, NOW_MS, Scope())
        assert_best(found, exact(snapshot.mains.codes, QUERY, 5, range(size)))
    store.close()


@pytest.mark.usefixtures("small")
def test_vectors_of_a_dimension_that_cannot_be_compressed_are_searched_exactly(tmp_path: Path) -> None:
    """Neither the whole archive nor a scope of it has product codes, whatever its size."""
    matrix, query = unit_vectors(60, 20), np.ones(20, np.float32)
    store = vector_store(tmp_path, unit_points(60, 20))
    snapshot = Snapshot(write_snapshot(store, tmp_path / SNAPSHOTS, 20), costs=CODES_ONLY)
    store.close()
    assert snapshot.compressed is None
    snapshot.index.warm_up([Scope(), tagged(3)])
    assert_best(snapshot.index.search(query, 5, 0, NOW_MS, Scope()), exact(matrix, query, 5, range(60)))
    assert_best(snapshot.index.search(query, 5, 0, NOW_MS, tagged(3)), exact(matrix, query, 5, range(3, 60, 10)))


# Searches by scope and time


def tagged(*digits: int) -> Scope:
    """Return the scope of articles whose number ends so: any, over all topics."""
    return Scope(tags=frozenset(f"tag {digit}" for digit in digits))


def on(*topics: int) -> Scope:
    """Return the scope of articles of some topics: vectors of one kind."""
    return Scope(sections=frozenset(f"topic {topic}" for topic in topics))


SCOPES = {
    "everything": Scope(),
    "half": tagged(0, 1, 2, 3, 4),
    "a tenth": tagged(7),
    "half of the topics": on(0, 1, 2, 3, 4, 5),
    "a topic": on(5),
    "a tenth of a topic": Scope(sections=frozenset(["topic 5"]), tags=frozenset(["tag 7"])),
    "nothing": tagged(11),
}
PERIODS = {
    "ever": (0, NOW_MS),
    "weeks": (NOW_MS - 190 * DAY_MS, NOW_MS - 150 * DAY_MS),
    "a day": (NOW_MS - 171 * DAY_MS, NOW_MS - 170 * DAY_MS),
    "before all": (0, 1),
}


def inside_of(snapshot: Snapshot, scope: Scope, period: tuple[int, int], alive: Mask) -> list[int]:
    """Return the living rows in a scope and a period, by looking at each."""
    times = snapshot.columns.public_at_ms
    allowed = scope.mask(partial(getattr, snapshot.columns), snapshot.tags)
    return [r for r in range(snapshot.rows) if allowed[r] and alive[r] and period[0] <= times[r] <= period[1]]


def alive_of(mask: Mask) -> LiveRows | None:
    """Return the live rows as the live view passes them."""
    dead = len(mask) - int(mask.sum())
    return LiveRows(bits_of(mask), dead) if dead else None


LIVING = {"all": 0.0, "most": 0.1, "few": 0.9}


@pytest.mark.parametrize("living", LIVING)
@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("scope", SCOPES)
def test_few_rows_are_searched_exactly(many: Path, matrix: ScalarCodes, scope: str, period: str, living: str) -> None:
    """Below the thresholds product codes play no part: the hits are the oracle's."""
    snapshot = Snapshot(many, verify=False)
    alive: Mask = np.random.default_rng(1).random(MANY) >= LIVING[living]
    inside = inside_of(snapshot, SCOPES[scope], PERIODS[period], alive)
    for query in dequantise_8bit(unit_vectors(5, DIMENSION, seed=2, topics=TOPICS)):
        found = snapshot.index.search(query, 20, *PERIODS[period], SCOPES[scope], alive=alive_of(alive))
        assert_best(found, exact(matrix, query, 20, inside))


@pytest.mark.parametrize("living", LIVING)
@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("lists_rows_min", [300_000, 200], ids=["one list", "several lists"])
def test_many_rows_are_searched_by_codes(
    many: Path,
    matrix: ScalarCodes,
    lists_rows_min: int,
    scope: str,
    period: str,
    living: str,
) -> None:
    """Hits by product codes are in scope, in time and alive, with exact scores and high recall."""
    costs = replace(CODES_ONLY, rerank_min=200, lists_rows_min=lists_rows_min)
    snapshot = Snapshot(many, verify=False, costs=costs)
    alive: Mask = np.random.default_rng(1).random(MANY) >= LIVING[living]
    inside = inside_of(snapshot, SCOPES[scope], PERIODS[period], alive)
    recalls = []
    for query in dequantise_8bit(unit_vectors(10, DIMENSION, seed=2, topics=TOPICS)):
        found = snapshot.index.search(query, 20, *PERIODS[period], SCOPES[scope], alive=alive_of(alive))
        assert len(found.rows) == min(20, len(inside))
        assert np.isin(found.rows, inside).all()
        assert_best(found, exact(matrix, query, 20, found.rows))
        recalls.append(recall(found.rows, exact(matrix, query, 20, inside).rows) if inside else 1.0)
    assert np.mean(recalls) >= 0.98


@pytest.mark.parametrize("costs", [CODES_ONLY, MEASURED], ids=["by codes", "exactly"])
def test_a_row_that_died_since_the_last_search_is_not_found_again(many: Path, costs: SearchCosts) -> None:
    """A scope caches which of its rows are alive only until another dies."""
    snapshot = Snapshot(many, verify=False, costs=costs)
    mask: Mask = np.ones(MANY, np.bool_)
    seen: list[int] = []
    for _ in range(12):
        for scope in (tagged(7), Scope()):
            [best] = snapshot.index.search(QUERY, 1, 0, NOW_MS, scope, alive=alive_of(mask)).rows.tolist()
            assert best not in seen
            mask[best] = False
            seen.append(best)


# Scopes' own lists


def listed(snapshot: Snapshot) -> list[Scope]:
    """Return the scopes that have lists of their own, the least recently used first."""
    return [scope for scope, inside in snapshot.index._scopes.items() if inside.own_lists]


def test_a_narrow_scope_gets_lists_of_its_own_when_it_is_searched_again(many: Path, matrix: ScalarCodes) -> None:
    """The first search, the one that requests the lists and those after it have the same hits."""
    snapshot = Snapshot(many, verify=False, costs=CODES_ONLY)
    inside = inside_of(snapshot, tagged(7), (0, NOW_MS), np.ones(MANY, np.bool_))
    for search in range(4):
        assert_best(snapshot.index.search(QUERY, 5, 0, NOW_MS, tagged(7)), exact(matrix, QUERY, 5, inside))
        assert listed(snapshot) == ([tagged(7)] if search else [])
        if own_lists := snapshot.index._scopes[tagged(7)].own_lists:
            assert own_lists.result().rows == len(inside)


def test_a_wide_scope_is_searched_in_the_lists_of_all_rows(many: Path) -> None:
    """A wide scope gets no lists of its own, which would be nearly as large."""
    snapshot = Snapshot(many, verify=False, costs=CODES_ONLY)
    for scope in 3 * [tagged(0, 1, 2, 3, 4), Scope(published_from_ms=int(snapshot.columns.public_at_ms[1]))]:
        assert len(snapshot.index.search(QUERY, 5, 0, NOW_MS, scope).rows) == 5
        assert listed(snapshot) == []


def test_scopes_share_a_bound_on_memory_and_the_oldest_makes_room(
    many: Path, matrix: ScalarCodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lists of all scopes stay within their budget; dropped ones are made again when they are searched again."""
    monkeypatch.setattr(scoped_search, "_OWN_LISTS_TIMES", 0.5)
    snapshot = Snapshot(many, verify=False, costs=CODES_ONLY)

    def ask(scope: Scope) -> None:
        inside = inside_of(snapshot, scope, (0, NOW_MS), np.ones(MANY, np.bool_))
        for _ in range(2):
            assert_best(snapshot.index.search(QUERY, 5, 0, NOW_MS, scope), exact(matrix, QUERY, 5, inside))
        sizes = [inside.own_lists.result().rows for inside in snapshot.index._scopes.values() if inside.own_lists]
        assert sum(sizes) <= 0.5 * MANY

    for scope in (tagged(1, 2), tagged(7), tagged(3, 4), tagged(1, 2)):
        ask(scope)
    assert listed(snapshot) == [tagged(7), tagged(3, 4), tagged(1, 2)], "five tenths"
    ask(on(3))
    assert listed(snapshot) == [tagged(3, 4), tagged(1, 2), on(3)], "the first of them made room"
    ask(tagged(7))
    assert listed(snapshot) == [tagged(1, 2), on(3), tagged(7)], "and has its own again"
    assert tagged(3, 4) in snapshot.index._scopes, "its rows are still cached"


def test_scopes_are_evicted_while_they_hold_too_many_rows(
    many: Path, matrix: ScalarCodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used are evicted, never the present one, and an evicted scope can be searched again."""
    monkeypatch.setattr(scoped_search, "_CACHED_ROWS_TIMES", 1.0)
    snapshot = Snapshot(many, verify=False)
    scopes = [tagged(0, 1, 2, 3), tagged(4, 5, 6), tagged(7, 8, 9), tagged(*range(9)), Scope(), tagged(0, 1, 2, 3)]
    left = [1, 2, 3, 1, 2, 2]
    for scope, count in zip(scopes, left, strict=True):
        inside = inside_of(snapshot, scope, (0, NOW_MS), np.ones(MANY, np.bool_))
        assert_best(snapshot.index.search(QUERY, 5, 0, NOW_MS, scope), exact(matrix, QUERY, 5, inside))
        assert len(snapshot.index._scopes) == count
    assert list(snapshot.index._scopes) == [Scope(), tagged(0, 1, 2, 3)]


def test_warming_up_makes_lists_for_scopes_of_middle_size_only(many: Path) -> None:
    """A scope that is compared exactly gets no lists, nor does a wide one; only scopes in use are warmed up again."""
    snapshot = Snapshot(many, verify=False, costs=replace(CODES_ONLY, gather_rows_max=MANY // 10 + 1))
    scopes = [Scope(), tagged(1, 2, 3), tagged(1, 2), tagged(1)]
    snapshot.index.warm_up(scopes)
    assert listed(snapshot) == [tagged(1, 2)]
    made = snapshot.index._scopes[tagged(1, 2)].own_lists
    snapshot.index.search(QUERY, 5, 0, NOW_MS, tagged(1, 2))
    assert snapshot.index._scopes[tagged(1, 2)].own_lists is made
    assert snapshot.index.recent_scopes() == [Scope(), tagged(1, 2)], "not those that were only warmed up"


LABELLED = {
    "one": on(5),
    "a few": on(1, 2),
    "many": on(*range(0, TOPICS, 2), *range(500, 510)),
    "all": on(*range(TOPICS)),
    "none": on(),
    "unknown": on(500, 501),
    "in two columns": replace(on(1, 2), languages=frozenset({"en", "fr"}), sites=frozenset({"", "elsewhere"})),
    "and dates": replace(on(1, 2), published_from_ms=NOW_MS - 190 * DAY_MS, published_before_ms=NOW_MS - 150 * DAY_MS),
    "and a tag": replace(on(1, 2), tags=frozenset({"tag 7"})),
    "and evergreen": replace(on(1, 2), evergreen_only=True),
}


@pytest.mark.parametrize("scope", LABELLED)
def test_rows_found_by_postings_are_those_found_by_comparing_labels(many: Path, scope: str) -> None:
    """A scope holds the same rows before and after the postings of its columns are made."""
    snapshot = Snapshot(many, verify=False)
    inside = inside_of(snapshot, LABELLED[scope], (0, NOW_MS), np.ones(MANY, np.bool_))
    assert len(inside) < MANY or scope == "all"
    assert snapshot.index.latest(LABELLED[scope], MANY, NOW_MS).tolist() == inside
    snapshot.index.latest(on(10, 11), 1, NOW_MS)
    snapshot.index._postings["section"].result()
    snapshot.index._scopes.clear()
    assert snapshot.index.latest(LABELLED[scope], MANY, NOW_MS).tolist() == inside


def test_a_scope_of_one_label_makes_no_postings(many: Path) -> None:
    """Scopes of a single label, such as a page's own language and site, do not have postings made."""
    snapshot = Snapshot(many, verify=False)
    snapshot.index.latest(on(5), 1, NOW_MS)
    assert snapshot.index._postings == {}


# Damage

Damage = Callable[[Path], object]


def flip(at: Callable[[int], int]) -> Damage:
    """Return what flips one bit of the byte at a place that depends on the file's size."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at(len(data))] ^= 4
        path.write_bytes(data)

    return damage


def cut(to: Callable[[int], int]) -> Damage:
    """Return what cuts or lengthens a file to a length that depends on its size."""
    return lambda path: os.truncate(path, to(path.stat().st_size))


FLIPPED = "its checksum differs from the manifest's"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "emptied": (cut(lambda _: 0), "0 bytes, expected {size}"),
    "cut in half": (cut(lambda size: size // 2), "{half} bytes, expected {size}"),
    "last byte lost": (cut(lambda size: size - 1), "{less} bytes, expected {size}"),
    "longer": (cut(lambda size: size + 1), "{more} bytes, expected {size}"),
    "first byte flipped": (flip(lambda _: 0), FLIPPED),
    "middle byte flipped": (flip(lambda size: size // 2), FLIPPED),
    "last byte flipped": (flip(lambda size: size - 1), FLIPPED),
    "removed": (Path.unlink, "No such file or directory"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(folder: Path, whole: Path, name: str) -> None:
    """A file that is not what was written is found before anything is read; if its size differs, without checksums."""
    assert_damage_is_named(folder, whole, name)


@pytest.mark.parametrize("name", CODES)
def test_a_damaged_file_of_codes_is_named(many: Path, tmp_path: Path, name: str) -> None:
    """Also where there are codes, which no other file could tell to be wrong."""
    assert_damage_is_named(Path(shutil.copytree(many, tmp_path / "copy", copy_function=os.symlink)), many, name)


def assert_damage_is_named(folder: Path, whole: Path, name: str) -> None:
    """Damage one file of `folder`, a copy of the snapshot `whole`, in every way."""
    path, size = folder / name, (whole / name).stat().st_size
    for damage, problem in DAMAGES.values():
        path.unlink(missing_ok=True)
        shutil.copyfile(whole / name, path)
        damage(path)
        told = problem.format(size=size, half=size // 2, less=size - 1, more=size + 1)
        for verify in (True, False) if told != FLIPPED else (True,):
            with pytest.raises(CorruptError) as caught:
                Snapshot(folder, verify=verify)
            assert str(caught.value) == f"{path}: {told} (an older snapshot is used, or it is rebuilt from the store)"
    path.unlink(missing_ok=True)
    shutil.copyfile(whole / name, path)
    assert Snapshot(folder).rows == Manifest.read(whole).rows


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "longer"])
def test_a_damaged_manifest_is_named(folder: Path, damage: str) -> None:
    """The manifest vouches for the others, and for itself."""
    DAMAGES[damage][0](own(folder / MANIFEST))
    with pytest.raises(CorruptError) as caught:
        Snapshot(folder)
    assert str(caught.value).startswith(f"{folder / MANIFEST}: unreadable: ")
    assert caught.value.fix == "an older snapshot is used, or it is rebuilt from the store"


def test_no_bit_of_the_manifest_may_flip(folder: Path) -> None:
    """Whichever byte it is in, the manifest is refused: a wrong revision would hide changes for good."""
    path = own(folder / MANIFEST)
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as stream:
        for at, byte in enumerate(data):
            os.pwrite(stream.fileno(), bytes([byte ^ 1 << at % 8]), at)
            with pytest.raises((CorruptError, MismatchError)) as caught:
                Manifest.read(folder)
            assert str(caught.value).startswith(f"{path}")
            os.pwrite(stream.fileno(), bytes([byte]), at)
    assert Manifest.read(folder).rows == 3


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "3", f'{{"format": {FORMAT}}}', f'{{"format": {FORMAT}, "checksum": 0}}']
)
def test_a_manifest_that_is_none_is_named(folder: Path, text: str) -> None:
    """Other JSON is no manifest."""
    own(folder / MANIFEST).write_text(text)
    with pytest.raises(CorruptError) as caught:
        Manifest.read(folder)
    assert str(caught.value).startswith(f"{folder / MANIFEST}: unreadable: ")


def test_a_manifest_of_another_format_is_refused_by_name(folder: Path) -> None:
    """A later release's snapshot is not read, however it looks inside."""
    own(folder / MANIFEST).write_text(json.dumps({"format": FORMAT + 1, "new": []}))
    with pytest.raises(MismatchError) as caught:
        Snapshot(folder)
    assert str(caught.value) == (
        f"{folder / MANIFEST} has format {FORMAT + 1}, this release reads {FORMAT}"
        " (an older snapshot is used, or it is rebuilt from the store)"
    )


def test_a_folder_in_the_place_of_a_file_is_named(folder: Path) -> None:
    """A folder is not what was written, and is not read."""
    (folder / "heads.npy").unlink()
    (folder / "heads.npy").mkdir()
    with pytest.raises(CorruptError) as caught:
        Snapshot(folder)
    assert str(caught.value).startswith(f"{folder / 'heads.npy'}: ")


# The current one


def no_pointer(folder: Path) -> None:
    """Remove CURRENT."""
    (folder / CURRENT).unlink()


def pointing(data: bytes) -> Damage:
    """Return what puts other bytes in CURRENT."""
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
def test_a_pointer_to_nothing_is_no_snapshot(store: Store, pointer: str) -> None:
    """Whatever stands in CURRENT, the service starts, on the newest whole snapshot, which is the current one again."""
    old = write(store)
    folder = store.path.parent / SNAPSHOTS
    assert current_snapshot(folder) == old
    POINTERS[pointer](folder)
    assert current_snapshot(folder) is None
    opened, live = open_archive(store.path.parent)
    opened.close()
    assert (current_snapshot(folder), live.count) == (old, 3)


def test_there_may_be_no_folder(tmp_path: Path) -> None:
    """A data folder that was never snapshot has no current snapshot."""
    assert current_snapshot(tmp_path / SNAPSHOTS) is None


@pytest.mark.parametrize("damage", ["cut in half", "middle byte flipped", "removed"])
@pytest.mark.parametrize("name", ["mains.npy", "codes.npy", "heads.npy", MANIFEST])
def test_a_service_starts_beside_a_damaged_snapshot(
    store: Store, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    """It says in one line which file is broken, and goes on with a new snapshot of the store."""
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


# Publishing


def test_old_snapshots_are_pruned_but_the_last(store: Store) -> None:
    """The current one and the one before stay; one that is open stays readable when its files go."""
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


def test_two_snapshots_of_one_revision(store: Store) -> None:
    """Writing again without a change is a new folder, and it is the current one."""
    first, second = write(store), write(store)
    assert first != second
    assert first.name.split("-")[0] == second.name.split("-")[0] == "000000000003"
    assert current_snapshot(first.parent) == second


def test_what_a_crashed_writer_left_is_removed(store: Store) -> None:
    """A folder that was never finished is nobody's: writers take turns."""
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


def test_a_failure_at_any_flush_leaves_a_whole_current_snapshot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the writer got when the disk failed: the old snapshot or the new one is current, and no rubbish."""
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
def test_an_interruption_leaves_no_rubbish(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """An exception that is none of ours, such as a signal's, is passed on."""
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


def test_a_snapshot_that_nobody_needs_lets_go_of_its_files(store: Store) -> None:
    """A worker takes up a new one every few minutes, for months."""
    folder = write(store)
    before = open_files()
    for _ in range(3):
        Snapshot(folder).record(0)
    assert open_files() == before


def test_a_folder_that_cannot_be_written_is_named(store: Store) -> None:
    """A file in the folder's place is told as what it is."""
    folder = store.path.parent / SNAPSHOTS
    folder.touch()
    with pytest.raises(StorageError) as caught:
        write(store)
    assert (
        str(caught.value)
        == f"{folder}: cannot be written: File exists (make data_dir writable for this user, or choose another)"
    )


def test_an_article_without_vectors_of_the_model_stops_the_writer(store: Store) -> None:
    """It is named, and the old snapshot stays."""
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


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_writer_leaves_a_whole_current_snapshot(store: Store, seed: int) -> None:
    """SIGKILL at a random moment: the current snapshot is whole, and the next writer tidies up."""
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
    assert len(list(folder.iterdir())) == SNAPSHOTS_KEPT + len(KEPT)


# A full disk


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full here")
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_whichever_file_does_not_fit_the_old_snapshot_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No space left is an error of its own, however small the file, and leaves nothing behind."""
    old = write(store)
    opened = Path.open

    def open_full(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        full = path.name == name and "w" in mode
        return opened(Path("/dev/full") if full else path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(DiskFullError) as caught:
            write(store)
    assert str(caught.value) == (
        f"{old.parent}: no space left for a snapshot; the previous one stays in use (free space, then try again)"
    )
    assert (current_snapshot(old.parent), leftovers(old.parent)) == (old, [])
    assert {p.name for p in old.parent.iterdir()} == {old.name, *KEPT}
    assert Snapshot(old).rows == 3


_FILLER = """
import sys
from pathlib import Path
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.errors import DiskFullError
from tests.building import DIMENSION, build_store, article
folder = Path(sys.argv[1])
store = build_store(folder, [article(f"x{i}") for i in range(20)])
snapshots = folder / "snapshots"
old = write_snapshot(store, snapshots, DIMENSION)
filler = folder / "filler"
refused = 0
for free in range(0, 4_600_000, 200_000):
    filler.unlink(missing_ok=True)
    with filler.open("wb", buffering=0) as stream:
        while True:
            try:
                stream.write(bytes(4096))
            except OSError:
                break
        stream.truncate(max(0, stream.tell() - free))
    try:
        write_snapshot(store, snapshots, DIMENSION)
    except DiskFullError as error:
        assert str(error).startswith(f"{snapshots}: no space left for a snapshot"), error
        assert current_snapshot(snapshots) == old
        assert [p for p in snapshots.iterdir() if p.is_dir()] == [old], list(snapshots.iterdir())
        refused += 1
    else:
        break
assert refused > 20, refused
assert current_snapshot(snapshots) != old
assert Snapshot(current_snapshot(snapshots)).rows == 20
print("done")
"""


def test_a_small_disk_refuses_a_snapshot_until_there_is_space(tmp_path: Path) -> None:
    """On a real full disk, with more and more space freed: the old snapshot stays, until the new one is whole."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"mount -t tmpfs -o size=12m none {shlex.quote(str(disk))}; exec {shlex.quote(sys.executable)} - {disk}"
    try:
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script], input=_FILLER, capture_output=True, text=True, cwd=ROOT
        )
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    if "mount" in ended.stderr and "Traceback" not in ended.stderr:
        pytest.skip(f"this user may not mount: {ended.stderr.strip()}")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("done\n", "", 0)
