"""Fitting: what decides is learned, time keeps its order, scores keep the default's scale, answers stay explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import brentq

from indexer.evaluation import fitting
from indexer.evaluation.evaluate import compare_on, ranking_of
from indexer.evaluation.fitting import (
    PAGES_MIN,
    Example,
    cross_fit,
    example,
    gather_examples,
    history_of,
    mean_ndcg,
    part_of,
    past_request,
    train,
)
from indexer.evaluation.links import GoldLink, GoldPage, usable
from recommender.answer.features import FEATURE_NAMES, HISTORY, PARTS, Detail, Floats
from recommender.answer.fitted_ranker import FittedFormula, by_feature
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender
from recommender.catalog.articles import Rules
from recommender.catalog.live import Live
from recommender.clock import DAY_MS
from recommender.errors import InvalidInputError
from tests.building import NOW_MS, RecordingProgress, article, build_live

pytestmark = pytest.mark.slow

ENCODER = "fake"
AUTHORS = 20
ARTICLES = 120
WORDS = ("pier", "crane", "tide", "cargo", "pilot", "apple", "frost", "cider", "tunnel", "signal", "gauge", "curtain")
"""Every article draws on the same words: wording and meaning say nothing about the links."""

AUTHOR, SECTION, SITE = (PARTS.index(name) for name in ("author", "section", "site"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep LightGBM's threads from waiting for each other where tests run side by side."""
    monkeypatch.setitem(fitting._BOOSTING, "num_threads", 1)


# An archive in which one feature decides


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return an archive of one article a day by twenty authors in turn, and a late one under embargo."""
    rng = np.random.default_rng(1)

    def text() -> list[str]:
        return [" ".join(rng.choice(WORDS, 12)) for _ in range(3)]

    articles = [
        article(
            f"a{i:03}",
            title=" ".join(rng.choice(WORDS, 4)),
            paragraphs=text(),
            days_ago=ARTICLES - i,
            author=f"Author {i % AUTHORS}",
        )
        for i in range(ARTICLES)
    ]
    embargo = Rules(embargo_until_ms=NOW_MS + DAY_MS)
    articles.append(article("embargoed", paragraphs=text(), days_ago=ARTICLES + 1, author="Author 1", rules=embargo))
    return build_live(tmp_path_factory.mktemp("fitting"), articles)


@pytest.fixture(scope="module")
def pages(live: Live) -> tuple[GoldPage, ...]:
    """Return the pages whose editor linked to the same author's last article."""
    links = [GoldLink(f"a{i:03}", f"a{i - AUTHORS:03}") for i in range(AUTHORS, ARTICLES)]
    return usable(links, live).pages


@pytest.fixture(scope="module")
def examples(live: Live, pages: tuple[GoldPage, ...]) -> list[Example]:
    """Return the evidence of the pages."""
    recommender = Recommender(live)
    return [example(recommender, page) for page in pages]


def test_what_decides_is_learned(live: Live, pages: tuple[GoldPage, ...], examples: list[Example]) -> None:
    """Fitted on earlier pages, the later ones rank far better than by the default, which heeds authors little."""
    cut = 70
    fitted = train(examples[:cut], ENCODER)
    assert fitted.weights["author"] > 0.5
    rankings = {
        "default": ranking_of(Recommender(live)),
        "fitted": ranking_of(Recommender(live, Ranker(FittedFormula(fitted)))),
    }
    systems = compare_on(rankings, pages[cut:])
    assert systems["fitted"].means["ndcg@10"] > 0.9
    assert systems["fitted"].intervals["ndcg@10"][0] > systems["default"].intervals["ndcg@10"][1]


def test_an_example_sees_only_what_was_public(live: Live, pages: tuple[GoldPage, ...], examples: list[Example]) -> None:
    """The candidates of a page are the articles before it, the embargoed one not among them."""
    for i, (page, one) in list(enumerate(zip(pages, examples, strict=True)))[::9]:
        assert page.id == f"a{i + AUTHORS:03}"
        assert len(one.features) == len(one.labels) == len(one.odds) == i + AUTHORS
        rows = Recommender(live).score(past_request(page)).features.rows
        assert max(live.public_at_ms(row) for row in rows.tolist()) < page.published_at_ms
        assert rows[one.labels].tolist() == [live.find(f"a{i:03}")]


def test_links_that_are_no_candidates_still_count(live: Live, pages: tuple[GoldPage, ...]) -> None:
    """A page's number of links is that of its editor's, so that a fit is not praised for what retrieval missed."""
    page = pages[0]
    more = replace(page, links=(*page.links, GoldLink(page.id, "embargoed"), GoldLink(page.id, "gone")))
    found = example(Recommender(live), more)
    assert (found.relevant, int(found.labels.sum())) == (3, 1)


