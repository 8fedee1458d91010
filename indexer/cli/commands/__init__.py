"""The command line: `related-news`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

import typer

from indexer.cli.commands import asking, indexing, maintaining, measuring
from indexer.cli.options import options

COMMANDS: Mapping[str, Callable[..., None]] = {
    "index": indexing.index,
    "serve": indexing.serve,
    "related": asking.related,
    "page": asking.page,
    "status": asking.status,
    "delete": asking.delete,
    "evaluate": measuring.evaluate,
    "fit": measuring.fit,
    "reindex": maintaining.run_reindex,
    "backup": maintaining.backup,
    "restore": maintaining.restore,
    "settings": maintaining.print_settings,
    "demo": indexing.run_demo,
}
"""Every command by its name, in the order of the help."""

app = typer.Typer(
    name="related-news",
    help="Fill a news page's Related News and Read More slots from the publisher's own archive.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.callback()(options)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main() -> NoReturn:
    """Run the command line."""
    app()
    sys.exit(0)
