"""Reasons: the exact words that an editor reads beside a link."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from recommender.answer.reasons import Subject, fallback_reason, names_of, reason

SURFACES = ("Vienna talks", "JCPOA", "enrichment")
SHARED = (0.02, 0.03, 0.01)


def subjects(surfaces: Sequence[str], weights: Sequence[float], masks: Sequence[int] = (1,) * 9) -> list[Subject]:
    """Return the shared terms."""
    return [Subject(*values) for values in zip(surfaces, weights, masks, strict=False) if values[1]]


def said(
    surfaces: tuple[str, ...] = SURFACES,
    shared: tuple[float, ...] = SHARED,
    *,
    wording: float = 0.3,
    gap_days: float = 2.0,
    evergreen: bool = False,
    fallback: bool = False,
) -> str:
    """Return the reason for a link."""
    if fallback:
        return fallback_reason(gap_days)
    return reason(subjects(surfaces, shared), wording=wording, gap_days=gap_days, evergreen=evergreen)


@pytest.mark.parametrize(
    ("wording", "gap_days", "relation"),
    [
        (0.20, 2, "same story"),
        (0.90, 45, "same story"),
        (0.20, -45, "same story"),
        (0.90, 45.1, "same subject"),
        (0.90, -45.1, "same subject"),
        (0.19, 2, "same subject"),
        (0.12, 2, "same subject"),
        (0.11, 2, "related subject"),
        (0.00, 2, "related subject"),
    ],
)
def test_the_relation_follows_from_wording_and_time(wording: float, gap_days: float, relation: str) -> None:
    """Much shared wording within 45 days either way is the same story; less is the same or a related subject."""
    assert said(wording=wording, gap_days=gap_days).split(":")[0] == relation


@pytest.mark.parametrize(
    ("gap_days", "age"),
    [
        (0.0, "same day"),
        (0.99, "same day"),
        (-0.99, "same day"),
        (1.0, "1 day older"),
        (-1.0, "1 day newer"),
        (1.4, "1 day older"),
        (1.6, "2 days older"),
        (-12.0, "12 days newer"),
        (59.0, "59 days older"),
        (60.0, "2 months older"),
        (-100.0, "3 months newer"),
        (365.0, "12 months older"),
        (729.0, "24 months older"),
        (730.0, "2 years older"),
        (-3653.0, "10 years newer"),
    ],
)
def test_the_age_is_counted_from_the_page(gap_days: float, age: str) -> None:
    """The age is in days, then months, then years, older or newer than the page."""
    assert said(gap_days=gap_days, wording=0.0) == f"related subject: JCPOA, Vienna talks, enrichment; {age}"


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        ("same story: JCPOA, Vienna talks, enrichment; 2 days older", {}),
        ("related subject; 2 days older", {"wording": 0.01, "shared": (0.0, 0.0, 0.0)}),
        ("related subject; same day", {"wording": 0.0, "gap_days": 0.0, "surfaces": (), "shared": ()}),
        ("explainer: JCPOA, Vienna talks, enrichment; background", {"evergreen": True, "gap_days": 900.0}),
        ("latest in section; 2 days older", {"fallback": True}),
        ("latest in section; same day", {"fallback": True, "gap_days": 0.2, "evergreen": True}),
    ],
    ids=["story", "no shared words", "no words at all", "evergreen", "fallback", "an evergreen fallback"],
)
def test_the_whole_sentence(expected: str, values: dict[str, object]) -> None:
    """A reason has relation, shared words and age; only relation and age without words; a fallback names its kind."""
    assert said(**values) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("surfaces", "shared", "expected"),
    [
        (("a1", "b1", "c1", "d1"), (0.1, 0.4, 0.3, 0.2), ["b1", "c1", "d1"]),
        (("strait", "Hormuz"), (0.3, 0.2), ["Hormuz", "strait"]),
        (("strait", "Hormuz"), (0.5, 0.2), ["strait", "Hormuz"]),
        (("2026", "tariff"), (0.9, 0.1), ["tariff", "2026"]),
        (("tariff", "quota"), (0.2, 0.0), ["tariff"]),
        (("tariff", "quota"), (0.0, 0.0), []),
        (("Vienna", "Vienna talks"), (0.4, 0.3), ["Vienna talks"]),
        (("CDC's Solve", "Outbreak", "CDC"), (0.4, 0.3, 0.2), ["CDC's Solve", "Outbreak"]),
        (("CDC", "Solve the CDC’s", "Outbreak"), (0.4, 0.3, 0.2), ["Solve the CDC’s", "Outbreak"]),
        (("Vienna talks", "Vienna"), (0.4, 0.3), ["Vienna talks"]),
        (("vienna", "Vienna Talks"), (0.9, 0.3), ["Vienna Talks"]),
        (("Vienna talks", "Grid talks"), (0.4, 0.3), ["Vienna talks"]),
        (("Vienna", "Talks", "Vienna talks"), (0.4, 0.3, 0.2), ["Vienna talks"]),
        (("World Health", "Health Organization", "virus"), (0.4, 0.3, 0.2), ["World Health Organization", "virus"]),
        (("Organization", "Health Organization", "World Health"), (0.4, 0.3, 0.2), ["World Health Organization"]),
        (
            ("Hong", "Kong", "protest", "police", "Hong Kong"),
            (0.5, 0.5, 0.4, 0.3, 0.2),
            ["Hong Kong", "protest", "police"],
        ),
        (("first", "second", "third"), (0.2, 0.2, 0.2), ["first", "second", "third"]),
        ((), (), []),
    ],
    ids=[
        "three at the most, weightiest first",
        "a name counts twice",
        "but not more",
        "numbers last",
        "a term that is not shared is not named",
        "nothing shared",
        "the longer name replaces its part",
        "a possessive is the name itself",
        "whichever comes first",
        "a part adds nothing",
        "whatever the case",
        "no word twice",
        "a name in place of its two parts",
        "two names that go on as one",
        "in whatever order",
        "a part leaves room for others",
        "equals in their order",
        "no terms",
    ],
)
def test_names_of_shared_terms(surfaces: tuple[str, ...], shared: tuple[float, ...], expected: list[str]) -> None:
    """A reason names the most telling shared terms as they are written."""
    assert names_of(subjects(surfaces, shared)) == expected


def test_words_of_a_script_without_case_are_named_by_weight() -> None:
    """In a script without capitals the term of the larger weight comes first."""
    assert names_of(subjects(("東京", "会談"), (0.2, 0.3))) == ["会談", "東京"]


def test_names_that_stand_apart_are_not_joined() -> None:
    """Two overlapping names become one only if they stand in the same paragraphs."""
    surfaces, weights = ("Ida Holm", "Holm Ferries", "strait"), (0.4, 0.3, 0.2)
    assert names_of(subjects(surfaces, weights, (6, 6, 1))) == ["Ida Holm Ferries", "strait"]
    assert names_of(subjects(surfaces, weights, (6, 4, 1))) == ["Ida Holm", "strait"]
