"""The store: what was acknowledged is there, whole, in order, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.catalog.articles import Article, EditorLink, Rules
from recommender.catalog.store import reads as reads_module
from recommender.catalog.store import schema, sqlite
from recommender.catalog.store import store as store_module
from recommender.catalog.store import writes as writes_module
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.schema import SCHEMA_VERSION
from recommender.catalog.store.store import Change, Store, create_store, open_store
from recommender.catalog.store.writes import Outcome, Upsert, Write, former_article
from recommender.catalog.text.derived import ANALYSIS, Vectors, analyse
from recommender.clock import DAY_MS
from recommender.encoding.embed_articles import embed
from recommender.errors import (
    CorruptError,
    DiskFullError,
    MismatchError,
    NotFoundError,
    RelatedNewsError,
    StorageError,
    UnavailableError,
)
from tests.building import NOW_MS, FakeEmbedder, article, stored, writes

ROOT = Path(__file__).parents[4]
KEY = FakeEmbedder().info.key
ADDED, CHANGED, UNCHANGED = Outcome.ADDED, Outcome.CHANGED, Outcome.UNCHANGED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the store of `store` is."""
    return tmp_path / "data" / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Return an empty store."""
    store = create_store(path, KEY)
    yield store
    store.close()


def write_of(a: Article, *, keep_rules: bool = False, links: tuple[EditorLink, ...] | None = None) -> Write:
    """Return one article as the store takes it."""
    return writes([Upsert(a, keep_rules=keep_rules, links=links)])[0]


def test_an_upsert_is_a_change_if_article_rules_or_links_differ(store: Store) -> None:
    """StoredArticle rules count only if they are to be replaced, links only if there are new ones."""
    stored = article("a", rules=Rules(evergreen=True))
    link = EditorLink("a", "b", 0)
    store.write(writes([Upsert(stored, links=(link,)), article("b")]))
    plain = article("a")
    same = [
        Upsert(stored),
        Upsert(plain, keep_rules=True),
        Upsert(stored, links=(link,)),
        Upsert(article("b"), links=()),
    ]
    different = [
        Upsert(plain),
        Upsert(replace(stored, title="New"), keep_rules=True),
        Upsert(stored, links=()),
        Upsert(article("b"), links=(EditorLink("b", "a", 0),)),
        Upsert(article("c"), keep_rules=True),
    ]
    assert store.changed([*same, *different]) == different


def test_only_texts_without_vectors_are_to_be_embedded(store: Store) -> None:
    """The lookup names each missing text once, and puts old and new vectors together in the order of the articles."""
    store.write(writes([article("a"), article("b", title="Pier")]))
    asked = [
        article("new", title="Tide"),
        article("copy"),
        article("like new", title="Tide"),
        article("b", title="Pier"),
    ]
    lookup = store.look_up_vectors(asked)
    assert list(lookup.missing) == [asked[0].text_hash()] == [a.text_hash() for a in lookup.missing.values()]
    (made,) = embed([asked[0]], FakeEmbedder())
    stored = store.vectors_of([article("a").text_hash(), asked[3].text_hash()])
    expected = [made, stored[asked[1].text_hash()], made, stored[asked[3].text_hash()]]
    assert [v.to_bytes() for v in lookup.complete([made])] == [v.to_bytes() for v in expected]


def revisions_of(path: Path) -> dict[str, int]:
    """Return the revision that each article's row says it was written by."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT id, revision FROM articles"))


def assert_same(one: StoredArticle, other: StoredArticle) -> None:
    """Compare articles and all that is derived from them; vectors at half precision."""
    assert one.article == other.article
    for name in ("main", "head"):
        halves = [getattr(s.vectors, name).astype(np.float16).tolist() for s in (one, other)]
        assert halves[0] == halves[1]
    mine, theirs = one.analysis, other.analysis
    assert mine.sketch.tolist() == theirs.sketch.tolist()
    assert (mine.terms.surfaces, mine.terms.words) == (theirs.terms.surfaces, theirs.terms.words)
    for name in ("ids", "counts", "masks"):
        assert getattr(mine.terms, name).tolist() == getattr(theirs.terms, name).tolist()


# Reading back


