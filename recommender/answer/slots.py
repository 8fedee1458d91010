"""From scored candidates to the page plan. Pure: everything it needs comes in as values.

Slots are filled in the layout's order. Within a slot, places are filled one by one by maximal marginal relevance
(Carbonell and Goldstein 1998): the next is the one with the largest (1 - diversity) * score - diversity * likeness,
likeness being the largest cosine with a link that the page already has.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recommender.answer.layout import Layout, Placement, Slot
from recommender.catalog.articles import ParagraphKind

SHORTLIST = 64
"""So many of a slot's best candidates are considered for its places: over-fetch for diversity and suppression, and more
than all places of a layout, which may all draw on the same candidates."""
JOINT_LINKS = 4
"""So many inline links of a slot get the best positions for all of them together."""

_LINKABLE = {str(int(ParagraphKind.TEXT)), str(int(ParagraphKind.QUOTE))}
_TEXT = str(int(ParagraphKind.TEXT))


class Empty(enum.Enum):
    """Why a place stayed empty."""

    NO_CANDIDATES = "no_candidates"
    BELOW_MIN_SCORE = "below_min_score"
    TOO_SIMILAR = "too_similar"
    PAGE_TOO_SHORT = "page_too_short"
    NO_POSITION = "no_position"
    NEVER_SOURCE = "never_source"


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The candidates of one slot, best first: rows int64 (n,), scores float32 (n,).

    vectors: float32 (m, dimension), the main vectors of the first m = min(n, SHORTLIST).
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.float32]

    @staticmethod
    def none() -> Pool:
        """Return no candidates."""
        return Pool(np.empty(0, np.int64), np.empty(0, np.float32), np.empty((0, 0), np.float32))


@dataclass(frozen=True, slots=True)
class PlacedLink:
    """One place with a link. after_paragraph: 0-based, None for an end slot. fallback: not related by content."""

    row: int
    score: float
    after_paragraph: int | None = None
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class SlotLinks:
    """One slot. places: those filled, inline in the order of the page, end best first; empty: why each other stayed."""

    slot: Slot
    places: tuple[PlacedLink, ...]
    empty: tuple[Empty, ...]


@dataclass(frozen=True, slots=True)
class PageLinks:
    """All slots in the layout's order, and how many candidates each rule kept off the page while it was filled."""

    slots: tuple[SlotLinks, ...]
    removed: dict[str, int]


class Judge(Protocol):
    """What is known of single candidates; asked only about those that are about to be chosen."""

    def clash(self, row: int, chosen: Sequence[int]) -> str | None:
        """Return the rule by which `row` must not stand on a page with `chosen`, or None."""
        ...

    def fit(self, row: int) -> npt.NDArray[np.float32]:
        """Return float32 (paragraphs,): how well each paragraph's subject is continued by `row`; 0 or more."""
        ...


@dataclass(slots=True)
class _Board:
    """What the page holds while it is being filled."""

    kinds: str
    rows: list[int] = field(default_factory=list)
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)


def fill(layout: Layout, pools: Sequence[Pool], latest: Sequence[Pool], kinds: str, judge: Judge) -> PageLinks:
    """Fill every slot of `layout`.

    pools, latest: one for each slot: its related candidates, and those of its fallback (empty where it has none).
    kinds: one character for each paragraph of the page, as Record.kinds.
    """
    board = _Board(kinds)
    slots = tuple(
        _fill_slot(slot, pool, spare, board, judge)
        for slot, pool, spare in zip(layout.slots, pools, latest, strict=True)
    )
    return PageLinks(slots, dict(board.removed))


def nothing(layout: Layout, reason: Empty) -> PageLinks:
    """Return a plan whose every place is empty for the same reason."""
    return PageLinks(tuple(SlotLinks(slot, (), (reason,) * slot.count) for slot in layout.slots), {})


def allowed_positions(kinds: str, slot: Slot, taken: Sequence[int]) -> list[int]:
    """Return the paragraphs that an inline link of `slot` may stand after, ascending.

    Not after a heading or media, not before the slot's first text paragraph, not after the last paragraph of all, and
    with enough text paragraphs between it and those in `taken`. None on a page that is too short.
    """
    before = _text_before(kinds)
    if not before or before[-1] < slot.min_text_paragraphs:
        return []
    return [
        position
        for position in range(len(kinds) - 1)
        if kinds[position] in _LINKABLE
        and before[position] >= slot.first_after_text_paragraphs
        and all(abs(before[position] - before[other]) >= slot.spacing_text_paragraphs for other in taken)
    ]


def _fill_slot(slot: Slot, pool: Pool, latest: Pool, board: _Board, judge: Judge) -> SlotLinks:
    positions = allowed_positions(board.kinds, slot, board.positions)
    room = slot.count
    if slot.placement is Placement.INLINE:
        room = min(room, len(_spaced(positions, board.kinds, slot)))
        if not room:
            return SlotLinks(slot, (), (_why_no_room(slot, board),) * slot.count)
    good = int(np.count_nonzero(pool.scores >= slot.least_score))
    board.removed[f"below_min_score:{slot.name}"] += len(pool.rows) - good
    clashes = board.removed.total()
    chosen = _choose(slot, _first(pool, good), room, board, judge, fallback=False)
    clashes = board.removed.total() - clashes
    chosen += _choose(slot, latest, room - len(chosen), board, judge, fallback=True)
    if slot.placement is Placement.INLINE:
        chosen = _put_in_place(chosen, positions, slot, board, judge)
    why = Empty.NO_POSITION if len(chosen) == room else _why_empty(len(pool.rows), good, clashes)
    return SlotLinks(slot, tuple(chosen), (why,) * (slot.count - len(chosen)))


