"""Which candidates must not stand on a page together, and where on it each fits. Asked only of the likely few."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recommender.catalog.live import Live
from recommender.catalog.near_copies import resemblance
from recommender.catalog.segment import Record
from recommender.catalog.wording import IN_TITLE, MASKED_PARAGRAPHS, Weights, shared, title_ids, unpack, words_of
from recommender.explain import Subject
from recommender.page import Page

NEAR_COPY = 0.5
"""Estimated Jaccard coefficient from which two bodies count as one text. On gov-blogs' labelled pairs every cross-post
(true coefficient .8 and more) is estimated at .77 or more, and every pair that shares a title only at 0."""

_TITLE_TELLS = 2.0
_LONG_PARAGRAPHS = 10
_EVERYWHERE = 0.25
_LABEL_TELLS = 0.2
"""What is in a title is the subject. What a page of ten paragraphs and more has in every fourth of them, but not in its
title, is rather the name of someone who speaks. Read off the reasons of wikinews' interviews."""
_VERSION_WORDS = frozenset({"updated", "update", "corrected", "correction", "live", "breaking", "exclusive"})


class PageJudge:
    """Judges candidates for one page; a slots.Judge."""

    def __init__(self, live: Live, page: Page, on_page: Iterable[int] = ()) -> None:
        """on_page: rows of articles that the page links to already."""
        self._live = live
        self._page = page
        self._on_page = tuple(on_page)
        self._records: dict[int, Record] = {}

    def record(self, row: int) -> Record:
        """Return the record of one row, read once."""
        found = self._records.get(row)
        if found is None:
            found = self._records[row] = self._live.record(row)
        return found

    def clash(self, row: int, chosen: Sequence[int]) -> str | None:
        """Return the rule by which `row` must not stand on this page beside `chosen`, or None."""
        return self._clash_with_page(row) or self._clash_with_links(row, (*self._on_page, *chosen))

    def shared(self, row: int) -> Weights:
        """Return float32 (terms,): what each of the page's terms adds to the wording overlap with `row`."""
        return shared(self._page.ids, self._page.weights, self._live.signatures(np.array([row]))[0])

    def subjects(self, row: int) -> list[Subject]:
        """Return the terms that the page shares with `row`, in the page's order.

        One that either text writes small is a word, not a name, and is written small.
        """
        page, packed, added = self._page, self._live.signature(row), self.shared(row)
        theirs = dict(zip(unpack(packed)[0].tolist(), self.record(row).surfaces, strict=False))
        in_their_title = set(title_ids(packed).tolist())
        found = []
        for index in np.flatnonzero(added).tolist():
            term, surface = int(page.ids[index]), page.surfaces[index]
            factor = _TITLE_TELLS if term in in_their_title else float(self._factors[index])
            written = theirs[term] if theirs[term][:1].islower() else surface
            found.append(Subject(written, float(added[index]) * factor, int(page.masks[index])))
        return found

    def fit(self, row: int) -> npt.NDArray[np.float32]:
        """Return float32 (paragraphs,): wording shared with `row`, each term's part split over its paragraphs."""
        fits = np.zeros(len(self._page.kinds), np.float32)
        per_paragraph = self.shared(row) @ self._term_shares
        known = min(len(fits), MASKED_PARAGRAPHS)
        fits[:known] = per_paragraph[:known]
        return fits

    @cached_property
    def _stands_in(self) -> npt.NDArray[np.float32]:
        """Return float32 (terms, MASKED_PARAGRAPHS): 1 where the page's term stands in the paragraph."""
        bits = np.unpackbits(self._page.masks.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        return bits[:, :MASKED_PARAGRAPHS].astype(np.float32)

    @cached_property
    def _term_shares(self) -> npt.NDArray[np.float32]:
        stands_in = self._stands_in
        shares: npt.NDArray[np.float32] = stands_in / np.maximum(stands_in.sum(axis=1, keepdims=True), 1)
        return shares

    @cached_property
    def _factors(self) -> Weights:
        """Return float32 (terms,): how much each of the page's terms tells for its weight."""
        in_title = (self._page.masks & np.uint64(IN_TITLE)) != 0
        paragraphs = min(len(self._page.kinds), MASKED_PARAGRAPHS)
        often = (self._stands_in.sum(axis=1) > _EVERYWHERE * paragraphs) & (paragraphs >= _LONG_PARAGRAPHS)
        return np.where(in_title, _TITLE_TELLS, np.where(often, _LABEL_TELLS, 1.0)).astype(np.float32)

    @cached_property
    def _page_headline(self) -> str:
        return headline_key(self._page.title)

    def _clash_with_page(self, row: int) -> str | None:
        page, record = self._page, self.record(row)
        if record.url and record.url == page.url:
            return "same_url_as_page"
        if record.id in page.never_with or (page.id and page.id in record.never_with):
            return "never_with"
        if self._resembles(page.sketch, [row]):
            return "near_copy_of_page"
        if self._page_headline and headline_key(record.title) == self._page_headline:
            return "same_headline_as_page"
        return None

    def _clash_with_links(self, row: int, others: Sequence[int]) -> str | None:
        if not others:
            return None
        record = self.record(row)
        if self._resembles(self._live.sketches(np.array([row]))[0], others):
            return "near_copy_of_link"
        headline = headline_key(record.title)
        for other in map(self.record, others):
            if record.id in other.never_with or other.id in record.never_with:
                return "never_with"
            if headline and headline_key(other.title) == headline:
                return "same_headline_as_link"
            if record.url and record.url == other.url:
                return "same_url_as_link"
        return None

    def _resembles(self, sketch: npt.NDArray[np.uint16], rows: Sequence[int]) -> bool:
        others = self._live.sketches(np.sort(np.array(rows)))
        return bool((resemblance(sketch, others) >= NEAR_COPY).any())


def headline_key(title: str) -> str:
    """Return what versions of a headline have in common: its words in lower case, without "updated" and the like."""
    return " ".join(word for word in map(str.lower, words_of(title)) if word not in _VERSION_WORDS)
