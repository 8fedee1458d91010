"""Clients, in a process of their own: `connect` once, then `run` blocks of calls.

One client makes blocking calls, which cost least; several are tasks of asyncio. Each asks again as soon as it has its
answer (a closed loop). Requests are bytes and answers stay bytes, so that only gRPC and the service are timed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from related_news.v1 import related_news_service_pb2 as related_pb

from benchmarks.service.calls import DRAFT, FILL, LIST, METHODS
from benchmarks.service.hosting import pin

TIMEOUT_S = 60.0
"""Deadline of one call, seconds."""
ANSWERS_MIN = 2
"""Answers that each client gets in a block, however long that takes; 64 drafts take seconds."""
_CONNECTIONS_PER_WORKER = 4
"""Connections of several clients, where there are several workers."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive calls of one case.

    samples: seconds of each call. seconds: from the first call to the last answer.
    own_s, server_s: processor time of the clients and of the service.
    """

    samples: list[float]
    seconds: float
    own_s: float
    server_s: float = 0.0


class _Client:
    def __init__(self, address: str, connections: int, requests: dict[str, list[bytes]]) -> None:
        self._address = address
        self._requests = {name: itertools.cycle(some) for name, some in requests.items()}
        channel = grpc.insecure_channel(address)
        self._calls: dict[str, Any] = {name: channel.unary_unary(method) for name, method in METHODS.items()}
        self._loop = asyncio.new_event_loop()
        self._many = self._loop.run_until_complete(self._connect(connections))

    async def _connect(self, connections: int) -> dict[str, list[Any]]:
        options = [("grpc.use_local_subchannel_pool", 1)]  # otherwise all share one connection, and so one worker
        channels = [grpc.aio.insecure_channel(self._address, options=options) for _ in range(connections)]
        return {name: [channel.unary_unary(method) for channel in channels] for name, method in METHODS.items()}

    def answer(self, name: str) -> bytes:
        answer: bytes = self._calls[name](next(self._requests[name]), timeout=TIMEOUT_S)
        return answer

    def run(self, name: str, clients: int, seconds: float) -> list[float]:
        if clients == 1:
            return _one(self._calls[name], self._requests[name], seconds)
        return self._loop.run_until_complete(_several(self._many[name], self._requests[name], clients, seconds))


def _one(call: Any, requests: Iterator[bytes], seconds: float) -> list[float]:
    samples: list[float] = []
    clock = time.perf_counter
    until = clock() + seconds
    while len(samples) < ANSWERS_MIN or clock() < until:
        started = clock()
        call(next(requests), timeout=TIMEOUT_S)
        samples.append(clock() - started)
    return samples


async def _several(calls: Sequence[Any], requests: Iterator[bytes], clients: int, seconds: float) -> list[float]:
    samples: list[float] = []
    clock = time.perf_counter
    until = clock() + seconds

    async def ask(call: Any) -> None:
        answered = 0
        while answered < ANSWERS_MIN or clock() < until:
            answered += 1
            started = clock()
            await call(next(requests), timeout=TIMEOUT_S)
            samples.append(clock() - started)

    await asyncio.gather(*(ask(calls[number % len(calls)]) for number in range(clients)))
    return samples


_client: _Client


def connect(cores: frozenset[int], address: str, workers: int, requests: dict[str, list[bytes]]) -> None:
    """Start in a new process: pin it to these cores, connect, and prepare the calls of METHODS."""
    global _client
    pin(cores)
    _client = _Client(address, 1 if workers == 1 else workers * _CONNECTIONS_PER_WORKER, requests)


def warm_up(calls: int) -> dict[str, float]:
    """Make every call `calls` times; returns the mean number of links in the answers of each.

    Raises RuntimeError if answers have no links: they would measure nothing.
    """
    links = dict.fromkeys(METHODS, 0.0)
    for name in METHODS:
        answers = [_client.answer(name) for _ in range(calls)]
        if name in (FILL, DRAFT):
            plans = [related_pb.FillSlotsResponse.FromString(answer).plan for answer in answers]
            places = [place for plan in plans for slot in plan.slots for place in slot.places]
            links[name] = sum(place.HasField("recommendation") for place in places) / calls
        elif name == LIST:
            lists = [related_pb.ListRelatedResponse.FromString(answer) for answer in answers]
            links[name] = sum(len(one.recommendations) for one in lists) / calls
    if any(links[name] == 0 for name in (FILL, DRAFT, LIST)):
        raise RuntimeError(f"answers hold no links: {links}")
    return {name: round(links[name], 2) for name in (FILL, DRAFT, LIST)}


def run(name: str, clients: int, seconds: float) -> Block:
    """Let `clients` clients make a call of METHODS for `seconds`, with garbage collection off."""
    gc.collect()
    gc.disable()
    try:
        used, started = time.process_time(), time.perf_counter()
        samples = _client.run(name, clients, seconds)
        return Block(samples, time.perf_counter() - started, time.process_time() - used)
    finally:
        gc.enable()
