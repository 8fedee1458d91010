"""Plans that are cached: only the same ones, only while nothing has changed, only a limited number."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.answer.features import Detail
from recommender.answer.layout import DEFAULT_LAYOUT, Layout, Placement, Slot, SlotFilters
from recommender.answer.link_history import KNOWN_AFTER_MS, LinkHistory, PastLink
from recommender.answer.page import Draft
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender, Request
from recommender.catalog.articles import Article, Body, Paragraph, Rules
from recommender.catalog.live import Live
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.store.store import Change
from recommender.catalog.text.derived import analyse
from recommender.clock import DAY_MS
from recommender.encoding.embed_articles import embed
from recommender.rpc.messages import plan_to
from recommender.serving.options import FittedRanker, ServingOptions
from recommender.serving.plan_cache import NAMES_MAX, PlanCache, same_until_ms
from tests.building import NOW_MS, FakeEmbedder, build_live, build_snapshot, replayed, stored
from tests.newsroom import piece

HOUR_MS = 3_600_000
FOREVER = 2**63 - 1
OPTIONS = ServingOptions()
LABELS = Layout(
    name="labels",
    slots=(
        Slot(
            name="end",
            placement=Placement.END,
            count=1,
            filters=SlotFilters(tags=frozenset("xy"), sections=frozenset("z")),
        ),
    ),
)
"""A layout that names three labels."""


def names(count: int) -> tuple[str, ...]:
    """Return distinct ids."""
    return tuple(map(str, range(count)))


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
    """The plan stays the same to the bit, receipt included, and the next article changes it."""
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
    """Its windows of time end now; the plan of an unknown page is not cached either."""
    live = build([piece("page", days_ago=-1), piece("other")])
    assert same_until_ms(live, Ranker(), "page", NOW_MS) == NOW_MS
    assert same_until_ms(live, Ranker(), "unknown", NOW_MS) == NOW_MS


def test_a_plan_holds_until_the_ranker_knows_of_the_next_link(build: Callable[[Iterable[Article]], Live]) -> None:
    """The ranker knows it a day after its page, not earlier; links that are known already end nothing."""
    live = build([piece("page"), piece("other")])
    links = [PastLink("a", "b", NOW_MS - days * DAY_MS) for days in (5, 3)]
    later = PastLink("c", "b", NOW_MS - HOUR_MS)
    ranker = Ranker(detail=Detail(LinkHistory([*links, later])))
    assert same_until_ms(live, ranker, "page", NOW_MS) == later.at_ms + KNOWN_AFTER_MS
    assert same_until_ms(live, Ranker(detail=Detail(LinkHistory(links))), "page", NOW_MS) == FOREVER


def test_a_plan_is_found_in_its_interval_only() -> None:
    """It is valid from the time that it was made for until it may have changed, that moment not included."""
    cache: PlanCache[str] = PlanCache()
    cache.add("key", "plan", 100, 200)
    assert [cache.find("key", at) for at in (99, 100, 199, 200)] == [None, "plan", "plan", None]
    assert cache.find("another key", 150) is None
    cache.add("key", "next plan", 200, 300)
    assert [cache.find("key", at) for at in (199, 200)] == [None, "next plan"]


class Plans:
    """A cache in front of a planner that returns 1, 2, 3, ..."""

    def __init__(self) -> None:
        self.cache: PlanCache[int] = PlanCache()
        self.made = 0

    def make(self) -> int:
        self.made += 1
        return self.made

    def ask(
        self,
        live: Live,
        page: str | Draft = "a",
        *,
        options: ServingOptions = OPTIONS,
        layout: Layout = DEFAULT_LAYOUT,
        as_of_ms: int = NOW_MS,
        **values: Any,
    ) -> int:
        return self.cache.plan(live, options, Request(page, as_of_ms, **values), layout, self.make)


def test_every_change_empties_the_cache(tmp_path: Path) -> None:
    """Changes are the archive's revision, another archive, another ranker, and other options."""
    live, other = build_live(tmp_path / "a", [piece("a")]), build_live(tmp_path / "b", [piece("a")])
    plans = Plans()
    fitted = ServingOptions(fitted=FittedRanker(Ranker(), live.manifest.encoder))
    states = [(live, OPTIONS), (other, OPTIONS), (other, fitted), (other, ServingOptions())]
    for number, (view, options) in enumerate(states, 1):
        assert plans.ask(view, options=options) == number
        assert plans.ask(view, options=options) == number
    assert plans.ask(live) == 5
    live.apply([Change(live.revision + 1, "b", deleted=False)], live.row_values(stored([piece("b")]).values()))
    assert plans.ask(live) == 6


