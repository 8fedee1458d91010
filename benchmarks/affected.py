"""Precision and recall of WatchAffectedPages: against planning every page before and after a change.

python -m benchmarks.affected DATA_DIR --changes 40
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.data import open_live
from benchmarks.machine import keep
from recommender.answer.affected_pages import AffectedPages, Former
from recommender.answer.layout import DEFAULT_LAYOUT
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender, Request
from recommender.catalog.live import Live
from recommender.catalog.opening import STORE_FILE
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.store import Change, open_store
from recommender.catalog.store.writes import former_article
from recommender.catalog.vectors.index import limit_threads

Plans = dict[str, list[tuple[str, int | None]]]


def main(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index; it is only read.")],
    changes: Annotated[int, typer.Option(help="Articles, drawn at random, withdrawn and published.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 1,
) -> None:
    """Measure, print and keep the result."""
    limit_threads(1)
    live = open_live(data_dir)
    now_ms = int(live.column("public_at_ms", live.rows()).max())
    ids = [live.record(int(row)).id for row in live.rows()]
    drawn = np.random.default_rng(seed).choice(len(ids), changes, replace=False)
    with closing(open_store(data_dir / STORE_FILE)) as store:
        stored = store.stored([ids[i] for i in drawn])
    all_plans = _plans(live, ids, now_ms)
    samples = []
    for article_id, one in stored.items():
        others = [other for other in ids if other != article_id]
        _apply(live, article_id, None)
        without = _plans(live, others, now_ms)
        withdrawn = _reported(live, article_id, _former(one), now_ms)
        _apply(live, article_id, one)
        published = _reported(live, article_id, None, now_ms)
        true = {page for page in others if without[page] != all_plans[page]}
        samples.append({"true": len(true), "withdrawn": _of(withdrawn, true), "published": _of(published, true)})
        print(json.dumps(samples[-1]))
    values: dict[str, Any] = {"articles": live.count, "changes": changes, "seed": seed, "samples": samples}
    values |= {kind: _summary(kind, samples) for kind in ("published", "withdrawn")}
    print(json.dumps({kind: values[kind] for kind in ("published", "withdrawn")}, indent=1))
    print(keep("affected", values))


def _plans(live: Live, ids: list[str], now_ms: int) -> Plans:
    recommender = Recommender(live)
    plans: Plans = {}
    for page in ids:
        plan = recommender.fill_slots(Request(page, now_ms))
        links = [p for slot in plan.slots for p in slot.places]
        plans[page] = [(p.recommendation.article.id if p.recommendation else "", p.after_paragraph) for p in links]
    return plans


def _apply(live: Live, article_id: str, stored: StoredArticle | None) -> None:
    change = Change(live.revision + 1, article_id, deleted=stored is None)
    live.apply([change], live.row_values([stored] if stored else []))


def _former(stored: StoredArticle) -> Former:
    return Former(former_article(stored.article), stored.vectors, stored.analysis)


def _reported(live: Live, article_id: str, former: Former | None, now_ms: int) -> tuple[set[str], float, int]:
    """Return the pages reported for a change, the seconds that took, and how many pages were planned for it."""
    started = time.perf_counter()
    view = AffectedPages(live, Ranker(), DEFAULT_LAYOUT, now_ms)
    if former is not None:
        view = view.before(article_id, former)
    candidates = view.likely(article_id)
    reported = {page for page in candidates if view.shows(page, article_id)}
    return reported, time.perf_counter() - started, len(candidates)


def _of(reported: tuple[set[str], float, int], true: set[str]) -> dict[str, float]:
    pages, seconds, planned = reported
    return {"told": len(pages), "right": len(pages & true), "seconds": seconds, "planned": planned}


def _summary(kind: str, samples: list[dict[str, Any]]) -> dict[str, float]:
    true = sum(sample["true"] for sample in samples)
    told, right = (sum(sample[kind][name] for sample in samples) for name in ("told", "right"))
    return {
        "precision": right / told if told else 1.0,
        "recall": right / true if true else 1.0,
        "told_per_change": told / len(samples),
        "ms_per_change": 1e3 * sum(sample[kind]["seconds"] for sample in samples) / len(samples),
        "planned_per_change": sum(sample[kind]["planned"] for sample in samples) / len(samples),
    }


if __name__ == "__main__":
    typer.run(main)
