"""Whole answers from a real archive: every rule of an article, every term of a request, and the receipt."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recommender.answer import recommend
from recommender.answer.layout import DEFAULT_LAYOUT, Layout, Slot
from recommender.answer.page import Draft, draft_page, stored_page
from recommender.answer.plan import PagePlan, Recommendation, RelatedList
from recommender.answer.rank import DEFAULT_WEIGHTS, Ranker
from recommender.answer.recommend import EVERY, Recommender, Request
from recommender.answer.slots import Empty
from recommender.catalog.articles import NO_LABELS, Article, Body, Labels, Paragraph, ParagraphKind, Rules
from recommender.catalog.live import Live
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.store.store import Change
from recommender.catalog.text.derived import analyse
from recommender.clock import DAY_MS
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Matrix
from recommender.errors import InvalidInputError, NotFoundError
from tests.building import NOW_MS, FakeEmbedder, article, build_live, build_snapshot, replayed
from tests.newsroom import piece

Build = Callable[[Iterable[Article]], Live]


def ruled(id: str, *, days_ago: float = 1.0, **rules: Any) -> Article:
    """Return a piece with rules."""
    return piece(id, days_ago=days_ago, rules=Rules(**rules))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Return the snapshot of an empty archive."""
    return build_snapshot(tmp_path_factory.mktemp("empty"), [])


@pytest.fixture
def replay(empty: Snapshot) -> Build:
    """Return what builds an archive that was written since an empty snapshot."""
    return lambda articles: replayed(empty, list(articles))


@pytest.fixture(params=["snapshot", "tail"])
def build(request: pytest.FixtureRequest, replay: Build, tmp_path: Path) -> Build:
    """Return what builds an archive: all of it in a snapshot, or all of it written since an empty one."""
    if request.param == "snapshot":
        return lambda articles: build_live(tmp_path, list(articles))
    return replay


def listed(live: Live, page: str | Draft = "page", *, days_ago: float = 0.0, **request: Any) -> RelatedList:
    """Return the whole list of a page, whatever the scores."""
    return Recommender(live).list_related(Request(page, NOW_MS - int(days_ago * DAY_MS), **request), k=100)


def filled(live: Live, *slots: Slot, page: str | Draft = "page", days_ago: float = 0.0, **request: Any) -> PagePlan:
    """Return a page's plan; without slots that of the default layout."""
    layout = Layout(name="ours", slots=slots) if slots else DEFAULT_LAYOUT
    return Recommender(live).fill_slots(Request(page, NOW_MS - int(days_ago * DAY_MS), **request), layout)


def end(count: int = 20, **values: Any) -> Slot:
    """Return an end slot that takes any score."""
    return Slot.model_validate({"name": "more", "placement": "end", "count": count, "min_score": 0.0, **values})


def links_of(answer: PagePlan | RelatedList) -> list[Recommendation]:
    """Return the recommendations, in order."""
    if isinstance(answer, RelatedList):
        return list(answer.recommendations)
    return [place.recommendation for slot in answer.slots for place in slot.places if place.recommendation]


def ids_of(answer: PagePlan | RelatedList) -> list[str]:
    """Return the ids of the recommended articles, in order."""
    return [link.article.id for link in links_of(answer)]


def empties_of(plan: PagePlan) -> list[Empty]:
    """Return why places stayed empty."""
    return [place.empty for slot in plan.slots for place in slot.places if place.empty]


def everywhere(live: Live, **request: Any) -> set[str]:
    """Return the ids that list and plan give, which must be the same: every candidate that no rule removes."""
    by_list, by_plan = ids_of(listed(live, **request)), ids_of(filled(live, end(), **request))
    assert sorted(by_list) == sorted(by_plan)
    return set(by_list)


# Rules of an article


def test_never_source_leaves_its_own_page_empty(build: Build) -> None:
    """The page of a never-source article has no links, says why, and nothing is searched; others may link to it."""
    live = build([ruled("page", never_source=True), piece("a"), piece("b")])
    plan = filled(live)
    assert empties_of(plan) == [Empty.NEVER_SOURCE] * 5
    assert ids_of(listed(live)) == []
    assert (plan.receipt.candidates_seen, plan.receipt.removals, plan.receipt.layout) == (0, {}, "default")
    assert everywhere(live, page="a") == {"page", "b"}


def test_never_target_is_linked_to_from_nowhere(build: Build) -> None:
    """A never-target article is no candidate, not even for a fallback; its own page is filled."""
    live = build([piece("page"), ruled("hidden", never_target=True), piece("a")])
    latest = end(fallback="latest_in_section", min_score=1.0)
    assert everywhere(live) == {"a"}
    assert ids_of(filled(live, latest)) == ["a"]
    assert everywhere(live, page="hidden") == {"page", "a"}


