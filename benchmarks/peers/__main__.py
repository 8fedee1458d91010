"""python -m benchmarks.peers run|agreement|answers: see the commands' help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.peers.agreement import compare
from benchmarks.peers.answers import compare_answers
from benchmarks.peers.measure import Plan
from benchmarks.peers.report import markdown
from benchmarks.peers.run import PEERS, CorpusPlan, run_all, run_one
from benchmarks.result import read
from indexer.evaluation.workbench import open_bench, read_gold
from recommender.encoding.embedder import load_embedder

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Passages = Annotated[Path, typer.Argument(help="Vectors of `python -m benchmarks.embed_passages`.", exists=True)]
Recall = Annotated[float, typer.Option(help="Of the 100 nearest, to be reached with the least effort.")]
Budget = Annotated[float, typer.Option(help="Seconds for one case at one effort; slow peers get fewer queries.")]
Cores = Annotated[int, typer.Option(help="Cores that a peer may use while it searches.")]


@app.command()
def run(
    passages: Passages,
    rows: Annotated[list[int], typer.Option(help="Corpus sizes; one result each.")],
    peers: Annotated[list[str], typer.Option(help="Only these.")] = list(PEERS),  # noqa: B006 - typer copies it
    queries: Annotated[int, typer.Option(help="At most 1,000.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of corpus, queries and filters.")] = 1,
    recall: Recall = 0.98,
    budget: Budget = 10.0,
    cores: Cores = 1,
    scratch: Annotated[Path, typer.Option(help="Folder for indexes, which are removed.")] = Path("/tmp"),
) -> None:
    """Measure all peers on the same vectors, queries and filters; print a table and keep the result."""
    for size in rows:
        result = run_all(peers, CorpusPlan(passages, size, queries, seed), Plan(recall, budget, cores), scratch)
        print(markdown(read(result).values), result, sep="\n")


@app.command(hidden=True)
def one(peer: str, folder: Path, recall: Recall = 0.98, budget: Budget = 10.0, cores: Cores = 1) -> None:
    """Measure one peer; `run` starts this in a process of its own."""
    run_one(peer, folder, Plan(recall, budget, cores))


@app.command()
def agreement(
    passages: Passages,
    rows: Annotated[int, typer.Option(help="Rows of each kind.")] = 50_000,
    seed: Annotated[int, typer.Option(help="Seed of the draw and the generator.")] = 1,
) -> None:
    """Show that generated vectors are as hard to search as real ones; keep the result."""
    print(compare(passages, rows, seed))


@app.command()
def answers(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index.", exists=True)],
    links: Annotated[Path | None, typer.Option(help="Editors' links: relevance beside speed.")] = None,
    pages: Annotated[int, typer.Option(help="Pages, drawn at random; each is answered as of its own time.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 1,
    scratch: Annotated[Path, typer.Option(help="Folder for indexes, which are removed.")] = Path("/tmp"),
) -> None:
    """Measure whole answers on one archive: ours, pgvector with filters and date decay, tantivy's more-like-this."""
    with open_bench(data_dir, load_embedder()) as bench:
        gold = read_gold(bench, str(links)) if links else None
        print(compare_answers(bench, gold, pages, seed, scratch))


if __name__ == "__main__":
    app()
