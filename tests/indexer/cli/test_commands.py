"""The command line: help, exit codes, what goes to which stream, and every command against a real server process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from google.protobuf import json_format
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from rich.console import Console
from typer.testing import CliRunner, Result

from indexer.cli import commands, evaluation
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.locks import exclusive_run
from recommender.catalog.store.store import encoders_of
from recommender.encoding.embedder import Computing
from recommender.errors import NotFoundError, UnavailableError
from recommender.rpc.statuses import abortable
from tests import building
from tests.building import DIMENSION, FakeEmbedder, build_store, open_archive
from tests.newsroom import PAGE, newsroom
from tests.service.client import TIMEOUT_S
from tests.service.messages import draft
from tests.service.servers import ROOT, Served, environment, fake_server, served

WIDTH = 120
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
NOBODY = "127.0.0.1:1"
"""An address at which no service listens."""
FIX = "start one with `related-news serve`, or give --address"


class Invoke(Protocol):
    """Runs the command line in this process, on consoles of a known width."""

    def __call__(self, *arguments: str | Path) -> Result: ...


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Return a caller of the command line in an empty working folder, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    monkeypatch.setattr(commands, "out", Console(width=WIDTH))
    monkeypatch.setattr(commands, "err", Console(width=WIDTH, stderr=True))
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str | Path) -> Result:
        return CliRunner().invoke(commands.app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> FakeEmbedder:
    """Return the encoder that commands in this process load."""
    fake = FakeEmbedder()
    monkeypatch.setattr(commands, "load_embedder", lambda *_, **__: fake)
    return fake


def failed(result: Result) -> str:
    """Return the only line of a command that must have failed with exit code 1, and printed nothing else."""
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    return str(line)


# Help


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
    """Both are usage errors, exit code 2."""
    nothing = invoke()
    assert nothing.exit_code == 2
    assert "Commands" in nothing.output
    misspelt = invoke("serv")
    assert misspelt.exit_code == 2
    assert "Did you mean 'serve'?" in misspelt.stderr


# index


def article(id: str, **changes: Any) -> dict[str, Any]:
    """Return one record of a JSON Lines file."""
    return {"id": id, "title": f"Title {id}", "published_at": "2026-03-01T12:00:00Z", "language": "en", **changes}


def write(path: Path, *records: dict[str, Any] | str) -> Path:
    """Write a JSON Lines file; a string is a line as it is."""
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


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
    assert result.exit_code == commands.EXIT_SOME_REFUSED == 3
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


def test_json_is_never_coloured(
    invoke: Invoke, embedder: FakeEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where FORCE_COLOR is set: programs read it all the same."""
    monkeypatch.setattr(commands, "out", Console(force_terminal=True))
    path = write(tmp_path / "a.jsonl", article("a"))
    assert json.loads(invoke("index", path, "--json").stdout)["added"] == embedder.texts == 1
    assert json.loads(invoke("reindex", "--json").stdout)["embedded"] == 0