@pytest.mark.parametrize(
    ("on_page", "on_article"), [(("a",), ()), ((), ("page",)), (("a",), ("page",))], ids=["page", "article", "both"]
)
def test_a_forbidden_pair_is_kept_apart(on_page: tuple[str, ...], on_article: tuple[str, ...], replay: Build) -> None:
    """A pair is kept apart whichever of the two names it, on either page, and the receipt counts it."""
    live = replay([ruled("page", never_with=on_page), ruled("a", never_with=on_article), piece("b")])
    assert everywhere(live) == {"b"}
    assert everywhere(live, page="a") == {"b"}
    assert len(everywhere(live, page="b")) == 1, "one of the two, not both"
    assert listed(live).receipt.removals == {"page_itself": 1, "never_with": 1}


@pytest.mark.parametrize("named_by", ["a", "b"])
def test_two_links_of_a_pair_are_not_on_one_page(named_by: str, replay: Build) -> None:
    """Of two articles that never stand together, a third page gets the better one."""
    pair = {"a": "b", "b": "a"}
    both = [ruled(id, never_with=(pair[id],) if id == named_by else ()) for id in ("a", "b")]
    free = replay([piece("page"), piece("a"), piece("b"), piece("c", "theatre")])
    best = next(id for id in ids_of(listed(free)) if id in pair)
    live = replay([piece("page"), *both, piece("c", "theatre")])
    assert everywhere(live) == {best, "c"}


def test_embargo(build: Build) -> None:
    """An embargoed article is linked from its hour on, not before; its own page can be filled before."""
    live = build(
        [piece("page", days_ago=9), ruled("a", days_ago=8, embargo_until_ms=NOW_MS - DAY_MS), piece("b", days_ago=7)]
    )
    latest = end(fallback="latest_in_section", min_score=1.0)
    before, from_then_on = 1.0 + 1 / DAY_MS, 1.0
    assert everywhere(live, days_ago=before) == {"b"}
    assert ids_of(filled(live, latest, days_ago=before)) == ["b"]
    assert everywhere(live, days_ago=from_then_on) == {"a", "b"}
    assert ids_of(filled(live, latest, days_ago=from_then_on)) == ["a", "b"]
    assert everywhere(live, page="a", days_ago=5) == {"page", "b"}


def test_an_embargo_that_is_over_before_publication_changes_nothing(replay: Build) -> None:
    """An article becomes public at the later of publication and embargo."""
    live = replay([piece("page", days_ago=9), ruled("a", days_ago=2, embargo_until_ms=NOW_MS - 5 * DAY_MS)])
    assert everywhere(live, days_ago=3) == set()
    assert everywhere(live, days_ago=2) == {"a"}


def test_as_of_is_to_the_millisecond(build: Build) -> None:
    """An article is a candidate from the millisecond of its publication on."""
    live = build([piece("page", days_ago=9), piece("a", days_ago=4), piece("scheduled", days_ago=-1)])
    assert everywhere(live, days_ago=4 + 1 / DAY_MS) == set()
    assert everywhere(live, days_ago=4) == {"a"}
    assert everywhere(live) == {"a"}
    assert everywhere(live, days_ago=-1) == {"a", "scheduled"}


def test_age_does_not_count_for_evergreens(replay: Build) -> None:
    """The same article, years old, scores as if it were the page's contemporary, and no maximum age keeps it out."""
    text = piece("a")

    def score(days_ago: float, *, evergreen: bool) -> float:
        same: dict[str, Any] = {"title": text.title, "summary": text.summary, "paragraphs": text.paragraphs}
        aged = piece("a", days_ago=days_ago, rules=Rules(evergreen=evergreen), **same)
        return links_of(listed(replay([piece("page"), aged])))[0].score

    assert score(900, evergreen=True) == pytest.approx(score(1, evergreen=False), abs=1e-6)
    assert score(900, evergreen=False) < score(900, evergreen=True)


def test_a_maximum_age_exempts_evergreens(build: Build) -> None:
    """The maximum age counts from the page's date, inclusive, and not for evergreen articles."""
    live = build(
        [
            piece("page", days_ago=10),
            piece("young", days_ago=14.9),
            piece("limit", days_ago=15),
            piece("old", days_ago=15.1),
            ruled("explainer", days_ago=900, evergreen=True),
        ]
    )
    plan = filled(live, end(max_age_days=5))
    assert set(ids_of(plan)) == {"young", "limit", "explainer"}
    assert set(ids_of(filled(live, end()))) == {"young", "limit", "old", "explainer"}
    two = filled(live, end(max_age_days=5), end(name="any age"))
    assert ids_of(two)[-1] == "old", "each slot has its own bound"
    assert next(link for link in links_of(plan) if link.article.id == "explainer").reason.endswith("; background")


