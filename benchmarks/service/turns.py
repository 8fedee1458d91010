"""Which calls are measured, and that they take turns: where others share the machine only neighbours compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.service.calls import AGAIN, DRAFT, EMPTY, ENCODING, FILL, LIST
from benchmarks.service.client import Block

AROUND_S = 0.2
"""Writing begins so much before a block and ends so much after it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much. Every case gets a block of block_s in each round; starts: how often the start is timed."""

    rounds: int
    block_s: float
    clients: tuple[int, ...]
    writing_rounds: int
    starts: int

    @property
    def writing_s(self) -> float:
        """For how long there are writes in all."""
        blocks = self.writing_rounds * sum(case.beside == WRITES for case in writing_cases())
        return blocks * (self.block_s + 2 * AROUND_S)


FULL = Plan(rounds=10, block_s=1.0, clients=(1, 16, 64), writing_rounds=15, starts=3)
SHORT = Plan(rounds=3, block_s=0.3, clients=(1, 16), writing_rounds=3, starts=1)

WRITES, PAUSED = "writes", "paused"


@dataclass(frozen=True, slots=True)
class Case:
    """A call asked by so many clients. beside: WRITES, PAUSED for blocks between those with writes, or nothing."""

    call: str
    clients: int
    beside: str = ""

    @property
    def name(self) -> str:
        """As results name it."""
        return "/".join([self.call, str(self.clients), *([self.beside] if self.beside else [])])


def reading_cases(clients: Iterable[int]) -> list[Case]:
    """Return every call with each number of clients, and encoding drafts alone, one at a time."""
    calls = (EMPTY, FILL, AGAIN, LIST, DRAFT)
    return [Case(call, count) for count in clients for call in (*calls, *([ENCODING] if count == 1 else []))]


def writing_cases() -> list[Case]:
    """Return what is measured with writes and between them."""
    return [Case(call, 1, beside) for beside in (WRITES, PAUSED) for call in (EMPTY, FILL)]


def in_turns(cases: Sequence[Case], rounds: int, run: Callable[[Case], Block]) -> dict[str, list[Block]]:
    """Run a block of every case in each round, in an order that begins one further in every round."""
    blocks: dict[str, list[Block]] = {case.name: [] for case in cases}
    for number in range(rounds):
        first = number % len(cases)
        for case in (*cases[first:], *cases[:first]):
            blocks[case.name].append(run(case))
    return blocks
