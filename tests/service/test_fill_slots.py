"""FillSlots, ListRelated and BatchFillSlots over gRPC, answered by a real server."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.answer.layout import DEFAULT_LAYOUT
from recommender.answer.recommend import Recommender
from recommender.clock import DAY_MS
from recommender.rpc.messages import timestamp
from tests.building import NOW_MS
from tests.newsroom import PAGE, SECTIONS
from tests.service.client import TIMEOUT_S, Client, refusal
from tests.service.messages import NOW, draft, equal, ids_of, message
from tests.service.servers import SIDE_LAYOUT, Host

HARBOUR = {f"harbour-{number}" for number in range(8)}


def end_slot(name: str = "more", count: int = 3, **values: Any) -> related_pb.Slot:
    """Return an end slot."""
    return related_pb.Slot(name=name, placement=related_pb.SLOT_PLACEMENT_END, count=count, **values)


def inline_slot(name: str = "inline", count: int = 2, **values: Any) -> related_pb.Slot:
    """Return an inline slot."""
    return related_pb.Slot(name=name, placement=related_pb.SLOT_PLACEMENT_INLINE, count=count, **values)


def layout(*slots: related_pb.Slot, name: str = "ours") -> related_pb.Layout:
    """Return an inline layout."""
    return related_pb.Layout(name=name, slots=slots)


# Pages


def test_a_page_that_is_requested_again_gets_the_same_plan_at_another_time(reading: Client) -> None:
    """Cached or not, the receipt has the time of the request, not of the plan; another request has another plan."""
    times = [timestamp(NOW_MS), timestamp(NOW_MS + 60_000)]
    first, again = (reading.fill(article_id=PAGE, as_of=as_of) for as_of in times)
    assert [first.receipt.as_of, again.receipt.as_of] == times
    other = reading.fill(article_id=PAGE, on_page_ids=ids_of(first)[:1])
    assert not set(ids_of(first)[:1]) & set(ids_of(other))
    first.receipt.ClearField("as_of")
    again.receipt.ClearField("as_of")
    assert first == again


@pytest.mark.parametrize(
    ("named", "made"),
    [
        ({"on_page_ids": [f"x{i}" for i in range(100)]}, 1),
        ({"on_page_ids": [f"x{i}" for i in range(101)]}, 2),
        ({"filters": {"sections": [f"s{i}" for i in range(60)], "tags": [f"t{i}" for i in range(40)]}}, 1),
        ({"filters": {"sections": [f"s{i}" for i in range(61)], "tags": [f"t{i}" for i in range(40)]}}, 2),
        ({"layout": {"sections": [f"s{i}" for i in range(100)]}}, 1),
        ({"layout": {"sections": [f"s{i}" for i in range(100)], "sites": ["x"]}}, 2),
    ],
)
def test_a_plan_is_cached_unless_its_request_is_large(
    reading: Client, monkeypatch: pytest.MonkeyPatch, named: dict[str, Any], made: int
) -> None:
    """The request is cached with the plan as its key: thousands of long lists would fill the memory."""
    plans = []
    real = Recommender.fill_slots

    def counting(self: Recommender, *asked: Any) -> Any:
        plans.append(asked)
        return real(self, *asked)

    monkeypatch.setattr(Recommender, "fill_slots", counting)
    values = dict(named)
    if "filters" in named:
        values["filters"] = common_pb.Filters(**named["filters"])
    if "layout" in named:
        values["layout"] = layout(end_slot(filters=common_pb.Filters(**named["layout"])))
    first, again = (reading.fill(article_id=PAGE, **values) for _ in range(2))
    assert first == again
    assert len(plans) == made


def test_a_stored_page_is_filled_with_distinct_articles_of_its_own_subject(reading: Client) -> None:
    """All five places of the default layout hold other harbour articles, none of them twice."""
    chosen = ids_of(reading.fill(article_id=PAGE))
    assert len(chosen) == 5
    assert len(set(chosen)) == 5
    assert set(chosen) <= HARBOUR - {PAGE}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_draft_is_filled_from_its_own_subject_and_not_stored(reading: Client, section: str) -> None:
    """The draft gets five articles of its beat; the archive stays as it was."""
    before = reading.status()
    chosen = ids_of(reading.fill(draft=draft(section)))
    after = reading.status()
    assert len(set(chosen)) == 5
    assert {article_id.split("-")[0] for article_id in chosen} == {section}
    assert (after.article_count, after.revision) == (before.article_count, before.revision)


def test_a_draft_with_a_stored_url_is_that_article_and_does_not_link_to_it(reading: Client) -> None:
    """A draft that names an indexed article's address never gets this article, and the receipt says why."""
    asked = list(ids_of(reading.list(draft=draft(), k=100)))
    own = asked[0]
    answer = reading.list(draft=draft(url=f"https://courier.example/{own}"), k=100)
    assert ids_of(answer) == asked[1:]
    assert {r.rule: r.count for r in answer.receipt.removals} == {"same_url_as_page": 1}


