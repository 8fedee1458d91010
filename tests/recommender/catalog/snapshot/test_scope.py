"""Scopes: the articles that are in two of them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.articles import Rules
from recommender.catalog.snapshot.scope import Scope
from tests.building import (
    NOW_MS,
    article,
)
from tests.recommender.catalog.holding import (
    in_scope,
)

_labels = st.none() | st.frozensets(st.sampled_from(["a", "b", "c"]), min_size=1)

_scopes = st.builds(
    Scope,
    sections=_labels,
    tags=_labels,
    published_from_ms=st.integers(0, 2),
    published_before_ms=st.sampled_from([0, 0, 3, 4]),
    evergreen_only=st.booleans(),
)


@given(_scopes, _scopes, st.sampled_from("abc"), st.integers(1, 4), st.booleans())
def test_a_narrowed_scope_is_the_intersection(
    first: Scope, second: Scope, section: str, published_at_ms: int, evergreen: bool
) -> None:
    """An article is in the narrowed scope if it is in both; the order does not matter."""
    a = replace(
        article("a", section=section, rules=Rules(evergreen=evergreen)),
        published_at_ms=published_at_ms,
    )
    without_tags = [replace(scope, tags=None) for scope in (first, second)]
    both = all(in_scope(a, scope, 0, NOW_MS) for scope in without_tags)
    assert in_scope(a, without_tags[0].narrowed(without_tags[1]), 0, NOW_MS) == both
    assert first.narrowed(Scope()) == Scope().narrowed(first) == first
    assert first.narrowed(second) == second.narrowed(first)


def test_each_part_of_a_scope_is_narrowed() -> None:
    """Labels are narrowed to those in both, times to the narrower ones; None and 0 are no bounds."""
    first = Scope(
        sections=frozenset("ab"), tags=frozenset("ab"), languages=None, sites=frozenset("a"), published_from_ms=2
    )
    second = Scope(
        sections=frozenset("bc"),
        tags=frozenset("c"),
        languages=frozenset("a"),
        published_from_ms=1,
        published_before_ms=9,
    )
    third = Scope(published_before_ms=8, evergreen_only=True)
    assert first.narrowed(second).narrowed(third) == Scope(
        sections=frozenset("b"),
        tags=frozenset(),
        languages=frozenset("a"),
        sites=frozenset("a"),
        published_from_ms=2,
        published_before_ms=8,
        evergreen_only=True,
    )
