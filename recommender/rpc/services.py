"""The two gRPC services: translate messages to values and back. No logic of their own; errors go to interceptor.py."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from recommender.answer.layout import Layout
from recommender.answer.page import Draft
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender, Request
from recommender.catalog.checks import URL_BYTES_MAX, check_id, clean_label, make_body, make_labels
from recommender.catalog.store.writes import Upsert
from recommender.errors import DeadlineError, InvalidInputError, NotFoundError, RelatedNewsError
from recommender.rpc.messages import (
    affected_to,
    article_to,
    as_of_from,
    duration,
    labels_from,
    layout_from,
    list_to,
    paragraphs_from,
    plan_to,
    refusal_to,
    scope_from,
    time_from,
    timestamp,
    upsert_to,
    upserts_from,
)
from recommender.rpc.statuses import problem_of
from recommender.serving.affected_feed import AffectedFeed
from recommender.serving.archive import Archive
from recommender.serving.options import ServingOptions
from recommender.serving.plan_cache import PlanCache

K_DEFAULT = 10
"""Sets how many related articles ListRelated returns unless the request says otherwise."""
EXCLUDED_IDS_MAX = 1_000
"""Limits on_page_ids and exclude_ids of one request."""

Context = grpc.aio.ServicerContext[Any, Any]
LayoutRequest = related_pb.FillSlotsRequest | related_pb.BatchFillSlotsRequest


class RelatedNewsService(related_grpc.RelatedNewsServiceServicer):
    """Answers from the archive's live view, on the event loop's thread."""

    def __init__(self, archive: Archive, options: Callable[[], ServingOptions], now_ms: Callable[[], int]) -> None:
        """options: returns the present ones. now_ms: the clock."""
        self._archive = archive
        self._options = options
        self._now_ms = now_ms
        self._plans: PlanCache[related_pb.PagePlan] = PlanCache()

    async def FillSlots(  # noqa: N802 - the contract's name
        self, request: related_pb.FillSlotsRequest, context: Context
    ) -> related_pb.FillSlotsResponse:
        """Fill every slot of one page."""
        layout = self._layout(request)
        page = await self._request(request, context, _check_ids("on_page_ids", request.on_page_ids))
        response = related_pb.FillSlotsResponse()
        response.plan.CopyFrom(self._plan(page, layout))
        response.plan.receipt.as_of.CopyFrom(timestamp(page.as_of_ms))
        return response

    async def ListRelated(  # noqa: N802 - the contract's name
        self, request: related_pb.ListRelatedRequest, context: Context
    ) -> related_pb.ListRelatedResponse:
        """List related articles."""
        if not 0 <= request.min_score <= 1:
            raise InvalidInputError("min_score", f"is {request.min_score}", fix="send 0 to 1")
        page = await self._request(request, context, _check_ids("exclude_ids", request.exclude_ids))
        k = request.k if request.HasField("k") else K_DEFAULT
        related = self._recommender().list_related(page, k, request.min_score)
        return list_to(related, self._warnings(related.receipt.page_language))

    async def BatchFillSlots(  # noqa: N802 - the contract's name
        self, request: related_pb.BatchFillSlotsRequest, context: Context
    ) -> related_pb.BatchFillSlotsResponse:
        """Fill the pages of many stored articles; other calls get their turn between two pages."""
        _check_count("article_ids", len(request.article_ids), self._options().pages_per_batch)
        layout = self._layout(request)
        scope, as_of_ms = scope_from(request.filters), as_of_from(request, self._now_ms())
        await self._archive.wait_for(request.min_revision, context.time_remaining())
        response = related_pb.BatchFillSlotsResponse()
        for index, article_id in enumerate(request.article_ids):
            _check_deadline(context)
            page = related_pb.BatchPage(article_id=article_id)
            try:
                page.plan.CopyFrom(self._plan(Request(article_id, as_of_ms, scope), layout))
                page.plan.receipt.as_of.CopyFrom(timestamp(as_of_ms))
            except InvalidInputError as error:  # only the id can be invalid: all else is checked
                named = InvalidInputError(f"article_ids[{index}]", error.problem, fix=error.fix)
                page.problem.CopyFrom(problem_of(named))
            except RelatedNewsError as error:
                page.problem.CopyFrom(problem_of(error))
            response.pages.append(page)
            await asyncio.sleep(0)
        return response

    def _plan(self, page: Request, layout: Layout) -> related_pb.PagePlan:
        """Return the plan of a page, which is the cache's own: to copy, not to change."""

        def make() -> related_pb.PagePlan:
            plan = self._recommender().fill_slots(page, layout)
            return plan_to(plan, self._warnings(plan.receipt.page_language))

        return self._plans.plan(self._archive.live, self._options(), page, layout, make)

    def _recommender(self) -> Recommender:
        return Recommender(self._archive.live, _ranker(self._archive, self._options()))

    def _warnings(self, language: str) -> list[str]:
        return self._options().warnings(language, self._archive.encoder.info, self._archive.live.manifest.encoder)

    def _layout(self, request: LayoutRequest) -> Layout:
        if request.WhichOneof("layout_choice") == "layout":
            return layout_from(request.layout)
        return self._options().layout(request.layout_name)

    async def _request(
        self,
        request: related_pb.FillSlotsRequest | related_pb.ListRelatedRequest,
        context: Context,
        on_page_ids: tuple[str, ...],
    ) -> Request:
        scope, as_of_ms = scope_from(request.filters), as_of_from(request, self._now_ms())
        by_id = request.WhichOneof("page") == "article_id"
        if by_id:
            check_id(request.article_id, "article_id")
        elif not request.HasField("draft"):
            raise InvalidInputError("page", "is missing", fix="send article_id or draft")
        if request.min_revision:
            await self._archive.wait_for(request.min_revision, context.time_remaining())
        page = request.article_id if by_id else await self._draft(request.draft, as_of_ms, context)
        return Request(page, as_of_ms, scope, on_page_ids)

    async def _draft(self, message: related_pb.Draft, as_of_ms: int, context: Context) -> Draft:
        try:
            paragraphs = paragraphs_from(message.paragraphs)
            body = await asyncio.to_thread(make_body, message.title, message.summary, paragraphs)
            url = clean_label(message.url, "url", URL_BYTES_MAX)
            labels = make_labels(labels_from(message))
            is_dated = message.HasField("published_at")
            published_at_ms = time_from(message.published_at, "published_at") if is_dated else as_of_ms
        except InvalidInputError as error:
            raise error.under("draft") from None
        _check_deadline(context)
        vectors, analysis = await self._archive.read_draft(body, context.time_remaining())
        _check_deadline(context)
        return Draft(
            body=body,
            vectors=vectors,
            analysis=analysis,
            published_at_ms=published_at_ms,
            url=url,
            labels=labels,
        )


