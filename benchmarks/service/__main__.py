"""Measure a running service: python -m benchmarks.service DATA_DIR [--short]; see benchmarks/README.md."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.machine import keep
from benchmarks.service.figures import table
from benchmarks.service.questions import ask_about, served_copy
from benchmarks.service.run import RunPlan, measure
from benchmarks.service.turns import FULL, SHORT
from recommender.config import Settings
from recommender.encoding.model_for import model_for
from recommender.processes.encoder import load_configured

_WRITTEN_SHARE_MAX = 0.4
"""Writes allowed on an archive without texts, as a share of its articles.

From half on, the service writes a snapshot of its store, which has no texts.
"""


def main(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index. A copy beside it is served.")],
    short: Annotated[bool, typer.Option("--short", help="Less than a minute on a small index.")] = False,
    drafts: Annotated[Path | None, typer.Option(help="Articles to make drafts of. Default: the index's own.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    writes: Annotated[float, typer.Option(help="Upserts and deletions a second; 0 leaves them out.")] = 50.0,
    seed: Annotated[int, typer.Option(help="Seed of the draw of pages.")] = 1,
) -> None:
    """Measure, print a table and keep the result."""
    plan = SHORT if short else FULL
    with served_copy(data_dir) as copy:
        questions = ask_about(copy, drafts, seed)
        if not questions.has_texts and writes * plan.writing_s > _WRITTEN_SHARE_MAX * questions.articles:
            raise typer.BadParameter("its store has no texts and it is small: writes would replace it; give --writes 0")
        load = partial(load_configured, model_for(copy, None), Settings(data_dir=copy))
        values = {"short": short, **measure(copy, questions, RunPlan(plan, workers, writes, load))}
    print(table(values))
    print(keep(f"service-{questions.articles}", values, seed=seed))


if __name__ == "__main__":
    typer.run(main)
