from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import machine
from benchmarks.reporting.history import read_history
from benchmarks.result import newest, read, rounded_us, write
from tests import ROOT
from tests.benchmarks.results import core_values, keep_in, samples, service_values

RESULTS = ROOT / "benchmarks" / "results"


def values(at: str = "20260101T000000Z") -> dict[str, Any]:
    """Return the values of a small result with samples at three depths."""
    return {
        "benchmark": "x",
        "at": at,
        "machine": {"commit": "abc"},
        "cases": {"a": {"samples_us": samples(100)}, "b": [{"samples_us": [7.25]}, {"samples_us": []}]},
        "text": "a" * 1_000,
        "long": list(range(1_000)),
    }


def test_latencies_are_kept_to_four_digits() -> None:
    """They are microseconds in the order of measuring; from 10 ms on they are whole."""
    assert rounded_us([0.000_123_456, 1.5, 0.004_2, 0.012_345_678]) == [123.5, 1_500_000.0, 4_200.0, 12_346.0]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Samples come back as arrays with the same values at the same places; all else is equal."""
    path = tmp_path / "x.json"
    write(path, values())
    read_values = read(path).values
    cases = read_values["cases"]
    assert cases["a"]["samples_us"].dtype == np.float64
    assert cases["a"]["samples_us"].tolist() == samples(100)
    assert [one["samples_us"].tolist() for one in cases["b"]] == [[7.25], []]
    rest = {name: value for name, value in values().items() if name != "cases"}
    assert {name: value for name, value in read_values.items() if name != "cases"} == rest


def test_the_json_file_counts_samples_and_holds_none(tmp_path: Path) -> None:
    """Samples are in the .npz file of the same name; a result without samples has no such file."""
    path, without = tmp_path / "x.json", tmp_path / "y.json"
    write(path, values())
    write(without, {"benchmark": "y", "at": "z", "machine": {}})
    assert json.loads(path.read_text())["cases"] == {
        "a": {"sample_count": 300},
        "b": [{"sample_count": 1}, {"sample_count": 0}],
    }
    assert [one.name for one in sorted(tmp_path.iterdir())] == ["x.json", "x.npz", "y.json"]


def test_a_result_without_its_samples_is_an_error(tmp_path: Path) -> None:
    """So is one whose .npz file belongs to another result: figures must not come from other samples."""
    path = tmp_path / "x.json"
    write(path, values())
    other = json.loads(path.read_text())
    other["cases"]["a"]["sample_count"] = 299
    (tmp_path / "x.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="holds 301 samples"):
        read(path)
    path.with_suffix(".npz").unlink()
    with pytest.raises(ValueError, match="holds 0 samples"):
        read(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"benchmark": "x", "at": "y"}', "no JSON"])
def test_another_file_is_no_result(tmp_path: Path, text: str) -> None:
    """A file that lacks the head of a result is refused."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"is not the result|Expecting value"):
        read(path)


def test_the_newest_result_of_each_series_counts(tmp_path: Path) -> None:
    """The time of measuring decides, whatever the order of the files."""
    write(tmp_path / "1.json", values("20260102T000000Z"))
    write(tmp_path / "2.json", values("20260101T000000Z"))
    keep_in(tmp_path, "y", {}, at="20250101T000000Z")
    assert {series: result.at for series, result in newest(tmp_path).items()} == {
        "x": "20260102T000000Z",
        "y": "20250101T000000Z",
    }


def test_every_run_that_is_kept_gets_its_line_in_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line has the run's ratios, medians and recalls but no settings; the history is beside the folder of results."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    core = core_values(1_000, 100, 400, recall=0.99)
    core["answers"] = {"one": {"settings": {"threads": 1}, "build_s": 1.5, "version": "2"}}
    for name, some in (("core-1000", core), ("service-150", service_values(150, 500, 250))):
        machine.keep(name, some, seed=1)
    searches, service = read_history(tmp_path / "history.jsonl")
    assert (searches.benchmark, service.benchmark) == ("core-1000", "service-150")
    assert searches.commit == machine.describe()["commit"]
    assert searches.ratios["related-news over faiss-flat, all"] == pytest.approx(0.25, rel=0.05)
    point = searches.figures["searches"]["related-news"]["all"]
    assert point["p50_us"] == pytest.approx(100, rel=0.05)
    assert (point["recall@10"], point["recall@100"]) == (0.995, 0.99)
    assert searches.figures["answers"] == {"one": {"build_s": 1.5}}
    assert service.ratios["fill_slots by id/1"] == 2.0
    assert service.figures["cases"]["fill_slots by id/1"] == {
        "count": 400,
        "seconds": pytest.approx(0.2),
        "per_second": 2_000.0,
        "p50_us": 500,
        "p95_us": 600.0,
        "p99_us": 650.0,
    }


def test_the_repository_keeps_the_newest_result_of_each_series_only() -> None:
    """Older results are removed once a newer one is kept; the history has a line for every run."""
    latest = newest(RESULTS)
    assert len(list(RESULTS.glob("*.json"))) == len(latest)
    runs = {(run.benchmark, run.at) for run in read_history(RESULTS.parent / machine.HISTORY)}
    assert {(series, result.at) for series, result in latest.items()} <= runs
    assert {path.with_suffix(".json") for path in RESULTS.glob("*.npz")} <= {result.path for result in latest.values()}
