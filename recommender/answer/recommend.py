"""START HERE: one answer, stage by stage.

page -> retrieve (candidates) -> rank (scores) -> fill (slots, without what is suppressed) -> explain

All of it runs on the thread that owns the live view, so that one answer sees one revision. Nothing here knows gRPC:
`recommender.rpc` translates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from recommender.answer.layout import DEFAULT_LAYOUT, Fallback, Layout, Slot
from recommender.answer.page import Draft, Page, draft_page, stored_page
from recommender.answer.plan import FilledSlot, PagePlan, Part, Place, Receipt, Recommendation, RelatedList
from recommender.answer.rank import Ranker, Scored, default_half_life_days
from recommender.answer.reasons import fallback_reason, reason
from recommender.answer.records import RecordCache
from recommender.answer.retrieve import Candidates, retrieve
from recommender.answer.shared_terms import ParagraphFit, SharedTerms
from recommender.answer.slots import SHORTLIST, Empty, PageLinks, Pool, SlotLinks, fill, nothing
from recommender.answer.suppression import Suppression
from recommender.catalog.checks import check_id
from recommender.catalog.live import Live
from recommender.catalog.snapshot.columns import Flag
from recommender.catalog.snapshot.scope import Scope
from recommender.clock import DAY_MS
from recommender.errors import InvalidInputError, NotFoundError

K_MAX = 100
"""Most related articles that one call may ask for."""
EVERY = frozenset({"*"})
"""In a request's scope: every language, every site."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    page: a stored article's id, or a draft.
    as_of_ms: only articles that were public then are candidates.
    scope: None in languages or sites stands for the page's own; EVERY for all.
    on_page_ids: articles that the page links to already. Ids that are not stored are ignored.
    """

    page: str | Draft
    as_of_ms: int
    scope: Scope = field(default_factory=Scope)
    on_page_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Search:
    """Which candidates a slot has; oldest_ms exempts evergreen articles."""

    scope: Scope
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class _Query:
    """How a slot's candidates are found and ranked. Slots with equal queries share the work."""

    search: _Search
    half_life_days: float


@dataclass(frozen=True, slots=True, eq=False)
class _Context:
    """The page, the request's terms, and what is read of candidates as the answer is made.

    excluded: rows that are no candidates, each with the rule that says so.
    queries: one for each slot, in the layout's order; without a layout the request's own.
    """

    page: Page
    as_of_ms: int
    scope: Scope
    excluded: dict[int, str]
    layout_name: str
    queries: tuple[_Query, ...]
    suppression: Suppression
    shared_terms: SharedTerms
    records: RecordCache


_CandidatesBySearch = Mapping[_Search, Candidates]
_ScoredByQuery = Mapping[_Query, Scored]


