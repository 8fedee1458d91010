"""START HERE: one answer, stage by stage.

page -> retrieve (candidates) -> rank (scored candidates) -> fill slots (suppressing what must not be) -> explain

Everything here runs on the thread that owns the live view, so that one answer sees one revision. Nothing here knows
gRPC; service.py translates.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from recommender.answer.evidence import Evidence
from recommender.answer.layout import DEFAULT_LAYOUT, Fallback, Layout, Slot
from recommender.answer.page import Draft, Page, draft_page, stored_page
from recommender.answer.plan import FilledSlot, PagePlan, Part, Place, Receipt, Recommendation, RelatedList
from recommender.answer.rank import Ranker, Scored, default_half_life_days
from recommender.answer.reasons import reason
from recommender.answer.retrieve import retrieve
from recommender.answer.slots import SHORTLIST, Empty, PageLinks, PlacedLink, Pool, SlotLinks, fill, nothing
from recommender.answer.suppression import PageJudge
from recommender.catalog.checks import check_id
from recommender.catalog.live import DAY_MS, Live
from recommender.catalog.snapshot.columns import Flag
from recommender.catalog.snapshot.scope import Scope
from recommender.errors import InvalidInputError, NotFoundError

K_MAX = 100
EVERY = frozenset({"*"})
"""In a request's scope: every language, every site."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a page. page: a stored article's id, or a draft. as_of_ms: only what was public then.

    scope: None in languages and sites stands for the page's own; EVERY for every one. on_page_ids: articles that the
    page links to already; ids that are not stored are passed over.
    """

    page: str | Draft
    as_of_ms: int
    scope: Scope = field(default_factory=Scope)
    on_page_ids: tuple[str, ...] = ()


class Recommender:
    """Answers from one live view. One thread."""

    def __init__(self, live: Live, ranker: Ranker | None = None) -> None:
        """Answer from `live`, ranked by `ranker` or the default one."""
        self.live = live
        self.ranker = ranker or Ranker()

    def fill_slots(self, request: Request, layout: Layout = DEFAULT_LAYOUT) -> PagePlan:
        """Return the page plan. Raises NotFoundError if the page is not stored, InvalidInputError if its id is none."""
        answer = _Answer(self.live, self.ranker, request)
        if answer.page.never_source:
            return answer.plan(layout, nothing(layout, Empty.NEVER_SOURCE))
        pools = [answer.pool(slot) for slot in layout.slots]
        latest = [answer.latest(slot) for slot in layout.slots]
        return answer.plan(layout, fill(layout, pools, latest, answer.page.kinds, answer.judge))

    def score(self, request: Request) -> Scored:
        """Return every candidate of a page with its evidence and score, nothing suppressed. Errors as fill_slots."""
        return _Answer(self.live, self.ranker, request).everything()

    def half_life_days(self, as_of_ms: int) -> float:
        """Return the age that freshness is measured in, unless a slot says otherwise."""
        return default_half_life_days(self.live, as_of_ms)

    def list_related(self, request: Request, k: int = 10, min_score: float = 0.0) -> RelatedList:
        """Return at most k related articles, best first, near copies of each other left out. Errors as fill_slots."""
        if not 1 <= k <= K_MAX:
            raise InvalidInputError("k", f"is {k}", fix=f"ask for 1 to {K_MAX}")
        answer = _Answer(self.live, self.ranker, request)
        if answer.page.never_source:
            return RelatedList((), answer.receipt(""))
        return answer.best(k, min_score)


class _Answer:
    """One answer in the making: the page, and what was found, scored and removed for it."""

    def __init__(self, live: Live, ranker: Ranker, request: Request) -> None:
        self.live = live
        self.ranker = ranker
        self.as_of_ms = request.as_of_ms
        self.page = _find_page(live, request)
        self.scope = _own_labels(request.scope, self.page)
        self.excluded = _excluded_rows(live, self.page, request.on_page_ids)
        self.judge = PageJudge(live, self.page, [row for row in self.excluded if row != self.page.row])
        self.half_life_days = default_half_life_days(live, request.as_of_ms)
        self.removed: Counter[str] = Counter()
        self._evidence: dict[tuple[Scope, int], Evidence] = {}
        self._scored: dict[tuple[Scope, int, float], Scored] = {}
        self._pools: dict[int, Pool] = {}
        self._terms: dict[Slot, Scored] = {}
        self._seen: list[npt.NDArray[np.int64]] = []

    # Stages

    def score(self, scope: Scope, oldest_ms: int, half_life_days: float) -> Scored:
        """Retrieve, gather evidence and score; slots with the same terms share the work."""
        key = (scope, oldest_ms, half_life_days)
        if key not in self._scored:
            evidence = self._gather(scope, oldest_ms)
            self._scored[key] = self.ranker.score(evidence, half_life_days)
        return self._scored[key]

    def everything(self) -> Scored:
        """Score every candidate on the request's own terms."""
        return self.score(self.scope, 0, self.half_life_days)

    def _gather(self, scope: Scope, oldest_ms: int) -> Evidence:
        key = (scope, oldest_ms)
        if key not in self._evidence:
            found = retrieve(self.live, self.page, scope, self.as_of_ms, oldest_ms=oldest_ms, excluded=self.excluded)
            self._seen.append(found.rows)
            self.removed |= Counter(found.excluded)
            self._evidence[key] = self.ranker.gather(self.live, self.page, found, self.as_of_ms)
        return self._evidence[key]

    def scored_for(self, slot: Slot) -> Scored:
        """Return the candidates on the slot's own terms."""
        found = self._terms.get(slot)
        if found is None:
            scope = self.scope.narrowed(slot.filters.scope())
            half_life_days = slot.freshness_half_life_days or self.half_life_days
            found = self._terms[slot] = self.score(scope, self._oldest_ms(slot), half_life_days)
        return found

    def pool(self, slot: Slot) -> Pool:
        """Return the slot's best candidates, and as many more as are below its least score, for the receipt."""
        scored = self.scored_for(slot)
        found = self._pools.get(id(scored))
        if found is None:
            order = scored.order()
            rows = scored.evidence.rows[order]
            self.judge.prepare(np.sort(rows[:SHORTLIST]))
            found = self._pools[id(scored)] = Pool(rows, scored.scores[order], self._vectors(rows[:SHORTLIST]))
        return found

    def latest(self, slot: Slot) -> Pool:
        """Return the candidates of the slot's fallback, the latest first, of one moment as their ids' hashes.

        None if it has no fallback. Evergreen articles pass its max_age always.
        """
        if slot.fallback is not Fallback.LATEST_IN_SECTION or not self.page.labels.section:
            return Pool.none()
        own = Scope(sections=frozenset({self.page.labels.section}))
        scope = self.scope.narrowed(slot.filters.scope()).narrowed(own)
        rows = np.sort(self.live.latest(scope, SHORTLIST + len(self.excluded), self.as_of_ms))
        rows = rows[~np.isin(rows, list(self.excluded))]
        public_at_ms, flags = (self.live.column(name, rows) for name in ("public_at_ms", "flags"))
        passing = (public_at_ms >= self._oldest_ms(slot)) | ((flags & Flag.EVERGREEN.value) != 0)
        order = np.lexsort((self.live.id_hashes(rows), -public_at_ms))
        rows = rows[order[passing[order]]][:SHORTLIST]
        return Pool(rows, np.zeros(len(rows), np.float32), self._vectors(rows))

    def best(self, k: int, min_score: float) -> RelatedList:
        """Return the k best, none of which clashes with the page or with one before it."""
        scored = self.everything()
        chosen: list[int] = []
        for index in scored.order().tolist():
            if len(chosen) == k:
                break
            row = int(scored.evidence.rows[index])
            if scored.scores[index] < min_score:
                self.removed["below_min_score"] += 1
            elif rule := self.judge.clash(row, chosen):
                self.removed[rule] += 1
            else:
                chosen.append(row)
        links = tuple(self._explain(scored, row, fallback=False) for row in chosen)
        return RelatedList(links, self.receipt(""))

    def _oldest_ms(self, slot: Slot) -> int:
        if slot.max_age_days is None:
            return 0
        return max(0, self.page.published_at_ms - int(slot.max_age_days * DAY_MS))

    def _vectors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        order = np.argsort(rows)
        vectors = np.empty((len(rows), len(self.page.main)), np.float32)
        vectors[order] = self.live.main_vectors(rows[order])
        return vectors

    # The answer

    def plan(self, layout: Layout, plan: PageLinks) -> PagePlan:
        """Explain every link of a plan and add the receipt."""
        self.removed.update(plan.removed)
        slots = tuple(FilledSlot(filled.slot, self._places(filled)) for filled in plan.slots)
        return PagePlan(slots, self.receipt(layout.name))

    def _places(self, filled: SlotLinks) -> tuple[Place, ...]:
        links = tuple(Place(self._link(filled.slot, place), place.after_paragraph) for place in filled.places)
        return links + tuple(Place(None, empty=why) for why in filled.empty)

    def _link(self, slot: Slot, place: PlacedLink) -> Recommendation:
        return self._explain(self.scored_for(slot), place.row, fallback=place.fallback)

    def _explain(self, scored: Scored, row: int, *, fallback: bool) -> Recommendation:
        record = self.judge.record(row)
        published_at_ms = self.live.published_at_ms(row)
        index = int(np.searchsorted(scored.evidence.rows, row))
        known = not fallback and index < len(scored.evidence.rows)
        return Recommendation(
            article=record,
            published_at_ms=published_at_ms,
            score=float(scored.scores[index]) if known else 0.0,
            parts=tuple(Part(*part) for part in scored.explain(index)) if known else (),
            reason=reason(
                self.judge.subjects(row),
                wording=float(scored.evidence.wording[index]) if known else 0.0,
                gap_days=(self.page.published_at_ms - published_at_ms) / DAY_MS,
                evergreen=bool(known and scored.evidence.evergreen[index]),
                fallback=fallback,
            ),
            fallback=fallback,
        )

    def receipt(self, layout: str) -> Receipt:
        """Return how this answer came about."""
        return Receipt(
            revision=self.live.revision,
            encoder=self.live.manifest.encoder,
            ranker=self.ranker.formula.name,
            layout=layout,
            as_of_ms=self.as_of_ms,
            candidates_seen=_distinct(self._seen) + sum(self.removed[rule] for rule in ("page_itself", "on_page")),
            removals={rule: count for rule, count in self.removed.items() if count},
            page_language=self.page.labels.language,
        )


def _distinct(rows: list[npt.NDArray[np.int64]]) -> int:
    return len(rows[0]) if len(rows) == 1 else len(np.unique(np.concatenate(rows))) if rows else 0


def _find_page(live: Live, request: Request) -> Page:
    if isinstance(request.page, Draft):
        return draft_page(live, request.page)
    row = live.find(check_id(request.page, "article_id"))
    if row is None:
        raise NotFoundError("article", request.page, fix="upsert it first, or send the page as a draft")
    return stored_page(live, row)


def _own_labels(scope: Scope, page: Page) -> Scope:
    """Put the page's own language and site where the request names none; unknown ones do not narrow."""

    def chosen(asked: frozenset[str] | None, own: str) -> frozenset[str] | None:
        if asked is None:
            return frozenset({own}) if own else None
        return None if asked == EVERY else asked

    labels = page.labels
    return replace(scope, languages=chosen(scope.languages, labels.language), sites=chosen(scope.sites, labels.site))


def _excluded_rows(live: Live, page: Page, on_page_ids: tuple[str, ...]) -> dict[int, str]:
    found = map(live.find, on_page_ids)
    excluded = {row: "on_page" for row in found if row is not None}
    if page.row is not None:
        excluded[page.row] = "page_itself"
    return excluded
