"""Print page plans for people to judge: each page as of its own time, in the default layout.

python -m benchmarks.plans_to_judge DATA_DIR --pages 20 --seed 1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.data import open_live
from recommender.answer.recommend import Recommender, Request
from recommender.catalog.live import Live

_SKIPPED_PARTS = 4
"""Skip one in so many parts: the first quarter of the archive has too few older articles to link to."""


def main(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index.")],
    pages: Annotated[int, typer.Option(help="Number of pages, drawn at random.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 1,
) -> None:
    """Print a Markdown table: page, slot, score, link, reason."""
    live = open_live(data_dir)
    recommender = Recommender(live)
    rows = live.rows()
    drawn = np.random.default_rng(seed).choice(rows[len(rows) // _SKIPPED_PARTS :], pages, replace=False)
    print("| page | slot | score | link | reason |\n| --- | --- | --- | --- | --- |")
    for row in sorted(drawn.tolist()):
        _print_plan(live, recommender, row)


def _print_plan(live: Live, recommender: Recommender, row: int) -> None:
    record = live.record(row)
    plan = recommender.fill_slots(Request(record.id, live.published_at_ms(row)))
    links = [
        f"| {record.title} | {slot.name} | {place.recommendation.score:.2f} | {place.recommendation.article.title} "
        f"| {place.recommendation.reason} |"
        for slot in plan.slots
        for place in slot.places
        if place.recommendation
    ]
    print("\n".join(links or [f"| {record.title} | | | nothing | |"]))


if __name__ == "__main__":
    typer.run(main)
