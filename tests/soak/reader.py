"""Readers of a service in processes of their own, so that measuring one does not slow down the others.

python -m tests.soak.reader ADDRESS RATE SEED PAGES: fills pages at a steady rate until its standard input ends, then
prints every sample as JSON. A latency counts from the moment at which the call was due, as a visitor would count it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from tests import ROOT
from tests.service.crew import connections
from tests.service.messages import ids_of
from tests.service.servers import environment

CONNECTIONS = 2
"""Connections of each reader, used in turn."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One call. due_s, sent_s: monotonic clock, the same in all processes. shown: ids in the answer."""

    due_s: float
    sent_s: float
    latency_s: float
    shown: list[str]
    error: str


@dataclass
class Readers:
    """Running readers; `samples` once they have ended."""

    processes: list[subprocess.Popen[str]]
    samples: list[Sample] = field(default_factory=list)


@contextmanager
def reading(address: str, readers: int, rate: float, pages: Sequence[str]) -> Iterator[Readers]:
    """Let a number of readers fill pages, `rate` calls a second each, until the end."""
    command = [sys.executable, "-m", "tests.soak.reader", address, str(rate)]
    running = Readers([_started([*command, str(number), ",".join(pages)]) for number in range(readers)])
    try:
        for process in running.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
        yield running
        for process in running.processes:
            printed, _ = process.communicate(timeout=60)
            running.samples += [Sample(*values) for values in json.loads(printed)]
    finally:
        for process in running.processes:
            process.kill()
            process.wait()


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment())


def main(address: str, rate: float, seed: int, pages: Sequence[str]) -> None:
    """Read until standard input ends."""
    rng, stop = random.Random(seed), threading.Event()
    samples: list[tuple[float, float, float, list[str], str]] = []

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with connections(address, CONNECTIONS) as clients:
        for client in clients:
            client.fill(article_id=pages[0])
        print("reading", flush=True)
        due = time.monotonic() + rng.random() / rate
        while not stop.wait(max(0.0, due - time.monotonic())):
            sent, shown, error = time.monotonic(), list[str](), ""
            try:
                shown = ids_of(clients[len(samples) % CONNECTIONS].fill(article_id=rng.choice(pages)))
            except grpc.RpcError as raised:
                error = str(raised)
            samples.append((due, sent, time.monotonic() - due, shown, error))
            due += 1 / rate
    print(json.dumps(samples))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(","))
