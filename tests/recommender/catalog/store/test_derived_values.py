"""Vectors and analyses: stored by text, for one encoder and one release."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recommender.catalog.articles import Article
from recommender.catalog.store import reads as reads_module
from recommender.catalog.store import store as store_module
from recommender.catalog.store import writes as writes_module
from recommender.catalog.store.store import Store, create_store
from recommender.catalog.store.writes import Write
from recommender.catalog.text.derived import ANALYSIS, Vectors, analyse
from recommender.encoding.embed_articles import embed
from recommender.errors import (
    MismatchError,
)
from tests.building import FakeEmbedder, article, stored, writes
from tests.recommender.catalog.store.storing import (
    assert_same,
    list_in_time,
    write_of,
)


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


@pytest.mark.parametrize("name", ["{new}", "o'brien", "{}", "100%?"])
def test_an_encoder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """An encoder's name may be the path of a folder."""
    with closing(create_store(tmp_path / "s.sqlite3", FakeEmbedder(name).info.key)) as store:
        (write,) = writes([article("a")], FakeEmbedder(name))
        store.write([write])
        text_hash = write.upsert.article.text_hash()
        assert store.vectors_of([text_hash])[text_hash].to_bytes() == write.vectors.to_bytes()


def test_derived_values_are_kept_by_text(store: Store) -> None:
    """Articles with one text share its vectors, which remain after them: no text is embedded twice."""
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


def test_vectors_of_another_model_are_not_returned(path: Path, store: Store) -> None:
    """A store of one model does not see vectors of another; reading all names the article without vectors."""
    store.write(writes([article("a")]))
    other = Store(path, FakeEmbedder("other").info.key)
    assert other.vectors_of([article("a").text_hash()]) == {}
    assert other.stored(["a"]) == {}
    with pytest.raises(MismatchError) as caught:
        list_in_time(other)
    assert str(caught.value) == "article 'a' has no vectors of this model (run `related-news reindex`)"
    other.close()


@contextmanager
def older_release() -> Iterator[None]:
    """Make the store write analyses of another version."""
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
    """Return the versions of the stored analyses, sorted."""
    with closing(sqlite3.connect(path)) as connection:
        return [version for (version,) in connection.execute("SELECT version FROM analyses ORDER BY version")]


def test_an_analysis_of_another_release_is_made_again_when_read(store: Store) -> None:
    """The store returns this release's analysis, whichever release wrote the article."""
    with older_release():
        store.write([of_older_release(article("a"))])
    assert_same(store.stored(["a"])["a"], stored([article("a")])["a"])
    with store.read_transaction() as view:
        [one] = view.in_time_order()
    assert_same(one, stored([article("a")])["a"])


def test_missing_analyses_are_made_once(path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of another release's analysis are analysed once each, in portions; the others are left alone."""
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
    with store.read_transaction() as view:
        assert len(list(view.terms())) == 6
    monkeypatch.setattr(store_module, "analyse", None)  # nothing is left to be made
    for id, one in store.stored([a.id for a in old]).items():
        assert_same(one, expected[id])


def test_nothing_is_missing_in_an_empty_store(store: Store) -> None:
    """An empty store has nothing to analyse."""
    assert store.analyse_missing() == 0


def test_a_model_whose_name_has_a_quote(tmp_path: Path) -> None:
    """A model's name is data, not SQL."""
    store = create_store(tmp_path / "store.sqlite3", "o'model' OR 1=1 --@/r")
    store.write(writes([article("a")]))
    assert list(store.vectors_of([article("a").text_hash()])) == [article("a").text_hash()]
    assert set(store.stored(["a"])) == {"a"}
    store.close()
