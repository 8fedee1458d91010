"""The cost of an archive of any size without embedding: storing, snapshots, reindexing, opening; memory and disk.

python -m benchmarks.reindexing ARTICLES --articles 100000

Makes a temporary archive of mixed real paragraphs and drawn vectors (benchmarks.mixed), analysed and written as by
`index`. Each step is measured once, in a process of its own, so that the peak of memory is its own. What it reads was
written a moment before and is in the system's cache.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.data import read_articles
from benchmarks.machine import Stopwatch, keep, peak_memory_bytes
from benchmarks.mixed import Mixed
from indexer.maintenance.reindex import reindex
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, open_catalog
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import create_store, open_store
from recommender.catalog.store.writes import Upsert, Write
from recommender.catalog.text.derived import analyse
from recommender.clock import now_ms
from recommender.config import IndexSettings
from recommender.encoding.embedder import Matrix, ModelInfo

CHANGED = 3_000
"""Articles changed between two snapshots, unless told otherwise."""
DIMENSION = 384
"""Dimension of the vectors: that of the default model."""
_REAL_MAX = 5_000
"""Real articles that paragraphs and labels are taken from, at most."""
_PRINT_EVERY_S = 10.0
"""Least time between two lines of progress, seconds."""

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Input of every step. like: a file of real articles. changed: number of articles that are changed, at most."""

    data_dir: Path
    like: Path
    articles: int
    changed: int
    now_ms: int
    seed: int

    def mixed(self) -> Mixed:
        """Return the articles of the archive."""
        real = list(islice(read_articles(self.like), _REAL_MAX))
        return Mixed(real, self.articles, DIMENSION, self.now_ms, self.seed)


Step = Callable[[Plan], Values]


class NoEmbedder:
    """An Embedder for an archive whose vectors are all stored; to encode is an error."""

    info = ModelInfo("drawn", "0" * 64, DIMENSION, 256)

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Refuse. Raises AssertionError."""
        raise AssertionError(f"{len(texts)} texts to embed, where all vectors are there")


def main(
    like: Annotated[Path, typer.Argument(metavar="ARTICLES", help="Real ones, in any format that `index` reads.")],
    articles: Annotated[int, typer.Option(help="Articles of the archive.", min=2)],
    changed: Annotated[
        int, typer.Option(help="Articles changed between two snapshots; half of all at most.")
    ] = CHANGED,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for the archive, which is removed; 21 kB an article.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 1,
) -> None:
    """Measure, print and keep the result."""
    if scratch:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        plan = Plan(Path(folder), like, articles, min(changed, articles // 2), now_ms(), seed)
        values = measure(plan, in_own_process)
    print(json.dumps(values, indent=1))
    print(keep(f"reindexing-{articles}", values, seed=seed))


def measure(plan: Plan, run: Callable[[Step, Plan], Values]) -> Values:
    """Return the cost of each step by its name, and the bytes on disk. run: carries out one step."""
    steps = {}
    for name, step in STEPS.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        steps[name] = run(step, plan)
        print(f"{name}: {json.dumps(steps[name])}", file=sys.stderr, flush=True)
    return {
        "articles": plan.articles,
        "changed": plan.changed,
        "like": plan.like.name,
        "vectors": f"drawn, {DIMENSION} dimensions",
        "steps": steps,
        "disk": _disk(plan),
    }


def in_own_process(step: Step, plan: Plan) -> Values:
    """Carry out a step in a new process, and add its peak of memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_with_peak, step, plan).result()


def _with_peak(step: Step, plan: Plan) -> Values:
    return {**step(plan), "peak_memory_bytes": peak_memory_bytes()}


def _nothing(plan: Plan) -> Values:
    """Do nothing: the peak is that of the code, which every step loads."""
    del plan
    return {}


def _store(plan: Plan) -> Values:
    return _write(plan, range(plan.articles), 0)


def _snapshot_from_nothing(plan: Plan) -> Values:
    return _snapshot(plan, from_scratch=True)