def test_every_place_is_either_filled_or_says_why_not(reading: Client) -> None:
    """Each slot has exactly `count` places; inline links stand in page order, end links best first."""
    asked = layout(inline_slot(count=4), end_slot(count=12))
    plan = reading.fill(article_id=PAGE, layout=asked)
    assert [(slot.name, slot.placement, len(slot.places)) for slot in plan.slots] == [
        ("inline", related_pb.SLOT_PLACEMENT_INLINE, 4),
        ("more", related_pb.SLOT_PLACEMENT_END, 12),
    ]
    for slot in plan.slots:
        filled = [place for place in slot.places if place.HasField("recommendation")]
        assert list(slot.places[: len(filled)]) == filled
        assert all(place.empty_reason == related_pb.EMPTY_REASON_UNSPECIFIED for place in filled)
        assert all(place.empty_reason for place in slot.places[len(filled) :])
    inline, end = plan.slots
    at = [p.after_paragraph for p in inline.places if p.HasField("after_paragraph")]
    assert at == sorted(at)
    assert len(at) == sum(place.HasField("recommendation") for place in inline.places) > 0
    assert all(2 <= position < 7 for position in at), "after three text paragraphs, before the last"
    assert not any(place.HasField("after_paragraph") for place in end.places)
    scores = [place.recommendation.score for place in end.places if place.HasField("recommendation")]
    assert scores == sorted(scores, reverse=True)


def test_positions_count_the_draft_s_own_paragraphs_whatever_their_kind(reading: Client) -> None:
    """Headings and media keep their index, and no link stands directly after one."""
    body = draft().paragraphs
    heading = common_pb.Paragraph(text="What comes next", kind=common_pb.PARAGRAPH_KIND_HEADING)
    media = common_pb.Paragraph(kind=common_pb.PARAGRAPH_KIND_MEDIA)
    mixed = [body[0], media, body[1], body[2], heading, body[3], body[4], media, body[5], body[6], body[7]]
    plan = reading.fill(draft=draft(paragraphs=mixed))
    at = [place.after_paragraph for place in plan.slots[0].places]
    assert len(at) == 2
    assert set(at) <= {3, 5, 6, 8, 9}


def test_a_short_page_gets_no_inline_links_and_says_so(reading: Client) -> None:
    """A draft of four paragraphs is too short for inline links, not for the list at the end."""
    plan = reading.fill(draft=draft(paragraphs=draft().paragraphs[:4]))
    inline, end = plan.slots
    assert [place.empty_reason for place in inline.places] == [related_pb.EMPTY_REASON_PAGE_TOO_SHORT] * 2
    assert all(place.HasField("recommendation") for place in end.places)


# Layouts


def test_no_layout_means_the_one_named_default(reading: Client) -> None:
    """Leaving the layout out and naming "default" give the same plan, which is the built-in one."""
    plan = reading.fill(article_id=PAGE)
    assert equal(plan, reading.fill(article_id=PAGE, layout_name="default"))
    assert [slot.name for slot in plan.slots] == [slot.name for slot in DEFAULT_LAYOUT.slots]
    assert plan.receipt.layout == "default"


