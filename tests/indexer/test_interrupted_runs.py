"""Indexing runs that fail, are interrupted or killed: what they keep, and how the next one goes on."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.encoding.embedder import Matrix
from tests import ROOT
from tests.building import open_archive
from tests.indexer.indexing import (
    WORDS,
    RecordingEmbedder,
    counts,
    ids_in,
    index,
    record,
    words_in,
    write,
)

TIMEOUT_S = 20.0
"""Generous: a child that takes this long has hung."""


def test_an_encoder_that_fails_ends_the_run_and_keeps_the_batches_before(articles: Path, data_dir: Path) -> None:
    """The encoder's error comes out as it is; what was committed stays, and the next run goes on there."""

    class Failing(RecordingEmbedder):
        def encode(self, texts: Sequence[str]) -> Matrix:
            if any("fathom" in text for text in texts):
                raise RuntimeError("out of memory")
            return super().encode(texts)

    with pytest.raises(RuntimeError, match="out of memory"):
        index(articles, data_dir, Failing(), batch_articles=2)
    before = ids_in(data_dir)
    assert before[:4] == [f"id-{word}" for word in WORDS[:4]]
    assert "id-fathom" not in before
    assert counts(index(articles, data_dir)) == {"read": 10, "added": 10 - len(before), "unchanged": len(before)}
    assert sorted(ids_in(data_dir)) == sorted(f"id-{word}" for word in WORDS)


class Interrupted(sqlite3.Connection):
    """Raises KeyboardInterrupt after the statement of one thread that `left` counts down to, as Ctrl-C may."""

    left = 0
    thread = 0

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        cursor = super().execute(sql.replace("synchronous = FULL", "synchronous = OFF"), *values)
        if threading.get_ident() == Interrupted.thread:
            Interrupted.left -= 1
            if Interrupted.left == 0:
                raise KeyboardInterrupt
        return cursor


@pytest.mark.slow
def test_ctrl_c_after_any_statement_ends_the_run_and_loses_nothing_that_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it strikes, the run ends by it and by nothing else, and the next one stores exactly what is missing."""
    path = write(tmp_path / "a.jsonl", map(record, WORDS[:2]))
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(Interrupted, "thread", threading.get_ident())
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Interrupted))
    for statements in itertools.count(1):
        data_dir = tmp_path / str(statements)
        Interrupted.left = statements
        try:
            index(path, data_dir, batch_articles=1)
        except KeyboardInterrupt:
            pass
        else:
            break
        Interrupted.left = 0
        index(path, data_dir)
        assert sorted(ids_in(data_dir)) == sorted(f"id-{word}" for word in WORDS[:2]), f"statement {statements}"
    assert statements > 40, statements


CHILD = """
import os, sys
from pathlib import Path
from indexer.pipeline import run
from indexer.sources import open_source
from tests.building import FakeEmbedder

def say(what):
    os.write(1, f"{what}\\n".encode())

def halt(*_):
    say("halted")
    sys.stdin.read()

class Halting(FakeEmbedder):
    def encode(self, texts):
        if any("halt" in text for text in texts):
            halt()
        return super().encode(texts)

source, data_dir, at = sys.argv[1:]
class Speaking:
    def begin(self, stage, total):
        self.stage = stage
        if stage == at == "snapshot":
            halt()

    def advance(self, steps=1):
        if self.stage == "indexing":
            say(steps)

run(open_source(Path(source)), Path(data_dir), Halting(), batch_articles=2, progress=Speaking())
"""
"""Indexes in batches of two; halts for ever when it shall embed a text with "halt" in it, or inside the snapshot.

Two of its threads speak: each line is one write, where print makes two of it that another's can come between.
"""


def kill_when_halted(source: Path, data_dir: Path, at: str, batches: int) -> None:
    """Run CHILD until it has halted and has committed so many batches, then end it by SIGKILL."""
    command = [sys.executable, "-c", CHILD, str(source), str(data_dir), at]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        try:
            assert child.stdout is not None
            lines = [child.stdout.readline().strip() for _ in range(batches + 1)]
            assert sorted(lines) == ["2"] * batches + ["halted"], lines
        finally:
            os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


def same_archive(one: Path, other: Path) -> bool:
    """Say whether two data folders hold the same articles with the same vectors, and serve them."""
    images = []
    for folder in (one, other):
        store, live = open_archive(folder)
        stored = store.stored([f"id-{word}" for word in WORDS])
        images.append({i: (s.article, s.vectors.to_bytes(), live.find(i) is not None) for i, s in stored.items()})
        store.close()
    return images[0] == images[1] and len(images[0]) == len(WORDS)


@pytest.mark.slow
def test_after_kill_9_half_way_what_was_stored_is_not_embedded_again(
    tmp_path: Path, data_dir: Path, articles: Path
) -> None:
    """Six of ten articles are committed when the process is killed: the next run embeds the other four, no more."""
    halting = [record(w, title=f"Envoys halt at {w}" if w == "garnet" else f"Envoys speak about {w}") for w in WORDS]
    write(articles, halting)
    kill_when_halted(articles, data_dir, "encoder", 3)
    assert ids_in(data_dir) == [f"id-{word}" for word in WORDS[:6]]
    assert current_snapshot(data_dir / SNAPSHOTS) is None

    embedder = RecordingEmbedder()
    report = index(articles, data_dir, embedder)
    assert counts(report) == {"read": 10, "added": 4, "unchanged": 6}
    assert words_in(embedder.seen) == set(WORDS[6:])
    index(articles, tmp_path / "never killed")
    assert same_archive(data_dir, tmp_path / "never killed")


@pytest.mark.slow
def test_after_kill_9_inside_the_snapshot_it_is_written_without_embedding(
    tmp_path: Path, data_dir: Path, articles: Path
) -> None:
    """A snapshot that was being written is never taken for one; the next run writes it from the store alone."""
    kill_when_halted(articles, data_dir, "snapshot", 5)
    assert len(ids_in(data_dir)) == 10
    assert current_snapshot(data_dir / SNAPSHOTS) is None

    embedder = RecordingEmbedder()
    report = index(articles, data_dir, embedder)
    assert counts(report) == {"read": 10, "unchanged": 10}
    assert embedder.seen == []
    index(articles, tmp_path / "never killed")
    assert same_archive(data_dir, tmp_path / "never killed")
