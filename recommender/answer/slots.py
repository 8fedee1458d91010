"""From scored candidates to the links of a page. Pure: everything it needs comes in as values.

Slots are filled in the layout's order, places of a slot one by one by maximal marginal relevance (Carbonell and
Goldstein 1998): the next link has the largest (1 - diversity) * score - diversity * similarity, where similarity is the
largest cosine with a link that the page already has.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from recommender.answer.layout import Layout, Placement, Slot
from recommender.catalog.articles import ParagraphKind

SHORTLIST = 64
"""Number of a slot's best candidates that are considered for its places. More than all places of a layout, which may
all draw on the same candidates: over-fetch for diversity and suppression."""
JOINT_LINKS_MAX = 4
"""Up to this many inline links of a slot get exactly the best positions for all of them together."""

_LINKABLE = {str(int(ParagraphKind.TEXT)), str(int(ParagraphKind.QUOTE))}
_TEXT = str(int(ParagraphKind.TEXT))

RuleAgainst = Callable[[int, Sequence[int]], str | None]
"""From a candidate's row and the rows of the page's links: the rule that keeps it off the page, or None."""
ParagraphFit = Callable[[int], npt.NDArray[np.float32]]
"""From a candidate's row: float32 (paragraphs,), how well it continues each paragraph's subject; 0 or more."""


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
    """A link in its place. after_paragraph: 0-based, None in an end slot. fallback: not related by content."""

    row: int
    score: float
    after_paragraph: int | None = None
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class SlotLinks:
    """The links of one slot.

    links: inline in the order of the page, end best first.
    empty: for each place without a link, why.
    """

    slot: Slot
    links: tuple[PlacedLink, ...]
    empty: tuple[Empty, ...]


@dataclass(frozen=True, slots=True)
class PageLinks:
    """The links of all slots, in the layout's order. removed: number of candidates that each rule kept off the page."""

    slots: tuple[SlotLinks, ...]
    removed: dict[str, int]


@dataclass(slots=True)
class _Board:
    """The links that the page has so far, and what decides on more."""

    kinds: str
    rule_against: RuleAgainst
    paragraph_fit: ParagraphFit
    rows: list[int] = field(default_factory=list)
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)


def fill(
    layout: Layout,
    pools: Sequence[Pool],
    fallbacks: Sequence[Pool],
    kinds: str,
    rule_against: RuleAgainst,
    paragraph_fit: ParagraphFit,
) -> PageLinks:
    """Fill every slot of `layout`.

    pools, fallbacks: one for each slot: its related candidates, and those of its fallback (empty without one).
    kinds: one character for each paragraph of the page, as Record.kinds.
    rule_against, paragraph_fit: asked only about candidates that are about to be chosen.
    """
    board = _Board(kinds, rule_against, paragraph_fit)
    slots = tuple(
        _fill_slot(slot, pool, fallback, board)
        for slot, pool, fallback in zip(layout.slots, pools, fallbacks, strict=True)
    )
    return PageLinks(slots, dict(board.removed))


def nothing(layout: Layout, reason: Empty) -> PageLinks:
    """Return a page without links, every place empty for the same reason."""
    return PageLinks(tuple(SlotLinks(slot, (), (reason,) * slot.count) for slot in layout.slots), {})


