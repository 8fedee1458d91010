"""What the store's tests share: writing one article, reading and comparing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from recommender.catalog.articles import Article, EditorLink
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.store import Store
from recommender.catalog.store.writes import Outcome, Upsert, Write
from tests.building import FakeEmbedder, writes

KEY = FakeEmbedder().info.key
ADDED, CHANGED, UNCHANGED = Outcome.ADDED, Outcome.CHANGED, Outcome.UNCHANGED


def write_of(a: Article, *, keep_rules: bool = False, links: tuple[EditorLink, ...] | None = None) -> Write:
    """Return one article as `Store.write` takes it."""
    return writes([Upsert(a, keep_rules=keep_rules, links=links)])[0]


def revisions_of(path: Path) -> dict[str, int]:
    """Return the revision in each article's row."""
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


def list_in_time(store: Store) -> list[str]:
    """Return the ids of all articles in time order."""
    with store.read_transaction() as view:
        return [s.article.id for s in view.in_time_order()]
