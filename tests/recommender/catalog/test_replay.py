"""Replaying changes: a live view answers what a snapshot of the same store answers."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from recommender.catalog.articles import Article, Rules
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot import files, writer
from recommender.catalog.snapshot.manifest import MANIFEST
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store, create_store
from recommender.catalog.vectors.scalar_codes import dequantise_8bit
from recommender.catalog.vectors.search_costs import MEASURED
from recommender.clock import DAY_MS
from tests.building import (
    DIMENSION,
    NOW_MS,
    FakeEmbedder,
    article,
    build_live,
    stored,
    writes,
)
from tests.recommender.catalog.holding import (
    EVER,
    IDS,
    OTHERS,
    archive,
    assert_holds,
    found_ids,
    ids_at,
    image,
    query,
    replay,
    written,
)
from tests.searching import CODES_ONLY, small_archives_compressed

pytestmark = pytest.mark.slow
"""They rebuild an archive after each of many random changes."""


@dataclass(frozen=True)
class Put:
    """Articles are written: new, changed, or with other rules only."""

    articles: tuple[Article, ...]


@dataclass(frozen=True)
class Delete:
    """Articles are withdrawn, there or not."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """The rules of an article are changed, if it is there."""

    id: str
    rules: Rules


_rules = st.builds(
    Rules,
    never_source=st.booleans(),
    never_target=st.sampled_from([False, False, True]),
    never_with=st.lists(st.sampled_from(IDS), max_size=2, unique=True).map(tuple),
    embargo_until_ms=st.sampled_from([0, 0, NOW_MS - 2 * DAY_MS, NOW_MS + DAY_MS]),
    evergreen=st.booleans(),
)

_articles = st.builds(
    article,
    st.sampled_from(IDS),
    title=st.sampled_from(["Talks resume", "Gas flows again", "A Vienna Deal"]),
    paragraphs=st.sampled_from([("Envoys met in Vienna on Monday.",), ("Prices rose again.", "Markets fell."), ()]),
    days_ago=st.integers(0, 4),
    section=st.sampled_from(["world", "energy", ""]),
    site=st.sampled_from(["one.example", "two.example"]),
    language=st.sampled_from(["en", "de"]),
    tags=st.lists(st.sampled_from(["gas", "talks", "deal"]), max_size=2, unique=True),
    rules=_rules,
)

_operations = st.lists(
    st.one_of(
        st.lists(_articles, min_size=1, max_size=3).map(lambda some: Put(tuple(some))),
        st.lists(st.sampled_from(IDS), min_size=1, max_size=3).map(lambda some: Delete(tuple(some))),
        st.builds(Rule, st.sampled_from(IDS), _rules),
    ),
    max_size=12,
)


def apply_to_store(store: Store, operation: Put | Delete | Rule) -> None:
    """Carry out one operation, as the service would."""
    if isinstance(operation, Put):
        store.write(writes(operation.articles), NOW_MS)
    elif isinstance(operation, Delete):
        store.delete(operation.ids, NOW_MS)
    elif stored_article := store.get(operation.id):
        store.write(writes([replace(stored_article, rules=operation.rules)]), NOW_MS)


CODES = {"codes.npy", "lists.npy", "codebooks.npy", "centroids.npy"}


@settings(max_examples=settings().max_examples // 3, phases=tuple(set(Phase) - {Phase.explain}))
@pytest.mark.parametrize("compressed", [False, True], ids=["scanned", "compressed"])
@given(operations=_operations, data=st.data())
def test_replay_is_a_rebuild(compressed: bool, operations: list[Put | Delete | Rule], data: st.DataObject) -> None:
    """A snapshot and the changes replayed since then hold the same rows as a snapshot written now."""
    at = data.draw(st.integers(0, len(operations)), "operations before the snapshot")
    at_once = data.draw(st.integers(1, 20), "changes applied at once")
    costs = CODES_ONLY if compressed else MEASURED
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        if compressed:
            stack.enter_context(small_archives_compressed())
        for module in (writer, files):
            patch.setattr(module, "flush", lambda _: None)  # nothing here survives the test
        patch.setattr(writer, "SNAPSHOTS_KEPT", 9)
        patch.setattr(writer, "STATISTICS_GROWTH_MAX", 1e9)
        patch.setattr(
            writer,
            "CHANGED_SHARE_MAX",
            data.draw(st.sampled_from([0.5, 1e9]), "share of changes"),
        )
        patch.setattr(writer, "TRAINED_GROWTH_MAX", data.draw(st.sampled_from([1.0, 2.0]), "rows trained for"))
        store = create_store(Path(name) / STORE_FILE, FakeEmbedder().info.key)
        if compressed:
            store.write(writes(OTHERS), NOW_MS)
        for operation in operations[:at]:
            apply_to_store(store, operation)
        live = image(store, Path(name), costs)
        for number, operation in enumerate(operations[at:]):
            apply_to_store(store, operation)
            if number % 3 == 0:
                replay(live, store, at_once)
        replay(live, store, at_once)
        expected = store.stored([*IDS, *(a.id for a in OTHERS)])
        assert_holds(live, expected, store.revision())
        next_one = image(store, Path(name), costs)
        assert_holds(next_one, expected, store.revision())
        rebuilt = write_snapshot(store, Path(name) / SNAPSHOTS, DIMENSION, from_scratch=True)
        made_anew = Live(Snapshot(rebuilt, costs=costs))
        assert_holds(made_anew, expected, store.revision())
        same_codebooks = next_one.manifest.trained_rows == made_anew.manifest.rows != live.manifest.trained_rows
        for file in rebuilt.iterdir():
            if file.name != MANIFEST and (file.name not in CODES or same_codebooks or not compressed):
                assert (next_one.folder / file.name).read_bytes() == file.read_bytes(), file.name
        for folder in (live.folder, next_one.folder, rebuilt):
            assert_encoded(Snapshot(folder), compressed=compressed)
        if made_anew.manifest.statistics == live.manifest.statistics:  # not where all articles came or went
            assert_same_rows(live, made_anew)
        store.close()


def assert_encoded(image: Snapshot, *, compressed: bool) -> None:
    """Check that every row has the code that the snapshot's own codebooks give its vector, if any has one."""
    assert (image.compressed is not None) == compressed
    if image.compressed:
        codes, lists = image.compressed.quantizers.encode(dequantise_8bit(image.mains.codes))
        assert image.compressed.codes.tolist() == codes.tolist()
        assert image.compressed.lists.tolist() == lists.tolist()


