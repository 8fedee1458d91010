from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.reporting.bootstrap import interval, resampled_medians
from benchmarks.reporting.compare import Comparison, Verdict, compare, measurements
from benchmarks.result import Result
from tests.benchmarks.results import core_values, keep_in, samples, service_values

Keep = Callable[..., Result]


def plain(us: float, seed: int) -> dict[str, Any]:
    """Return the values of a result without a baseline."""
    return {"timing": {"samples_us": samples(us, seed=seed)}}


def rows(comparison: Comparison) -> dict[str, tuple[Verdict, float]]:
    """Return verdict and ratio by name."""
    return {row.name: (row.verdict, row.ratio) for row in comparison.rows}


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """A function that writes results, each into a folder of its own."""

    def write(name: str, values: dict[str, Any], **more: str) -> Result:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return keep_in(folder, name, values, **more)

    return write


def test_every_dict_with_samples_is_a_measurement() -> None:
    """A measurement is named by its keys, and an item of a list by its effort, or else by its position."""
    one = {"samples_us": [1.0]}
    value = {"a": {"b": [{"effort": 5, **one}, {"effort": 9, **one}], "c": [one]}, "samples": [1], "d": one}
    locations = [location for location, _ in measurements(value)]
    assert locations == [("a", "b", "effort 5"), ("a", "b", "effort 9"), ("a", "c", "0"), ("d",)]


def test_two_runs_of_one_distribution_do_not_differ(keep: Keep) -> None:
    """Of 40 pairs of serially correlated runs hardly one is called slower or faster."""
    verdicts = [
        compare(keep("x", plain(100, seed)), keep("x", plain(100, 1_000 + seed))).rows[0].verdict for seed in range(40)
    ]
    assert sum(verdict in (Verdict.SLOWER, Verdict.FASTER) for verdict in verdicts) <= 2
    assert sum(verdict is Verdict.NONE for verdict in verdicts) >= 34


def test_a_change_of_20_percent_is_found(keep: Keep) -> None:
    """It is found in each of 20 pairs, in both directions, and most intervals contain it."""
    within = 0
    for seed in range(20):
        a, b = keep("x", plain(100, seed)), keep("x", plain(120, 1_000 + seed))
        (slower,), (faster,) = compare(a, b).rows, compare(b, a).rows
        assert (slower.verdict, faster.verdict) == (Verdict.SLOWER, Verdict.FASTER)
        within += slower.ci95[0] <= 1.2 <= slower.ci95[1]
    assert within >= 15


def test_a_change_may_be_too_small_to_matter(keep: Keep) -> None:
    """A certain change of 3 % is no regression where 5 % matter, and is one where 2 % matter."""
    values = np.random.default_rng(1).uniform(99, 101, 1_000)
    a, b = (keep("x", {"t": {"samples_us": (values * times).round(2).tolist()}}) for times in (1.0, 1.03))
    assert compare(a, b).rows[0].verdict is Verdict.SMALL
    assert compare(a, b, least_change=0.02).rows[0].verdict is Verdict.SLOWER


def test_blocks_widen_the_interval_of_correlated_samples() -> None:
    """Correlated samples say less about their median than independent ones."""

    def width(correlation: float) -> float:
        low, high = interval(resampled_medians(np.array(samples(100, count=900, correlation=correlation))))
        return high - low

    assert width(0.95) > 2 * width(0.0)


def test_series_of_the_same_queries_stay_paired() -> None:
    """The ratio of a series to itself, a tenth slower, has no width."""
    values = np.array(samples(100, spread=0.5))
    ratio = resampled_medians(values * 1.1) / resampled_medians(values)
    assert ratio == pytest.approx(1.1)


def test_resampling_needs_samples() -> None:
    """No samples are an error, and one sample is its own median."""
    assert set(resampled_medians(np.array([7.0])).tolist()) == {7.0}
    with pytest.raises(ValueError, match="no samples"):
        resampled_medians(np.array([]))


def test_on_a_slower_machine_searches_are_compared_by_their_ratio_to_faiss_flat(keep: Keep) -> None:
    """If everything takes half as long again, nothing is slower; the baseline itself is not judged."""
    a = keep("core-1000", core_values(1_000, 100, 400))
    b = keep("core-1000", core_values(1_000, 150, 600, seed=1))
    comparison = compare(a, b)
    assert comparison.slower == 0
    by_name = {row.name: row for row in comparison.rows}
    ours, flat = by_name["related_news / all / effort 0"], by_name["faiss_flat / all / effort 0"]
    assert ours.over == flat.name
    assert ours.ratio == pytest.approx(1.0, abs=0.05)
    assert (flat.verdict, flat.over) == (Verdict.BASELINE, None)
    assert flat.ratio == pytest.approx(1.5, abs=0.05)


