"""Layouts, slots and their filters: defaults, bounds, and what they mean to a search."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from recommender.answer.layout import DEFAULT_LAYOUT, Fallback, Layout, Placement, Slot, SlotFilters
from recommender.catalog.snapshot.scope import Scope

END = {"name": "more", "placement": "end", "count": 3}


def problems(model: type[Layout] | type[Slot] | type[SlotFilters], values: dict[str, Any]) -> dict[str, str]:
    """Validate values that must be refused; return the error of each field."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


def test_the_default_layout_is_a_news_page() -> None:
    """The default layout has up to two links in the text and a list of three, all of related articles."""
    inline, end = DEFAULT_LAYOUT.slots
    assert DEFAULT_LAYOUT.name == "default"
    assert (inline.name, inline.placement, inline.count) == ("related_news", Placement.INLINE, 2)
    assert (end.name, end.placement, end.count) == ("read_more", Placement.END, 3)
    assert inline.threshold > end.threshold
    assert {inline.fallback, end.fallback} == {Fallback.NONE}


def test_a_slot_s_defaults() -> None:
    """By default a slot has no bound on age, some diversity, all articles, and links from the third paragraph on."""
    assert Slot.model_validate(END).model_dump() == {
        "name": "more",
        "placement": Placement.END,
        "count": 3,
        "min_score": None,
        "max_age_days": None,
        "freshness_half_life_days": None,
        "diversity": 0.3,
        "filters": {"sections": frozenset(), "tags": frozenset(), "languages": frozenset(), "sites": frozenset()},
        "fallback": Fallback.NONE,
        "first_after_text_paragraphs": 3,
        "spacing_text_paragraphs": 2,
        "min_text_paragraphs": 5,
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"placement": "inline"}, 0.5),
        ({"placement": "end"}, 0.25),
        ({"placement": "inline", "min_score": 0.1}, 0.1),
        ({"placement": "end", "min_score": 0.9}, 0.9),
        ({"placement": "inline", "min_score": 0.0}, 0.0),
    ],
    ids=["inline", "end", "inline of its own", "end of its own", "none"],
)
def test_a_slot_s_threshold(values: dict[str, Any], expected: float) -> None:
    """A slot's own threshold counts, even zero; without one its placement's does."""
    assert Slot.model_validate({**END, **values}).threshold == expected


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "String should have at least 1 character"),
        ("name", "n" * 65, "String should have at most 64 characters"),
        ("placement", "sidebar", "Input should be 'inline' or 'end'"),
        ("count", 0, "Input should be greater than or equal to 1"),
        ("count", 21, "Input should be less than or equal to 20"),
        ("count", "three", "Input should be a valid integer, unable to parse string as an integer"),
        ("min_score", -0.01, "Input should be greater than or equal to 0"),
        ("min_score", 1.01, "Input should be less than or equal to 1"),
        ("min_score", float("nan"), "Input should be a finite number"),
        ("max_age_days", 0, "Input should be greater than 0"),
        ("max_age_days", float("inf"), "Input should be a finite number"),
        ("freshness_half_life_days", 0, "Input should be greater than 0"),
        ("freshness_half_life_days", float("nan"), "Input should be a finite number"),
        ("diversity", -0.01, "Input should be greater than or equal to 0"),
        ("diversity", 1.01, "Input should be less than or equal to 1"),
        ("fallback", "popular", "Input should be 'none' or 'latest_in_section'"),
        ("first_after_text_paragraphs", 0, "Input should be greater than or equal to 1"),
        ("first_after_text_paragraphs", 101, "Input should be less than or equal to 100"),
        ("spacing_text_paragraphs", 0, "Input should be greater than or equal to 1"),
        ("spacing_text_paragraphs", 101, "Input should be less than or equal to 100"),
        ("min_text_paragraphs", 0, "Input should be greater than or equal to 1"),
        ("min_text_paragraphs", 1_001, "Input should be less than or equal to 1000"),
        ("colour", "red", "Extra inputs are not permitted"),
    ],
)
def test_a_slot_s_bounds(field: str, value: object, message: str) -> None:
    """A value out of range, of another type or unknown is refused under its field."""
    assert problems(Slot, {**END, field: value}) == {field: message}


@pytest.mark.parametrize("field", ["name", "placement", "count"])
def test_name_placement_and_count_have_no_default(field: str) -> None:
    """A slot without name, placement or count is refused."""
    assert problems(Slot, {key: value for key, value in END.items() if key != field}) == {field: "Field required"}


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"slots": []}, "slots", "Tuple should have at least 1 item after validation, not 0"),
        (
            {"slots": [{**END, "name": f"s{n}", "count": 1} for n in range(11)]},
            "slots",
            "Tuple should have at most 10 items after validation, not 11",
        ),
        ({"slots": [END, {**END, "placement": "inline"}]}, "", "Value error, two slots have the same name"),
        (
            {"slots": [{**END, "name": f"s{n}", "count": 17} for n in range(3)]},
            "",
            "Value error, more than 50 places in all",
        ),
        ({"name": "", "slots": [END]}, "name", "String should have at least 1 character"),
        (
            {"slots": [END, {**END, "name": "two", "count": 99}]},
            "slots.1.count",
            "Input should be less than or equal to 20",
        ),
        ({"slots": [END], "theme": "dark"}, "theme", "Extra inputs are not permitted"),
    ],
    ids=["no slots", "eleven slots", "same name", "51 places", "no name", "a bad slot", "unknown key"],
)
def test_a_layout_s_bounds(values: dict[str, Any], field: str, message: str) -> None:
    """A layout has 1 to 10 slots of different names and at most 50 places."""
    assert problems(Layout, {"name": "page", **values}) == {field: message}


def test_fifty_places_are_allowed() -> None:
    """The bound on places is inclusive."""
    slots = [{**END, "name": f"s{n}", "count": count} for n, count in enumerate((20, 20, 10))]
    assert len(Layout.model_validate({"name": "page", "slots": slots}).slots) == 3


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, Scope()),
        ({"sections": ["sport", "world"]}, Scope(sections=frozenset({"sport", "world"}))),
        ({"tags": ["talks"]}, Scope(tags=frozenset({"talks"}))),
        ({"languages": ["en-GB", "PT_br"]}, Scope(languages=frozenset({"en", "pt"}))),
        ({"languages": ["en", "*"]}, Scope()),
        ({"sites": ["courier.example"]}, Scope(sites=frozenset({"courier.example"}))),
        ({"sites": ["*"]}, Scope()),
        ({"sections": []}, Scope()),
    ],
    ids=["none", "sections", "tags", "primary languages", "every language", "sites", "every site", "empty list"],
)
def test_filters_as_a_scope(filters: dict[str, list[str]], expected: Scope) -> None:
    """An empty list and "*" do not restrict; only the primary tag of a language counts."""
    assert SlotFilters.model_validate(filters).scope() == expected


def test_filters_refuse_bad_languages_and_too_many_labels() -> None:
    """The error names the list with the bad language or the excess labels."""
    assert problems(SlotFilters, {"languages": ["en", "not a language"]}) == {
        "languages": "Value error, 'not a language' is not a language tag"
    }
    assert problems(SlotFilters, {"tags": [f"tag-{n}" for n in range(101)]}) == {
        "tags": "Frozenset should have at most 100 items after validation, not more"
    }


def test_layouts_are_immutable() -> None:
    """All answers share a layout, so that assigning to it is an error."""
    with pytest.raises(ValidationError, match="Instance is frozen"):
        DEFAULT_LAYOUT.slots[0].count = 5
