"""The live view: whatever was applied to it, it answers what a snapshot of the same store answers."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from recommender.catalog.articles import Article, Rules
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot import columns, files, row_values, snapshot, writer
from recommender.catalog.snapshot.columns import Columns, Flag
from recommender.catalog.snapshot.manifest import MANIFEST
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.store import Change, Store, create_store
from recommender.catalog.text.terms import make_signature
from recommender.catalog.vectors.index import Hits, Rows
from recommender.catalog.vectors.scalar_codes import Vector, dequantise_8bit, round_trip_4bit, round_trip_8bit
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from recommender.clock import DAY_MS, YEAR_MS
from tests.building import (
    DIMENSION,
    NOW_MS,
    FakeEmbedder,
    article,
    build_live,
    build_snapshot,
    build_store,
    replayed,
    stored,
    writes,
)
from tests.searching import CODES_ONLY, COMPRESSIBLE, small_archives_compressed

EVER = (0, NOW_MS + YEAR_MS)
"""From and until which every article of these tests is public."""


def query(text: str) -> Vector:
    """Return the main vector of a page with this title."""
    return round_trip_8bit(FakeEmbedder().encode([text])[0])


def ids_at(live: Live, rows: Rows) -> list[str]:
    """Return the ids of some rows."""
    return [live.record(row).id for row in rows.tolist()]


def found_ids(live: Live, hits: Hits) -> list[str]:
    """Return the ids of hits, best first."""
    return ids_at(live, hits.rows)


def replay(live: Live, store: Store, at_once: int = 200) -> None:
    """Apply what the store has committed since, as a worker does."""
    while changes := store.changes_after(live.revision, at_once):
        live.apply(changes, live.row_values(store.stored([change.article_id for change in changes]).values()))


def image(store: Store, folder: Path, costs: SearchCosts = MEASURED) -> Live:
    """Return the live view of a new snapshot of the store's present state."""
    return Live(Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION), costs=costs))


# Against a rebuild, and against a dictionary


@dataclass(frozen=True)
class Put:
    """An article is written: new, changed, or with other rules alone."""

    articles: tuple[Article, ...]


