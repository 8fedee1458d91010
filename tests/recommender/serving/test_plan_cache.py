"""Answers that are given again: only the same ones, only while nothing has changed, only so many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.answer.evidence import Extras
from recommender.answer.layout import DEFAULT_LAYOUT
from recommender.answer.link_history import KNOWN_AFTER_MS, LinkHistory, PastLink
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender, Request
from recommender.catalog.articles import Article, Rules
from recommender.catalog.live import Live
from recommender.catalog.store.store import Change
from recommender.rpc.messages import plan_to
from recommender.serving.plan_cache import KeptAnswers, same_until_ms
from tests.building import DAY_MS, NOW_MS, build_live, build_snapshot, replayed, stored
from tests.recommender.answer.test_recommend import piece

HOUR_MS = 3_600_000
FOREVER = 2**63 - 1


@pytest.fixture(params=["snapshot", "tail"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Iterable[Article]], Live]:
    """Return what builds an archive: all of it in a snapshot, or all of it written since an empty one."""
    if request.param == "snapshot":
        return lambda articles: build_live(tmp_path, list(articles))
    return lambda articles: replayed(build_snapshot(tmp_path, []), list(articles))


def plan_at(live: Live, as_of_ms: int) -> related_pb.PagePlan:
    """Return the plan of "page", without the time at which it was asked for."""
    message = plan_to(Recommender(live).fill_slots(Request("page", as_of_ms), DEFAULT_LAYOUT), [])
    message.receipt.ClearField("as_of")
    return message


def test_a_plan_holds_until_the_next_article_becomes_public(build: Callable[[Iterable[Article]], Live]) -> None:
    """To the bit, receipt included; and it is the next article that changes it."""
    others = [piece(f"n{number}", days_ago=9 - number) for number in range(8)]
    embargoed = piece("late", days_ago=8.5, rules=Rules(embargo_until_ms=NOW_MS - 5 * DAY_MS - 7 * HOUR_MS))
    live = build([piece("page", days_ago=8.7), embargoed, *others])
    as_of_ms, changes = NOW_MS - 8 * DAY_MS + HOUR_MS, 0
    while (until_ms := same_until_ms(live, Ranker(), "page", as_of_ms)) != FOREVER:
        assert until_ms > as_of_ms
        assert plan_at(live, as_of_ms) == plan_at(live, (as_of_ms + until_ms) // 2) == plan_at(live, until_ms - 1)
        changes += plan_at(live, until_ms) != plan_at(live, as_of_ms)
        as_of_ms = until_ms
    assert changes == len(others) - 2 + 1, "each of those after the page, and the one whose embargo ended"
    assert plan_at(live, as_of_ms) == plan_at(live, as_of_ms + 1_000 * DAY_MS)


def test_the_plan_of_a_page_of_tomorrow_holds_for_this_moment_only(build: Callable[[Iterable[Article]], Live]) -> None:
    """Its windows of time end now; nor is anything kept of a page that is not there."""
    live = build([piece("page", days_ago=-1), piece("other")])
    assert same_until_ms(live, Ranker(), "page", NOW_MS) == NOW_MS
    assert same_until_ms(live, Ranker(), "unknown", NOW_MS) == NOW_MS


def test_a_plan_holds_until_the_ranker_knows_of_the_next_link(build: Callable[[Iterable[Article]], Live]) -> None:
    """A day after its page, not before; links that are known already end nothing."""
    live = build([piece("page"), piece("other")])
    links = [PastLink("a", "b", NOW_MS - days * DAY_MS) for days in (5, 3)]
    later = PastLink("c", "b", NOW_MS - HOUR_MS)
    ranker = Ranker(extras=Extras(LinkHistory([*links, later])))
    assert same_until_ms(live, ranker, "page", NOW_MS) == later.at_ms + KNOWN_AFTER_MS
    assert same_until_ms(live, Ranker(extras=Extras(LinkHistory(links))), "page", NOW_MS) == FOREVER


def test_an_answer_is_found_in_its_time_alone() -> None:
    """From when it was made until it may have changed, that moment not included."""
    kept: KeptAnswers[str] = KeptAnswers()
    kept.keep("question", "answer", 100, 200)
    assert [kept.find("question", at) for at in (99, 100, 199, 200)] == [None, "answer", "answer", None]
    assert kept.find("another question", 150) is None
    kept.keep("question", "next answer", 200, 300)
    assert [kept.find("question", at) for at in (199, 200)] == [None, "next answer"]


def test_every_change_drops_every_answer(tmp_path: Path) -> None:
    """Of the archive's revision, of the archive itself, of ranker and terms."""
    live, other = build_live(tmp_path / "a", [piece("a")]), build_live(tmp_path / "b", [piece("a")])
    ranker, terms = Ranker(), object()
    kept: KeptAnswers[int] = KeptAnswers()
    states: list[tuple[Live, Ranker, object]] = [(live, ranker, terms), (other, ranker, terms)]
    states += [(other, Ranker(), terms), (other, ranker, object())]
    for number, state in enumerate(states):
        assert kept.at(*state).find("question", 0) is None
        kept.keep("question", number, 0, 1)
        assert kept.at(*state).find("question", 0) == number
    kept.at(live, ranker, terms).keep("question", 9, 0, 1)
    live.apply([Change(live.revision + 1, "b", deleted=False)], live.prepare(stored([piece("b")]).values()))
    assert kept.at(live, ranker, terms).find("question", 0) is None


def test_an_answer_of_one_moment_takes_no_place() -> None:
    """It can never be given again, and would push out one that can."""
    kept: KeptAnswers[int] = KeptAnswers(most=1)
    kept.keep(0, 0, 0, 9)
    kept.keep(1, 1, 5, 5)
    assert (kept.find(0, 5), kept.find(1, 5)) == (0, None)


def test_the_answers_asked_for_last_are_kept() -> None:
    """So many and no more."""
    kept: KeptAnswers[int] = KeptAnswers(most=2)
    for number in range(2):
        kept.keep(number, number, 0, 1)
    assert kept.find(0, 0) == 0
    kept.keep(2, 2, 0, 1)
    assert [kept.find(number, 0) for number in range(3)] == [0, None, 2]
