"""Which candidates must not stand on a page together, and where on it each fits. Asked only of the likely few."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recommender.catalog.live import Live
from recommender.catalog.near_copies import Sketch, resemblance
from recommender.catalog.overlap import Shared, common
from recommender.catalog.segment import Flag, Record, label_code
from recommender.catalog.vectors import Rows
from recommender.catalog.wording import (
    IN_TITLE,
    MASKED_PARAGRAPHS,
    headline_key,
)
from recommender.explain import Subject
from recommender.page import Page

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
        self._common: dict[int, list[Shared]] = {}
        self._weights: list[float] = page.weights.tolist()
        self._masks: list[int] = page.masks.tolist()
        self._paragraphs = min(len(page.kinds), MASKED_PARAGRAPHS)
        self._places = {number: place for place, number in enumerate(page.ids.tolist())}
        if self._on_page:
            self.prepare(np.unique(self._on_page))

    def prepare(self, rows: Rows) -> None:
        """Read at once what is compared of `rows`, ascending; the others are read one by one when asked about."""
        columns, sketches = self._live.columns(rows), self._live.sketches(rows)
        copies = (resemblance(self._page.sketch, sketches) >= NEAR_COPY).tolist()
        codes = (columns.flags.tolist(), columns.url.tolist(), columns.headline.tolist())
        self._known |= dict(
            zip(rows.tolist(), map(_Known._make, zip(*codes, sketches, copies, strict=True)), strict=True)
        )

    def record(self, row: int) -> Record:
        """Return the record of one row, read once."""
        found = self._records.get(row)
        if found is None:
            found = self._records[row] = self._live.record(row)
        return found

    def clash(self, row: int, chosen: Sequence[int]) -> str | None:
        """Return the rule by which `row` must not stand on this page beside `chosen`, or None."""
        return self._clash_with_page(row) or self._clash_with_links(row, (*self._on_page, *chosen))

    def common(self, row: int) -> list[Shared]:
        """Return the terms that the page shares with `row`, in that one's order."""
        found = self._common.get(row)
        if found is None:
            found = self._common[row] = common(self._places, self._weights, self._live.signature(row))
        return found

    def subjects(self, row: int) -> list[Subject]:
        """Return the terms that the page shares with `row`, the most telling first, at most _SUBJECTS_MOST.

        One that either text writes small is a word, not a name, and is written small.
        """
        ours, theirs, masks = self._page.surfaces, self.record(row).surfaces, self._masks
        told = [
            (-term.added * (_TITLE_TELLS if term.titled else self._tells(masks[term.ours])), term.ours, term.theirs)
            for term in self.common(row)
            if term.added > 0
        ]
        told.sort()
        return [
            Subject(theirs[their] if theirs[their][:1].islower() else ours[own], -weight, masks[own])
            for weight, own, their in told[:_SUBJECTS_MOST]
        ]

    def fit(self, row: int) -> npt.NDArray[np.float32]:
        """Return float32 (paragraphs,): wording shared with `row`, each term's part split over its paragraphs."""
        fits = [0.0] * len(self._page.kinds)
        for term in self.common(row):
            left = self._masks[term.ours] & ~IN_TITLE
            part = term.added / max(left.bit_count(), 1)
            while left:
                fits[(left & -left).bit_length() - 1] += part
                left &= left - 1
        return np.array(fits, np.float32)

    def _tells(self, mask: int) -> float:
        """Return how much a term of the page tells for its weight, by where it stands."""
        if mask & IN_TITLE:
            return _TITLE_TELLS
        often = self._paragraphs >= _LONG_PARAGRAPHS and mask.bit_count() > _EVERYWHERE * self._paragraphs
        return _LABEL_TELLS if often else 1.0

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
