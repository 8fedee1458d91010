"""Commands that make an index and serve it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from indexer.cli import console, demo, render
from indexer.cli.console import EXIT_SOME_REFUSED, plain_errors, print_json
from indexer.cli.options import AsJson, settings_of
from indexer.cli.progress import job_progress
from indexer.pipeline import run
from indexer.sources import FORMATS, open_source
from recommender.catalog.store.locks import exclusive_run
from recommender.config import load_settings
from recommender.encoding.embedder import load_embedder
from recommender.encoding.model_for import model_for
from recommender.processes.logs import log_to_stderr

_FORMAT_HELP = "; ".join(f"{name}: {about}" for name, (_, about) in FORMATS.items())


def index(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="File or folder of articles.")],
    format: Annotated[str | None, typer.Option(help=f"Default: by name and content. {_FORMAT_HELP}")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record that must be refused.")] = False,
    restore_withdrawn: Annotated[
        bool, typer.Option("--restore-withdrawn", help="Bring back articles that were deleted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Index articles: only what is new or has changed is embedded; an interrupted run goes on where it was.

    Exit code: 0 all records are in; 3 done, but some records were refused; 1 failed.
    """
    settings = settings_of(context)
    with plain_errors():
        opened = open_source(source, format=format, site=settings.index.site, language=settings.index.language)
        with exclusive_run(settings.data_dir):
            name = model_for(settings.data_dir, settings.model.name)
            embedder = load_embedder(name, settings.model.computing)
            with job_progress(console.err) as progress:
                report = run(
                    opened,
                    settings.data_dir,
                    embedder,
                    batch_articles=settings.index.batch_articles,
                    strict=strict,
                    restore_withdrawn=restore_withdrawn,
                    progress=progress,
                    on_refused=render.refused_printer(console.err),
                )
    if as_json:
        print_json(render.report_values(report))
    else:
        console.out.print(render.index_summary(report, settings.data_dir, embedder.info.languages), soft_wrap=True)
    if report.refused:
        raise typer.Exit(EXIT_SOME_REFUSED)


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer.")] = None,
) -> None:
    """Answer over gRPC until told to stop (SIGTERM or Ctrl-C); SIGHUP reloads layouts, ranker and some limits."""
    given = (("host", host), ("port", port), ("workers", workers))
    server = {name: value for name, value in given if value is not None}
    settings = settings_of(context, server=server)
    log_to_stderr(settings.log_level)
    from recommender.processes.supervisor import supervise

    config, arguments = context.obj
    with plain_errors():
        asyncio.run(
            supervise(
                settings,
                lambda address: print(f"serving on {address}", flush=True),
                lambda: load_settings(config, {**arguments, "server": server}),
            )
        )


def run_demo(
    index_only: Annotated[bool, typer.Option("--index-only", help="Index the sample newsroom and stop there.")] = False,
) -> None:
    """Index the sample newsroom, serve it, and show a page filled over gRPC."""
    with plain_errors():
        demo.run(console.out, index_only=index_only)