def assert_same_rows(one: Live, other: Live) -> None:
    """Check that two live views hold the same articles with the same words, vectors and sketches, to the bit."""
    rows = {one.record(int(row)).id: int(row) for row in one.rows()}
    others = {other.record(int(row)).id: int(row) for row in other.rows()}
    assert rows.keys() == others.keys()
    for id, row in rows.items():
        here, there = np.array([row]), np.array([others[id]])
        assert one.signatures(here).tolist() == other.signatures(there).tolist()
        assert one.sketches(here).tolist() == other.sketches(there).tolist()
        assert one.main_vectors(here).tolist() == other.main_vectors(there).tolist()
        assert one.record(row).to_bytes() == other.record(others[id]).to_bytes()


def test_a_changed_article_is_read_and_found_as_it_is_now(tmp_path: Path) -> None:
    """The row of the snapshot dies, the new one is found by its new vector, section and time."""
    with archive(tmp_path, article("a", title="Talks resume", section="world"), article("b", days_ago=2)) as (
        store,
        live,
    ):
        old = live.find("a")
        store.write(writes([article("a", title="Gas flows again", section="energy", days_ago=5, paragraphs=())]))
        replay(live, store)
        new = live.find("a")
        assert old is not None
        assert new is not None
        assert new != old
        assert (live.record(new).title, live.count, live.changed_rows) == ("Gas flows again", 2, 2)
        assert found_ids(live, live.search(query("Gas flows again"), 1, *EVER, Scope())) == ["a"]
        assert len(live.search(query("Gas flows again"), 5, *EVER, Scope(sections=frozenset(["world"]))).rows) == 0
        assert ids_at(live, live.latest(Scope(), 5, NOW_MS)) == ["b", "a"]


