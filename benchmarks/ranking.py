"""The cost of ranking, by id, on one thread; beside it reading the page, and retrieval.

Ranking is the archive's publishing rate, the features of 300 candidates, their scores and their order, by the default
formula or with --ranker by a fitted one. Every page is asked for once, so that nothing of an answer is cached.
rank_cpu is the thread's own processor time; on an otherwise idle machine the wall clock shows the same.

python -m benchmarks.ranking DATA_DIR
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.data import open_live
from benchmarks.machine import keep
from recommender.answer.fitted_ranker import FittedFormula
from recommender.answer.page import stored_page
from recommender.answer.rank import Ranker, default_half_life_days
from recommender.answer.retrieve import Candidates, retrieve
from recommender.catalog.live import Live
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.vectors.index import limit_threads
from recommender.serving.ranker_file import read_ranker

CANDIDATES = 300
"""Candidates ranked for each page; a page with fewer is skipped."""
PAGES = 2_000
"""Pages measured."""
WARM_UP = 100
"""Pages ranked before the measured ones."""


def main(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index.")],
    ranker: Annotated[Path | None, typer.Option(help="A ranker that `related-news fit` made.")] = None,
) -> None:
    """Measure, print and keep the result."""
    limit_threads(1)
    live = open_live(data_dir)
    rows = np.random.default_rng(1).permutation(live.rows())[: PAGES + WARM_UP].tolist()
    asked = Ranker(FittedFormula(read_ranker(ranker, live.manifest.encoder)) if ranker else None)
    samples = [sample for row in rows if (sample := _one(live, asked, int(row)))]
    measured = np.array(samples[WARM_UP:]) * 1e6
    values: dict[str, Any] = {
        "articles": live.count,
        "candidates": CANDIDATES,
        "pages": len(measured),
        "ranker": asked.formula.name,
        "load_average": os.getloadavg(),
    }
    for index, name in enumerate(("page", "retrieve", "rank", "rank_cpu")):
        percentiles = np.percentile(measured[:, index], [50, 95, 99]).round(1)
        values[f"{name}_us"] = dict(zip(("p50", "p95", "p99"), percentiles.tolist(), strict=True))
    print(json.dumps(values, indent=1))
    print(keep("ranking", values))


def _one(live: Live, ranker: Ranker, row: int) -> tuple[float, float, float, float] | None:
    started = time.perf_counter()
    page = stored_page(live, row)
    read = time.perf_counter()
    candidates = retrieve(live, page, Scope(), page.published_at_ms, excluded={row: "page_itself"})
    retrieved = time.perf_counter()
    if len(candidates.rows) < CANDIDATES:
        return None
    first = Candidates(candidates.rows[:CANDIDATES], candidates.cosines[:CANDIDATES], {})
    start, start_cpu = time.perf_counter(), time.thread_time()
    half_life_days = default_half_life_days(live, page.published_at_ms)
    ranker.score(ranker.gather(live, page, first, page.published_at_ms), half_life_days).order()
    took_cpu, took = time.thread_time() - start_cpu, time.perf_counter() - start
    return read - started, retrieved - read, took, took_cpu


if __name__ == "__main__":
    typer.run(main)
