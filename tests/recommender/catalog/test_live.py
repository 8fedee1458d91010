"""The live view: reading and searching snapshot and tail as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.articles import Rules
from recommender.catalog.live import Live
from recommender.catalog.snapshot import row_values, snapshot
from recommender.catalog.snapshot.columns import Flag
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from recommender.clock import DAY_MS
from tests.building import (
    DIMENSION,
    NOW_MS,
    article,
    build_live,
    build_snapshot,
    replayed,
    stored,
    writes,
)
from tests.recommender.catalog.holding import (
    EVER,
    archive,
    assert_holds,
    deleted,
    found_ids,
    ids_at,
    jaccard,
    query,
    replay,
    written,
)
from tests.searching import CODES_ONLY, small_archives_compressed

TAGGED = ["", "a", "ab", "", "bcdefg", "ad", "abcdefg", "g", "", "fg", "ce", ""]
"""The tags of each of some articles; every tag is a letter."""


@pytest.fixture(scope="module", params=[0, 5, len(TAGGED)], ids=["tail", "both", "snapshot"])
def tagged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return an archive of articles with tags, all in the snapshot, all written after it, or some."""
    articles = [article(f"{n:02}", days_ago=20 - n, tags=[*tags]) for n, tags in enumerate(TAGGED)]
    base = build_snapshot(tmp_path_factory.mktemp("tagged"), articles[: request.param])
    return replayed(base, articles[request.param :])


@given(wanted=st.lists(st.sampled_from("abcdefgxyz")), asked=st.sets(st.integers(0, len(TAGGED) - 1)))
def test_tags_overlap_as_sets_do(tagged: Live, wanted: list[str], asked: set[int]) -> None:
    """The overlap of two sets of tags is their Jaccard similarity, and 0 if either is empty."""
    overlaps = tagged.tag_overlaps(np.array(sorted(asked), np.int64), wanted)
    assert (str(overlaps.dtype), overlaps.shape) == ("float32", (len(asked),))
    assert overlaps.tolist() == pytest.approx([jaccard(TAGGED[n], wanted) for n in sorted(asked)])


def test_a_label_s_share_is_that_of_all_articles(tmp_path: Path) -> None:
    """Changed articles count as they are now; an empty label, an unknown one and an empty archive have the share 0."""
    base = build_snapshot(tmp_path / "a", [article(f"{n}", section="sport" if n < 3 else "world") for n in range(4)])
    live = replayed(base, [article("new", section="sport"), article("0", section="world")])
    live.apply([deleted(live.revision + 1, "1")], {})
    assert live.label_share("section", "sport") == live.label_share("section", "world") == 0.5
    assert live.label_share("site", "courier.example") == 1
    assert live.label_share("section", "nowhere") == live.label_share("section", "") == 0
    assert build_live(tmp_path / "b", []).label_share("section", "sport") == 0


def test_tags_written_after_an_answer_count(tmp_path: Path) -> None:
    """Tags that arrive after an answer count in overlaps and in scopes."""
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
    """Nothing is found in an archive without articles, then its first article, and nothing after its withdrawal."""
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


@pytest.mark.parametrize("id", ["a", "b", "c", "d"], ids=["in the snapshot", "changed since", "new since", "unknown"])
def test_a_view_with_another_article_is_independent(tmp_path: Path, id: str) -> None:
    """What is applied to one view does not show in the other."""
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
def test_a_withdrawal_in_one_view_does_not_show_in_another(tmp_path: Path, scope: Scope) -> None:
    """Two views of one snapshot with equally many but different withdrawals share no cached rows of a scope."""
    some = [article(id, section="news") for id in "abc"] + [article("d", section="sport")]
    live = build_live(tmp_path, some)
    (values,) = live.row_values(stored([article("a", section="news", title="As it was")]).values()).values()

    def ids_in(view: Live) -> set[str]:
        return set(found_ids(view, view.search(query("Talks"), 10, *EVER, scope))) - {"d"}

    assert ids_in(live) == {"a", "b", "c"}
    view = live.with_article(values)
    assert ids_in(view) == {"a", "b", "c"}
    live.apply([deleted(5, "b")], {})
    assert ids_in(live) == {"a", "c"}
    assert ids_in(view) == {"a", "b", "c"}
    view.apply([deleted(5, "c")], {})
    assert (ids_in(view), ids_in(live)) == ({"a", "b"}, {"a", "c"})


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
    """Older articles do not count; a younger archive's rate is over the time since its first living article."""
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


def test_an_article_that_is_never_a_target_is_read_but_not_found(tmp_path: Path) -> None:
    """Such an article keeps its row, with the flags of its rules."""
    rules = Rules(never_target=True, never_source=True, evergreen=True, never_with=("x", "y"))
    live = build_live(tmp_path, [article("a", rules=rules), article("b", days_ago=2)])
    row = live.find("a")
    assert row == 1
    assert live.record(row).never_with == ("x", "y")
    flags = live.column("flags", np.array([0, 1])).tolist()
    assert flags == [0, Flag.NEVER_TARGET | Flag.NEVER_SOURCE | Flag.EVERGREEN | Flag.NEVER_WITH]
    assert found_ids(live, live.search(query("Talks"), 5, *EVER, Scope())) == ["b"]
    assert live.search(query("Talks"), 5, *EVER, Scope(evergreen_only=True)).rows.tolist() == []


def test_more_scopes_than_are_cached_answer_right(tmp_path: Path) -> None:
    """The rows of recent scopes are cached; those of an evicted scope are found again."""
    live = build_live(tmp_path, [article(f"x{i}", section=f"s{i % 100}", days_ago=200 - i) for i in range(200)])
    for _ in range(2):
        for i in range(100):
            hits = live.search(query("Talks"), 5, *EVER, Scope(sections=frozenset([f"s{i}"])))
            assert sorted(found_ids(live, hits)) == sorted([f"x{i}", f"x{i + 100}"])


def test_an_article_has_the_same_score_in_snapshot_and_tail(tmp_path: Path) -> None:
    """A worker that has swapped in the next snapshot and one that has not give the same scores, to the bit."""
    articles = [article(f"a{i}", title=f"Talks {i}", paragraphs=[f"Gas {i * i} flows {-i}"]) for i in range(100)]
    whole = build_live(tmp_path / "whole", articles)
    some = replayed(build_snapshot(tmp_path / "some", articles[:30]), articles[30:])
    assert scores_by_id(whole) == scores_by_id(some)


def scores_by_id(live: Live) -> dict[str, tuple[float, float]]:
    """Return for each article its score in a search and the cosine of its head vector."""
    asked, rows = query("Gas flows again"), live.rows()
    hits = live.search(asked, len(rows), 0, NOW_MS, Scope())
    scores = dict(zip(found_ids(live, hits), hits.scores.tolist(), strict=True))
    cosines = zip(ids_at(live, rows), live.head_cosines(rows, asked).tolist(), strict=True)
    return {id: (scores[id], cosine) for id, cosine in cosines}
