"""Retrieval: which articles become candidates, by similarity, in time, in scope, as of a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.answer import retrieve as module
from recommender.answer.page import Page, stored_page
from recommender.answer.retrieve import Candidates, retrieve
from recommender.catalog.articles import Article, Rules
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.store import Change, create_store
from recommender.catalog.store.writes import Upsert, Write
from recommender.catalog.text.derived import Vectors, analyse
from recommender.catalog.vectors.search_costs import MEASURED
from recommender.clock import DAY_MS
from tests.building import DIMENSION, NOW_MS, FakeEmbedder, article
from tests.searching import CODES_ONLY, small_archives_compressed

COUNT = 40
PAGE_DAYS_AGO = 20.5
LANGUAGES = ("en", "fr", "de")
SITES = ("one.example", "two.example")
EVERGREEN = {"a33", "a38"}
EMBARGOED = "a36"
NEVER_TARGET = "a39"


def _archive() -> list[Article]:
    """Return the page and forty articles, one a day; the older, the more similar to the page (see `_similarity`)."""

    def rules(id: str) -> Rules:
        embargo = NOW_MS - 2 * DAY_MS if id == EMBARGOED else 0
        return Rules(never_target=id == NEVER_TARGET, evergreen=id in EVERGREEN, embargo_until_ms=embargo)

    others = [
        article(
            f"a{n:02}",
            title=f"Title of {n}",
            days_ago=n + 1,
            section="odd" if n % 2 else "even",
            tags=[f"tag-{n % 5}", "all"],
            language=LANGUAGES[n % 3],
            site=SITES[n % 2],
            rules=rules(f"a{n:02}"),
        )
        for n in range(COUNT)
    ]
    return [*others, article("page", days_ago=PAGE_DAYS_AGO, tags=["all"])]


ARTICLES = {a.id: a for a in _archive()}


def _similarity(article_id: str) -> float:
    """Return the cosine with the page that the vector of an article is made to have."""
    return 1.0 if article_id == "page" else 0.1 + 0.02 * int(article_id[1:])


def _vectors(article_id: str) -> Vectors:
    vector = np.zeros(DIMENSION, np.float32)
    vector[0] = _similarity(article_id)
    vector[1] = np.sqrt(1 - vector[0] ** 2)
    return Vectors(vector, vector)


@pytest.fixture(scope="module", params=["snapshot", "tail", "both", "compressed", "both, compressed"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return the archive in the snapshot, in the tail, or half in each; scanned exactly or compressed."""
    folder = tmp_path_factory.mktemp("archive")
    made = {a.id: StoredArticle(a, _vectors(a.id), analyse(a)) for a in ARTICLES.values()}
    half = [id for n, id in enumerate(made) if n % 2]
    late = {"snapshot": [], "tail": [*made], "both": half, "compressed": [], "both, compressed": half}[request.param]
    store = create_store(folder / STORE_FILE, FakeEmbedder().info.key)
    store.write([Write(Upsert(s.article), s.vectors, s.analysis) for id, s in made.items() if id not in late], NOW_MS)
    compressed = "compressed" in request.param
    with small_archives_compressed() if compressed else nullcontext():
        costs = CODES_ONLY if compressed else MEASURED
        snapshot = Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION), costs=costs)
        store.close()
        assert (snapshot.compressed is not None) == compressed
        live = Live(snapshot)
        live.apply(
            [Change(live.revision + n, id, deleted=False) for n, id in enumerate(late, 1)],
            live.row_values(made.values()),
        )
        yield live


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take 5 candidates, 2 of them from the 4 articles before the page and the 2 after it, and up to 3 evergreens."""
    monkeypatch.setattr(module, "CANDIDATES", 5)
    monkeypatch.setattr(module, "EVERGREENS", 3)
    monkeypatch.setattr(module, "WINDOWS", ((4, 2),))


def page_of(live: Live) -> Page:
    """Return the stored page."""
    row = live.find("page")
    assert row is not None
    return stored_page(live, row)


def rows_of(live: Live, ids: Sequence[str]) -> list[int]:
    """Return the rows of some articles."""
    return [row for id in ids if (row := live.find(id)) is not None]


def ids_of(live: Live, found: Candidates) -> list[str]:
    """Return the ids of the candidates, sorted."""
    return sorted(live.record(row).id for row in found.rows.tolist())


def candidates(
    live: Live,
    scope: Scope | None = None,
    *,
    days_ago: float = 0.0,
    oldest_days_ago: float | None = None,
    excluded: Sequence[str] = (),
) -> list[str]:
    """Return the ids of the candidates as of some days ago."""
    page = page_of(live)
    oldest_ms = 0 if oldest_days_ago is None else NOW_MS - int(oldest_days_ago * DAY_MS)
    left_out = dict.fromkeys(rows_of(live, excluded), "left_out")
    as_of_ms = NOW_MS - int(days_ago * DAY_MS)
    return ids_of(live, retrieve(live, page, scope or Scope(), as_of_ms, oldest_ms=oldest_ms, excluded=left_out))


# Windows


@pytest.mark.usefixtures("few")
def test_the_nearest_of_all_time_and_of_the_window(live: Live) -> None:
    """The window reaches three articles back and two ahead; its best come first, then those of any time."""
    assert candidates(live) == ["a22", EMBARGOED, "a37", "a38", "page"]


@pytest.mark.usefixtures("few")
def test_each_window_adds_its_own(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wider window adds its more similar articles in place of the last of any time."""
    monkeypatch.setattr(module, "WINDOWS", ((4, 2), (12, 2)))
    assert candidates(live) == ["a22", "a30", "a37", "a38", "page"]


