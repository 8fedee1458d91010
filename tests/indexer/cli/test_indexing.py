"""`index`: what it prints, where, its exit codes, and the settings that it takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from indexer.cli import console
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.store.locks import exclusive_run
from recommender.encoding.embedder import Computing
from tests.building import FakeEmbedder, open_archive
from tests.indexer.cli.running import Invoke, article, failed, load_with, write


def test_index_sums_up_and_exits_with_0(invoke: Invoke, embedder: FakeEmbedder, tmp_path: Path) -> None:
    """Where there is no terminal, the summary is all that is printed; the second run embeds nothing."""
    path = write(tmp_path / "a.jsonl", article("a"), article("b"))
    first = invoke("--data-dir", "data", "index", path)
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.splitlines()[0] == "2 records: 2 added, 0 changed, 0 unchanged"
    assert first.stdout.splitlines()[-1] == "index: data"
    embedded = embedder.texts
    second = invoke("--data-dir", "data", "index", path)
    assert (second.exit_code, second.stderr) == (0, "")
    assert second.stdout.splitlines()[0] == "2 records: 0 added, 0 changed, 2 unchanged"
    assert embedder.texts == embedded == 2


def test_index_reports_refused_records_and_exits_with_3(invoke: Invoke, embedder: FakeEmbedder, tmp_path: Path) -> None:
    """The reasons go to standard error, one line each; the rest is indexed."""
    path = write(tmp_path / "a.jsonl", article("a"), "{", article("b", published_at="soon"))
    result = invoke("index", path)
    assert result.exit_code == console.EXIT_SOME_REFUSED == 3
    assert result.stderr.splitlines() == [
        f"refused {path}:2: is not valid JSON: EOF while parsing an object at column 1; write one object a line",
        f"refused {path}:3: published_at: cannot read 'soon' as a time"
        " (use RFC 3339 with a zone, such as 2026-03-01T12:00:00Z)",
    ]
    assert result.stdout.splitlines()[0] == "3 records: 1 added, 0 changed, 0 unchanged, 2 refused"
    assert embedder.texts == 1


@pytest.mark.usefixtures("embedder")
def test_index_strict_stops_and_exits_with_1(invoke: Invoke, tmp_path: Path) -> None:
    """The record that stopped it is named on standard error, and there is no summary."""
    path = write(tmp_path / "a.jsonl", article("a"), "{", article("b"))
    result = invoke("index", "--strict", path)
    reason = "is not valid JSON: EOF while parsing an object at column 1; write one object a line"
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"refused {path}:2: {reason}",
        f"stopped: {path}:2: {reason} (fix the record, or run without --strict)",
    ]


@pytest.mark.parametrize(("bad", "code"), [((), 0), (("{",), 3)], ids=["all good", "one refused"])
def test_index_json_is_one_object_on_standard_output(
    invoke: Invoke, embedder: FakeEmbedder, tmp_path: Path, bad: tuple[str, ...], code: int
) -> None:
    """A program reads the counts from standard output and the outcome from the exit code."""
    result = invoke("index", "--json", write(tmp_path / "a.jsonl", article("a"), *bad))
    assert result.exit_code == code
    values = json.loads(result.stdout)
    assert (values["read"], values["added"], values["refused"]) == (1 + len(bad), 1, len(bad))
    assert Path(values["snapshot"]).parent == Path("data") / SNAPSHOTS
    assert embedder.texts == 1


def test_index_takes_its_settings_from_the_file_and_the_environment(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings give the model, how it computes, and site and language of records; --data-dir overrides the file."""
    (tmp_path / "related-news.toml").write_text(
        'data_dir = "unused"\n[model]\nname = "ours"\nprecision = "float32"\ndevice = "cpu"\n'
        '[index]\nsite = "courier.example"\n'
    )
    monkeypatch.setenv("RELATED_NEWS_MODEL__THREADS", "3")
    monkeypatch.setenv("RELATED_NEWS_INDEX__LANGUAGE", "de")
    loaded: list[tuple[object, ...]] = []

    def load(name: str, computing: Computing) -> FakeEmbedder:
        loaded.append((name, computing))
        return FakeEmbedder()

    load_with(monkeypatch, load)
    path = write(tmp_path / "a.jsonl", article("a", language=None), article("b", site="else.example"))
    assert invoke("--data-dir", "data", "index", path).exit_code == 0
    assert loaded == [("ours", Computing("float32", "cpu", 3))]
    assert not (tmp_path / "unused").exists()
    store, _ = open_archive(tmp_path / "data")
    stored = store.get_many(["a", "b"])
    store.close()
    assert {i: (a.labels.site, a.labels.language) for i, a in stored.items()} == {
        "a": ("courier.example", "de"),
        "b": ("else.example", "en"),
    }


