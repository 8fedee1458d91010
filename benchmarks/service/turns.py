"""Which calls are measured, and in which turns: on a shared machine only neighbouring blocks compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.service.calls import AGAIN, DRAFT, EMPTY, ENCODING, FILL, LIST
from benchmarks.service.client import Block

WRITES_MARGIN_S = 0.2
"""Time by which writing begins before a block and ends after it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Every case gets a block of block_s in each round. starts: number of timed starts."""

    rounds: int
    block_s: float
    clients: tuple[int, ...]
    writing_rounds: int
    starts: int

    @property
    def writing_s(self) -> float:
        """Total time with writes."""
        blocks = self.writing_rounds * sum(case.beside == WRITES for case in writing_cases())
        return blocks * (self.block_s + 2 * WRITES_MARGIN_S)


FULL = Plan(rounds=10, block_s=1.0, clients=(1, 16, 64), writing_rounds=15, starts=3)
"""Plan of a run that is kept."""
SHORT = Plan(rounds=3, block_s=0.3, clients=(1, 16), writing_rounds=3, starts=1)
"""Plan of a run of a minute."""

WRITES = "writes"
"""Names cases with writes beside the calls."""
PAUSED = "paused"
"""Names cases without writes, in blocks between those with writes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A call by a number of clients. beside: WRITES, PAUSED or ""."""

    call: str
    clients: int
    beside: str = ""

    @property
    def name(self) -> str:
        """Name of the case in results."""
        return "/".join([self.call, str(self.clients), *([self.beside] if self.beside else [])])


def reading_cases(clients: Iterable[int]) -> list[Case]:
    """Return every call with each number of clients, and encoding drafts one at a time."""
    calls = (EMPTY, FILL, AGAIN, LIST, DRAFT)
    return [Case(call, count) for count in clients for call in (*calls, *([ENCODING] if count == 1 else []))]


def writing_cases() -> list[Case]:
    """Return the cases with writes and those between."""
    return [Case(call, 1, beside) for beside in (WRITES, PAUSED) for call in (EMPTY, FILL)]


def in_turns(cases: Sequence[Case], rounds: int, run: Callable[[Case], Block]) -> dict[str, list[Block]]:
    """Run a block of every case in each round; each round begins one case later than the one before."""
    blocks: dict[str, list[Block]] = {case.name: [] for case in cases}
    for number in range(rounds):
        first = number % len(cases)
        for case in (*cases[first:], *cases[:first]):
            blocks[case.name].append(run(case))
    return blocks