@pytest.mark.usefixtures("few")
def test_a_window_is_as_wide_as_its_scope_needs(live: Live) -> None:
    """In a section that publishes every other day the same number of articles spans twice the time."""
    assert candidates(live, Scope(sections=frozenset({"odd"}))) == ["a25", "a27", "a33", "a35", "a37"]


# As of, age and scope are conditions of the search


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("days_ago", [33.0, 35.0, 38.0, 39.0])
def test_as_of_does_not_thin_out_the_candidates(live: Live, days_ago: float) -> None:
    """As of a time long ago, the few articles that were public then are all candidates."""
    public = {id for id, a in ARTICLES.items() if a.public_at_ms <= NOW_MS - days_ago * DAY_MS}
    assert candidates(live, days_ago=days_ago) == sorted(public - {NEVER_TARGET})[-5:]


@pytest.mark.parametrize(("days_ago", "there"), [(2.0, True), (2.0 + 1e-6, False), (30.0, False)])
def test_an_embargoed_article_is_a_candidate_from_its_hour_on(live: Live, days_ago: float, there: bool) -> None:
    """An article becomes a candidate at the later of publication and embargo, to the millisecond."""
    assert (EMBARGOED in candidates(live, days_ago=days_ago)) == there


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("scope", "allows"),
    [
        (Scope(sections=frozenset({"even"})), lambda a: a.labels.section == "even"),
        (Scope(tags=frozenset({"tag-1", "tag-2"})), lambda a: {"tag-1", "tag-2"} & set(a.labels.tags)),
        (Scope(languages=frozenset({"de"})), lambda a: a.labels.language == "de"),
        (Scope(sites=frozenset({"one.example"})), lambda a: a.labels.site == "one.example"),
        (Scope(published_before_ms=NOW_MS - 20 * DAY_MS), lambda a: a.published_at_ms < NOW_MS - 20 * DAY_MS),
        (Scope(published_from_ms=NOW_MS - 20 * DAY_MS), lambda a: a.published_at_ms >= NOW_MS - 20 * DAY_MS),
        (Scope(evergreen_only=True), lambda a: a.rules.evergreen),
    ],
    ids=["section", "tags", "language", "site", "before", "from", "evergreen"],
)
def test_a_scope_does_not_thin_out_the_candidates(
    live: Live, scope: Scope, allows: Callable[[Article], object]
) -> None:
    """The most similar of any time are those in scope, however many articles outside it are more similar."""
    allowed = sorted((id for id, a in ARTICLES.items() if allows(a) and id != NEVER_TARGET), key=_similarity)
    found = candidates(live, scope)
    assert set(found) >= set(allowed[-3:])
    assert set(found) <= set(allowed)


