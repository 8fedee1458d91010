"""The two gRPC services: from message to domain and back. No logic of its own; errors go up to interceptor.py."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import article_service_pb2_grpc as articles_grpc
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from related_news.v1 import related_news_service_pb2_grpc as related_grpc

from recommender.answer.layout import DEFAULT_LAYOUT, DEFAULT_LAYOUT_NAME, Layout
from recommender.answer.page import Draft
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender, Request
from recommender.catalog.articles import Article
from recommender.catalog.checks import URL_BYTES_MAX, check_id, clean_label, make_body, make_labels
from recommender.errors import DeadlineError, InvalidInputError, NotFoundError, OverloadError, RelatedNewsError
from recommender.rpc.messages import (
    affected_to,
    article_from,
    article_to,
    as_of_from,
    duration,
    labels_from,
    layout_from,
    list_to,
    now_ms,
    outcome_to,
    paragraphs_from,
    plan_to,
    scope_from,
    time_from,
    timestamp,
)
from recommender.rpc.statuses import problem_of
from recommender.serving.affected_feed import Watcher
from recommender.serving.archive import Archive
from recommender.serving.plan_cache import KeptAnswers, same_until_ms

K_DEFAULT = 10
EXCLUDED_IDS_MAX = 1_000
_NAMED_MOST = 100
"""Of a question that names more ids and labels the answer is not kept: the question would take more memory than it."""
WATCHERS_MAX = 8
"""Clients that a worker plans affected pages for at once."""
LAYOUT_NAME_SHOWN = 80
"""Characters of an unknown layout's name that its refusal repeats: statuses travel in headers, which are small."""

