"""Commands on a whole data folder: move it to another model, back it up, restore it, print its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from indexer.cli import console, render
from indexer.cli.console import plain_errors, print_json
from indexer.cli.options import AsJson, settings_of
from indexer.cli.progress import job_progress
from indexer.maintenance import backup as backups
from indexer.maintenance import reindex
from recommender.catalog.store.locks import exclusive_run
from recommender.config import find_config, to_toml
from recommender.encoding.embedder import load_embedder
from recommender.errors import InvalidInputError


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
    settings = settings_of(context)
    with plain_errors():
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
        with exclusive_run(settings.data_dir), job_progress(console.err) as progress:
            report = reindex.reindex(settings.data_dir, embedder, switch=not no_switch, progress=progress)
    if as_json:
        print_json(render.reindex_values(report))
    else:
        console.out.print(render.reindex_summary(report), highlight=False, soft_wrap=True)


def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="Folder to make.")],
) -> None:
    """Copy the index as it is at this moment; the service goes on meanwhile."""
    with plain_errors():
        about = backups.back_up(settings_of(context).data_dir, target)
        console.out.print(render.backup_summary(about, f"written to {target}"), highlight=False, soft_wrap=True)


def restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="Folder that `backup` made.")],
) -> None:
    """Bring a backup up in data_dir, which must not have an index; every file is checked first."""
    with plain_errors():
        data_dir = settings_of(context).data_dir
        about = backups.restore(source, data_dir)
        console.out.print(render.backup_summary(about, f"restored to {data_dir}"), highlight=False, soft_wrap=True)


def print_settings(context: typer.Context) -> None:
    """Print the effective settings as TOML."""
    config, _ = context.obj
    settings = settings_of(context)
    print(f"# from {find_config(config) or 'defaults and environment'}")
    print(to_toml(settings), end="")
