"""Options that several commands have, and the settings that they lead to."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from indexer.cli.console import plain_errors
from recommender.config import Settings, load_settings
from recommender.processes.logs import log_to_stderr

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"related-news {importlib.metadata.version('related-news')}")
        raise typer.Exit


def options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="TOML file. Default: related-news.toml, if there is one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the index. Default: as in the settings.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done to standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep what was given before the command; `settings_of` reads it."""
    del version
    arguments: dict[str, Any] = {}
    if data_dir is not None:
        arguments["data_dir"] = data_dir
    if verbose:
        arguments["log_level"] = "DEBUG"
        log_to_stderr("DEBUG")
    context.obj = (config, arguments)


def settings_of(context: typer.Context, **more: dict[str, Any]) -> Settings:
    """Return the effective settings of a command. more: sections of settings that its own options state."""
    config, arguments = context.obj
    with plain_errors():
        return load_settings(config, {**arguments, **more})