Context = grpc.aio.ServicerContext[Any, Any]
LayoutRequest = related_pb.FillSlotsRequest | related_pb.BatchFillSlotsRequest


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A ranker that was fitted on evidence of one encoder; None if it could not be read."""

    ranker: Ranker | None
    encoder: str


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """On what terms calls are answered. layouts: by name; the built-in default is there unless they redefine it."""

    layouts: Mapping[str, Layout]
    pages_per_batch: int = 100
    articles_per_write: int = 500
    fitted: Fitted | None = None


class RelatedNewsService(related_grpc.RelatedNewsServiceServicer):
    """Answers from the archive's live view, on the loop's thread."""

    def __init__(self, archive: Archive, terms: Terms) -> None:
        """terms: may be set anew at any time."""
        self._archive = archive
        self.terms = terms
        self._default_ranker = Ranker()
        self._kept: KeptAnswers[related_pb.PagePlan] = KeptAnswers()

    @property
    def layouts(self) -> dict[str, Layout]:
        """Layouts that FillSlots takes by name."""
        return {DEFAULT_LAYOUT_NAME: DEFAULT_LAYOUT, **self.terms.layouts}

    async def FillSlots(  # noqa: N802 - the contract's name
        self, request: related_pb.FillSlotsRequest, context: Context
    ) -> related_pb.FillSlotsResponse:
        """Fill every slot of one page."""
        layout = self._layout(request)
        wanted = await self._request(request, context, _check_ids("on_page_ids", request.on_page_ids))
        response = related_pb.FillSlotsResponse()
        self._fill(response.plan, wanted, layout)
        return response

    async def ListRelated(  # noqa: N802 - the contract's name
        self, request: related_pb.ListRelatedRequest, context: Context
    ) -> related_pb.ListRelatedResponse:
        """List related articles."""
        if not 0 <= request.min_score <= 1:
            raise InvalidInputError("min_score", f"is {request.min_score}", fix="send 0 to 1")
        wanted = await self._request(request, context, _check_ids("exclude_ids", request.exclude_ids))
        k = request.k if request.HasField("k") else K_DEFAULT
        related = self._recommender().list_related(wanted, k, request.min_score)
        return list_to(related, self._warnings(related.receipt.page_language))

    async def BatchFillSlots(  # noqa: N802 - the contract's name
        self, request: related_pb.BatchFillSlotsRequest, context: Context
    ) -> related_pb.BatchFillSlotsResponse:
        """Fill the pages of many stored articles; other calls get their turn between two pages."""
        _check_count("article_ids", len(request.article_ids), self.terms.pages_per_batch)
        layout = self._layout(request)
        scope, as_of_ms = scope_from(request.filters), as_of_from(request)
        await self._archive.wait_for(request.min_revision, context.time_remaining())
        response = related_pb.BatchFillSlotsResponse()
        for index, article_id in enumerate(request.article_ids):
            _check_deadline(context)
            try:
                check_id(article_id, f"article_ids[{index}]")
                page = related_pb.BatchPage(article_id=article_id)
                self._fill(page.plan, Request(article_id, as_of_ms, scope), layout)
                response.pages.append(page)
            except RelatedNewsError as error:
                response.pages.append(related_pb.BatchPage(article_id=article_id, problem=problem_of(error)))
            await asyncio.sleep(0)
        return response

    def _fill(self, message: related_pb.PagePlan, wanted: Request, layout: Layout) -> None:
        """Write the plan of a page into `message`: made now, or before if nothing can have changed it."""
        live, ranker, as_of_ms = self._archive.live, self.ranker(), wanted.as_of_ms
        if isinstance(wanted.page, Draft):
            message.CopyFrom(self._made(wanted, layout))
            return
        kept = self._kept.at(live, ranker, self.terms)
        question = (wanted.page, wanted.scope, wanted.on_page_ids, layout)
        known = kept.find(question, as_of_ms)
        if known is None:
            known = self._made(wanted, layout)
            if len(wanted.on_page_ids) + wanted.scope.size + self._labels_given(layout) <= _NAMED_MOST:
                kept.keep(question, known, as_of_ms, same_until_ms(live, ranker, wanted.page, as_of_ms))
        message.CopyFrom(known)
        message.receipt.as_of.CopyFrom(timestamp(as_of_ms))

    def _made(self, wanted: Request, layout: Layout) -> related_pb.PagePlan:
        plan = self._recommender().fill_slots(wanted, layout)
        return plan_to(plan, self._warnings(plan.receipt.page_language))

    def _labels_given(self, layout: Layout) -> int:
        """Return how many labels the slots of a layout name that is not one of ours, which all calls share."""
        ours = self.layouts.get(layout.name) is layout
        return 0 if ours else sum(slot.filters.scope().size for slot in layout.slots)

    def ranker(self) -> Ranker:
        """Return the ranker that the settings name, or the default one while that does not fit the index."""
        fitted = self.terms.fitted
        if fitted is None or fitted.ranker is None or fitted.encoder != self._archive.live.manifest.encoder:
            return self._default_ranker
        return fitted.ranker

    def _recommender(self) -> Recommender:
        return Recommender(self._archive.live, self.ranker())

    def _layout(self, request: LayoutRequest) -> Layout:
        if request.WhichOneof("layout_choice") == "layout":
            return layout_from(request.layout)
        return self.layout_named(request.layout_name)

    def layout_named(self, name: str) -> Layout:
        """Return a layout by its name; "" is the default one. Raises NotFoundError."""
        name = name or DEFAULT_LAYOUT_NAME
        layouts = self.layouts
        if name not in layouts:
            known = ", ".join(sorted(layouts))
            raise NotFoundError("layout", name[:LAYOUT_NAME_SHOWN], fix=f"use one of: {known}; or give a layout inline")
        return layouts[name]

    async def _request(
        self,
        request: related_pb.FillSlotsRequest | related_pb.ListRelatedRequest,
        context: Context,
        on_page_ids: tuple[str, ...],
    ) -> Request:
        scope, as_of_ms = scope_from(request.filters), as_of_from(request)
        chosen = request.WhichOneof("page")
        if chosen is None:
            raise InvalidInputError("page", "is missing", fix="send article_id or draft")
        if chosen == "article_id":
            check_id(request.article_id, "article_id")
        if request.min_revision:
            await self._archive.wait_for(request.min_revision, context.time_remaining())
        by_id = chosen == "article_id"
        page = request.article_id if by_id else await self._draft(request.draft, as_of_ms, context)
        return Request(page, as_of_ms, scope, on_page_ids)

    async def _draft(self, message: related_pb.Draft, as_of_ms: int, context: Context) -> Draft:
        try:
            paragraphs = paragraphs_from(message.paragraphs)
            body = await asyncio.to_thread(make_body, message.title, message.summary, paragraphs)
            url = clean_label(message.url, "url", URL_BYTES_MAX)
            labels = make_labels(labels_from(message))
            dated = message.HasField("published_at")
            published_at_ms = time_from(message.published_at, "published_at") if dated else as_of_ms
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

    def _warnings(self, language: str) -> list[str]:
        info, fitted = self._archive.encoder.info, self.terms.fitted
        warnings = []
        if language and info.languages and language not in info.languages:
            known = ", ".join(sorted(info.languages))
            warnings.append(
                f"the model {info.name} is made for {known}; this page is {language}: trust wording more than meaning"
            )
        if fitted and fitted.ranker is None:
            warnings.append("the fitted ranker cannot be read: ranked by the default; the service's log says why")
        elif fitted and fitted.encoder != self._archive.live.manifest.encoder:
            warnings.append(f"the fitted ranker is for {fitted.encoder}: ranked by the default; fit it again")
        return warnings


class ArticleService(articles_grpc.ArticleServiceServicer):
    """Keeps the archive."""

    def __init__(self, archive: Archive, related: RelatedNewsService) -> None:
        """related: knows the layouts and limits."""
        self._archive = archive
        self._related = related
        self._watchers = 0

    async def UpsertArticles(  # noqa: N802 - the contract's name
        self, request: articles_pb.UpsertArticlesRequest, context: Context
    ) -> articles_pb.UpsertArticlesResponse:
        """Add or replace articles."""
        _check_count("articles", len(request.articles), self._related.terms.articles_per_write)
        checked = await asyncio.to_thread(_check_articles, request.articles)  # of 32 MiB it takes a second
        good = [article for article in checked if isinstance(article, Article)]
        _check_deadline(context)
        keep_rules = [
            not message.HasField("rules")
            for message, article in zip(request.articles, checked, strict=True)
            if isinstance(article, Article)
        ]
        outcomes, revision = await self._archive.upsert(good, keep_rules=keep_rules)
        done = iter(outcomes)
        results = []
        for message, article in zip(request.articles, checked, strict=True):
            if isinstance(article, Article):
                outcome = "unchanged" if next(done).value == "unchanged" else "accepted"
                results.append(articles_pb.UpsertResult(id=message.id, outcome=outcome_to(outcome)))
            else:
                results.append(
                    articles_pb.UpsertResult(id=message.id, outcome=outcome_to("refused"), problem=problem_of(article))
                )
        return articles_pb.UpsertArticlesResponse(results=results, revision=revision)

    async def DeleteArticles(  # noqa: N802 - the contract's name
        self, request: articles_pb.DeleteArticlesRequest, context: Context
    ) -> articles_pb.DeleteArticlesResponse:
        """Withdraw articles."""
        _check_count("ids", len(request.ids), self._related.terms.articles_per_write)
        ids = [check_id(article_id, f"ids[{i}]") for i, article_id in enumerate(request.ids)]
        _check_deadline(context)
        found, revision = await self._archive.delete(ids)
        results = [articles_pb.DeleteResult(id=i, found=f) for i, f in zip(ids, found, strict=True)]
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
        """Say what is indexed."""
        del request, context
        archive, live, clock_ms = self._archive, self._archive.live, now_ms()
        status = articles_pb.GetIndexStatusResponse(
            article_count=live.count,
            revision=live.revision,
            store_revision=max(archive.store_revision, live.revision),
            model=live.manifest.encoder,
            dimension=live.manifest.dimension,
            snapshot_revision=live.manifest.revision,
            snapshot_age=duration(max(0, clock_ms - live.manifest.created_at_ms)),
            tail_count=live.changed,
            version=importlib.metadata.version("related-news"),
            published_per_day=live.published_per_day(clock_ms),
            layouts=sorted(self._related.layouts),
        )
        newest = live.newest_ms(clock_ms)
        if newest is not None:
            status.newest_published_at.CopyFrom(timestamp(newest))
        if archive.last_change_s is not None:
            status.last_change_age.CopyFrom(duration(int((time.monotonic() - archive.last_change_s) * 1000)))
        return status

    async def WatchAffectedPages(  # noqa: N802 - the contract's name
        self, request: articles_pb.WatchAffectedPagesRequest, context: Context
    ) -> AsyncIterator[articles_pb.WatchAffectedPagesResponse]:
        """Stream the pages that each change affects."""
        latest = self._archive.live.revision
        after = request.after_revision if request.HasField("after_revision") else latest
        if after > latest:
            stored = await self._archive.stored_revision()
            if after > stored:
                raise InvalidInputError(
                    "after_revision", f"is {after}; the last one is {stored}", fix="send one you have seen"
                )
            await self._archive.wait_for(after, context.time_remaining())  # another worker told it, which was ahead
        layout = self._related.layout_named(request.layout_name)
        if self._watchers >= WATCHERS_MAX:
            raise OverloadError(
                f"{self._watchers} clients watch here already", fix="share one feed, or try again later"
            )
        self._watchers += 1
        try:
            async for one in Watcher(self._archive, self._related.ranker, layout, now_ms).follow(after):
                yield affected_to(one)
        finally:
            self._watchers -= 1


def _check_articles(messages: Sequence[common_pb.Article]) -> list[Article | InvalidInputError]:
    """Return each article, or why it is refused; of two with one id both are."""
    clock_ms = now_ms()
    times = Counter(message.id for message in messages)
    checked: list[Article | InvalidInputError] = []
    for index, message in enumerate(messages):
        try:
            if times[message.id] > 1:
                raise InvalidInputError("id", f"{message.id[:40]!r} stands twice in this call", fix="send it once")
            checked.append(article_from(message, clock_ms))
        except InvalidInputError as error:
            checked.append(error.under(f"articles[{index}]"))
    return checked


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
