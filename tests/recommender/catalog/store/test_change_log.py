"""The change log: revisions, withdrawals, and the store at one revision."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from recommender.catalog.articles import Rules
from recommender.catalog.store.store import Change, Store
from recommender.catalog.store.writes import FormerArticle, Outcome, Upsert, former_article
from recommender.clock import DAY_MS
from tests.building import NOW_MS, article, writes
from tests.recommender.catalog.store.storing import (
    ADDED,
    list_in_time,
)


def test_delete_says_which_articles_were_stored(store: Store) -> None:
    """It is False for an id that is not stored, or was withdrawn already; such an id leaves no trace."""
    store.write(writes([article("a"), article("b")]))
    assert store.delete(["a", "nothing", "a", "b"]) == [True, False, False, True]
    assert store.delete(["a"]) == [False]
    assert store.delete([]) == []
    assert store.withdrawn(["a", "b", "nothing"]) == {"a", "b"}
    gone = [former_article(article(id)) for id in "ab"]
    assert store.changes_after(2, 100) == [Change(3, "a", True, gone[0]), Change(4, "b", True, gone[1])]


def test_a_write_restores_a_withdrawn_article_only_if_allowed(store: Store) -> None:
    """An article withdrawn while the indexer embeds it stays withdrawn; the rest of the batch is written."""
    store.write(writes([article("a"), article("b")]))
    store.delete(["a"])
    batch = [Upsert(article(id, title="New"), restore=False) for id in "ab"]
    assert store.write(writes(batch)) == [Outcome.WITHDRAWN, Outcome.CHANGED]
    assert (store.get("a"), store.withdrawn(["a"]), store.revision()) == (None, {"a"}, 4)
    assert store.write(writes([replace(batch[0], restore=True)])) == [Outcome.ADDED]
    assert store.withdrawn(["a"]) == set()


def test_a_withdrawn_article_that_is_written_again_is_new(store: Store) -> None:
    """It is no longer among the withdrawn ones, and the log has all three changes."""
    store.write(writes([article("a")]))
    store.delete(["a"])
    assert store.write(writes([article("a")])) == [ADDED]
    assert store.withdrawn(["a"]) == set()
    assert [(c.revision, c.deleted) for c in store.changes_after(0, 10)] == [(1, False), (2, True), (3, False)]


def test_the_log_is_read_in_parts(store: Store) -> None:
    """Reading on from the last revision returns every change once, in order."""
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
    """A revision is not used again even if the log was emptied."""
    store.write(writes([article("a"), article("b")]))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM changes")
    store.write(writes([article("c")]))
    assert store.revision() == 3


def test_a_read_transaction_is_one_revision_in_time_order(store: Store) -> None:
    """Articles come by the time they became public, then by id, as of the transaction's start."""
    embargoed = article("e", days_ago=9, rules=Rules(embargo_until_ms=NOW_MS - 2 * DAY_MS))
    store.write(writes([article("b"), article("a"), article("c", days_ago=3), embargoed]))
    with store.read_transaction() as view:
        store.write(writes([article("new", days_ago=5), article("b", title="Changed")]))
        store.delete(["a"])
        assert (view.revision, view.count) == (4, 4)
        assert [s.article.id for s in view.in_time_order()] == ["c", "e", "a", "b"]
        assert [s.article.title for s in view.in_time_order()][-1] == article("b").title
        assert len(list(view.terms())) == 4
    assert (store.revision(), store.count()) == (7, 4)
    assert list_in_time(store) == ["new", "c", "e", "b"]


def test_a_shared_text_is_counted_for_each_article(store: Store) -> None:
    """Statistics count articles, not texts."""
    store.write(writes([article("a"), article("b")]))
    with store.read_transaction() as view:
        assert len(list(view.terms())) == 2


def test_the_log_s_record_of_an_article_never_changes() -> None:
    """The change log is stored: a change here would make its older entries unreadable."""
    some = article("a", tags=["x", "y"], author="Jo", rules=Rules(evergreen=True))
    text = (
        '{"text_hash":"69da739b963e7fa295fd850e7cee3a96","published_at_ms":1779913600000,"public_at_ms":1779913600000,'
        '"section":"diplomacy","site":"courier.example","language":"en","author":"Jo","tags":["x","y"],'
        '"evergreen":true,"never_target":false}'
    )
    assert former_article(some).to_json() == text
    assert FormerArticle.from_json(text) == former_article(some)
