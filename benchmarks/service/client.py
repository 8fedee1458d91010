"""Those who ask, in a process of their own: `connect` once, then `run` blocks of calls.

One client at a time asks by blocking calls, which cost least; several by asyncio. Each asks again as soon as it has its
answer (a closed loop). Requests are bytes and answers stay bytes, so that what is timed is gRPC and the service.
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
LEAST_EACH = 2
"""So many answers each client gets in a block, however long that takes: encoding drafts for 64 takes seconds."""
_CONNECTIONS_A_WORKER = 4


@dataclass(frozen=True, slots=True)
class Block:
    """Some calls in a row. samples: seconds each. seconds: until the last answer. own_s, server_s: processor time."""

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
        options = [("grpc.use_local_subchannel_pool", 1)]  # else all share one connection, and with it one worker
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
    while len(samples) < LEAST_EACH or clock() < until:
        begun = clock()
        call(next(requests), timeout=TIMEOUT_S)
        samples.append(clock() - begun)
    return samples


async def _several(calls: Sequence[Any], requests: Iterator[bytes], clients: int, seconds: float) -> list[float]:
    samples: list[float] = []
    clock = time.perf_counter
    until = clock() + seconds

    async def ask(call: Any) -> None:
        asked = 0
        while asked < LEAST_EACH or clock() < until:
            asked += 1
            begun = clock()
            await call(next(requests), timeout=TIMEOUT_S)
            samples.append(clock() - begun)

    await asyncio.gather(*(ask(calls[number % len(calls)]) for number in range(clients)))
    return samples


_client: _Client


def connect(cores: frozenset[int], address: str, workers: int, requests: dict[str, list[bytes]]) -> None:
    """Begin in a new process: take these cores, connect, and prepare the calls of METHODS."""
    global _client
    pin(cores)
    _client = _Client(address, 1 if workers == 1 else workers * _CONNECTIONS_A_WORKER, requests)


def warm_up(calls: int) -> dict[str, float]:
    """Ask every call a few times; returns the mean number of links in the answers of each.

    Raises RuntimeError if answers are empty: nothing would have been measured.
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
    """Let so many clients ask a call of METHODS for so long, garbage collection off."""
    gc.collect()
    gc.disable()
    try:
        used, begun = time.process_time(), time.perf_counter()
        samples = _client.run(name, clients, seconds)
        return Block(samples, time.perf_counter() - begun, time.process_time() - used)
    finally:
        gc.enable()
