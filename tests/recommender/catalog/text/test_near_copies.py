"""Near copies: the estimate is compared with the exact Jaccard coefficient of the texts' shingles."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.articles import Paragraph, ParagraphKind
from recommender.catalog.text.near_copies import (
    SHINGLE_WORDS,
    SKETCH_SIZE,
    SKETCH_VALUES,
    Sketch,
    make_sketch,
    resemblance,
)


def sketch(*texts: str) -> Sketch:
    """Return the sketch of a body."""
    return make_sketch([Paragraph(text) for text in texts])


def alike(one: Sketch, other: Sketch) -> float:
    """Return the estimate for two sketches."""
    return float(resemblance(one, other[None])[0])


def jaccard(one: str, other: str) -> float:
    """Return the exact coefficient of two texts of plain words."""
    sets = []
    for text in (one, other):
        words = text.split()
        sets.append({tuple(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def words(seed: object, count: int) -> list[str]:
    """Return made-up running text of a thousand different words."""
    rng = random.Random(f"words {seed}")
    return [f"w{rng.randrange(1_000)}" for _ in range(count)]


def edited(text: list[str], share: float, seed: int) -> list[str]:
    """Return the text with a share of its words replaced."""
    rng = random.Random(seed)
    return [f"new{rng.randrange(10**6)}" if rng.random() < share else word for word in text]


SHARES = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("length", [40, 300, 1_500])
@pytest.mark.parametrize("share", SHARES)
def test_the_estimate_is_near_the_exact_coefficient(share: float, length: int) -> None:
    """Over thirty pairs the estimate is within the stated standard error: no pair is far off, and there is no bias."""
    errors = []
    for seed in range(30):
        text = words((share, length, seed), length)
        other = edited(text, share, seed)
        exact = jaccard(" ".join(text), " ".join(other))
        error = alike(sketch(" ".join(text)), sketch(" ".join(other))) - exact
        agreeing = exact + (1 - exact) / SKETCH_VALUES
        standard = math.sqrt(agreeing * (1 - agreeing) / SKETCH_SIZE)
        assert abs(error) <= 4 * standard + 1e-6, (seed, exact)
        errors.append(error / standard if standard else 0.0)
    assert abs(sum(errors)) <= 3.5 * math.sqrt(len(errors))


def test_unrelated_texts_do_not_resemble_each_other() -> None:
    """Values that agree by chance add nothing to the resemblance."""
    some = np.stack([sketch(" ".join(words(i, 300))) for i in range(60)])
    off_diagonal = np.stack([resemblance(one, some) for one in some])[~np.eye(60, dtype=bool)]
    assert off_diagonal.max() <= 5 / SKETCH_SIZE
    assert off_diagonal.mean() < 4e-3


_text = st.lists(st.sampled_from(["gas", "talks", "Vienna", "rose", "fell", "on", "Monday"]), min_size=5, max_size=60)


@given(_text, _text)
def test_resemblance_is_symmetric_and_whole_for_a_copy(one: list[str], other: list[str]) -> None:
    """A body fully resembles itself, in whatever case, and resemblance is symmetric."""
    a, b = sketch(" ".join(one)), sketch(" ".join(other))
    assert alike(a, a) == 1
    assert alike(a, sketch(" ".join(one).upper())) == 1
    assert alike(a, b) == alike(b, a)
    assert 0 <= alike(a, b) <= 1


BODY = " ".join(words("body", 120))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda: sketch(*BODY.split(" ", 50)), id="other paragraphs"),
        pytest.param(
            lambda: make_sketch(
                [Paragraph(BODY, ParagraphKind.QUOTE), Paragraph("A photo of something else", ParagraphKind.MEDIA)]
            ),
            id="other captions and kinds",
        ),
        pytest.param(lambda: sketch(BODY.replace(" ", ", ") + "."), id="other punctuation"),
        pytest.param(lambda: sketch(BODY, "", BODY), id="said twice"),
    ],
)
def test_what_does_not_tell_bodies_apart(change: Callable[[], Sketch]) -> None:
    """Only the running words count; where paragraphs end matters little."""
    assert alike(sketch(BODY), change()) >= 0.9


def test_the_order_of_words_matters() -> None:
    """The same words in reverse order are another text."""
    assert alike(sketch(BODY), sketch(" ".join(reversed(BODY.split())))) < 0.05


def test_an_excerpt_resembles_by_its_share() -> None:
    """Half of a text resembles the whole by half."""
    half = " ".join(words("body", 120)[:62])
    assert alike(sketch(BODY), sketch(half)) == pytest.approx(0.5, abs=0.18)


# Stubs


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([], id="no paragraphs"),
        pytest.param([Paragraph("")], id="empty paragraph"),
        pytest.param([Paragraph("Only four words here")], id="four words"),
        pytest.param([Paragraph("A caption of more than five words", ParagraphKind.MEDIA)], id="a caption"),
    ],
)
def test_a_stub_resembles_nothing(body: list[Paragraph]) -> None:
    """The sketch of a body too short for a shingle is all zeros, and resembles none, not even another such sketch."""
    stub = make_sketch(body)
    assert (stub.tolist(), str(stub.dtype)) == ([0] * SKETCH_SIZE, "uint8")
    others = np.stack([stub, sketch(BODY), np.zeros(SKETCH_SIZE, np.uint8)])
    assert resemblance(stub, others).tolist() == [0, 0, 0]
    assert resemblance(sketch(BODY), others).tolist() == [0, 1, 0]


def test_the_shortest_body_with_a_sketch() -> None:
    """Five words in a row are one shingle, in one paragraph or over several."""
    assert alike(sketch("Envoys met", "in Vienna on"), sketch("Envoys met in Vienna on")) == 1
    assert sketch("Envoys met in Vienna on").all(), "zero is for stubs alone"


def test_scripts_without_spaces_have_shingles() -> None:
    """Pairs of characters are the words there: a small edit leaves a near copy, another text is none."""
    rng = random.Random(3)
    text = "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(600))
    other = "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(600))
    assert alike(sketch(text), sketch(text[:300] + "新" + text[300:])) > 0.9
    assert alike(sketch(text), sketch(other)) < 0.05


def test_no_rows_to_compare_with() -> None:
    """An empty archive gives an empty result."""
    assert resemblance(sketch(BODY), np.empty((0, SKETCH_SIZE), np.uint8)).shape == (0,)


def test_a_long_body_is_sketched_in_parts() -> None:
    """A body of more shingles than are permuted at once is compared correctly: a prefix resembles it by its share."""
    long = [f"word{i}" for i in range(20_000)]
    exact = jaccard(" ".join(long), " ".join(long[:15_000]))
    assert alike(sketch(" ".join(long)), sketch(" ".join(long[:15_000]))) == pytest.approx(exact, abs=0.15)


def test_sketches_are_the_same_in_every_process() -> None:
    """Sketches are stored: a change here would make every stored sketch wrong."""
    assert sketch("Envoys met in Vienna on Monday")[:4].tolist() == [186, 127, 83, 108]
