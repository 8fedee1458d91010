"""python -m benchmarks: what kept results say. The measurements are commands of their own: benchmarks/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.machine import HISTORY, RESULTS
from benchmarks.peers.report import markdown
from benchmarks.reporting import tables
from benchmarks.reporting.bounds import BOUNDS, Checked, load_bounds
from benchmarks.reporting.bounds import check as check_bounds
from benchmarks.reporting.compare import Comparison, Row
from benchmarks.reporting.compare import compare as compare_runs
from benchmarks.reporting.history import read_history
from benchmarks.reporting.units import duration, ratio
from benchmarks.result import Result, newest, read

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

HERE = Path(__file__).parent
"""Folder of the benchmarks."""


def _read(path: Path) -> Result:
    try:
        return read(path)
    except ValueError as error:  # JSON's own too
        raise typer.BadParameter(f"{path}: {error}") from None


ResultFile = Annotated[Path, typer.Argument(help="A kept result.", exists=True, dir_okay=False)]


@app.command()
def report(
    result: Annotated[Path | None, typer.Argument(help="Only print this one, of core or peers.", exists=True)] = None,
    results: Annotated[Path, typer.Option(help="Folder of kept results; of each series the newest.")] = RESULTS,
    document: Annotated[Path, typer.Option("--tables", help="Takes the tables between its markers.")] = HERE
    / "README.md",
    readme: Annotated[Path, typer.Option(help="Takes the headline figures between its markers.")] = HERE.parent
    / "README.md",
    plots: Annotated[Path, typer.Option(help="Folder for the plots.")] = HERE / "plots",
) -> None:
    """Write tables, headline figures and plots anew from kept results. Plots need the extra `bench`."""
    if result:
        print(markdown(_read(result).values))
        return
    latest = newest(results)
    blocks = {document: tables.tables(latest, document.parent), readme: tables.headline(latest)}
    for path, block in blocks.items():
        path.write_text(tables.with_block(path.read_text("utf-8"), block), "utf-8")
        print(path)
    try:
        from benchmarks.reporting.plots import draw
    except ModuleNotFoundError as error:
        print(f"no plots: {error.name} is not installed; pip install '.[bench]' brings it")
        return
    print(*draw(latest, read_history(results.parent / HISTORY), plots), sep="\n")


@app.command()
def compare(
    a: ResultFile,
    b: ResultFile,
    least_change: Annotated[float, typer.Option(help="Smaller differences do not matter; a share.", min=0)] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether B is slower than A, with 95 % intervals; exit code 1 if any measurement is."""
    comparison = compare_runs(_read(a), _read(b), least_change)
    if not comparison.rows:
        raise typer.BadParameter("the two results have no measurement in common")
    print(json.dumps(comparison.values(), indent=1) if as_json else _shown(comparison))
    if comparison.slower:
        raise typer.Exit(1)


def _shown(comparison: Comparison) -> str:
    lines = [f"warning: {warning}" for warning in comparison.warnings]
    lines += [_row(row) for row in comparison.rows]
    return "\n".join([*lines, f"{comparison.slower} of {len(comparison.rows)} slower"])


def _row(row: Row) -> str:
    before, after = map(duration, row.p50_us)
    low, high = row.ci95
    over = f"each over {row.over}" if row.over else "plain time"
    figures = f"{row.ratio:6.3f} ({low:.3f} to {high:.3f})"
    return f"{row.verdict:19}  {figures:24}  {before:>8} -> {after:<8}  {row.name}  [{over}]"


@app.command()
def check(
    results: Annotated[list[Path], typer.Argument(help="Kept results.", exists=True, dir_okay=False)],
    bounds: Annotated[Path, typer.Option(help="What each ratio may be.", exists=True)] = BOUNDS,
) -> None:
    """Fail, with exit code 1, on a gross regression only: a ratio about twice as bad as once measured."""
    loaded = load_bounds(bounds)
    failed = 0
    for path in results:
        try:
            checked = check_bounds(_read(path), loaded)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        print(path.name)
        print(*map(_checked, checked), sep="\n")
        failed += sum(not one.ok for one in checked)
    if failed:
        print(f"{failed} out of bounds")
        raise typer.Exit(1)


def _checked(one: Checked) -> str:
    bound = one.bound
    limit = f"at most {bound.at_most:g}" if bound.at_most is not None else f"at least {bound.at_least:g}"
    shown = "missing" if one.value is None else ratio(one.value)
    return f"  {'ok' if one.ok else 'FAILED':7} {shown:>8}  {limit:14}  {bound.ratio}" + (
        "" if one.ok else f"\n{'':10}{bound.why}"
    )


if __name__ == "__main__":
    app()