def test_index_brings_withdrawn_articles_back_only_when_told(
    invoke: Invoke, embedder: FakeEmbedder, tmp_path: Path
) -> None:
    """The summary names the option that does it."""
    path = write(tmp_path / "a.jsonl", article("a"), article("b"))
    invoke("index", path)
    store, _ = open_archive(tmp_path / "data", embedder)
    store.delete(["a"])
    store.close()
    assert invoke("index", path).stdout.splitlines()[0] == (
        "2 records: 0 added, 0 changed, 1 unchanged, 1 skipped as withdrawn (--restore-withdrawn brings them back)"
    )
    assert invoke("index", path, "--restore-withdrawn").stdout.splitlines()[0] == (
        "2 records: 1 added, 0 changed, 1 unchanged"
    )


def test_index_beside_another_run_is_refused(invoke: Invoke, embedder: FakeEmbedder, tmp_path: Path) -> None:
    """The process that writes is named before anything is loaded or read."""
    path = write(tmp_path / "a.jsonl", article("a"))
    with exclusive_run(tmp_path / "data"):
        line = failed(invoke("index", path))
    assert re.fullmatch(
        r"error: data: another indexing run \(process \d+\) is writing here \(wait for it, or end it\)", line
    )
    assert embedder.texts == 0


def test_index_with_another_model_is_refused_by_name(
    invoke: Invoke, embedder: FakeEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model that the index was made with and the configured one are both named."""
    path = write(tmp_path / "a.jsonl", article("a"))
    assert invoke("index", path).exit_code == 0
    other = FakeEmbedder("other")
    load_with(monkeypatch, lambda *_, **__: other)
    assert failed(invoke("index", path)) == (
        f"error: data/{STORE_FILE} was indexed with {embedder.info.key}, the configured model is {other.info.key}"
        " (unset model.name, or run `related-news reindex` to change the model)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jsonl"], "unknown file 'missing.jsonl' (check the path)"),
        (["a.jsonl", "--format", "pdf"], "format: 'pdf' is unknown (use one of them: jsonl (JSON Lines, one article"),
        (["empty"], "path: cannot tell the format of empty (name one of them: jsonl (JSON Lines, one article a line"),
        (["a.jsonl/x"], "unknown file 'a.jsonl/x' (check the path)"),
    ],
    ids=["missing", "unknown format", "empty folder", "below a file"],
)
def test_index_of_what_is_no_source_says_what_to_do(
    invoke: Invoke, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """One line is printed on standard error before a model is loaded or a data folder made."""
    write(tmp_path / "a.jsonl", article("a"))
    (tmp_path / "empty").mkdir()
    assert failed(invoke("--data-dir", "data", "index", *arguments)).startswith(f"error: {message}")
    assert not (tmp_path / "data").exists()


def test_index_into_a_folder_that_is_none_says_so(invoke: Invoke, tmp_path: Path) -> None:
    """The data folder is named with the system's reason."""
    path = write(tmp_path / "a.jsonl", article("a"))
    assert failed(invoke("--data-dir", path, "index", path)) == (
        f"error: {path}: cannot be written: File exists (make data_dir writable for this user, or choose another)"
    )
