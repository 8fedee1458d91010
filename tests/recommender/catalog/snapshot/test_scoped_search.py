"""What a snapshot caches of scopes: their rows, inverted lists of their own, and postings of labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recommender.catalog.snapshot import scoped_search
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.vectors.scalar_codes import ScalarCodes
from recommender.clock import DAY_MS
from tests.building import (
    NOW_MS,
)
from tests.recommender.catalog.snapshot.making import (
    MANY,
    QUERY,
    TOPICS,
    inside_of,
    on,
    tagged,
)
from tests.searching import (
    CODES_ONLY,
    assert_best,
    exact,
)


def listed(snapshot: Snapshot) -> list[Scope]:
    """Return the scopes that have lists of their own, the least recently used first."""
    return [scope for scope, inside in snapshot.index._scopes.items() if inside.own_lists]


def test_a_narrow_scope_gets_lists_of_its_own_when_it_is_searched_again(many: Path, matrix: ScalarCodes) -> None:
    """The first search, the one that requests the lists and those after it have the same hits."""
    snapshot = Snapshot(many, verify=False, costs=CODES_ONLY)
    inside = inside_of(snapshot, tagged(7), (0, NOW_MS), np.ones(MANY, np.bool_))
    for search in range(4):
        assert_best(snapshot.index.search(QUERY, 5, 0, NOW_MS, tagged(7)), exact(matrix, QUERY, 5, inside))
        assert listed(snapshot) == ([tagged(7)] if search else [])
        if own_lists := snapshot.index._scopes[tagged(7)].own_lists:
            assert own_lists.result().rows == len(inside)


def test_a_wide_scope_is_searched_in_the_lists_of_all_rows(many: Path) -> None:
    """A wide scope gets no lists of its own, which would be nearly as large."""
    snapshot = Snapshot(many, verify=False, costs=CODES_ONLY)
    for scope in 3 * [tagged(0, 1, 2, 3, 4), Scope(published_from_ms=int(snapshot.columns.public_at_ms[1]))]:
        assert len(snapshot.index.search(QUERY, 5, 0, NOW_MS, scope).rows) == 5
        assert listed(snapshot) == []


def test_scopes_share_a_bound_on_memory_and_the_oldest_makes_room(
    many: Path, matrix: ScalarCodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lists of all scopes stay within their budget; dropped ones are made again when they are searched again."""
    monkeypatch.setattr(scoped_search, "_OWN_LISTS_TIMES", 0.5)
    snapshot = Snapshot(many, verify=False, costs=CODES_ONLY)

    def ask(scope: Scope) -> None:
        inside = inside_of(snapshot, scope, (0, NOW_MS), np.ones(MANY, np.bool_))
        for _ in range(2):
            assert_best(snapshot.index.search(QUERY, 5, 0, NOW_MS, scope), exact(matrix, QUERY, 5, inside))
        sizes = [inside.own_lists.result().rows for inside in snapshot.index._scopes.values() if inside.own_lists]
        assert sum(sizes) <= 0.5 * MANY

    for scope in (tagged(1, 2), tagged(7), tagged(3, 4), tagged(1, 2)):
        ask(scope)
    assert listed(snapshot) == [tagged(7), tagged(3, 4), tagged(1, 2)], "five tenths"
    ask(on(3))
    assert listed(snapshot) == [tagged(3, 4), tagged(1, 2), on(3)], "the first of them made room"
    ask(tagged(7))
    assert listed(snapshot) == [tagged(1, 2), on(3), tagged(7)], "and has its own again"
    assert tagged(3, 4) in snapshot.index._scopes, "its rows are still cached"


def test_scopes_are_evicted_while_they_hold_too_many_rows(
    many: Path, matrix: ScalarCodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used are evicted, never the present one, and an evicted scope can be searched again."""
    monkeypatch.setattr(scoped_search, "_CACHED_ROWS_TIMES", 1.0)
    snapshot = Snapshot(many, verify=False)
    scopes = [tagged(0, 1, 2, 3), tagged(4, 5, 6), tagged(7, 8, 9), tagged(*range(9)), Scope(), tagged(0, 1, 2, 3)]
    left = [1, 2, 3, 1, 2, 2]
    for scope, count in zip(scopes, left, strict=True):
        inside = inside_of(snapshot, scope, (0, NOW_MS), np.ones(MANY, np.bool_))
        assert_best(snapshot.index.search(QUERY, 5, 0, NOW_MS, scope), exact(matrix, QUERY, 5, inside))
        assert len(snapshot.index._scopes) == count
    assert list(snapshot.index._scopes) == [Scope(), tagged(0, 1, 2, 3)]


def test_warming_up_makes_lists_for_scopes_of_middle_size_only(many: Path) -> None:
    """A scope that is compared exactly gets no lists, nor does a wide one; only scopes in use are warmed up again."""
    snapshot = Snapshot(many, verify=False, costs=replace(CODES_ONLY, gather_rows_max=MANY // 10 + 1))
    scopes = [Scope(), tagged(1, 2, 3), tagged(1, 2), tagged(1)]
    snapshot.index.warm_up(scopes)
    assert listed(snapshot) == [tagged(1, 2)]
    made = snapshot.index._scopes[tagged(1, 2)].own_lists
    snapshot.index.search(QUERY, 5, 0, NOW_MS, tagged(1, 2))
    assert snapshot.index._scopes[tagged(1, 2)].own_lists is made
    assert snapshot.index.recent_scopes() == [Scope(), tagged(1, 2)], "not those that were only warmed up"


LABELLED = {
    "one": on(5),
    "a few": on(1, 2),
    "many": on(*range(0, TOPICS, 2), *range(500, 510)),
    "all": on(*range(TOPICS)),
    "none": on(),
    "unknown": on(500, 501),
    "in two columns": replace(on(1, 2), languages=frozenset({"en", "fr"}), sites=frozenset({"", "elsewhere"})),
    "and dates": replace(on(1, 2), published_from_ms=NOW_MS - 190 * DAY_MS, published_before_ms=NOW_MS - 150 * DAY_MS),
    "and a tag": replace(on(1, 2), tags=frozenset({"tag 7"})),
    "and evergreen": replace(on(1, 2), evergreen_only=True),
}


@pytest.mark.parametrize("scope", LABELLED)
def test_rows_found_by_postings_are_those_found_by_comparing_labels(many: Path, scope: str) -> None:
    """A scope holds the same rows before and after the postings of its columns are made."""
    snapshot = Snapshot(many, verify=False)
    inside = inside_of(snapshot, LABELLED[scope], (0, NOW_MS), np.ones(MANY, np.bool_))
    assert len(inside) < MANY or scope == "all"
    assert snapshot.index.latest(LABELLED[scope], MANY, NOW_MS).tolist() == inside
    snapshot.index.latest(on(10, 11), 1, NOW_MS)
    snapshot.index._postings["section"].result()
    snapshot.index._scopes.clear()
    assert snapshot.index.latest(LABELLED[scope], MANY, NOW_MS).tolist() == inside


def test_a_scope_of_one_label_makes_no_postings(many: Path) -> None:
    """Scopes of a single label, such as a page's own language and site, do not have postings made."""
    snapshot = Snapshot(many, verify=False)
    snapshot.index.latest(on(5), 1, NOW_MS)
    assert snapshot.index._postings == {}