def test_a_layout_of_the_settings_is_found_by_name(reading: Client) -> None:
    """A named layout gives its own slots; the status lists its name."""
    plan = reading.fill(article_id=PAGE, layout_name=SIDE_LAYOUT.name)
    assert [(slot.name, len(slot.places)) for slot in plan.slots] == [("beside", 4)]
    assert plan.receipt.layout == "side"
    assert list(reading.status().layouts) == ["default", "side"]


def test_an_inline_layout_equals_the_same_layout_by_name(reading: Client) -> None:
    """The layout "side" sent in the request is answered as the one in the settings."""
    sent = layout(end_slot("beside", 4, min_score=0.0, diversity=0.1), name="side")
    assert equal(reading.fill(article_id=PAGE, layout=sent), reading.fill(article_id=PAGE, layout_name="side"))


def test_an_earlier_slot_has_the_first_choice(reading: Client) -> None:
    """With no diversity asked for, the first slot holds the best of the list and the second the next ones."""
    best = ids_of(reading.list(article_id=PAGE, k=4))
    asked = layout(end_slot("first", 2, diversity=0.0), end_slot("second", 2, diversity=0.0))
    assert ids_of(reading.fill(article_id=PAGE, layout=asked)) == best


def test_a_slot_s_filters_narrow_that_slot_alone(reading: Client) -> None:
    """One slot takes theatre only, the other is free; a slot whose filters meet nothing says NO_CANDIDATES."""
    asked = layout(
        end_slot("stage", 2, min_score=0.0, filters=common_pb.Filters(sections=["theatre"])),
        end_slot("any", 2),
        end_slot("none", 1, min_score=0.0, filters=common_pb.Filters(sections=["no such section"])),
    )
    stage, free, none = reading.fill(article_id=PAGE, layout=asked).slots
    assert {place.recommendation.article.section for place in stage.places} == {"theatre"}
    assert {place.recommendation.article.section for place in free.places} == {"harbour"}
    assert [place.empty_reason for place in none.places] == [related_pb.EMPTY_REASON_NO_CANDIDATES]


def test_a_slot_may_ask_for_every_language_and_name_a_regional_one(service: Client) -> None:
    """In a slot's filters "*" stands for every language and "fr-CA" for French, as in the request's."""
    service.upsert(message("fr", title="Crane tide pier quay tug", language="fr-FR", section="harbour"))
    wide = common_pb.Filters(languages=["*"])
    for own in (common_pb.Filters(languages=["*"]), common_pb.Filters(languages=["fr-CA"])):
        asked = layout(end_slot(count=20, min_score=0.0, filters=own))
        assert "fr" in ids_of(service.fill(article_id=PAGE, layout=asked, filters=wide))
    asked = layout(end_slot(count=20, min_score=0.0, filters=common_pb.Filters(languages=["fr"])))
    assert ids_of(service.fill(article_id=PAGE, layout=asked)) == [], "the request keeps to the page's language"


