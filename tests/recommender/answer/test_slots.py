"""Filling slots: properties of every page plan, and the choices that a plan makes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.answer.layout import Layout, Placement, Slot
from recommender.answer.slots import (
    JOINT_LINKS_MAX,
    SHORTLIST,
    Empty,
    PageLinks,
    PlacedLink,
    Pool,
    SlotLinks,
    allowed_positions,
    fill,
    nothing,
)

Floats = npt.NDArray[np.float32]

DIMENSION = 64
TEXT, HEADING, MEDIA, QUOTE = "1234"
LONG = TEXT * 12
"""A page on which every place of a usual slot has room."""


@dataclass
class FakeRules:
    """What decides on candidates.

    clashes: by row, the rule against it. pairs: rows with the rule "pair" against each other. fits: by row, else zeros.
    """

    paragraphs: int
    clashes: Mapping[int, str] | None = None
    pairs: frozenset[frozenset[int]] = frozenset()
    fits: Mapping[int, Sequence[float]] | None = None

    def rule_against(self, row: int, chosen: Sequence[int]) -> str | None:
        if row in (self.clashes or {}):
            return (self.clashes or {})[row]
        return "pair" if any(frozenset((row, other)) in self.pairs for other in chosen) else None

    def paragraph_fit(self, row: int) -> Floats:
        return np.array((self.fits or {}).get(row, [0.0] * self.paragraphs), np.float32)


def pool(scores: Sequence[float] = (), vectors: Sequence[Sequence[float]] = (), rows: Sequence[int] = ()) -> Pool:
    """Return candidates with these scores, best first: rows 0, 1, ... by default, each in a direction of its own."""
    pool_rows = np.array(rows or range(len(scores)), np.int64)
    own = np.eye(DIMENSION, dtype=np.float32)[pool_rows]
    for row, vector in enumerate(vectors):
        own[row] = [*vector, *[0.0] * (DIMENSION - len(vector))]
    return Pool(pool_rows, np.array(scores, np.float32), own[:SHORTLIST])


def inline(count: int = 2, **values: Any) -> Slot:
    """Return an inline slot that takes any score."""
    return Slot.model_validate({"name": "inline", "placement": "inline", "count": count, "min_score": 0.0, **values})


def end(count: int = 3, **values: Any) -> Slot:
    """Return an end slot that takes any score."""
    return Slot.model_validate({"name": "end", "placement": "end", "count": count, "min_score": 0.0, **values})


def fill_one(slot: Slot, candidates: Pool, latest: Pool | None = None, kinds: str = LONG, **rules: Any) -> SlotLinks:
    """Fill a page of one slot."""
    return fill_all([slot], [candidates], [latest or pool()], kinds, **rules).slots[0]


def fill_all(
    slots: Sequence[Slot],
    pools: Sequence[Pool],
    latest: Sequence[Pool] | None = None,
    kinds: str = LONG,
    **rules: Any,
) -> PageLinks:
    """Fill a page."""
    layout = Layout(name="page", slots=tuple(slots))
    fake = FakeRules(len(kinds), **rules)
    fallbacks = latest or [pool()] * len(slots)
    return fill(layout, pools, fallbacks, kinds, fake.rule_against, fake.paragraph_fit)


def rows_of(filled: SlotLinks) -> list[int]:
    """Return the chosen rows in order."""
    return [place.row for place in filled.links]


def text_before(kinds: str, position: int) -> int:
    """Return how many text paragraphs there are up to a position, itself included."""
    return kinds[: position + 1].count(TEXT)


# Every plan


@dataclass(frozen=True)
class Case:
    """One page to fill."""

    layout: Layout
    pools: tuple[Pool, ...]
    latest: tuple[Pool, ...]
    kinds: str
    rules: FakeRules

    def fill(self) -> PageLinks:
        """Fill it."""
        rules = self.rules
        return fill(self.layout, self.pools, self.latest, self.kinds, rules.rule_against, rules.paragraph_fit)


NONE = Pool(np.empty(0, np.int64), np.empty(0, np.float32), np.empty((0, 4), np.float32))
SLOTS = st.builds(
    Slot,
    name=st.just("slot"),
    placement=st.sampled_from(Placement),
    count=st.integers(1, 6),
    min_score=st.sampled_from([None, 0.0, 0.3, 0.6]),
    diversity=st.sampled_from([0.0, 0.3, 1.0]),
    first_after_text_paragraphs=st.integers(1, 4),
    spacing_text_paragraphs=st.integers(1, 4),
    min_text_paragraphs=st.integers(1, 8),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return any page: mixed paragraphs, several slots, candidates that several of them share, clashes, fits."""
    slots = draw(st.lists(SLOTS, min_size=1, max_size=3))
    named = tuple(slot.model_copy(update={"name": f"slot-{i}"}) for i, slot in enumerate(slots))
    paragraphs = draw(st.integers(0, 24))
    kind = st.sampled_from(TEXT * 6 + HEADING + MEDIA + QUOTE)
    kinds = "".join(draw(st.lists(kind, min_size=paragraphs, max_size=paragraphs)))
    articles = draw(st.integers(0, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = random.standard_normal((articles, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def candidates(*, scored: bool) -> Pool:
        rows = random.permutation(np.flatnonzero(random.random(articles) < draw(st.sampled_from([0.1, 0.9]))))
        rows = rows if scored else rows[:SHORTLIST]
        scores = np.sort(random.random(len(rows)).round(2).astype(np.float32))[::-1]
        return Pool(rows, scores if scored else np.zeros_like(scores), vectors[rows[:SHORTLIST]])

    rows = list(range(articles))
    rules = FakeRules(
        len(kinds),
        {row: "rule" for row in rows if random.random() < 0.1},
        frozenset(frozenset((a, b)) for a, b in itertools.combinations(rows, 2) if random.random() < 0.05),
        {row: random.random(len(kinds)).round(1).tolist() for row in rows},
    )
    return Case(
        Layout(name="page", slots=named),
        tuple(candidates(scored=True) for _ in named),
        tuple(candidates(scored=False) if draw(st.booleans()) else NONE for _ in named),
        kinds,
        rules,
    )


@given(cases())
def test_an_article_stands_once_on_a_page(case: Case) -> None:
    """No article has two places on a page, related or as a fallback."""
    rows = [row for filled in case.fill().slots for row in rows_of(filled)]
    assert len(rows) == len(set(rows))


@given(cases())
def test_every_place_is_filled_or_has_a_reason(case: Case) -> None:
    """Slots come in the layout's order, each with `count` places, and an empty place says why."""
    plan = case.fill()
    assert [filled.slot for filled in plan.slots] == list(case.layout.slots)
    for filled in plan.slots:
        assert len(filled.links) + len(filled.empty) == filled.slot.count
        assert all(isinstance(why, Empty) and why is not Empty.NEVER_SOURCE for why in filled.empty)


@given(cases())
def test_inline_links_stand_where_they_may(case: Case) -> None:
    """Inline links follow text or quotes, from the first allowed text paragraph to before the last, spaced apart."""
    taken: list[int] = []
    for filled in case.fill().slots:
        slot = filled.slot
        if slot.placement is Placement.END:
            assert all(place.after_paragraph is None for place in filled.links)
            continue
        own: list[int] = [place.after_paragraph for place in filled.links if place.after_paragraph is not None]
        assert len(own) == len(filled.links)
        assert not own or case.kinds.count(TEXT) >= slot.min_text_paragraphs
        for index, position in enumerate(own):
            assert case.kinds[position] in (TEXT, QUOTE)
            assert 0 <= position < len(case.kinds) - 1
            assert text_before(case.kinds, position) >= slot.first_after_text_paragraphs
            for other in taken + own[:index]:
                apart = abs(text_before(case.kinds, position) - text_before(case.kinds, other))
                assert apart >= slot.spacing_text_paragraphs
        taken += own


@given(cases())
def test_places_are_in_page_order_or_best_first(case: Case) -> None:
    """Inline links come in the order of the page, end links by falling score, fallbacks last."""
    for filled in case.fill().slots:
        if filled.slot.placement is Placement.INLINE:
            positions = [place.after_paragraph or 0 for place in filled.links]
            assert positions == sorted(set(positions))
        else:
            keys = [(place.fallback, -place.score) for place in filled.links]
            assert keys == sorted(keys)


@given(cases())
def test_links_reach_the_threshold_and_come_from_their_slot_s_pool(case: Case) -> None:
    """A related link has its pool's score, at least the threshold; a fallback comes from the latest and scores 0."""
    for filled, candidates, latest in zip(case.fill().slots, case.pools, case.latest, strict=True):
        scores = dict(zip(candidates.rows.tolist(), candidates.scores.tolist(), strict=True))
        for place in filled.links:
            if place.fallback:
                assert place.row in latest.rows
                assert place.score == 0
            else:
                assert place.score == scores[place.row] >= np.float32(filled.slot.threshold)


@given(cases())
def test_no_link_breaks_a_rule(case: Case) -> None:
    """No link breaks a rule, alone or beside another one."""
    rows = [row for filled in case.fill().slots for row in rows_of(filled)]
    assert not set(rows) & set(case.rules.clashes or {})
    assert not {frozenset(pair) for pair in itertools.combinations(rows, 2)} & case.rules.pairs


@given(cases())
def test_the_same_page_is_filled_the_same_way_again(case: Case) -> None:
    """The plan depends on nothing but the input."""
    assert case.fill() == case.fill()


@given(cases())
def test_a_place_at_the_end_stays_empty_only_when_nothing_is_left(case: Case) -> None:
    """In a slot with an empty place every shortlisted candidate is used or breaks a rule."""
    used: list[int] = []
    for filled, candidates in zip(case.fill().slots, case.pools, strict=True):
        used += rows_of(filled)
        if filled.slot.placement is Placement.INLINE or not filled.empty:
            continue
        good = candidates.rows[candidates.scores >= filled.slot.threshold][:SHORTLIST].tolist()
        assert all(row in used or case.rules.rule_against(row, used) for row in good)


@given(cases())
def test_candidates_below_each_slot_s_threshold_are_counted(case: Case) -> None:
    """`removed` has the number of candidates below the threshold by slot, and the suppressed ones by rule."""
    plan = case.fill()
    for filled, candidates in zip(plan.slots, case.pools, strict=True):
        if filled.empty and filled.empty[0] in (Empty.PAGE_TOO_SHORT, Empty.NO_POSITION) and not filled.links:
            continue
        below = int((candidates.scores < filled.slot.threshold).sum())
        assert plan.removed[f"below_min_score:{filled.slot.name}"] == below
    below_keys = {f"below_min_score:{slot.name}" for slot in case.layout.slots}
    assert set(plan.removed) <= below_keys | {"rule", "pair"}


# Positions


@pytest.mark.parametrize(
    ("kinds", "values", "taken", "expected"),
    [
        ("111111", {}, [], [2, 3, 4]),
        ("1111", {}, [], []),
        ("11111", {}, [], [2, 3]),
        ("1111122", {}, [], [2, 3, 4]),
        ("111244", {}, [], []),
        ("11121131", {}, [], [2, 4, 5]),
        ("1114111", {}, [], [2, 3, 4, 5]),
        ("2111111", {}, [], [3, 4, 5]),
        ("1111113", {}, [], [2, 3, 4, 5]),
        ("1111111111", {}, [4], [2, 6, 7, 8]),
        ("1111111111", {"spacing_text_paragraphs": 4}, [4], [8]),
        ("1121111111", {}, [4], [6, 7, 8]),
        ("1111111", {"first_after_text_paragraphs": 1}, [], [0, 1, 2, 3, 4, 5]),
        ("1111111", {"first_after_text_paragraphs": 6}, [], [5]),
        ("1111111", {"first_after_text_paragraphs": 7}, [], []),
        ("111", {"min_text_paragraphs": 3, "first_after_text_paragraphs": 1}, [], [0, 1]),
        ("1", {"min_text_paragraphs": 1, "first_after_text_paragraphs": 1}, [], []),
        ("", {"min_text_paragraphs": 1}, [], []),
        ("3" * 9, {"min_text_paragraphs": 1}, [], []),
    ],
    ids=[
        "from the third, not after the last",
        "four text paragraphs are too few",
        "five are enough",
        "headings at the end",
        "only text paragraphs count",
        "not after heading or media",
        "a quote is linkable and does not count",
        "a heading first",
        "the last is media",
        "two from a taken one",
        "four from a taken one",
        "spacing counts text only",
        "from the first",
        "from the sixth",
        "from the last",
        "a page of three",
        "a page of one",
        "no paragraphs",
        "pictures only",
    ],
)
def test_allowed_positions(kinds: str, values: dict[str, int], taken: list[int], expected: list[int]) -> None:
    """A link may stand after these paragraphs."""
    assert allowed_positions(kinds, inline(**values), taken) == expected


@pytest.mark.parametrize(
    ("kinds", "spacing", "room"),
    [("1" * 5, 2, 1), ("1" * 6, 2, 2), ("1" * 8, 2, 3), ("1" * 8, 1, 5), ("1" * 12, 5, 2), ("11141111", 2, 2)],
)
def test_as_many_inline_links_as_the_spacing_allows(kinds: str, spacing: int, room: int) -> None:
    """With candidates to spare a slot uses all positions that its spacing allows; its other places have no position."""
    filled = fill_one(inline(6, spacing_text_paragraphs=spacing), pool([0.9] * 20), kinds=kinds)
    assert len(filled.links) == room
    assert filled.empty == (Empty.NO_POSITION,) * (6 - room)


def test_inline_slots_keep_their_distance_from_each_other() -> None:
    """The links of a second inline slot keep the spacing to those of the first."""
    first, second = inline(1), inline(3, name="second")
    fits = {0: [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]}
    plan = fill_all([first, second], [pool([0.9]), pool([0.8] * 5, rows=range(10, 15))], fits=fits)
    assert [place.after_paragraph for place in plan.slots[0].links] == [5]
    positions = [place.after_paragraph or 0 for place in plan.slots[1].links]
    assert len(positions) == 3
    assert all(abs(position - 5) >= 2 for position in positions)


# Why a place stays empty

EMPTY_CASES: dict[str, tuple[Slot, Pool, str, dict[str, Any], list[Empty]]] = {
    "no candidates": (end(2), pool(), LONG, {}, [Empty.NO_CANDIDATES] * 2),
    "fewer candidates than places": (end(2), pool([0.9]), LONG, {}, [Empty.NO_CANDIDATES]),
    "all below": (end(2, min_score=0.5), pool([0.4, 0.3]), LONG, {}, [Empty.BELOW_MIN_SCORE] * 2),
    "the next is below": (end(2, min_score=0.5), pool([0.9, 0.3]), LONG, {}, [Empty.BELOW_MIN_SCORE]),
    "all repeat": (end(2), pool([0.9, 0.8]), LONG, {"clashes": {0: "x", 1: "x"}}, [Empty.TOO_SIMILAR] * 2),
    "all that are good repeat": (
        end(1, min_score=0.5),
        pool([0.9, 0.3]),
        LONG,
        {"clashes": {0: "x"}},
        [Empty.TOO_SIMILAR],
    ),
    "the rest repeats": (end(2), pool([0.9, 0.8]), LONG, {"clashes": {1: "x"}}, [Empty.TOO_SIMILAR]),
    "too short": (inline(2), pool([0.9] * 5), "1111", {}, [Empty.PAGE_TOO_SHORT] * 2),
    "too short, whatever the candidates": (inline(1), pool(), "1111", {}, [Empty.PAGE_TOO_SHORT]),
    "room for one": (inline(2), pool([0.9] * 5), "11111", {}, [Empty.NO_POSITION]),
    "no paragraph that a link may follow": (
        inline(1, first_after_text_paragraphs=5),
        pool([0.9]),
        "11111",
        {},
        [Empty.NO_POSITION],
    ),
    "inline without candidates": (inline(2), pool(), LONG, {}, [Empty.NO_CANDIDATES] * 2),
    "inline below": (inline(2, min_score=None), pool([0.49, 0.4]), LONG, {}, [Empty.BELOW_MIN_SCORE] * 2),
}


@pytest.mark.parametrize("name", EMPTY_CASES)
def test_why_a_place_stays_empty(name: str) -> None:
    """The reason is the one that an editor can act on."""
    slot, candidates, kinds, rules, expected = EMPTY_CASES[name]
    assert list(fill_one(slot, candidates, kinds=kinds, **rules).empty) == expected


def test_a_candidate_of_an_earlier_slot_is_not_counted_as_removed() -> None:
    """If its only candidate is on the page already, a slot has no candidates, and no rule counts it."""
    plan = fill_all([end(1), end(1, name="more")], [pool([0.9]), pool([0.9])])
    assert plan.slots[1].empty == (Empty.NO_CANDIDATES,)
    assert not any(plan.removed.values())


def test_nothing_gives_every_place_the_same_reason() -> None:
    """A page that gets no links has all its places, each with the reason."""
    layout = Layout(name="page", slots=(inline(2), end(3)))
    plan = nothing(layout, Empty.NEVER_SOURCE)
    assert [(filled.slot.name, filled.links, filled.empty) for filled in plan.slots] == [
        ("inline", (), (Empty.NEVER_SOURCE,) * 2),
        ("end", (), (Empty.NEVER_SOURCE,) * 3),
    ]
    assert plan.removed == {}


# Which candidates


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        (end(4, min_score=None), [0.75, 0.5, 0.25]),
        (inline(4, min_score=None), [0.75, 0.5]),
        (end(4, min_score=0.75), [0.75]),
        (inline(4, min_score=0.125), [0.75, 0.5, 0.25, 0.125]),
    ],
    ids=["end", "inline is stricter", "its own threshold", "its own threshold inline"],
)
def test_a_score_equal_to_the_threshold_is_enough(slot: Slot, expected: list[float]) -> None:
    """A candidate at the threshold is taken; without its own a slot has its placement's threshold."""
    filled = fill_one(slot, pool([0.75, 0.5, 0.25, 0.125]))
    assert sorted((place.score for place in filled.links), reverse=True) == expected


def test_a_suppressed_candidate_makes_way_for_the_next() -> None:
    """The next candidate of the shortlist takes the place of a suppressed one, which is counted."""
    candidates = pool([0.9] * SHORTLIST)
    plan = fill_all([end(1)], [candidates], clashes=dict.fromkeys(range(SHORTLIST - 1), "near_copy_of_page"))
    assert rows_of(plan.slots[0]) == [SHORTLIST - 1]
    assert plan.removed == {"below_min_score:end": 0, "near_copy_of_page": SHORTLIST - 1}


def test_a_candidate_is_checked_against_all_links_of_the_page() -> None:
    """A candidate of the second slot that breaks a rule beside a link of the first is not chosen."""
    plan = fill_all(
        [end(1), end(2, name="more")],
        [pool([0.9]), pool([0.8, 0.7], rows=[5, 6])],
        pairs=frozenset({frozenset((0, 5))}),
    )
    assert [rows_of(filled) for filled in plan.slots] == [[0], [6]]
    assert plan.removed["pair"] == 1


def test_an_earlier_slot_has_the_first_choice() -> None:
    """The best of a shared pool goes to the first slot, the next ones to the second."""
    shared = pool([0.9, 0.8, 0.7])
    plan = fill_all([end(1), end(2, name="more")], [shared, shared])
    assert [rows_of(filled) for filled in plan.slots] == [[0], [1, 2]]


def test_a_fallback_fills_what_related_articles_do_not() -> None:
    """Fallbacks follow related links in their own order, none twice, marked, with score 0."""
    filled = fill_one(end(4, min_score=0.5), pool([0.75, 0.25]), pool([0.9] * 4, rows=[7, 0, 1, 8]))
    assert filled.links == (
        PlacedLink(0, 0.75),
        PlacedLink(7, 0.0, fallback=True),
        PlacedLink(1, 0.0, fallback=True),
        PlacedLink(8, 0.0, fallback=True),
    )


def test_diversity_does_not_reorder_a_fallback() -> None:
    """A fallback stays newest first, however similar its articles are."""
    alike = [[1, 0], [1, 0], [0, 1]]
    filled = fill_one(end(2, diversity=1.0), pool(), pool([0, 0, 0], vectors=alike, rows=[3, 4, 5]))
    assert rows_of(filled) == [3, 4]


# Diversity


@pytest.mark.parametrize(
    ("diversity", "expected"),
    [(0.0, [0, 1, 2]), (0.3, [0, 3, 1]), (1.0, [0, 3, 4])],
    ids=["none", "default", "all"],
)
def test_diversity_keeps_one_story_from_filling_every_place(diversity: float, expected: list[int]) -> None:
    """Of three articles of one story the second follows another story; without diversity only scores count."""
    story, other, third = [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]
    candidates = pool([0.9, 0.85, 0.8, 0.7, 0.2], vectors=[story, story, story, other, third])
    chosen = rows_of(fill_one(end(3, diversity=diversity), candidates))
    assert sorted(chosen) == sorted(expected)


def test_similarity_to_links_of_earlier_slots_counts_too() -> None:
    """A story in the first slot moves the second slot to another story."""
    story, other = [1.0, 0.0], [0.0, 1.0]
    later = pool([0.8, 0.7], vectors=[story, other], rows=[5, 6])
    plan = fill_all([end(1), end(1, name="more")], [pool([0.9], vectors=[story]), later])
    assert rows_of(plan.slots[1]) == [6]


def greedy(scores: Floats, vectors: Floats, diversity: float, count: int) -> set[int]:
    """Return the choice of maximal marginal relevance by its definition, step by step; vectors are not negative."""
    chosen: list[int] = []
    while len(chosen) < min(count, len(scores)):
        marginal = {
            row: (1 - diversity) * scores[row] - diversity * max((vectors[row] @ vectors[c] for c in chosen), default=0)
            for row in range(len(scores))
            if row not in chosen
        }
        chosen.append(max(marginal, key=lambda row: (marginal[row], -row)))
    return set(chosen)


@given(st.integers(0, 2**32 - 1), st.integers(1, SHORTLIST), st.integers(1, 6), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_places_are_chosen_by_maximal_marginal_relevance(seed: int, n: int, count: int, diversity: float) -> None:
    """The links of an end slot are those of the definition of maximal marginal relevance."""
    random = np.random.default_rng(seed)
    scores = np.sort(random.random(n).astype(np.float32))[::-1]
    vectors = random.random((n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    filled = fill_one(end(count, diversity=diversity), Pool(np.arange(n), scores, vectors), NONE)
    assert set(rows_of(filled)) == greedy(scores, vectors, diversity, count)


# Where each link stands


def placements(kinds: str, slot: Slot, links: int) -> list[tuple[int, ...]]:
    """Return every way to give each of `links` a position."""

    def apart(spots: Sequence[int]) -> bool:
        return all(
            abs(text_before(kinds, a) - text_before(kinds, b)) >= slot.spacing_text_paragraphs
            for a, b in itertools.combinations(spots, 2)
        )

    return [spots for spots in itertools.permutations(allowed_positions(kinds, slot, ()), links) if apart(spots)]


@st.composite
def inline_pages(draw: st.DrawFn, links: int) -> tuple[str, Slot, list[list[float]]]:
    """Return a small page, an inline slot with room for `links`, and how well each of them fits each paragraph."""
    slot = inline(links, spacing_text_paragraphs=draw(st.integers(1, 2)), diversity=0.0)
    text = links * slot.spacing_text_paragraphs + 2
    kinds = "".join(draw(st.permutations(TEXT * text + draw(st.sampled_from(["", HEADING, MEDIA + QUOTE])))))
    fit = st.integers(0, 8).map(float)
    return (
        kinds,
        slot,
        draw(st.lists(st.lists(fit, min_size=len(kinds), max_size=len(kinds)), min_size=links, max_size=links)),
    )


def placed(kinds: str, slot: Slot, fits: Sequence[Sequence[float]]) -> dict[int, int]:
    """Fill the slot with one link for each row of `fits`; return the position of each."""
    filled = fill_one(slot, pool([0.9] * len(fits)), kinds=kinds, fits=dict(enumerate(fits)))
    return {place.row: place.after_paragraph for place in filled.links if place.after_paragraph is not None}


@given(st.integers(1, 3).flatmap(inline_pages))
def test_links_stand_where_all_of_them_together_fit_best(page: tuple[str, Slot, list[list[float]]]) -> None:
    """No other placement that the spacing allows has a larger sum of fits."""
    kinds, slot, fits = page
    ways = placements(kinds, slot, len(fits))
    at = placed(kinds, slot, fits)
    if len(at) == len(fits):
        best = max(sum(fits[link][spot] for link, spot in enumerate(spots)) for spots in ways)
        assert sum(fits[link][spot] for link, spot in at.items()) == best
    else:
        assert not ways, "one that fits was left out"


def test_a_link_that_fits_everywhere_leaves_the_one_good_place_to_another() -> None:
    """The first link fits positions 4 and 6; the second fits only 8, and gets it."""
    general, special = [0.0] * 12, [0.0] * 12
    general[4], general[6], special[8] = 10.0, 9.0, 5.0
    assert placed(LONG, inline(2), [general, special]) == {0: 4, 1: 8}
    assert list(placed(LONG, inline(2), [special, general]).items()) == [(1, 4), (0, 8)], "in the order of the page"


def test_many_links_are_placed_where_the_page_is_continued_best() -> None:
    """More links than are placed jointly get the positions with the best fits, each position its best link."""
    links = JOINT_LINKS_MAX + 2
    spots = [2, 5, 7, 10, 12, 14]
    kinds = TEXT * 20
    fits = [[1.0 if position == spots[(link + 1) % links] else 0.0 for position in range(20)] for link in range(links)]
    assert placed(kinds, inline(links), fits) == {link: spots[(link + 1) % links] for link in range(links)}


@pytest.mark.parametrize("links", [1, 2, JOINT_LINKS_MAX, JOINT_LINKS_MAX + 1])
def test_of_equal_positions_the_earliest_are_taken(links: int) -> None:
    """Links that fit no paragraph stand as early as allowed."""
    at = placed(TEXT * 20, inline(links), [[0.0] * 20] * links)
    assert sorted(at.values()) == [2 + 2 * link for link in range(links)]


def test_an_inline_fallback_is_placed_like_any_other_link() -> None:
    """An inline fallback is placed by its own fit."""
    fits = {9: [0.0] * 7 + [1.0] + [0.0] * 4}
    filled = fill_one(inline(1), pool(), pool([0.0], rows=[9]), fits=fits)
    assert filled.links == (PlacedLink(9, 0.0, after_paragraph=7, fallback=True),)
