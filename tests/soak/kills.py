"""kill -9 of every kind of process at random moments: nothing acknowledged is lost, nothing is there in part.

One round: writers write; one process is killed; what ended is started again; then every article is read and compared
with what was acknowledged, and pages of the running service with those of a rebuild from the store, byte for byte.
"""

from __future__ import annotations

import enum
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recommender.catalog.opening import STORE_FILE
from recommender.catalog.store.store import encoders_of, open_store
from recommender.encoding.embedder import model_of
from tests import ROOT
from tests.newsroom import SECTIONS, made_up
from tests.service.client import Client
from tests.service.crew import COMPACTION, ENCODER, WORKER, children, end, eventually
from tests.service.servers import Served, environment
from tests.soak.figures import quantiles_ms
from tests.soak.ledger import Ledger
from tests.soak.newsroom import make_archive
from tests.soak.rebuild import compare
from tests.soak.service import Service, settled

WORKERS = 2
"""Serving processes."""
WRITERS = 3
"""Threads that write, each articles of its own."""
CONNECTIONS = 4
"""Connections on which the articles and plans of the running service are compared."""
OTHER_PAGES = 5
"""Pages of the archive that are compared after each round, beside all that were written."""
ARCHIVE = 400
"""Articles of the archive: so many that the writes do not outdate its term statistics, which a rebuild then shares."""
INDEXED = 12
"""Articles of a run of `index`."""
COMPACT_AFTER = 40
"""Changes after which a snapshot is written."""
QUIET_S = 0.1
"""Seconds for which the service is left alone before it is compared."""


class Victim(enum.Enum):
    """Which process is killed."""

    SUPERVISOR = "supervisor"
    WORKER = "worker"
    ENCODER = "encoder"
    INDEX = "index"
    REINDEX = "reindex"
    COMPACTION = "compaction"


HARMLESS = (Victim.INDEX, Victim.REINDEX, Victim.COMPACTION)
"""No call fails when one of these is killed."""


@dataclass
class Tally:
    """What was done. in_time: kills whose process was still at work."""

    rounds: Counter[str] = field(default_factory=Counter)
    in_time: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    in_doubt: int = 0
    plans: int = 0
    start_s: list[float] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """Return the figures to store."""
        return {
            "rounds": sum(self.rounds.values()),
            "by_victim": dict(self.rounds),
            "killed_at_work": dict(self.in_time),
            "acknowledged_calls": self.writes,
            "calls_in_doubt": self.in_doubt,
            "plans_compared": self.plans,
            "start_ms": quantiles_ms(self.start_s),
        }


