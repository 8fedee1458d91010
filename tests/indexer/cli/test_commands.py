"""The command line: help, settings, and what holds for every command."""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from indexer.cli import console, evaluation
from tests.building import FakeEmbedder
from tests.indexer.cli.running import Invoke, Models, article, failed, write

COMMANDS = {
    "index": ("--format", "--strict", "--restore-withdrawn", "--json", "Exit code: 0 all records are in; 3 done"),
    "serve": ("--host", "--port"),
    "related": ("--draft", "-k", "--json", "--address"),
    "page": ("--draft", "--layout", "--json", "--address"),
    "status": ("--json", "--address"),
    "delete": ("--address", "Exit code 3 if one was not there."),
    "evaluate": ("--links", "--articles", "--near-duplicates", "--ranker", "--cross-fit", "--cache", "--json"),
    "fit": ("--links", "--articles", "--to", "--cache", "--json"),
    "reindex": ("--model", "--back", "--no-switch", "--json"),
    "backup": ("Copy the index as it is at this moment",),
    "restore": ("Bring a backup up in data_dir",),
    "settings": ("Print the effective settings as TOML.",),
    "demo": ("--index-only",),
}
"""Every command with what its help has to say."""


def test_the_help_lists_every_command_with_what_it_does(invoke: Invoke) -> None:
    """Every command is there with its first sentence, nothing is cut off, no line is wider than the terminal."""
    result = invoke("--help")
    assert result.exit_code == 0
    listed = re.findall(r"^│ (\w+) {2,}\w", result.stdout.split("Commands")[1], re.MULTILINE)
    assert listed == list(COMMANDS)
    assert "Fill a news page's Related News and Read More slots" in result.stdout
    assert "…" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(("command", "words"), COMMANDS.items(), ids=COMMANDS)
def test_each_command_explains_itself(invoke: Invoke, command: str, words: Sequence[str]) -> None:
    """A command's help has all of its options, whole, on a terminal of 80 columns."""
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert [word for word in words if word not in " ".join(result.stdout.split())] == []
    assert "…" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_version_is_the_package_s(invoke: Invoke) -> None:
    """`--version` prints name and version of the installed package, and needs no command."""
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"related-news {importlib.metadata.version('related-news')}\n")


def test_without_a_command_there_is_help_and_a_misspelt_one_is_put_right(invoke: Invoke) -> None:
    """Both are usage errors with exit code 2."""
    nothing = invoke()
    assert nothing.exit_code == 2
    assert "Commands" in nothing.output
    misspelt = invoke("serv")
    assert misspelt.exit_code == 2
    assert "Did you mean 'serve'?" in misspelt.stderr


def test_json_is_never_coloured(
    invoke: Invoke, embedder: FakeEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON has no colours where FORCE_COLOR is set, so that programs can read it."""
    monkeypatch.setattr(console, "out", Console(force_terminal=True))
    path = write(tmp_path / "a.jsonl", article("a"))
    assert json.loads(invoke("index", path, "--json").stdout)["added"] == embedder.texts == 1
    assert json.loads(invoke("reindex", "--json").stdout)["embedded"] == 0


TOO_LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["index", TOO_LONG],
        ["--config", TOO_LONG, "settings"],
        ["page", "--draft", TOO_LONG],
        ["evaluate", "--links", "harvested", "--articles", TOO_LONG],
        ["evaluate", "--links", TOO_LONG],
        ["backup", TOO_LONG],
    ],
    ids=["index", "settings", "draft", "articles", "links", "backup"],
)
@pytest.mark.usefixtures("indexed")
def test_a_path_that_the_system_refuses_is_one_clear_line(
    invoke: Invoke, models: Models, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """The line names the path and the system's reason, and there is no stack trace."""
    monkeypatch.setattr(evaluation, "load_embedder", models)
    assert failed(invoke(*arguments)) == f"error: {TOO_LONG}: File name too long"


def test_words_between_colons_are_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place such as news.jsonl:100: is printed as it is, on either stream and where there is no terminal."""
    place = "news.jsonl:100: id"
    for stream in (console.out, console.err):
        with stream.capture() as captured:
            stream.print(place)
        assert captured.get() == f"{place}\n"
    printed = StringIO()
    monkeypatch.setattr(console, "out", Console(file=printed))
    console.print_table(place)
    assert printed.getvalue() == f"{place}\n"


def test_settings_are_printed_as_toml_that_can_be_read_back(invoke: Invoke, tmp_path: Path) -> None:
    """The file that they come from is named; arguments are in effect; the output is a settings file itself."""
    assert invoke("settings").stdout.startswith("# from defaults and environment\n")
    first = invoke("--data-dir", "elsewhere", "-v", "settings")
    values = tomllib.loads(first.stdout)
    assert first.exit_code == 0
    assert (values["data_dir"], values["log_level"]) == ("elsewhere", "DEBUG")
    assert (values["server"]["host"], values["server"]["port"]) == ("127.0.0.1", 50051)
    assert "name" not in values["model"]
    (tmp_path / "mine.toml").write_text(first.stdout)
    second = invoke("--config", "mine.toml", "settings")
    assert second.stdout.splitlines()[0] == "# from mine.toml"
    assert tomllib.loads(second.stdout) == values


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (None, "unknown settings file 'mine.toml' (name an existing TOML file)"),
        ("[servr]\n", "mine.toml: servr: is not a setting (did you mean server?)"),
        ("[server]\nprt = 1\n", "mine.toml: server.prt: is not a setting (did you mean server.port?)"),
        (
            "[server]\nport = 70000\n",
            "mine.toml: server.port: Input should be less than or equal to 65535 (see `related-news settings`)",
        ),
    ],
    ids=["no file", "unknown section", "unknown key", "out of range"],
)
@pytest.mark.parametrize("command", ["settings", "status", "serve"])
def test_bad_settings_are_one_line_for_every_command(
    invoke: Invoke, tmp_path: Path, toml: str | None, message: str, command: str
) -> None:
    """The key is named, with the nearest known one; nothing is started."""
    if toml is not None:
        (tmp_path / "mine.toml").write_text(toml)
    assert failed(invoke("--config", "mine.toml", command)) == f"error: {message}"