def test_on_a_faster_machine_a_slower_search_is_found(keep: Keep) -> None:
    """A search that takes the same time where FAISS flat takes half is twice as slow."""
    a = keep("core-1000", core_values(1_000, 100, 400))
    b = keep("core-1000", core_values(1_000, 100, 200, seed=1))
    by_name = rows(compare(a, b))
    assert by_name["related_news / all / effort 0"][0] is Verdict.SLOWER
    assert by_name["related_news / all / effort 0"][1] == pytest.approx(2.0, rel=0.05)


def test_a_machine_that_changes_within_a_run_widens_every_interval(keep: Keep) -> None:
    """If each case meets another state of the machine, nothing is slower, and a warning says what is hidden."""
    a, b = core_values(1_000, 100, 400), core_values(1_000, 100, 400, seed=1)
    states = iter((1.0, 1.0, 0.6, 1.5, 1.4, 1.1, 0.8, 0.6))
    for search in b["peers"].values():
        for case in search["cases"].values():
            met = next(states)
            (point,) = case["points"]
            point["samples_us"] = [round(us * met, 1) for us in point["samples_us"]]
    comparison = compare(keep("core-1000", a), keep("core-1000", b))
    assert comparison.slower == 0
    assert max(row.ratio for row in comparison.rows) > 1.3
    assert "the machine changed within a run" in comparison.warnings[-1]
    quiet = compare(keep("core-1000", a), keep("core-1000", core_values(1_000, 100, 400, seed=1)))
    assert quiet.unrest is not None
    assert comparison.unrest is not None
    assert quiet.unrest < 0.2 < comparison.unrest


def test_calls_are_compared_by_their_ratio_to_the_empty_call(keep: Keep) -> None:
    """The empty call has as many clients; without one beside writes, the one without writes is taken."""
    values = [service_values(150, 500, 250), service_values(150, 1_000, 500, seed=1)]
    for one in values:
        one["cases"]["list_related by id/16/writes"] = one["cases"]["fill_slots by id/16"]
        one["cases"]["draft/64"] = one["cases"]["fill_slots by id/16"]
    a, b = (keep("service-150", one) for one in values)
    comparison = compare(a, b)
    over = {row.name: row.over for row in comparison.rows}
    assert over["fill_slots by id/1"] == "empty/1"
    assert over["list_related by id/16/writes"] == "empty/16"
    assert over["draft/64"] is None
    assert [row.name for row in comparison.rows if row.verdict is Verdict.SLOWER] == ["draft/64"]


def test_without_a_baseline_in_both_runs_plain_time_is_compared(keep: Keep) -> None:
    """A baseline that only one run has is not used."""
    a, b = core_values(1_000, 100, 400), core_values(1_000, 100, 200, seed=1)
    del b["peers"]["faiss_flat"]
    comparison = compare(keep("core-1000", a), keep("core-1000", b))
    assert {row.over for row in comparison.rows} == {None}
    assert comparison.slower == 0


def test_a_warning_names_what_else_differs(keep: Keep) -> None:
    """It names the machine, versions, the corpus, and a recall that fell."""
    a = keep("core-1000", core_values(1_000, 100, 400, recall=0.99))
    b = keep("core-1000", core_values(1_001, 100, 400, recall=0.98), cpu="Other CPU")
    warnings = " ".join(compare(a, b).warnings)
    assert "different cpu: Example CPU, Other CPU" in warnings
    assert "different corpus" in warnings
    assert "recall@100 fell from 0.990 to 0.980: related_news / all / effort 0" in warnings
    assert compare(a, a).warnings == ()


def test_the_command_fails_when_something_is_slower(keep: Keep) -> None:
    """The exit code is 1 if something is slower, 0 if nothing is, and 2 if there is nothing in common."""
    a, b = keep("x", plain(100, 1)), keep("x", plain(130, 2))
    run = CliRunner().invoke
    slower = run(app, ["compare", str(a.path), str(b.path)])
    assert slower.exit_code == 1
    assert "slower" in slower.output
    assert "[plain time]" in slower.output
    assert "1 of 1 slower" in slower.output
    assert run(app, ["compare", str(a.path), str(a.path)]).exit_code == 0
    (row,) = json.loads(run(app, ["compare", str(a.path), str(b.path), "--json"]).output)["rows"]
    assert row["verdict"] == "slower"
    assert row["ci95"][0] <= row["ratio"] <= row["ci95"][1]
    other = keep("y", {"other": {"samples_us": [1.0, 2.0]}})
    assert run(app, ["compare", str(a.path), str(other.path)]).exit_code == 2