def test_min_score_and_max_age_keep_articles_out(reading: Client) -> None:
    """A bound on scores gives BELOW_MIN_SCORE, one on age leaves only articles that are young enough."""
    strict = reading.fill(article_id=PAGE, layout=layout(end_slot(count=2, min_score=1.0)))
    assert [place.empty_reason for place in strict.slots[0].places] == [related_pb.EMPTY_REASON_BELOW_MIN_SCORE] * 2
    young = layout(end_slot(count=20, min_score=0.0, max_age=Duration(seconds=4 * 86_400)))
    places = reading.fill(article_id=PAGE, layout=young).slots[0].places
    dates = [place.recommendation.article.published_at for place in places]
    days = {(NOW_MS // 1000 - at.seconds) / 86_400 for at in dates if at.seconds}
    assert days == {1, 4}, "the page is one day old, so that an article may be five days old"


def test_a_fallback_is_the_latest_of_the_section_and_is_marked(reading: Client) -> None:
    """Where nothing is good enough, the slot's fallback gives the section's latest, with score 0 and `fallback`."""
    asked = layout(end_slot(count=3, min_score=1.0, fallback=related_pb.SLOT_FALLBACK_LATEST_IN_SECTION))
    places = reading.fill(article_id=PAGE, layout=asked).slots[0].places
    assert [place.recommendation.article.id for place in places] == ["harbour-1", "harbour-2", "harbour-3"]
    assert all(place.recommendation.fallback and place.recommendation.score == 0 for place in places)


# What narrows an answer


def test_articles_that_are_on_the_page_already_are_left_out(reading: Client) -> None:
    """A thousand on_page_ids never come back, unknown ones are ignored, and the receipt counts the stored ones."""
    first = ids_of(reading.fill(article_id=PAGE))
    plan = reading.fill(article_id=PAGE, on_page_ids=[*first[:2], *(f"never-heard-of-{n}" for n in range(998))])
    assert not set(ids_of(plan)) & set(first[:2])
    assert {r.rule: r.count for r in plan.receipt.removals}["on_page"] == 2


def test_as_of_answers_from_what_was_public_then(reading: Client) -> None:
    """As of ten days ago only articles that were published by then are recommended, and the receipt says so."""
    then = NOW_MS - 10 * DAY_MS
    answer = reading.list(article_id=PAGE, k=100, as_of=timestamp(then))
    ages = {(NOW_MS // 1000 - r.article.published_at.seconds) / 86_400 for r in answer.recommendations}
    assert ages == {10, 13, 16, 19, 22}
    assert answer.receipt.as_of == timestamp(then)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"sections": ["theatre", "glaciers"]}, lambda r: r.article.section in {"theatre", "glaciers"}),
        ({"tags": ["tag-1"]}, lambda r: int(r.article.id[-1]) % 2 == 1),
        ({"languages": ["en-GB"]}, lambda _: True),
        ({"languages": ["de"]}, None),
        ({"languages": ["*"], "sites": ["*"]}, lambda _: True),
        ({"sites": ["elsewhere.example"]}, None),
        ({"published_from": timestamp(NOW_MS - 4 * DAY_MS)}, lambda r: r.article.id[-1] in "01"),
        ({"published_before": timestamp(NOW_MS - 4 * DAY_MS)}, lambda r: r.article.id[-1] not in "01"),
    ],
    ids=["sections", "tags", "regional tag", "other language", "every", "other site", "from", "before"],
)
def test_filters_choose_among_all_articles(reading: Client, filters: dict[str, Any], expected: Any) -> None:
    """The list under a filter is the whole list without what the filter forbids, in the same order."""
    everything = reading.list(article_id=PAGE, k=100).recommendations
    assert len(everything) == 39
    wanted = [r.article.id for r in everything if expected is not None and expected(r)]
    assert ids_of(reading.list(article_id=PAGE, k=100, filters=common_pb.Filters(**filters))) == wanted


def test_labels_are_compared_as_articles_store_them(service: Client) -> None:
    """Accents in one or two characters, and spaces around a label, make no difference in a filter of either kind."""
    labels = {"section": "Économie", "tags": ["Pêche"], "site": "Québec"}
    service.upsert(message("accents", **labels))
    for filters in (
        common_pb.Filters(sections=[" E\u0301conomie"], tags=["Pe\u0302che "], sites=["Que\u0301bec\n"]),
        common_pb.Filters(sections=["Économie"], tags=["Pêche"], sites=["Québec"]),
    ):
        assert ids_of(service.list(article_id=PAGE, filters=filters)) == ["accents"]
        asked = layout(end_slot(min_score=0.0, filters=filters))
        assert ids_of(service.fill(article_id=PAGE, layout=asked, filters=common_pb.Filters(sites=["*"]))) == [
            "accents"
        ]


# Lists


