"""Overlap of a text's terms with those of other texts, term by term; terms.py defines signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recommender.catalog.text.terms import (
    HASH_SHIFT,
    SIGNATURE_TERMS,
    TERM_BUCKETS,
    TITLE_FLAG,
    TITLE_TERMS,
    WEIGHT_MAX,
    Ids,
    Packed,
    Weights,
)

FULL_USE_WEIGHT = 0.1
"""Weight from which a text uses a title's term in full: the term is a hundredth of its squared norm.

A term of less weight is only mentioned and counts in proportion: on gov-blogs nDCG@10 is .571 so, .569 if any mention
counts in full.
"""
_WEIGHT = np.uint32(WEIGHT_MAX)
"""Mask of a packed term's weight."""
_HALF_BITS = 16
"""Bits of a packed term that the first, small table of TermTable looks at."""

Flags = npt.NDArray[np.bool_]
"""One truth value for each term."""
Positions = npt.NDArray[np.int64]
"""Positions of terms."""


class RowOverlap(NamedTuple):
    """The terms that a text shares with one packed row; parallel arrays in the row's order.

    own_positions: in the text's signature. row_positions: in the row. contributions: float64, each term's part of the
    cosine. in_title: whether the term is in the row's title.
    """

    own_positions: Positions
    row_positions: Positions
    contributions: npt.NDArray[np.float64]
    in_title: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The terms that a text shares with packed rows, row by row; parallel arrays.

    flat_positions: in the rows, flattened. own_positions: in the text's signature.
    """

    flat_positions: Positions
    own_positions: Positions


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """How much of their terms a text and n others share; float32 (n,), 0 to 1.

    cosine: TF-IDF cosine of the whole texts. title: share of the other's title, by squared weight, that the text uses,
    each term in full from FULL_USE_WEIGHT on. matches: the shared terms.
    """

    cosine: Weights
    title: Weights
    matches: Matches


@dataclass(frozen=True, slots=True, eq=False)
class OverlapDetail:
    """More measures of the same overlap; all float32 (n,).

    shared: number of shared terms. strongest: the largest contribution of one term to the cosine. own_title: share of
    the text's own title, by squared weight, that the other uses. titles: squared weight of the terms in both titles.
    """

    shared: Weights
    strongest: Weights
    own_title: Weights
    titles: Weights


class TermTable:
    """Finds a signature's terms in packed rows. Owns a megabyte of tables: use it on one thread."""

    def __init__(self) -> None:
        """Start empty."""
        self._positions = np.zeros(TERM_BUCKETS, np.uint8)
        self._starts = np.zeros(1 << _HALF_BITS, np.bool_)

    def match(self, ids: Ids, packed: Packed) -> Matches:
        """Find `ids`, distinct, at most SIGNATURE_TERMS, in `packed`, uint32 (n, SIGNATURE_TERMS).

        The first 16 bits of a hash rule out nearly all terms, in a table that fits the processor's cache.
        """
        starts = ids >> (_HALF_BITS - int(HASH_SHIFT))
        self._starts[starts] = True
        self._positions[ids] = np.arange(1, len(ids) + 1, dtype=np.uint8)
        likely = np.flatnonzero(self._starts.take(packed >> np.uint32(_HALF_BITS)))
        positions = self._positions.take(packed.take(likely) >> HASH_SHIFT)
        self._starts[starts] = False
        self._positions[ids] = 0
        is_match = positions != 0
        return Matches(likely[is_match], positions[is_match].astype(np.int64) - 1)


def overlaps(ids: Ids, weights: Weights, packed: Packed, table: TermTable) -> Overlap:
    """Compare a signature with each row of `packed`, uint32 (n, SIGNATURE_TERMS)."""
    matches = table.match(ids, packed)
    entries, own = packed.take(matches.flat_positions), weights[matches.own_positions]
    other = (entries & _WEIGHT).astype(np.float32)
    row = matches.flat_positions // SIGNATURE_TERMS
    in_title = np.flatnonzero(entries & TITLE_FLAG)
    used = other[in_title] ** 2 * np.minimum(own[in_title], np.float32(FULL_USE_WEIGHT))
    titles = packed[:, :TITLE_TERMS]
    whole = np.where(titles & TITLE_FLAG, (titles & _WEIGHT).astype(np.float32) ** 2, 0).sum(axis=1)
    return Overlap(
        cosine=_sums(row, own * other, len(packed)) / np.float32(WEIGHT_MAX),
        title=_sums(row[in_title], used, len(packed)) / np.maximum(whole * np.float32(FULL_USE_WEIGHT), 1e-9),
        matches=matches,
    )


def overlap_detail(weights: Weights, in_title: Flags, packed: Packed, matches: Matches) -> OverlapDetail:
    """Measure an overlap further. in_title: bool (len(weights),), the title's own terms. matches: the Overlap's."""
    entries, own = packed.take(matches.flat_positions), weights[matches.own_positions]
    other = (entries & _WEIGHT).astype(np.float32) / WEIGHT_MAX
    row = matches.flat_positions // SIGNATURE_TERMS
    strongest = np.zeros(len(packed), np.float32)
    np.maximum.at(strongest, row, own * other)
    squares = np.where(in_title, weights**2, 0).astype(np.float32)
    in_own = in_title[matches.own_positions] & (other > 0)
    in_both = in_own & ((entries & TITLE_FLAG) != 0)
    used = squares[matches.own_positions[in_own]]
    return OverlapDetail(
        shared=_sums(row, own * other > 0, len(packed)),
        strongest=strongest,
        own_title=_sums(row[in_own], used, len(packed)) / max(float(squares.sum()), 1e-9),
        titles=_sums(row[in_both], other[in_both] ** 2, len(packed)),
    )


def _sums(row: Positions, values: npt.NDArray[np.float32] | Flags, rows: int) -> Weights:
    """Return float32 (rows,): the sum of each row's values."""
    sums: Weights = np.bincount(row, values, rows).astype(np.float32)
    return sums


class RowMatcher:
    """Finds a signature's terms in one packed row at a time."""

    def __init__(self, ids: Ids, weights: Weights) -> None:
        """ids: distinct. weights: parallel to ids."""
        self._order = ids.argsort()
        self._sorted = ids[self._order].astype(np.uint32)
        self._weights = weights.astype(np.float64) / WEIGHT_MAX

    def match(self, packed: Packed) -> RowOverlap:
        """Return the terms shared with a row, uint32 (SIGNATURE_TERMS,)."""
        hashes = packed >> HASH_SHIFT
        at = self._sorted.searchsorted(hashes)
        at[at == len(self._sorted)] = 0
        same = self._sorted[at] == hashes if len(self._sorted) else np.zeros(len(packed), np.bool_)
        in_row = np.flatnonzero(same & (packed != 0))
        own, entries = self._order[at[in_row]], packed[in_row]
        return RowOverlap(own, in_row, self._weights[own] * (entries & _WEIGHT), (entries & TITLE_FLAG) != 0)
