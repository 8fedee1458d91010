"""Several writers, and writers that are killed: acknowledged batches are stored whole and in order."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from recommender.catalog.articles import EditorLink
from recommender.catalog.store import sqlite
from recommender.catalog.store.store import Store, create_store, open_store
from recommender.errors import (
    UnavailableError,
)
from tests import ROOT
from tests.building import NOW_MS, article, writes
from tests.recommender.catalog.store.storing import (
    ADDED,
    KEY,
    list_in_time,
    revisions_of,
    write_of,
)


def test_another_connection_sees_what_is_committed(path: Path, store: Store) -> None:
    """A second process's writes are visible at once, and change `data_version`."""
    other = open_store(path, KEY)
    before = store.data_version()
    assert store.data_version() == before
    other.write(writes([article("a")]))
    assert store.data_version() != before
    assert store.get("a") == article("a")
    other.close()


def test_threads_may_share_a_store(store: Store) -> None:
    """With writers and readers on several threads nothing is lost, and no reader sees part of a batch."""
    failures: list[BaseException] = []
    done = threading.Event()

    def write(name: str) -> None:
        for i in range(10):
            store.write(writes([article(f"{name}{i}{part}") for part in "xy"]))

    def read() -> None:
        try:
            while not done.is_set():
                assert store.count() % 2 == 0
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not failures
    assert (store.count(), store.revision()) == (60, 60)


@pytest.mark.slow
def test_processes_take_turns(path: Path) -> None:
    """Two processes that create and write one store at once lose nothing and share one order of revisions."""
    path.parent.mkdir()
    children = [start_writer(path, name, rounds=15) for name in ("left", "right")]
    acks = [child.communicate(timeout=60)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert [len(a) for a in acks] == [15, 15]
    store = open_store(path, KEY)
    assert_whole(store, {"left": 15, "right": 15})
    store.close()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the store as another writer does during a transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store: store.write(writes([article("b")])), id="write"),
        pytest.param(lambda store: store.delete(["a"]), id="delete"),
    ],
)
def test_a_writer_that_waits_too_long_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Store], object]
) -> None:
    """The error names the cause; reading still works, and so does writing after the other transaction."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    store = create_store(path, KEY)
    store.write(writes([article("a")]))
    with held(path):
        with pytest.raises(UnavailableError) as caught:
            act(store)
        assert str(caught.value) == (f"{path}: another writer holds the store (try again; its transaction is short)")
        assert (store.count(), store.revision()) == (1, 1)
        assert list_in_time(store) == ["a"]
    act(store)
    assert store.revision() == 2
    store.close()


def test_a_writer_waits_for_another(path: Path, store: Store) -> None:
    """A transaction that ends within the timeout only delays another one."""
    with held(path):
        writer = threading.Thread(target=store.write, args=(writes([article("a")]),))
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
    writer.join()
    assert store.get("a") == article("a")


_WRITER = """
import sys
from pathlib import Path
from tests.recommender.catalog.store.test_concurrency import write_rounds
write_rounds(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""
BATCH = "xyz"


def start_writer(path: Path, name: str, rounds: int) -> subprocess.Popen[str]:
    """Start a process that writes `rounds` batches and prints the number of each once it is acknowledged."""
    command = [sys.executable, "-c", _WRITER, str(path), name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def write_rounds(path: Path, name: str, rounds: int) -> None:
    """Write a batch of three linked articles each round, in one of two versions, withdrawing every fifth round's."""
    store = create_store(path, KEY)
    for number in range(rounds):
        titles = {f"{name}-{number}-{part}": f"Round {number} of {name}" for part in BATCH}
        store.write(
            [write_of(article(i, title=title), links=(EditorLink(i, "x", 0),)) for i, title in titles.items()], NOW_MS
        )
        if number % 5 == 4:
            store.delete([f"{name}-{number - 1}-{part}" for part in BATCH], NOW_MS)
        print(number, flush=True)
    store.close()


def assert_whole(store: Store, acknowledged: dict[str, int]) -> None:
    """Check that every acknowledged batch is stored, and none in part."""
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    changes = store.changes_after(0, 100_000)
    assert [c.revision for c in changes] == list(range(1, len(changes) + 1))
    last = {c.article_id: c for c in changes}
    with store.read_transaction() as view:
        present = {s.article.id: s.article for s in view.in_time_order()}
    assert set(present) == {i for i, change in last.items() if not change.deleted}
    assert store.withdrawn(list(last)) == set(last) - set(present)
    assert {link.source_id for link in store.links()} == set(present)
    assert revisions_of(store.path) == {i: last[i].revision for i in present}
    batches: dict[tuple[str, int], set[str]] = {}
    for article_id in present:
        name, number, part = article_id.split("-")
        batches.setdefault((name, int(number)), set()).add(part)
        assert present[article_id].title == f"Round {number} of {name}"
    assert all(parts == set(BATCH) for parts in batches.values())
    for name, rounds in acknowledged.items():
        withdrawn = {n - 1 for n in range(rounds) if n % 5 == 4}
        assert {n for of, n in batches if of == name and n < rounds} | withdrawn >= set(range(rounds))
        assert not {n for of, n in batches if of == name} & withdrawn


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_acknowledged_writes_survive_a_kill(path: Path, seed: int) -> None:
    """After SIGKILL at a random moment, twice, each acknowledged batch is stored, and none in part."""
    rng = random.Random(seed)
    acknowledged = {}
    for name in ("first", "second"):
        with start_writer(path, name, rounds=100_000) as child:
            assert child.stdout is not None
            before = rng.randint(1, 25)
            for number in range(before):
                assert child.stdout.readline() == f"{number}\n"
            child.kill()
            acknowledged[name] = before + child.stdout.read().count("\n")
        assert child.returncode == -signal.SIGKILL
        store = open_store(path, KEY)
        assert_whole(store, acknowledged)
        assert store.write(writes([article(f"after-0-{part}", title="Round 0 of after") for part in BATCH]))
        store.delete([f"after-0-{part}" for part in BATCH])
        store.close()


def test_a_log_of_sqlite_that_is_cut_anywhere_loses_only_its_end(path: Path, store: Store, tmp_path: Path) -> None:
    """A write-ahead log that is cut anywhere gives the first changes, in whole batches."""
    for i in range(8):
        store.write(writes([article(f"x{i}-{part}", title=f"Title {i}") for part in BATCH]))
    wal = path.with_name(path.name + "-wal")
    size, rng = wal.stat().st_size, random.Random(1)
    counts = set()
    for cut in sorted([0, size, *(rng.randrange(size) for _ in range(12))]):
        copy = Path(shutil.copytree(path.parent, tmp_path / f"cut-{cut}")) / path.name
        with copy.with_name(wal.name).open("r+b") as stream:
            stream.truncate(cut)
        copy.with_name(path.name + "-shm").unlink()
        torn = create_store(copy, KEY)
        count = torn.count()
        assert count % 3 == 0
        assert [c.article_id for c in torn.changes_after(0, 100)] == [
            f"x{i}-{part}" for i in range(count // 3) for part in BATCH
        ]
        assert torn.write(writes([article("new")])) == [ADDED]
        counts.add(count)
        torn.close()
    assert max(counts) == 24
    assert len(counts) > 3


def test_commits_are_flushed_to_the_disk(store: Store) -> None:
    """Every connection syncs the write-ahead log at each commit."""
    with store._transaction() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