def test_index_takes_its_settings_from_the_file_and_the_environment(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model and how it computes, and the site and language of records that name none; --data-dir wins over the file."""
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

    monkeypatch.setattr(commands, "load_embedder", load)
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
    monkeypatch.setattr(commands, "load_embedder", lambda *_, **__: other)
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
    """One line on standard error, exit code 1, before a model is loaded or a data folder made."""
    write(tmp_path / "a.jsonl", article("a"))
    (tmp_path / "empty").mkdir()
    assert failed(invoke("--data-dir", "data", "index", *arguments)).startswith(f"error: {message}")
    assert not (tmp_path / "data").exists()


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
    """As a folder that may not be entered would be: the path and the system's reason, no stack trace."""
    monkeypatch.setattr(evaluation, "load_embedder", models)
    assert failed(invoke(*arguments)) == f"error: {TOO_LONG}: File name too long"


def test_index_into_a_folder_that_is_none_says_so(invoke: Invoke, tmp_path: Path) -> None:
    """The data folder is named with the system's reason."""
    path = write(tmp_path / "a.jsonl", article("a"))
    assert failed(invoke("--data-dir", path, "index", path)) == (
        f"error: {path}: cannot be written: File exists (make data_dir writable for this user, or choose another)"
    )


def test_words_between_colons_are_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place such as news.jsonl:100: is printed as it is, on either stream and where there is no terminal."""
    place = "news.jsonl:100: id"
    for console in (commands.out, commands.err):
        with console.capture() as captured:
            console.print(place)
        assert captured.get() == f"{place}\n"
    printed = StringIO()
    monkeypatch.setattr(commands, "out", Console(file=printed))
    commands._print_table(place)
    assert printed.getvalue() == f"{place}\n"


# settings


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


# Commands that ask a service


ASKING = {
    "status": ["status"],
    "related": ["related", PAGE],
    "page": ["page", PAGE],
    "delete": ["delete", PAGE],
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the made-up newsroom in a process of its own, for tests that change nothing."""
    with newsroom_server(tmp_path_factory.mktemp("newsroom")) as server:
        yield server


def newsroom_server(folder: Path) -> Any:
    """Return a server process on a new index of the made-up newsroom."""
    store = build_store(folder, newsroom())
    write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return served(fake_server(folder))


@pytest.mark.parametrize("arguments", ASKING.values(), ids=ASKING)
def test_without_a_service_the_address_and_the_remedy_are_named(invoke: Invoke, arguments: list[str]) -> None:
    """One line on standard error, exit code 1."""
    line = failed(invoke(*arguments, "--address", NOBODY))
    assert line.startswith("error: no service answers: ")
    assert NOBODY in line
    assert line.endswith(f"({FIX})")


@pytest.mark.slow
def test_the_address_is_that_of_the_settings_by_default(
    invoke: Invoke, service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --address the configured host and port are asked."""
    monkeypatch.setenv("RELATED_NEWS_SERVER__PORT", "1")
    assert f"ipv4:{NOBODY}" in failed(invoke("status"))
    monkeypatch.setenv("RELATED_NEWS_SERVER__PORT", service.client.address.split(":")[1])
    assert invoke("status").exit_code == 0


@pytest.mark.slow
def test_status_is_a_table_or_json(invoke: Invoke, service: Served) -> None:
    """Both have what the service says."""
    shown = invoke("status", "--address", service.client.address)
    assert (shown.exit_code, shown.stderr) == (0, "")
    cells = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in shown.stdout.splitlines())
    assert cells["articles"] == "40"
    assert cells["revision"] == "40 applied, 40 stored"
    assert cells["model"] == FakeEmbedder().info.key
    printed = invoke("status", "--json", "--address", service.client.address)
    assert (printed.exit_code, printed.stderr) == (0, "")
    answer = json_format.Parse(printed.stdout, articles_pb.GetIndexStatusResponse())
    assert (answer.article_count, answer.model, list(answer.layouts)) == (40, cells["model"], ["default"])


@pytest.mark.slow
@pytest.mark.parametrize(("options", "count"), [([], 10), (["-k", "3"], 3), (["-k", "100"], 39)])
def test_related_lists_so_many(invoke: Invoke, service: Served, options: list[str], count: int) -> None:
    """Ten by default, as many as asked, never more than there are; the table and the JSON have the same ids."""
    asked = ["related", PAGE, *options, "--address", service.client.address]
    printed = invoke(*asked, "--json")
    assert (printed.exit_code, printed.stderr) == (0, "")
    answer = json_format.Parse(printed.stdout, related_pb.ListRelatedResponse())
    ids = [link.article.id for link in answer.recommendations]
    assert len(ids) == len(set(ids)) == count
    assert PAGE not in ids
    table = invoke(*asked)
    assert table.exit_code == 0
    rows, receipt = table.stdout.split("revision ")
    assert re.findall(r"(\w+-\d) *$", rows, re.MULTILINE) == ids
    assert receipt.startswith(f"40, 40 candidates seen, {answer.receipt.ranker}\n")


@pytest.mark.slow
def test_where_there_is_no_terminal_a_row_is_one_line(
    invoke: Invoke, service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program reads is neither wrapped nor cut, however narrow a terminal would be."""
    monkeypatch.setattr(commands, "out", Console(width=40))
    lines = invoke("related", PAGE, "-k", "3", "--address", service.client.address).stdout.splitlines()
    assert [bool(re.fullmatch(r" \d\.\d\d .* \w+-\d *", line)) for line in lines[1:4]] == [True] * 3
    assert lines[4].startswith("revision 40")
    assert FakeEmbedder().info.key in invoke("status", "--address", service.client.address).stdout


@pytest.mark.slow
@pytest.mark.parametrize("k", ["-5", "-1", "0", "101", "1000000", "99999999999999999999"])
def test_related_with_k_out_of_range_says_the_range(invoke: Invoke, service: Served, k: str) -> None:
    """The number is repeated as it was given, however large or small."""
    line = failed(invoke("related", PAGE, "-k", k, "--address", service.client.address))
    assert line == f"error: k: is {k} (ask for 1 to 100)"


def test_related_with_k_that_is_no_number_is_a_usage_error(invoke: Invoke) -> None:
    """Exit code 2, before anything is asked."""
    result = invoke("related", PAGE, "-k", "many", "--address", NOBODY)
    assert result.exit_code == 2
    assert "Invalid value for '-k'" in result.stderr


@pytest.mark.slow
def test_page_shows_the_text_with_both_slots_and_reasons(invoke: Invoke, service: Served) -> None:
    """Two links stand between paragraphs and three at the end, each with score and reason; JSON has the same plan."""
    asked = ["page", PAGE, "--address", service.client.address]
    shown = invoke(*asked)
    assert (shown.exit_code, shown.stderr) == (0, "")
    text = shown.stdout
    assert text.count("Related News: ") == 2
    assert text.count("Read More:") == 1
    assert len(re.findall(r"[01]\.\d\d  same story: \w+, \w+, \w+; \d+ days older", text)) == 5
    printed = invoke(*asked, "--json")
    assert (printed.exit_code, printed.stderr) == (0, "")
    plan = json_format.Parse(printed.stdout, related_pb.PagePlan())
    assert [slot.name for slot in plan.slots] == ["related_news", "read_more"]
    titles = [place.recommendation.article.title for slot in plan.slots for place in slot.places]
    assert len(titles) == 5
    assert sorted(titles, key=text.index) == [
        *(place.recommendation.article.title for place in plan.slots[0].places),
        *(place.recommendation.article.title for place in plan.slots[1].places),
    ]


@pytest.mark.slow
def test_a_draft_in_a_file_gets_links_like_a_stored_page(invoke: Invoke, service: Served, tmp_path: Path) -> None:
    """Any file that could be indexed is a draft; its own text is shown around the links."""
    like = draft(title="A harbour that was never indexed")
    record = article("x", title=like.title, summary=like.summary, paragraphs=[p.text for p in like.paragraphs])
    path = write(tmp_path / "draft.jsonl", record)
    shown = invoke("page", "--draft", path, "--address", service.client.address)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "A harbour that was never indexed" in shown.stdout
    assert shown.stdout.count("Related News: ") == 2
    printed = invoke("related", "--draft", path, "-k", "3", "--json", "--address", service.client.address)
    answer = json_format.Parse(printed.stdout, related_pb.ListRelatedResponse())
    assert [link.article.section for link in answer.recommendations] == ["harbour"] * 3


REFUSED: dict[str, tuple[list[str], str]] = {
    "unknown id": (
        ["related", "nobody"],
        "NOT_FOUND: unknown article 'nobody' (upsert it first, or send the page as a draft)",
    ),
    "unknown layout": (
        ["page", PAGE, "--layout", "wide"],
        "NOT_FOUND: unknown layout 'wide' (use one of: default; or give a layout inline)",
    ),
    "empty id": (["page", ""], "INVALID_ARGUMENT: article_id: is empty (send the article's id)"),
    "long id": (
        ["related", "x" * 10_000],
        "INVALID_ARGUMENT: article_id: is 10,000 bytes long; at most 512 (use a shorter id)",
    ),
    "empty id to delete": (["delete", ""], "INVALID_ARGUMENT: ids[0]: is empty (send the article's id)"),
    "id that is not UTF-8": (["related", "\udcff[b]"], "'\\udcff[b]' is not UTF-8"),
    "layout that is not UTF-8": (["page", PAGE, "--layout", "\udcff"], "'\\udcff' is not UTF-8"),
    "deleted id that is not UTF-8": (["delete", "\udcff"], "'\\udcff' is not UTF-8"),
    "neither id nor draft": (["related"], "page: is not clear (give either an article id or --draft FILE)"),
    "both id and draft": (
        ["page", PAGE, "--draft", "good.jsonl"],
        "page: is not clear (give either an article id or --draft FILE)",
    ),
    "missing draft": (["page", "--draft", "missing.jsonl"], "unknown file 'missing.jsonl' (check the path)"),
    "unreadable draft": (
        ["related", "--draft", "bad.jsonl"],
        "bad.jsonl: holds no readable article: bad.jsonl:1: is not valid JSON: EOF while parsing an object at column 1;"
        " write one object a line (give one that `related-news index` can read)",
    ),
    "empty draft": (
        ["page", "--draft", "empty.jsonl"],
        "INVALID_ARGUMENT: draft.title: title, summary and paragraphs are all empty (send at least one of them)",
    ),
    "undated draft": (
        ["page", "--draft", "undated.jsonl"],
        "published_at: '2026-03-01' has no time zone (use RFC 3339 with a zone, such as 2026-03-01T12:00:00Z)",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_is_one_clear_line(
    invoke: Invoke, service: Served, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Exit code 1, nothing on standard output, and the reason with its remedy, not a stack trace."""
    write(tmp_path / "good.jsonl", article("x"))
    write(tmp_path / "bad.jsonl", "{")
    write(tmp_path / "empty.jsonl", article("x", title=""))
    write(tmp_path / "undated.jsonl", article("x", published_at="2026-03-01"))
    assert failed(invoke(*arguments, "--address", service.client.address)) == f"error: {message}"


@pytest.mark.slow
def test_delete_withdraws_and_says_what_was_not_there(invoke: Invoke, tmp_path: Path) -> None:
    """Exit code 0 if all were there, else 3; an id that looks like markup is printed as it is; no answer has them."""
    with newsroom_server(tmp_path) as server:
        at = ["--address", server.client.address]
        both = invoke("delete", "harbour-1", "harbour-2", *at)
        assert (both.exit_code, both.stdout) == (0, "harbour-1: withdrawn\nharbour-2: withdrawn\n")
        again = invoke("delete", "harbour-3", "harbour-1", "[red]x", *at)
        assert (again.exit_code, again.stderr) == (3, "")
        assert again.stdout == "harbour-3: withdrawn\nharbour-1: not there\n[red]x: not there\n"
        printed = invoke("related", PAGE, "-k", "100", "--json", *at)
        ids = {link["article"]["id"] for link in json.loads(printed.stdout)["recommendations"]}
        assert len(ids) == 36
        assert ids.isdisjoint({"harbour-1", "harbour-2", "harbour-3"})


def test_a_service_that_cannot_answer_now_is_not_taken_for_none(invoke: Invoke) -> None:
    """UNAVAILABLE with the service's own words is shown as those words, without the advice to start a service."""

    def busy(request: articles_pb.GetIndexStatusRequest, context: grpc.ServicerContext) -> None:
        code, details, metadata = abortable(UnavailableError("the store is busy", fix="try again"))
        context.set_trailing_metadata(metadata)
        context.abort(code, f"{details} {request}".strip())

    method = grpc.unary_unary_rpc_method_handler(
        busy, articles_pb.GetIndexStatusRequest.FromString, articles_pb.GetIndexStatusResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler("related_news.v1.ArticleService", {"GetIndexStatus": method})
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        line = failed(invoke("status", "--address", f"127.0.0.1:{port}"))
    finally:
        server.stop(None).wait()
    assert line == "error: UNAVAILABLE: the store is busy (try again)"


# reindex, backup, restore


class Models:
    """The encoders that commands in this process load, by name; "none" there is not."""

    def __init__(self) -> None:
        self.loaded: list[FakeEmbedder] = []

    def __call__(self, name: str, _: Computing) -> FakeEmbedder:
        if name == "none":
            raise NotFoundError("model", name, fix="name another")
        self.loaded.append(FakeEmbedder(name, 2 * DIMENSION if name == "wide" else DIMENSION))
        return self.loaded[-1]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    """Return the encoders, of which "fake" is the one that `indexed` is made with."""
    models = Models()
    monkeypatch.setattr(commands, "load_embedder", models)
    return models


@pytest.fixture
def indexed(tmp_path: Path, models: Models) -> Path:
    """Return a data folder with two articles."""
    store = build_store(tmp_path / "data", [building.article(id, title=id) for id in "ab"])
    write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION)
    store.close()
    assert models.loaded == []
    return store.path.parent


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
    """Two lines: there is nothing to go back from."""
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
    """One indexing or reindexing run at a time."""
    with exclusive_run(indexed):
        line = failed(invoke("--data-dir", indexed, "reindex", "--model", "wide"))
    assert line.startswith(f"error: {indexed}: another indexing run (process {os.getpid()}) is writing here")


def test_the_model_of_the_settings_may_be_the_one_that_is_moved_to(
    invoke: Invoke, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has set it already says the same twice."""
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


# Processes


FAKE_CLI = """
import os
import sys
import indexer.cli.commands
from recommender.processes import supervisor
from tests.building import FakeEmbedder

class Halting(FakeEmbedder):
    def encode(self, texts):
        if any("halt" in text for text in texts):
            print("halted", flush=True)
            input()
        return super().encode(texts)

indexer.cli.commands.load_embedder = lambda *_, **__: Halting()
real = supervisor.Commands
supervisor.Commands = lambda: real(encoder=(sys.executable, "-m", "tests.service.fake_encoder"))
indexer.cli.commands.main()
"""
"""The command line on a fake encoder, which waits for a line on standard input when a text says "halt"."""


def command(*arguments: str | Path) -> list[str]:
    """Return the command that runs FAKE_CLI."""
    return [sys.executable, "-c", FAKE_CLI, *map(str, arguments)]


def ran(*arguments: str | Path, code: int = 0) -> str:
    """Run FAKE_CLI to its end, which must come with an exit code and silence on standard error."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=TIMEOUT_S
    )
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


@pytest.mark.slow
def test_from_a_file_to_a_page_in_processes_of_their_own(tmp_path: Path) -> None:
    """index, serve and page as a user runs them; SIGTERM ends the service with exit code 0."""
    made = [draft(section, title=f"Title {section} {n}") for n in range(3) for section in ("harbour", "orchards")]
    records = [
        article(f"a{n}", title=d.title, paragraphs=[p.text for p in d.paragraphs], site="s", section=d.section)
        for n, d in enumerate(made)
    ]
    data = ["--data-dir", str(tmp_path / "data")]
    assert ran(*data, "index", write(tmp_path / "a.jsonl", *records)).startswith("6 records: 6 added")
    with served(command(*data, "serve", "--port", "0")) as server:
        printed = ran("page", "a0", "--json", "--address", server.client.address)
        plan = json_format.Parse(printed, related_pb.PagePlan())
        assert plan.receipt.candidates_seen == 6
        assert server.end() == 0
        assert server.process.stderr is not None
        assert "recommender.processes.supervisor: draining" in server.process.stderr.read()


@pytest.mark.slow
def test_verbose_logs_what_we_do_not_what_libraries_do(tmp_path: Path) -> None:
    """With -v a run tells on standard error what it passes over in silence else; the parsers' own logs stay out."""
    (tmp_path / "feed.xml").write_text(
        "<rss><channel><item><guid>1</guid><title>a & b</title><pubDate>2 Jan 2026 03:04 GMT</pubDate></item></channel>"
        "</rss>"
    )
    (tmp_path / "page.html").write_text(f"<html><body>{'<p>The pilots met again on Monday.</p>' * 9}</body></html>")
    arguments = ["--data-dir", str(tmp_path / "data"), "-v", "index"]
    runs = [
        subprocess.run(
            command(*arguments, tmp_path / name), capture_output=True, text=True, cwd=ROOT, env=environment()
        ).stderr
        for name in ("feed.xml", "page.html")
    ]
    assert "INFO indexer.sources.feed: " in runs[0]
    logged = [line for run in runs for line in run.splitlines() if not line.startswith("refused ")]
    assert {line.split()[3].split(".")[0] for line in logged} == {"indexer"}


INTERRUPTED = """
import sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from indexer.__main__ import main
main()
"""
"""The command line, interrupted while it loads."""


@pytest.mark.slow
def test_ctrl_c_while_the_command_line_loads_ends_it_quietly() -> None:
    """SIGINT in the first moments of a command is no stack trace either; the installed command starts there, too."""
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"related-news": "indexer.__main__:main"}


@pytest.mark.slow
def test_serve_on_a_folder_without_an_index_says_what_to_do(tmp_path: Path) -> None:
    """Exit code 1 and one line, after the log."""
    done = subprocess.run(
        command("--data-dir", tmp_path, "serve", "--port", "0"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stdout) == (1, "")
    expected = NotFoundError("data folder", str(tmp_path), fix="run `related-news index ARTICLES` first")
    assert done.stderr.splitlines()[-1] == f"error: {expected}"


@pytest.mark.slow
def test_ctrl_c_ends_an_indexing_run_with_130_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """SIGINT while a batch is being embedded: one line, no stack trace, and what was stored is not embedded again."""
    (tmp_path / "one.toml").write_text("[index]\nbatch_articles = 1\n")
    path = write(tmp_path / "a.jsonl", *(article(id, title=f"{id} halts" if id == "d" else id) for id in "abcdef"))
    arguments = ["--config", f"{tmp_path}/one.toml", "--data-dir", f"{tmp_path}/data", "index", str(path)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    heeded = ["env", "--default-signal=INT", *command(*arguments)]  # a shell's background job ignores it
    with subprocess.Popen(heeded, text=True, cwd=ROOT, env=environment(), **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "halted\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate("go on\n", timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (130, "", "interrupted; run it again to go on\n")
    write(path, *(article(id) | {"title": f"{id} ends" if id == "d" else id} for id in "abcdef"))
    values = json.loads(ran(*arguments, "--json"))
    assert values["unchanged"] >= 2
    assert values["added"] + values["changed"] + values["unchanged"] == 6
