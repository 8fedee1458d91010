"""The terms that candidates share with a page: which of them name the subject, and which paragraph they continue."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from recommender.answer.page import Page
from recommender.answer.reasons import Subject
from recommender.answer.records import RecordCache
from recommender.catalog.live import Live
from recommender.catalog.text.overlap import RowMatcher, RowOverlap
from recommender.catalog.text.terms import IN_TITLE

_SUBJECTS_MAX = 16
"""Number of shared terms, those of the largest weight, that may name a subject."""
_TITLE_FACTOR = 2.0
"""Factor of a term's weight as a subject where it stands in a title: a title names the subject."""
_LABEL_FACTOR = 0.2
"""Factor of a term that is rather a speaker's name; chosen by reading the reasons of wikinews' interviews."""
_LABEL_PARAGRAPHS_MIN = 10
"""Length in paragraphs from which a page can have speakers' names."""
_LABEL_SHARE = 0.25
"""A term in a larger share of the paragraphs, but not in the title, is taken for a speaker's name."""


class SharedTerms:
    """Finds the terms that candidates share with one page; each candidate is compared once."""

    def __init__(self, live: Live, page: Page, records: RecordCache) -> None:
        self._live = live
        self._page = page
        self._records = records
        self._page_terms = RowMatcher(page.ids, page.weights)
        self._by_row: dict[int, RowOverlap] = {}

    def shared(self, row: int) -> RowOverlap:
        """Return the terms that the page shares with `row`."""
        shared = self._by_row.get(row)
        if shared is None:
            shared = self._by_row[row] = self._page_terms.match(self._live.signature(row))
        return shared

    def subjects(self, row: int) -> list[Subject]:
        """Return at most _SUBJECTS_MAX terms that the page shares with `row`, largest weight first.

        A term that either text writes in lower case is a word, not a name, and is written in lower case.
        """
        shared, ours, theirs = self.shared(row), self._page.surfaces, self._records.record(row).surfaces
        factors = np.where(shared.in_title, _TITLE_FACTOR, self._subject_factors[shared.own_positions])
        weights = shared.contributions * factors
        order = np.lexsort((shared.own_positions, -weights))[:_SUBJECTS_MAX]
        order = order[weights[order] > 0]
        own = shared.own_positions[order]
        terms = zip(own.tolist(), shared.row_positions[order].tolist(), weights[order].tolist(), strict=True)
        return [
            Subject(theirs[their] if theirs[their][:1].islower() else ours[our], weight, mask)
            for (our, their, weight), mask in zip(terms, self._page.masks[own].tolist(), strict=True)
        ]

    @cached_property
    def _subject_factors(self) -> npt.NDArray[np.float64]:
        """Return float64 (terms,): how much each term of the page names its subject, by where it stands."""
        masks, paragraphs = self._page.masks, self._page.masked_paragraphs
        is_label = np.bitwise_count(masks) > _LABEL_SHARE * paragraphs
        elsewhere = np.where(is_label & (paragraphs >= _LABEL_PARAGRAPHS_MIN), _LABEL_FACTOR, 1.0)
        return np.where(masks & np.uint64(IN_TITLE), _TITLE_FACTOR, elsewhere)


class ParagraphFit:
    """Says which paragraphs of a page a link would continue."""

    def __init__(self, page: Page, shared_terms: SharedTerms) -> None:
        self._page = page
        self._shared_terms = shared_terms

    def fit(self, row: int) -> npt.NDArray[np.float32]:
        """Return float32 (paragraphs,): overlap with `row`, each term's part split over the paragraphs that have it."""
        shared, fits = self._shared_terms.shared(row), np.zeros(len(self._page.kinds), np.float32)
        fits[: self._page.masked_paragraphs] = shared.contributions @ self._term_shares[shared.own_positions]
        return fits

    @cached_property
    def _term_shares(self) -> npt.NDArray[np.float64]:
        """Return float64 (terms, paragraphs): how each term of the page is split over its paragraphs, without title."""
        bits = (self._page.masks[:, None] >> np.arange(self._page.masked_paragraphs, dtype=np.uint64)) & np.uint64(1)
        shares: npt.NDArray[np.float64] = bits / np.maximum(bits.sum(axis=1, keepdims=True), 1)
        return shares