@dataclass(frozen=True)
class Delete:
    """Articles are withdrawn, there or not."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """The editor changes the rules of an article, if it is there."""

    id: str
    rules: Rules


IDS = tuple("abcdefgh")
OTHERS = [
    article(
        f"other {n}",
        title=("Talks resume", "Prices rise", "A Vienna Deal")[n % 3],
        paragraphs=(f"Report {n}.",),
        days_ago=n / 4,
        section=("world", "energy")[n % 2],
        tags=["gas"] * (n % 2),
    )
    for n in range(COMPRESSIBLE)
]
"""Articles that stay as they are, enough for codes of them."""
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

SCOPES = [
    Scope(),
    Scope(sections=frozenset(["world"])),
    Scope(tags=frozenset(["gas", "deal"]), languages=frozenset(["en"])),
    Scope(sites=frozenset(["two.example"]), evergreen_only=True),
    Scope(published_from_ms=NOW_MS - 3 * DAY_MS, published_before_ms=NOW_MS - DAY_MS),
    Scope(sections=frozenset(["nowhere"])),
    Scope(tags=frozenset()),
]
PERIODS = [EVER, (NOW_MS - 3 * DAY_MS, NOW_MS - DAY_MS), (0, NOW_MS), (NOW_MS, 0)]


def apply_to_store(store: Store, operation: Put | Delete | Rule) -> None:
    """Carry out one operation, as the service would."""
    if isinstance(operation, Put):
        store.write(writes(operation.articles), NOW_MS)
    elif isinstance(operation, Delete):
        store.delete(operation.ids, NOW_MS)
    elif found := store.get(operation.id):
        store.write(writes([replace(found, rules=operation.rules)]), NOW_MS)


def in_scope(a: Article, scope: Scope, from_ms: int, until_ms: int) -> bool:
    """Say whether an article may be chosen, by the definition of a scope."""
    return (
        not a.rules.never_target
        and from_ms <= a.public_at_ms <= until_ms
        and (scope.sections is None or a.labels.section in scope.sections)
        and (scope.tags is None or bool(scope.tags & set(a.labels.tags)))
        and (scope.languages is None or a.labels.language in scope.languages)
        and (scope.sites is None or a.labels.site in scope.sites)
        and (not scope.published_from_ms or a.published_at_ms >= scope.published_from_ms)
        and (not scope.published_before_ms or a.published_at_ms < scope.published_before_ms)
        and (not scope.evergreen_only or a.rules.evergreen)
    )


def assert_holds(live: Live, expected: Mapping[str, StoredArticle], revision: int) -> None:
    """Compare everything that a live view tells with the articles that it must hold."""
    assert (live.revision, live.count) == (revision, len(expected))
    rows = {}
    for article_id in (*IDS, *(a.id for a in OTHERS), "never seen"):
        row = live.find(article_id)
        assert (row is not None) == (article_id in expected), article_id
        if row is not None:
            rows[article_id] = row
            assert_is(live, row, expected[article_id])
    assert list(live.rows()) == sorted(rows.values())
    assert_gathers(live, sorted(rows.values()))
    hashes = live.id_hashes(np.array(sorted(rows.values()), np.int64))
    assert hashes.tolist() == [int(columns.id_hash(id)) for id, _ in sorted(rows.items(), key=lambda item: item[1])]
    for tags in (["gas"], ["talks", "nowhere", "gas"]):
        overlaps = live.tag_overlaps(np.array(sorted(rows.values()), np.int64), tags)
        by_row = {row: expected[id].article.labels.tags for id, row in rows.items()}
        assert overlaps.tolist() == pytest.approx([jaccard(by_row[row], tags) for row in sorted(by_row)])
    for scope, (from_ms, until_ms) in itertools.product(SCOPES, PERIODS):
        eligible = {i: s for i, s in expected.items() if in_scope(s.article, scope, from_ms, until_ms)}
        for k in (1, 3, len(expected) + 1):
            assert_nearest(live, live.search(query("Talks resume"), k, from_ms, until_ms, scope), eligible, k)
        assert_in_time(live, scope, from_ms, until_ms, eligible)
    assert_publishing_rate(live, expected)


def assert_is(live: Live, row: int, expected: StoredArticle) -> None:
    """Compare one row. Words weigh as in the snapshot's statistics until there is a new one."""
    a, record, terms = expected.article, live.record(row), expected.analysis.terms
    signature = make_signature(terms, live.idf)
    assert record.masks.tolist() == terms.masks[signature.order].tolist()
    told = {f.name: getattr(record, f.name) for f in fields(Record) if f.name != "masks"}
    kinds = "".join(str(int(p.kind)) for p in a.paragraphs)
    assert told == {
        **{name: getattr(a, name) for name in told if name not in ("kinds", "never_with", "surfaces")},
        "kinds": kinds,
        "never_with": a.rules.never_with,
        "surfaces": tuple(terms.surfaces[i] for i in signature.order),
    }
    assert live.signature(row).tolist() == signature.pack().tolist()
    assert live.head_vector(row).tolist() == round_trip_4bit(expected.vectors.head).tolist()
    assert live.main_vectors(np.array([row])).tolist() == [round_trip_8bit(expected.vectors.main).tolist()]
    assert live.sketches(np.array([row])).tolist() == [expected.analysis.sketch.tolist()]
    assert (live.public_at_ms(row), live.published_at_ms(row)) == (a.public_at_ms, a.published_at_ms)
    assert [live.column(f.name, np.array([row]))[0] for f in fields(Columns)] == list(Columns.row_of(a, terms.words))


