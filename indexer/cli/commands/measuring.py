"""Commands that measure relevance and fit a ranker; what they need is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from indexer.cli import console
from indexer.cli.console import plain_errors, print_json, print_table
from indexer.cli.options import AsJson, settings_of


def evaluate(
    context: typer.Context,
    links: Annotated[str | None, typer.Option(help="Editors' links: a JSON Lines file, or `harvested`.")] = None,
    articles: Annotated[Path | None, typer.Option(help="Index these first, in the cache. Default: the index.")] = None,
    near_duplicates: Annotated[Path | None, typer.Option(help="Labelled pairs: measure near-copy detection.")] = None,
    ranker: Annotated[Path | None, typer.Option(help="Also this fitted ranker, on pages newer than its own.")] = None,
    cross_fit: Annotated[bool, typer.Option("--cross-fit", help="Also rankers fitted on four fifths each.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder for indexes of --articles.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure relevance on editors' own links, beside cosine, TF-IDF and most recent in section."""
    from indexer.cli import evaluation, evaluation_view
    from indexer.evaluation.report import evaluation_json

    with plain_errors(), evaluation.bench(settings_of(context), articles, cache, console.err) as bench:
        report = evaluation.evaluate(bench, links, near_duplicates, ranker, cross_fit, console.err)
        if as_json:
            print_json(evaluation_json(report))
        else:
            print_table(evaluation_view.evaluation_view(report))


def fit(
    context: typer.Context,
    links: Annotated[str, typer.Option(help="Editors' links: a JSON Lines file, or `harvested`.")],
    articles: Annotated[Path | None, typer.Option(help="Index these first, in the cache. Default: the index.")] = None,
    to: Annotated[Path, typer.Option(help="File to write; name it as `ranker` in the settings.")] = Path("ranker.json"),
    cache: Annotated[Path | None, typer.Option(help="Folder for indexes of --articles.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a ranker on editors' own links, and compare it with the default on later pages than it was fitted on."""
    from indexer.cli import evaluation, evaluation_view
    from indexer.evaluation.report import fit_json

    with plain_errors(), evaluation.bench(settings_of(context), articles, cache, console.err) as bench:
        report = evaluation.fit(bench, links, to, console.err)
        if as_json:
            print_json(fit_json(report))
        else:
            print_table(evaluation_view.fit_view(report))
            console.out.print(f"written to {escape(str(to))}", highlight=False)