def test_what_is_written_is_read_back(store: Store) -> None:
    """Articles with all that is derived from them come back as they were, one, many, or none."""
    some = [
        article("full", tags=["x", "y"], summary="Sum", paragraphs=["One.", "", "Two, with “quotes” and 新闻."]),
        article("bare", title="Only a title", paragraphs=(), url="", section="", site="", language=""),
        article("ruled", rules=Rules(True, True, ("a", "b"), NOW_MS, True)),
    ]
    assert store.write(writes(some), NOW_MS) == [ADDED] * 3
    assert store.count() == 3
    assert [store.get(a.id) for a in some] == some
    assert store.get("nothing") is None
    assert store.get_many(["bare", "nothing"]) == {"bare": some[1]}
    back = store.stored(["ruled", "nothing", "full"])
    assert set(back) == {"ruled", "full"}
    for article_id, expected in stored(some).items():
        if article_id in back:
            assert_same(back[article_id], expected)
    with closing(sqlite3.connect(store.path)) as connection:
        hashes = dict(connection.execute("SELECT id, content_hash FROM articles"))
    assert hashes == {a.id: a.content_hash() for a in some}
    assert not (store.stored([]) or store.get_many([]) or store.changed([]) or store.withdrawn([]))


def test_more_ids_than_one_statement_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-ups of many ids go in parts and miss nothing at their seams."""
    monkeypatch.setattr(store_module, "KEYS_PER_QUERY_MAX", 4)
    some = [article(f"x{i}") for i in range(11)]
    store.write(writes(some))
    store.delete(["x0", "x4", "x8"])
    ids = [f"x{i}" for i in range(12)]
    assert set(store.get_many(ids)) == set(store.stored(ids)) == set(ids) - {"x0", "x4", "x8", "x11"}
    assert store.withdrawn(ids) == {"x0", "x4", "x8"}
    assert set(store.vectors_of([a.text_hash() for a in some])) == {some[0].text_hash()}


def test_a_store_keeps_what_it_has_when_it_is_opened_again(path: Path, store: Store) -> None:
    """Closing and opening changes nothing, revision included."""
    store.write(writes([article("a"), article("b")]))
    store.delete(["b"])
    store.close()
    for open_ in (open_store, create_store):
        again = open_(path, KEY)
        assert (again.count(), again.revision(), again.withdrawn(["a", "b"])) == (1, 3, {"b"})
        again.close()


# Outcomes, rules, links


def test_the_outcome_of_each_write_in_order(store: Store) -> None:
    """New, changed in content, changed in rules alone, and the same; only changes are logged."""
    a, b = article("a"), article("b")
    assert store.write([]) == []
    assert store.write(writes([a, b])) == [ADDED, ADDED]
    ruled = replace(a, rules=Rules(evergreen=True))
    assert store.write(writes([article("c"), replace(b, title="New"), a])) == [ADDED, CHANGED, UNCHANGED]
    assert store.write(writes([ruled, ruled])) == [CHANGED, UNCHANGED]
    assert store.revision() == 5
    assert [c.article_id for c in store.changes_after(0, 100)] == ["a", "b", "c", "b", "a"]


@pytest.mark.parametrize("keep_rules", [True, False])
@pytest.mark.parametrize("new_title", ["Talks on the strait resume", "Another title"], ids=["same text", "new text"])
def test_rules_are_kept_only_when_told(store: Store, keep_rules: bool, new_title: str) -> None:
    """A write from a source keeps the editor's rules; the editor's own write replaces them."""
    ruled = article("a", rules=Rules(never_target=True, never_with=("x",)))
    store.write(writes([ruled]))
    [outcome] = store.write([write_of(article("a", title=new_title), keep_rules=keep_rules)])
    now = store.get("a")
    assert now is not None
    assert now.title == new_title
    assert now.rules == (ruled.rules if keep_rules else Rules())
    assert outcome is (UNCHANGED if keep_rules and new_title == ruled.title else CHANGED)


def test_kept_rules_of_an_article_that_is_new_or_was_withdrawn_are_its_own(store: Store) -> None:
    """Where no rules are stored, those of the article are used; withdrawing forgets the editor's."""
    evergreen = article("a", rules=Rules(evergreen=True))
    store.write([write_of(evergreen, keep_rules=True)])
    assert store.get("a") == evergreen
    store.write(writes([replace(evergreen, rules=Rules(never_target=True))]))
    store.delete(["a"])
    store.write([write_of(evergreen, keep_rules=True)])
    assert store.get("a") == evergreen


