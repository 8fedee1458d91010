"""ArticleService over gRPC: writes are durable, visible at once to every later call, and keep the editor's rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import grpc
import pytest
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.catalog.opening import STORE_FILE
from recommender.catalog.store.store import Store, open_store
from recommender.clock import DAY_MS
from recommender.rpc.messages import timestamp
from tests.building import NOW_MS, FakeEmbedder, article, writes
from tests.newsroom import PAGE, SECTIONS, newsroom
from tests.service.client import TIMEOUT_S, Client, refusal
from tests.service.messages import draft, fill_request, ids_of, list_request, message
from tests.service.servers import Host, TroubledEmbedder

ACCEPTED = articles_pb.UPSERT_OUTCOME_ACCEPTED
UNCHANGED = articles_pb.UPSERT_OUTCOME_UNCHANGED
REFUSED = articles_pb.UPSERT_OUTCOME_REFUSED
NEAR = {"title": "Tide pilot at the new quay", "section": "harbour", "days_ago": 2.0}
"""Of a new article that belongs to the harbour's beat."""


@pytest.fixture
def other_process(data_dir: Path) -> Iterator[Store]:
    """Open the served store a second time, as an indexing run beside the service does."""
    store = open_store(data_dir / STORE_FILE, FakeEmbedder().info.key)
    yield store
    store.close()


def near(id: str, **changes: object) -> common_pb.Article:
    """Return a new article's message that a harbour page would be linked to."""
    words = f"The tide pilot {id} moored the tug at the quay beside crane, pier and container berth."
    return message(id, paragraphs=[words], **{**NEAR, **changes})


def listed(service: Client) -> list[str]:
    """Return every id that a harbour page could be linked to."""
    return ids_of(service.list(article_id=PAGE, k=100))


# Upsert


def test_a_written_article_is_in_the_next_answer(service: Client) -> None:
    """A new article is recommended, and a page of its own, by the first calls after its acknowledgement."""
    answer = service.upsert(near("new"))
    assert [(r.id, r.outcome) for r in answer.results] == [("new", ACCEPTED)]
    assert answer.revision == 41
    assert "new" in listed(service)
    assert len(ids_of(service.fill(article_id="new", layout_name="side"))) == 4
    assert service.status().article_count == 41


def test_every_field_comes_back_as_it_was_sent(service: Client) -> None:
    """GetArticle returns what was stored, rules included; only the language tag is cut to its primary part."""
    sent = common_pb.Article(
        id="all/fields?ü",
        url="https://courier.example/all",
        title="Crane über alles",
        summary="A summary.",
        paragraphs=[
            common_pb.Paragraph(text="Text.", kind=common_pb.PARAGRAPH_KIND_TEXT),
            common_pb.Paragraph(text="", kind=common_pb.PARAGRAPH_KIND_MEDIA),
            common_pb.Paragraph(text="Heading", kind=common_pb.PARAGRAPH_KIND_HEADING),
            common_pb.Paragraph(text="Quote", kind=common_pb.PARAGRAPH_KIND_QUOTE),
        ],
        published_at=timestamp(NOW_MS - 1),
        site="courier.example",
        section="harbour",
        tags=["crane", "tide"],
        language="en-GB",
        author="A. Writer",
        image_url="https://courier.example/all.jpg",
        rules=common_pb.Rules(
            never_source=True,
            never_target=True,
            never_with=["harbour-1"],
            embargo_until=timestamp(NOW_MS + DAY_MS),
            evergreen=True,
        ),
    )
    assert service.upsert(sent).results[0].outcome == ACCEPTED
    sent.language = "en"
    assert service.get(sent.id) == sent


def test_an_unspecified_paragraph_kind_is_text(service: Client) -> None:
    """A paragraph without a kind is stored as running text."""
    service.upsert(message("plain"))
    service.upsert(
        common_pb.Article(id="kindless", published_at=timestamp(NOW_MS), paragraphs=[common_pb.Paragraph(text="Tide.")])
    )
    assert service.get("kindless").paragraphs[0].kind == common_pb.PARAGRAPH_KIND_TEXT