def _changes(plan: Plan) -> Values:
    """Change articles evenly spread over the archive."""
    return _write(plan, range(0, plan.articles, plan.articles // plan.changed)[: plan.changed], 1)


def _open_with_changes(plan: Plan) -> Values:
    """Open as a service that was stopped before it wrote a snapshot of the changes."""
    return {**_open_live(plan), "changes": plan.changed}


def _snapshot_carried_over(plan: Plan) -> Values:
    return _snapshot(plan, from_scratch=False)


def _reindex(plan: Plan) -> Values:
    """Reindex with every vector stored; it writes a new snapshot from nothing."""
    watch = Stopwatch()
    with watch.running():
        reindex(plan.data_dir, NoEmbedder(), progress=_PrintedProgress())
    return _at_rate(watch, plan.articles)


def _open_snapshot(plan: Plan, *, verify: bool) -> Values:
    folder = current_snapshot(plan.data_dir / SNAPSHOTS)
    assert folder is not None
    watch = Stopwatch()
    with watch.running():
        snapshot = Snapshot(folder, verify=verify)
    assert snapshot.rows == plan.articles
    return asdict(watch)


def _open_live(plan: Plan) -> Values:
    """Open as a service at its start, without its model: choose a snapshot, verify it, replay changes."""
    watch = Stopwatch()
    with watch.running(), open_catalog(plan.data_dir) as catalog:
        pass
    assert len(catalog.live.rows()) == plan.articles
    return asdict(watch)


STEPS: dict[str, Step] = {
    "nothing": _nothing,
    "store": _store,
    "snapshot_from_nothing": _snapshot_from_nothing,
    "changes": _changes,
    "open_with_changes": _open_with_changes,
    "snapshot_carried_over": _snapshot_carried_over,
    "reindex_vectors_cached": _reindex,
    "open_snapshot": partial(_open_snapshot, verify=False),
    "open_snapshot_verified": partial(_open_snapshot, verify=True),
    "open_live": _open_live,
}
"""All steps by name, in order: each goes on with what the one before left."""


def _write(plan: Plan, numbers: Sequence[int], version: int) -> Values:
    """Analyse and commit articles in the indexer's batches; the time to make them is not counted."""
    mixed, progress, size = plan.mixed(), _PrintedProgress(), IndexSettings().batch_articles
    progress.begin("writing", len(numbers))
    analysis, sqlite = Stopwatch(), Stopwatch()
    with closing(create_store(plan.data_dir / STORE_FILE, NoEmbedder.info.key)) as store:
        for start in range(0, len(numbers), size):
            made = [mixed.article(number, version) for number in numbers[start : start + size]]
            with analysis.running():
                analyses = [analyse(article) for article, _ in made]
            writes = [
                Write(Upsert(article, keep_rules=True, links=()), vectors, analysed)
                for (article, vectors), analysed in zip(made, analyses, strict=True)
            ]
            with sqlite.running():
                store.write(writes)
            progress.advance(len(made))
    both = Stopwatch(analysis.seconds + sqlite.seconds, analysis.cpu_s + sqlite.cpu_s)
    return {**_at_rate(both, len(numbers)), "analysis": asdict(analysis), "sqlite": asdict(sqlite)}


def _snapshot(plan: Plan, *, from_scratch: bool) -> Values:
    watch = Stopwatch()
    with watch.running(), closing(open_store(plan.data_dir / STORE_FILE)) as store:
        write_snapshot(store, plan.data_dir / SNAPSHOTS, DIMENSION, _PrintedProgress(), from_scratch=from_scratch)
    return _at_rate(watch, plan.articles)


def _at_rate(watch: Stopwatch, articles: int) -> Values:
    return {**asdict(watch), "articles_per_s": articles / watch.seconds}


def _disk(plan: Plan) -> Values:
    """Return bytes an article of the store (with traces of changes), of the current snapshot, of each of its files."""
    snapshot = current_snapshot(plan.data_dir / SNAPSHOTS)
    assert snapshot is not None
    files = {path.name: path.stat().st_size / plan.articles for path in sorted(snapshot.iterdir())}
    return {
        "store_bytes_per_article": _bytes(plan.data_dir.glob(f"{STORE_FILE}*")) / plan.articles,
        "snapshot_bytes_per_article": sum(files.values()),
        "snapshot_files_bytes_per_article": files,
    }


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


class _PrintedProgress:
    """A Progress that prints to standard error from time to time."""

    def __init__(self) -> None:
        self._printed_s = time.monotonic()
        self._done = 0
        self._total: int | None = None

    def begin(self, stage: str, total: int | None) -> None:
        del stage
        self._done, self._total = 0, total

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if time.monotonic() - self._printed_s >= _PRINT_EVERY_S:
            self._printed_s = time.monotonic()
            print(f"  {self._done:,} of {self._total or 0:,}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