def test_the_fit_does_not_depend_on_the_run(examples: list[Example]) -> None:
    """The same examples give the same ranker, byte for byte."""
    assert train(examples, ENCODER).to_json() == train(examples, ENCODER).to_json()


def test_a_fit_names_itself_and_its_encoder(examples: list[Example]) -> None:
    """Name and encoder are those that were given."""
    parameters = train(examples, "an encoder", name="ours")
    assert (parameters.name, parameters.encoder) == ("ours", "an encoder")


# Examples of numbers alone


def _synthetic(n: int, label: Callable[[Floats, np.random.Generator], Any], candidates: int = 60) -> list[Example]:
    """Return n pages of features 0 or 1; the default odds are 3 for each of section and wording, less 4."""
    rng = np.random.default_rng(7)
    made = []
    for _ in range(n):
        features = rng.integers(0, 2, (candidates, len(FEATURE_NAMES))).astype(np.float32)
        labels = label(features, rng)
        made.append(Example(features, labels, _default_odds(features), max(1, int(labels.sum()))))
    return made


def _default_odds(features: Floats) -> Floats:
    return (3 * features[:, SECTION] + 3 * features[:, PARTS.index("wording")] - 4).astype(np.float32)


def _either(features: Floats, rng: np.random.Generator) -> Any:
    """Label those of the same section or the same site, but not both: no weighted sum tells them."""
    return (features[:, SECTION] != features[:, SITE]) & (rng.random(len(features)) < 0.9)


def _author(features: Floats, _: np.random.Generator) -> Any:
    return features[:, AUTHOR] == 1


def _as_the_default_says(features: Floats, rng: np.random.Generator) -> Any:
    """Label candidates with a tenth of the odds that the default formula gives them."""
    odds = _default_odds(features) + np.log(0.1)
    return rng.random(len(features)) < 1 / (1 + np.exp(-odds))


def test_trees_are_added_where_they_rank_later_pages_better() -> None:
    """Trees learn what no weighted sum can; the linear model alone stays at chance."""
    made = _synthetic(120, _either)
    parameters = train(made, ENCODER)
    assert parameters.trees
    assert mean_ndcg(parameters, made) > mean_ndcg(replace(parameters, trees=""), made) + 0.3


def test_trees_are_left_out_where_they_do_not() -> None:
    """Where the weighted sum ranks perfectly the ranker stays linear."""
    made = _synthetic(60, _author)
    parameters = train(made, ENCODER)
    assert not parameters.trees
    assert mean_ndcg(parameters, made) == pytest.approx(1.0)


def test_scores_keep_the_scale_of_the_default_formula() -> None:
    """Where editors link with a tenth of the default's odds, the fitted odds are the default's."""
    made = _synthetic(200, _as_the_default_says, candidates=300)
    model = FittedFormula(train(made, ENCODER))
    features = np.concatenate([one.features for one in made])
    default, fitted = _default_odds(features), model.odds(features)
    assert float(np.corrcoef(default, fitted)[0, 1]) > 0.95
    assert float(fitted.mean()) == pytest.approx(float(default.mean()), abs=0.15)
    assert float(fitted.std()) == pytest.approx(float(default.std()), rel=0.15)


@pytest.mark.parametrize("label", [_either, _author, _as_the_default_says])
def test_as_many_are_accepted_as_by_the_default(
    label: Callable[[Floats, np.random.Generator], Any],
) -> None:
    """Shifted alike, fitted and default odds both predict the share that editors linked to.

    Nearly: a fit is calibrated on pages that it was not fitted on.
    """
    made = _synthetic(100, label)
    labels = np.concatenate([one.labels for one in made])
    default = np.concatenate([one.odds for one in made]).astype(np.float64)
    model = FittedFormula(train(made, ENCODER))
    fitted = np.concatenate([model.odds(one.features) for one in made]).astype(np.float64)
    share = float(labels.mean())
    shift = float(brentq(lambda b: _mean_share(default + b) - share, -30, 30))
    assert _mean_share(fitted + shift) == pytest.approx(share, abs=0.03)


def _mean_share(odds: npt.NDArray[np.float64]) -> float:
    return float((1 / (1 + np.exp(-odds))).mean())


