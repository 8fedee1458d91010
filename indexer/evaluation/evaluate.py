"""Relevance on editors' links: every system ranks, for each page, what was public at the page's own time.

"related-news" uses the service's own code path, `Recommender.list_related` as of that time, suppression
included. Candidates are of every language and site, since editors' links cross both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np

from indexer.evaluation import baselines, placement
from indexer.evaluation.fitting import (
    PAGES_MAX,
    PARTS,
    Example,
    cross_fit,
    gather_examples,
    history_of,
    part_of,
    past_request,
)
from indexer.evaluation.links import Gold, GoldPage
from indexer.evaluation.metrics import CUTOFF, page_metrics, summarise
from indexer.evaluation.report import CalibrationBin, CandidateReport, RelevanceReport, SystemMetrics
from recommender.answer.features import Detail
from recommender.answer.fitted_ranker import FittedFormula, FittedParameters
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender
from recommender.catalog.live import Live
from recommender.catalog.snapshot.progress import SILENT, Progress
from recommender.catalog.store.store import Store

CALIBRATION_BINS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Edges of the scores' bins, ascending."""

Ranking = Callable[[GoldPage], list[str]]
"""Returns ids for a page, best first."""


def measure(
    store: Store,
    live: Live,
    gold: Gold,
    *,
    parameters: FittedParameters | None = None,
    cross_fitted: bool = False,
    progress: Progress = SILENT,
) -> RelevanceReport:
    """Measure every system on the pages of `gold`.

    parameters: also rank by this fitted ranker, on the pages after those that it was fitted on.
    cross_fitted: also rank by rankers fitted on four fifths of the pages, each ranking the other fifth: "fitted", and
    "fitted-content" without the features of other pages' links. Those features know what editors had linked to a day
    before the page.
    """
    clock = _Clock()
    pages = gold.pages
    recommender = Recommender(live)
    with clock.time("candidates"):
        candidates = _candidates(recommender, pages, progress)
    systems: dict[str, SystemMetrics] = {}
    rankings: dict[str, Ranking] = {"related-news": ranking_of(recommender)}
    with clock.time("lexical index"):
        rankings |= {
            "cosine": baselines.cosine(live),
            "lexical": baselines.lexical(live, store),
            "recent": baselines.recent(live),
        }
    for name, ranking in rankings.items():
        with clock.time(name):
            systems |= compare_on({name: ranking}, pages, progress)
    with clock.time("fitted"):
        if parameters is not None:
            systems["fitted"] = _fitted(live, parameters, pages, progress)
        elif cross_fitted:
            systems |= _cross_fitted(live, store.encoder, pages, progress)
    with clock.time("placement"):
        placement_report = placement.measure(live, pages)
    with clock.time("plans"):
        empty_share = _empty_share(recommender, pages, progress)
    return RelevanceReport(
        pages=len(pages),
        links=sum(len(page.relevant) for page in pages),
        skipped=gold.skipped,
        articles=live.count,
        candidates=candidates,
        systems=systems,
        placement=placement_report,
        empty_share=empty_share,
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds by stage, rounded to milliseconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 3)


def compare_on(
    rankings: Mapping[str, Ranking], pages: Sequence[GoldPage], progress: Progress = SILENT
) -> dict[str, SystemMetrics]:
    """Return each system's metrics over the same pages."""
    return {name: summarise(_page_metrics(name, ranking, pages, progress)) for name, ranking in rankings.items()}


def ranking_of(recommender: Recommender) -> Ranking:
    """Return the ranking that a recommender makes, as the service's ListRelated does with suppression."""

    def rank(page: GoldPage) -> list[str]:
        answer = recommender.list_related(past_request(page), CUTOFF)
        return [link.article.id for link in answer.recommendations]

    return rank


def _page_metrics(name: str, ranking: Ranking, pages: Sequence[GoldPage], progress: Progress) -> list[dict[str, float]]:
    progress.begin(name, len(pages))
    metrics = []
    for page in pages:
        metrics.append(page_metrics(ranking(page), page.relevant))
        progress.advance()
    return metrics


