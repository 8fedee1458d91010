"""Inputs of benchmarks: an index, without loading its model, and articles as `index` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from indexer.pipeline import check
from indexer.sources import open_source
from indexer.sources.base import RawArticle
from recommender.catalog.articles import Article
from recommender.catalog.live import Live
from recommender.catalog.opening import open_catalog
from recommender.clock import now_ms
from recommender.errors import NotFoundError


def open_live(data_dir: Path) -> Live:
    """Return the live view of an index at its latest revision. Writes a snapshot if this release needs a new one."""
    try:
        with open_catalog(data_dir) as catalog:
            return catalog.live
    except NotFoundError as error:
        raise typer.BadParameter(str(error)) from None


def read_articles(path: Path) -> Iterator[Article]:
    """Yield the valid articles of any input that `index` reads, cleaned and checked alike."""
    clock_ms = now_ms()
    for record in open_source(path).records():
        if isinstance(record, RawArticle):
            yield check(record, clock_ms).article