def test_links_are_replaced_kept_or_forgotten(store: Store) -> None:
    """Links given replace the stored ones, None leaves them, and they go with their article."""
    first = (EditorLink("a", "b", 2, "Talks"), EditorLink("a", "https://x.example/c", -1))
    a = article("a")
    store.write([write_of(a, links=first), write_of(article("b"), links=(EditorLink("b", "a", 0),))])
    assert list(store.links()) == [*first, EditorLink("b", "a", 0)]
    store.write([write_of(replace(a, title="New"), links=None)])
    assert list(store.links()) == [*first, EditorLink("b", "a", 0)]
    assert store.write([write_of(replace(a, title="New"), links=first[1:])]) == [UNCHANGED]
    assert list(store.links()) == [first[1], EditorLink("b", "a", 0)]
    store.write([write_of(a, links=())])
    assert list(store.links()) == [EditorLink("b", "a", 0)]
    store.delete(["b"])
    assert list(store.links()) == []


def test_links_of_some_sources(store: Store) -> None:
    """They come in the order in which they stood; a source without links, or that is unknown, is left out."""
    links = tuple(EditorLink("a", target, 9 - i) for i, target in enumerate("zxy"))
    store.write([write_of(article("a"), links=links), write_of(article("b"), links=())])
    store.write([write_of(article("c"), links=(EditorLink("c", "a", 0),))])
    assert store.links_of(["b", "a", "unknown"]) == {"a": links}
    assert store.links_of([]) == {}


# The change log and withdrawals


def test_deleting_says_what_was_there(store: Store) -> None:
    """False for an id that is not there, also for one that was withdrawn a moment ago; those leave no trace."""
    store.write(writes([article("a"), article("b")]))
    assert store.delete(["a", "nothing", "a", "b"]) == [True, False, False, True]
    assert store.delete(["a"]) == [False]
    assert store.delete([]) == []
    assert store.withdrawn(["a", "b", "nothing"]) == {"a", "b"}
    gone = [former_article(article(id)) for id in "ab"]
    assert store.changes_after(2, 100) == [Change(3, "a", True, gone[0]), Change(4, "b", True, gone[1])]


@pytest.mark.parametrize("name", ["{new}", "o'brien", "{}", "100%?"])
def test_an_encoder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """It may be the path of a folder."""
    with closing(create_store(tmp_path / "s.sqlite3", FakeEmbedder(name).info.key)) as store:
        (write,) = writes([article("a")], FakeEmbedder(name))
        store.write([write])
        text_hash = write.upsert.article.text_hash()
        assert store.vectors_of([text_hash])[text_hash].to_bytes() == write.vectors.to_bytes()


def test_a_write_brings_a_withdrawn_article_back_only_if_it_may(store: Store) -> None:
    """Whoever withdrew it while the indexer was embedding it has the last word; others of the batch are written."""
    store.write(writes([article("a"), article("b")]))
    store.delete(["a"])
    batch = [Upsert(article(id, title="New"), restore=False) for id in "ab"]
    assert store.write(writes(batch)) == [Outcome.WITHDRAWN, Outcome.CHANGED]
    assert (store.get("a"), store.withdrawn(["a"]), store.revision()) == (None, {"a"}, 4)
    assert store.write(writes([replace(batch[0], restore=True)])) == [Outcome.ADDED]
    assert store.withdrawn(["a"]) == set()


def test_a_withdrawn_article_that_is_written_again_is_new(store: Store) -> None:
    """It is no longer among the withdrawn, and the log tells all three changes."""
    store.write(writes([article("a")]))
    store.delete(["a"])
    assert store.write(writes([article("a")])) == [ADDED]
    assert store.withdrawn(["a"]) == set()
    assert [(c.revision, c.deleted) for c in store.changes_after(0, 10)] == [(1, False), (2, True), (3, False)]


def test_the_log_is_read_in_parts(store: Store) -> None:
    """Reading on from the last revision seen gives every change once, in order."""
    for i in range(7):
        store.write(writes([article(f"x{i % 3}", title=f"Title {i}"), article(f"y{i}")]))
    seen: list[Change] = []
    while part := store.changes_after(seen[-1].revision if seen else 0, 4):
        assert len(part) <= 4
        seen += part
    assert [c.revision for c in seen] == list(range(1, 15))
    assert [c.article_id for c in seen[:6]] == ["x0", "y0", "x1", "y1", "x2", "y2"]
    assert store.changes_after(store.revision(), 4) == []


