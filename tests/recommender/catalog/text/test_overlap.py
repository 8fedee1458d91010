"""Overlap: the terms that a text shares with others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.text.overlap import (
    FULL_USE_WEIGHT,
    Overlap,
    RowMatcher,
    TermTable,
    overlap_detail,
    overlaps,
)
from recommender.catalog.text.terms import (
    IN_TITLE,
    SIGNATURE_TERMS,
    TERM_BUCKETS,
    Packed,
    Signature,
    Weights,
    make_signature,
    unpack,
)
from tests.recommender.terms import EVEN, STEP, term_id, terms_of, titled_in


def overlap(one: Signature, *others: Signature) -> Overlap:
    """Return what `overlaps` says of a signature and packed others."""
    packed = np.stack([other.pack() for other in others])
    return overlaps(one.ids, one.weights, packed, TermTable())


def shared(one: Signature, packed: Packed) -> list[tuple[int, int, float, bool]]:
    """Return the values of RowOverlap for each term that a signature shares with a packed row."""
    row_overlap = RowMatcher(one.ids, one.weights).match(packed)
    return list(zip(*(values.tolist() for values in row_overlap), strict=True))


def cosine(one: Signature, other: Signature) -> float:
    """Return the cosine that `overlaps` gives."""
    return float(overlap(one, other).cosine[0])


_words = st.lists(st.sampled_from([f"word{i}" for i in range(12)]), min_size=1, max_size=25)
_idfs = st.lists(st.just(0.0) | st.floats(1e-6, 16), min_size=12, max_size=12)


def weigh(idfs: Sequence[float]) -> Weights:
    """Return the idf of all terms: these values for word0, word1 and so on."""
    table = np.zeros(TERM_BUCKETS, np.float32)
    for i, value in enumerate(idfs):
        table[term_id(f"word{i}")] = value
    return table


@given(_words, _words, _idfs)
def test_the_overlap_is_the_cosine_of_tf_idf(one: list[str], other: list[str], idfs: list[float]) -> None:
    """Within the step of packed weights the cosine is exact, symmetric, and the sum of its terms' contributions."""
    idf = weigh(idfs)

    def exact(words: list[str]) -> dict[str, float]:
        weights = {w: (1 + math.log(words.count(w))) * float(idf[term_id(w)]) for w in set(words)}
        length = math.sqrt(sum(v * v for v in weights.values())) or 1
        return {w: v / length for w, v in weights.items()}

    mine, theirs = exact(one), exact(other)
    expected = sum(mine[w] * theirs.get(w, 0) for w in mine)
    a, b = (make_signature(terms_of("", " ".join(words)), idf) for words in (one, other))
    assert cosine(a, b) == pytest.approx(expected, abs=4 * STEP)
    assert cosine(b, a) == pytest.approx(expected, abs=4 * STEP)
    parts = {ours: added for ours, _, added, _ in shared(a, b.pack())}
    assert sum(parts.values()) == pytest.approx(cosine(a, b), abs=1e-5)
    numbers = {term_id(f"word{i}"): f"word{i}" for i in range(12)}
    for ours, word in enumerate(numbers[i] for i in a.ids.tolist()):
        assert parts.get(ours, 0) == pytest.approx(mine[word] * theirs.get(word, 0), abs=STEP)


@given(_words, _words, _idfs)
def test_the_overlap_of_packed_signatures_is_symmetric(one: list[str], other: list[str], idfs: list[float]) -> None:
    """The cosine of two stored articles is the same whichever of them is the page."""
    idf = weigh(idfs)
    packed = [make_signature(terms_of("", " ".join(words)), idf).pack() for words in (one, other)]
    there, back = (overlaps(*unpack(packed[i]), packed[1 - i][None], TermTable()).cosine[0] for i in (0, 1))
    assert there == pytest.approx(back, abs=1e-6)
    assert 0 <= there <= 1 + SIGNATURE_TERMS * STEP