def test_equal_articles_are_unchanged_and_get_no_revision(service: Client, embedder: TroubledEmbedder) -> None:
    """Sending the same again writes nothing and embeds nothing; a change of one label is written, not embedded."""
    first = service.upsert(near("one"), near("two"))
    encoded = embedder.texts
    again = service.upsert(near("one"), near("two"))
    assert [r.outcome for r in again.results] == [UNCHANGED, UNCHANGED]
    assert again.revision == first.revision == 42
    third = service.upsert(near("one", section="docks"), near("two"))
    assert [r.outcome for r in third.results] == [ACCEPTED, UNCHANGED]
    assert third.revision == 43
    assert embedder.texts == encoded
    assert service.get("one").section == "docks"


def test_a_refused_article_leaves_the_others_accepted(service: Client) -> None:
    """Each article is accepted or refused by itself, answered in the request's order."""
    answer = service.upsert(near("good"), message(""), near("fine"))
    assert [(r.id, r.outcome) for r in answer.results] == [("good", ACCEPTED), ("", REFUSED), ("fine", ACCEPTED)]
    assert answer.results[1].problem == common_pb.Problem(
        code="INVALID_ARGUMENT",
        field="articles[1].id",
        message="articles[1].id: is empty",
        fix="send the article's id",
    )
    assert [service.get("good").id, service.get("fine").id] == ["good", "fine"]


def test_a_changed_article_is_found_by_its_new_text_only(service: Client) -> None:
    """After its text has become a theatre review, a harbour article is related to theatre pages only."""
    play = ["Playwright, matinee, ensemble."] * 2
    changed = message("harbour-3", title="Curtain", section="theatre", paragraphs=play)
    assert "harbour-3" in ids_of(service.list(article_id=PAGE, min_score=0.5))
    service.upsert(changed)
    assert "harbour-3" not in ids_of(service.list(article_id=PAGE, min_score=0.5))
    assert "harbour-3" in ids_of(service.list(article_id="theatre-1", min_score=0.5))
    assert service.status().article_count == 40


# Rules


def test_a_write_without_rules_keeps_the_stored_ones(service: Client) -> None:
    """New content leaves the editor's rules alone; sent rules, empty ones too, replace them."""
    ruled = near("ruled")
    ruled.rules.never_target = True
    service.upsert(ruled)
    assert service.upsert(near("ruled", title="Another tide")).results[0].outcome == ACCEPTED
    stored = service.get("ruled")
    assert (stored.title, stored.rules.never_target) == ("Another tide", True)
    assert "ruled" not in listed(service)
    assert service.upsert(near("ruled", title="Another tide")).results[0].outcome == UNCHANGED
    freed = near("ruled", title="Another tide")
    freed.rules.SetInParent()
    assert service.upsert(freed).results[0].outcome == ACCEPTED
    assert "ruled" in listed(service)


def test_rules_are_obeyed_by_the_next_answer(service: Client) -> None:
    """never_source empties the article's own page with a reason; never_with parts two articles in both directions."""
    for article_id, rules in (
        ("harbour-1", common_pb.Rules(never_source=True)),
        ("harbour-2", common_pb.Rules(never_with=[PAGE])),
        ("harbour-4", common_pb.Rules(embargo_until=timestamp(NOW_MS + DAY_MS))),
    ):
        stored = service.get(article_id)
        stored.rules.CopyFrom(rules)
        service.upsert(stored)
    places = [place for slot in service.fill(article_id="harbour-1").slots for place in slot.places]
    assert [place.empty_reason for place in places] == [related_pb.EMPTY_REASON_NEVER_SOURCE] * 5
    assert ids_of(service.list(article_id="harbour-1")) == []
    assert not {"harbour-2", "harbour-4"} & set(listed(service))
    assert PAGE not in ids_of(service.list(article_id="harbour-2", k=100))
    later = service.list(article_id=PAGE, k=100, as_of=timestamp(NOW_MS + 2 * DAY_MS))
    assert "harbour-4" in ids_of(later), "the embargo is over then"


# Delete