@pytest.mark.parametrize("with_trees", [False, True], ids=["linear", "with trees"])
def test_contributions_sum_to_the_log_odds(live: Live, pages: tuple[GoldPage, ...], with_trees: bool) -> None:
    """What each feature adds, and the base, make up every candidate's log-odds."""
    parameters = train(_synthetic(120, _either if with_trees else _author), ENCODER)
    assert bool(parameters.trees) is with_trees
    recommender = Recommender(live, Ranker(FittedFormula(parameters)))
    scored = recommender.score(past_request(pages[-1]))
    assert len(scored.scores) == ARTICLES - 1
    for index in range(0, len(scored.scores), 7):
        explained = scored.explain(index)
        assert [name for name, _, _ in explained[-1:]] == ["base"]
        assert sorted(name for name, _, _ in explained[:-1]) == sorted({*PARTS, HISTORY})
        odds = sum(added for _, _, added in explained)
        assert odds == pytest.approx(float(scored.weighed.odds[index]), abs=1e-4)
        assert 1 / (1 + np.exp(-odds)) == pytest.approx(float(scored.scores[index]), abs=1e-4)


# Other pages' links


def _hub_links(live: Live) -> tuple[GoldPage, ...]:
    """Return pages whose editor linked to one of three articles of the first week, whoever wrote it."""
    links = [GoldLink(f"a{i:03}", f"a{(i // 5) % 3:03}") for i in range(AUTHORS, ARTICLES)]
    return usable(links, live).pages


def test_what_editors_linked_to_before_is_learned(live: Live) -> None:
    """Targets that only earlier pages' links predict are found with them, and not without."""
    pages = _hub_links(live)
    examples = gather_examples(live, pages)
    cut = 70
    with_links = train(examples[:cut], ENCODER)
    without = train([one.without_history() for one in examples[:cut]], ENCODER)
    assert mean_ndcg(with_links, examples[cut:]) > mean_ndcg(without, examples[cut:]) + 0.1
    assert (without.weights["linked"], without.weights["linked_near"]) == (0.0, 0.0)


def test_no_example_knows_its_own_page_s_links_or_later_ones(live: Live) -> None:
    """The count of links is that of the pages published a day before and earlier."""
    pages = _hub_links(live)
    column = FEATURE_NAMES.index("linked")
    for page, one in zip(pages, gather_examples(live, pages), strict=True):
        known = [other for other in pages if other.published_at_ms <= page.published_at_ms - DAY_MS]
        rows = Recommender(live).score(past_request(page)).features.rows.tolist()
        counts = [sum(live.record(row).id in other.relevant for other in known) for row in rows]
        assert np.expm1(one.features[:, column]) == pytest.approx(np.array(counts, float), abs=1e-3)


def test_only_the_latest_pages_are_gathered(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by leaving out the oldest."""
    monkeypatch.setattr(fitting, "PAGES_MAX", 30)
    pages = _hub_links(live)
    progress = RecordingProgress()
    progress.begin("evidence", 30)
    examples = gather_examples(live, pages, progress)
    assert len(examples) == sum(progress.steps[0]) == 30
    recommender = Recommender(live, Ranker(detail=Detail(history_of(pages))))
    assert np.array_equal(examples[-1].features, example(recommender, pages[-1]).features)


# Too little to fit on, and parts


@pytest.mark.parametrize(("found", "missed"), [(0, 0), (PAGES_MIN - 1, 0), (PAGES_MIN - 1, 30)])
def test_too_few_pages_are_refused(found: int, missed: int) -> None:
    """Pages none of whose links is a candidate do not count."""
    made = [*_synthetic(found, _author), *_synthetic(missed, lambda features, _: np.zeros(len(features), bool))]
    with pytest.raises(InvalidInputError) as caught:
        train(made, ENCODER)
    assert str(caught.value) == (
        f"links: {found} of the {found + missed} pages to fit on have a link among their candidates"
        " (it takes at least 50)"
    )


def test_just_enough_pages_are_fitted_on() -> None:
    """Fifty pages are enough; pages without a found link among them do no harm."""
    nothing = _synthetic(5, lambda features, _: np.zeros(len(features), bool))
    assert train([*_synthetic(PAGES_MIN, _author), *nothing], ENCODER).weights["author"] > 1


def test_cross_fitting_never_trains_on_the_part_it_ranks() -> None:
    """Each part's ranker is the one trained on the four others."""
    made = _synthetic(70, _as_the_default_says)
    made = [replace(one, labels=one.labels | (one.features[:, AUTHOR] > 0)) for one in made]
    progress = RecordingProgress()
    progress.begin("fitting", 5)
    fitted = cross_fit(made, ENCODER, progress)
    assert progress.steps == [[1, 1, 1, 1, 1]]
    for part, parameters in enumerate(fitted):
        assert parameters == train([one for i, one in enumerate(made) if part_of(i) != part], ENCODER)
    assert len({parameters.to_json() for parameters in fitted}) == len(fitted)


def test_values_by_feature() -> None:
    """Values stand under the names of the score parts, as plain numbers."""
    found = by_feature(np.arange(len(FEATURE_NAMES), dtype=np.float32).tolist())
    assert list(found) == list(FEATURE_NAMES)
    assert list(found.values()) == [float(i) for i in range(len(FEATURE_NAMES))]