def _candidates(recommender: Recommender, pages: Sequence[GoldPage], progress: Progress) -> CandidateReport:
    """Measure how many candidates there are, how many of the links are among them, and how scores are calibrated."""
    progress.begin("candidates", len(pages))
    candidates_of_pages = []
    edges = np.array(CALIBRATION_BINS[1:-1])
    candidates, linked = np.zeros(len(edges) + 1, np.int64), np.zeros(len(edges) + 1, np.int64)
    for page in pages:
        scored = recommender.score(past_request(page))
        rows = [recommender.live.find(article_id) for article_id in page.relevant]
        is_linked = np.isin(scored.features.rows, [row for row in rows if row is not None])
        candidates_of_pages.append(len(is_linked))
        bins = np.searchsorted(edges, scored.scores, "right")
        candidates += np.bincount(bins, minlength=len(candidates))
        linked += np.bincount(bins[is_linked], minlength=len(linked))
        progress.advance()
    links = sum(len(page.relevant) for page in pages)
    return CandidateReport(
        recall=int(linked.sum()) / links if links else 0.0,
        mean=float(np.mean(candidates_of_pages)) if candidates_of_pages else 0.0,
        max=max(candidates_of_pages, default=0),
        calibration=tuple(
            CalibrationBin(low, high, int(count), float(hits / count) if count else 0.0)
            for (low, high), count, hits in zip(pairwise(CALIBRATION_BINS), candidates, linked, strict=True)
        ),
    )


def _fitted(live: Live, parameters: FittedParameters, pages: Sequence[GoldPage], progress: Progress) -> SystemMetrics:
    """Return the metrics of a fitted ranker on the pages after those that it was fitted on."""
    until_ms = int(parameters.fitted_on.get("until_ms", 0))
    later = [page for page in pages if page.published_at_ms > until_ms]
    ranker = Ranker(FittedFormula(parameters), Detail(history_of(pages, parameters)))
    ranking = ranking_of(Recommender(live, ranker))
    metrics = summarise(_page_metrics("fitted", ranking, later, progress))
    return replace(metrics, pages_after_fitting=len(later))


def _cross_fitted(live: Live, encoder: str, pages: Sequence[GoldPage], progress: Progress) -> dict[str, SystemMetrics]:
    pages = pages[-PAGES_MAX:]
    progress.begin("evidence", len(pages))
    examples = gather_examples(live, pages, progress)
    content_only = [example.without_history() for example in examples]
    variants = {"fitted": (examples, Detail(history_of(pages))), "fitted-content": (content_only, Detail())}
    return {name: _by_parts(name, live, encoder, pages, *variant, progress) for name, variant in variants.items()}


def _by_parts(
    name: str,
    live: Live,
    encoder: str,
    pages: Sequence[GoldPage],
    examples: Sequence[Example],
    detail: Detail,
    progress: Progress,
) -> SystemMetrics:
    """Return the metrics of pages, each by the ranker fitted on the parts without it."""
    progress.begin(f"fitting {name}", PARTS)
    fitted = cross_fit(examples, encoder, progress)
    rankings = [ranking_of(Recommender(live, Ranker(FittedFormula(parameters), detail))) for parameters in fitted]
    by_id = {page.id: rankings[part_of(index)] for index, page in enumerate(pages)}
    metrics = summarise(_page_metrics(name, lambda page: by_id[page.id](page), pages, progress))
    return replace(metrics, folds=len(fitted), folds_with_trees=sum(bool(parameters.trees) for parameters in fitted))


def _empty_share(recommender: Recommender, pages: Sequence[GoldPage], progress: Progress) -> float:
    """Return the share of places that the default layout leaves empty on these pages."""
    progress.begin("plans", len(pages))
    places = empty = 0
    for page in pages:
        plan = recommender.fill_slots(past_request(page))
        for slot in plan.slots:
            places += len(slot.places)
            empty += sum(place.recommendation is None for place in slot.places)
        progress.advance()
    return empty / places if places else 0.0