def test_revisions_are_never_used_twice(path: Path, store: Store) -> None:
    """Not even when the log was emptied."""
    store.write(writes([article("a"), article("b")]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM changes")
    store.write(writes([article("c")]))
    assert store.revision() == 3


def test_a_write_that_fails_leaves_nothing(path: Path, store: Store) -> None:
    """One article that cannot be written undoes the whole batch, and the store goes on."""
    store.write(writes([article("a")]))
    broken = write_of(article("c"), links=(EditorLink("c", None, 0),))  # type: ignore[arg-type]
    with pytest.raises(StorageError) as caught:
        store.write([write_of(article("a", title="New")), write_of(article("b")), broken])
    assert str(caught.value) == f"{path}: NOT NULL constraint failed: editor_links.target (check the disk)"
    assert (store.count(), store.revision(), store.get("a")) == (1, 1, article("a"))
    assert list(store.links()) == []
    assert store.vectors_of([article("a", title="New").text_hash()]) == {}
    assert store.write(writes([article("b")])) == [ADDED]
    assert revisions_of(path) == {"a": 1, "b": 2}


def test_an_interrupted_write_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is no error of SQLite, such as a signal's, rolls back too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writes_module, "_write_links", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.write(writes([article("a")]))
    assert store.count() == store.revision() == 0
    assert store.write(writes([article("a")])) == [ADDED]


_ids = st.sampled_from("abcd")
_steps = st.lists(
    st.tuples(st.just("delete"), _ids) | st.tuples(st.sampled_from(["One", "Two", "Three"]), _ids), max_size=12
)


@settings(max_examples=settings().max_examples // 2)
@given(_steps)
def test_any_sequence_of_changes_is_that_of_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """Articles, log, withdrawals and counts are those of a dictionary that got the same changes."""
    expected: dict[str, str] = {}
    log: list[tuple[str, bool]] = []
    store = create_store(tmp_path_factory.mktemp("s") / "store.sqlite3", KEY)
    for title, article_id in steps:
        if title == "delete":
            assert store.delete([article_id], NOW_MS) == [article_id in expected]
            if expected.pop(article_id, None):
                log.append((article_id, True))
        else:
            [outcome] = store.write(writes([article(article_id, title=title)]), NOW_MS)
            before = expected.get(article_id)
            assert outcome is (ADDED if before is None else UNCHANGED if before == title else CHANGED)
            if outcome is not UNCHANGED:
                log.append((article_id, False))
            expected[article_id] = title
    assert {i: a.title for i, a in store.get_many(list("abcd")).items()} == expected
    assert [(c.article_id, c.deleted) for c in store.changes_after(0, 100)] == log
    last = dict(log)
    assert store.withdrawn(list("abcd")) == {i for i in last if last[i]}
    assert (store.count(), store.revision()) == (len(expected), len(log))
    with store.read_transaction() as frozen:
        assert {s.article.id for s in frozen.in_time_order()} == set(expected)
    store.close()


# What is derived from a text


def test_derived_values_are_kept_by_text(store: Store) -> None:
    """Articles with the same text share vectors, which outlive them, so that no text is embedded twice."""
    one, two = article("one"), article("two", url="https://x.example", section="sport", days_ago=9, tags=["t"])
    assert one.text_hash() == two.text_hash()
    store.write(writes([one]))
    [write] = writes([two])
    computed_again = Vectors(-write.vectors.main, -write.vectors.head)
    store.write([replace(write, vectors=computed_again)])
    assert_same(store.stored(["two"])["two"], stored([two])["two"])
    store.delete(["one", "two"])
    kept = store.vectors_of([one.text_hash(), b"\0" * 16])
    assert list(kept) == [one.text_hash()]
    assert kept[one.text_hash()].main.dtype == np.float32


def test_vectors_of_another_model_are_not_given_out(path: Path, store: Store) -> None:
    """Vectors of one model are unknown to the other; an image of all names the article that has none."""
    store.write(writes([article("a")]))
    other = Store(path, FakeEmbedder("other").info.key)
    assert other.vectors_of([article("a").text_hash()]) == {}
    assert other.stored(["a"]) == {}
    with pytest.raises(MismatchError) as caught:
        list_in_time(other)
    assert str(caught.value) == "article 'a' has no vectors of this model (run `related-news reindex`)"
    other.close()


def list_in_time(store: Store) -> list[str]:
    """Return the ids of a frozen store in time order."""
    with store.read_transaction() as frozen:
        return [s.article.id for s in frozen.in_time_order()]


@contextmanager
def older_release() -> Iterator[None]:
    """Let the store write analyses of another version."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (writes_module, store_module, reads_module):
            patch.setattr(module, "ANALYSIS", "terms-0+sketch-0")
        yield


def of_older_release(a: Article) -> Write:
    """Return one article with an analysis that is not today's."""
    return replace(
        write_of(a), analysis=analyse(article("x", title="Stale", paragraphs=["Stale words, five of them."]))
    )


def analyses_of(path: Path) -> list[str]:
    """Return the versions of the analyses that are kept, sorted."""
    with closing(sqlite3.connect(path)) as connection:
        return [version for (version,) in connection.execute("SELECT version FROM analyses ORDER BY version")]


def test_an_analysis_of_another_release_is_made_again_when_read(store: Store) -> None:
    """What the store gives out is today's analysis, whatever release wrote the article."""
    with older_release():
        store.write([of_older_release(article("a"))])
    assert_same(store.stored(["a"])["a"], stored([article("a")])["a"])
    with store.read_transaction() as frozen:
        [one] = frozen.in_time_order()
    assert_same(one, stored([article("a")])["a"])


def test_missing_analyses_are_made_once(path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of those of another release, in parts, each text once; what is up to date is left alone."""
    monkeypatch.setattr(store_module, "_ANALYSED_AT_ONCE", 2)
    old = [article(f"a{n}", title=f"Old title {n}", paragraphs=[f"Harbour news number {n}."]) for n in range(5)]
    with older_release():
        store.write([of_older_release(a) for a in old])
    store.write(writes([article("new", title="New title")]))
    before = store.revision()
    assert store.analyse_missing() == 5
    assert store.analyse_missing() == 0
    assert store.revision() == before, "no article changed"
    assert Counter(analyses_of(path)) == {ANALYSIS: 6, "terms-0+sketch-0": 5}
    expected = stored(old)
    with store.read_transaction() as frozen:
        assert len(list(frozen.terms())) == 6
    monkeypatch.setattr(store_module, "analyse", None)  # nothing is left to be made
    for id, one in store.stored([a.id for a in old]).items():
        assert_same(one, expected[id])


def test_nothing_is_missing_in_an_empty_store(store: Store) -> None:
    """No articles, no analyses."""
    assert store.analyse_missing() == 0


def test_a_model_whose_name_has_a_quote(tmp_path: Path) -> None:
    """The model's name is data."""
    store = create_store(tmp_path / "store.sqlite3", "o'model' OR 1=1 --@/r")
    store.write(writes([article("a")]))
    assert list(store.vectors_of([article("a").text_hash()])) == [article("a").text_hash()]
    assert set(store.stored(["a"])) == {"a"}
    store.close()


# Frozen


def test_frozen_is_one_revision_in_time_order(store: Store) -> None:
    """Articles come by the time they became public, then by id, as of the moment of freezing."""
    embargoed = article("e", days_ago=9, rules=Rules(embargo_until_ms=NOW_MS - 2 * DAY_MS))
    store.write(writes([article("b"), article("a"), article("c", days_ago=3), embargoed]))
    with store.read_transaction() as frozen:
        store.write(writes([article("new", days_ago=5), article("b", title="Changed")]))
        store.delete(["a"])
        assert (frozen.revision, frozen.count) == (4, 4)
        assert [s.article.id for s in frozen.in_time_order()] == ["c", "e", "a", "b"]
        assert [s.article.title for s in frozen.in_time_order()][-1] == article("b").title
        assert len(list(frozen.terms())) == 4
    assert (store.revision(), store.count()) == (7, 4)
    assert list_in_time(store) == ["new", "c", "e", "b"]


def test_frozen_counts_a_shared_text_for_each_article(store: Store) -> None:
    """Statistics count articles, not texts."""
    store.write(writes([article("a"), article("b")]))
    with store.read_transaction() as frozen:
        assert len(list(frozen.terms())) == 2


# Several writers


def test_another_connection_sees_what_is_committed(path: Path, store: Store) -> None:
    """A second process's writes are there at once, and `data_version` tells that there is something to read."""
    other = open_store(path, KEY)
    before = store.data_version()
    assert store.data_version() == before
    other.write(writes([article("a")]))
    assert store.data_version() != before
    assert store.get("a") == article("a")
    other.close()


def test_threads_may_share_a_store(store: Store) -> None:
    """Writers and readers on several threads: nothing is lost, and no reader sees a part of a batch."""
    failures: list[BaseException] = []
    done = threading.Event()

    def write(name: str) -> None:
        for i in range(10):
            store.write(writes([article(f"{name}{i}{part}") for part in "xy"]))

    def read() -> None:
        try:
            while not done.is_set():
                assert store.count() % 2 == 0
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not failures
    assert (store.count(), store.revision()) == (60, 60)


@pytest.mark.slow
def test_processes_take_turns(path: Path) -> None:
    """Two processes that create and write the same store at once lose nothing and number their changes in one order."""
    path.parent.mkdir()
    children = [start_writer(path, name, rounds=15) for name in ("left", "right")]
    acks = [child.communicate(timeout=60)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert [len(a) for a in acks] == [15, 15]
    store = open_store(path, KEY)
    assert_whole(store, {"left": 15, "right": 15})
    store.close()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the store as another writer in the middle of a transaction does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store: store.write(writes([article("b")])), id="write"),
        pytest.param(lambda store: store.delete(["a"]), id="delete"),
    ],
)
def test_a_writer_that_must_wait_too_long_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Store], object]
) -> None:
    """The error says what holds it up; reading goes on, and so does writing once the other is done."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    store = create_store(path, KEY)
    store.write(writes([article("a")]))
    with held(path):
        with pytest.raises(UnavailableError) as caught:
            act(store)
        assert str(caught.value) == (f"{path}: another writer holds the store (try again; its transaction is short)")
        assert (store.count(), store.revision()) == (1, 1)
        assert list_in_time(store) == ["a"]
    act(store)
    assert store.revision() == 2
    store.close()


def test_a_writer_waits_for_another(path: Path, store: Store) -> None:
    """A transaction that ends within the timeout only delays the other one."""
    with held(path):
        writer = threading.Thread(target=store.write, args=(writes([article("a")]),))
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
    writer.join()
    assert store.get("a") == article("a")


# Killed


_WRITER = """
import sys
from pathlib import Path
from tests.recommender.catalog.store.test_store import write_rounds
write_rounds(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""
BATCH = "xyz"


def start_writer(path: Path, name: str, rounds: int) -> subprocess.Popen[str]:
    """Start a process that writes `rounds` batches and prints the number of each once it is acknowledged."""
    command = [sys.executable, "-c", _WRITER, str(path), name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def write_rounds(path: Path, name: str, rounds: int) -> None:
    """Write a batch of three linked articles each round, in one of two versions, withdrawing every fifth round's."""
    store = create_store(path, KEY)
    for number in range(rounds):
        titles = {f"{name}-{number}-{part}": f"Round {number} of {name}" for part in BATCH}
        store.write(
            [write_of(article(i, title=title), links=(EditorLink(i, "x", 0),)) for i, title in titles.items()], NOW_MS
        )
        if number % 5 == 4:
            store.delete([f"{name}-{number - 1}-{part}" for part in BATCH], NOW_MS)
        print(number, flush=True)
    store.close()


def assert_whole(store: Store, acknowledged: dict[str, int]) -> None:
    """Check that every acknowledged batch is there as it must be, and that none is there in part."""
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    changes = store.changes_after(0, 100_000)
    assert [c.revision for c in changes] == list(range(1, len(changes) + 1))
    last = {c.article_id: c for c in changes}
    with store.read_transaction() as frozen:
        present = {s.article.id: s.article for s in frozen.in_time_order()}
    assert set(present) == {i for i, change in last.items() if not change.deleted}
    assert store.withdrawn(list(last)) == set(last) - set(present)
    assert {link.source_id for link in store.links()} == set(present)
    assert revisions_of(store.path) == {i: last[i].revision for i in present}
    batches: dict[tuple[str, int], set[str]] = {}
    for article_id in present:
        name, number, part = article_id.split("-")
        batches.setdefault((name, int(number)), set()).add(part)
        assert present[article_id].title == f"Round {number} of {name}"
    assert all(parts == set(BATCH) for parts in batches.values())
    for name, rounds in acknowledged.items():
        withdrawn = {n - 1 for n in range(rounds) if n % 5 == 4}
        assert {n for of, n in batches if of == name and n < rounds} | withdrawn >= set(range(rounds))
        assert not {n for of, n in batches if of == name} & withdrawn


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_survives_a_kill(path: Path, seed: int) -> None:
    """SIGKILL at a random moment, twice: each acknowledged batch is there, and none in part."""
    rng = random.Random(seed)
    acknowledged = {}
    for name in ("first", "second"):
        with start_writer(path, name, rounds=100_000) as child:
            assert child.stdout is not None
            before = rng.randint(1, 25)
            for number in range(before):
                assert child.stdout.readline() == f"{number}\n"
            child.kill()
            acknowledged[name] = before + child.stdout.read().count("\n")
        assert child.returncode == -signal.SIGKILL
        store = open_store(path, KEY)
        assert_whole(store, acknowledged)
        assert store.write(writes([article(f"after-0-{part}", title="Round 0 of after") for part in BATCH]))
        store.delete([f"after-0-{part}" for part in BATCH])
        store.close()


def test_a_log_of_sqlite_that_is_cut_anywhere_loses_only_its_end(path: Path, store: Store, tmp_path: Path) -> None:
    """Whatever is left of the write-ahead log, what is read is a beginning of the changes, in whole batches."""
    for i in range(8):
        store.write(writes([article(f"x{i}-{part}", title=f"Title {i}") for part in BATCH]))
    wal = path.with_name(path.name + "-wal")
    size, rng = wal.stat().st_size, random.Random(1)
    counts = set()
    for cut in sorted([0, size, *(rng.randrange(size) for _ in range(12))]):
        copy = Path(shutil.copytree(path.parent, tmp_path / f"cut-{cut}")) / path.name
        with copy.with_name(wal.name).open("r+b") as stream:
            stream.truncate(cut)
        copy.with_name(path.name + "-shm").unlink()
        torn = create_store(copy, KEY)
        count = torn.count()
        assert count % 3 == 0
        assert [c.article_id for c in torn.changes_after(0, 100)] == [
            f"x{i}-{part}" for i in range(count // 3) for part in BATCH
        ]
        assert torn.write(writes([article("new")])) == [ADDED]
        counts.add(count)
        torn.close()
    assert max(counts) == 24
    assert len(counts) > 3


def test_commits_are_flushed_to_the_disk(store: Store) -> None:
    """Every connection syncs the write-ahead log at each commit."""
    with store._transaction() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


# A full disk


def big(number: int) -> Article:
    """Return an article of 100 kB."""
    return article(f"big-{number}", title=f"Big {number}", paragraphs=[str(number % 10) * 100_000])


def write_until_refused(store: Store) -> tuple[list[Article], StorageError]:
    """Write one article after the other; returns those that were acknowledged, and the refusal."""
    written: list[Article] = []
    while len(written) < 100:
        try:
            store.write(writes([big(len(written))]))
        except StorageError as error:
            return written, error
        written.append(big(len(written)))
    pytest.fail("nothing was refused")


def test_a_full_store_keeps_what_it_has(path: Path, store: Store) -> None:
    """Out of space is an error of its own; nothing of the write is kept, and reads and small deletes go on."""
    with store._transaction() as connection:
        connection.execute("PRAGMA max_page_count = 200")
    written, error = write_until_refused(store)
    assert isinstance(error, DiskFullError)
    assert str(error) == f"{path}: no space left; nothing of this write was kept (free space, then try again)"
    assert written
    assert list(store.get_many([f"big-{i}" for i in range(100)]).values()) == written
    assert store.revision() == len(written)
    with pytest.raises(DiskFullError):
        store.write(writes([article("small"), big(99)]))
    assert store.get("small") is None
    with store._transaction() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    assert store.write(writes([big(99)])) == [ADDED]
    assert store.revision() == len(written) + 1


def test_a_file_that_may_not_grow_loses_nothing(path: Path, store: Store) -> None:
    """A limit on the size of files, as quotas set it, refuses writes; what was acknowledged stays."""
    store.write(writes([article("before")]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
        written, error = write_until_refused(store)
        assert str(error) == f"{path}: disk I/O error (check the disk)"
        assert store.count() == 1 + len(written)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert written
    assert store.write(writes([big(99)])) == [ADDED]
    store.close()
    again = open_store(path, KEY)
    assert list(again.get_many([a.id for a in written]).values()) == written
    assert again.revision() == len(written) + 2
    again.close()


# Files that are no store of ours


def test_there_is_no_store(tmp_path: Path) -> None:
    """Opening what was never made names the folder and the command that makes it, and makes nothing."""
    with pytest.raises(NotFoundError) as caught:
        open_store(tmp_path / "data" / "store.sqlite3", KEY)
    assert str(caught.value) == (f"unknown data folder '{tmp_path / 'data'}' (run `related-news index ARTICLES` first)")
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_model_is_refused(path: Path, store: Store) -> None:
    """Both models are named; the store is as it was."""
    store.write(writes([article("a")]))
    for open_ in (open_store, create_store):
        with pytest.raises(MismatchError) as caught:
            open_(path, "other@0123/recipe")
        assert str(caught.value) == (
            f"{path} was indexed with {KEY}, the configured model is other@0123/recipe"
            " (unset model.name, or run `related-news reindex` to change the model)"
        )
    assert store.count() == 1
    open_store(path, KEY).close()


def test_a_store_of_a_later_release_is_refused(path: Path, store: Store) -> None:
    """Its schema version is named, and nothing in it is changed."""
    store.write(writes([article("a")]))
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    data = path.read_bytes()
    with pytest.raises(MismatchError) as caught:
        open_store(path, KEY)
    assert str(caught.value) == (
        f"{path} has schema version {SCHEMA_VERSION + 1}, this release knows {SCHEMA_VERSION}"
        " (run the release that wrote it, or a newer one)"
    )
    assert path.read_bytes() == data


def test_a_file_that_is_empty_becomes_a_store(path: Path) -> None:
    """SQLite creates a file before it writes to it: what a kill in that moment leaves is migrated."""
    path.parent.mkdir()
    path.touch()
    store = open_store(path, KEY)
    assert (store.count(), store.revision()) == (0, 0)
    assert store.write(writes([article("a")])) == [ADDED]
    store.close()


def make_text(path: Path) -> None:
    """Put something else in the store's place."""
    path.write_text("This is no database. " * 100)


def make_torn(path: Path) -> None:
    """Cut a store in the middle."""
    store = create_store(path, KEY)
    store.write(writes([article(f"x{i}") for i in range(200)]))
    store.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_folder(path: Path) -> None:
    """Put a folder in the store's place."""
    path.mkdir()


def make_foreign(path: Path) -> None:
    """Put another program's database in the store's place."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE articles (id)")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        pytest.param(
            make_text,
            CorruptError,
            "is damaged: file is not a database (restore the store from a backup)",
            id="not a database",
        ),
        pytest.param(
            make_torn,
            CorruptError,
            "is damaged: database disk image is malformed (restore the store from a backup)",
            id="cut in the middle",
        ),
        pytest.param(
            make_folder,
            StorageError,
            "cannot be opened for writing: unable to open database file"
            " (make data_dir writable for this user, or move it)",
            id="a folder",
        ),
        pytest.param(
            make_foreign, StorageError, "table articles already exists (check the disk)", id="another program's"
        ),
    ],
)
def test_what_is_no_store_is_named(
    path: Path, make: Callable[[Path], None], kind: type[RelatedNewsError], message: str
) -> None:
    """The error names the file and what can be done."""
    path.parent.mkdir()
    make(path)
    with pytest.raises(kind) as caught:
        list_in_time(open_store(path, KEY))
    assert str(caught.value) == f"{path}: {message}"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The data folder's parent may be a file."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        create_store(tmp_path / "file" / "data" / "store.sqlite3", KEY)
    assert str(caught.value) == (
        f"cannot create {tmp_path / 'file' / 'data'}: Not a directory (choose another data_dir)"
    )


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that breaks undoes all of them; the next start begins again."""
    steps = schema._STEPS
    monkeypatch.setattr(schema, "_STEPS", (steps[0] + "; CREATE TABLE broken (",))
    with pytest.raises(StorageError):
        create_store(path, KEY)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,)
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    monkeypatch.setattr(schema, "_STEPS", steps)
    create_store(path, KEY).close()


def test_an_older_store_is_brought_up_to_date_once(path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the steps that a file lacks are run, and its articles stay."""
    store.write(writes([article("a")]))
    monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS, "CREATE TABLE extra (x) -- new\n;"))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    for _ in range(2):
        newer = open_store(path, KEY)
        assert newer.get("a") == article("a")
        newer.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM extra").fetchone() == (0,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