def test_a_withdrawn_article_is_in_no_later_answer(service: Client) -> None:
    """After DeleteArticles has returned, the article is neither recommended nor a page, and cannot be read."""
    assert "harbour-2" in listed(service)
    answer = service.delete("harbour-2", "unknown", "harbour-2")
    assert [(r.id, r.found) for r in answer.results] == [("harbour-2", True), ("unknown", False), ("harbour-2", False)]
    assert answer.revision == 41
    assert "harbour-2" not in listed(service)
    assert "harbour-2" not in ids_of(service.list(draft=draft(), k=100))
    for call in (lambda: service.get("harbour-2"), lambda: service.fill(article_id="harbour-2")):
        assert refusal(call).code is grpc.StatusCode.NOT_FOUND
    assert service.status().article_count == 39


def test_no_call_begun_after_a_deletion_returns_the_article(service: Client) -> None:
    """While eight clients ask without pause, articles go one by one; calls begun after each deletion lack it."""
    gone: list[str] = []
    done = threading.Event()
    wrong: list[str] = []

    def ask() -> int:
        asked = 0
        while not done.is_set():
            before = set(gone)
            wrong.extend(before & set(listed(service)))
            asked += 1
        return asked

    with ThreadPoolExecutor(8) as pool:
        askers = [pool.submit(ask) for _ in range(8)]
        try:
            for victim in newsroom()[1::2]:
                service.delete(victim.id)
                gone.append(victim.id)
        finally:
            done.set()
        assert all(asker.result(TIMEOUT_S) > 0 for asker in askers)
    assert wrong == []
    assert len(gone) == 20


def test_a_withdrawn_article_can_be_published_again(service: Client) -> None:
    """Upserting a deleted id accepts it as new, with the rules of the new message, not the old ones."""
    old = service.get("harbour-2")
    old.rules.never_target = True
    service.upsert(old)
    service.delete("harbour-2")
    old.ClearField("rules")
    assert service.upsert(old).results[0].outcome == ACCEPTED
    assert service.get("harbour-2").rules == common_pb.Rules()
    assert "harbour-2" in listed(service)


# Revisions


def test_min_revision_waits_for_another_process_s_write(service: Client, other_process: Store) -> None:
    """A call that asks for a revision which is written while it waits gets an answer that has seen it."""
    wanted = other_process.revision() + 1
    future = service.related.ListRelated.future(
        list_request(article_id=PAGE, k=100, min_revision=wanted), timeout=TIMEOUT_S
    )
    title, paragraphs = NEAR["title"], ["A tide pilot at the quay."]
    other_process.write(writes([article("outside", title=str(title), paragraphs=paragraphs)]))
    answer = future.result()
    assert "outside" in ids_of(answer)
    assert answer.receipt.revision == wanted


def test_another_process_s_deletion_and_change_become_visible(service: Client, other_process: Store) -> None:
    """Without any call to wake it, the service applies what others commit to its store."""
    other_process.delete(["harbour-1"])
    other_process.write(writes([article("harbour-2", title="Matinee", section="theatre", paragraphs=["Curtain."])]))
    wait_for(lambda: service.status().revision == 42)
    assert "harbour-1" not in listed(service)
    assert service.list(article_id="harbour-2", k=1).recommendations[0].article.section == "theatre"
    status = service.status()
    assert (status.store_revision, status.article_count) == (42, 39)


@pytest.mark.parametrize("method", ["FillSlots", "ListRelated", "BatchFillSlots"])
def test_a_revision_that_does_not_come_is_unavailable_within_the_deadline(service: Client, method: str) -> None:
    """With too high a min_revision the server answers UNAVAILABLE before the caller's time is over."""
    requests = {
        "FillSlots": fill_request(article_id=PAGE, min_revision=99),
        "ListRelated": list_request(draft=draft(), min_revision=99),
        "BatchFillSlots": related_pb.BatchFillSlotsRequest(article_ids=[PAGE], min_revision=99),
    }
    begun = time.monotonic()
    refused = refusal(lambda: getattr(service.related, method)(requests[method], timeout=1.5))
    assert time.monotonic() - begun < 1.5
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert refused.message == (
        "revision 99 is not here yet; this process is at 40 (try again, or send a revision that a write returned)"
    )


