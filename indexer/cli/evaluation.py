"""The work of the commands `evaluate` and `fit`: index, links, measurement, progress."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from indexer.cli import render
from indexer.cli.progress import job_progress, stage_progress
from indexer.evaluation import near_duplicates
from indexer.evaluation.evaluate import compare_on, measure, ranking_of
from indexer.evaluation.fitting import PAGES_MAX, PAGES_MIN, gather_examples, history_of, train
from indexer.evaluation.report import EvaluationReport, FitReport, FittedOn, systems_json
from indexer.evaluation.workbench import Bench, bring_up_to_date, open_bench, read_gold
from recommender.answer.features import Detail
from recommender.answer.fitted_ranker import FittedFormula
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender
from recommender.catalog.vectors.index import limit_threads
from recommender.config import Settings
from recommender.encoding.embedder import EMBEDDED_MODEL, load_embedder
from recommender.encoding.model_for import model_for
from recommender.errors import InvalidInputError, StorageError
from recommender.serving.ranker_file import read_ranker, write_ranker

FITTED_SHARE = 0.7
"""Compare a ranker fitted on this share of the pages, the earliest, with the default on the others; then fit on all."""


@contextmanager
def bench(settings: Settings, articles: Path | None, cache: Path | None, err: Console) -> Iterator[Bench]:
    """Open the index to work on; show the progress of what has to be indexed first."""
    begun = time.perf_counter()
    limit_threads(settings.server.faiss_threads)
    model, data_dir = settings.model, settings.data_dir
    name = (model.name or EMBEDDED_MODEL) if articles is not None else model_for(data_dir, model.name)
    embedder = load_embedder(name, model.computing)
    if articles is not None:
        with job_progress(err) as progress:
            on_refused = render.refused_printer(err)
            data_dir = bring_up_to_date(articles, cache, settings, embedder, progress=progress, on_refused=on_refused)
    with open_bench(data_dir, embedder) as opened:
        opened.seconds["index"] = round(time.perf_counter() - begun, 3)
        yield opened


def evaluate(
    opened: Bench,
    links: str | None,
    pairs: Path | None,
    ranker: Path | None,
    cross_fit: bool,
    err: Console,
) -> EvaluationReport:
    """Measure relevance, near copies, or both. Raises InvalidInputError if neither is asked for."""
    if links is None and pairs is None:
        raise InvalidInputError("--links", "is missing", fix="give a file or `harvested`; or --near-duplicates FILE")
    relevance = None
    if links is not None:
        gold = read_gold(opened, links)
        parameters = read_ranker(ranker, opened.store.encoder) if ranker else None
        with stage_progress(err) as progress:
            relevance = measure(
                opened.store, opened.live, gold, parameters=parameters, cross_fitted=cross_fit, progress=progress
            )
    near_copies = near_duplicates.measure(opened.live, pairs) if pairs is not None else None
    return EvaluationReport(relevance, near_copies, opened.seconds)


def fit(opened: Bench, links: str, to: Path, err: Console) -> FitReport:
    """Fit, compare on later pages, fit on all, write the file. Returns the comparison, which the file states, too.

    Raises InvalidInputError if `to` is a folder or there are too few pages, StorageError if it cannot be written,
    before anything is fitted: that takes minutes.
    """
    with _writing(to) as temporary:
        temporary.touch()
    gold = read_gold(opened, links)
    pages = gold.pages[-PAGES_MAX:]
    pages_min = math.ceil(PAGES_MIN / FITTED_SHARE)
    if len(pages) < pages_min:
        raise InvalidInputError("links", f"{len(pages)} pages with usable links", fix=f"fit on at least {pages_min}")
    encoder = opened.store.encoder
    with stage_progress(err) as progress:
        progress.begin("evidence", len(pages))
        examples = gather_examples(opened.live, pages, progress)
        cut = int(len(pages) * FITTED_SHARE)
        progress.begin("fitting", 3)
        early = train(examples[:cut], encoder)
        progress.advance()
        early_content = train([example.without_history() for example in examples[:cut]], encoder)
        progress.advance()
        whole = train(examples, encoder, name=f"fitted-{time.strftime('%Y-%m-%d', time.gmtime())}")
        progress.advance()
        rankers = {
            "related-news": Ranker(),
            "fitted": Ranker(FittedFormula(early), Detail(history_of(pages))),
            "fitted-content": Ranker(FittedFormula(early_content)),
        }
        rankings = {name: ranking_of(Recommender(opened.live, ranker)) for name, ranker in rankers.items()}
        systems = compare_on(rankings, pages[cut:], progress)
    whole = replace(whole, links=[[link.source_id, link.target_id, link.at_ms] for link in history_of(pages).links])
    fitted_on = FittedOn(len(pages), pages[-1].published_at_ms, links)
    report = FitReport(len(pages) - cut, gold.skipped, fitted_on, bool(whole.trees), systems, opened.seconds)
    evaluation = {"pages": report.pages, **systems_json(systems)}
    with _writing(to) as temporary:
        write_ranker(temporary, replace(whole, fitted_on=asdict(fitted_on), evaluation=evaluation))
        temporary.replace(to)
    return report


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, to be renamed to it; removed in the end. Raises StorageError."""
    if path.is_dir():
        raise InvalidInputError("--to", f"{path} is a folder", fix="name a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", fix="choose another file with --to") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
