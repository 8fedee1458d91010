"""Which stored pages a change affects: retrieval in reverse.

Pages near the changed article are retrieved as its own candidates are, and the article is scored as a candidate of each
by the default formula. The likely pages are then planned by the service's own ranker: a page is affected if the article
has a place on it. If an article was withdrawn or changed, the archive with its former text is asked the same. The
change log does not keep its former headline and address, so that these rules do not keep it off a page there.

Plans are those of default requests: each page's own language and site, no other filters. Places that a slot's fallback
fills do not count: they change with every new article of a section.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recommender.answer.features import Detail, Floats
from recommender.answer.layout import Layout, Slot
from recommender.answer.page import Page, stored_page
from recommender.answer.rank import Ranker, default_half_life_days
from recommender.answer.recommend import Recommender, Request
from recommender.answer.retrieve import Candidates, retrieve
from recommender.catalog.live import Live
from recommender.catalog.snapshot.columns import Flag
from recommender.catalog.snapshot.row_values import make_row_values
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.writes import FormerArticle
from recommender.catalog.text.derived import Analysis, Vectors

PLANNED_MAX = 200
"""Most pages that are planned for one article, the likeliest first."""
_LIKELY = 0.5
"""A page is planned if the default formula's score reaches this share of the layout's lowest threshold. Below 1, since
another ranker may score higher."""


@dataclass(frozen=True, slots=True)
class Former:
    """An article as it was before a change; see Change.former."""

    logged: FormerArticle
    vectors: Vectors
    analysis: Analysis


class AffectedPages:
    """Finds the pages that show an article, on one live view. One thread."""

    def __init__(self, live: Live, ranker: Ranker, layout: Layout, now_ms: int) -> None:
        """ranker, layout, now_ms: those of the plans."""
        self._live = live
        self._recommender = Recommender(live, ranker)
        self._layout = layout
        self._now_ms = now_ms
        self._default_ranker = Ranker(detail=Detail())
        self._half_life_days = default_half_life_days(live, now_ms)

    def before(self, article_id: str, former: Former) -> AffectedPages:
        """Return the same for the archive in which the article is as it was before the change."""
        stored = StoredArticle(former.logged.to_article(article_id), former.vectors, former.analysis)
        live = self._live.with_article(*make_row_values([stored], self._live.idf))
        return AffectedPages(live, self._recommender.ranker, self._layout, self._now_ms)

    def own_page(self, article_id: str) -> list[str]:
        """Return the id of the article's own page, if it is stored and gets links."""
        row = self._live.find(article_id)
        return [article_id] if row is not None and not stored_page(self._live, row).never_source else []

    def likely(self, article_id: str) -> list[str]:
        """Return ids of pages that may link to the article, likeliest first; none if it may not be linked."""
        row = self._live.find(article_id)
        if row is None or not self._may_be_linked(row):
            return []
        article = stored_page(self._live, row)
        slots = [slot for slot in self._layout.slots if _accepts(slot, article)]
        if not slots:
            return []
        scope = Scope(languages=frozenset({article.labels.language, ""}), sites=frozenset({article.labels.site, ""}))
        pages = retrieve(self._live, article, scope, self._now_ms, excluded={row: "page_itself"})
        scores = self._scores(article, pages)
        passing = scores >= _LIKELY * min(slot.threshold for slot in slots)
        passing &= (self._live.column("flags", pages.rows) & Flag.NEVER_SOURCE) == 0
        order = np.argsort(-scores, kind="stable")
        return [self._live.record(int(page)).id for page in pages.rows[order[passing[order]]][:PLANNED_MAX]]

    def shows(self, page_id: str, article_id: str) -> bool:
        """Plan a page, and return whether the article has a place on it."""
        plan = self._recommender.fill_slots(Request(page_id, self._now_ms), self._layout)
        links = [place.recommendation for slot in plan.slots for place in slot.places if place.recommendation]
        return any(link.article.id == article_id for link in links)

    def _may_be_linked(self, row: int) -> bool:
        return not self._live.flags(row) & Flag.NEVER_TARGET and self._live.public_at_ms(row) <= self._now_ms

    def _scores(self, article: Page, pages: Candidates) -> Floats:
        """Return the article's score as a candidate of each page. Most features are the same both ways."""
        features = self._default_ranker.gather(self._live, article, pages, self._now_ms)
        assert article.row is not None
        n = len(pages.rows)
        words = np.full(n, self._live.column("words", np.array([article.row]))[0], np.float32)
        reversed_features = replace(
            features,
            evergreen=np.full(n, bool(self._live.flags(article.row) & Flag.EVERGREEN), np.float32),
            raw={**features.raw, "title": features["own_title"], "length": words},
        )
        return self._default_ranker.score(reversed_features, self._half_life_days).scores


def _accepts(slot: Slot, article: Page) -> bool:
    """Return whether a slot's filters accept an article."""
    filters = slot.filters
    own = article.labels
    labels = ((filters.sections, own.section), (filters.languages, own.language), (filters.sites, own.site))
    accepted = all(not wanted or "*" in wanted or label in wanted for wanted, label in labels)
    return accepted and (not filters.tags or bool(filters.tags & set(own.tags)))