def assert_gathers(live: Live, rows: Sequence[int]) -> None:
    """Reading many rows is reading each of them."""
    head, some = query("Gas flows again"), np.array(rows, np.int64)
    each = [np.array([row]) for row in rows]
    assert live.signatures(some).tolist() == [live.signatures(row)[0].tolist() for row in each]
    assert live.sketches(some).tolist() == [live.sketches(row)[0].tolist() for row in each]
    assert live.main_vectors(some).tolist() == [live.main_vectors(row)[0].tolist() for row in each]
    assert live.column("words", some).tolist() == [live.column("words", row)[0] for row in each]
    cosines = np.array([min(float(live.head_vector(row) @ head), 1.0) for row in rows], np.float32)
    np.testing.assert_allclose(live.head_cosines(some, head), cosines, atol=1e-6)


def jaccard(some: Sequence[str], others: Sequence[str]) -> float:
    """Return the share of common tags among all of both."""
    return len({*some} & {*others}) / (len({*some} | {*others}) or 1)


def assert_nearest(live: Live, hits: Hits, eligible: Mapping[str, StoredArticle], k: int) -> None:
    """Hits are the k best of the eligible; which of those that tie at the end is free."""
    scores = {i: float(round_trip_8bit(s.vectors.main) @ query("Talks resume")) for i, s in eligible.items()}
    ids = found_ids(live, hits)
    assert len(ids) == len(set(ids)) == min(k, len(eligible))
    np.testing.assert_allclose(hits.scores, [scores[i] for i in ids], rtol=0, atol=1e-6)
    assert hits.scores.tolist() == sorted(hits.scores.tolist(), reverse=True)
    assert all(scores[i] <= hits.scores[-1] + 1e-6 for i in eligible if i not in ids)


