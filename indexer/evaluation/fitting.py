"""Fit a ranker on editors' links: gather features, train, choose the model on later pages, calibrate.

The model is a logistic regression. Gradient-boosted trees (LightGBM, logistic loss) are added if they rank the later
fifths of the training pages better, each fifth ranked by one fitted on the pages before it. Negatives are the other
candidates of the same page: those that the default formula ranks highest, and some drawn at random.
No page sees its future: its candidates are those public at its time, and its features use only the links of other
pages that were known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression

from indexer.evaluation.links import GoldPage
from indexer.evaluation.metrics import CUTOFF, ndcg
from recommender.answer.features import FEATURE_PARTS, HISTORY, Detail, Floats
from recommender.answer.fitted_ranker import FittedFormula, FittedParameters, by_feature
from recommender.answer.link_history import LinkHistory, PastLink
from recommender.answer.rank import DefaultFormula, Ranker
from recommender.answer.recommend import EVERY, Recommender, Request
from recommender.catalog.live import Live
from recommender.catalog.snapshot.progress import SILENT, Progress
from recommender.catalog.snapshot.scope import Scope
from recommender.errors import InvalidInputError

PAGES_MIN = 50
"""Refuse to fit on fewer pages with links; gov-blogs has 959."""
PAGES_MAX = 12_000
"""Fit only on the latest pages, this many at most. Their features take 30 kB a page: 350 MB."""
PARTS = 5
"""Parts of the pages: consecutive ones to choose the model on, interleaved ones for cross-fitting."""
_HARD_NEGATIVES = 60
"""Negatives of a page that are trained on because the default formula ranks them highest."""
_RANDOM_NEGATIVES = 60
"""Negatives of a page that are trained on besides, drawn at random."""
_LATER_PARTS = (2, 3, 4)
"""0-based parts, in the order of time, that the model is chosen on."""
_MANY_PAGES_MIN = 3_000
"""From this many pages on, grow larger trees, and choose the model on the last part only."""
_SEED = 20_260_101
"""Seed of the random negatives."""
_BOOSTING: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "max_bin": 63,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "seed": 1,
    "verbose": -1,
}
"""LightGBM's parameters. Logistic loss keeps the sums log-odds. One thread: two gain nothing on small data, and wait
for each other where the machine has other work."""
_SMALL_TREES: dict[str, Any] = {"num_leaves": 7, "min_data_in_leaf": 50, "num_iterations": 200}
"""Size of the trees for few pages.

nDCG@10 before suppression on gov-blogs, in five interleaved parts: default formula .568, linear alone .628, with these
trees .642, with LambdaMART of the same size .644; on the last 30 % of the pages, fitted on the others: .609, .622 and
.623. Without other pages' links: .580, .606, .606, and .571, .584, .573.
"""
_LARGE_TREES: dict[str, Any] = {"num_leaves": 31, "min_data_in_leaf": 200, "num_iterations": 300, "num_threads": 2}
"""Size of the trees for many pages, and the threads that grow them."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One page: features float32 (n, len(FEATURES)) and labels bool (n,) of its candidates.

    odds: float32 (n,), by the default formula. relevant: number of the editor's links, candidates or not.
    """

    features: Floats
    labels: npt.NDArray[np.bool_]
    odds: Floats
    relevant: int

    def without_history(self) -> Example:
        """Return the same without the features of other pages' links."""
        features = self.features.copy()
        features[:, [part == HISTORY for part in FEATURE_PARTS]] = 0
        return replace(self, features=features)


def gather_examples(live: Live, pages: Sequence[GoldPage], progress: Progress = SILENT) -> list[Example]:
    """Gather the features of the latest PAGES_MAX of `pages`, which are oldest first; a step for each.

    The features use the links of all pages, each from a day after its page on.
    """
    recommender = Recommender(live, Ranker(detail=Detail(history_of(pages))))
    examples = []
    for page in pages[-PAGES_MAX:]:
        examples.append(example(recommender, page))
        progress.advance()
    return examples


def history_of(pages: Sequence[GoldPage], parameters: FittedParameters | None = None) -> LinkHistory:
    """Return the editors' links of pages, and those in fitted parameters, for the features of other pages."""
    earlier = parameters.history() if parameters else None
    links = [PastLink(page.id, target, page.published_at_ms) for page in pages for target in page.relevant]
    return LinkHistory([*(earlier.links if earlier else ()), *links])


def example(recommender: Recommender, page: GoldPage) -> Example:
    """Gather a page's candidates as they were at its own time, of every language and site."""
    scored = recommender.score(past_request(page))
    features = scored.features
    rows = {recommender.live.find(article_id) for article_id in page.relevant}
    labels = np.isin(features.rows, [row for row in rows if row is not None])
    half_life_days = recommender.half_life_days(page.published_at_ms)
    odds = DefaultFormula().weigh(features, half_life_days).odds
    return Example(features.matrix(half_life_days), labels, odds, len(page.relevant))


def past_request(page: GoldPage) -> Request:
    """Return the request that asks for a page's related articles as of its own time, of every language and site."""
    return Request(page.id, page.published_at_ms, Scope(languages=EVERY, sites=EVERY))


