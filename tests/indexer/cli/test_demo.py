"""The demo: the sample newsroom indexed, served by a process of its own, and one page filled and explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from indexer.cli import commands, demo
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.manifest import Manifest, current_snapshot
from recommender.encoding.embedder import EMBEDDED_MODEL, Matrix, ModelInfo
from tests.building import FakeEmbedder
from tests.service.client import connected
from tests.service.servers import environment

RECORDS = 150
TIMEOUT_S = 300.0
"""Generous: the real model is loaded twice, perhaps beside other work."""


class KnownEmbedder(FakeEmbedder):
    """Stands for the model that an index was made with, and refuses to embed."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        snapshot = current_snapshot(data_dir / SNAPSHOTS)
        assert snapshot is not None
        manifest = Manifest.read(snapshot)
        name, _, rest = manifest.encoder.partition("@")
        self._info = ModelInfo(name, rest.split("/")[0], manifest.dimension, 256)
        assert self._info.key == manifest.encoder

    def encode(self, texts: Sequence[str]) -> Matrix:
        assert not texts, f"{len(texts)} texts are embedded again"
        return super().encode(texts)


def sample_ids() -> set[str]:
    """Return the ids of the sample newsroom."""
    lines = files("indexer").joinpath("sample/newsroom.jsonl").read_text("utf-8").splitlines()
    return {json.loads(line)["id"] for line in lines}


def test_the_pages_that_the_demo_names_are_in_the_sample() -> None:
    """The page that the demo shows and each one that it suggests are in the sample."""
    suggested = re.findall(r"related-news page (\S+)", demo._NEXT)
    assert len(sample_ids()) == RECORDS
    assert suggested
    assert {demo.PAGE_ID, *suggested} <= sample_ids()


def test_index_only_makes_the_index_in_the_working_folder_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No service is started; a second time all is there already and no text is embedded."""
    embedder = FakeEmbedder()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "load_embedder", lambda: embedder)
    monkeypatch.setattr(subprocess, "Popen", None)
    first = CliRunner().invoke(commands.app, ["demo", "--index-only"])
    assert first.exit_code == 0, first.output
    assert f"{RECORDS} records: {RECORDS} added, 0 changed, 0 unchanged" in first.stdout
    assert (tmp_path / ".demo" / "store.sqlite3").exists()
    embedded = embedder.texts
    second = CliRunner().invoke(commands.app, ["demo", "--index-only"])
    assert second.exit_code == 0, second.output
    assert f"{RECORDS} records: 0 added, 0 changed, {RECORDS} unchanged" in second.stdout
    assert embedder.texts == embedded > RECORDS


@pytest.mark.slow
def test_a_service_that_does_not_start_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 1, and no page is shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "load_embedder", FakeEmbedder)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = CliRunner().invoke(commands.app, ["demo"])
    assert result.exit_code == 1
    assert result.stderr == "error: the service did not start (its log is above)\n"
    assert "FillSlots" not in result.stdout


@pytest.mark.slow
def test_the_demo_ends_by_itself_with_a_filled_and_explained_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real model both slots are filled with reasons, and no service is left; a second run embeds nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "indexer", "demo"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment() | {"COLUMNS": "200"},
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    steps = (
        "1. Indexing the sample newsroom",
        "2. Serving on ",
        f"3. FillSlots for {demo.PAGE_ID}:",
        "What to try next",
    )
    assert sorted(map(text.index, steps)) == [text.index(step) for step in steps]
    assert f"{RECORDS} records: {RECORDS} added, 0 changed, 0 unchanged" in text
    page = [line.strip("│ ") for line in text.splitlines() if line.startswith("│")]
    why = r"[01]\.\d\d  [a-z, ]+: .+; (\d+ (day|month|year)s? (older|newer)|background|same day)"
    inline = [i for i, line in enumerate(page) if line.startswith("Related News: ")]
    assert len(inline) == 2
    assert all(re.fullmatch(why, page[i + 1]) for i in inline), page
    end = page[page.index("Read More:") :]
    listed = [i for i, line in enumerate(end) if line.startswith("• ")]
    assert len(listed) == 3
    assert all(re.fullmatch(why, end[i + 1]) for i in listed), end
    titles = [page[i].removeprefix("Related News: ") for i in inline] + [end[i].removeprefix("• ") for i in listed]
    assert len({page[0], *titles}) == 6
    assert "left empty" not in text

    address = re.findall(r"2\. Serving on (127\.0\.0\.1:\d+) ", text)[0]
    with connected(address) as client, pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        client.status()

    known = KnownEmbedder(tmp_path / ".demo")
    assert known.info.name == EMBEDDED_MODEL
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "load_embedder", lambda: known)
    again = CliRunner().invoke(commands.app, ["demo", "--index-only"])
    assert again.exit_code == 0, again.output
    assert f"{RECORDS} records: 0 added, 0 changed, {RECORDS} unchanged" in again.stdout