def test_a_list_is_sorted_and_cut_at_k(reading: Client) -> None:
    """Scores fall from first to last; k bounds the list, and it is ten when unset."""
    everything = reading.list(article_id=PAGE, k=100)
    scores = [r.score for r in everything.recommendations]
    assert scores == sorted(scores, reverse=True)
    assert ids_of(reading.list(article_id=PAGE, k=3)) == ids_of(everything)[:3]
    assert ids_of(reading.list(article_id=PAGE)) == ids_of(everything)[:10]


def test_a_list_drops_what_is_below_min_score_and_what_is_excluded(reading: Client) -> None:
    """min_score keeps the harbour's seven; excluded ids are left out of them."""
    related = reading.list(article_id=PAGE, k=100, min_score=0.5)
    assert set(ids_of(related)) == HARBOUR - {PAGE}
    fewer = reading.list(article_id=PAGE, k=100, min_score=0.5, exclude_ids=["harbour-3"])
    assert ids_of(fewer) == [i for i in ids_of(related) if i != "harbour-3"]


def test_score_parts_sum_to_the_score_s_log_odds(reading: Client) -> None:
    """The contributions, "base" included, add up to the log-odds of the score, largest first."""
    for recommendation in reading.list(article_id=PAGE, k=100).recommendations:
        parts = recommendation.score_parts
        assert parts[-1].name == "base"
        log_odds = sum(part.contribution for part in parts)
        assert recommendation.score == pytest.approx(1 / (1 + math.exp(-log_odds)), rel=1e-4)
        sizes = [abs(part.contribution) for part in parts[:-1]]
        assert sizes == sorted(sizes, reverse=True)
        assert recommendation.reason


def test_a_draft_s_tags_count(reading: Client) -> None:
    """The part "tags" is the share of tags in common with the draft's cleaned ones; without tags it is 0."""

    def tags_of(answer: related_pb.ListRelatedResponse) -> dict[str, tuple[float, float]]:
        parts = {r.article.id: {p.name: p for p in r.score_parts}["tags"] for r in answer.recommendations}
        return {id: (part.value, part.contribution) for id, part in parts.items()}

    tagged = tags_of(reading.list(draft=draft(tags=[" harbour", "tag-1", "tag-1", "fish", "\0"]), k=100))
    untagged = tags_of(reading.list(draft=draft(), k=100))
    assert set(tagged) == set(untagged)
    assert set(tagged) >= HARBOUR
    for id, (value, contribution) in tagged.items():
        section, number = id.split("-")
        own = {section, f"tag-{int(number) % 2}"}
        asked = {"harbour", "tag-1", "fish"}
        assert value == pytest.approx(len(own & asked) / len(own | asked))
        assert (contribution > 0) == (value > 0)
    assert set(untagged.values()) == {(0.0, 0.0)}


def test_a_draft_s_author_counts(service: Client) -> None:
    """The part "author" is 1 for articles of the draft's own author, and 0 for all where the draft names none."""
    service.upsert(message("hers", section="harbour", author="Ines Vale", title="Pier and crane"))

    def authors_of(sent: related_pb.Draft) -> dict[str, float]:
        links = service.list(draft=sent, k=100).recommendations
        return {r.article.id: {p.name: p.value for p in r.score_parts}["author"] for r in links}

    signed, unsigned = authors_of(draft(author=" Ines  Vale")), authors_of(draft())
    assert signed == dict.fromkeys(unsigned, 0.0) | {"hers": 1.0}
    assert set(unsigned.values()) == {0.0}


def test_the_receipt_says_how_the_answer_came_about(reading: Client) -> None:
    """Revision and model are those of the status, every article was seen, and the page itself was removed."""
    receipt, status = reading.list(article_id=PAGE, k=100).receipt, reading.status()
    assert (receipt.revision, receipt.model) == (status.revision, status.model)
    assert (receipt.layout, receipt.as_of, list(receipt.warnings)) == ("", NOW, [])
    assert receipt.candidates_seen == 40
    assert [(r.rule, r.count) for r in receipt.removals] == [("page_itself", 1)]


# Batches