def test_an_embargo_moves_an_article_in_time(tmp_path: Path) -> None:
    """An article under embargo is found from the embargo's end on; once that is lifted, it is back in its place."""
    plain = article("a", days_ago=5)
    until = NOW_MS - DAY_MS
    with archive(tmp_path, plain, article("b", days_ago=3)) as (store, live):
        store.write(writes([replace(plain, rules=Rules(embargo_until_ms=until))]))
        replay(live, store)
        assert ids_at(live, live.latest(Scope(), 5, until - 1)) == ["b"]
        assert ids_at(live, live.latest(Scope(), 5, until)) == ["a", "b"]
        assert len(live.search(query("Talks"), 5, 0, until - 1, Scope()).rows) == 1
        assert len(live.search(query("Talks"), 5, 0, until, Scope()).rows) == 2
        store.write(writes([plain]))
        replay(live, store)
        assert ids_at(live, live.latest(Scope(), 5, NOW_MS)) == ["b", "a"]


def test_a_change_may_be_applied_again_and_late(tmp_path: Path) -> None:
    """The state that a change is applied with may be newer; the later change then gives the same."""
    with archive(tmp_path, article("a", title="First")) as (store, live):
        store.write(writes([article("a", title="Second")]))
        store.write(writes([article("b")]))
        store.delete(["a"])
        changes = store.changes_after(live.revision, 10)
        present = store.stored(["a", "b"])
        for change in changes:
            live.apply([change], live.row_values(present.values()))
            assert live.find("a") is None
            assert live.revision == change.revision
        assert (live.count, live.find("b") is not None) == (1, True)


def test_no_change_leaves_the_revision(tmp_path: Path) -> None:
    """Applying no change is allowed and changes nothing."""
    live = build_live(tmp_path, [article("a")])
    live.apply([], {})
    assert (live.revision, live.count, live.changed_rows) == (1, 1, 0)


def test_rows_of_the_tail_are_in_the_order_of_the_log(tmp_path: Path) -> None:
    """Every process that applies the same changes has the same rows, and so breaks ties alike."""
    live = build_live(tmp_path, [])
    some = [article(f"x{i}", title="Talks resume", paragraphs=()) for i in range(50)]
    live.apply([written(i + 1, a.id) for i, a in enumerate(some)], live.row_values(stored(some).values()))
    assert [live.find(a.id) for a in some] == list(range(50))
    newest_first = [a.id for a in reversed(some)]
    assert found_ids(live, live.search(query("Talks resume"), 7, *EVER, Scope())) == newest_first[:7]


def test_the_tail_grows(tmp_path: Path) -> None:
    """Of hundreds of articles that are written several times after the snapshot each is there once, as last written."""
    live = build_live(tmp_path, [article("base")])
    for round_ in range(3):
        some = [article(f"x{i}", title=f"Title {i} {round_}", days_ago=i + 1, tags=[f"t{i % 7}"]) for i in range(100)]
        changes = [written(live.revision + 1 + i, a.id) for i, a in enumerate(some)]
        live.apply(changes, live.row_values(stored(some).values()))
    assert (live.count, live.changed_rows) == (101, 300)
    rows = np.array([live.find(f"x{i}") for i in range(100)])
    assert [live.record(row).title for row in rows.tolist()] == [f"Title {i} 2" for i in range(100)]
    assert live.column("published_at_ms", rows).tolist() == [NOW_MS - (i + 1) * DAY_MS for i in range(100)]
    assert len(live.search(query("Title"), 1000, *EVER, Scope()).rows) == 101
    tagged = live.search(query("Title"), 1000, *EVER, Scope(tags=frozenset(["t3"])))
    assert sorted(found_ids(live, tagged)) == sorted(f"x{i}" for i in range(3, 100, 7))