def test_a_scope_without_articles_gives_no_candidates(live: Live) -> None:
    """An unknown label, an empty set or a time before all articles gives no candidates, and no error."""
    for scope in (Scope(sections=frozenset({"chess"})), Scope(tags=frozenset()), Scope(published_before_ms=1)):
        assert candidates(live, scope) == []
    assert candidates(live, days_ago=1000.0) == []


def test_an_article_that_is_never_a_target_is_no_candidate(live: Live) -> None:
    """A never-target article is no candidate even if it is the most similar of all."""
    assert NEVER_TARGET not in candidates(live)
    assert len(candidates(live)) == COUNT, "the others and the page"


@pytest.mark.usefixtures("few")
def test_evergreens_are_exempt_from_the_oldest_date(live: Live) -> None:
    """Articles before the oldest date are out unless evergreen, and others take their places."""
    assert candidates(live, oldest_days_ago=25.0) == ["a22", "a33", EMBARGOED, "a38", "page"]


@pytest.mark.usefixtures("few")
def test_an_oldest_date_after_all_leaves_the_evergreens(live: Live) -> None:
    """With an oldest date after all articles near the page, only evergreen articles remain."""
    assert candidates(live, oldest_days_ago=0.5) == sorted(EVERGREEN)


# How many


def test_there_is_room_for_all_windows_and_evergreens() -> None:
    """Windows and evergreens together leave room for candidates of any time."""
    assert sum(k for _, k in module.WINDOWS) + module.EVERGREENS < module.CANDIDATES


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("oldest_days_ago", [None, 25.0], ids=["of any age", "evergreens apart"])
@pytest.mark.parametrize(
    "excluded",
    [
        pytest.param((), id="nothing left out"),
        pytest.param(("page",), id="the page"),
        pytest.param([f"a{n:02}" for n in range(8)], id="what no search returns"),
        pytest.param([f"a{n}" for n in range(30, 39)], id="the most similar"),
        pytest.param([*(f"a{n}" for n in range(20, 30)), "page"], id="the neighbours"),
    ],
)
def test_excluded_rows_do_not_reduce_the_number_of_candidates(
    live: Live, excluded: Sequence[str], oldest_days_ago: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are CANDIDATES in all, those of the windows and the evergreens among them."""
    found = candidates(live, excluded=excluded, oldest_days_ago=oldest_days_ago)
    near = sorted({"page", "a22", "a21", "a20", "a19"} - {*excluded})[-2:]
    evergreen = EVERGREEN - {*excluded} if oldest_days_ago else set()
    assert set(found) >= {*near, *evergreen}
    assert len(found) == 5
    monkeypatch.setattr(module, "WINDOWS", ())
    assert not set(candidates(live, excluded=excluded)) & set(near[:1]), "the window is what brings them"


# What is left out, and counted


@pytest.mark.usefixtures("few")
def test_excluded_rows_are_replaced_by_the_next(live: Live) -> None:
    """With the three most similar excluded, the next three are candidates."""
    assert set(candidates(live, excluded=["page", "a38", "a37", "a36"])) >= {"a35", "a34", "a33"}


@pytest.mark.usefixtures("few")
def test_the_excluded_are_counted_by_rule(live: Live) -> None:
    """Only excluded rows that the search returned are counted."""
    rules = {"page": "page_itself", "a38": "on_page", "a37": "on_page", "a00": "on_page"}
    excluded = {live.find(id) or 0: rule for id, rule in rules.items()}
    found = retrieve(live, page_of(live), Scope(), NOW_MS, excluded=excluded)
    assert found.excluded == {"page_itself": 1, "on_page": 2}
    assert not set(found.rows.tolist()) & set(excluded)


def test_candidates_are_distinct_ascending_and_have_their_cosines(live: Live) -> None:
    """Rows ascend, each once even if several windows return it, with the cosine of its main vector."""
    page = page_of(live)
    found = retrieve(live, page, Scope(), NOW_MS)
    assert found.rows.tolist() == sorted(set(found.rows.tolist()))
    assert found.excluded == {}
    assert len(found.rows) == COUNT
    similarity = [_similarity(live.record(row).id) for row in found.rows.tolist()]
    assert found.cosines == pytest.approx(similarity, abs=0.01)


# Against the definition


def by_definition(scope: Scope, as_of_ms: int, oldest_ms: int, excluded: set[str]) -> set[str]:
    """Return the candidates by their definition, computed from the articles themselves."""

    def in_scope(a: Article) -> bool:
        wanted = (
            (scope.sections, {a.labels.section}),
            (scope.languages, {a.labels.language}),
            (scope.tags, set(a.labels.tags)),
        )
        return (
            not a.rules.never_target
            and a.public_at_ms <= as_of_ms
            and all(labels is None or labels & own for labels, own in wanted)
        )

    def best(k: int, from_ms: int, until_ms: int, *, evergreen: bool = False) -> list[str]:
        within = [
            a.id
            for a in ARTICLES.values()
            if a.id not in excluded
            and in_scope(a)
            and from_ms <= a.public_at_ms <= until_ms
            and (a.rules.evergreen or not evergreen)
        ]
        return sorted(within, key=_similarity, reverse=True)[:k]

    at_ms = min(ARTICLES["page"].published_at_ms, as_of_ms)
    times = sorted(a.public_at_ms for a in ARTICLES.values() if in_scope(a))
    found: list[str] = []
    for articles, k in ((4, 2), (10, 3)):
        before, after = [t for t in times if t <= at_ms][-articles:], [t for t in times if t > at_ms][: articles // 2]
        low, high = (before or [at_ms])[0], (after or [at_ms])[-1]
        found += best(k, max(oldest_ms, low), high)
    if oldest_ms:
        found += best(1, 0, as_of_ms, evergreen=True)
    found += best(8, oldest_ms, as_of_ms)
    return set(list(dict.fromkeys(found))[:8])


LABELS = st.none() | st.frozensets(st.sampled_from(["even", "odd", "en", "fr", "all", "tag-1"]), max_size=3)


@given(
    scope=st.builds(Scope, sections=LABELS, languages=LABELS, tags=LABELS),
    as_of_days_ago=st.floats(0, 42),
    oldest_days_ago=st.none() | st.floats(0, 42),
    excluded=st.sets(st.sampled_from(sorted(ARTICLES)), max_size=4),
)
def test_candidates_are_those_of_the_definition(
    live: Live, scope: Scope, as_of_days_ago: float, oldest_days_ago: float | None, excluded: set[str]
) -> None:
    """Candidates are the windows' best, the best evergreens, then the best of any time; none is excluded."""
    as_of_ms = NOW_MS - int(as_of_days_ago * DAY_MS)
    oldest_ms = 0 if oldest_days_ago is None else NOW_MS - int(oldest_days_ago * DAY_MS)
    left_out = dict.fromkeys(rows_of(live, sorted(excluded)), "left_out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CANDIDATES", 8)
        patch.setattr(module, "EVERGREENS", 1)
        patch.setattr(module, "WINDOWS", ((4, 2), (10, 3)))
        found = retrieve(live, page_of(live), scope, as_of_ms, oldest_ms=oldest_ms, excluded=left_out)
    assert set(ids_of(live, found)) == by_definition(scope, as_of_ms, oldest_ms, excluded)
    assert sum(found.excluded.values()) <= len(left_out)


@pytest.mark.usefixtures("few")
def test_a_page_from_the_future_has_the_latest_as_its_neighbours(live: Live) -> None:
    """A scheduled page's window ends at the time of the request."""
    ahead = replace(page_of(live), published_at_ms=NOW_MS + 30 * DAY_MS)
    assert ids_of(live, retrieve(live, ahead, Scope(), NOW_MS)) == ["a02", EMBARGOED, "a37", "a38", "page"]