_titles = st.lists(st.sampled_from([f"word{i}" for i in range(12)]), max_size=6)


@given(_words, st.lists(st.tuples(_titles, _words), min_size=1, max_size=3), _idfs)
def test_title_shares_are_those_of_a_dictionary(
    page: list[str], others: list[tuple[list[str], list[str]]], idfs: list[float]
) -> None:
    """The title's overlap is its share, by squared weight, that the page uses anywhere in its text."""
    idf = weigh(idfs)
    mine = make_signature(terms_of(page[0], " ".join(page[1:])), idf)
    theirs = [make_signature(terms_of(" ".join(title), " ".join(body)), idf) for title, body in others]
    result = overlap(mine, *theirs)
    for values in (result.cosine, result.title):
        assert (str(values.dtype), values.shape) == ("float32", (len(others),))
    weights = dict(zip(mine.ids.tolist(), mine.weights.tolist(), strict=True))
    for i, (title, _) in enumerate(others):
        ids, stored = unpack(theirs[i].pack())
        their_weights = dict(zip(ids.tolist(), stored.tolist(), strict=True))
        of_title = {word: their_weights[term_id(word)] ** 2 for word in set(title) if idf[term_id(word)] > 0}
        used = {word: min(weights.get(term_id(word), 0) / FULL_USE_WEIGHT, 1) for word in of_title}
        share = sum(square * used[word] for word, square in of_title.items()) / (sum(of_title.values()) or 1)
        assert result.title[i] == pytest.approx(share, abs=1e-5)
        cosine = sum(weight * their_weights.get(term, 0) for term, weight in weights.items())
        assert result.cosine[i] == pytest.approx(cosine, abs=1e-5)


def test_a_title_is_compared_with_the_whole_other_text() -> None:
    """Words of a title that the page uses in its title or its body count; the page's own title does not matter."""
    page = make_signature(terms_of("gas deal", "talks oil"), EVEN)
    titles = [("talks", "gas"), ("gas harbour", ""), ("harbour", "gas deal talks"), ("", "gas deal talks")]
    result = overlap(page, *(make_signature(terms_of(*other), EVEN) for other in titles))
    assert result.title.tolist() == pytest.approx([1, 0.5, 0, 0]), "a text without a title has no share"


def test_a_table_finds_one_signature_s_terms_after_another_s() -> None:
    """A table is reused from request to request and keeps nothing of the previous one."""
    table = TermTable()
    gas, oil, talks = (make_signature(terms_of(text), EVEN) for text in ("gas price", "oil price", "talks"))
    rows = np.stack([one.pack() for one in (gas, oil, talks)])
    expected = {gas: [1, 0.5, 0], oil: [0.5, 1, 0], talks: [0, 0, 1]}
    for one, shares in 2 * list(expected.items()):
        result = overlaps(one.ids, one.weights, rows, table)
        assert result.cosine.tolist() == pytest.approx(shares, abs=1e-3)
        assert result.title.tolist() == pytest.approx(shares)
    none = overlaps(gas.ids, gas.weights, rows[:0], table)
    assert none.cosine.shape == none.title.shape == (0,)


def test_hashes_that_begin_alike_are_told_apart() -> None:
    """The first bits rule out most terms; the whole hash decides."""
    ids = np.array([1 << 8, (1 << 8) + 3], np.int32)
    page = Signature(ids, np.array([0.8, 0.6], np.float32), np.arange(2), 0)
    other = Signature(ids + np.array([1, 0], np.int32), np.array([0.8, 0.6], np.float32), np.arange(2), 1)
    result = overlap(page, other)
    assert result.cosine.tolist() == pytest.approx([0.36], abs=STEP)
    assert result.title.tolist() == [0]
    assert (result.matches.flat_positions.tolist(), result.matches.own_positions.tolist()) == ([1], [1])
    assert [(own, other_at, in_title) for own, other_at, _, in_title in shared(page, other.pack())] == [(1, 1, False)]