def test_a_withdrawn_article_is_gone(build: Build) -> None:
    """A withdrawn article is in no later answer, and its page is unknown."""
    live = build([piece("page"), piece("a"), piece("b")])
    live.apply([Change(live.revision + 1, "a", deleted=True)], {})
    assert everywhere(live) == {"b"}
    with pytest.raises(NotFoundError):
        listed(live, "a")


# The page and its copies


def test_the_page_its_copies_and_its_versions_are_not_linked(build: Build) -> None:
    """The page itself, a cross-post, the same address and an updated headline are counted by rule."""
    page = piece("page")
    live = build(
        [
            page,
            piece("cross-post", paragraphs=page.paragraphs),
            piece("same address", url=page.url),
            piece("version", title=f"UPDATED: {page.title}"),
            piece("a"),
        ]
    )
    assert everywhere(live) == {"a"}
    assert listed(live).receipt.removals == {
        "page_itself": 1,
        "near_copy_of_page": 1,
        "same_url_as_page": 1,
        "same_headline_as_page": 1,
    }


def test_one_of_several_copies(replay: Build) -> None:
    """Of three copies of another story the page gets only the best one."""
    text = piece("a")
    copies = [piece(id, paragraphs=text.paragraphs, days_ago=days) for days, id in enumerate(("a1", "a2", "a3"), 1)]
    live = replay([piece("page"), *copies, piece("b", "theatre")])
    answer = listed(live)
    assert set(ids_of(answer)) & {"a1", "a2", "a3"} == {ids_of(answer)[0]}
    assert answer.receipt.removals == {"page_itself": 1, "near_copy_of_link": 2}


def test_an_article_without_title_address_and_body_stands_once(replay: Build) -> None:
    """Two slots with the same candidates do not repeat an article, even if no rule could recognise it."""
    bare: dict[str, Any] = {"title": "", "url": "", "paragraphs": ()}
    live = replay([piece("page"), piece("a", **bare), piece("b", **bare)])
    plan = filled(live, end(2), end(2, name="again", fallback="latest_in_section"))
    assert sorted(ids_of(plan)) == ["a", "b"]
    assert empties_of(plan) == [Empty.NO_CANDIDATES] * 2


# The same language and site


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(), {"own"}),
        (Scope(languages=EVERY), {"own", "french", "no language"}),
        (Scope(languages=frozenset({"fr"})), {"french"}),
        (Scope(languages=frozenset({"fr", "en"})), {"own", "french"}),
        (Scope(sites=EVERY), {"own", "elsewhere", "no site"}),
        (Scope(sites=frozenset({"elsewhere.example"})), {"elsewhere"}),
        (Scope(sites=EVERY, languages=EVERY), {"own", "french", "no language", "elsewhere", "no site", "both"}),
        (Scope(sites=frozenset({"elsewhere.example"}), languages=frozenset({"fr"})), {"both"}),
        (Scope(languages=frozenset({"de"})), set()),
    ],
    ids=[
        "by default",
        "every language",
        "another language",
        "two languages",
        "every site",
        "another site",
        "everything",
        "both other",
        "one that nothing is in",
    ],
)
def test_language_and_site_are_the_page_s_unless_asked_otherwise(
    scope: Scope, expected: set[str], replay: Build
) -> None:
    """An article without a label is outside every requested language or site."""
    elsewhere = "elsewhere.example"
    live = replay(
        [
            piece("page"),
            piece("own"),
            piece("french", language="fr"),
            piece("no language", language=""),
            piece("elsewhere", site=elsewhere),
            piece("no site", site=""),
            piece("both", language="fr", site=elsewhere),
        ]
    )
    assert everywhere(live, scope=scope) == expected


def test_a_page_without_language_and_site_takes_every_one(replay: Build) -> None:
    """An unknown language or site of the page does not restrict the scope."""
    live = replay(
        [piece("page", language="", site=""), piece("a", language="fr"), piece("b", site="elsewhere.example")]
    )
    assert everywhere(live) == {"a", "b"}


def test_a_slot_narrows_the_request_s_languages(replay: Build) -> None:
    """A slot may restrict the languages of the request but not extend them."""
    live = replay([piece("page"), piece("a"), piece("b", language="fr")])
    french = end(filters={"languages": ["fr"]})
    every = end(filters={"languages": ["*"]})
    assert ids_of(filled(live, french, scope=Scope(languages=EVERY))) == ["b"]
    assert ids_of(filled(live, french)) == []
    assert ids_of(filled(live, every)) == ["a"]


