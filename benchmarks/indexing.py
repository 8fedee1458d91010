"""Indexing against embedding alone, in one run; then killed half-way and continued, and run once more.

python -m benchmarks.indexing ARTICLES

The run also compares the product's embedder with plain SentenceTransformer.encode in float32: speed and vectors.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.data import read_articles
from benchmarks.machine import keep
from benchmarks.plain_encode import beside_plain, load_plain
from indexer.sources.detect import detect_format
from recommender.catalog.articles import Article
from recommender.catalog.opening import STORE_FILE
from recommender.config import IndexSettings
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Embedder, computes_in_bfloat16, load_embedder
from recommender.encoding.text_recipe import select_texts

PLAIN_ARTICLES = 300
"""Articles whose texts are encoded plainly too, unless told otherwise."""


def main(
    articles: Annotated[Path, typer.Argument(help="Articles, in any format that `index` reads.")],
    articles_limit: Annotated[int, typer.Option(help="Take only the first of JSON Lines; 0: all.", min=0)] = 0,
    plain_articles: Annotated[
        int, typer.Option(help="Articles, evenly spread, whose texts plain `encode` gets too.", min=1)
    ] = PLAIN_ARTICLES,
) -> None:
    """Measure, print and keep the result."""
    with tempfile.TemporaryDirectory() as folder:
        values: dict[str, Any] = {"articles": str(articles.name)}
        if articles_limit:
            articles = _first_lines(articles, articles_limit, Path(folder) / "first.jsonl")
        read, embedder = list(read_articles(articles)), load_embedder()
        values["precision"] = "bfloat16" if computes_in_bfloat16() else "float32"
        values["beside_plain"] = beside_plain(_texts(read, plain_articles), embedder.encode, load_plain())
        values["embedding_alone_s"] = _embed_alone(read, embedder)
        started = time.perf_counter()
        values["index"] = _index(articles, Path(folder) / "whole")
        values["index_command_s"] = time.perf_counter() - started
        values["killed_at_articles"] = _index_and_kill(articles, Path(folder) / "killed", values["index"]["added"] // 2)
        values["continued"] = _index(articles, Path(folder) / "killed")
        values["again"] = _index(articles, Path(folder) / "killed")
    spent = values["index"]
    values["share_outside_embedding"] = 1 - spent["embedding_seconds"] / spent["seconds"]
    values["ratio"] = values["index"]["seconds"] / values["embedding_alone_s"]
    values["ratio_of_command"] = values["index_command_s"] / values["embedding_alone_s"]
    print(json.dumps(values, indent=1))
    print(keep("indexing", values))


def _first_lines(articles: Path, count: int, to: Path) -> Path:
    if detect_format(articles) != "jsonl":
        raise typer.BadParameter(f"{articles} is not JSON Lines, of which alone a part can be taken")
    with gzip.open(articles, "rb") if articles.suffix == ".gz" else articles.open("rb") as stream:
        to.write_bytes(b"".join(islice(stream, count)))
    return to


def _texts(articles: Sequence[Article], count: int) -> list[str]:
    """Return the texts that the encoder gets of `count` articles, evenly spread."""
    step = max(1, len(articles) // count)
    return [text for article in articles[::step][:count] for text in select_texts(article).all()]


def _embed_alone(articles: Sequence[Article], embedder: Embedder) -> float:
    size = IndexSettings().batch_articles
    embed(articles[:size], embedder)
    started = time.perf_counter()
    for start in range(0, len(articles), size):
        embed(articles[start : start + size], embedder)
    return time.perf_counter() - started


def _command(articles: Path, data_dir: Path) -> list[str]:
    return [sys.executable, "-m", "indexer", "--data-dir", str(data_dir), "index", str(articles), "--json"]


def _index(articles: Path, data_dir: Path) -> dict[str, Any]:
    done = subprocess.run(_command(articles, data_dir), stdout=subprocess.PIPE, text=True, check=True)
    values: dict[str, Any] = json.loads(done.stdout)
    del values["snapshot"]  # a path of this machine, of a folder that is removed
    return values


def _index_and_kill(articles: Path, data_dir: Path, stored: int) -> int:
    """Kill -9 an indexing run once it has stored `stored` articles; returns how many it had stored."""
    with subprocess.Popen(_command(articles, data_dir), stdout=subprocess.DEVNULL) as process:
        while _stored(data_dir) < stored:
            time.sleep(0.2)
        process.kill()
    return _stored(data_dir)


def _stored(data_dir: Path) -> int:
    path = data_dir / STORE_FILE
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM articles").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


if __name__ == "__main__":
    typer.run(main)
