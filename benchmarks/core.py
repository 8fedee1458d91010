"""The core search by corpus size: ours beside FAISS flat, with the same vectors, queries and filters, in one run.

python -m benchmarks.core run FILE.npy --rows 10000 --rows 100000

Cases besides those of benchmarks.peers: by id (the sample includes reading the vector; the article itself is left out),
by id in each window (the searches of one page: the 100 nearest of the 2,000 articles before and 1,000 after it, of the
500 and 250, and of all), and as many threads as there are cores. Queries by id are rows drawn at random.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.machine import keep
from benchmarks.peers.cases import Case, make_cases, with_answers
from benchmarks.peers.corpus import Corpus, load, make
from benchmarks.peers.measure import K, Plan, built, mean_recall, pin, summary, sweep
from benchmarks.peers.peer import EVERYTHING, Filter, Peer, Rows
from benchmarks.peers.run import measure_apart, open_peer
from recommender.answer.retrieve import WINDOWS

PEERS = ("faiss_flat", "related_news")
"""Modules of benchmarks.peers that are measured."""
WINDOW = "by id, window of {:,}"
"""Name of the case of one window, by its number of articles before the page."""
EACH_WINDOW = "by id, each window"
"""Name of the case whose sample is all searches of a page."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def run(
    passages: Annotated[Path, typer.Argument(help="Vectors of `python -m benchmarks.embed_passages`.", exists=True)],
    rows: Annotated[list[int] | None, typer.Option(help="Corpus sizes; one result each.")] = None,
    queries: Annotated[int, typer.Option(help="At most 1,000.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of corpus, queries and filters.")] = 1,
    budget: Annotated[float, typer.Option(help="Seconds for one case; 20 queries are asked at least.")] = 10.0,
    scratch: Annotated[Path, typer.Option(help="Folder for corpora, which are removed.")] = Path("/tmp"),
    made: Annotated[list[Path] | None, typer.Option(help="Folders of corpora made before.")] = None,
) -> None:
    """Measure both on each corpus, print a table and keep the results."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="core-") as name:
        for folder in made or ():
            print(_measure(load(folder), folder, Path(name), queries, seed, budget))
        for size in rows or ():
            folder = Path(name) / "corpus"
            print(_measure(make(folder, passages, size, queries, seed), folder, Path(name), queries, seed, budget))
            shutil.rmtree(folder)


@app.command(hidden=True)
def one(peer: str, folder: Path, recall: float = 0.98, budget: float = 10.0, cores: int = 1) -> None:
    """Measure one peer; `run` starts this in a process of its own."""
    asked = json.loads((folder / "asked.json").read_text())
    values = _one(open_peer(peer), folder, asked, Plan(recall, budget, cores))
    (folder / f"{peer}.json").write_text(json.dumps(values))


def _measure(corpus: Corpus, at: Path, scratch: Path, queries: int, seed: int, budget: float) -> Path:
    folder = scratch / "run"
    folder.mkdir()
    corpus = replace(corpus, queries=corpus.queries[:queries])
    by_id = corpus.by_id(np.random.default_rng((seed, 4)).choice(len(corpus.vectors), len(corpus.queries)))
    assert by_id.query_rows is not None
    cases = [make_cases(corpus, seed), with_answers(by_id, _windows(by_id, by_id.query_rows), by_id=True)]
    (folder / "cases.pickle").write_bytes(pickle.dumps((cases, corpus.queries, by_id.query_rows)))
    (folder / "asked.json").write_text(json.dumps({"corpus": str(at)}))
    load_before = os.getloadavg()
    values: dict[str, Any] = {
        "corpus": corpus.description | {"queries": len(corpus.queries)},
        "k": K,
        "budget_s": budget,
        "peers": {peer: measure_apart(peer, folder, Plan(0.98, budget, 1), "benchmarks.core") for peer in PEERS},
        "load_before_and_after": [load_before, os.getloadavg()],
    }
    shutil.rmtree(folder)
    for name, peer in values["peers"].items():
        for case, values_of_case in peer.get("cases", {}).items():
            point = values_of_case["points"][-1]
            print(f"{name:14}{case:28}{point['p50_us']:>10.1f} us  recall@100 {point['recall@100']:.4f}")
    return keep(f"core-{len(corpus.vectors)}", values, seed=seed)


def _windows(corpus: Corpus, rows: Rows) -> dict[str, list[Filter]]:
    """Return the time windows of a page's searches by the name of the case, the whole archive first."""
    times, last = corpus.columns.published_at_ms, len(corpus.vectors) - 1

    def around(row: int, articles: int) -> Filter:
        low, high = max(row - articles, 0), min(row + articles // 2, last)
        return Filter(int(times[low]), int(times[high]) + 1)

    windows = {WINDOW.format(articles): [around(row, articles) for row in rows.tolist()] for articles, _ in WINDOWS}
    return {"by id": [EVERYTHING] * len(rows), **windows}


def _one(peer: Peer, folder: Path, asked: dict[str, Any], plan: Plan) -> dict[str, Any]:
    corpus = load(Path(asked["corpus"]))
    if len(corpus.vectors) > peer.rows_max:
        return {"name": peer.name, "skipped": f"not tried above {peer.rows_max:,} rows"}
    (cases, by_id_cases), queries, rows = pickle.loads((folder / "cases.pickle").read_bytes())
    corpus = replace(corpus, queries=queries)
    by_id = corpus.by_id(rows)
    own = folder / peer.name
    own.mkdir()
    with built(peer, corpus, own) as values:
        with pin(plan.cores) as cores:
            measured = {case.name: sweep(peer, corpus, case, plan) for case in cases}
            measured |= {case.name: sweep(peer, by_id, case, plan) for case in by_id_cases}
            measured[EACH_WINDOW] = _each_window(peer, by_id, by_id_cases, plan)
        threads = os.cpu_count() or 1
        measured[f"all, {threads} threads"] = _threads(peer, corpus, cases[0], threads, plan)
        return {"name": peer.name, **values, "cores_while_searching": cores, "cases": measured}


def _each_window(peer: Peer, corpus: Corpus, cases: list[Case], plan: Plan) -> dict[str, Any]:
    """Time all searches of a page as one sample. The recall is the lowest of those of the searches."""
    assert corpus.query_rows is not None
    vectors = corpus.vectors.view(np.ndarray)
    answers: list[list[Rows]] = [[] for _ in cases]
    samples: list[float] = []
    gc.collect()
    until = time.perf_counter() + plan.budget_s
    for index, row in enumerate(corpus.query_rows.tolist()):
        started = time.perf_counter()
        query = vectors[row].astype(np.float32)
        rows_found = [peer.search(query, K + 1, case.filters[index]) for case in cases]
        samples.append(time.perf_counter() - started)
        for of_case, rows in zip(answers, rows_found, strict=True):
            of_case.append(rows[rows != row][:K])
        if time.perf_counter() > until and len(samples) >= 20:
            break
    recalls = [mean_recall(corpus, case, of_case) for case, of_case in zip(cases, answers, strict=True)]
    return {"points": [{"effort": 0, **summary(samples, np.min(recalls, axis=0).tolist())}]}


def _threads(peer: Peer, corpus: Corpus, case: Case, threads: int, plan: Plan) -> dict[str, Any]:
    """Let several threads search at once, each one query after the other; a sample is one call."""
    samples: list[float] = []
    answers: dict[int, Rows] = {}

    def ask(first: int) -> None:
        until = time.perf_counter() + plan.budget_s
        for index in range(first, len(corpus.queries), threads):
            started = time.perf_counter()
            answers[index] = peer.search(corpus.queries[index], K, EVERYTHING)
            samples.append(time.perf_counter() - started)
            if time.perf_counter() > until:
                return

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))
    per_second = len(samples) / (time.perf_counter() - started)
    answered = sorted(answers)
    filters = tuple(case.filters[i] for i in answered)
    part = replace(case, filters=filters, thresholds=case.thresholds[answered], passing=case.passing[answered])
    recall = mean_recall(replace(corpus, queries=corpus.queries[answered]), part, [answers[i] for i in answered])
    return {"per_second": round(per_second, 1), "points": [{"effort": 0, **summary(samples, recall)}]}


if __name__ == "__main__":
    app()
