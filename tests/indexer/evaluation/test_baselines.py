"""Each baseline against brute force on a small archive, and none of them sees a page's future."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from indexer.evaluation import baselines
from indexer.evaluation.links import GoldPage
from indexer.evaluation.metrics import CUTOFF
from recommender.catalog.articles import Article, Rules
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store
from recommender.clock import DAY_MS
from tests.building import DIMENSION, NOW_MS, article, build_store
from tests.newsroom import newsroom

PAGES = ["harbour-0", "orchards-3", "glaciers-5", "theatre-7", "unsectioned"]
HIDDEN = "embargoed"


def _articles() -> list[Article]:
    """Return the newsroom, a page without section, and a near copy of a page that is embargoed until tomorrow."""
    room = newsroom()
    text = [p.text for p in room[0].paragraphs]
    embargo = Rules(embargo_until_ms=NOW_MS + DAY_MS)
    return [
        *room,
        article("unsectioned", title="Tides and cider", paragraphs=text[:2], days_ago=2, section=""),
        article(HIDDEN, title=room[0].title, paragraphs=text, days_ago=40, section="harbour", rules=embargo),
    ]


ARTICLES = {a.id: a for a in _articles()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Live]]:
    """Return the store and the live view of the articles."""
    folder = tmp_path_factory.mktemp("baselines")
    store = build_store(folder, list(ARTICLES.values()))
    yield store, Live(Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION)))
    store.close()


def _page(live: Live, page_id: str) -> GoldPage:
    row = live.find(page_id)
    assert row is not None
    return GoldPage(row, page_id, live.published_at_ms(row), ())


def _past(page_id: str) -> list[str]:
    until_ms = ARTICLES[page_id].published_at_ms
    return [a.id for a in ARTICLES.values() if a.id != page_id and a.public_at_ms <= until_ms]


def _best(ids: list[str], value: Callable[[str], float]) -> list[str]:
    return sorted(ids, key=value, reverse=True)[:CUTOFF]


@pytest.mark.parametrize("page_id", PAGES)
def test_cosine_ranks_the_past_by_main_vectors(archive: tuple[Store, Live], page_id: str) -> None:
    """The baseline ranks the ten nearest of what was public then, without the page itself."""
    _, live = archive
    rows = {name: live.find(name) for name in ARTICLES}
    vectors = {name: live.main_vectors(np.array([row]))[0] for name, row in rows.items()}
    expected = _best(_past(page_id), lambda name: float(vectors[name] @ vectors[page_id]))
    assert baselines.cosine(live)(_page(live, page_id)) == expected


@pytest.mark.parametrize("page_id", PAGES)
def test_lexical_ranks_the_past_by_tf_idf(archive: tuple[Store, Live], page_id: str) -> None:
    """The ranking is by TF-IDF cosine of title, summary and body, as scikit-learn computes it over the archive."""
    store, live = archive
    names = list(ARTICLES)
    texts = ["\n".join((a.title, a.summary, *(p.text for p in a.paragraphs))) for a in ARTICLES.values()]
    matrix = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(texts).toarray()
    likeness = dict(zip(names, matrix @ matrix[names.index(page_id)], strict=True))
    expected = _best(_past(page_id), lambda name: float(likeness[name]))
    assert baselines.lexical(live, store)(_page(live, page_id)) == expected


@pytest.mark.parametrize("page_id", PAGES)
def test_recent_ranks_the_past_of_the_section_by_date(archive: tuple[Store, Live], page_id: str) -> None:
    """The latest of the page's section come first; of the whole archive where it has none."""
    _, live = archive
    section = ARTICLES[page_id].labels.section
    same = [name for name in _past(page_id) if not section or ARTICLES[name].labels.section == section]
    found = baselines.recent(live)(_page(live, page_id))
    dates = [ARTICLES[name].published_at_ms for name in found]
    assert set(found) <= set(same)
    assert dates == sorted((ARTICLES[name].published_at_ms for name in same), reverse=True)[:CUTOFF]


@pytest.mark.parametrize("name", ["cosine", "lexical", "recent"])
def test_a_baseline_sees_nothing_of_the_future(archive: tuple[Store, Live], name: str) -> None:
    """Neither a later article nor an embargoed one of an older date is ranked; the oldest page has nothing to rank."""
    store, live = archive
    ranked = {
        "cosine": baselines.cosine(live),
        "recent": baselines.recent(live),
        "lexical": baselines.lexical(live, store),
    }[name]
    for page_id in PAGES:
        assert set(ranked(_page(live, page_id))) <= set(_past(page_id))
        assert HIDDEN not in ranked(_page(live, page_id))
    assert ranked(_page(live, HIDDEN)) == []


def test_lexical_leaves_out_what_shares_no_word(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An article without a common word is not ranked at all."""
    folder = tmp_path_factory.mktemp("strangers")
    store = build_store(
        folder,
        [
            article("stranger", title="Meltwater", paragraphs=["Snowpack survey."], days_ago=3),
            article("cousin", title="Tugs", paragraphs=["Ferry quay."], days_ago=4),
            article("page", title="Ferry", paragraphs=["Mooring the tide."], days_ago=1),
        ],
    )
    live = Live(Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION)))
    assert baselines.lexical(live, store)(_page(live, "page")) == ["cousin"]
    store.close()