# Filters and what is on the page


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(sections=frozenset({"theatre"})), {"b", "c"}),
        (Scope(sections=frozenset({"theatre", "harbour"})), {"a", "b", "c", "d"}),
        (Scope(tags=frozenset({"strike"})), {"a", "c"}),
        (Scope(tags=frozenset({"strike", "prize"})), {"a", "b", "c"}),
        (Scope(tags=frozenset({"strike"}), sections=frozenset({"theatre"})), {"c"}),
        (Scope(published_from_ms=NOW_MS - 3 * DAY_MS), {"a", "b", "c"}),
        (Scope(published_before_ms=NOW_MS - 3 * DAY_MS), {"d"}),
        (Scope(sections=frozenset()), set()),
    ],
    ids=["section", "sections", "tag", "tags", "tag and section", "from", "before", "none"],
)
def test_filters(scope: Scope, expected: set[str], replay: Build) -> None:
    """Labels of one filter are alternatives, all filters have to hold; times include the first and exclude the last."""
    live = replay(
        [
            piece("page", tags=["strike"]),
            piece("a", tags=["strike"], days_ago=1),
            piece("b", "theatre", tags=["prize"], days_ago=2),
            piece("c", "theatre", tags=["strike", "prize"], days_ago=3),
            piece("d", days_ago=4),
        ]
    )
    assert everywhere(live, scope=scope) == expected


def test_slots_have_their_own_filters(replay: Build) -> None:
    """Each slot has its own candidates; a slot whose filter matches nothing has none."""
    live = replay([piece("page"), piece("a"), piece("b", "theatre")])
    slots = [end(1, name=name, filters={"sections": [name]}) for name in ("theatre", "chess", "harbour")]
    plan = filled(live, *slots)
    assert [
        [place.recommendation and place.recommendation.article.id for place in slot.places] for slot in plan.slots
    ] == [
        ["b"],
        [None],
        ["a"],
    ]
    assert empties_of(plan) == [Empty.NO_CANDIDATES]


def test_what_is_on_the_page_is_left_out_with_its_copies(build: Build) -> None:
    """Articles that the page links to, and their near copies, are left out; unknown ids are ignored."""
    text = piece("a")
    live = build([piece("page"), text, piece("copy", paragraphs=text.paragraphs), piece("b"), piece("c")])
    answer = listed(live, on_page_ids=("a", "unknown", "c", "a"))
    assert ids_of(answer) == ["b"]
    assert answer.receipt.removals == {"page_itself": 1, "on_page": 2, "near_copy_of_link": 1}
    assert everywhere(live, on_page_ids=("a", "unknown", "c", "a")) == {"b"}


def test_the_page_among_its_own_links_is_the_page(replay: Build) -> None:
    """A page that is named as one of its own links is counted once, and its story's articles are not suppressed."""
    live = replay([piece("page"), piece("a")])
    answer = listed(live, on_page_ids=("page",))
    assert ids_of(answer) == ["a"]
    assert answer.receipt.removals == {"page_itself": 1}


# Fallback


def test_a_fallback_is_the_latest_in_the_page_s_section(build: Build) -> None:
    """A fallback is newest first, of the page's section, language and site, and without suppressed articles."""
    page = piece("page", days_ago=5)
    live = build(
        [
            page,
            piece("newest", days_ago=1),
            piece("newer", days_ago=2),
            piece("older", days_ago=9),
            piece("stage", "theatre", days_ago=1),
            piece("french", language="fr", days_ago=1),
            piece("elsewhere", site="elsewhere.example", days_ago=1),
            piece("cross-post", paragraphs=page.paragraphs, days_ago=1),
            piece("linked", days_ago=1),
            piece("later", days_ago=-1),
        ]
    )
    plan = filled(live, end(5, min_score=1.0, fallback="latest_in_section"), on_page_ids=("linked",))
    assert ids_of(plan) == ["newest", "newer", "older"]
    assert [(link.score, link.parts, link.fallback) for link in links_of(plan)] == [(0.0, (), True)] * 3
    assert [link.reason for link in links_of(plan)] == [
        "latest in section; 4 days newer",
        "latest in section; 3 days newer",
        "latest in section; 4 days older",
    ]
    assert empties_of(plan) == [Empty.BELOW_MIN_SCORE] * 2
    assert plan.receipt.removals == {"page_itself": 1, "on_page": 1, "below_min_score:more": 5, "near_copy_of_page": 1}


@pytest.mark.parametrize("text", ["one", "several"])
def test_ties_are_broken_alike_before_and_after_a_snapshot(tmp_path: Path, text: str) -> None:
    """Of articles that are equal in all else, published in the same minute, the same one is always chosen."""
    same = piece("same")
    body: dict[str, Any] = {"title": same.title, "summary": same.summary, "paragraphs": same.paragraphs}
    body = body if text == "one" else {}
    some = [piece("page", days_ago=0), *(piece(id, days_ago=1, **body) for id in ("d", "a", "c", "b", "f", "e"))]
    threshold, fallback = (0.0, "none") if text == "one" else (1.0, "latest_in_section")
    slot = end(3, min_score=threshold, fallback=fallback)
    written = replayed(build_snapshot(tmp_path / "before", []), some)
    chosen = [ids_of(filled(live, slot)) for live in (written, build_live(tmp_path / "after", some))]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == (1 if text == "one" else 3)