def test_each_request_has_its_own_plan(tmp_path: Path) -> None:
    """Page, scope, links of the page, layout and time are part of the request."""
    plans, live = Plans(), build_live(tmp_path, [piece("a", days_ago=2), piece("b")])
    end = Layout(name="end", slots=(Slot(name="end", placement=Placement.END, count=1),))
    requests: list[dict[str, Any]] = [
        {},
        {"page": "b"},
        {"scope": Scope(sections=frozenset({"harbour"}))},
        {"on_page_ids": ("b",)},
        {"layout": end},
    ]
    for _ in range(2):
        assert [plans.ask(live, **values) for values in requests] == [1, 2, 3, 4, 5]
    assert plans.ask(live, as_of_ms=NOW_MS - DAY_MS - 1) == 6, "b was not public then"


def test_a_draft_is_planned_anew_each_time(tmp_path: Path) -> None:
    """Its text would be the key."""
    plans, live = Plans(), build_live(tmp_path, [piece("a")])
    body = Body("Pier and crane", "", (Paragraph("The tide waits for the crane."),))
    draft = Draft(body, embed([body], FakeEmbedder())[0], analyse(body), NOW_MS)
    assert [plans.ask(live, draft) for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("values", "is_cached"),
    [
        ({"on_page_ids": names(NAMES_MAX)}, True),
        ({"on_page_ids": names(NAMES_MAX + 1)}, False),
        ({"on_page_ids": names(NAMES_MAX), "scope": Scope(sections=frozenset({"x"}))}, False),
        ({"layout": LABELS, "on_page_ids": names(NAMES_MAX - 3)}, True),
        ({"layout": LABELS, "on_page_ids": names(NAMES_MAX - 2)}, False),
        ({"layout": LABELS, "on_page_ids": names(NAMES_MAX), "options": ServingOptions({"labels": LABELS})}, True),
    ],
    ids=["most ids", "more ids", "ids and a section", "ids and labels", "more of both", "a configured layout"],
)
def test_a_request_that_names_too_much_is_not_cached(tmp_path: Path, values: dict[str, Any], is_cached: bool) -> None:
    """Its key would outweigh its plan; the labels of a configured layout are in memory anyway and do not count."""
    plans, live = Plans(), build_live(tmp_path, [piece("a")])
    assert [plans.ask(live, **values) for _ in range(2)] == ([1, 1] if is_cached else [1, 2])


def test_a_plan_of_one_moment_takes_no_place() -> None:
    """It could never be returned again, and would push out one that can."""
    cache: PlanCache[int] = PlanCache(plans_max=1)
    cache.add(0, 0, 0, 9)
    cache.add(1, 1, 5, 5)
    assert (cache.find(0, 5), cache.find(1, 5)) == (0, None)


def test_the_plans_requested_last_are_cached() -> None:
    """The plan that was requested longest ago makes room for a new one."""
    cache: PlanCache[int] = PlanCache(plans_max=2)
    for number in range(2):
        cache.add(number, number, 0, 1)
    assert cache.find(0, 0) == 0
    cache.add(2, 2, 0, 1)
    assert [cache.find(number, 0) for number in range(3)] == [0, None, 2]
