"""How commands print: for people on a terminal, plainly elsewhere, or JSON; and how they fail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.markup import escape

from indexer.pipeline import StoppedError
from recommender.errors import RelatedNewsError

EXIT_FAILED = 1
"""Exit code of a command that failed."""
EXIT_SOME_REFUSED = 3
"""Exit code of a command that is done, but could not do all that was asked."""
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""
UNBOUNDED_COLUMNS = 100_000
"""Width of a table where there is no terminal."""

out = Console(emoji=False)
"""Standard output."""
err = Console(stderr=True, emoji=False)
"""Standard error."""


def print_json(values: Mapping[str, Any]) -> None:
    """Print for programs: one line, never coloured."""
    print(json.dumps(values, ensure_ascii=False))


def print_table(table: RenderableType) -> None:
    """Print for a terminal's width; elsewhere each row is one line, whole, for other programs to read."""
    (out if out.is_terminal else Console(file=out.file, width=UNBOUNDED_COLUMNS, emoji=False)).print(table)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print one of our errors, or of a file that the user named, as one line, and end with exit code 1."""
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
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _fail(message: str, label: str = "error") -> NoReturn:
    err.print(f"[bold red]{label}:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_FAILED) from None
