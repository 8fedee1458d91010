"""What each feature is worth: the default formula without it, on editors' links, past articles only.

python -m benchmarks.ablation DATA_DIR LINKS
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.data import open_live
from benchmarks.machine import keep
from indexer.evaluation.evaluate import compare_on, ranking_of
from indexer.evaluation.links import read_links, usable
from indexer.evaluation.report import systems_json
from recommender.answer.rank import DEFAULT_WEIGHTS, DefaultFormula, Ranker
from recommender.answer.recommend import Recommender
from recommender.catalog.vectors.index import limit_threads


def main(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index.")],
    links: Annotated[Path, typer.Argument(help="Editors' links, JSON Lines.")],
) -> None:
    """Measure, print a Markdown table and keep the result."""
    limit_threads(1)
    live = open_live(data_dir)
    gold = usable(read_links(links), live)
    formulas = {"all": DefaultFormula()} | {
        f"without {part}": DefaultFormula(weights={**DEFAULT_WEIGHTS, part: 0.0}) for part in DEFAULT_WEIGHTS
    }
    rankings = {name: ranking_of(Recommender(live, Ranker(formula))) for name, formula in formulas.items()}
    systems = compare_on(rankings, gold.pages)
    whole = systems["all"].means["ndcg@10"]
    print("| formula | nDCG@10 | difference | recall@10 |\n| --- | --- | --- | --- |")
    for name, metrics in systems.items():
        value = metrics.means["ndcg@10"]
        print(f"| {name} | {value:.4f} | {value - whole:+.4f} | {metrics.means['recall@10']:.4f} |")
    print(keep("ablation", {"articles": live.count, "pages": len(gold.pages), "systems": systems_json(systems)}))


if __name__ == "__main__":
    typer.run(main)