def test_a_fallback_follows_the_slot_s_filters_and_age(replay: Build) -> None:
    """A fallback obeys the slot's filters and maximum age."""
    live = replay(
        [
            piece("page"),
            piece("a", tags=["strike"], days_ago=3),
            piece("b", days_ago=2),
            piece("c", tags=["strike"], days_ago=30),
            piece("d", tags=["strike"], days_ago=40, rules=Rules(evergreen=True)),
        ]
    )
    slot = end(4, min_score=1.0, fallback="latest_in_section", filters={"tags": ["strike"]}, max_age_days=10)
    assert ids_of(filled(live, slot)) == ["a", "d"], "an evergreen article is never too old"


def test_related_links_come_before_the_fallback(replay: Build) -> None:
    """A fallback fills only the places that related articles leave, and none of them again."""
    live = replay([piece("page"), piece("a"), piece("b", "theatre", section="harbour")])
    scores = {link.article.id: link.score for link in links_of(listed(live))}
    threshold = (scores["a"] + scores["b"]) / 2
    plan = filled(live, end(3, min_score=threshold, fallback="latest_in_section"))
    assert [(link.article.id, link.fallback) for link in links_of(plan)] == [("a", False), ("b", True)]


def test_a_page_without_section_has_no_fallback(replay: Build) -> None:
    """A page without section gets no fallback."""
    live = replay([piece("page", section=""), piece("a", section="")])
    assert ids_of(filled(live, end(1, min_score=1.0, fallback="latest_in_section"))) == []


# Lists


def test_a_list_is_the_best_k_in_order(replay: Build) -> None:
    """A list has the best k by falling score; articles below the threshold are left out and counted."""
    live = replay([piece("page"), *(piece(f"a{n}", days_ago=n + 1) for n in range(6)), piece("b", "theatre")])
    recommender, request = Recommender(live), Request("page", NOW_MS)
    everything = recommender.list_related(request, 100)
    scores = [link.score for link in links_of(everything)]
    assert scores == sorted(scores, reverse=True)
    assert ids_of(everything)[-1] == "b"
    assert ids_of(recommender.list_related(request, 3)) == ids_of(everything)[:3]
    threshold = (scores[3] + scores[4]) / 2
    above = recommender.list_related(request, 100, threshold)
    assert ids_of(above) == ids_of(everything)[:4]
    assert above.receipt.removals == {"page_itself": 1, "below_min_score": 3}


def test_links_are_explained(build: Build) -> None:
    """Each link has its date, the parts of its score, and a reason that names the subjects shared with the page."""
    page = piece("page", days_ago=3, paragraphs=["The Tarvik ferry strike over pilotage went on.", "Crews met."])
    live = build([page, piece("a", days_ago=5, paragraphs=["A ferry strike in Tarvik over pilotage began."])])
    (link,) = links_of(listed(live))
    assert link.published_at_ms == NOW_MS - 5 * DAY_MS
    assert link.parts[-1].name == "base"
    assert link.score == pytest.approx(1 / (1 + math.exp(-sum(part.contribution for part in link.parts))), rel=1e-4)
    assert {part.name: part.value for part in link.parts}["freshness"] == pytest.approx(2.0)
    assert link.reason.split(":")[0] in {"same story", "same subject"}
    assert "Tarvik" in link.reason
    assert link.reason.endswith("; 2 days older")


def test_a_slot_s_half_life_decides_how_age_counts(replay: Build) -> None:
    """The same old article scores less with a short half-life and more with a long one."""
    live = replay([piece("page"), piece("a", days_ago=30)])

    def score(**values: float) -> float:
        return links_of(filled(live, end(1, **values)))[0].score

    assert score(freshness_half_life_days=1) < score(freshness_half_life_days=10) < score(freshness_half_life_days=1000)


def test_two_slots_may_age_the_same_candidates_differently(replay: Build) -> None:
    """The parts of each link use its own slot's half-life."""
    live = replay([piece("page"), piece("a", days_ago=30), piece("b", days_ago=30)])
    days = (1.0, 1000.0)
    plan = filled(live, *(end(1, name=f"slot {d}", freshness_half_life_days=d) for d in days))
    parts = [{part.name: part.contribution for part in link.parts}["freshness"] for link in links_of(plan)]
    assert parts == pytest.approx([-DEFAULT_WEIGHTS["freshness"] * math.log1p(29 / d) for d in days], rel=1e-4)


