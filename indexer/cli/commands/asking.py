"""Commands that ask a running service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from indexer.cli import client, console, render
from indexer.cli.console import EXIT_SOME_REFUSED, plain_errors, print_table
from indexer.cli.options import AsJson, settings_of
from recommender.config import address_of
from recommender.errors import InvalidInputError

Address = Annotated[str | None, typer.Option(help="host:port of the running service. Default: as in the settings.")]


def related(
    context: typer.Context,
    article_id: Annotated[str | None, typer.Argument(help="Id of a stored article.")] = None,
    draft: Annotated[Path | None, typer.Option(help="Instead of an id: a file with one article.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """List related articles: ask a running service."""
    with plain_errors(), _connected(context, address) as service:
        answer = service.list_related(_page(article_id, draft), k)
        if as_json:
            print(client.to_json(answer))
        else:
            print_table(render.related_table(answer))


def page(
    context: typer.Context,
    article_id: Annotated[str | None, typer.Argument(help="Id of a stored article.")] = None,
    draft: Annotated[Path | None, typer.Option(help="Instead of an id: a file with one article.")] = None,
    layout: Annotated[str, typer.Option(help="Name of a layout in the service's settings.")] = "default",
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Show a page with its slots filled, and why: ask a running service."""
    with plain_errors(), _connected(context, address) as service:
        asked = _page(article_id, draft)
        plan = service.fill_slots(asked, layout)
        if as_json:
            print(client.to_json(plan))
        else:
            text = service.get_article(asked) if isinstance(asked, str) else asked
            console.out.print(render.page_view(text, plan))


def status(context: typer.Context, as_json: AsJson = False, address: Address = None) -> None:
    """Say what a running service has indexed, and how fresh it is."""
    with plain_errors(), _connected(context, address) as service:
        answer = service.status()
        if as_json:
            print(client.to_json(answer))
        else:
            print_table(render.status_table(answer))


def delete(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(help="Ids of stored articles.")],
    address: Address = None,
) -> None:
    """Withdraw articles: when this returns, no answer contains them. Exit code 3 if one was not there."""
    with plain_errors(), _connected(context, address) as service:
        answer = service.delete(ids)
        for result in answer.results:
            console.out.print(f"{escape(result.id)}: {'withdrawn' if result.found else 'not there'}", highlight=False)
        if not all(result.found for result in answer.results):
            raise typer.Exit(EXIT_SOME_REFUSED)


def _page(article_id: str | None, draft: Path | None) -> client.Page:
    if (article_id is None) == (draft is None):
        raise InvalidInputError("page", "is not clear", fix="give either an article id or --draft FILE")
    return article_id if article_id is not None else client.read_draft(draft or Path())


@contextmanager
def _connected(context: typer.Context, address: str | None) -> Iterator[client.Client]:
    settings = settings_of(context)
    target = address or address_of(settings.server.host, settings.server.port)
    with client.connect(target, message_bytes_max=settings.server.message_bytes_max) as connected:
        yield connected
