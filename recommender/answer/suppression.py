"""Which candidates must not stand on a page together, and where on it each fits. Asked only of the likely few."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recommender.answer.page import Page
from recommender.answer.reasons import Subject
from recommender.catalog.live import Live
from recommender.catalog.snapshot.columns import Flag, label_code
from recommender.catalog.snapshot.record import Record
from recommender.catalog.text.near_copies import Sketch, resemblance
from recommender.catalog.text.overlap import Shared, SingleRows
from recommender.catalog.text.terms import (
    IN_TITLE,
    MASKED_PARAGRAPHS,
    headline_key,
)
from recommender.catalog.vectors.index import Rows

NEAR_COPY = 0.5
"""Estimated Jaccard coefficient from which two bodies count as one text. On gov-blogs' labelled pairs every cross-post
(true coefficient .8 and more) is estimated at .77 or more, and every pair that shares a title only at 0."""

_NEVER_WITH = int(Flag.NEVER_WITH)
_SUBJECTS_MOST = 16
"""So many of the shared terms, the weightiest, are looked at closely to say what two texts have in common."""
_TITLE_TELLS = 2.0
_LONG_PARAGRAPHS = 10
_EVERYWHERE = 0.25
_LABEL_TELLS = 0.2
"""What is in a title is the subject. What a page of ten paragraphs and more has in every fourth of them, but not in its
title, is rather the name of someone who speaks. Read off the reasons of wikinews' interviews."""


class _Known(NamedTuple):
    """What is compared of one row. url, headline: as in Columns."""

    flags: int
    url: int
    headline: int
    sketch: Sketch
    copies_page: bool


class PageJudge:
    """Judges candidates for one page; a slots.Judge."""

    def __init__(self, live: Live, page: Page, on_page: Iterable[int] = ()) -> None:
        """on_page: rows of articles that the page links to already."""
        self._live = live
        self._page = page
        self._on_page = tuple(on_page)
        self._known: dict[int, _Known] = {}
        self._records: dict[int, Record] = {}
        self._shared: dict[int, Shared] = {}
        self._terms = SingleRows(page.ids, page.weights)
        self._paragraphs = min(len(page.kinds), MASKED_PARAGRAPHS)
        if self._on_page:
            self.prepare(np.unique(self._on_page))

    def prepare(self, rows: Rows) -> None:
        """Read at once what is compared of `rows`, ascending; the others are read one by one when asked about."""
        live, sketches = self._live, self._live.sketches(rows)
        copies = (resemblance(self._page.sketch, sketches) >= NEAR_COPY).tolist()
        codes = (live.column(name, rows).tolist() for name in ("flags", "url", "headline"))
        self._known |= zip(rows.tolist(), map(_Known._make, zip(*codes, sketches, copies, strict=True)), strict=True)

    def record(self, row: int) -> Record:
        """Return the record of one row, read once."""
        found = self._records.get(row)
        if found is None:
            found = self._records[row] = self._live.record(row)
        return found

    def clash(self, row: int, chosen: Sequence[int]) -> str | None:
        """Return the rule by which `row` must not stand on this page beside `chosen`, or None."""
        return self._clash_with_page(row) or self._clash_with_links(row, (*self._on_page, *chosen))

    def shared(self, row: int) -> Shared:
        """Return the terms that the page shares with `row`."""
        found = self._shared.get(row)
        if found is None:
            found = self._shared[row] = self._terms.shared(self._live.signature(row))
        return found

    def subjects(self, row: int) -> list[Subject]:
        """Return the terms that the page shares with `row`, the most telling first, at most _SUBJECTS_MOST.

        One that either text writes small is a word, not a name, and is written small.
        """
        shared, ours, theirs = self.shared(row), self._page.surfaces, self.record(row).surfaces
        weights = shared.added * np.where(shared.titled, _TITLE_TELLS, self._tells[shared.ours])
        order = np.lexsort((shared.ours, -weights))[:_SUBJECTS_MOST]
        order = order[weights[order] > 0]
        own = shared.ours[order]
        told = zip(own.tolist(), shared.theirs[order].tolist(), weights[order].tolist(), strict=True)
        return [
            Subject(theirs[their] if theirs[their][:1].islower() else ours[our], weight, mask)
            for (our, their, weight), mask in zip(told, self._page.masks[own].tolist(), strict=True)
        ]

    def fit(self, row: int) -> npt.NDArray[np.float32]:
        """Return float32 (paragraphs,): wording shared with `row`, each term's part split over its paragraphs."""
        shared, fits = self.shared(row), np.zeros(len(self._page.kinds), np.float32)
        fits[: self._paragraphs] = shared.added @ self._spread[shared.ours]
        return fits

    @cached_property
    def _tells(self) -> npt.NDArray[np.float64]:
        """How much each term of the page tells for its weight, by where it stands; float64 (terms,)."""
        masks = self._page.masks
        often = np.bitwise_count(masks) > _EVERYWHERE * self._paragraphs
        elsewhere = np.where(often & (self._paragraphs >= _LONG_PARAGRAPHS), _LABEL_TELLS, 1.0)
        return np.where(masks & np.uint64(IN_TITLE), _TITLE_TELLS, elsewhere)

    @cached_property
    def _spread(self) -> npt.NDArray[np.float64]:
        """The share of each term of the page that is in each paragraph, its title left out; (terms, paragraphs)."""
        bits = (self._page.masks[:, None] >> np.arange(self._paragraphs, dtype=np.uint64)) & np.uint64(1)
        spread: npt.NDArray[np.float64] = bits / np.maximum(bits.sum(axis=1, keepdims=True), 1)
        return spread

    @cached_property
    def _page_headline(self) -> str:
        return headline_key(self._page.title)

    @cached_property
    def _page_codes(self) -> tuple[int, int]:
        return label_code(self._page.url), label_code(self._page_headline)

    def _clash_with_page(self, row: int) -> str | None:
        page, known = self._page, self._what_is_known(row)
        url, headline = self._page_codes
        if url and known.url == url and self.record(row).url == page.url:
            return "same_url_as_page"
        if page.never_with or known.flags & _NEVER_WITH:
            record = self.record(row)
            if record.id in page.never_with or (page.id and page.id in record.never_with):
                return "never_with"
        if known.copies_page:
            return "near_copy_of_page"
        if headline and known.headline == headline and self._headline(row) == self._page_headline:
            return "same_headline_as_page"
        return None

    def _clash_with_links(self, row: int, others: Sequence[int]) -> str | None:
        if not others:
            return None
        one, known = self._what_is_known(row), [self._what_is_known(other) for other in others]
        if (resemblance(one.sketch, np.array([two.sketch for two in known])) >= NEAR_COPY).any():
            return "near_copy_of_link"
        for other, two in zip(others, known, strict=True):
            if (one.flags | two.flags) & _NEVER_WITH:
                first, second = self.record(row), self.record(other)
                if first.id in second.never_with or second.id in first.never_with:
                    return "never_with"
            if one.headline and one.headline == two.headline and self._headline(row) == self._headline(other):
                return "same_headline_as_link"
            if one.url and one.url == two.url and self.record(row).url == self.record(other).url:
                return "same_url_as_link"
        return None

    def _what_is_known(self, row: int) -> _Known:
        known = self._known.get(row)
        if known is None:
            self.prepare(np.array([row]))
            known = self._known[row]
        return known

    def _headline(self, row: int) -> str:
        return headline_key(self.record(row).title)
