from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.machine import unpack_samples
from benchmarks.reporting.bootstrap import interval, resampled_medians
from benchmarks.reporting.compare import Comparison, Verdict, compare, measurements
from benchmarks.reporting.kept import Kept
from tests.benchmarks.results import core_values, keep_in, samples, service_values

Keep = Callable[..., Kept]


def plain(us: float, seed: int) -> dict[str, Any]:
    """Return a result without a baseline."""
    return {"timing": {"samples_us": samples(us, seed=seed)}}


def rows(found: Comparison) -> dict[str, tuple[Verdict, float]]:
    """Return verdict and ratio by name."""
    return {row.name: (row.verdict, row.ratio) for row in found.rows}


@pytest.fixture
def kept(tmp_path: Path) -> Keep:
    """Return what writes results, each into a folder of its own."""

    def write(name: str, values: dict[str, Any], **more: str) -> Kept:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return keep_in(folder, name, values, **more)

    return write


def test_measurements_are_found_wherever_they_stand() -> None:
    """Every dict with samples, by its path; items of lists by their effort, or else by their place."""
    one = {"samples_us": "1"}
    value = {"a": {"b": [{"effort": 5, **one}, {"effort": 9, **one}], "c": [one]}, "samples": [1], "d": one}
    found = [spot for spot, _ in measurements(value)]
    assert found == [("a", "b", "effort 5"), ("a", "b", "effort 9"), ("a", "c", "0"), ("d",)]


def test_the_same_is_found_to_be_no_different(kept: Keep) -> None:
    """Two runs of one distribution, serially correlated: nearly never slower or faster."""
    verdicts = [
        compare(kept("x", plain(100, seed)), kept("x", plain(100, 1_000 + seed))).rows[0].verdict for seed in range(40)
    ]
    assert sum(verdict in (Verdict.SLOWER, Verdict.FASTER) for verdict in verdicts) <= 2
    assert sum(verdict is Verdict.NONE for verdict in verdicts) >= 34


def test_a_fifth_more_is_slower_and_a_fifth_less_is_faster(kept: Keep) -> None:
    """A change of 20 % is found in every one of 20 pairs, in both directions, and the interval holds it mostly."""
    held = 0
    for seed in range(20):
        a, b = kept("x", plain(100, seed)), kept("x", plain(120, 1_000 + seed))
        (slower,), (faster,) = compare(a, b).rows, compare(b, a).rows
        assert (slower.verdict, faster.verdict) == (Verdict.SLOWER, Verdict.FASTER)
        held += slower.ci95[0] <= 1.2 <= slower.ci95[1]
    assert held >= 15


def test_a_change_too_small_to_matter_is_told_apart(kept: Keep) -> None:
    """3 % that are surely there are no regression of 5 %, but one of 2 %."""
    values = np.random.default_rng(1).uniform(99, 101, 1_000)
    a, b = (kept("x", {"t": {"samples_us": " ".join(f"{one:.2f}" for one in values * times)}}) for times in (1.0, 1.03))
    assert compare(a, b).rows[0].verdict is Verdict.SMALL
    assert compare(a, b, least_change=0.02).rows[0].verdict is Verdict.SLOWER


def test_blocks_widen_the_interval_of_correlated_samples() -> None:
    """A run that wandered slowly says less about its median than one of independent samples."""

    def width(correlation: float) -> float:
        low, high = interval(resampled_medians(unpack_samples(samples(100, count=900, correlation=correlation))))
        return high - low

    assert width(0.95) > 2 * width(0.0)


def test_series_of_the_same_queries_stay_paired() -> None:
    """Twice the same latencies, one a tenth slower, leave no doubt about the ratio."""
    values = unpack_samples(samples(100, spread=0.5))
    ratio = resampled_medians(values * 1.1) / resampled_medians(values)
    assert ratio == pytest.approx(1.1)


def test_resampling_needs_samples() -> None:
    """None are an error, and one is its own median."""
    assert set(resampled_medians(np.array([7.0])).tolist()) == {7.0}
    with pytest.raises(ValueError, match="no samples"):
        resampled_medians(np.array([]))