class Recommender:
    """Answers from one live view. One thread."""

    def __init__(self, live: Live, ranker: Ranker | None = None) -> None:
        """Answer from `live`, ranked by `ranker` or the default one."""
        self.live = live
        self.ranker = ranker or Ranker()

    def fill_slots(self, request: Request, layout: Layout = DEFAULT_LAYOUT) -> PagePlan:
        """Return the page plan.

        Raises NotFoundError if the page is not stored, InvalidInputError if its id cannot be an article's.
        """
        context = self._read_page(request, layout)
        if context.page.never_source:
            return self._explain(context, {}, {}, nothing(layout, Empty.NEVER_SOURCE))
        candidates = self._retrieve(context)
        scored = self._rank(context, candidates)
        links = self._fill(context, layout, scored)
        return self._explain(context, candidates, scored, links)

    def list_related(self, request: Request, k: int = 10, min_score: float = 0.0) -> RelatedList:
        """Return at most k related articles, best first, without near copies of each other. Errors as fill_slots."""
        if not 1 <= k <= K_MAX:
            raise InvalidInputError("k", f"is {k}", fix=f"ask for 1 to {K_MAX}")
        context = self._read_page(request)
        if context.page.never_source:
            return RelatedList((), self._receipt(context, {}, {}))
        candidates = self._retrieve(context)
        (scored,) = self._rank(context, candidates).values()
        rows, removed = _best(context, scored, k, min_score)
        links = tuple(self._explain_link(context, scored, row) for row in rows)
        return RelatedList(links, self._receipt(context, candidates, removed))

    def score(self, request: Request) -> Scored:
        """Return every candidate of a page with its features and score, without suppression. Errors as fill_slots."""
        context = self._read_page(request)
        (scored,) = self._rank(context, self._retrieve(context)).values()
        return scored

    def half_life_days(self, as_of_ms: int) -> float:
        """Return the age that freshness is measured in, unless a slot sets another one."""
        return default_half_life_days(self.live, as_of_ms)

    # Page

    def _read_page(self, request: Request, layout: Layout | None = None) -> _Context:
        page = _find_page(self.live, request)
        scope = _with_own_labels(request.scope, page)
        half_life_days = self.half_life_days(request.as_of_ms)
        queries = (
            (_Query(_Search(scope, 0), half_life_days),)
            if layout is None
            else tuple(_query(slot, page, scope, half_life_days) for slot in layout.slots)
        )
        excluded = _excluded_rows(self.live, page, request.on_page_ids)
        records = RecordCache(self.live)
        return _Context(
            page=page,
            as_of_ms=request.as_of_ms,
            scope=scope,
            excluded=excluded,
            layout_name=layout.name if layout else "",
            queries=queries,
            suppression=Suppression(self.live, page, [row for row in excluded if row != page.row], records),
            shared_terms=SharedTerms(self.live, page, records),
            records=records,
        )

    # Retrieve

    def _retrieve(self, context: _Context) -> _CandidatesBySearch:
        """Search once for all slots with the same search."""
        live, page, as_of_ms, excluded = self.live, context.page, context.as_of_ms, context.excluded
        return {
            search: retrieve(live, page, search.scope, as_of_ms, oldest_ms=search.oldest_ms, excluded=excluded)
            for search in dict.fromkeys(query.search for query in context.queries)
        }

    # Rank

    def _rank(self, context: _Context, candidates: _CandidatesBySearch) -> _ScoredByQuery:
        """Read the features of candidates once for each search, and score them once for each query."""
        features = {
            search: self.ranker.gather(self.live, context.page, found, context.as_of_ms)
            for search, found in candidates.items()
        }
        return {
            query: self.ranker.score(features[query.search], query.half_life_days)
            for query in dict.fromkeys(context.queries)
        }

    # Fill

    def _fill(self, context: _Context, layout: Layout, scored: _ScoredByQuery) -> PageLinks:
        pools = {query: self._pool(context, candidates) for query, candidates in scored.items()}
        return fill(
            layout,
            [pools[query] for query in context.queries],
            [
                self._fallback_pool(context, slot, query.search.oldest_ms)
                for slot, query in zip(layout.slots, context.queries, strict=True)
            ],
            context.page.kinds,
            context.suppression.rule_against,
            ParagraphFit(context.page, context.shared_terms).fit,
        )

    def _pool(self, context: _Context, scored: Scored) -> Pool:
        """Return all candidates, best first; the receipt counts also those below a slot's threshold."""
        order = scored.order()
        rows = scored.features.rows[order]
        context.suppression.prefetch(np.sort(rows[:SHORTLIST]))
        return Pool(rows, scored.scores[order], self._vectors(rows[:SHORTLIST]))

    def _fallback_pool(self, context: _Context, slot: Slot, oldest_ms: int) -> Pool:
        """Return the candidates of the slot's fallback, newest first, ties by id hash; none if it has no fallback.

        Evergreen articles are exempt from oldest_ms.
        """
        section = context.page.labels.section
        if slot.fallback is not Fallback.LATEST_IN_SECTION or not section:
            return Pool.none()
        scope = context.scope.narrowed(slot.filters.scope()).narrowed(Scope(sections=frozenset({section})))
        rows = np.sort(self.live.latest(scope, SHORTLIST + len(context.excluded), context.as_of_ms))
        rows = rows[~np.isin(rows, list(context.excluded))]
        public_at_ms, flags = (self.live.column(name, rows) for name in ("public_at_ms", "flags"))
        passing = (public_at_ms >= oldest_ms) | ((flags & Flag.EVERGREEN.value) != 0)
        order = np.lexsort((self.live.id_hashes(rows), -public_at_ms))
        rows = rows[order[passing[order]]][:SHORTLIST]
        return Pool(rows, np.zeros(len(rows), np.float32), self._vectors(rows))

    def _vectors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the main vectors of `rows` in any order; the live view reads them in ascending order."""
        order = np.argsort(rows)
        ascending = self.live.main_vectors(rows[order])
        vectors = np.empty_like(ascending)
        vectors[order] = ascending
        return vectors

    # Explain

    def _explain(
        self, context: _Context, candidates: _CandidatesBySearch, scored: _ScoredByQuery, links: PageLinks
    ) -> PagePlan:
        slots = tuple(
            FilledSlot(slot.slot, self._places(context, scored.get(query), slot))
            for slot, query in zip(links.slots, context.queries, strict=True)
        )
        return PagePlan(slots, self._receipt(context, candidates, links.removed))

    def _places(self, context: _Context, scored: Scored | None, slot: SlotLinks) -> tuple[Place, ...]:
        filled = tuple(
            Place(
                self._explain_link(context, None if link.fallback else scored, link.row),
                link.after_paragraph,
            )
            for link in slot.links
        )
        return filled + tuple(Place(None, empty=why) for why in slot.empty)

    def _explain_link(self, context: _Context, scored: Scored | None, row: int) -> Recommendation:
        """Explain one link. scored: the candidates that it was chosen from; None for a fallback."""
        article = context.records.record(row)
        published_at_ms = self.live.published_at_ms(row)
        gap_days = (context.page.published_at_ms - published_at_ms) / DAY_MS
        if scored is None:
            return Recommendation(article, published_at_ms, 0.0, (), fallback_reason(gap_days), fallback=True)
        index = int(np.searchsorted(scored.features.rows, row))
        return Recommendation(
            article=article,
            published_at_ms=published_at_ms,
            score=float(scored.scores[index]),
            parts=tuple(Part(*part) for part in scored.explain(index)),
            reason=reason(
                context.shared_terms.subjects(row),
                wording=float(scored.features["wording"][index]),
                gap_days=gap_days,
                evergreen=bool(scored.features.evergreen[index]),
            ),
            fallback=False,
        )

    def _receipt(self, context: _Context, candidates: _CandidatesBySearch, removed_later: Mapping[str, int]) -> Receipt:
        """Return the receipt. removed_later: number of candidates that each rule removed after retrieval."""
        removed: Counter[str] = Counter()
        for found in candidates.values():
            removed |= Counter(found.excluded)
        candidates_seen = _distinct([found.rows for found in candidates.values()]) + removed.total()
        removed.update(removed_later)
        return Receipt(
            revision=self.live.revision,
            encoder=self.live.manifest.encoder,
            ranker=self.ranker.formula.name,
            layout=context.layout_name,
            as_of_ms=context.as_of_ms,
            candidates_seen=candidates_seen,
            removals={rule: count for rule, count in removed.items() if count},
            page_language=context.page.labels.language,
        )


def _find_page(live: Live, request: Request) -> Page:
    if isinstance(request.page, Draft):
        return draft_page(live, request.page)
    row = live.find(request.page)
    if row is None:
        article_id = check_id(request.page, "article_id")  # the id of a stored article needs no check
        raise NotFoundError("article", article_id, fix="upsert it first, or send the page as a draft")
    return stored_page(live, row)


def _with_own_labels(scope: Scope, page: Page) -> Scope:
    """Restrict a scope to the page's language and site where the request names none; unknown ones do not restrict."""

    def chosen(requested: frozenset[str] | None, own: str) -> frozenset[str] | None:
        if requested is None:
            return frozenset({own}) if own else None
        return None if requested == EVERY else requested

    labels = page.labels
    return replace(scope, languages=chosen(scope.languages, labels.language), sites=chosen(scope.sites, labels.site))