class Soak:
    """Rounds on one data folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Make the archive, `folder`/data."""
        self.rng = random.Random(seed)
        self.data_dir = folder / "data"
        make_archive(self.data_dir, ARCHIVE)
        self.service = Service(
            self.data_dir,
            *("--workers", str(WORKERS), "--compact-after", str(COMPACT_AFTER), "--compact-again-s", "0.5"),
        )
        self.ledgers = [Ledger(f"w{i}", random.Random(f"{seed}-{i}")) for i in range(WRITERS)]
        self.tally = Tally()
        self._edition = 0
        self._run_s = {Victim.INDEX: 4.0, Victim.REINDEX: 4.0}
        """How long the last such run took that was not killed, or the next one is given."""

    def rounds(self, victims: Iterator[Victim]) -> None:
        """Make one round for each victim. Raises AssertionError at the first thing lost."""
        while self._until_it_is_killed(victims):
            pass

    def _until_it_is_killed(self, victims: Iterator[Victim]) -> bool:
        """Start the service and make rounds until its supervisor is killed; returns False if there are no more."""
        begun = time.monotonic()
        with self.service.running() as server:
            self.tally.start_s.append(time.monotonic() - begun)
            self._check(server)
            for victim in victims:
                self._round(server, victim)
                if victim is Victim.SUPERVISOR:
                    return True
                in_doubt = [ledger.name for ledger in self.ledgers if ledger.in_doubt]
                assert not in_doubt or victim not in HARMLESS, f"writes failed because {victim.value} was killed"
                self._check(server)
            assert server.end() == 0, "it does not end in order"
        return False

    def _round(self, server: Served, victim: Victim) -> None:
        with self._writing(server):
            time.sleep(self.rng.uniform(0, 0.3))
            self.tally.in_time[victim.value] += self._kill(server, victim)
            time.sleep(self.rng.uniform(0, 0.2))
        self.tally.rounds[victim.value] += 1

    # Writing

    @contextmanager
    def _writing(self, server: Served) -> Iterator[None]:
        """Let every writer write until the end, or until a call of its fails."""
        stop = threading.Event()

        def write(ledger: Ledger, client: Client) -> None:
            while not stop.is_set() and ledger.write(client):
                pass

        with settled(server, WORKERS, WRITERS, lambda client: client.status().revision > 0) as clients:
            threads = [
                threading.Thread(target=write, args=(ledger, client), name=ledger.name)
                for ledger, client in zip(self.ledgers, clients, strict=True)
            ]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                stop.set()
                for thread in threads:
                    thread.join()

    # Killing

    def _kill(self, server: Served, victim: Victim) -> bool:
        """Kill one process at a random moment; returns whether it was still at work."""
        if victim is Victim.SUPERVISOR:
            server.process.kill()
            return True
        if victim is Victim.COMPACTION:
            assert eventually(lambda: bool(children(server, COMPACTION))), "no compaction was begun"
            time.sleep(self.rng.uniform(0, 0.8))
            begun = children(server, COMPACTION)
        elif victim in (Victim.WORKER, Victim.ENCODER):
            module = WORKER if victim is Victim.WORKER else ENCODER
            begun = [self.rng.choice(children(server, module))]
        else:
            return self._kill_run(victim)
        for pid in begun:
            end(pid)
        return bool(begun)

    def _kill_run(self, victim: Victim) -> bool:
        """Start an indexing or reindexing run and kill it; one that ends before says how long the next one takes."""
        arguments = self._index() if victim is Victim.INDEX else self._reindex()
        command = [sys.executable, "-m", "tests.soak.fake_cli", "--data-dir", str(self.data_dir), *arguments]
        begun = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment()) as process:
            try:
                code = process.wait(self.rng.uniform(0.3, 1.1) * self._run_s[victim])
            except subprocess.TimeoutExpired:
                process.kill()
                self._run_s[victim] *= 1.05
                return True
        assert code == 0, f"{arguments} ended with {code}"
        self._run_s[victim] = time.monotonic() - begun
        return False

    def _index(self) -> list[str]:
        """Write a new edition of some articles to a file."""
        self._edition += 1
        path = self.data_dir.parent / "edition.jsonl"
        articles = [made_up(SECTIONS[n % len(SECTIONS)], 50_000 + self._edition * INDEXED + n) for n in range(INDEXED)]
        records = (
            {
                "id": f"edition-{number}",
                "title": article.title,
                "paragraphs": [paragraph.text for paragraph in article.paragraphs],
                "published_at": "2026-05-01T12:00:00Z",
                "section": article.labels.section,
                "language": "en",
                "site": article.labels.site,
            }
            for number, article in enumerate(articles)
        )
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return ["index", str(path)]

    def _reindex(self) -> list[str]:
        active = model_of(encoders_of(self.data_dir / STORE_FILE)[0])
        return ["reindex", "--model", "other" if active == "fake" else "fake"]

    # Checking

    def _check(self, server: Served) -> None:
        """Compare the articles with the acknowledged ones, and every worker's plans with a rebuild's."""
        time.sleep(QUIET_S)
        with closing(open_store(self.data_dir / STORE_FILE)) as store:
            revision, encoder = store.revision(), store.active_encoder()

        def has_come(client: Client) -> bool:
            status = client.status()
            return (status.revision, status.model) == (revision, encoder)

        with settled(server, WORKERS, CONNECTIONS, has_come) as clients:
            self.tally.in_doubt += sum(bool(ledger.in_doubt) for ledger in self.ledgers)
            for ledger in self.ledgers:
                ledger.settle(clients[0])
            self.tally.writes = sum(ledger.writes for ledger in self.ledgers)
            self.tally.plans += compare(clients, self.data_dir, self._pages())

    def _pages(self) -> list[str]:
        """Return ids that are stored: every one that a writer wrote, and some of the others."""
        written = [i for ledger in self.ledgers for i, state in ledger.acknowledged.items() if state]
        others = [f"{section}-{number}" for section in SECTIONS for number in range(ARCHIVE // len(SECTIONS))]
        return [*written, *self.rng.sample(others, OTHER_PAGES)]


def in_turn(rng: random.Random, rounds: int) -> Iterator[Victim]:
    """Yield a number of victims, every kind equally often, in random order."""
    while rounds > 0:
        kinds = list(Victim)
        rng.shuffle(kinds)
        yield from kinds[:rounds]
        rounds -= len(kinds)
