"""Columns of a snapshot and of the tail: the values that searches and rankings read for many rows at once."""

from __future__ import annotations

import enum
import zlib
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from recommender.catalog.articles import Article
from recommender.catalog.text.terms import headline_key
from recommender.catalog.vectors.index import RowMask, Rows

Codes = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]


class Flag(enum.IntFlag):
    """Bits of the column `flags`."""

    NEVER_TARGET = 1
    NEVER_SOURCE = 2
    EVERGREEN = 4
    NEVER_WITH = 8
    """Has articles that it must not be shown with (Rules.never_with)."""


def label_code(label: str) -> int:
    """Return the 32-bit code of a section, site, language, tag or author; 0 for the empty label only.

    Two labels have equal codes once in four thousand million pairs; filters cannot distinguish them then. URLs and
    headlines, which are as many as articles, are compared as texts where their codes are equal.
    """
    return zlib.crc32(label.encode()) or 1 if label else 0


def id_hash(article_id: str) -> np.uint64:
    """Return the 64-bit hash by which segments find an id."""
    data = article_id.encode()
    return np.uint64((zlib.crc32(data) << 32) | zlib.adler32(data))


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One array an attribute, parallel, in row order. Codes are those of `label_code`; times are milliseconds UTC.

    url, headline: codes of the URL and of the headline's `headline_key`; equal ones have equal codes.
    """

    published_at_ms: Times
    public_at_ms: Times
    section: Codes
    site: Codes
    language: Codes
    author: Codes
    url: Codes
    headline: Codes
    words: Codes
    flags: npt.NDArray[np.uint8]

    @staticmethod
    def row_of(article: Article, words: int) -> tuple[int, ...]:
        """Return one article's values, in the order of the fields."""
        rules = article.rules
        flags = (
            Flag.NEVER_TARGET * rules.never_target
            | Flag.NEVER_SOURCE * rules.never_source
            | Flag.EVERGREEN * rules.evergreen
            | Flag.NEVER_WITH * bool(rules.never_with)
        )
        headline = headline_key(article.title)
        filed = article.labels
        labels = (filed.section, filed.site, filed.language, filed.author, article.url, headline)
        return (article.published_at_ms, article.public_at_ms, *map(label_code, labels), words, int(flags))


COLUMN_TYPES = dict(
    zip(
        (f.name for f in fields(Columns)),
        (np.int64, np.int64, *(7 * (np.uint32,)), np.uint8),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True, eq=False)
class Tags:
    """Tag codes of all rows: those of row i are codes[offsets[i]:offsets[i + 1]]."""

    offsets: npt.NDArray[np.int64]
    codes: Codes

    def jaccard(self, rows: Rows, wanted: Codes) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): Jaccard similarity of the rows' tags and `wanted`, distinct codes."""
        counts = self.offsets[rows + 1] - self.offsets[rows]
        ends = np.cumsum(counts)
        flat = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(self.offsets[rows] - ends + counts, counts)
        hits = (self.codes[flat] == wanted[:, None]).any(axis=0)
        shared = np.bincount(np.repeat(np.arange(len(rows)), counts), hits, minlength=len(rows))
        jaccard: npt.NDArray[np.float32] = (shared / np.maximum(counts + len(wanted) - shared, 1)).astype(np.float32)
        return jaccard

    def mask(self, wanted: frozenset[str]) -> RowMask:
        """Return bool (rows,): whether a row has at least one of these tags."""
        hit = np.isin(self.codes, [label_code(tag) for tag in wanted])
        counts = np.concatenate(([0], np.cumsum(hit)))
        with_tag: RowMask = counts[self.offsets[1:]] > counts[self.offsets[:-1]]
        return with_tag


class LabelPostings:
    """The rows of each label of one column: an inverted index, so that finding rows by labels costs what they hold."""

    def __init__(self, codes: Codes) -> None:
        """Sort the rows by label code: 80 ms for a million."""
        order = np.argsort(codes, kind="stable")
        self._codes = codes[order]
        self._rows = order.astype(np.uint32)

    def rows_by_label(self, labels: frozenset[str]) -> list[npt.NDArray[np.uint32]]:
        """Return the rows of each of these labels, ascending; at least one array."""
        codes = np.unique(label_codes(labels))
        starts, ends = (np.searchsorted(self._codes, codes, side).tolist() for side in ("left", "right"))
        return [self._rows[:0], *(self._rows[start:end] for start, end in zip(starts, ends, strict=True))]


def label_codes(labels: frozenset[str]) -> Codes:
    """Return the codes of several labels, in no particular order."""
    return np.array([label_code(label) for label in labels], np.uint32)