def test_diversity_keeps_one_story_from_filling_the_page(build: Build) -> None:
    """Of three articles in the same words, not near copies, one stands beside three others."""
    words = " ".join(p.text for p in piece("story").paragraphs).split()

    def version(n: int) -> list[str]:
        return [" ".join(random.Random(n).sample(words, len(words)))]

    story = [piece(f"story{n}", days_ago=2 * n + 1, title="", paragraphs=version(n), summary="") for n in range(3)]
    others = [piece(f"other{n}", "theatre", days_ago=2 * n + 2) for n in range(3)]
    live = build([piece("page"), *story, *others])
    assert {id[:-1] for id in ids_of(filled(live, end(3, diversity=0.0)))} == {"story"}
    assert sorted(id[:-1] for id in ids_of(filled(live, end(4, diversity=1.0)))) == ["other", "other", "other", "story"]


FERRIES = {
    "en": (
        "Ferries stop in storm",
        "The ferry to Ostmark stopped because of the storm.",
        "Storm over: Ostmark ferry sails.",
    ),
    "ar": (
        "العبارات تتوقف في العاصفة",
        "توقفت العبارة إلى الميناء بسبب العاصفة في المضيق.",
        "انتهت العاصفة وعادت العبارة إلى المضيق.",
    ),
    "hi": ("तूफान में नौका सेवा बंद", "जलडमरूमध्य में तूफान के कारण नौका सेवा बंद रही।", "तूफान थमा, नौका सेवा फिर शुरू हुई।"),
    "zh": ("风暴中渡轮停航", "由于海峡风暴，开往港口的渡轮周一停航。", "风暴已过，海峡渡轮恢复航行。"),
    "th": ("เรือข้ามฟากหยุดเดินเรือเพราะพายุ", "เรือข้ามฟากหยุดเดินเรือเพราะพายุในช่องแคบ", "พายุสงบแล้ว เรือข้ามฟากกลับมาเดินเรือ"),
    "ru": (
        "Паромы стоят из-за шторма",
        "Паром в порт не вышел из-за шторма в проливе.",
        "Шторм кончился, паром в порт вышел.",
    ),
}
"""By language: a title, what the page says, and what another article on the subject says."""


@pytest.mark.parametrize("language", FERRIES)
@pytest.mark.parametrize("sentences", [1, 5, 600], ids=["one sentence", "a short text", "a very long text"])
def test_the_subject_is_found_in_any_script_and_length(language: str, sentences: int, replay: Build) -> None:
    """A page of one sentence or thousands of words, without a summary, gets the other article on its subject."""
    title, said, also = FERRIES[language]
    others = [piece(f"o{n}", "theatre", language=language, days_ago=2 + n) for n in range(12)]
    page = article("page", title=title, summary="", paragraphs=[said] * sentences, language=language)
    same = article("same", title=also, summary="", paragraphs=[also, f"{also} {title}"], language=language, days_ago=9)
    best, *rest = listed(replay([page, same, *others]), days_ago=1).recommendations
    assert best.article.id == "same"
    assert all(best.score > 5 * link.score for link in rest)
    assert best.reason.split(":")[0] in ("same story", "same subject")
    assert all(math.isfinite(part.contribution) for link in (best, *rest) for part in link.parts)


def test_inline_links_stand_where_the_page_speaks_of_them(replay: Build) -> None:
    """An inline link follows the paragraph on its subject."""
    harbour, theatre = piece("x").paragraphs, piece("y", "theatre").paragraphs
    page = piece("page", paragraphs=[*harbour[:3], theatre[0], theatre[1], *harbour[3:]])
    stage = piece("stage", "theatre", section="harbour", paragraphs=theatre[:1])
    slot = Slot.model_validate({"name": "inline", "placement": "inline", "count": 1, "min_score": 0.0})
    plan = filled(replay([page, stage]), slot)
    assert [(place.after_paragraph, place.recommendation is not None) for place in plan.slots[0].places] == [(3, True)]


def test_a_plan_names_its_slots_and_the_cards_of_its_articles(replay: Build) -> None:
    """A plan gives each slot by name with the layout's terms, and each link's article with id, address and title."""
    target = piece("a")
    slots = (end(2, name="read_more"), end(1, name="more"))
    first, second = filled(replay([piece("page"), target]), *slots).slots
    assert [(slot.name, slot.slot, len(slot.places)) for slot in (first, second)] == [
        ("read_more", slots[0], 2),
        ("more", slots[1], 1),
    ]
    link = first.places[0].recommendation
    assert link is not None
    card = link.article
    assert (card.id, card.url, card.title) == (target.id, target.url, target.title)
    assert (link.published_at_ms, link.fallback) == (target.published_at_ms, False)
    assert [(place.recommendation, place.empty) for place in (*first.places[1:], *second.places)] == [
        (None, Empty.NO_CANDIDATES),
        (None, Empty.NO_CANDIDATES),
    ]


# The receipt


