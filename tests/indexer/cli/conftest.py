"""Fixtures of the command line: a caller of it, the encoders that it loads, and an index."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from indexer.cli import commands, console
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.writer import write_snapshot
from tests import building
from tests.building import DIMENSION, FakeEmbedder, build_store
from tests.indexer.cli.running import WIDTH, Invoke, Models, load_with
from tests.service.servers import environment


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Return a caller of the command line in an empty working folder, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    monkeypatch.setattr(console, "out", Console(width=WIDTH))
    monkeypatch.setattr(console, "err", Console(width=WIDTH, stderr=True))
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str | Path) -> Result:
        return CliRunner().invoke(commands.app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> FakeEmbedder:
    """Return the encoder that commands in this process load."""
    fake = FakeEmbedder()
    load_with(monkeypatch, lambda *_, **__: fake)
    return fake


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    """Return the encoders, of which "fake" is the one that `indexed` is made with."""
    models = Models()
    load_with(monkeypatch, models)
    return models


@pytest.fixture
def indexed(tmp_path: Path, models: Models) -> Path:
    """Return a data folder with two articles."""
    store = build_store(tmp_path / "data", [building.article(id, title=id) for id in "ab"])
    write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION)
    store.close()
    assert models.loaded == []
    return store.path.parent
