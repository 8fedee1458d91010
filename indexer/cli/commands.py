"""The command line: `related-news`. Each command prints for people on a terminal, plainly elsewhere, or JSON."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.markup import escape

from indexer.cli import client, demo, render
from indexer.cli.progress import job_progress
from indexer.maintenance import backup as backups
from indexer.maintenance import reindex
from indexer.pipeline import StoppedError, run
from indexer.sources import FORMATS, open_source
from recommender.catalog.store.locks import exclusive_run
from recommender.config import Settings, address_of, find_config, load_settings, to_toml
from recommender.encoding.embedder import Embedder, load_embedder
from recommender.encoding.model_for import model_for
from recommender.errors import InvalidInputError, RelatedNewsError
from recommender.processes.logs import log_to_stderr

EXIT_FAILED = 1
EXIT_SOME_REFUSED = 3
UNBOUNDED = 100_000
"""Columns, where there is no terminal."""

app = typer.Typer(
    name="related-news",
    help="Fill a news page's Related News and Read More slots from the publisher's own archive.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

_FORMAT_HELP = "; ".join(f"{name}: {about}" for name, (_, about) in FORMATS.items())

Address = Annotated[str | None, typer.Option(help="host:port of the running service. Default: as in the settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"related-news {importlib.metadata.version('related-news')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="TOML file. Default: related-news.toml, if there is one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the index. Default: as in the settings.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done to standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    arguments: dict[str, Any] = {}
    if data_dir is not None:
        arguments["data_dir"] = data_dir
    if verbose:
        arguments["log_level"] = "DEBUG"
        log_to_stderr("DEBUG")
    context.obj = (config, arguments)


@app.command()
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
    settings = _settings(context)
    with _plain_errors():
        opened = open_source(source, format=format, site=settings.index.site, language=settings.index.language)
        with exclusive_run(settings.data_dir):
            embedder = _embedder(settings)
            with job_progress(err) as progress:
                report = run(
                    opened,
                    settings.data_dir,
                    embedder,
                    batch_articles=settings.index.batch_articles,
                    strict=strict,
                    restore_withdrawn=restore_withdrawn,
                    progress=progress,
                    on_refused=render.refused_printer(err),
                )
    known = embedder.info.languages
    if as_json:
        _print_json(render.report_values(report))
    else:
        out.print(render.index_summary(report, settings.data_dir, known), soft_wrap=True)
    if report.refused:
        raise typer.Exit(EXIT_SOME_REFUSED)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer.")] = None,
) -> None:
    """Answer over gRPC until told to stop (SIGTERM or Ctrl-C); SIGHUP reloads layouts, ranker and some limits."""
    given = (("host", host), ("port", port), ("workers", workers))
    server = {name: value for name, value in given if value is not None}
    settings = _settings(context, server=server)
    log_to_stderr(settings.log_level)
    from recommender.processes.supervisor import supervise

    config, arguments = context.obj
    with _plain_errors():
        asyncio.run(
            supervise(
                settings,
                lambda address: print(f"serving on {address}", flush=True),
                lambda: load_settings(config, {**arguments, "server": server}),
            )
        )


@app.command()
def related(
    context: typer.Context,
    article_id: Annotated[str | None, typer.Argument(help="Id of a stored article.")] = None,
    draft: Annotated[Path | None, typer.Option(help="Instead of an id: a file with one article.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """List related articles: ask a running service."""
    with _plain_errors(), _connected(context, address) as service:
        answer = service.list_related(_page(article_id, draft), k)
        if as_json:
            print(client.to_json(answer))
        else:
            _print_table(render.related_table(answer))


@app.command()
def page(
    context: typer.Context,
    article_id: Annotated[str | None, typer.Argument(help="Id of a stored article.")] = None,
    draft: Annotated[Path | None, typer.Option(help="Instead of an id: a file with one article.")] = None,
    layout: Annotated[str, typer.Option(help="Name of a layout in the service's settings.")] = "default",
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Show a page with its slots filled, and why: ask a running service."""
    with _plain_errors(), _connected(context, address) as service:
        asked = _page(article_id, draft)
        plan = service.fill_slots(asked, layout)
        if as_json:
            print(client.to_json(plan))
        else:
            text = service.get_article(asked) if isinstance(asked, str) else asked
            out.print(render.page_view(text, plan))


