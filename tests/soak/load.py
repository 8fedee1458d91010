"""Steady reading, in turn with writing and without: no error, nothing withdrawn is shown, memory stays flat, p99 holds.

Readers draw from all pages, so that the plan cache hardly ever answers, in either phase: a cached plan costs a tenth,
and any write ends it. Everything runs on one machine: readers, writers and probe take processor time from the service
that they measure.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.service.crew import eventually
from tests.soak.figures import quantiles_ms
from tests.soak.memory import Memory, watched
from tests.soak.newsroom import make_archive, spread
from tests.soak.reader import Sample, reading
from tests.soak.service import Service, settled
from tests.soak.writer import Writers, Written

P99_RATIO_MAX = 1.5
"""How many times higher p99 may be with writing than without."""
GROWTH_SHARE_MAX = 0.05
"""Share of its memory by which a process may grow after its warm-up, on top of GROWTH_MIB_MAX."""
GROWTH_MIB_MAX = 8.0
"""MiB by which a process may grow after its warm-up: its memory varies by about this between two snapshots."""
ENOUGH_S = 120.0
"""Seconds by which a phase with writing is prolonged at most, until enough has happened."""
_SWAP = re.compile(r"swapped in after ([\d.]+) s, ([\d.]+) ms of it without answering")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much; phases without and with writing take turns.

    rate: calls a second of each reader. writes: a second of all writers.
    living: articles of the writers that are there at a time.
    """

    articles: int = 3_000
    workers: int = 2
    readers: int = 3
    rate: float = 20.0
    writes: float = 50.0
    living: int = 100
    turns: int = 20
    quiet_s: float = 15.0
    writing_s: float = 30.0
    warm_up_s: float = 10.0
    compact_after: int = 500


@dataclass(frozen=True, slots=True)
class Phase:
    """A period, by the monotonic clock."""

    writing: bool
    begun_s: float
    ended_s: float


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    plan: Plan
    phases: Sequence[Phase]
    samples: Sequence[Sample]
    written: Written
    memory: Memory
    swaps: Sequence[tuple[float, float]]
    """For each snapshot that a worker swapped in: the seconds it took, the milliseconds without answering."""
    processors: dict[str, float]
    """Shares of all processor time: busy, and stolen by other virtual machines."""

    @property
    def errors(self) -> list[str]:
        """Return every call that failed."""
        return [*self.written.errors, *(sample.error for sample in self.samples if sample.error)]

    @property
    def shown_after_withdrawal(self) -> list[str]:
        """Return ids in answers to calls that were sent after their withdrawal was acknowledged."""
        gone = self.written.gone_s
        seen = [i for sample in self.samples for i in sample.shown if gone.get(i, np.inf) < sample.sent_s]
        return [*seen, *self.written.still_shown]

    def latencies(self, *, writing: bool) -> list[float]:
        """Return the latencies of calls that were due in phases with writing, or without, seconds."""
        phases = [phase for phase in self.phases if phase.writing == writing]
        return [s.latency_s for s in self.samples if any(p.begun_s <= s.due_s < p.ended_s for p in phases)]

    @property
    def p99_ratio(self) -> float:
        """Return p99 with writing over p99 without."""
        return float(np.quantile(self.latencies(writing=True), 0.99) / np.quantile(self.latencies(writing=False), 0.99))

    def failures(self) -> list[str]:
        """Return a sentence for each limit that the run broke."""
        failures = [f"{len(self.errors)} errors, the first: {self.errors[0]}"] if self.errors else []
        if shown := self.shown_after_withdrawal:
            failures.append(f"shown after their withdrawal: {shown[:5]}, {len(shown)} in all")
        if self.p99_ratio > P99_RATIO_MAX:
            failures.append(f"p99 is {self.p99_ratio:.2f} times that without writing")
        for name, size in self.memory.report().items():
            if name != "compaction" and size["grown_mib"] > GROWTH_MIB_MAX + GROWTH_SHARE_MAX * size["own_mib"][1]:
                failures.append(f"{name} has grown by {size['grown_mib']} MiB")
        return failures

    def values(self) -> dict[str, Any]:
        """Return the figures to store."""
        written = self.written
        return {
            "plan": asdict(self.plan),
            "failures": self.failures(),
            "fill_slots_ms": {
                name: quantiles_ms(self.latencies(writing=writing))
                for name, writing in (("without_writes", False), ("with_writes", True))
            },
            "p99_ratio": round(self.p99_ratio, 3),
            "writes": len(written.upsert_s) + len(written.delete_s),
            "upsert_ms": quantiles_ms(written.upsert_s),
            "delete_ms": quantiles_ms(written.delete_s),
            "fresh_on_every_connection_after_ms": quantiles_ms(written.fresh_s),
            "takedown_ms": quantiles_ms(written.takedown_s),
            "swaps": len(self.swaps),
            "swap_pause_ms": quantiles_ms([pause_ms / 1e3 for _, pause_ms in self.swaps]),
            "take_up_ms": quantiles_ms([seconds for seconds, _ in self.swaps]),
            "processors": self.processors,
            "memory": self.memory.report(),
        }


def run(
    folder: Path, plan: Plan, is_enough: Callable[[Written, Sequence[tuple[float, float]]], bool] = lambda *_: True
) -> Outcome:
    """Make an archive, serve it, and read and write as planned.

    is_enough: called with what was written and Outcome.swaps so far; phases with writing are prolonged until it is
    true, by ENOUGH_S at most.
    """
    make_archive(folder / "data", plan.articles)
    service = Service(folder / "data", "--workers", str(plan.workers), "--compact-after", str(plan.compact_after))
    pages = [spread(number).id for number in range(plan.articles)]
    phases, before = [], _processor_times()
    with ExitStack() as stack:
        server = stack.enter_context(service.running())
        with settled(server, plan.workers, 1, lambda client: client.status().article_count == plan.articles):
            pass
        writers = Writers(server.client.address, plan.writes, plan.living)
        memory = stack.enter_context(watched(server))
        with reading(server.client.address, plan.readers, plan.rate, pages) as readers:
            time.sleep(plan.warm_up_s)
            for _ in range(plan.turns):
                phases.append(_phase(plan.quiet_s, None))
                phases.append(_phase(plan.writing_s, writers, lambda: is_enough(writers.written, _swaps(service))))
        assert server.end() == 0
    used = _processor_times() - before
    shares = {"busy": 1 - used[3:5].sum() / used.sum(), "stolen": used[7] / used.sum()}
    processors = {name: round(float(share), 3) for name, share in shares.items()}
    return Outcome(plan, phases, readers.samples, writers.written, memory, _swaps(service), processors)


def _swaps(service: Service) -> list[tuple[float, float]]:
    """Return Outcome.swaps that are in the service's log."""
    return [(float(seconds), float(pause_ms)) for seconds, pause_ms in _SWAP.findall(service.log())]


def _processor_times() -> npt.NDArray[np.int64]:
    """Return user, nice, system, idle, iowait, irq, softirq and steal of all processors, in ticks; see proc(5)."""
    return np.array(Path("/proc/stat").read_text().split()[1:9], np.int64)


def _phase(seconds: float, writers: Writers | None, is_enough: Callable[[], bool] = lambda: True) -> Phase:
    begun = time.monotonic()
    with ExitStack() as stack:
        if writers:
            stack.enter_context(writers.writing())
        time.sleep(seconds)
        eventually(is_enough, ENOUGH_S)
        return Phase(writers is not None, begun, time.monotonic())