def assert_in_time(
    live: Live, scope: Scope, from_ms: int, until_ms: int, eligible: Mapping[str, StoredArticle]
) -> None:
    """The earliest and the latest of a scope, and the window of time around a moment."""
    times = {i: s.article.public_at_ms for i, s in eligible.items()}
    for n in (0, 1, 3, len(eligible) + 1):
        earliest = live.earliest(scope, n, from_ms, until_ms)
        assert [times[i] for i in ids_at(live, earliest)] == sorted(times.values())[:n]
        assert len(set(earliest.tolist())) == len(earliest)
        if from_ms == 0:
            latest = live.latest(scope, n, until_ms)
            assert [times[i] for i in ids_at(live, latest)] == sorted(times.values(), reverse=True)[:n]
            at_ms = min(NOW_MS - 2 * DAY_MS, until_ms)
            before = sorted(ms for ms in times.values() if ms <= at_ms)[::-1][:n]
            after = sorted(ms for ms in times.values() if ms > at_ms)[: n // 2]
            expected = (before[-1] if before else at_ms, after[-1] if after else at_ms)
            assert live.window(scope, NOW_MS - 2 * DAY_MS, until_ms, n) == expected


def assert_publishing_rate(live: Live, expected: Mapping[str, StoredArticle]) -> None:
    """Every article of the year before the newest one that may be linked to counts, over the time since the oldest."""
    newest = max(
        (s.article.public_at_ms for s in expected.values() if in_scope(s.article, Scope(), 0, NOW_MS)), default=None
    )
    assert live.newest_ms(NOW_MS) == newest
    if newest is None:
        assert live.published_per_day(NOW_MS) == 0
        return
    year = [ms for s in expected.values() if newest - YEAR_MS <= (ms := s.article.public_at_ms) <= newest]
    assert live.published_per_day(NOW_MS) == pytest.approx(len(year) / max(1, (newest - min(year)) / DAY_MS))


CODES = {"codes.npy", "lists.npy", "codebooks.npy", "centroids.npy"}


@settings(max_examples=settings().max_examples // 3, phases=tuple(set(Phase) - {Phase.explain}))
@pytest.mark.parametrize("compressed", [False, True], ids=["scanned", "compressed"])
@given(operations=_operations, data=st.data())
def test_replay_is_a_rebuild(compressed: bool, operations: list[Put | Delete | Rule], data: st.DataObject) -> None:
    """A snapshot taken at any moment and the changes since then say what a snapshot taken now says."""
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
        patch.setattr(writer, "CHANGED_SHARE_MAX", data.draw(st.sampled_from([0.5, 1e9]), "share carried over"))
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


# Single cases


@contextmanager
def archive(folder: Path, *articles: Article) -> Iterator[tuple[Store, Live]]:
    """Make a store of articles and the live view of its snapshot."""
    store = build_store(folder, articles)
    yield store, image(store, folder)
    store.close()


def deleted(revision: int, article_id: str) -> Change:
    """Return the log entry of a deletion."""
    return Change(revision, article_id, deleted=True)


def written(revision: int, article_id: str) -> Change:
    """Return the log entry of a write."""
    return Change(revision, article_id, deleted=False)


TAGGED = ["", "a", "ab", "", "bcdefg", "ad", "abcdefg", "g", "", "fg", "ce", ""]
"""The tags of some articles, a letter each."""


@pytest.fixture(scope="module", params=[0, 5, len(TAGGED)], ids=["tail", "both", "snapshot"])
def tagged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return an archive of articles with tags, all in the snapshot, all written after it, or some."""
    articles = [article(f"{n:02}", days_ago=20 - n, tags=[*tags]) for n, tags in enumerate(TAGGED)]
    base = build_snapshot(tmp_path_factory.mktemp("tagged"), articles[: request.param])
    return replayed(base, articles[request.param :])


@given(wanted=st.lists(st.sampled_from("abcdefgxyz")), asked=st.sets(st.integers(0, len(TAGGED) - 1)))
def test_tags_overlap_as_sets_do(tagged: Live, wanted: list[str], asked: set[int]) -> None:
    """The Jaccard coefficient of each asked row's tags; 0 where there are none, here, there or both."""
    overlaps = tagged.tag_overlaps(np.array(sorted(asked), np.int64), wanted)
    assert (str(overlaps.dtype), overlaps.shape) == ("float32", (len(asked),))
    assert overlaps.tolist() == pytest.approx([jaccard(TAGGED[n], wanted) for n in sorted(asked)])


def test_a_label_s_share_is_that_of_all_articles(tmp_path: Path) -> None:
    """Changed ones count as they are now; no label, an unknown one and an empty archive have none."""
    base = build_snapshot(tmp_path / "a", [article(f"{n}", section="sport" if n < 3 else "world") for n in range(4)])
    live = replayed(base, [article("new", section="sport"), article("0", section="world")])
    live.apply([deleted(live.revision + 1, "1")], {})
    assert live.label_share("section", "sport") == live.label_share("section", "world") == 0.5
    assert live.label_share("site", "courier.example") == 1
    assert live.label_share("section", "nowhere") == live.label_share("section", "") == 0
    assert build_live(tmp_path / "b", []).label_share("section", "sport") == 0


def test_tags_of_what_was_written_since_the_last_answer_are_known(tmp_path: Path) -> None:
    """An answer does not freeze the tail's tags: neither their overlap nor the scope."""
    live = build_live(tmp_path, [])
    for count, tags in enumerate((["gas"], ["talks"], ["gas", "talks"]), 1):
        one = article(f"{count}", tags=tags)
        live.apply([written(live.revision + 1, one.id)], live.row_values(stored([one]).values()))
        expected = [1.0, 0.0, 0.5][:count]
        assert live.tag_overlaps(np.arange(count), ["gas"]).tolist() == expected
        with_gas = live.latest(Scope(tags=frozenset({"gas"})), 9, NOW_MS)
        assert sorted(with_gas.tolist()) == [row for row, share in enumerate(expected) if share]


@pytest.fixture(params=["exact", "compressed"])
def costs(request: pytest.FixtureRequest) -> Iterator[SearchCosts]:
    """Return costs that make searches exact, or that make them use product codes, which snapshots then have."""
    if request.param == "exact":
        yield MEASURED
        return
    with small_archives_compressed():
        yield CODES_ONLY


@pytest.mark.parametrize("scope", [Scope(), Scope(sections=frozenset(["diplomacy"]))], ids=["all", "scope"])
def test_however_many_of_the_nearest_are_withdrawn_k_are_found(
    tmp_path: Path, costs: SearchCosts, scope: Scope
) -> None:
    """Withdrawing the nearest hundred articles leaves the next ones, as many as asked for."""
    near = [article(f"near-{i:03}", title="Talks resume", paragraphs=(), days_ago=200 - i) for i in range(100)]
    far = [article(f"far-{i}", title="Gas flows again", paragraphs=(), days_ago=i + 1) for i in range(6)]
    outside = [article("outside", title="Talks resume", paragraphs=(), section="world")][: scope != Scope()]
    live = build_live(tmp_path, [*near, *far, *outside], costs)
    live.apply([deleted(live.revision + 1 + i, a.id) for i, a in enumerate(near[10:])], {})
    assert live.count == 16 + len(outside)
    hits = live.search(query("Talks resume"), 12, *EVER, scope)
    assert found_ids(live, hits) == [*(f"near-{i:03}" for i in range(9, -1, -1)), "far-0", "far-1"]
    assert ids_at(live, live.latest(scope, 7, NOW_MS)) == [*(f"far-{i}" for i in range(6)), "near-009"]
    assert ids_at(live, live.earliest(scope, 11, 0, NOW_MS)) == [*(f"near-{i:03}" for i in range(10)), "far-5"]


def test_an_archive_may_be_empty_and_may_become_so(tmp_path: Path) -> None:
    """Nothing is found in an archive without articles; the first one is; withdrawn, nothing again."""
    with archive(tmp_path) as (store, live):
        for expected in ([], ["first"], []):
            assert live.count == len(expected)
            assert found_ids(live, live.search(query("Talks"), 5, *EVER, Scope())) == expected
            assert ids_at(live, live.latest(Scope(), 5, NOW_MS)) == expected
            assert ids_at(live, live.earliest(Scope(), 5, 0, NOW_MS)) == expected
            assert (live.newest_ms(NOW_MS) is None) == (not expected)
            assert live.window(Scope(), NOW_MS, NOW_MS, 5)[1] == NOW_MS
            if expected:
                store.delete(["first"])
            else:
                store.write(writes([article("first")]))
            replay(live, store)
        assert live.revision == store.revision() == 3


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
    """Under embargo an article is found only from its end on; lifted, it is back at its place."""
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
    """Applying nothing is allowed."""
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


@pytest.mark.parametrize("id", ["a", "b", "c", "d"], ids=["in the snapshot", "changed since", "new since", "unknown"])
def test_a_view_with_another_article_is_a_view_of_its_own(tmp_path: Path, id: str) -> None:
    """Neither says what is applied to the other."""
    some = stored([article(id) for id in "abc"])
    with archive(tmp_path, some["a"].article, article("b", title="Before")) as (_, live):
        live.apply([written(3, "b"), written(4, "c")], live.row_values([some["b"], some["c"]]))
        other = stored([article(id, title="Another", tags=["gas"], days_ago=3, paragraphs=())])
        (values,) = live.row_values(other.values()).values()
        view = live.with_article(values)
        assert_holds(view, some | other, 4)
        assert_holds(live, some, 4)
        late = stored([article("e", title="Late")])
        live.apply([written(5, "e"), deleted(6, "a")], live.row_values(late.values()))
        assert_holds(view, some | other, 4)
        view.apply([deleted(5, "c")], {})
        assert_holds(live, {id: one for id, one in (some | late).items() if id != "a"}, 6)


@pytest.mark.parametrize("scope", [Scope(), Scope(sections=frozenset({"news"}))], ids=["all", "some"])
def test_what_is_withdrawn_in_one_view_is_not_in_another(tmp_path: Path, scope: Scope) -> None:
    """Two views of one snapshot, each with as many withdrawals, and of others: what scopes remember is of one view."""
    some = [article(id, section="news") for id in "abc"] + [article("d", section="sport")]
    live = build_live(tmp_path, some)
    (values,) = live.row_values(stored([article("a", section="news", title="As it was")]).values()).values()

    def found(view: Live) -> set[str]:
        return set(found_ids(view, view.search(query("Talks"), 10, *EVER, scope))) - {"d"}

    assert found(live) == {"a", "b", "c"}
    view = live.with_article(values)
    assert found(view) == {"a", "b", "c"}
    live.apply([deleted(5, "b")], {})
    assert found(live) == {"a", "c"}
    assert found(view) == {"a", "b", "c"}
    view.apply([deleted(5, "c")], {})
    assert (found(view), found(live)) == ({"a", "b"}, {"a", "c"})


def test_the_tail_grows_and_older_reads_stay_right(tmp_path: Path) -> None:
    """Hundreds of articles after the snapshot, many rewritten: each is there once, as last written."""
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


def test_the_newer_of_equal_scores_comes_first_across_snapshot_and_tail(tmp_path: Path) -> None:
    """Rows of the tail count as newer than all of the snapshot."""
    same = [article(f"x{i}", title="talks", paragraphs=(), days_ago=i + 1) for i in range(4)]
    with archive(tmp_path, *same[:3]) as (store, live):
        store.write(writes(same[3:]))
        replay(live, store)
    axis = np.zeros(DIMENSION, np.float32)
    axis[0] = 1
    hits = live.search(axis, 4, *EVER, Scope())
    assert len(set(hits.scores.tolist())) == 1
    assert found_ids(live, hits) == ["x3", "x0", "x1", "x2"]


def test_the_publishing_rate_is_that_of_the_last_year(tmp_path: Path) -> None:
    """Older articles do not count; in a younger archive the time since its first living article does."""
    some = [article(f"x{i}", days_ago=i * 5) for i in range(80)]
    with archive(tmp_path, *some) as (store, live):
        assert live.published_per_day(NOW_MS) == 74 / 365
        assert live.published_per_day(NOW_MS - 300 * DAY_MS) == 20 / 95
        assert live.published_per_day(NOW_MS - 396 * DAY_MS) == 0
        store.delete([a.id for a in some[5:]])
        replay(live, store)
        assert live.published_per_day(NOW_MS) == 5 / 20
        store.write(writes([article("new", days_ago=80, rules=Rules(never_target=True))]))
        replay(live, store)
        assert live.published_per_day(NOW_MS) == 6 / 80
        store.delete([a.id for a in some[1:5]])
        store.delete(["new"])
        replay(live, store)
        assert live.published_per_day(NOW_MS) == 1


def test_ids_with_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collision of id hashes is resolved by the id itself."""

    def one_hash(_: str) -> np.uint64:
        return np.uint64(7)

    monkeypatch.setattr(snapshot, "id_hash", one_hash)
    monkeypatch.setattr(row_values, "id_hash", one_hash)
    live = build_live(tmp_path, [article(f"x{i}", days_ago=5 - i) for i in range(5)])
    assert [live.find(f"x{i}") for i in range(5)] == list(range(5))
    assert live.find("y") is None


def test_ids_need_not_be_ascii(tmp_path: Path) -> None:
    """Ids are found by their exact characters."""
    ids = ["ä", "a\u0308", "新闻/1?x=y", "A", "a", "x" * 512]
    live = build_live(tmp_path, [article(id_, url="") for id_ in ids])
    assert sorted(live.record(row).id for id_ in ids if (row := live.find(id_)) is not None) == sorted(ids)
    assert live.find("aa") is None


# Scopes

_labels = st.none() | st.frozensets(st.sampled_from(["a", "b", "c"]), min_size=1)
_scopes = st.builds(
    Scope,
    sections=_labels,
    tags=_labels,
    published_from_ms=st.integers(0, 2),
    published_before_ms=st.sampled_from([0, 0, 3, 4]),
    evergreen_only=st.booleans(),
)


@given(_scopes, _scopes, st.sampled_from("abc"), st.integers(1, 4), st.booleans())
def test_a_narrowed_scope_is_both(
    first: Scope, second: Scope, section: str, published_at_ms: int, evergreen: bool
) -> None:
    """An article is in the narrowed scope if it is in both; the order does not matter."""
    a = replace(
        article("a", section=section, rules=Rules(evergreen=evergreen)),
        published_at_ms=published_at_ms,
    )
    without_tags = [replace(scope, tags=None) for scope in (first, second)]
    both = all(in_scope(a, scope, 0, NOW_MS) for scope in without_tags)
    assert in_scope(a, without_tags[0].narrowed(without_tags[1]), 0, NOW_MS) == both
    assert first.narrowed(Scope()) == Scope().narrowed(first) == first
    assert first.narrowed(second) == second.narrowed(first)


def test_each_part_of_a_scope_is_narrowed() -> None:
    """Labels to those in both lists, times to the narrower ones; no list and no time is no bound."""
    first = Scope(
        sections=frozenset("ab"), tags=frozenset("ab"), languages=None, sites=frozenset("a"), published_from_ms=2
    )
    second = Scope(
        sections=frozenset("bc"),
        tags=frozenset("c"),
        languages=frozenset("a"),
        published_from_ms=1,
        published_before_ms=9,
    )
    third = Scope(published_before_ms=8, evergreen_only=True)
    assert first.narrowed(second).narrowed(third) == Scope(
        sections=frozenset("b"),
        tags=frozenset(),
        languages=frozenset("a"),
        sites=frozenset("a"),
        published_from_ms=2,
        published_before_ms=8,
        evergreen_only=True,
    )


def test_an_article_that_is_never_a_target_is_read_but_not_found(tmp_path: Path) -> None:
    """It keeps its row, with the flags of its rules."""
    rules = Rules(never_target=True, never_source=True, evergreen=True, never_with=("x", "y"))
    live = build_live(tmp_path, [article("a", rules=rules), article("b", days_ago=2)])
    row = live.find("a")
    assert row == 1
    assert live.record(row).never_with == ("x", "y")
    flags = live.column("flags", np.array([0, 1])).tolist()
    assert flags == [0, Flag.NEVER_TARGET | Flag.NEVER_SOURCE | Flag.EVERGREEN | Flag.NEVER_WITH]
    assert found_ids(live, live.search(query("Talks"), 5, *EVER, Scope())) == ["b"]
    assert live.search(query("Talks"), 5, *EVER, Scope(evergreen_only=True)).rows.tolist() == []


def test_more_scopes_than_are_remembered_answer_right(tmp_path: Path) -> None:
    """The rows of recent scopes are cached; a scope that was dropped is worked out again."""
    live = build_live(tmp_path, [article(f"x{i}", section=f"s{i % 100}", days_ago=200 - i) for i in range(200)])
    for _ in range(2):
        for i in range(100):
            hits = live.search(query("Talks"), 5, *EVER, Scope(sections=frozenset([f"s{i}"])))
            assert sorted(found_ids(live, hits)) == sorted([f"x{i}", f"x{i + 100}"])


def test_a_score_is_the_same_on_either_side_of_the_border(tmp_path: Path) -> None:
    """To the bit: two workers of which one has taken up the next snapshot answer alike."""
    articles = [article(f"a{i}", title=f"Talks {i}", paragraphs=[f"Gas {i * i} flows {-i}"]) for i in range(100)]
    whole = build_live(tmp_path / "whole", articles)
    some = replayed(build_snapshot(tmp_path / "some", articles[:30]), articles[30:])
    assert scores_by_id(whole) == scores_by_id(some)


def scores_by_id(live: Live) -> dict[str, tuple[float, float]]:
    """Return by how much each article is like a query: as a search says, and as its head vector says."""
    asked, rows = query("Gas flows again"), live.rows()
    hits = live.search(asked, len(rows), 0, NOW_MS, Scope())
    found = dict(zip(found_ids(live, hits), hits.scores.tolist(), strict=True))
    cosines = zip(ids_at(live, rows), live.head_cosines(rows, asked).tolist(), strict=True)
    return {id: (found[id], cosine) for id, cosine in cosines}
