"""The demo: index the sample newsroom with the embedded model, serve it, fill a page over gRPC."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from indexer.cli import client, render
from indexer.cli.progress import job_progress
from indexer.pipeline import run as run_pipeline
from indexer.sources import open_source
from recommender.catalog.store.locks import exclusive_run
from recommender.config import PREFIX
from recommender.encoding.embedder import load_embedder
from recommender.errors import UnavailableError

DATA_DIR = Path(".demo")
"""Folder of the demo's index, in the working folder."""
PAGE_ID = "painting-court-pelagia-2026-10-05"
"""The page that is filled."""
_DRAIN_S = 30
"""Time for the service to end."""


def run(console: Console, *, index_only: bool = False) -> None:
    """Run the demo in the working folder; the next run uses its index again."""
    _index(console)
    if index_only:
        return
    with _server() as address:
        console.print(f"[bold]2.[/] Serving on {address} (a process of its own, gRPC)")
        with client.connect(address, message_bytes_max=32 << 20) as service:
            plan = service.fill_slots(PAGE_ID, "default")
            article = service.get_article(PAGE_ID)
        console.print(f"[bold]3.[/] FillSlots for [bold]{escape(PAGE_ID)}[/]:\n")
        console.print(render.page_view(article, plan))
    console.print(_NEXT)


def _index(console: Console) -> None:
    with as_file(files("indexer").joinpath("sample/newsroom.jsonl")) as path, exclusive_run(DATA_DIR):
        console.print("[bold]1.[/] Indexing the sample newsroom")
        with job_progress(console) as progress:
            embedder = load_embedder()
            report = run_pipeline(
                open_source(path),
                DATA_DIR,
                embedder,
                progress=progress,
                on_refused=render.refused_printer(console),
            )
        console.print(render.index_summary(report, DATA_DIR, embedder.info.languages), highlight=False)


@contextmanager
def _server() -> Iterator[str]:
    """Start `related-news serve` on a free port, yield its address, and end it by SIGTERM.

    It runs in the data folder without this environment's settings, so that the demo shows the defaults.
    """
    command = [sys.executable, "-m", "indexer", "--data-dir", ".", "serve", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment[f"{PREFIX}LOG_LEVEL"] = "WARNING"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=DATA_DIR) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving on "):
                raise UnavailableError("the service did not start", fix="its log is above")
            yield line.removeprefix("serving on ").strip()
        finally:
            process.terminate()
            process.wait(_DRAIN_S)


_NEXT = """
[bold]What to try next[/]
  make serve
    leaves the service running on 127.0.0.1:50051; then, in another terminal:
  .venv/bin/related-news page heron-shutdown-2026-10-20
    shows another page of the sample newsroom
  .venv/bin/related-news related --help
    lists, drafts, JSON
  .venv/bin/related-news index ARTICLES
    takes in your own: JSON Lines, CSV, RSS/Atom, HTML, WordPress, text
"""