def train(examples: Sequence[Example], encoder: str, name: str = "fitted") -> FittedParameters:
    """Fit on examples in the order of time. Raises InvalidInputError if there are too few."""
    useful = [example for example in examples if example.labels.any()]
    if len(useful) < PAGES_MIN:
        problem = f"{len(useful)} of the {len(examples)} pages to fit on have a link among their candidates"
        raise InvalidInputError("links", problem, fix=f"it takes at least {PAGES_MIN}")
    sampled = [_sample(example, seed) for seed, example in enumerate(useful)]
    later, by_linear, by_trees = _ranked_later(useful, sampled, encoder)
    with_trees = _mean(by_trees, later) > _mean(by_linear, later)
    final = _train_linear(sampled, encoder, name)
    if with_trees:
        final = _with_trees(final, sampled)
    return _calibrated(final, by_trees if with_trees else by_linear, later)


def _ranked_later(
    examples: Sequence[Example], sampled: Sequence[Example], encoder: str
) -> tuple[list[Example], list[Floats], list[Floats]]:
    """Return the pages of the later parts, with their odds by models fitted on the pages before: linear, with trees."""
    later: list[Example] = []
    by_linear: list[Floats] = []
    by_trees: list[Floats] = []
    for part in _LATER_PARTS if len(examples) < _MANY_PAGES_MIN else _LATER_PARTS[-1:]:
        cut, end = len(examples) * part // PARTS, len(examples) * (part + 1) // PARTS
        linear = _train_linear(sampled[:cut], encoder, "")
        formulas = FittedFormula(linear), FittedFormula(_with_trees(linear, sampled[:cut]))
        for example in examples[cut:end]:
            later.append(example)
            by_linear.append(formulas[0].odds(example.features))
            by_trees.append(formulas[1].odds(example.features))
    return later, by_linear, by_trees


def _mean(odds: Sequence[Floats], examples: Sequence[Example]) -> float:
    return float(np.mean([_ndcg(o, example) for o, example in zip(odds, examples, strict=True)]))


def mean_ndcg(parameters: FittedParameters, examples: Sequence[Example]) -> float:
    """Return the mean nDCG of a fitted ranking, before suppression."""
    formula = FittedFormula(parameters)
    return _mean([formula.odds(example.features) for example in examples], examples)


def cross_fit(examples: Sequence[Example], encoder: str, progress: Progress = SILENT) -> list[FittedParameters]:
    """Return parameters fitted on four fifths of the examples, one for each interleaved fifth; a step for each."""
    fitted = []
    for part in range(PARTS):
        fitted.append(train([e for i, e in enumerate(examples) if i % PARTS != part], encoder))
        progress.advance()
    return fitted


def part_of(index: int) -> int:
    """Return the part that example `index` belongs to."""
    return index % PARTS


def _ndcg(odds: Floats, example: Example) -> float:
    best = np.argsort(-odds, kind="stable")[:CUTOFF]
    return ndcg(example.labels[best], example.relevant)


def _sample(example: Example, seed: int) -> Example:
    """Return a page with every positive, the hard negatives, and some random ones."""
    order = np.argsort(-example.odds, kind="stable")
    rest = order[_HARD_NEGATIVES:]
    drawn = np.random.default_rng([_SEED, seed]).choice(rest, min(_RANDOM_NEGATIVES, len(rest)), replace=False)
    chosen = np.union1d(np.concatenate((order[:_HARD_NEGATIVES], drawn)), np.flatnonzero(example.labels))
    return replace(example, features=example.features[chosen], labels=example.labels[chosen], odds=example.odds[chosen])


def _joined(examples: Sequence[Example]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    return np.concatenate([e.features for e in examples]), np.concatenate([e.labels for e in examples])


def _train_linear(sampled: Sequence[Example], encoder: str, name: str) -> FittedParameters:
    features, labels = _joined(sampled)
    means, scales = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scales[scales < 1e-6] = 1.0
    model = LogisticRegression(max_iter=1_000).fit((features - means) / scales, labels)
    intercept = float(model.intercept_[0])
    return FittedParameters(
        name, encoder, by_feature(model.coef_[0]), by_feature(means), by_feature(scales), 1.0, intercept
    )


def _with_trees(linear: FittedParameters, sampled: Sequence[Example]) -> FittedParameters:
    features, labels = _joined(sampled)
    data = lightgbm.Dataset(features, labels, init_score=FittedFormula(linear).odds(features))
    trees = lightgbm.train({**_BOOSTING, **(_SMALL_TREES if len(sampled) < _MANY_PAGES_MIN else _LARGE_TREES)}, data)
    return replace(linear, trees=trees.model_to_string())


def _calibrated(parameters: FittedParameters, odds: Sequence[Floats], examples: Sequence[Example]) -> FittedParameters:
    """Turn fitted sums into log-odds on the scale of the default formula. odds: of pages not fitted on.

    Platt's scaling (1999) gives the probability that the editor linked to a candidate. Editors link to few of the
    articles that they would accept. The default formula's scale, for which layouts set thresholds, says how few: find
    the constant that shifts its log-odds to the linked share, and shift the others by it the other way.
    """
    raw, default = np.concatenate(odds), np.concatenate([example.odds for example in examples])
    labels = np.concatenate([example.labels for example in examples])
    platt = LogisticRegression(C=1e6, max_iter=1_000).fit(raw[:, None], labels)
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    share = float(labels.mean())
    shift = float(brentq(lambda b: float((1 / (1 + np.exp(-(default + b)))).mean()) - share, -30, 30))
    return replace(parameters, slope=slope, intercept=slope * parameters.intercept + intercept - shift)