class ArticleService(articles_grpc.ArticleServiceServicer):
    """Changes the archive, and reports its contents and changes."""

    def __init__(self, archive: Archive, options: Callable[[], ServingOptions], now_ms: Callable[[], int]) -> None:
        """options: returns the present ones. now_ms: the clock."""
        self._archive = archive
        self._options = options
        self._now_ms = now_ms
        self._feed = AffectedFeed(archive, lambda: _ranker(archive, options()), now_ms)

    async def UpsertArticles(  # noqa: N802 - the contract's name
        self, request: articles_pb.UpsertArticlesRequest, context: Context
    ) -> articles_pb.UpsertArticlesResponse:
        """Add or replace articles."""
        _check_count("articles", len(request.articles), self._options().articles_per_write)
        checked = await asyncio.to_thread(upserts_from, request.articles, self._now_ms())  # a second for 32 MiB
        _check_deadline(context)
        outcomes, revision = await self._archive.upsert([one for one in checked if isinstance(one, Upsert)])
        results = [
            upsert_to(one.article.id, outcomes[one.article.id])
            if isinstance(one, Upsert)
            else refusal_to(message.id, problem_of(one))
            for message, one in zip(request.articles, checked, strict=True)
        ]
        return articles_pb.UpsertArticlesResponse(results=results, revision=revision)

    async def DeleteArticles(  # noqa: N802 - the contract's name
        self, request: articles_pb.DeleteArticlesRequest, context: Context
    ) -> articles_pb.DeleteArticlesResponse:
        """Withdraw articles."""
        _check_count("ids", len(request.ids), self._options().articles_per_write)
        ids = [check_id(article_id, f"ids[{i}]") for i, article_id in enumerate(request.ids)]
        _check_deadline(context)
        were_stored, revision = await self._archive.delete(ids)
        results = [articles_pb.DeleteResult(id=i, found=found) for i, found in zip(ids, were_stored, strict=True)]
        return articles_pb.DeleteArticlesResponse(results=results, revision=revision)

    async def GetArticle(  # noqa: N802 - the contract's name
        self, request: articles_pb.GetArticleRequest, context: Context
    ) -> articles_pb.GetArticleResponse:
        """Read one article."""
        _check_deadline(context)
        article = await self._archive.get(check_id(request.id, "id"))
        if article is None:
            raise NotFoundError("article", request.id)
        return articles_pb.GetArticleResponse(article=article_to(article))

    async def GetIndexStatus(  # noqa: N802 - the contract's name
        self, request: articles_pb.GetIndexStatusRequest, context: Context
    ) -> articles_pb.GetIndexStatusResponse:
        """Report counts, revisions, model and times of the index."""
        del request, context
        live, now_ms = self._archive.live, self._now_ms()
        status = articles_pb.GetIndexStatusResponse(
            article_count=live.count,
            revision=live.revision,
            store_revision=self._archive.store_revision,
            model=live.manifest.encoder,
            dimension=live.manifest.dimension,
            snapshot_revision=live.manifest.revision,
            snapshot_age=duration(max(0, now_ms - live.manifest.created_at_ms)),
            tail_count=live.changed_rows,
            version=importlib.metadata.version("related-news"),
            published_per_day=live.published_per_day(now_ms),
            layouts=sorted(self._options().layouts),
        )
        newest_ms = live.newest_ms(now_ms)
        if newest_ms is not None:
            status.newest_published_at.CopyFrom(timestamp(newest_ms))
        last_change_age_s = self._archive.last_change_age_s()
        if last_change_age_s is not None:
            status.last_change_age.CopyFrom(duration(int(last_change_age_s * 1000)))
        return status

    async def WatchAffectedPages(  # noqa: N802 - the contract's name
        self, request: articles_pb.WatchAffectedPagesRequest, context: Context
    ) -> AsyncIterator[articles_pb.WatchAffectedPagesResponse]:
        """Stream the pages that each change affects."""
        after = request.after_revision if request.HasField("after_revision") else None
        revision = await self._feed.start_revision(after, context.time_remaining())
        with self._feed.watcher(self._options().layout(request.layout_name)) as watcher:
            async for affected in watcher.follow(revision):
                yield affected_to(affected)


def _ranker(archive: Archive, options: ServingOptions) -> Ranker:
    return options.ranker_for(archive.live.manifest.encoder)


def _check_count(field: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise InvalidInputError(field, f"has {count} entries", fix=f"send 1 to {most}")


def _check_ids(field: str, ids: Sequence[str]) -> tuple[str, ...]:
    if len(ids) > EXCLUDED_IDS_MAX:
        raise InvalidInputError(field, f"{len(ids)} ids", fix=f"send at most {EXCLUDED_IDS_MAX}")
    return tuple(check_id(article_id, f"{field}[{i}]") for i, article_id in enumerate(ids))


def _check_deadline(context: Context) -> None:
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineError("the call's deadline has passed", fix="allow more time")