def test_a_title_s_term_in_passing_counts_in_proportion() -> None:
    """A page that uses a term at half of FULL_USE_WEIGHT uses half of it; from FULL_USE_WEIGHT on, all."""
    title = make_signature(terms_of("gas"), EVEN)
    for weight, share in ((0.0, 0.0), (FULL_USE_WEIGHT / 2, 0.5), (FULL_USE_WEIGHT, 1.0), (0.9, 1.0)):
        page = np.array([term_id("gas")], np.int32), np.array([weight], np.float32)
        result = overlaps(*page, title.pack()[None], TermTable())
        assert result.title.tolist() == pytest.approx([share], abs=1e-5)


def test_the_detail_of_an_overlap() -> None:
    """The detail counts shared terms and measures the strongest, the page's own title, and the terms of both titles."""
    page_terms = terms_of("gas deal", "oil talks")
    page = make_signature(page_terms, EVEN)
    in_title = (page_terms.masks[page.order] & np.uint64(IN_TITLE)) != 0
    others = [terms_of("gas price", "talks"), terms_of("harbour", "deal gas"), terms_of("snow")]
    signatures = [make_signature(other, EVEN) for other in others]
    rows = np.stack([signature.pack() for signature in signatures])
    found = overlap_detail(page.weights, in_title, rows, overlap(page, *signatures).matches)
    assert found.shared.tolist() == [2, 2, 0]
    assert found.own_title.tolist() == pytest.approx([0.5, 1, 0])
    weights = dict(zip(page.ids.tolist(), page.weights.tolist(), strict=True))
    theirs = [dict(zip(*(values.tolist() for values in unpack(row)), strict=True)) for row in rows]
    parts = [max((weights.get(term, 0) * weight for term, weight in one.items()), default=0) for one in theirs]
    assert found.strongest.tolist() == pytest.approx(parts)
    assert found.titles.tolist() == pytest.approx([theirs[0][term_id("gas")] ** 2, 0, 0])
    none = overlap_detail(page.weights, in_title, rows[:0], TermTable().match(page.ids, rows[:0]))
    assert all(len(getattr(none, name)) == 0 for name in ("shared", "strongest", "own_title", "titles"))


def test_texts_without_terms_have_nothing_in_common() -> None:
    """Texts without terms share nothing, not even with each other."""
    nothing = make_signature(terms_of("?"), EVEN)
    result = overlap(nothing, nothing)
    assert (result.cosine.tolist(), result.title.tolist(), shared(nothing, nothing.pack())) == ([0], [0], [])


def test_the_term_with_hash_zero_is_a_term() -> None:
    """Padding differs from a term whose hash is 0."""
    signature = Signature(np.array([0, 5], np.int32), np.array([0.8, 0.6], np.float32), np.arange(2), 0)
    packed = signature.pack()
    ids, weights = unpack(packed)
    assert ids.tolist() == [0, 5]
    assert weights.tolist() == pytest.approx([0.8, 0.6], abs=STEP)
    assert cosine(signature, signature) == pytest.approx(1, abs=2 * STEP)
    assert [(ours, theirs) for ours, theirs, _, _ in shared(signature, packed)] == [(0, 0), (1, 1)]


@pytest.mark.parametrize("titled", [0, 1, 2])
def test_a_title_s_term_with_hash_zero_is_a_term(titled: int) -> None:
    """The term is found in a title that has it, and not in the padding of one that lacks it."""
    weights = np.array([0.8, 0.6], np.float32)
    page = Signature(np.array([0, 5], np.int32), weights, np.arange(2), titled)
    without = Signature(np.array([9, 5], np.int32), weights, np.arange(2), titled)
    shares = [[0, 0], [1, 0], [1, 0.36]][titled]
    assert overlap(page, page, without).title.tolist() == pytest.approx(shares, abs=1e-3)
    assert titled_in(page.pack()) == titled
