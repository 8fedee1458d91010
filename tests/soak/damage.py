"""Damage by hand: each file of a snapshot in turn, and SQLite's log cut anywhere; the service starts and is right.

SQLite drops the end of a log that is no whole commit. Cutting the log by hand loses acknowledged writes, which no
program can bring back; but the first of them are left, in whole calls, and answers follow these.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import open_store
from tests.building import DIMENSION
from tests.newsroom import SECTIONS
from tests.service.client import Client
from tests.service.crew import ENCODER, WORKER, children, eventually
from tests.service.servers import Served
from tests.soak.ledger import Ledger, State
from tests.soak.newsroom import Version, make_archive, message_of
from tests.soak.rebuild import compare
from tests.soak.service import Service, settled

ARTICLES = 100
"""Articles of the archive."""
CALLS = 40
"""Writing calls before the log is cut."""
PAGES = [f"{section}-{number}" for section in SECTIONS for number in range(2)]
Damage = Callable[[Path], object]


def flip_a_bit(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, Damage] = {"truncated": truncate, "bit-flipped": flip_a_bit, "removed": Path.unlink}


# Snapshots


@dataclass(frozen=True, slots=True)
class Case:
    """One file of the current snapshot and its damage. alone: there is no older snapshot to go back to."""

    file: str
    damage: str
    alone: bool


def damaged_snapshots(folder: Path, chosen: Callable[[list[Case]], Sequence[Case]]) -> int:
    """Damage a file and start the service on it, for each of the chosen cases; returns how many those were.

    The service names the broken file in its log and answers as a rebuild does. Raises AssertionError.
    """
    whole = _with_two_snapshots(folder / "whole")
    current = current_snapshot(whole / SNAPSHOTS)
    assert current is not None
    cases = chosen(
        [Case(p.name, damage, alone) for p in current.iterdir() for damage in DAMAGES for alone in (False, True)]
    )
    for number, case in enumerate(cases):
        data_dir = Path(shutil.copytree(whole, folder / f"case-{number}"))
        broken = data_dir / SNAPSHOTS / current.name
        DAMAGES[case.damage](broken / case.file)
        if case.alone:
            for other in (path for path in (data_dir / SNAPSHOTS).iterdir() if path.is_dir() and path != broken):
                shutil.rmtree(other)
        service = Service(data_dir)
        with service.running() as server, settled(server, 1, 1, _has_all) as clients:
            compare(clients, data_dir, [*PAGES, "late"])
            assert server.end() == 0
        warning = f"recommender.catalog.opening: snapshot {broken.name} is not used: {broken / case.file}: "
        assert re.search(rf"WARNING \d+ {re.escape(warning)}", service.log()), f"{case}: {service.log()}"
        shutil.rmtree(data_dir)
    return len(cases)


def _with_two_snapshots(data_dir: Path) -> Path:
    """Make an archive with an older snapshot, a newer one, and a change after that."""
    make_archive(data_dir, ARTICLES)
    with closing(open_store(data_dir / STORE_FILE)) as store:
        store.delete(["theatre-9"])
        write_snapshot(store, data_dir / SNAPSHOTS, DIMENSION)
    with Service(data_dir).running() as server:
        server.client.upsert(message_of("late", Version(1, 1)))
        assert server.end() == 0
    return data_dir


def _has_all(client: Client) -> bool:
    return client.status().revision == ARTICLES + 2


# SQLite's log


def cut_logs(folder: Path, seed: int, shares: Sequence[float]) -> list[int]:
    """Write, kill everything, and cut SQLite's log to each of `shares` of its size; start the service each time.

    Returns how many of the acknowledged calls were left each time. Raises AssertionError.
    """
    make_archive(folder / "data", ARTICLES)
    states = _written(folder / "data", random.Random(seed))
    log = folder / "data" / f"{STORE_FILE}-wal"
    left = []
    for share in shares:
        data_dir = Path(shutil.copytree(folder / "data", folder / f"cut-{share}"))
        os.truncate(data_dir / log.name, int(share * log.stat().st_size))
        (data_dir / f"{STORE_FILE}-shm").unlink()
        left.append(_start_on(data_dir, states))
        assert share < 1 or left[-1] == len(states) - 1, "acknowledged calls were lost with all of the log there"
        shutil.rmtree(data_dir)
    return left


def _written(data_dir: Path, rng: random.Random) -> list[State]:
    """Write, with snapshots meanwhile, and kill all processes at once; returns the states, after no call, one, ..."""
    ledger = Ledger("w", rng)
    states = [dict(ledger.acknowledged)]
    service = Service(data_dir, "--compact-after", "15")
    with service.running() as server:
        for _ in range(CALLS):
            assert ledger.write(server.client)
            states.append(dict(ledger.acknowledged))
        assert eventually(lambda: server.client.status().snapshot_revision > ARTICLES)
        _kill_all(server)
    return states


def _kill_all(server: Served) -> None:
    """Kill workers and encoder while their supervisor cannot start them again, so that none ends in order."""
    os.kill(server.process.pid, signal.SIGSTOP)
    for pid in (*children(server, WORKER), *children(server, ENCODER)):
        os.kill(pid, signal.SIGKILL)
    server.process.kill()
    server.process.wait()


def _start_on(data_dir: Path, states: Sequence[State]) -> int:
    """Start the service; returns after how many calls its state is."""
    service = Service(data_dir)
    with service.running() as server, settled(server, 1, 1, lambda client: client.status().revision > 0) as (client,):
        state = Ledger("w", random.Random(0)).read(client)
        assert state in states, f"that is the state after no call: {state}"
        compare([client], data_dir, [*PAGES, *_there(state)])
        client.upsert(message_of("after", Version(1, 1)))
        assert client.get("after").id == "after"
        compare([client], data_dir, [*PAGES, "after"])
        assert server.end() == 0
        return len(states) - 1 - list(reversed(states)).index(state)


def _there(state: State) -> Iterator[str]:
    yield from (article_id for article_id, version in state.items() if version)
