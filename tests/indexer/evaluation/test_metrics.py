"""Ranking metrics against values worked out by hand and against scikit-learn; the bootstrap interval."""

from __future__ import annotations

import random
from math import log2

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from indexer.evaluation.metrics import CUTOFF, gains, hit, ndcg, page_metrics, recall, reciprocal_rank, summarise
from indexer.evaluation.report import system_json

TEN = [f"r{place}" for place in range(1, 11)]


@pytest.mark.parametrize(
    ("ranked", "relevant", "expected"),
    [
        pytest.param(TEN, {"r1"}, (1.0, 1.0, 1.0, 1.0), id="the only link comes first"),
        pytest.param(TEN, {"r3"}, (1 / log2(4), 1 / 3, 1.0, 1.0), id="third place still is a hit"),
        pytest.param(TEN, {"r4"}, (1 / log2(5), 1 / 4, 1.0, 0.0), id="fourth place is no hit"),
        pytest.param(TEN, {"r10"}, (1 / log2(11), 1 / 10, 1.0, 0.0), id="tenth place counts"),
        pytest.param([*TEN, "late"], {"late"}, (0.0, 0.0, 0.0, 0.0), id="eleventh place does not"),
        pytest.param(TEN, {"absent"}, (0.0, 0.0, 0.0, 0.0), id="not found"),
        pytest.param([], {"a"}, (0.0, 0.0, 0.0, 0.0), id="nothing ranked"),
        pytest.param(
            ["x", "a", "y", "b"],
            {"a", "b", "c"},
            ((1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / log2(4)), 1 / 2, 2 / 3, 1.0),
            id="two of three",
        ),
        pytest.param(TEN, {*TEN, "extra", "more"}, (1.0, 1.0, 10 / 12, 1.0), id="more links than places"),
    ],
)
def test_metrics_of_one_page(ranked: list[str], relevant: set[str], expected: tuple[float, ...]) -> None:
    """All four metrics have the values that their definitions give by hand."""
    found = page_metrics(ranked, frozenset(relevant))
    assert list(found) == ["ndcg@10", "mrr@10", "recall@10", "hit@3"]
    assert tuple(found.values()) == pytest.approx(expected)


def test_gains_have_one_value_a_place() -> None:
    """A short ranking has no gain beyond its end."""
    assert gains(["a", "b"], frozenset({"b"})).tolist() == [False, True] + [False] * 8


def test_ndcg_takes_a_ranking_shorter_than_the_cutoff() -> None:
    """The ideal ranking is that of the whole cutoff, however few candidates there are."""
    assert ndcg(np.array([True]), 2) == pytest.approx(1 / (1 + 1 / log2(3)))


def test_single_metrics_of_gains() -> None:
    """Each metric reads the same gains."""
    found = np.array([False, True, True])
    assert (reciprocal_rank(found), recall(found, 4), hit(found)) == (0.5, 0.5, 1.0)


def test_ndcg_is_that_of_scikit_learn() -> None:
    """On full rankings nDCG equals sklearn.metrics.ndcg_score at the same cutoff."""
    rng = random.Random(1)
    for _ in range(200):
        ids = [f"a{i}" for i in range(30)]
        relevant = frozenset(rng.sample(ids, rng.randint(1, 15)))
        ranked = rng.sample(ids, len(ids))
        truth = [[name in relevant for name in ranked]]
        expected = ndcg_score(truth, [list(range(len(ranked), 0, -1))], k=CUTOFF)
        assert page_metrics(ranked, relevant)["ndcg@10"] == pytest.approx(expected)


# Means and intervals


def _pages(seed: int, n: int = 60) -> list[dict[str, float]]:
    rng = random.Random(seed)
    return [{"one": rng.random(), "other": float(rng.random() < 0.3)} for _ in range(n)]


def test_the_summary_holds_means_and_intervals_around_them() -> None:
    """Each mean is the plain one and lies within its interval, which is about four standard errors wide."""
    pages = _pages(1)
    metrics = summarise(pages)
    assert list(metrics.means) == list(metrics.intervals) == ["one", "other"]
    assert list(system_json(metrics)) == ["one", "other", "ci95"]
    for name in ("one", "other"):
        values = np.array([page[name] for page in pages])
        low, high = metrics.intervals[name]
        assert metrics.means[name] == pytest.approx(values.mean())
        assert low < metrics.means[name] < high
        assert high - low == pytest.approx(2 * 1.96 * values.std() / len(values) ** 0.5, rel=0.1)


def test_the_same_pages_give_the_same_interval() -> None:
    """The bootstrap's seed is fixed; other pages give another interval."""
    assert summarise(_pages(1)) == summarise(_pages(1))
    assert summarise(_pages(1)).intervals != summarise(_pages(2)).intervals


def test_two_systems_on_the_same_pages_see_the_same_draws() -> None:
    """A system that is better by .1 on every page has its whole interval .1 higher."""
    low, high = summarise([{"m": page["one"]} for page in _pages(3)]).intervals["m"]
    better = summarise([{"m": page["one"] + 0.1} for page in _pages(3)]).intervals["m"]
    assert better == pytest.approx([low + 0.1, high + 0.1])


def test_more_pages_narrow_the_interval() -> None:
    """Sixteen times the pages give about a quarter of the width."""
    widths = [np.ptp(summarise(_pages(4, n)).intervals["one"]) for n in (60, 960)]
    assert widths[1] / widths[0] == pytest.approx(0.25, abs=0.05)


def test_a_single_page_has_an_interval_without_width() -> None:
    """One page says nothing about the spread."""
    assert system_json(summarise([{"m": 0.5}])) == {"m": 0.5, "ci95": {"m": [0.5, 0.5]}}


def test_no_pages_have_no_summary() -> None:
    """Without pages there is no mean to report."""
    assert system_json(summarise([])) == {}
