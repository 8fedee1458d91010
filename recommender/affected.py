"""Which stored pages a change affects: retrieval turned round.

Pages near the changed article are found as its own candidates are, and the article is scored as a candidate of each, by
the default formula. The likely ones are then planned anew, by the service's own ranker. A page is affected if the
article has a place on it now, or, where an article is gone or was another one before, if it would have had one: if it
scores at least as well as the weakest link that stands there now, or there is an empty place.

Meant are plans of default requests: each page's own language and site, no further filters. Places that a slot's
fallback fills are left out: they change with every new article of a section.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from recommender.answer import PagePlan
from recommender.catalog.derived import Analysis, Vectors
from recommender.catalog.live import Live
from recommender.catalog.rows import Before
from recommender.catalog.segment import Flag, Scope
from recommender.evidence import Extras, Floats
from recommender.page import Page, former_page, stored_page
from recommender.policy import Layout, Slot
from recommender.rank import Ranker, default_half_life_days
from recommender.recommend import Recommender, Request
from recommender.retrieve import Found, retrieve
from recommender.slots import Empty

CONFIRMED_MOST = 200
"""So many pages, the likeliest first, are planned anew for one change."""
SLACK = 0.25
"""A former article had a place from so much below the weakest link's log-odds on: links shall differ, too."""
_FILLABLE = (Empty.NO_CANDIDATES, Empty.BELOW_MIN_SCORE, Empty.TOO_SIMILAR)
_LIKELY = 0.5
"""Pages are planned anew from this share of the layout's lowest bar on: the default formula is not every ranker."""


@dataclass(frozen=True, slots=True)
class Former:
    """An article as it was before a change; see Change.before."""

    before: Before
    vectors: Vectors
    analysis: Analysis


@dataclass(frozen=True, slots=True)
class Likely:
    """A page that an article may have a place on. odds: log-odds of the article's score by the default formula."""

    row: int
    page_id: str
    article_id: str
    odds: float
    former: bool


class AffectedPages:
    """Finds the pages that changes affect, on one live view. One thread."""

    def __init__(self, live: Live, ranker: Ranker, layout: Layout, now_ms: int) -> None:
        """ranker, layout: whose plans are meant. now_ms: plans are those of this time."""
        self._live = live
        self._recommender = Recommender(live, ranker)
        self._layout = layout
        self._now_ms = now_ms
        self._formula = Ranker(extras=Extras())
        self._half_life_days = default_half_life_days(live, now_ms)

    def own_page(self, article_id: str) -> list[str]:
        """Return the article's own page, if it is stored and gets links."""
        row = self._live.find(article_id)
        return [article_id] if row is not None and not stored_page(self._live, row).never_source else []

    def likely(self, article_id: str, former: Former | None) -> list[Likely]:
        """Return pages on which the article may have a place now, or had one as `former`; the likeliest first."""
        found: dict[int, Likely] = {}
        row = self._live.find(article_id)
        if former is not None and not former.before.never_target and former.before.public_at_ms <= self._now_ms:
            page = former_page(self._live, article_id, former.before, former.vectors, former.analysis)
            terms = (former.before.evergreen, former.analysis.terms.words)
            found |= {one.row: one for one in self._near(page, row, *terms, former=True)}
        if row is not None and self._is_shown(row):
            columns = self._live.columns(np.array([row]))
            terms = (bool(columns.flags[0] & Flag.EVERGREEN), int(columns.words[0]))
            for one in self._near(stored_page(self._live, row), row, *terms, former=False):
                found[one.row] = replace(one, former=one.row in found)
        return sorted(found.values(), key=lambda one: -one.odds)[:CONFIRMED_MOST]

    def confirms(self, likely: Likely) -> bool:
        """Say whether the page's plan has, or would have had, a place for the article."""
        plan = self._recommender.fill_slots(Request(likely.page_id, self._now_ms), self._layout)
        links = [place.recommendation for _, places in plan.slots for place in places if place.recommendation]
        if any(link.record.id == likely.article_id for link in links):
            return True
        return likely.former and self._would_have_held(likely, plan)

    def _is_shown(self, row: int) -> bool:
        columns = self._live.columns(np.array([row]))
        return not columns.flags[0] & Flag.NEVER_TARGET and int(columns.public_at_ms[0]) <= self._now_ms

    def _near(self, article: Page, row: int | None, evergreen: bool, words: int, *, former: bool) -> list[Likely]:
        """Return the pages near an article for which it passes the layout's lowest bar, or nearly does."""
        slots = [slot for slot in self._layout.slots if _may_hold(slot, article)]
        if not slots:
            return []
        own = {article.language, ""}, {article.site, ""}
        scope = Scope(languages=frozenset(own[0]), sites=frozenset(own[1]))
        excluded = {} if row is None else {row: "page_itself"}
        pages = retrieve(self._live, article, scope, self._now_ms, excluded=excluded)
        odds = self._odds(article, pages, evergreen, words)
        passing = odds >= logit(_LIKELY * min(slot.least_score for slot in slots))
        passing &= (self._live.columns(pages.rows).flags & Flag.NEVER_SOURCE) == 0
        ids = [self._live.record(int(page)).id for page in pages.rows[passing]]
        rows, values = pages.rows[passing].tolist(), odds[passing].tolist()
        return [
            Likely(page, page_id, article.id, value, former)
            for page, page_id, value in zip(rows, ids, values, strict=True)
        ]

    def _odds(self, article: Page, pages: Found, evergreen: bool, words: int) -> Floats:
        """Return the article's log-odds as a candidate of each page. Most evidence is the same both ways."""
        evidence = self._formula.gather(self._live, article, pages, self._now_ms)
        assert evidence.detail is not None
        n = len(pages.rows)
        turned = replace(
            evidence,
            title=evidence.detail.own_title,
            evergreen=np.full(n, evergreen, np.float32),
            words=np.full(n, words, np.float32),
        )
        return self._formula.score(turned, self._half_life_days).weighed.odds

    def _would_have_held(self, likely: Likely, plan: PagePlan) -> bool:
        """Say whether a slot would hold the former article: it passes, and a place is empty or its link weaker."""
        for slot, places in plan.slots:
            if expit(likely.odds) < slot.least_score:
                continue
            links = [place.recommendation.record.id for place in places if place.recommendation]
            fillable = any(place.empty in _FILLABLE for place in places)
            if fillable or (links and likely.odds >= self._weakest(likely.row, links) - SLACK):
                return True
        return False

    def _weakest(self, row: int, links: list[str]) -> float:
        """Return the log-odds of the weakest of some links on a page, by the default formula."""
        found = [self._live.find(article_id) for article_id in links]
        rows = np.unique([link for link in found if link is not None])
        page = stored_page(self._live, row)
        cosines = self._live.main_vectors(rows) @ page.main
        evidence = self._formula.gather(self._live, page, Found(rows, cosines, {}), self._now_ms)
        return float(self._formula.score(evidence, self._half_life_days).weighed.odds.min())


def _may_hold(slot: Slot, article: Page) -> bool:
    """Say whether a slot's filters let an article in."""
    filters = slot.filters
    labels = ((filters.sections, article.section), (filters.languages, article.language), (filters.sites, article.site))
    fits = all(not wanted or "*" in wanted or label in wanted for wanted, label in labels)
    return fits and (not filters.tags or bool(filters.tags & set(article.tags)))