def test_on_a_slower_machine_searches_are_compared_by_what_they_are_to_faiss_flat(kept: Keep) -> None:
    """Everything half as fast again is no regression; the baseline itself is not judged."""
    a = kept("core-1000", core_values(1_000, 100, 400))
    b = kept("core-1000", core_values(1_000, 150, 600, seed=1))
    found = compare(a, b)
    assert found.slower == 0
    by_name = {row.name: row for row in found.rows}
    ours, flat = by_name["related_news / all / effort 0"], by_name["faiss_flat / all / effort 0"]
    assert ours.over == flat.name
    assert ours.ratio == pytest.approx(1.0, abs=0.05)
    assert (flat.verdict, flat.over) == (Verdict.BASELINE, None)
    assert flat.ratio == pytest.approx(1.5, abs=0.05)


def test_on_a_faster_machine_a_slower_search_is_found(kept: Keep) -> None:
    """The same time where FAISS flat takes half is twice as slow."""
    a = kept("core-1000", core_values(1_000, 100, 400))
    b = kept("core-1000", core_values(1_000, 100, 200, seed=1))
    found = rows(compare(a, b))
    assert found["related_news / all / effort 0"][0] is Verdict.SLOWER
    assert found["related_news / all / effort 0"][1] == pytest.approx(2.0, rel=0.05)


def test_a_machine_that_changes_within_a_run_widens_every_interval(kept: Keep) -> None:
    """Each measurement met another state of the machine: nothing is slower, and it is said what could not be told."""
    a, b = core_values(1_000, 100, 400), core_values(1_000, 100, 400, seed=1)
    states = iter((1.0, 1.0, 0.6, 1.5, 1.4, 1.1, 0.8, 0.6))
    for search in b["peers"].values():
        for case in search["cases"].values():
            met = next(states)
            (found,) = case["points"]
            found["samples_us"] = " ".join(f"{us * met:.1f}" for us in unpack_samples(found["samples_us"]))
    found = compare(kept("core-1000", a), kept("core-1000", b))
    assert found.slower == 0
    assert max(row.ratio for row in found.rows) > 1.3
    assert "the machine changed within a run" in found.warnings[-1]
    quiet = compare(kept("core-1000", a), kept("core-1000", core_values(1_000, 100, 400, seed=1)))
    assert quiet.unrest is not None
    assert found.unrest is not None
    assert quiet.unrest < 0.2 < found.unrest


def test_calls_are_compared_by_what_they_are_to_the_empty_call(kept: Keep) -> None:
    """By as many clients; beside writes by the empty call without, where there is none with them."""
    values = [service_values(150, 500, 250), service_values(150, 1_000, 500, seed=1)]
    for one in values:
        one["cases"]["list_related by id/16/writes"] = one["cases"]["fill_slots by id/16"]
        one["cases"]["draft/64"] = one["cases"]["fill_slots by id/16"]
    a, b = (kept("service-150", one) for one in values)
    found = compare(a, b)
    over = {row.name: row.over for row in found.rows}
    assert over["fill_slots by id/1"] == "empty/1"
    assert over["list_related by id/16/writes"] == "empty/16"
    assert over["draft/64"] is None
    assert [row.name for row in found.rows if row.verdict is Verdict.SLOWER] == ["draft/64"]


def test_without_a_baseline_in_both_runs_plain_time_is_compared(kept: Keep) -> None:
    """A baseline that only one run holds is none."""
    a, b = core_values(1_000, 100, 400), core_values(1_000, 100, 200, seed=1)
    del b["peers"]["faiss_flat"]
    found = compare(kept("core-1000", a), kept("core-1000", b))
    assert {row.over for row in found.rows} == {None}
    assert found.slower == 0


def test_what_else_differs_is_told(kept: Keep) -> None:
    """Machine, versions, corpus; and a recall that fell."""
    a = kept("core-1000", core_values(1_000, 100, 400, recall=0.99))
    b = kept("core-1000", core_values(1_001, 100, 400, recall=0.98), cpu="Other CPU")
    warnings = " ".join(compare(a, b).warnings)
    assert "different cpu: Example CPU, Other CPU" in warnings
    assert "different corpus" in warnings
    assert "recall@100 fell from 0.990 to 0.980: related_news / all / effort 0" in warnings
    assert compare(a, a).warnings == ()


def test_the_command_fails_when_something_is_slower(kept: Keep) -> None:
    """Exit code 1 and the verdict; 0 for the same; JSON holds every row; nothing in common is an error."""
    a, b = kept("x", plain(100, 1)), kept("x", plain(130, 2))
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
    other = kept("y", {"other": {"samples_us": "1 2"}})
    assert run(app, ["compare", str(a.path), str(other.path)]).exit_code == 2