@pytest.fixture
def mixed(build: Build) -> Live:
    """Return an archive in which several rules remove something from the page's candidates."""
    page, text = piece("page", rules=Rules(never_with=("apart",))), piece("a0")
    return build(
        [
            page,
            *(piece(f"a{n}", days_ago=n + 1) for n in range(5)),
            *(piece(f"t{n}", "theatre", days_ago=n + 1) for n in range(4)),
            piece("copy", paragraphs=page.paragraphs),
            piece("twin", paragraphs=text.paragraphs),
            piece("apart"),
            piece("linked"),
            piece("french", language="fr"),
        ]
    )


def test_a_list_s_receipt_adds_up(mixed: Live) -> None:
    """Candidates seen are those returned plus those that each rule removed; filters remove none."""
    answer = listed(mixed, on_page_ids=("linked",))
    receipt = answer.receipt
    assert receipt.removals == {
        "page_itself": 1,
        "on_page": 1,
        "near_copy_of_page": 1,
        "near_copy_of_link": 1,
        "never_with": 1,
    }
    assert set(list(receipt.removals)[:2]) == {"page_itself", "on_page"}, "the search's own come first"
    assert receipt.candidates_seen == len(answer.recommendations) + sum(receipt.removals.values()) == 14


def test_a_plan_s_receipt_adds_up(mixed: Live) -> None:
    """With room for all, every candidate is on the page or was removed by one rule."""
    scores = sorted(link.score for link in links_of(listed(mixed)))
    assert all(filled(mixed, end()).receipt.removals.values()), "rules that removed none are left out"
    plan = filled(mixed, end(min_score=(scores[3] + scores[4]) / 2), on_page_ids=("linked",))
    removals = plan.receipt.removals
    assert removals["below_min_score:more"] == 4
    assert plan.receipt.candidates_seen == len(ids_of(plan)) + sum(removals.values())


def test_slots_that_share_candidates_count_them_once(mixed: Live) -> None:
    """Two slots with the same query share one search; a slot with other filters adds its candidates."""
    one = filled(mixed, end(2)).receipt
    two = filled(mixed, end(2), end(2, name="again")).receipt
    assert (one.candidates_seen, one.removals["page_itself"]) == (two.candidates_seen, two.removals["page_itself"])
    apart = [end(1, name=name, filters={"sections": [name]}) for name in ("harbour", "theatre")]
    three = filled(mixed, end(1), *apart).receipt
    assert (three.candidates_seen, three.removals["page_itself"]) == (one.candidates_seen, 1)


def test_slots_share_searches_and_scores(replay: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots that differ in nothing share search and scores; those that differ only in half-life share the search."""
    live = replay([piece("page"), piece("a"), piece("b", "theatre")])
    calls: Counter[str] = Counter()

    def count(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count(recommend, "retrieve")
    count(Ranker, "gather")
    count(Ranker, "score")
    slots = [
        end(1, name="first"),
        end(2, name="second", diversity=0.9),
        end(1, name="slow", freshness_half_life_days=400),
        end(1, name="stage", filters={"sections": ["theatre"]}),
    ]
    filled(live, *slots)
    assert calls == {"retrieve": 2, "gather": 2, "score": 3}


def test_the_receipt_names_what_the_answer_was_made_of(mixed: Live) -> None:
    """The receipt has revision, encoder, ranker, layout, time and the page's language."""
    receipt = filled(mixed, end(1), days_ago=1).receipt
    assert receipt.revision == mixed.revision == 15
    assert receipt.encoder == FakeEmbedder().info.key
    assert (receipt.ranker, receipt.layout, receipt.page_language) == ("formula-3", "ours", "en")
    assert receipt.as_of_ms == NOW_MS - DAY_MS
    assert listed(mixed).receipt.layout == ""


# Errors


@pytest.mark.parametrize("ask", [listed, filled])
def test_an_unknown_page(ask: Callable[..., object], replay: Build) -> None:
    """The error for an unknown page says what to do."""
    with pytest.raises(NotFoundError) as caught:
        ask(replay([piece("a")]), page="nowhere")
    assert str(caught.value) == "unknown article 'nowhere' (upsert it first, or send the page as a draft)"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("", NOW_MS), "article_id: is empty (send the article's id)"),
        (Request("x" * 600, NOW_MS), "article_id: is 600 bytes long; at most 512 (use a shorter id)"),
    ],
    ids=["no id", "long id"],
)
def test_a_request_that_cannot_be_used(request_: Request, message: str, empty: Snapshot) -> None:
    """Plan and list refuse an unusable id alike, naming the field."""
    recommender = Recommender(replayed(empty, [piece("page"), piece("a")]))
    for ask in (recommender.fill_slots, recommender.list_related):
        with pytest.raises(InvalidInputError) as caught:
            ask(request_)
        assert str(caught.value) == message


@pytest.mark.parametrize("k", [0, -1, 101, 1_000_000])
def test_k_is_bounded(k: int, empty: Snapshot) -> None:
    """A list may have 1 to 100 articles."""
    with pytest.raises(InvalidInputError) as caught:
        Recommender(replayed(empty, [piece("page")])).list_related(Request("page", NOW_MS), k)
    assert str(caught.value) == f"k: is {k} (ask for 1 to 100)"


