"""Indexing against embedding alone, in one run; then killed half-way and started again, and run once more.

python -m benchmarks.indexing ARTICLES
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.machine import keep
from indexer.pipeline import check
from indexer.sources import open_source
from indexer.sources.base import RawArticle
from recommender.config import IndexSettings
from recommender.embedding import load_embedder
from recommender.opening import STORE_FILE
from recommender.prepare import embed


def main(articles: Annotated[Path, typer.Argument(help="Articles, in any format that `index` reads.")]) -> None:
    """Measure, print and keep the result."""
    with tempfile.TemporaryDirectory() as folder:
        values: dict[str, Any] = {"articles": str(articles.name), "embedding_alone_s": _embed_alone(articles)}
        begun = time.perf_counter()
        values["index"] = _index(articles, Path(folder) / "whole")
        values["index_command_s"] = time.perf_counter() - begun
        values["killed_at_articles"] = _index_and_kill(articles, Path(folder) / "killed", values["index"]["added"] // 2)
        values["continued"] = _index(articles, Path(folder) / "killed")
        values["again"] = _index(articles, Path(folder) / "killed")
    values["ratio"] = values["index"]["seconds"] / values["embedding_alone_s"]
    values["ratio_of_command"] = values["index_command_s"] / values["embedding_alone_s"]
    print(json.dumps(values, indent=1))
    print(keep("indexing", values))


def _embed_alone(path: Path) -> float:
    clock_ms = time.time_ns() // 1_000_000
    records = (record for record in open_source(path).records() if isinstance(record, RawArticle))
    articles = [check(record, clock_ms).article for record in records]
    embedder = load_embedder()
    size = IndexSettings().batch_articles
    embed(articles[:size], embedder)
    begun = time.perf_counter()
    for start in range(0, len(articles), size):
        embed(articles[start : start + size], embedder)
    return time.perf_counter() - begun


def _command(articles: Path, data_dir: Path) -> list[str]:
    return [sys.executable, "-m", "indexer", "--data-dir", str(data_dir), "index", str(articles), "--json"]


def _index(articles: Path, data_dir: Path) -> dict[str, Any]:
    done = subprocess.run(_command(articles, data_dir), stdout=subprocess.PIPE, text=True, check=True)
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def _index_and_kill(articles: Path, data_dir: Path, stored: int) -> int:
    """Kill -9 an indexing run once it has stored so many articles; returns how many it had."""
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