def test_a_batch_answers_every_id_in_order_as_fill_slots_would(reading: Client) -> None:
    """Each page of a batch is the plan that FillSlots gives; an id that stands twice is answered twice."""
    wanted = ["theatre-2", PAGE, "theatre-2"]
    batch = reading.related.BatchFillSlots(related_pb.BatchFillSlotsRequest(article_ids=wanted, as_of=NOW))
    assert [page.article_id for page in batch.pages] == wanted
    assert all(equal(page.plan, reading.fill(article_id=page.article_id)) for page in batch.pages)


def test_a_bad_id_of_a_batch_fails_alone(reading: Client) -> None:
    """Unknown, empty and overlong ids each get their problem, the others their plans."""
    wanted = [PAGE, "unknown", "", "x" * 10_000, "glaciers-1"]
    batch = reading.related.BatchFillSlots(related_pb.BatchFillSlotsRequest(article_ids=wanted, as_of=NOW))
    assert [page.WhichOneof("result") for page in batch.pages] == ["plan", "problem", "problem", "problem", "plan"]
    assert [page.article_id for page in batch.pages] == wanted
    problems = [(page.problem.code, page.problem.field, page.problem.message) for page in batch.pages[1:4]]
    assert problems == [
        ("NOT_FOUND", "", "unknown article 'unknown'"),
        ("INVALID_ARGUMENT", "article_ids[2]", "article_ids[2]: is empty"),
        ("INVALID_ARGUMENT", "article_ids[3]", "article_ids[3]: is 10,000 bytes long; at most 512"),
    ]


def test_a_batch_takes_layout_filters_and_as_of(reading: Client) -> None:
    """What FillSlots takes beside the page, a batch takes for all pages."""
    filters = common_pb.Filters(sections=["railways"])
    then = timestamp(NOW_MS - 5 * DAY_MS)
    asked: dict[str, Any] = {"layout": layout(end_slot(count=20, min_score=0.0)), "filters": filters, "as_of": then}
    batch = reading.related.BatchFillSlots(related_pb.BatchFillSlotsRequest(article_ids=[PAGE], **asked))
    assert equal(batch.pages[0].plan, reading.fill(article_id=PAGE, **asked))
    assert set(ids_of(batch.pages[0].plan)) == {f"railways-{n}" for n in range(2, 8)}


def test_the_bound_on_a_batch_is_that_of_the_settings(reading: Client, host: Host, data_dir: Any) -> None:
    """101 pages are refused by default, three where the setting is two; no page at all is refused too."""
    too_many = related_pb.BatchFillSlotsRequest(article_ids=[PAGE] * 101)
    refused = refusal(lambda: reading.related.BatchFillSlots(too_many))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.violations == {"article_ids": "has 101 entries (send 1 to 100)"}
    assert refusal(lambda: reading.related.BatchFillSlots(related_pb.BatchFillSlotsRequest())).violations == {
        "article_ids": "has 0 entries (send 1 to 100)"
    }
    with host.server(data_dir, pages_per_batch=2) as (small, _):
        assert len(small.related.BatchFillSlots(related_pb.BatchFillSlotsRequest(article_ids=[PAGE] * 2)).pages) == 2
        refused = refusal(
            lambda: small.related.BatchFillSlots(related_pb.BatchFillSlotsRequest(article_ids=[PAGE] * 3))
        )
        assert refused.violations == {"article_ids": "has 3 entries (send 1 to 2)"}


# Many at once


def test_concurrent_clients_get_the_answers_that_they_would_get_alone(reading: Client) -> None:
    """Sixteen threads that ask for different pages by id and by draft each get their own page's plan."""
    ids = [f"{section}-{number}" for section in SECTIONS for number in range(8)]
    alone = {i: reading.fill(article_id=i) for i in ids} | {s: reading.fill(draft=draft(s)) for s in SECTIONS}

    def ask(key: str) -> bool:
        page: dict[str, Any] = {"draft": draft(key)} if key in SECTIONS else {"article_id": key}
        return equal(reading.fill(**page), alone[key])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, [*alone] * 4, timeout=TIMEOUT_S))
