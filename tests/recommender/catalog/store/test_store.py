"""The store: what is written is read back, and each write has an outcome."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.catalog.articles import EditorLink, Rules
from recommender.catalog.store import store as store_module
from recommender.catalog.store import writes as writes_module
from recommender.catalog.store.store import Store, create_store, open_store
from recommender.catalog.store.writes import Upsert
from recommender.errors import (
    StorageError,
)
from tests.building import NOW_MS, article, stored, writes
from tests.recommender.catalog.store.storing import (
    ADDED,
    CHANGED,
    KEY,
    UNCHANGED,
    assert_same,
    revisions_of,
    write_of,
)


def test_an_upsert_is_a_change_if_article_rules_or_links_differ(store: Store) -> None:
    """Rules count only if the stored ones are to be replaced, links only if new ones are given."""
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


def test_more_ids_than_fit_one_query_are_looked_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-ups of many ids are done in portions and miss nothing between them."""
    monkeypatch.setattr(store_module, "KEYS_PER_QUERY_MAX", 4)
    some = [article(f"x{i}") for i in range(11)]
    store.write(writes(some))
    store.delete(["x0", "x4", "x8"])
    ids = [f"x{i}" for i in range(12)]
    assert set(store.get_many(ids)) == set(store.stored(ids)) == set(ids) - {"x0", "x4", "x8", "x11"}
    assert store.withdrawn(ids) == {"x0", "x4", "x8"}
    assert set(store.vectors_of([a.text_hash() for a in some])) == {some[0].text_hash()}


def test_a_store_that_is_opened_again_is_the_same(path: Path, store: Store) -> None:
    """Closing and opening changes nothing, revision included."""
    store.write(writes([article("a"), article("b")]))
    store.delete(["b"])
    store.close()
    for open_ in (open_store, create_store):
        again = open_(path, KEY)
        assert (again.count(), again.revision(), again.withdrawn(["a", "b"])) == (1, 3, {"b"})
        again.close()


def test_the_outcome_of_each_write_in_order(store: Store) -> None:
    """An article is added, changed in content or in rules alone, or unchanged; only changes are logged."""
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
def test_stored_rules_are_kept_only_if_the_upsert_says_so(store: Store, keep_rules: bool, new_title: str) -> None:
    """A write from a source keeps the editor's rules; the editor's own write replaces them."""
    ruled = article("a", rules=Rules(never_target=True, never_with=("x",)))
    store.write(writes([ruled]))
    [outcome] = store.write([write_of(article("a", title=new_title), keep_rules=keep_rules)])
    now = store.get("a")
    assert now is not None
    assert now.title == new_title
    assert now.rules == (ruled.rules if keep_rules else Rules())
    assert outcome is (UNCHANGED if keep_rules and new_title == ruled.title else CHANGED)


def test_an_article_without_stored_rules_gets_its_own(store: Store) -> None:
    """An upsert's own rules are used for a new article, and for a withdrawn one, whose rules are forgotten."""
    evergreen = article("a", rules=Rules(evergreen=True))
    store.write([write_of(evergreen, keep_rules=True)])
    assert store.get("a") == evergreen
    store.write(writes([replace(evergreen, rules=Rules(never_target=True))]))
    store.delete(["a"])
    store.write([write_of(evergreen, keep_rules=True)])
    assert store.get("a") == evergreen


def test_links_are_replaced_kept_or_deleted(store: Store) -> None:
    """Given links replace the stored ones, None keeps them, and withdrawing an article deletes its links."""
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
    """Links come in the order of the body; a source that has none, or is unknown, is left out."""
    links = tuple(EditorLink("a", target, 9 - i) for i, target in enumerate("zxy"))
    store.write([write_of(article("a"), links=links), write_of(article("b"), links=())])
    store.write([write_of(article("c"), links=(EditorLink("c", "a", 0),))])
    assert store.links_of(["b", "a", "unknown"]) == {"a": links}
    assert store.links_of([]) == {}


def test_a_write_that_fails_leaves_nothing(path: Path, store: Store) -> None:
    """One article that cannot be written undoes the whole batch; the store remains usable."""
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
    """An exception that is no SQLite error, such as a signal's, rolls back too."""

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
def test_any_sequence_of_changes_leaves_what_a_dictionary_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """Articles, log, withdrawals and counts equal those of a dictionary after the same changes."""
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
    with store.read_transaction() as view:
        assert {s.article.id for s in view.in_time_order()} == set(expected)
    store.close()
