"""One run: start the service, let calls take turns, without and with writes, and return the figures."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.service import client, encoding, no_model, writing
from benchmarks.service.calls import DRAFT, ENCODING, LIST
from benchmarks.service.client import Block
from benchmarks.service.figures import figures, per_article, ratios
from benchmarks.service.hosting import REAL, Cores, Running, serving
from benchmarks.service.questions import Questions
from benchmarks.service.turns import WRITES, WRITES_MARGIN_S, Case, Plan, in_turns, reading_cases, writing_cases
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.verified import CHECKED
from recommender.encoding.embedder import Embedder

_WARM_UP_CALLS = 30
"""Calls of each kind before the measured ones."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Parameters of a run.

    workers: worker processes. writes: per second, 0 for none.
    load: makes the service's encoder, in another process. module: the module of the service's command line.
    """

    plan: Plan
    workers: int
    writes: float
    load: Callable[[], Embedder]
    module: str = REAL


def measure(data_dir: Path, questions: Questions, run_plan: RunPlan) -> dict[str, Any]:
    """Start a service on a folder that it may write to, and measure it; returns the values of the result."""
    cores, plan, requests = Cores.split(), run_plan.plan, questions.requests
    without_model_s = time_starts(data_dir, cores, run_plan.workers, no_model.MODULE, plan.starts)
    again_s = time_starts(data_dir, cores, run_plan.workers, no_model.MODULE, 1 + plan.starts, anew=False)[1:]
    starts_s = time_starts(data_dir, cores, run_plan.workers, run_plan.module, plan.starts - 1)
    written = writing.Written()
    _forget_checks(data_dir)
    with serving(data_dir, cores, workers=run_plan.workers, module=run_plan.module) as service:
        starts_s.append(service.start_s)
        with _process(client.connect, cores.asking, service.address, run_plan.workers, requests) as asking:
            links = asking.submit(client.warm_up, _WARM_UP_CALLS).result()
            with _process(encoding.load, cores.serving, run_plan.load, questions.texts) as encoder:
                load_s = encoder.submit(encoding.load_seconds).result()
                processes = _Processes(service, asking, plan.block_s, encoder=encoder)
                blocks = in_turns(reading_cases(plan.clients), plan.rounds, processes.run)
            memory = service.memory()  # when no other process shares the encoder's libraries
            if run_plan.writes:
                texts, page = requests[DRAFT][: writing.ARTICLES], requests[LIST][0]
                with _process(writing.begin, cores.asking, service.address, texts, page) as writer:
                    processes = _Processes(
                        service, asking, plan.block_s, writer=writer, writes=run_plan.writes, written=written
                    )
                    blocks |= in_turns(writing_cases(), plan.writing_rounds, processes.run)
    cases = {name: figures(some) for name, some in blocks.items()}
    start_s, without_s = statistics.median(starts_s), statistics.median(without_model_s)
    return {
        "articles": questions.articles,
        "workers": run_plan.workers,
        "cores": {"asking": sorted(cores.asking), "serving": sorted(cores.serving)},
        "plan": asdict(plan),
        "drafts": len(requests[DRAFT]),
        "links_in_an_answer": links,
        "cases": cases,
        "ratios": ratios(cases),
        "start_s": round(start_s, 3),
        "start_without_model_s": round(without_s, 3),
        "restart_without_model_s": round(statistics.median(again_s), 3),
        "model_load_s": round(start_s - without_s, 3),
        "load_embedder_s": round(load_s, 3),
        "starts_s": {"with_model": starts_s, "without_model": without_model_s, "again_without_model": again_s},
        "memory": per_article(memory, questions.articles),
        "writes": {"asked_per_second": run_plan.writes, **written.values()},
    }


def time_starts(
    data_dir: Path, cores: Cores, workers: int, module: str, count: int, *, anew: bool = True
) -> list[float]:
    """Time `count` starts. anew: each verifies the whole snapshot, like the first start after a boot."""
    seconds = []
    for _ in range(count):
        if anew:
            _forget_checks(data_dir)
        with serving(data_dir, cores, workers=workers, module=module) as service:
            seconds.append(service.start_s)
    return seconds


def _forget_checks(data_dir: Path) -> None:
    (data_dir / SNAPSHOTS / CHECKED).unlink(missing_ok=True)


@contextmanager
def _process(begin: Callable[..., None], *values: object) -> Iterator[ProcessPoolExecutor]:
    """Yield a new process that has run `begin`; it runs what is submitted, one after the other."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=begin, initargs=values) as process:
        yield process


@dataclass(frozen=True, slots=True)
class _Processes:
    """The processes that run a block."""

    service: Running
    asking: ProcessPoolExecutor
    seconds: float
    encoder: ProcessPoolExecutor | None = None
    writer: ProcessPoolExecutor | None = None
    writes: float = 0.0
    written: writing.Written | None = None

    def run(self, case: Case) -> Block:
        """Run one block."""
        if case.call == ENCODING:
            assert self.encoder
            return self.encoder.submit(encoding.run, self.seconds).result()
        if case.beside != WRITES:
            return self._ask(case)
        assert self.writer and self.written
        writing_now = self.writer.submit(writing.write, self.writes, self.seconds + 2 * WRITES_MARGIN_S)
        time.sleep(WRITES_MARGIN_S)
        block = self._ask(case)
        self.written.add(writing_now.result())
        return block

    def _ask(self, case: Case) -> Block:
        used_s = self.service.used_s()
        block = self.asking.submit(client.run, case.call, case.clients, self.seconds).result()
        return replace(block, server_s=self.service.used_s() - used_s)
