"""Suppression: the rules by which a candidate must not stand on a page, or not beside another link."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from recommender.answer.page import Page
from recommender.answer.records import RecordCache
from recommender.catalog.live import Live
from recommender.catalog.snapshot.columns import Flag, label_code
from recommender.catalog.text.near_copies import Sketch, resemblance
from recommender.catalog.text.terms import headline_key
from recommender.catalog.vectors.index import Rows

NEAR_COPY = 0.5
"""Estimated Jaccard coefficient from which two bodies count as one text. On gov-blogs' labelled pairs every cross-post
(true coefficient .8 and more) is estimated at .77 or more, and every pair that shares a title only at 0."""

_NEVER_WITH = int(Flag.NEVER_WITH)


class _Traits(NamedTuple):
    """What the rules compare of one article. url, headline: codes as in Columns."""

    flags: int
    url: int
    headline: int
    sketch: Sketch
    copies_page: bool


class Suppression:
    """The suppression rules of one page."""

    def __init__(self, live: Live, page: Page, on_page: Iterable[int], records: RecordCache) -> None:
        """on_page: rows of the articles that the page links to already."""
        self._live = live
        self._page = page
        self._on_page = tuple(on_page)
        self._records = records
        self._traits: dict[int, _Traits] = {}
        if self._on_page:
            self.prefetch(np.unique(self._on_page))

    def prefetch(self, rows: Rows) -> None:
        """Read what the rules compare of `rows`, ascending, in one pass. Other rows are read one by one on demand."""
        live, sketches = self._live, self._live.sketches(rows)
        copies = (resemblance(self._page.sketch, sketches) >= NEAR_COPY).tolist()
        codes = (live.column(name, rows).tolist() for name in ("flags", "url", "headline"))
        self._traits |= zip(rows.tolist(), map(_Traits._make, zip(*codes, sketches, copies, strict=True)), strict=True)

    def rule_against(self, row: int, links: Sequence[int]) -> str | None:
        """Return the rule by which `row` must not stand on this page beside `links`, or None."""
        return self._rule_of_page(row) or self._rule_of_links(row, (*self._on_page, *links))

    def _rule_of_page(self, row: int) -> str | None:
        page, traits = self._page, self._traits_of(row)
        url, headline = self._page_codes
        if url and traits.url == url and self._records.record(row).url == page.url:
            return "same_url_as_page"
        if page.never_with or traits.flags & _NEVER_WITH:
            record = self._records.record(row)
            if record.id in page.never_with or (page.id and page.id in record.never_with):
                return "never_with"
        if traits.copies_page:
            return "near_copy_of_page"
        if headline and traits.headline == headline and self._headline(row) == self._page_headline:
            return "same_headline_as_page"
        return None

    def _rule_of_links(self, row: int, links: Sequence[int]) -> str | None:
        if not links:
            return None
        one, others = self._traits_of(row), [self._traits_of(link) for link in links]
        if (resemblance(one.sketch, np.array([other.sketch for other in others])) >= NEAR_COPY).any():
            return "near_copy_of_link"
        record = self._records.record
        for link, other in zip(links, others, strict=True):
            if (one.flags | other.flags) & _NEVER_WITH:
                first, second = record(row), record(link)
                if first.id in second.never_with or second.id in first.never_with:
                    return "never_with"
            if one.headline and one.headline == other.headline and self._headline(row) == self._headline(link):
                return "same_headline_as_link"
            if one.url and one.url == other.url and record(row).url == record(link).url:
                return "same_url_as_link"
        return None

    def _traits_of(self, row: int) -> _Traits:
        traits = self._traits.get(row)
        if traits is None:
            self.prefetch(np.array([row]))
            traits = self._traits[row]
        return traits

    @cached_property
    def _page_headline(self) -> str:
        return headline_key(self._page.title)

    @cached_property
    def _page_codes(self) -> tuple[int, int]:
        return label_code(self._page.url), label_code(self._page_headline)

    def _headline(self, row: int) -> str:
        return headline_key(self._records.record(row).title)