def _excluded_rows(live: Live, page: Page, on_page_ids: tuple[str, ...]) -> dict[int, str]:
    excluded = {row: "on_page" for row in map(live.find, on_page_ids) if row is not None}
    if page.row is not None:
        excluded[page.row] = "page_itself"
    return excluded


def _query(slot: Slot, page: Page, scope: Scope, half_life_days: float) -> _Query:
    """Return a slot's query. scope, half_life_days: the request's."""
    oldest_ms = 0
    if slot.max_age_days is not None:
        oldest_ms = max(0, page.published_at_ms - int(slot.max_age_days * DAY_MS))
    search = _Search(scope.narrowed(slot.filters.scope()), oldest_ms)
    return _Query(search, slot.freshness_half_life_days or half_life_days)


def _best(context: _Context, scored: Scored, k: int, min_score: float) -> tuple[list[int], Counter[str]]:
    """Return the rows of the k best that are not suppressed, and the number of candidates that each rule removed."""
    rows: list[int] = []
    removed: Counter[str] = Counter()
    for index in scored.order().tolist():
        if len(rows) == k:
            break
        row = int(scored.features.rows[index])
        if scored.scores[index] < min_score:
            removed["below_min_score"] += 1
        elif rule := context.suppression.rule_against(row, rows):
            removed[rule] += 1
        else:
            rows.append(row)
    return rows, removed


def _distinct(rows: list[npt.NDArray[np.int64]]) -> int:
    """Return the number of distinct rows in several arrays; each has no duplicates."""
    return len(rows[0]) if len(rows) == 1 else len(np.unique(np.concatenate(rows))) if rows else 0