def _choose(slot: Slot, pool: Pool, count: int, board: _Board, judge: Judge, *, fallback: bool) -> list[PlacedLink]:
    """Choose at most `count` of the pool's shortlist, best first; what is chosen goes on the board.

    A fallback is the latest of its pool: diversity has no say there.
    """
    if count <= 0 or not len(pool.rows):
        return []
    diversity = 0.0 if fallback else slot.diversity
    chosen: list[PlacedLink] = []
    rows, scores, vectors = pool.rows[:SHORTLIST].tolist(), pool.scores[:SHORTLIST], pool.vectors[: len(pool.rows)]
    likeness = diversity * _likeness(vectors, board.vectors)
    worth = (1 - diversity) * scores
    worth[[row in board.rows for row in rows]] = -np.inf
    while len(chosen) < count and worth[index := int((worth - likeness).argmax())] != -np.inf:
        worth[index] = -np.inf
        if rule := judge.clash(rows[index], board.rows):
            board.removed[rule] += 1
            continue
        board.rows.append(rows[index])
        board.vectors.append(vectors[index])
        np.maximum(likeness, diversity * (vectors @ vectors[index]), out=likeness)
        chosen.append(PlacedLink(rows[index], 0.0 if fallback else float(scores[index]), fallback=fallback))
    chosen.sort(key=lambda place: (place.fallback, -place.score))
    return chosen


def _put_in_place(
    chosen: Sequence[PlacedLink], positions: list[int], slot: Slot, board: _Board, judge: Judge
) -> list[PlacedLink]:
    """Give every chosen link a position, all together: the largest sum of fits that the spacing allows."""
    if not chosen:
        return []
    fits = np.stack([judge.fit(place.row) for place in chosen])[:, positions]
    placed = {link: positions[at] for link, at in _best_spots(positions, fits, board.kinds, slot)}
    board.positions.extend(sorted(placed.values()))
    return [replace(chosen[link], after_paragraph=placed[link]) for link in sorted(placed, key=placed.__getitem__)]


def _best_spots(
    positions: list[int], fits: npt.NDArray[np.float32], kinds: str, slot: Slot
) -> Sequence[tuple[int, int]]:
    """Return (link, index of its position) for each link, with enough text between them and the largest sum of fits.

    fits: float32 (links, positions). best[i] holds, of the choices among the first i positions, the best for each set
    of links, the earliest among equals; sets are bits. Of more than JOINT_LINKS links only the number counts at first,
    as if every position got the link that fits it best; there is room for them all.
    """
    joint = len(fits) <= JOINT_LINKS
    worth = (fits if joint else fits.max(axis=0, keepdims=True)).tolist()
    every = (1 << len(fits)) - 1 if joint else len(fits)
    text_before = _text_before(kinds)
    before = [text_before[position] for position in positions]
    best: list[dict[int, tuple[float, tuple[tuple[int, int], ...]]]] = [{0: (0.0, ())}]
    earlier = 0
    for index in range(len(positions)):
        while before[index] - before[earlier] >= slot.spacing_text_paragraphs:
            earlier += 1
        held = dict(best[index])
        for links, (total, spots) in best[earlier].items():
            for link, values in enumerate(worth):
                more = links | 1 << link if joint else links + 1
                value = total + values[index]
                if links != more <= every and (more not in held or value > held[more][0]):
                    held[more] = (value, (*spots, (link, index)))
        best.append(held)
    spots = best[-1][every][1]
    return spots if joint else _assigned([at for _, at in spots], fits)


def _assigned(spots: list[int], fits: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    """Give each of many links one of as many spots, with the largest sum of fits."""
    from scipy.optimize import linear_sum_assignment  # takes long to import, and few layouts need it

    links, at = linear_sum_assignment(fits[:, spots], maximize=True)
    return [(link, spots[i]) for link, i in zip(links.tolist(), at.tolist(), strict=True)]


def _spaced(positions: list[int], kinds: str, slot: Slot) -> list[int]:
    """Return as many of `positions` as fit with the slot's spacing, the earliest first."""
    before = _text_before(kinds)
    kept: list[int] = []
    for position in positions:
        if not kept or before[position] - before[kept[-1]] >= slot.spacing_text_paragraphs:
            kept.append(position)
    return kept


def _text_before(kinds: str) -> list[int]:
    """Return for each paragraph how many text paragraphs there are up to it, itself included."""
    return list(accumulate(kind == _TEXT for kind in kinds))


def _likeness(vectors: npt.NDArray[np.float32], chosen: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    if not chosen:
        return np.zeros(len(vectors), np.float32)
    largest: npt.NDArray[np.float32] = (vectors @ np.stack(chosen).T).max(axis=1)
    return largest


def _first(pool: Pool, n: int) -> Pool:
    return Pool(pool.rows[:n], pool.scores[:n], pool.vectors[:n])


def _why_no_room(slot: Slot, board: _Board) -> Empty:
    return Empty.NO_POSITION if board.kinds.count(_TEXT) >= slot.min_text_paragraphs else Empty.PAGE_TOO_SHORT


def _why_empty(candidates: int, good: int, clashes: int) -> Empty:
    if clashes and clashes >= good:
        return Empty.TOO_SIMILAR
    if candidates > good:
        return Empty.BELOW_MIN_SCORE
    return Empty.TOO_SIMILAR if clashes else Empty.NO_CANDIDATES
