"""`reindex`, `backup` and `restore`: what they print, and what they refuse."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.store.locks import exclusive_run
from recommender.catalog.store.store import encoders_of
from tests.building import FakeEmbedder
from tests.indexer.cli.running import Invoke, Models, failed


def test_reindex_moves_to_another_model_and_back(invoke: Invoke, indexed: Path, models: Models) -> None:
    """A few lines say what was done and how to undo it."""
    moved = invoke("--data-dir", indexed, "reindex", "--model", "wide")
    assert (moved.exit_code, moved.stderr) == (0, "")
    first, second, third = moved.stdout.splitlines()
    assert re.fullmatch(r"2 articles embedded in \d+\.\d s", first)
    wide, fake = (FakeEmbedder(name).info.key for name in ("wide", "fake"))
    assert second == f"the index is of {wide}, before of {fake}"
    assert third == "0 running services take it up now; `related-news reindex --back` goes back"
    back = invoke("--data-dir", indexed, "reindex", "--back")
    assert back.stdout.splitlines()[1] == f"the index is of {fake}, before of {wide}"
    assert [embedder.info.name for embedder in models.loaded] == ["wide", "fake"]


def test_reindex_without_a_model_says_that_nothing_was_switched(invoke: Invoke, indexed: Path) -> None:
    """The output has two lines, none about going back."""
    done = invoke("--data-dir", indexed, "reindex")
    assert [line.split(" in ")[0] for line in done.stdout.splitlines()] == [
        "0 articles embedded",
        f"the index is of {FakeEmbedder().info.key}",
    ]


def test_reindex_json_is_one_object_on_standard_output(invoke: Invoke, indexed: Path) -> None:
    """With --no-switch the index is of the model that it was of."""
    values = json.loads(invoke("--data-dir", indexed, "reindex", "--model", "wide", "--no-switch", "--json").stdout)
    assert (values.pop("seconds") >= 0, Path(values.pop("snapshot")).parent) == (True, indexed / SNAPSHOTS)
    key = FakeEmbedder().info.key
    assert values == {"before": key, "now": key, "embedded": 2, "services": 0}


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        pytest.param(
            ("--back", "--model", "wide"),
            {},
            "--back: and --model exclude each other (give one of the two)",
            id="two at once",
        ),
        pytest.param(
            ("--back",),
            {},
            "unknown model before '{data}' (there was no switch yet; name a model with --model)",
            id="nothing to go back to",
        ),
        pytest.param(("--model", "none"), {}, "unknown model 'none' (name another)", id="no such model"),
        pytest.param(
            ("--model", "wide"),
            {"RELATED_NEWS_MODEL__NAME": "fake"},
            "model.name: is set to fake: the next start would refuse an index of wide"
            " (unset it; the index remembers its model)",
            id="another one in the settings",
        ),
    ],
)
def test_a_reindex_that_makes_no_sense_is_one_clear_line(
    invoke: Invoke,
    indexed: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    variables: dict[str, str],
    expected: str,
) -> None:
    """Nothing is done, and the index is what it was."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert failed(invoke("--data-dir", indexed, "reindex", *arguments)) == f"error: {expected.format(data=indexed)}"
    assert encoders_of(indexed / STORE_FILE) == (FakeEmbedder().info.key, None)


def test_reindex_beside_another_run_is_refused(invoke: Invoke, indexed: Path) -> None:
    """Only one indexing or reindexing run works on a folder at a time."""
    with exclusive_run(indexed):
        line = failed(invoke("--data-dir", indexed, "reindex", "--model", "wide"))
    assert line.startswith(f"error: {indexed}: another indexing run (process {os.getpid()}) is writing here")


def test_the_model_of_the_settings_may_be_the_one_that_is_moved_to(
    invoke: Invoke, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that the settings name already may be named again by --model."""
    monkeypatch.setenv("RELATED_NEWS_MODEL__NAME", "wide")
    assert invoke("--data-dir", indexed, "reindex", "--model", "wide").exit_code == 0


def test_a_backup_is_made_and_restored(invoke: Invoke, indexed: Path, tmp_path: Path) -> None:
    """A line each says how much there is, and where; an index is not written over."""
    made = invoke("--data-dir", indexed, "backup", tmp_path / "copy")
    assert (made.exit_code, made.stdout) == (0, f"2 articles at revision 2 written to {tmp_path / 'copy'}\n")
    again = invoke("--data-dir", tmp_path / "new", "restore", tmp_path / "copy")
    assert (again.exit_code, again.stdout) == (0, f"2 articles at revision 2 restored to {tmp_path / 'new'}\n")
    assert failed(invoke("--data-dir", indexed, "restore", tmp_path / "copy")) == (
        f"error: {indexed}: has an index already (choose another data_dir, or remove it)"
    )
    assert failed(invoke("--data-dir", tmp_path / "nothing", "backup", tmp_path / "other")) == (
        f"error: unknown data folder '{tmp_path / 'nothing'}' (run `related-news index ARTICLES` first)"
    )
