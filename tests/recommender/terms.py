"""Texts and their terms, for the tests of wording and overlap."""

from __future__ import annotations

import numpy as np

from recommender.catalog.articles import Paragraph
from recommender.catalog.text.terms import TERM_BUCKETS, Packed, Terms, Weights, extract_terms, word_hash

EVEN: Weights = np.ones(TERM_BUCKETS, np.float32)
"""An idf table that weighs every term alike."""
STEP = 1 / 2047
"""The step of packed weights."""


def terms_of(title: str = "", *paragraphs: str, summary: str = "") -> Terms:
    """Return the terms of a text."""
    return extract_terms(title, summary, [Paragraph(text) for text in paragraphs])


def term_id(term: str) -> int:
    """Return the hash under which a term in its normal form is known."""
    return word_hash(term) % TERM_BUCKETS


def titled_in(packed: Packed) -> int:
    """Return how many terms of a packed row are marked as its title's."""
    return int(np.count_nonzero(packed & np.uint32(1 << 11)))
