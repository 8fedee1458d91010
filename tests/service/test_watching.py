"""The feed of affected pages: what changed, which plans that may change, and where the feed resumes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.clock import now_ms
from recommender.rpc.messages import timestamp
from recommender.serving import affected_feed
from tests.newsroom import PAGE, newsroom
from tests.service.client import TIMEOUT_S, Client, refusal
from tests.service.messages import draft, ids_of, like_page, message
from tests.service.servers import Host

Answer = articles_pb.WatchAffectedPagesResponse
PAGES = [one.id for one in newsroom()]


@contextmanager
def watched(client: Client, **values: Any) -> Iterator[Iterator[Answer]]:
    """Open a feed; it ends with the block."""
    call = client.articles.WatchAffectedPages(articles_pb.WatchAffectedPagesRequest(**values), timeout=TIMEOUT_S)
    try:
        yield iter(call)
    finally:
        call.cancel()


def plans(client: Client) -> dict[str, list[str]]:
    """Return what every page shows now."""
    request = related_pb.BatchFillSlotsRequest(article_ids=PAGES)
    pages = client.related.BatchFillSlots(request, timeout=TIMEOUT_S).pages
    return {page.article_id: ids_of(page.plan) for page in pages}


def changed(before: dict[str, list[str]], after: dict[str, list[str]]) -> set[str]:
    """Return the pages whose links differ."""
    return {page for page in PAGES if before[page] != after[page]}


def test_a_new_article_names_the_pages_that_link_to_it(service: Client) -> None:
    """Its own page comes first, then exactly those whose plan has it now."""
    before = plans(service)
    with watched(service) as feed:
        time.sleep(0.2)
        revision = service.upsert(like_page("new")).revision
        affected = next(feed)
    after = plans(service)
    assert (affected.revision, affected.article_id, affected.withdrawn) == (revision, "new", False)
    assert affected.page_ids[0] == "new"
    assert set(affected.page_ids[1:]) == {page for page in PAGES if "new" in after[page]}
    assert set(affected.page_ids[1:]) >= changed(before, after) > set()


def close_to(service: Client, page: str, article_id: str) -> common_pb.Article:
    """Return an article that shares much of a page's text without being a copy of it."""
    theirs, near = service.get(page), draft("harbour")
    paragraphs = [p.text for p in [*theirs.paragraphs[:3], *near.paragraphs[:5]]]
    return like_page(article_id, title=f"{theirs.title} again", paragraphs=paragraphs, tags=list(theirs.tags))


def test_a_withdrawn_article_names_the_pages_that_linked_to_it(service: Client) -> None:
    """The feed names exactly the pages that showed it, by the plans from before."""
    revision = service.upsert(close_to(service, PAGE, "touchy")).revision
    before = plans(service)
    with watched(service, after_revision=revision) as feed:
        service.delete("touchy")
        affected = next(feed)
    assert (affected.revision, affected.article_id, affected.withdrawn) == (revision + 1, "touchy", True)
    assert set(affected.page_ids) == {page for page in PAGES if "touchy" in before[page]} >= {PAGE}


def test_a_changed_article_names_old_and_new_pages(service: Client) -> None:
    """An article that turns to another subject affects pages of both."""
    revision = service.upsert(close_to(service, PAGE, "turned")).revision
    former = {page for page, links in plans(service).items() if "turned" in links}
    assert PAGE in former
    with watched(service, after_revision=revision) as feed:
        other = draft("orchards", title="Apple and blossom and frost")
        paragraphs = [p.text for p in other.paragraphs]
        service.upsert(like_page("turned", title=other.title, summary=other.summary, paragraphs=paragraphs))
        affected = set(next(feed).page_ids)
    orchards = {page for page, links in plans(service).items() if "turned" in links}
    assert PAGE not in orchards > set()
    assert affected == orchards | former | {"turned"}


def test_a_client_resumes_where_it_was_cut_off(service: Client) -> None:
    """From a revision on, every later change comes once, in order, also those made while nobody watched."""
    first = service.upsert(like_page("one")).revision
    service.upsert(message("two", title="Ferry"))
    service.delete("one")
    for _ in range(2):
        with watched(service, after_revision=first) as feed:
            affected = [next(feed), next(feed)]
        assert [(one.revision, one.article_id, one.withdrawn) for one in affected] == [
            (first + 1, "two", False),
            (first + 2, "one", True),
        ]
    with watched(service, after_revision=first + 2) as feed:
        assert service.upsert(message("three", title="Quay")).revision == next(feed).revision == first + 3


@pytest.mark.parametrize("written", ["before", "while"])
def test_an_article_is_reported_again_when_its_embargo_ends(service: Client, written: str) -> None:
    """Nothing changes in the store at that moment, but pages do."""
    sent = like_page("embargoed")
    until_ms = now_ms() + 1_500
    sent.rules.embargo_until.CopyFrom(timestamp(until_ms))
    if written == "before":
        service.upsert(sent)
    with watched(service) as feed:
        time.sleep(0.2)
        if written == "while":
            service.upsert(sent)
            assert list(next(feed).page_ids) == ["embargoed"]
        affected = next(feed)
        assert now_ms() >= until_ms
    assert affected.article_id == "embargoed"
    assert (
        set(affected.page_ids[1:]) == {page for page, links in plans(service).items() if "embargoed" in links} > set()
    )


def test_the_end_of_an_embargo_is_reported_once_at_its_present_time(service: Client) -> None:
    """It is reported once however often the article was edited, and not at a time that an editor has replaced."""
    revision, soon_ms = service.status().revision, int(time.time() * 1000) + 5_000
    for title in ("One", "Two", "Three"):
        edited = like_page("edited", title=title)
        edited.rules.embargo_until.CopyFrom(timestamp(soon_ms))
        service.upsert(edited)
    for until_ms in (soon_ms, soon_ms + 3_600_000):
        moved = like_page("moved")
        moved.rules.embargo_until.CopyFrom(timestamp(until_ms))
        service.upsert(moved)
    with watched(service, after_revision=revision) as feed:
        assert [next(feed).article_id for _ in range(5)] == 3 * ["edited"] + 2 * ["moved"]
        assert (next(feed).article_id, int(time.time() * 1000) >= soon_ms) == ("edited", True)
        service.upsert(like_page("next"))
        assert next(feed).article_id == "next"


def test_the_feed_ends_when_the_service_drains(host: Host, data_dir: Any) -> None:
    """A client that watches does not hold up a restart; its stream ends without an error."""
    with host.server(data_dir) as (client, server), watched(client) as feed:
        time.sleep(0.2)
        begun = time.monotonic()
        host.loop.run(server.stop())
        assert time.monotonic() - begun < 5
        assert list(feed) == []


def test_bad_requests_are_refused(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision in the future, an unknown layout, and one client too many are refused."""

    def refused(**values: Any) -> tuple[grpc.StatusCode, str, Sequence[str]]:
        def first() -> Answer:
            with watched(service, **values) as feed:
                return next(feed)

        found = refusal(first)
        return found.code, found.message, list(found.violations)

    latest = service.status().revision
    assert refused(after_revision=latest + 7) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"after_revision: is {latest + 7}; the last one is {latest} (send one you have seen)",
        ["after_revision"],
    )
    assert refused(layout_name="nobody")[0] is grpc.StatusCode.NOT_FOUND
    monkeypatch.setattr(affected_feed, "WATCHERS_MAX", 1)
    with watched(service):
        time.sleep(0.2)
        code, text, _ = refused()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text == "1 clients watch here already (share one feed, or try again later)"
