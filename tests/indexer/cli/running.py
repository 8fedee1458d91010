"""Running commands in this process: what the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from typer.testing import Result

from indexer.cli.commands import indexing, maintaining
from recommender.encoding.embedder import Computing
from recommender.errors import NotFoundError
from tests.building import DIMENSION, FakeEmbedder

WIDTH = 120


class Invoke(Protocol):
    """Runs the command line in this process, on consoles of a known width."""

    def __call__(self, *arguments: str | Path) -> Result: ...


def failed(result: Result) -> str:
    """Return the only line of a command that must have failed with exit code 1, and printed nothing else."""
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    return str(line)


def article(id: str, **changes: Any) -> dict[str, Any]:
    """Return one record of a JSON Lines file."""
    return {"id": id, "title": f"Title {id}", "published_at": "2026-03-01T12:00:00Z", "language": "en", **changes}


def write(path: Path, *records: dict[str, Any] | str) -> Path:
    """Write a JSON Lines file; a string is a line as it is."""
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


class Models:
    """The encoders that commands in this process load, by name; "none" there is not."""

    def __init__(self) -> None:
        self.loaded: list[FakeEmbedder] = []

    def __call__(self, name: str, _: Computing) -> FakeEmbedder:
        if name == "none":
            raise NotFoundError("model", name, fix="name another")
        self.loaded.append(FakeEmbedder(name, 2 * DIMENSION if name == "wide" else DIMENSION))
        return self.loaded[-1]


def load_with(monkeypatch: pytest.MonkeyPatch, load: Callable[[str, Computing], FakeEmbedder]) -> None:
    """Let the commands that index and reindex load their encoder by `load`."""
    for module in (indexing, maintaining):
        monkeypatch.setattr(module, "load_embedder", load)
