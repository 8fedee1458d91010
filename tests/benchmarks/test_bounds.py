from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.reporting.bounds import check, load_bounds
from tests.benchmarks.results import core_values, keep_in, service_values

BOUNDS = """
[[bounds]]
benchmark = "core-1000"
ratio = "related-news over faiss-flat, all"
at_most = 0.5
why = "measured 0.25"

[[bounds]]
benchmark = "core-1000"
ratio = "recall@100 of related-news, all"
at_least = 0.95
why = "measured .99"

[[bounds]]
benchmark = "service-150"
ratio = "throughput fill_slots by id/16"
at_least = 0.2
why = "measured .4"
"""


@pytest.fixture
def bounds(tmp_path: Path) -> Path:
    """A file with bounds on a search and on calls."""
    path = tmp_path / "bounds.toml"
    path.write_text(BOUNDS, "utf-8")
    return path


def test_noise_stays_within_the_bounds(tmp_path: Path, bounds: Path) -> None:
    """A run that is a quarter worse than measured, on a machine three times as slow, passes."""
    paths = [
        keep_in(tmp_path, "core-1000", core_values(1_000, 940, 3_000)).path,
        keep_in(tmp_path, "service-150", service_values(150, 1_000, 320)).path,
    ]
    done = CliRunner().invoke(app, ["check", *map(str, paths), "--bounds", str(bounds)])
    assert done.exit_code == 0, done.output
    assert done.output.count(" ok ") == 3


@pytest.mark.parametrize(
    ("name", "ours_us", "recall", "failed"),
    [("latency", 250, 0.99, "over faiss-flat"), ("recall", 100, 0.9, "recall@100")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_gross_regression_fails(
    tmp_path: Path, bounds: Path, name: str, ours_us: float, recall: float, failed: str
) -> None:
    """A bad ratio to the baseline or a bad recall gives exit code 1, with the limit and what was once measured."""
    result = keep_in(tmp_path, "core-1000", core_values(1_000, ours_us, 400, recall=recall))
    done = CliRunner().invoke(app, ["check", str(result.path), "--bounds", str(bounds)])
    assert done.exit_code == 1, name
    (line,) = [line for line in done.output.splitlines() if "FAILED" in line]
    assert failed in line
    assert "1 out of bounds" in done.output
    assert "measured" in done.output


def test_a_missing_ratio_fails(tmp_path: Path, bounds: Path) -> None:
    """A bound also fails if a run no longer measures its ratio."""
    values = core_values(1_000, 100, 400)
    del values["peers"]["faiss_flat"]
    checked = check(keep_in(tmp_path, "core-1000", values), load_bounds(bounds))
    assert [one.value for one in checked] == [None, None]
    assert not any(one.ok for one in checked)


def test_a_result_without_bounds_is_an_error(tmp_path: Path, bounds: Path) -> None:
    """CI does not pass if nothing was checked."""
    result = keep_in(tmp_path, "core-77", core_values(77, 100, 400))
    assert CliRunner().invoke(app, ["check", str(result.path), "--bounds", str(bounds)]).exit_code == 2


@pytest.mark.parametrize("change", [("at_most = 0.5\n", ""), ("at_most", "at_least = 1\nat_most"), ("why", "because")])
def test_a_bound_has_one_limit_and_a_reason(bounds: Path, change: tuple[str, str]) -> None:
    """No limit, two limits, and an unknown key are errors."""
    bounds.write_text(BOUNDS.replace(*change, 1), "utf-8")
    with pytest.raises(ValidationError):
        load_bounds(bounds)


def test_the_checked_in_bounds_are_valid() -> None:
    """They load, and no ratio has two of them."""
    named = [(bound.benchmark, bound.ratio) for bound in load_bounds()]
    assert len(set(named)) == len(named) > 0
