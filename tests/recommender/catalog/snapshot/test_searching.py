"""Searching a snapshot by scope and time, exactly or by product codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.vectors.scalar_codes import ScalarCodes, dequantise_8bit
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from recommender.clock import DAY_MS
from tests.building import (
    DIMENSION,
    NOW_MS,
)
from tests.recommender.catalog.snapshot.making import (
    MANY,
    QUERY,
    TOPICS,
    alive_of,
    inside_of,
    on,
    tagged,
)
from tests.searching import (
    CODES_ONLY,
    Mask,
    assert_best,
    exact,
    recall,
    unit_vectors,
)

SCOPES = {
    "everything": Scope(),
    "half": tagged(0, 1, 2, 3, 4),
    "a tenth": tagged(7),
    "half of the topics": on(0, 1, 2, 3, 4, 5),
    "a topic": on(5),
    "a tenth of a topic": Scope(sections=frozenset(["topic 5"]), tags=frozenset(["tag 7"])),
    "nothing": tagged(11),
}

PERIODS = {
    "ever": (0, NOW_MS),
    "weeks": (NOW_MS - 190 * DAY_MS, NOW_MS - 150 * DAY_MS),
    "a day": (NOW_MS - 171 * DAY_MS, NOW_MS - 170 * DAY_MS),
    "before all": (0, 1),
}

LIVING = {"all": 0.0, "most": 0.1, "few": 0.9}


@pytest.mark.parametrize("living", LIVING)
@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("scope", SCOPES)
def test_few_rows_are_searched_exactly(many: Path, matrix: ScalarCodes, scope: str, period: str, living: str) -> None:
    """Below the thresholds product codes play no part: the hits are the oracle's."""
    snapshot = Snapshot(many, verify=False)
    alive: Mask = np.random.default_rng(1).random(MANY) >= LIVING[living]
    inside = inside_of(snapshot, SCOPES[scope], PERIODS[period], alive)
    for query in dequantise_8bit(unit_vectors(5, DIMENSION, seed=2, topics=TOPICS)):
        hits = snapshot.index.search(query, 20, *PERIODS[period], SCOPES[scope], alive=alive_of(alive))
        assert_best(hits, exact(matrix, query, 20, inside))


@pytest.mark.parametrize("living", LIVING)
@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("lists_rows_min", [300_000, 200], ids=["one list", "several lists"])
def test_many_rows_are_searched_by_codes(
    many: Path,
    matrix: ScalarCodes,
    lists_rows_min: int,
    scope: str,
    period: str,
    living: str,
) -> None:
    """Hits by product codes are in scope, in time and alive, with exact scores and high recall."""
    costs = replace(CODES_ONLY, rerank_min=200, lists_rows_min=lists_rows_min)
    snapshot = Snapshot(many, verify=False, costs=costs)
    alive: Mask = np.random.default_rng(1).random(MANY) >= LIVING[living]
    inside = inside_of(snapshot, SCOPES[scope], PERIODS[period], alive)
    recalls = []
    for query in dequantise_8bit(unit_vectors(10, DIMENSION, seed=2, topics=TOPICS)):
        hits = snapshot.index.search(query, 20, *PERIODS[period], SCOPES[scope], alive=alive_of(alive))
        assert len(hits.rows) == min(20, len(inside))
        assert np.isin(hits.rows, inside).all()
        assert_best(hits, exact(matrix, query, 20, hits.rows))
        recalls.append(recall(hits.rows, exact(matrix, query, 20, inside).rows) if inside else 1.0)
    assert np.mean(recalls) >= 0.98


@pytest.mark.parametrize("costs", [CODES_ONLY, MEASURED], ids=["by codes", "exactly"])
def test_a_row_that_died_since_the_last_search_is_not_found_again(many: Path, costs: SearchCosts) -> None:
    """A scope caches which of its rows are alive only until another dies."""
    snapshot = Snapshot(many, verify=False, costs=costs)
    mask: Mask = np.ones(MANY, np.bool_)
    seen: list[int] = []
    for _ in range(12):
        for scope in (tagged(7), Scope()):
            [best] = snapshot.index.search(QUERY, 1, 0, NOW_MS, scope, alive=alive_of(mask)).rows.tolist()
            assert best not in seen
            mask[best] = False
            seen.append(best)