def test_a_revision_that_is_here_costs_no_wait(service: Client) -> None:
    """min_revision up to the present one is answered at once, with or without a deadline."""
    revision = service.upsert(near("new")).revision
    answer = service.related.FillSlots(fill_request(article_id="new", min_revision=revision))
    assert answer.plan.receipt.revision == revision


# Many at once


def test_concurrent_writers_lose_nothing(service: Client) -> None:
    """Eight clients write and withdraw at once, and each article ends as it was acknowledged last."""

    def write(client: int) -> list[int]:
        revisions = []
        for number in range(6):
            mine = f"client-{client}-{number}"
            answer = service.upsert(near(mine), near("shared", title=f"Tide {client} {number}"))
            assert [r.outcome for r in answer.results] == [ACCEPTED, ACCEPTED]
            assert mine in ids_of(service.list(article_id=mine, k=1)) or service.get(mine).id == mine
            revisions.append(answer.revision)
            if number % 2:
                assert service.delete(mine).results[0].found
        return revisions

    with ThreadPoolExecutor(8) as pool:
        revisions = [r for part in pool.map(write, range(8), timeout=TIMEOUT_S) for r in part]
    assert all(r > 40 for r in revisions)
    status = service.status()
    assert status.revision == 40 + 8 * 6 * 2 + 8 * 3
    assert status.article_count == 40 + 8 * 3 + 1
    for client, number in product(range(8), range(6)):
        page = fill_request(article_id=f"client-{client}-{number}")
        if number % 2:
            assert refusal(partial(service.related.FillSlots, page)).code is grpc.StatusCode.NOT_FOUND
        else:
            assert service.related.FillSlots(page).plan.receipt.revision == status.revision


def test_pages_are_filled_while_a_large_write_is_checked(reading: Client) -> None:
    """Normalising 25 MB takes about a second, in which other calls are answered one after the other."""
    paragraphs = ["Ho\u0308he u\u0308ber na\u0308chste Ha\u0308fen. " * 20] * 60
    late = message("late", paragraphs=paragraphs)
    late.published_at.seconds = 4_000_000_000  # refused after its texts are checked, so that nothing is embedded
    request = articles_pb.UpsertArticlesRequest()
    for number in range(500):
        late.id = f"late-{number}"
        request.articles.append(late)
    writing = reading.articles.UpsertArticles.future(request, timeout=TIMEOUT_S)
    filled = 0
    while not writing.done():
        reading.fill(article_id=PAGE)
        filled += 1
    assert {result.outcome for result in writing.result().results} == {REFUSED}
    assert filled >= 8


def test_a_restart_serves_what_was_acknowledged(host: Host, service: Client, data_dir: Path) -> None:
    """A second server on the same folder, its snapshot older than the store, answers as the first."""
    service.upsert(near("new"))
    service.delete("harbour-2")
    with host.server(data_dir) as (second, _):
        assert listed(second) == listed(service)
        assert second.status().tail_count > 0
        assert second.status().revision == 42


# Status


def test_the_status_describes_the_index(service: Client) -> None:
    """Counts, revisions, model and times are those of the archive; a change shows in the tail and its age."""
    before = service.status()
    assert not before.HasField("last_change_age")
    assert (before.article_count, before.revision, before.snapshot_revision, before.tail_count) == (40, 40, 40, 0)
    assert (before.model, before.dimension) == (FakeEmbedder().info.key, FakeEmbedder().info.dimension)
    assert before.newest_published_at == timestamp(NOW_MS - DAY_MS)
    assert before.published_per_day == pytest.approx(40 / 21)
    assert before.HasField("snapshot_age")
    service.upsert(near("new"))
    service.delete("harbour-2")
    after = service.status()
    assert (after.article_count, after.revision, after.store_revision, after.snapshot_revision) == (40, 42, 42, 40)
    assert after.tail_count == 2
    assert after.last_change_age.seconds < TIMEOUT_S
    assert len(SECTIONS) * 8 == before.article_count


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask again until the condition holds."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, "it did not come true"