def allowed_positions(kinds: str, slot: Slot, taken: Sequence[int]) -> list[int]:
    """Return the paragraphs that an inline link of `slot` may follow, ascending.

    Not a heading, media or the last paragraph, none before the slot's first text paragraph, and none with too few text
    paragraphs between it and those in `taken`. A page that is too short has no position.
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


def _fill_slot(slot: Slot, pool: Pool, fallback: Pool, board: _Board) -> SlotLinks:
    positions = allowed_positions(board.kinds, slot, board.positions)
    room = slot.count
    if slot.placement is Placement.INLINE:
        room = min(room, len(_spaced(positions, board.kinds, slot)))
        if not room:
            return SlotLinks(slot, (), (_why_no_room(slot, board),) * slot.count)
    passing = int(np.count_nonzero(pool.scores >= slot.threshold))
    board.removed[f"below_min_score:{slot.name}"] += len(pool.rows) - passing
    suppressed = board.removed.total()
    links = _choose(slot, _first(pool, passing), room, board, is_fallback=False)
    suppressed = board.removed.total() - suppressed
    links += _choose(slot, fallback, room - len(links), board, is_fallback=True)
    if slot.placement is Placement.INLINE:
        links = _put_in_place(links, positions, slot, board)
    why = Empty.NO_POSITION if len(links) == room else _why_empty(len(pool.rows), passing, suppressed)
    return SlotLinks(slot, tuple(links), (why,) * (slot.count - len(links)))


def _choose(slot: Slot, pool: Pool, count: int, board: _Board, *, is_fallback: bool) -> list[PlacedLink]:
    """Choose at most `count` of the pool's shortlist, best first, and add them to the board.

    Diversity does not apply to a fallback, whose links are the latest of its pool.
    """
    if count <= 0 or not len(pool.rows):
        return []
    diversity = 0.0 if is_fallback else slot.diversity
    links: list[PlacedLink] = []
    rows, scores, vectors = pool.rows[:SHORTLIST].tolist(), pool.scores[:SHORTLIST], pool.vectors[: len(pool.rows)]
    penalty = diversity * _similarity(vectors, board.vectors)
    relevance = (1 - diversity) * scores
    relevance[[row in board.rows for row in rows]] = -np.inf
    while len(links) < count and relevance[index := int((relevance - penalty).argmax())] != -np.inf:
        relevance[index] = -np.inf
        if rule := board.rule_against(rows[index], board.rows):
            board.removed[rule] += 1
            continue
        board.rows.append(rows[index])
        board.vectors.append(vectors[index])
        np.maximum(penalty, diversity * (vectors @ vectors[index]), out=penalty)
        links.append(PlacedLink(rows[index], 0.0 if is_fallback else float(scores[index]), fallback=is_fallback))
    links.sort(key=lambda link: (link.fallback, -link.score))
    return links


def _put_in_place(links: Sequence[PlacedLink], positions: list[int], slot: Slot, board: _Board) -> list[PlacedLink]:
    """Give every link a position: together the largest sum of fits that the spacing allows."""
    if not links:
        return []
    fits = np.stack([board.paragraph_fit(link.row) for link in links])[:, positions]
    placed = {link: positions[spot] for link, spot in _best_spots(positions, fits, board.kinds, slot)}
    board.positions.extend(sorted(placed.values()))
    return [replace(links[link], after_paragraph=placed[link]) for link in sorted(placed, key=placed.__getitem__)]


def _best_spots(
    positions: list[int], fits: npt.NDArray[np.float32], kinds: str, slot: Slot
) -> Sequence[tuple[int, int]]:
    """Return (link, index of its position) for each link, with enough text between them and the largest sum of fits.

    fits: float32 (links, positions).

    Dynamic programming: best[i] maps each set of links, as bits, to its best placement on the first i positions, the
    earliest among equals. Of more than JOINT_LINKS_MAX links only their number is tracked, as if every position got
    its best-fitting link; `_assigned` then gives out the positions. There is room for all links.
    """
    is_joint = len(fits) <= JOINT_LINKS_MAX
    values = (fits if is_joint else fits.max(axis=0, keepdims=True)).tolist()
    all_links = (1 << len(fits)) - 1 if is_joint else len(fits)
    text_before = _text_before(kinds)
    before = [text_before[position] for position in positions]
    best: list[dict[int, tuple[float, tuple[tuple[int, int], ...]]]] = [{0: (0.0, ())}]
    earlier = 0
    for index in range(len(positions)):
        while before[index] - before[earlier] >= slot.spacing_text_paragraphs:
            earlier += 1
        placements = dict(best[index])
        for links, (total, spots) in best[earlier].items():
            for link, fit_at in enumerate(values):
                more = links | 1 << link if is_joint else links + 1
                value = total + fit_at[index]
                if links != more <= all_links and (more not in placements or value > placements[more][0]):
                    placements[more] = (value, (*spots, (link, index)))
        best.append(placements)
    spots = best[-1][all_links][1]
    return spots if is_joint else _assigned([spot for _, spot in spots], fits)


def _assigned(spots: list[int], fits: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    """Give each link one of as many spots, with the largest sum of fits."""
    from scipy.optimize import linear_sum_assignment  # takes long to import, and few layouts need it

    links, chosen = linear_sum_assignment(fits[:, spots], maximize=True)
    return [(link, spots[i]) for link, i in zip(links.tolist(), chosen.tolist(), strict=True)]


def _spaced(positions: list[int], kinds: str, slot: Slot) -> list[int]:
    """Return the longest choice of `positions` that keeps the slot's spacing: greedy from the first."""
    before = _text_before(kinds)
    spaced: list[int] = []
    for position in positions:
        if not spaced or before[position] - before[spaced[-1]] >= slot.spacing_text_paragraphs:
            spaced.append(position)
    return spaced


def _text_before(kinds: str) -> list[int]:
    """Return for each paragraph the number of text paragraphs up to it, itself included."""
    return list(accumulate(kind == _TEXT for kind in kinds))


def _similarity(vectors: npt.NDArray[np.float32], links: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    if not links:
        return np.zeros(len(vectors), np.float32)
    largest: npt.NDArray[np.float32] = (vectors @ np.stack(links).T).max(axis=1)
    return largest


def _first(pool: Pool, n: int) -> Pool:
    return Pool(pool.rows[:n], pool.scores[:n], pool.vectors[:n])


def _why_no_room(slot: Slot, board: _Board) -> Empty:
    return Empty.NO_POSITION if board.kinds.count(_TEXT) >= slot.min_text_paragraphs else Empty.PAGE_TOO_SHORT


def _why_empty(candidates: int, passing: int, suppressed: int) -> Empty:
    if suppressed and suppressed >= passing:
        return Empty.TOO_SIMILAR
    if candidates > passing:
        return Empty.BELOW_MIN_SCORE
    return Empty.TOO_SIMILAR if suppressed else Empty.NO_CANDIDATES
