"""Keep what `related-news evaluate --cross-fit` measures: relevance on editors' own links.

python -m benchmarks.relevance DATA_DIR LINKS [--near-duplicates PAIRS]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.machine import keep
from indexer.cli import evaluation, evaluation_view
from indexer.evaluation.report import evaluation_json
from recommender.config import Settings


def main(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index.")],
    links: Annotated[str, typer.Argument(help="Editors' links: a JSON Lines file, or `harvested`.")],
    near_duplicates: Annotated[Path | None, typer.Option(help="Labelled pairs of near copies.")] = None,
) -> None:
    """Measure, print the report and keep it."""
    err = Console(stderr=True)
    with evaluation.bench(Settings(data_dir=data_dir), None, None, err) as bench:
        report = evaluation.evaluate(bench, links, near_duplicates, None, True, err)
        articles = bench.live.count
    Console().print(evaluation_view.evaluation_view(report))
    print(keep("relevance", {"articles": articles, **evaluation_json(report)}))


if __name__ == "__main__":
    typer.run(main)