@app.command()
def status(context: typer.Context, as_json: AsJson = False, address: Address = None) -> None:
    """Say what a running service has indexed, and how fresh it is."""
    with _plain_errors(), _connected(context, address) as service:
        answer = service.status()
        if as_json:
            print(client.to_json(answer))
        else:
            _print_table(render.status_table(answer))


@app.command()
def delete(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(help="Ids of stored articles.")],
    address: Address = None,
) -> None:
    """Withdraw articles: when this returns, no answer contains them. Exit code 3 if one was not there."""
    with _plain_errors(), _connected(context, address) as service:
        answer = service.delete(ids)
        for result in answer.results:
            out.print(f"{escape(result.id)}: {'withdrawn' if result.found else 'not there'}", highlight=False)
        if not all(result.found for result in answer.results):
            raise typer.Exit(EXIT_SOME_REFUSED)


@app.command()
def evaluate(
    context: typer.Context,
    links: Annotated[str | None, typer.Option(help="Editors' links: a JSON Lines file, or `harvested`.")] = None,
    articles: Annotated[Path | None, typer.Option(help="Index these first, in the cache. Default: the index.")] = None,
    near_duplicates: Annotated[Path | None, typer.Option(help="Labelled pairs: measure near-copy detection.")] = None,
    ranker: Annotated[Path | None, typer.Option(help="Also this fitted ranker, on pages newer than its own.")] = None,
    cross_fit: Annotated[bool, typer.Option("--cross-fit", help="Also rankers fitted on four fifths each.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder for indexes of --articles.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure relevance on editors' own links, beside cosine, TF-IDF and most recent in section."""
    from indexer.cli import evaluation, evaluation_view
    from indexer.evaluation.report import evaluation_json

    with _plain_errors(), evaluation.bench(_settings(context), articles, cache, err) as bench:
        report = evaluation.evaluate(bench, links, near_duplicates, ranker, cross_fit, err)
        if as_json:
            _print_json(evaluation_json(report))
        else:
            _print_table(evaluation_view.evaluation_view(report))


@app.command()
def fit(
    context: typer.Context,
    links: Annotated[str, typer.Option(help="Editors' links: a JSON Lines file, or `harvested`.")],
    articles: Annotated[Path | None, typer.Option(help="Index these first, in the cache. Default: the index.")] = None,
    to: Annotated[Path, typer.Option(help="File to write; name it as `ranker` in the settings.")] = Path("ranker.json"),
    cache: Annotated[Path | None, typer.Option(help="Folder for indexes of --articles.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a ranker on editors' own links, and compare it with the default on later pages than it was fitted on."""
    from indexer.cli import evaluation, evaluation_view
    from indexer.evaluation.report import fit_json

    with _plain_errors(), evaluation.bench(_settings(context), articles, cache, err) as bench:
        report = evaluation.fit(bench, links, to, err)
        if as_json:
            _print_json(fit_json(report))
        else:
            _print_table(evaluation_view.fit_view(report))
            out.print(f"written to {escape(str(to))}", highlight=False)


@app.command(name="reindex")
def run_reindex(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Local folder or Hub id. Default: the index's own model.")] = None,
    back: Annotated[bool, typer.Option("--back", help="Go back to the model before the last switch.")] = False,
    no_switch: Annotated[
        bool, typer.Option("--no-switch", help="Only prepare; the same command without this then takes seconds.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move to another model or text recipe beside the running service, then switch without a failed request.

    Without --model: a new snapshot, made from nothing. Killed and started again, it goes on where it was.
    """
    settings = _settings(context)
    with _plain_errors():
        if back and model:
            raise InvalidInputError("--back", "and --model exclude each other", fix="give one of the two")
        name = reindex.model_to_move_to(settings.data_dir, model, back=back)
        if settings.model.name not in (None, name):
            raise InvalidInputError(
                "model.name",
                f"is set to {settings.model.name}: the next start would refuse an index of {name}",
                fix="unset it; the index remembers its model",
            )
        embedder = load_embedder(name, settings.model.computing)
        with exclusive_run(settings.data_dir), job_progress(err) as progress:
            report = reindex.reindex(settings.data_dir, embedder, switch=not no_switch, progress=progress)
    if as_json:
        _print_json(render.reindex_values(report))
    else:
        out.print(render.reindex_summary(report), highlight=False, soft_wrap=True)


@app.command()
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="Folder to make.")],
) -> None:
    """Copy the index as it is at this moment; the service goes on meanwhile."""
    with _plain_errors():
        about = backups.back_up(_settings(context).data_dir, target)
        out.print(render.backup_summary(about, f"written to {target}"), highlight=False, soft_wrap=True)


@app.command()
def restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="Folder that `backup` made.")],
) -> None:
    """Bring a backup up in data_dir, which must not have an index; every file is checked first."""
    with _plain_errors():
        data_dir = _settings(context).data_dir
        about = backups.restore(source, data_dir)
        out.print(render.backup_summary(about, f"restored to {data_dir}"), highlight=False, soft_wrap=True)


@app.command(name="settings")
def print_settings(context: typer.Context) -> None:
    """Print the effective settings as TOML."""
    config, _ = context.obj
    settings = _settings(context)
    print(f"# from {find_config(config) or 'defaults and environment'}")
    print(to_toml(settings), end="")


@app.command(name="demo")
def run_demo(
    index_only: Annotated[bool, typer.Option("--index-only", help="Index the sample newsroom and stop there.")] = False,
) -> None:
    """Index the sample newsroom, serve it, and show a page filled over gRPC."""
    with _plain_errors():
        demo.run(out, index_only=index_only)


def main() -> NoReturn:
    """Run the command line."""
    app()
    sys.exit(0)


def _settings(context: typer.Context, **more: dict[str, Any]) -> Settings:
    config, arguments = context.obj
    with _plain_errors():
        return load_settings(config, {**arguments, **more})


def _embedder(settings: Settings) -> Embedder:
    model = settings.model
    name = model_for(settings.data_dir, model.name)
    return load_embedder(name, model.computing)


def _print_json(values: Mapping[str, Any]) -> None:
    """Print for programs: one line, never coloured."""
    print(json.dumps(values, ensure_ascii=False))


def _print_table(table: RenderableType) -> None:
    """Print for a terminal's width; elsewhere each row is one line, whole, for other programs to read."""
    (out if out.is_terminal else Console(file=out.file, width=UNBOUNDED, emoji=False)).print(table)


def _page(article_id: str | None, draft: Path | None) -> Any:
    if (article_id is None) == (draft is None):
        raise InvalidInputError("page", "is not clear", fix="give either an article id or --draft FILE")
    return article_id if article_id is not None else client.read_draft(draft or Path())


@contextmanager
def _connected(context: typer.Context, address: str | None) -> Iterator[client.Client]:
    settings = _settings(context)
    target = address or address_of(settings.server.host, settings.server.port)
    with client.connect(target, message_bytes_max=settings.server.message_bytes_max) as connected:
        yield connected


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Print an error of ours, or of a file that the user named, as one line, and end with exit code 1."""
    try:
        yield
    except StoppedError as error:
        _fail(str(error), "stopped")
    except RelatedNewsError as error:
        _fail(str(error))
    except UnicodeEncodeError as error:
        _fail(f"{error.object!a} is not UTF-8")
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        err.print("interrupted; run it again to go on", highlight=False)
        raise typer.Exit(130) from None


def _fail(message: str, label: str = "error") -> NoReturn:
    err.print(f"[bold red]{label}:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_FAILED) from None
