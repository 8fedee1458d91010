"""Every input that cannot be used is refused with a code, words that name field and remedy, and google.rpc details."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.catalog.opening import STORE_FILE
from recommender.catalog.store.store import create_store
from recommender.clock import DAY_MS, now_ms
from recommender.encoding.embedder import ModelInfo
from recommender.errors import MismatchError, NotFoundError
from recommender.rpc.messages import timestamp
from tests.building import NOW_MS, FakeEmbedder, open_archive
from tests.newsroom import PAGE
from tests.service.client import ARTICLES, RELATED, TIMEOUT_S, Client, Refusal, refusal
from tests.service.messages import draft, ids_of, message
from tests.service.servers import Host, TroubledEmbedder
from tests.service.test_fill_slots import end_slot, inline_slot, layout

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NAN = float("nan")
LONG_ID = "x" * 10_240
UINT32_MAX = (1 << 32) - 1
UINT64_MAX = (1 << 64) - 1

Call = Callable[[Client], object]


def invalid(field: str, description: str) -> Refusal:
    """Return the refusal of one bad field."""
    message = f"{field}: {description}"
    return Refusal(INVALID, message, "INVALID_INPUT", "related-news", {field: description})


def unknown(kind: str, name: str, fix: str = "") -> Refusal:
    """Return the refusal of a name that is not there."""
    message = f"unknown {kind} {name!r}" + (f" ({fix})" if fix else "")
    return Refusal(grpc.StatusCode.NOT_FOUND, message, "NOT_FOUND", "related-news", resource=(kind, name))


def fill(**values: Any) -> Call:
    """Return a FillSlots call for the stored page, or as `values` say."""
    page = {} if "draft" in values or "article_id" in values else {"article_id": PAGE}
    return lambda client: client.fill(**page, **values)


def listing(**values: Any) -> Call:
    """Return a ListRelated call for the stored page."""
    return lambda client: client.list(**{"article_id": PAGE, **values})


def with_slot(slot: related_pb.Slot) -> Call:
    """Return a FillSlots call with a layout of one slot."""
    return fill(layout=layout(slot))


def text(paragraphs: int = 1, chars: int = 5) -> list[common_pb.Paragraph]:
    """Return a body."""
    return [common_pb.Paragraph(text="x" * chars)] * paragraphs


ID_FIX = "(send the article's id)"
TIME_FIX = "is not a time between 1970 and 9999 (send seconds since 1970, UTC)"
SEE = "(see Layout in the contract)"
AN_ARTICLE_FIX = "upsert it first, or send the page as a draft"
SLOT = "layout.slots[0]"
LATER = "(send a time after published_from and after 1970)"

REFUSED: dict[str, tuple[Call, Refusal]] = {
    # The page
    "no page": (
        lambda c: c.related.FillSlots(related_pb.FillSlotsRequest()),
        invalid("page", "is missing (send article_id or draft)"),
    ),
    "list without a page": (
        lambda c: c.related.ListRelated(related_pb.ListRelatedRequest()),
        invalid("page", "is missing (send article_id or draft)"),
    ),
    "empty id": (fill(article_id=""), invalid("article_id", f"is empty {ID_FIX}")),
    "id of 10 kB": (
        fill(article_id=LONG_ID),
        invalid("article_id", "is 10,240 bytes long; at most 512 (use a shorter id)"),
    ),
    "NUL in an id": (
        fill(article_id="a\0b"),
        invalid("article_id", "'a\\x00b' has control characters or outer white space (use plain text for ids)"),
    ),
    "space around an id": (
        fill(article_id=" a"),
        invalid("article_id", "' a' has control characters or outer white space (use plain text for ids)"),
    ),
    "unknown article": (fill(article_id="nobody"), unknown("article", "nobody", AN_ARTICLE_FIX)),
    "unknown article, longest id": (fill(article_id="ü" * 256), unknown("article", "ü" * 256, AN_ARTICLE_FIX)),
    "list for an unknown article": (listing(article_id="nobody"), unknown("article", "nobody", AN_ARTICLE_FIX)),
    "empty draft": (
        fill(draft=related_pb.Draft()),
        invalid("draft.title", "title, summary and paragraphs are all empty (send at least one of them)"),
    ),
    "draft of white space and control characters": (
        fill(draft=related_pb.Draft(title=" \t", summary="\0", paragraphs=[common_pb.Paragraph(text="\x01\n")])),
        invalid("draft.title", "title, summary and paragraphs are all empty (send at least one of them)"),
    ),
    "draft's title too long": (
        fill(draft=draft(title="x" * 1001)),
        invalid("draft.title", "1,001 characters; at most 1,000 (shorten or split the text)"),
    ),
    "draft's body of 5 MB": (
        fill(draft=draft(paragraphs=text(5, 1 << 20))),
        invalid("draft.paragraphs", "5,242,880 characters; at most 1,000,000 (shorten or split the text)"),
    ),
    "draft of too many paragraphs": (
        fill(draft=draft(paragraphs=text(5001, 1))),
        invalid("draft.paragraphs", "5001 paragraphs (send at most 5000)"),
    ),
    "draft's paragraph of an unknown kind": (
        fill(draft=draft(paragraphs=[*text(), common_pb.Paragraph(text="x", kind=99)])),  # type: ignore[arg-type]
        invalid("draft.paragraphs[1].kind", "has the unknown value 99 (see the enum in the contract)"),
    ),
    "draft's language": (
        fill(draft=draft(language="English, mostly")),
        invalid("draft.language", "'English, mostly' is not a language tag (use BCP 47, such as \"en\")"),
    ),
    "draft's tag too long": (
        fill(draft=draft(tags=["x" * 257])),
        invalid("draft.tags", "is 257 bytes long; at most 256 (send a shorter one)"),
    ),
    "draft of too many tags": (
        fill(draft=draft(tags=[str(i) for i in range(65)])),
        invalid("draft.tags", "65 tags; at most 64 (send the most telling ones)"),
    ),
    "draft's section too long": (
        fill(draft=related_pb.Draft(title="x", section="x" * 257)),
        invalid("draft.section", "is 257 bytes long; at most 256 (send a shorter one)"),
    ),
    "draft's address too long": (
        fill(draft=draft(url="x" * 2_049)),
        invalid("draft.url", "is 2,049 bytes long; at most 2048 (send a shorter one)"),
    ),
    "draft from before 1970": (
        fill(draft=draft(published_at=Timestamp(seconds=-1))),
        invalid("draft.published_at", TIME_FIX),
    ),
    # What narrows an answer
    "as_of out of range": (fill(as_of=Timestamp(seconds=1 << 60)), invalid("as_of", TIME_FIX)),
    "as_of with odd nanos": (fill(as_of=Timestamp(seconds=1, nanos=-5)), invalid("as_of", TIME_FIX)),
    "filter's time out of range": (
        fill(filters=common_pb.Filters(published_from=Timestamp(seconds=-5))),
        invalid("filters.published_from", TIME_FIX),
    ),
    "filter's language": (
        fill(filters=common_pb.Filters(languages=["en", "4ever"])),
        invalid("filters.languages", "'4ever' is not a language tag (use BCP 47, such as \"en\")"),
    ),
    "too many labels": (
        fill(filters=common_pb.Filters(tags=[str(i) for i in range(101)])),
        invalid("filters.tags", "101 values (send at most 100)"),
    ),
    "filter's label too long": (
        fill(filters=common_pb.Filters(sections=["x", "y" * 257])),
        invalid("filters.sections[1]", "is 257 bytes long; at most 256 (send a shorter one)"),
    ),
    "the same label too often": (
        fill(filters=common_pb.Filters(sites=["x"] * 101)),
        invalid("filters.sites", "101 values (send at most 100)"),
    ),
    "filter that ends before it begins": (
        fill(filters=common_pb.Filters(published_from=Timestamp(seconds=10), published_before=Timestamp(seconds=10))),
        invalid("filters.published_before", f"lets nothing pass {LATER}"),
    ),
    "filter that ends in 1970": (
        fill(filters=common_pb.Filters(published_before=Timestamp())),
        invalid("filters.published_before", f"lets nothing pass {LATER}"),
    ),
    "too many ids on the page": (
        fill(on_page_ids=["x"] * 1001),
        invalid("on_page_ids", "1001 ids (send at most 1000)"),
    ),
    "an empty id on the page": (fill(on_page_ids=["x", ""]), invalid("on_page_ids[1]", f"is empty {ID_FIX}")),
    # Lists. A negative k cannot be sent: the field is unsigned.
    "k of 0": (listing(k=0), invalid("k", "is 0 (ask for 1 to 100)")),
    "k of a million": (listing(k=1_000_000), invalid("k", "is 1000000 (ask for 1 to 100)")),
    "largest k": (listing(k=UINT32_MAX), invalid("k", f"is {UINT32_MAX} (ask for 1 to 100)")),
    "min_score below 0": (listing(min_score=-0.1), invalid("min_score", "is -0.1 (send 0 to 1)")),
    "min_score above 1": (listing(min_score=1.5), invalid("min_score", "is 1.5 (send 0 to 1)")),
    "min_score NaN": (listing(min_score=NAN), invalid("min_score", "is nan (send 0 to 1)")),
    "too many excluded ids": (
        listing(exclude_ids=["x"] * 1001),
        invalid("exclude_ids", "1001 ids (send at most 1000)"),
    ),
    "an overlong excluded id": (
        listing(exclude_ids=[LONG_ID]),
        invalid("exclude_ids[0]", "is 10,240 bytes long; at most 512 (use a shorter id)"),
    ),
    # Layouts
    "unknown layout": (
        fill(layout_name="wide"),
        unknown("layout", "wide", "use one of: default, side; or give a layout inline"),
    ),
    "unknown layout of a batch": (
        lambda c: c.related.BatchFillSlots(related_pb.BatchFillSlotsRequest(article_ids=[PAGE], layout_name="wide")),
        unknown("layout", "wide", "use one of: default, side; or give a layout inline"),
    ),
    "layout without a name": (
        fill(layout=layout(end_slot(), name="")),
        invalid("layout.name", f"String should have at least 1 character {SEE}"),
    ),
    "layout's name too long": (
        fill(layout=layout(end_slot(), name="x" * 65)),
        invalid("layout.name", f"String should have at most 64 characters {SEE}"),
    ),
    "layout without slots": (
        fill(layout=layout()),
        invalid("layout.slots", f"Tuple should have at least 1 item after validation, not 0 {SEE}"),
    ),
    "layout of too many slots": (
        fill(layout=layout(*(end_slot(str(i)) for i in range(11)))),
        invalid("layout.slots", "11 slots (send at most 10)"),
    ),
    "layout of too many places": (
        fill(layout=layout(*(end_slot(str(i), 17) for i in range(3)))),
        invalid("layout", f"more than 50 places in all {SEE}"),
    ),
    "two slots of one name": (
        fill(layout=layout(end_slot(), end_slot())),
        invalid("layout", f"two slots have the same name {SEE}"),
    ),
    "slot without a name": (
        with_slot(end_slot("")),
        invalid(f"{SLOT}.name", f"String should have at least 1 character {SEE}"),
    ),
    "slot without a placement": (
        with_slot(related_pb.Slot(name="x", count=1)),
        invalid(f"{SLOT}.placement", "has the unknown value 0 (see the enum in the contract)"),
    ),
    "slot's unknown fallback": (
        with_slot(end_slot(fallback=7)),
        invalid(f"{SLOT}.fallback", "has the unknown value 7 (see the enum in the contract)"),
    ),
    "slot of no places": (
        with_slot(end_slot(count=0)),
        invalid(f"{SLOT}.count", f"Input should be greater than or equal to 1 {SEE}"),
    ),
    "slot of too many places": (
        with_slot(end_slot(count=21)),
        invalid(f"{SLOT}.count", f"Input should be less than or equal to 20 {SEE}"),
    ),
    "slot's min_score": (
        with_slot(end_slot(min_score=1.01)),
        invalid(f"{SLOT}.min_score", f"Input should be less than or equal to 1 {SEE}"),
    ),
    "slot's min_score NaN": (
        with_slot(end_slot(min_score=NAN)),
        invalid(f"{SLOT}.min_score", f"Input should be a finite number {SEE}"),
    ),
    "slot's diversity": (
        with_slot(end_slot(diversity=-0.01)),
        invalid(f"{SLOT}.diversity", f"Input should be greater than or equal to 0 {SEE}"),
    ),
    "slot's diversity NaN": (
        with_slot(end_slot(diversity=NAN)),
        invalid(f"{SLOT}.diversity", f"Input should be a finite number {SEE}"),
    ),
    "slot's max_age of nothing": (
        with_slot(end_slot(max_age=Duration())),
        invalid(f"{SLOT}.max_age", f"Input should be greater than 0 {SEE}"),
    ),
    "slot's negative half-life": (
        with_slot(end_slot(freshness_half_life=Duration(seconds=-1))),
        invalid(f"{SLOT}.freshness_half_life", f"Input should be greater than 0 {SEE}"),
    ),
    "slot's first position": (
        with_slot(inline_slot(first_after_text_paragraphs=0)),
        invalid(f"{SLOT}.first_after_text_paragraphs", f"Input should be greater than or equal to 1 {SEE}"),
    ),
    "slot's spacing": (
        with_slot(inline_slot(spacing_text_paragraphs=101)),
        invalid(f"{SLOT}.spacing_text_paragraphs", f"Input should be less than or equal to 100 {SEE}"),
    ),
    "slot's shortest page": (
        with_slot(inline_slot(min_text_paragraphs=1001)),
        invalid(f"{SLOT}.min_text_paragraphs", f"Input should be less than or equal to 1000 {SEE}"),
    ),
    "slot's filter by date": (
        with_slot(end_slot(filters=common_pb.Filters(published_from=timestamp(NOW_MS)))),
        invalid(f"{SLOT}.filters.published_from", "is not for slots (use max_age, or the request's filters)"),
    ),
    "slot's filter by language": (
        with_slot(end_slot(filters=common_pb.Filters(languages=["4ever"]))),
        invalid(f"{SLOT}.filters.languages", f"'4ever' is not a language tag {SEE}"),
    ),
    "slot's filter too long": (
        with_slot(end_slot(filters=common_pb.Filters(tags=["x" * 257]))),
        invalid(f"{SLOT}.filters.tags", f"a label is 257 bytes long; at most 256 {SEE}"),
    ),
    "slot's filter of too many": (
        with_slot(end_slot(filters=common_pb.Filters(tags=["x"] * 101))),
        invalid(f"{SLOT}.filters.tags", "101 values (send at most 100)"),
    ),
    "slot's second bad": (
        fill(layout=layout(end_slot(), inline_slot(count=0))),
        invalid("layout.slots[1].count", f"Input should be greater than or equal to 1 {SEE}"),
    ),
    # The archive
    "no articles": (
        lambda c: c.upsert(),
        invalid("articles", "has 0 entries (send 1 to 500)"),
    ),
    "too many articles": (
        lambda c: c.upsert(*[message("x")] * 501),
        invalid("articles", "has 501 entries (send 1 to 500)"),
    ),
    "no ids": (lambda c: c.delete(), invalid("ids", "has 0 entries (send 1 to 500)")),
    "too many ids": (lambda c: c.delete(*["x"] * 501), invalid("ids", "has 501 entries (send 1 to 500)")),
    "an empty id to delete": (lambda c: c.delete(PAGE, ""), invalid("ids[1]", f"is empty {ID_FIX}")),
    "an empty id to read": (lambda c: c.get(""), invalid("id", f"is empty {ID_FIX}")),
    "an unknown id to read": (lambda c: c.get("nobody"), unknown("article", "nobody")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_requests_are_refused_with_field_and_remedy(reading: Client, name: str) -> None:
    """Code, message and details are those of the table, and nothing in the archive changes."""
    call, expected = REFUSED[name]
    assert refusal(lambda: call(reading)) == expected
    assert (reading.status().article_count, reading.status().revision) == (40, 40)


# Articles: refused one by one inside an answer


def sent(**fields: Any) -> common_pb.Article:
    """Return a good article with some fields set otherwise; None clears one."""
    article = message("bad")
    for name, value in fields.items():
        article.ClearField(name)  # type: ignore[arg-type]
        if value is not None:
            article.MergeFrom(common_pb.Article(**{name: value}))
    return article


def _ahead(days: int) -> Timestamp:
    return timestamp(now_ms() + days * DAY_MS)


PROBLEMS: dict[str, tuple[common_pb.Article, str, str, str]] = {
    "empty title and body": (
        sent(title=None, paragraphs=None),
        "title",
        "title, summary and paragraphs are all empty",
        "send at least one of them",
    ),
    "nothing but control characters": (
        sent(title="\0\x07", paragraphs=text(1, 0)),
        "title",
        "title, summary and paragraphs are all empty",
        "send at least one of them",
    ),
    "empty id": (sent(id=None), "id", "is empty", "send the article's id"),
    "id of 10 kB": (sent(id=LONG_ID), "id", "is 10,240 bytes long; at most 512", "use a shorter id"),
    "id of 513 bytes in 257 characters": (
        sent(id="ü" * 256 + "x"),
        "id",
        "is 513 bytes long; at most 512",
        "use a shorter id",
    ),
    "line feed in an id": (
        sent(id="a\nb"),
        "id",
        "'a\\nb' has control characters or outer white space",
        "use plain text for ids",
    ),
    "no published_at": (sent(published_at=None), "published_at", "is missing", "send when the article became public"),
    "published at the epoch": (
        sent(published_at=Timestamp()),
        "published_at",
        "is missing or before 1970",
        "send when the article became public",
    ),
    "published in 1903": (
        sent(published_at=Timestamp(seconds=-2_114_380_800)),
        "published_at",
        "is not a time between 1970 and 9999",
        "send seconds since 1970, UTC",
    ),
    "published after the year 9999": (
        sent(published_at=Timestamp(seconds=253_402_300_800)),
        "published_at",
        "is not a time between 1970 and 9999",
        "send seconds since 1970, UTC",
    ),
    "title too long": (sent(title="x" * 1001), "title", "1,001 characters; at most 1,000", "shorten or split the text"),
    "body of 5 MB": (
        sent(paragraphs=text(5, 1 << 20)),
        "paragraphs",
        "5,242,880 characters; at most 1,000,000",
        "shorten or split the text",
    ),
    "too many paragraphs": (
        sent(paragraphs=text(5001)),
        "paragraphs",
        "5001 paragraphs",
        "send at most 5000",
    ),
    "unknown paragraph kind": (
        sent(paragraphs=[common_pb.Paragraph(text="x", kind=5)]),  # type: ignore[arg-type]
        "paragraphs[0].kind",
        "has the unknown value 5",
        "see the enum in the contract",
    ),
    "language": (sent(language="e"), "language", "'e' is not a language tag", 'use BCP 47, such as "en"'),
    "URL too long": (sent(url="x" * 2049), "url", "is 2,049 bytes long; at most 2048", "send a shorter one"),
    "tag too long": (sent(tags=["x" * 257]), "tags", "is 257 bytes long; at most 256", "send a shorter one"),
    "too many tags": (
        sent(tags=[str(i) for i in range(65)]),
        "tags",
        "65 tags; at most 64",
        "send the most telling ones",
    ),
    "embargo out of range": (
        sent(rules=common_pb.Rules(embargo_until=Timestamp(seconds=-1))),
        "rules.embargo_until",
        "is not a time between 1970 and 9999",
        "send seconds since 1970, UTC",
    ),
    "pair with an empty id": (
        sent(rules=common_pb.Rules(never_with=["x", ""])),
        "rules.never_with[1]",
        "is empty",
        "send the article's id",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_bad_article_is_refused_alone_and_named(reading: Client, name: str) -> None:
    """The answer says which article, which field, what is wrong and how to fix it; nothing is written."""
    article, field, problem, fix = PROBLEMS[name]
    answer = reading.upsert(article)
    assert [r.outcome for r in answer.results] == [articles_pb.UPSERT_OUTCOME_REFUSED]
    path = f"articles[0].{field}"
    assert answer.results[0].id == article.id
    assert answer.results[0].problem == common_pb.Problem(
        code="INVALID_ARGUMENT", field=path, message=f"{path}: {problem}", fix=fix
    )
    assert answer.revision == 40


def test_an_article_from_the_far_future_is_refused(service: Client) -> None:
    """More than a year ahead is a broken clock; tomorrow is a scheduled article."""
    answer = service.upsert(sent(id="far", published_at=_ahead(400)), sent(id="soon", published_at=_ahead(1)))
    far, soon = answer.results
    assert (far.problem.field, far.problem.fix) == ("articles[0].published_at", "check the clock or the format")
    assert far.problem.message.endswith("is more than a year ahead")
    assert soon.outcome == articles_pb.UPSERT_OUTCOME_ACCEPTED


def test_of_duplicate_ids_in_one_call_both_are_refused(service: Client) -> None:
    """Two articles with one id are both refused, since neither is surely the newer; the others are accepted."""
    answer = service.upsert(message("twin", title="One"), message("fine"), message("twin", title="Two"))
    assert [r.outcome for r in answer.results] == [
        articles_pb.UPSERT_OUTCOME_REFUSED,
        articles_pb.UPSERT_OUTCOME_ACCEPTED,
        articles_pb.UPSERT_OUTCOME_REFUSED,
    ]
    assert [(answer.results[i].problem.field, answer.results[i].problem.fix) for i in (0, 2)] == [
        ("articles[0].id", "send it once"),
        ("articles[2].id", "send it once"),
    ]
    assert answer.results[0].problem.message == "articles[0].id: 'twin' stands twice in this call"
    assert refusal(lambda: service.get("twin")).code is grpc.StatusCode.NOT_FOUND
    assert service.get("fine").id == "fine"


def test_control_characters_are_cleaned_from_texts(service: Client) -> None:
    """NUL and its kind vanish from every text and label, in articles and drafts; white space is one space."""
    body = [common_pb.Paragraph(text="Tide\x00 and\u2028 pier.\r\n\tMore\x7f")]
    labels = {"section": "har\0bour", "tags": ["a\0", "\0"]}
    service.upsert(sent(title="A\0 tide\x1b", summary="\ufeffSum", paragraphs=body, **labels))
    stored = service.get("bad")
    assert (stored.title, stored.summary, stored.section, list(stored.tags)) == ("A tide", "Sum", "harbour", ["a"])
    assert stored.paragraphs[0].text == "Tide and pier. More"
    clean, dirty = draft(title="Tide pilot"), draft(title="Tide\0 pilot\x07")
    assert ids_of(service.list(draft=dirty)) == ids_of(service.list(draft=clean))


# Bytes that are no message


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("FillSlots", b"\x0a\x02\xc3\x28"),
        ("ListRelated", b"\x0a\x01\xff"),
        ("BatchFillSlots", b"\x0a\x01\x80"),
        ("FillSlots", b"\x0a\x7fshort"),
    ],
    ids=["id not UTF-8", "list's id not UTF-8", "batch's id not UTF-8", "cut off"],
)
def test_bytes_that_cannot_be_read_are_invalid(reading: Client, method: str, data: bytes) -> None:
    """A string that is not UTF-8 or a message that is cut off is the caller's fault, with details, not INTERNAL."""
    refused = refusal(lambda: reading.raw(RELATED + method, data))
    assert (refused.code, refused.reason, refused.domain) == (INVALID, "INVALID_INPUT", "related-news")
    assert refused.message.startswith("request: cannot be read as its message")
    assert refused.message.endswith("(send valid protobuf; strings must be UTF-8)")
    assert list(refused.violations) == ["request"]