# Drafts


def draft(text: Article, *, url: str = "", days_ago: float = 1.0, labels: Labels = NO_LABELS) -> Draft:
    """Return an article's text as a draft."""
    body = Body(text.title, text.summary, text.paragraphs)
    vectors = embed([body], FakeEmbedder())[0]
    return Draft(body, vectors, analyse(body), NOW_MS - int(days_ago * DAY_MS), url=url, labels=labels)


def test_a_draft_is_answered_like_the_same_article_stored(replay: Build) -> None:
    """A draft gets the same list as the stored article, with the same scores within the stored precision."""
    page = piece("page", days_ago=3)
    live = replay([page, *(piece(f"a{n}", days_ago=n + 1) for n in range(6)), piece("b", "theatre")])
    by_id = listed(live)
    by_draft = listed(live, draft(page, days_ago=3, url=page.url, labels=page.labels))
    assert ids_of(by_draft) == ids_of(by_id)
    assert [link.score for link in links_of(by_draft)] == pytest.approx(
        [link.score for link in links_of(by_id)], abs=2e-3
    )
    assert by_draft.receipt.removals == {"same_url_as_page": 1}
    assert by_draft.receipt.candidates_seen == by_id.receipt.candidates_seen


def test_a_draft_without_labels_takes_every_language_and_site(replay: Build) -> None:
    """Unknown labels of a draft do not restrict, and a draft is not its own candidate."""
    live = replay([piece("a", language="fr"), piece("b", site="elsewhere.example"), piece("c")])
    assert everywhere(live, page=draft(piece("page"))) == {"a", "b", "c"}
    assert everywhere(live, page=draft(piece("page"), labels=Labels(language="fr"))) == {"a"}


def test_an_empty_archive_has_no_candidates(build: Build) -> None:
    """In an empty archive a draft gets an empty page with the reason."""
    plan = filled(build([]), page=draft(piece("page")))
    assert empties_of(plan) == [Empty.NO_CANDIDATES] * 5
    assert plan.receipt.candidates_seen == 0


def test_a_draft_of_one_word(replay: Build) -> None:
    """A draft of one word is too short for inline links, and gets a list at the end."""
    body = Body("Pier", "", ())
    one = Draft(body, embed([body], FakeEmbedder())[0], analyse(body), NOW_MS)
    plan = filled(replay([piece("a"), piece("b")]), page=one)
    assert empties_of(plan)[:2] == [Empty.PAGE_TOO_SHORT] * 2


def test_the_page_of_a_draft_and_of_a_stored_article_are_the_same(build: Build) -> None:
    """Draft and stored article give the same terms, paragraphs and sketch, and vectors within stored precision."""
    text = piece(
        "page",
        tags=["quay", "tide"],
        author="Ines Vale",
        paragraphs=[*piece("x").paragraphs, Paragraph("Photo", ParagraphKind.MEDIA), Paragraph("")],
    )
    live = build([text, piece("a"), piece("b", "theatre")])
    row = live.find("page")
    assert row is not None
    one, two = stored_page(live, row), draft_page(live, draft(text, labels=text.labels))
    assert one.kinds == two.kinds == "11111133"
    assert one.labels == two.labels == text.labels
    assert (text.labels.section, text.labels.author) == ("harbour", "Ines Vale")
    assert one.surfaces == two.surfaces
    assert one.ids.tolist() == two.ids.tolist()
    assert one.masks.tolist() == two.masks.tolist()
    assert one.sketch.tolist() == two.sketch.tolist()
    assert one.weights == pytest.approx(two.weights, abs=1e-3)
    assert one.main == pytest.approx(two.main, abs=2e-3)
    assert one.head == pytest.approx(two.head, abs=2e-3)
    assert (two.row, two.id, two.never_source, two.never_with) == (None, "", False, ())


# Preparation


class CountingEmbedder(FakeEmbedder):
    """Counts its calls."""

    calls = 0

    def encode(self, texts: Sequence[str]) -> Matrix:
        self.calls += 1
        return super().encode(texts)


def test_many_texts_are_embedded_in_one_call_in_their_order() -> None:
    """Each text of a batch gets the vectors that it gets alone, whatever its number of passages."""
    texts = [piece("a"), piece("b", paragraphs=()), piece("c", title="", summary=""), piece("d", "theatre")]
    embedder = CountingEmbedder()
    together = embed(texts, embedder)
    assert embedder.calls == 1
    for text, vectors in zip(texts, together, strict=True):
        (alone,) = embed([text], FakeEmbedder())
        assert np.array_equal(vectors.main, alone.main)
        assert np.array_equal(vectors.head, alone.head)
    assert len({vectors.main.tobytes() for vectors in together}) == 4
