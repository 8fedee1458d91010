"""The command line in processes of its own: a whole day from file to page, signals, and logs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.errors import NotFoundError
from tests import ROOT
from tests.indexer.cli.running import article, write
from tests.service.client import TIMEOUT_S
from tests.service.messages import draft
from tests.service.servers import environment, served

FAKE_CLI = """
import os
import sys
import indexer.cli.commands
from indexer.cli.commands import indexing
from recommender.processes import supervisor
from tests.building import FakeEmbedder

class Halting(FakeEmbedder):
    def encode(self, texts):
        if any("halt" in text for text in texts):
            print("halted", flush=True)
            input()
        return super().encode(texts)

indexing.load_embedder = lambda *_, **__: Halting()
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
    """index, serve and page work as a user runs them; SIGTERM ends the service with exit code 0."""
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
    """With -v a run logs to standard error what it skips silently otherwise; the parsers' own logs are left out."""
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
    assert re.search(r"INFO \d+ indexer\.sources\.feed: ", runs[0])
    logged = [line for run in runs for line in run.splitlines() if not line.startswith("refused ")]
    assert {line.split()[4].split(".")[0] for line in logged} == {"indexer"}


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
    """SIGINT in the first moments of a command prints no stack trace; the installed command starts there, too."""
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"related-news": "indexer.__main__:main"}


LISTING = """
import sys
from indexer.__main__ import main

codes = []
for arguments in (["--help"], ["page", "a", "--address", "127.0.0.1:1"], ["status", "--address", "127.0.0.1:1"]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
print(codes, sorted({"torch", "sklearn", "lightgbm", "trafilatura"} & sys.modules.keys()))
"""
"""The help and two questions to no service; prints the exit codes and the slow libraries that were imported."""


@pytest.mark.slow
def test_commands_without_a_model_do_not_import_slow_libraries() -> None:
    """Help and the questions to a service answer without the seconds that torch takes to import."""
    command = [sys.executable, "-c", LISTING]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=3 * TIMEOUT_S)
    assert done.stdout.splitlines()[-1] == "[0, 1, 1] []", done.stderr


@pytest.mark.slow
def test_serve_on_a_folder_without_an_index_says_what_to_do(tmp_path: Path) -> None:
    """The command exits with 1 and prints one line after the log."""
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
    """SIGINT while a batch is embedded prints one line, and what was stored is not embedded again."""
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