def test_an_article_s_id_that_is_not_utf8_is_invalid(reading: Client) -> None:
    """A write with such an id stores nothing."""
    good = articles_pb.UpsertArticlesRequest(articles=[message("abcd")]).SerializeToString()
    bad = good.replace(b"abcd", b"ab\xe9\xff")
    assert refusal(lambda: reading.raw(ARTICLES + "UpsertArticles", bad)).code is INVALID
    assert reading.status().revision == 40


def test_unknown_fields_are_ignored(reading: Client) -> None:
    """A field of a newer client that this release does not know does no harm, which is proto3's rule."""
    known = related_pb.ListRelatedRequest(article_id=PAGE).SerializeToString()
    answer = reading.raw(RELATED + "ListRelated", known + b"\xfa\x3e\x03new")
    assert len(related_pb.ListRelatedResponse.FromString(answer).recommendations) == 10


def test_an_unknown_method_is_unimplemented(reading: Client) -> None:
    """A method that the service does not have is UNIMPLEMENTED."""
    assert refusal(lambda: reading.raw(RELATED + "FillPages", b"")).code is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_bound_is_refused_and_the_next_one_answered(host: Host, data_dir: Path) -> None:
    """Beyond the largest message the call ends as RESOURCE_EXHAUSTED, naming the bound; just below it is read."""
    with host.server(data_dir, message_bytes_max=1 << 20) as (client, _):
        refused = refusal(lambda: client.upsert(sent(paragraphs=text(2, 1 << 19))))
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1048576" in refused.message
        assert client.upsert(sent(paragraphs=text(1, 1_000_000))).results[0].problem.field == ""
        assert client.get("bad").id == "bad"


def test_the_default_bound_on_messages_is_32_mib(reading: Client) -> None:
    """By default 33 MiB are refused before they are read."""
    refused = refusal(lambda: reading.raw(ARTICLES + "UpsertArticles", bytes(33 << 20)))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(32 << 20) in refused.message


def test_an_endless_layout_name_is_refused_readably(reading: Client) -> None:
    """A name of a megabyte is not sent back whole, which no client could read."""
    refused = refusal(lambda: reading.fill(article_id=PAGE, layout_name="x" * (1 << 20)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert len(refused.message) < 300


def test_an_id_full_of_strange_characters_is_answered_readably(reading: Client) -> None:
    """The longest id of characters that statuses must escape is refused as unknown, with its details."""
    strange = "\U0001f980" * 128
    assert refusal(lambda: reading.fill(article_id=strange)) == unknown("article", strange, AN_ARTICLE_FIX)


# Unusual but good


def test_a_draft_of_one_word_is_answered_with_reasons(reading: Client) -> None:
    """One unknown word is related to nothing: every place is empty and says why."""
    plan = reading.fill(draft=related_pb.Draft(title="Zwischenzeugnis"))
    reasons = [[place.empty_reason for place in slot.places] for slot in plan.slots]
    assert reasons == [
        [related_pb.EMPTY_REASON_PAGE_TOO_SHORT] * 2,
        [related_pb.EMPTY_REASON_BELOW_MIN_SCORE] * 3,
    ]


def test_a_page_in_another_language_than_the_model_s_is_warned_about(host: Host, data_dir: Path) -> None:
    """A German draft under a model made for English is answered; the receipt warns. English and unknown are not."""

    class English(FakeEmbedder):
        @property
        def info(self) -> ModelInfo:
            known = super().info
            return ModelInfo(known.name, known.weights_sha256, known.dimension, known.max_tokens, frozenset({"en"}))

    with host.server(data_dir, English()) as (client, _):
        german = client.fill(draft=draft(language="de-AT"))
        assert list(german.receipt.warnings) == [
            "the model fake is made for en; this page is de: trust wording more than meaning"
        ]
        everywhere = client.list(draft=draft(language="de"), filters=common_pb.Filters(languages=["*"]))
        assert len(everywhere.recommendations) == 10
        assert len(everywhere.receipt.warnings) == 1
        for language in ("en-US", ""):
            assert not client.fill(draft=draft(language=language)).receipt.warnings


def test_extreme_but_legal_numbers_are_answered(reading: Client) -> None:
    """The ends of every range are served: oldest as_of, shortest and longest durations, bounds on scores."""
    assert ids_of(reading.list(article_id=PAGE, as_of=Timestamp(seconds=0))) == []
    assert ids_of(reading.list(article_id=PAGE, k=100, as_of=Timestamp(seconds=253_402_300_799)))
    for age in (Duration(nanos=1), Duration(seconds=315_576_000_000)):
        asked = layout(end_slot(count=20, min_score=0.0, diversity=1.0, max_age=age, freshness_half_life=age))
        plan = reading.fill(article_id=PAGE, layout=asked)
        assert len(plan.slots[0].places) == 20
    assert len(ids_of(plan)) == 20
    newest = reading.fill(draft=draft(published_at=Timestamp(seconds=253_402_300_799)))
    assert len(newest.slots) == 2


def test_a_revision_beyond_all_numbers_is_unavailable(reading: Client) -> None:
    """The largest revision that can be sent is waited for and refused like any other that is not here."""
    request = related_pb.ListRelatedRequest(article_id=PAGE, min_revision=UINT64_MAX)
    assert refusal(lambda: reading.related.ListRelated(request, timeout=0.5)).code is grpc.StatusCode.UNAVAILABLE


# Deadlines and load


def test_a_draft_whose_caller_has_gone_is_not_embedded(service: Client, embedder: TroubledEmbedder) -> None:
    """A call that expires while it waits for the encoder never gets there."""
    slow = service.related.FillSlots.future(related_pb.FillSlotsRequest(draft=draft(title="dawdle")), timeout=TIMEOUT_S)
    assert embedder.waiting.wait(TIMEOUT_S)
    before = embedder.texts
    late = related_pb.FillSlotsRequest(draft=draft(title="too late"))
    refused = refusal(lambda: service.related.FillSlots(late, timeout=0.2))
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    service.status()  # answered after the service has heard that the caller is gone
    embedder.gate.set()
    assert len(slow.result().plan.slots) == 2
    alone = embedder.texts - before
    service.fill(draft=draft(title="dawdle"))
    assert embedder.texts - before == 2 * alone, "the same draft again costs the same: nothing was encoded between"


def test_a_write_that_expired_before_it_was_read_is_not_made(host: Host, service: Client) -> None:
    """A write whose time runs out while the service is blocked is not made once the service goes on."""
    go_on = threading.Event()
    host.loop.call(lambda: go_on.wait(TIMEOUT_S))
    try:
        request = articles_pb.UpsertArticlesRequest(articles=[message("late")])
        refused = refusal(lambda: service.articles.UpsertArticles(request, timeout=0.2))
    finally:
        go_on.set()
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.upsert(message("in-time")).revision == 41
    assert refusal(lambda: service.get("late")).code is grpc.StatusCode.NOT_FOUND


def test_more_calls_than_allowed_are_refused_not_queued(host: Host, data_dir: Path, embedder: TroubledEmbedder) -> None:
    """Beyond concurrent_calls_max a call is RESOURCE_EXHAUSTED at once; afterwards calls are answered again."""
    with host.server(data_dir, embedder, concurrent_calls_max=1) as (client, _):
        slow = client.related.FillSlots.future(
            related_pb.FillSlotsRequest(draft=draft(title="dawdle")), timeout=TIMEOUT_S
        )
        assert embedder.waiting.wait(TIMEOUT_S)
        assert refusal(lambda: client.fill(article_id=PAGE)).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        embedder.gate.set()
        assert len(slow.result().plan.slots) == 2


# Data folders


def test_an_index_of_another_model_is_a_mismatch_that_names_both(data_dir: Path) -> None:
    """Opening a folder with another model than it was made with raises an error with both names and the fix."""
    other = FakeEmbedder("another")
    with pytest.raises(MismatchError) as caught:
        open_archive(data_dir, other)
    assert str(caught.value) == (
        f"{data_dir / STORE_FILE} was indexed with {FakeEmbedder().info.key}, the configured model is {other.info.key}"
        " (unset model.name, or run `related-news reindex` to change the model)"
    )


def test_a_folder_without_an_index_says_to_make_one(tmp_path: Path) -> None:
    """Serving what was never indexed is a NotFoundError with the command, and creates nothing."""
    with pytest.raises(NotFoundError) as caught:
        open_archive(tmp_path / "nothing")
    assert str(caught.value) == (
        f"unknown data folder '{tmp_path / 'nothing'}' (run `related-news index ARTICLES` first)"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_empty_index_serves(host: Host, tmp_path: Path) -> None:
    """Without articles, a page by id is NOT_FOUND, a draft has NO_CANDIDATES, and the first article can be written."""
    create_store(tmp_path / STORE_FILE, FakeEmbedder().info.key).close()
    with host.server(tmp_path) as (client, _):
        assert refusal(lambda: client.fill(article_id=PAGE)) == unknown("article", PAGE, AN_ARTICLE_FIX)
        plan = client.fill(draft=draft())
        reasons = {place.empty_reason for slot in plan.slots for place in slot.places}
        assert reasons == {related_pb.EMPTY_REASON_NO_CANDIDATES}
        assert client.list(draft=draft()).receipt.candidates_seen == 0
        status = client.status()
        assert (status.article_count, status.revision, status.published_per_day) == (0, 0, 0.0)
        assert not status.HasField("newest_published_at")
        assert client.upsert(message("first")).revision == 1
        assert ids_of(client.list(draft=draft())) == ["first"]
