"""Ranking: what each feature does to a score, how scores are explained and ordered, how features are read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.answer.features import FEATURE_NAMES, FEATURE_PARTS, FEATURES_VERSION, PARTS, Features, Floats
from recommender.answer.page import stored_page
from recommender.answer.rank import (
    DEFAULT_WEIGHTS,
    FRESHNESS_ARTICLES,
    DefaultFormula,
    Ranker,
    Scored,
    default_half_life_days,
)
from recommender.answer.retrieve import Candidates
from recommender.catalog.articles import Rules
from recommender.catalog.live import Live
from recommender.clock import DAY_MS
from tests.building import NOW_MS, article, build_live

NAMES = (
    *("wording", "meaning", "headline", "title", "freshness"),
    *("section", "tags", "site", "author", "length"),
)
"""The score parts' names, in the order of a fitted ranker's columns."""
HALF_LIFE = 10.0


def features(n: int = 1, **columns: list[float]) -> Features:
    """Return the features of n candidates: middling ones, unless a column is given."""
    usual = {
        "wording": 0.1,
        "meaning": 0.5,
        "headline": 0.4,
        "title": 0.2,
        "freshness": 5.0,
        "evergreen": 0.0,
        "section": 0.0,
        "tags": 0.25,
        "site": 1.0,
        "author": 0.0,
        "length": 500.0,
    }
    values = {name: np.array(columns.get(name, [value] * n), np.float32) for name, value in usual.items()}
    published = np.array(columns.get("published_at_ms", range(1, n + 1)), np.int64)
    hashes = np.array(columns.get("id_hashes", range(n)), np.uint64)
    evergreen = values.pop("evergreen")
    return Features(np.arange(n), published, hashes, evergreen, values)


def score(candidates: Features, half_life_days: float = HALF_LIFE) -> Scored:
    """Score by the default formula."""
    return Ranker().score(candidates, half_life_days)


def parts(candidates: Features, half_life_days: float = HALF_LIFE) -> dict[str, Floats]:
    """Return what the default formula adds to the log-odds for each score part."""
    return DefaultFormula().contributions(candidates, half_life_days)


# The formula


@pytest.mark.parametrize(
    ("column", "rising"),
    [
        ("wording", [0.0, 0.01, 0.1, 0.5, 1.0]),
        ("meaning", [-0.5, 0.0, 0.3, 0.6, 0.8]),
        ("headline", [-0.5, 0.0, 0.3, 0.6, 0.8]),
        ("freshness", [3650.0, 100.0, 10.0, 1.0, 0.0]),
        ("title", [0.0, 0.25, 1.0]),
        ("section", [0.0, 1.0]),
        ("tags", [0.0, 0.2, 0.5, 1.0]),
        ("site", [0.0, 1.0]),
        ("author", [0.0, 1.0]),
        ("length", [70.0, 150.0, 300.0, 600.0, 1300.0]),
        ("evergreen", [0.0, 1.0]),
    ],
)
def test_each_feature_raises_the_score(column: str, rising: list[float]) -> None:
    """All else equal, a larger feature, or a smaller age, gives a higher score."""
    scores = score(features(len(rising), **{column: rising})).scores
    assert np.all(np.diff(scores) > 0)


@pytest.mark.parametrize(("column", "values"), [("meaning", [0.9, 0.95, 1.0]), ("headline", [0.9, 0.95, 1.0])])
def test_cosines_level_off(column: str, values: list[float]) -> None:
    """From the ceiling on a larger cosine adds nothing: the largest are copies rather than related articles."""
    assert len(set(score(features(3, **{column: values})).scores.tolist())) == 1


def test_length_levels_off_both_ways() -> None:
    """Sixty words count as little as none, and five thousand as much as two thousand."""
    length = parts(features(6, length=[0.0, 10.0, 60.0, 2_000.0, 5_000.0, 300.0]))["length"]
    assert length[0] == length[1] == length[2] == -length[3] == -length[4] < 0
    assert length[5] == 0


def test_each_column_moves_its_own_part_alone() -> None:
    """A part depends on no other feature; age and evergreen are both freshness."""
    before = parts(features())
    moved = {"evergreen": "freshness"}
    for name in (*NAMES, *moved):
        after = parts(features(1, **{name: [0.7]}))
        assert {part for part in after if after[part][0] != before[part][0]} == {moved.get(name, name)}


def test_the_first_shared_words_count_most() -> None:
    """The same step of the wording overlap adds more to a small overlap than to a large one."""
    low, more, much, most = parts(features(4, wording=[0.0, 0.1, 0.5, 0.6]))["wording"]
    assert more - low > 3 * (most - much)


def test_a_negative_overlap_counts_as_none() -> None:
    """An overlap that rounding put below zero counts as none, and is no error."""
    none = features(2, wording=[-1e-3, 0.0])
    assert parts(none)["wording"].tolist() == [0, 0]
    assert none.matrix(HALF_LIFE)[:, NAMES.index("wording")].tolist() == [0, 0]


@given(
    wording=st.floats(0, 1, width=32),
    meaning=st.floats(-1, 1, width=32),
    headline=st.floats(-1, 1, width=32),
    age_days=st.floats(0, 20_000, width=32),
    half_life=st.floats(0.001, 10_000),
    shares=st.tuples(*[st.floats(0, 1, width=32)] * 2),
    words=st.integers(0, 100_000),
    flags=st.tuples(*[st.sampled_from([0.0, 1.0])] * 4),
)
def test_parts_and_base_sum_to_the_score_s_log_odds(
    wording: float,
    meaning: float,
    headline: float,
    age_days: float,
    half_life: float,
    shares: tuple[float, ...],
    words: int,
    flags: tuple[float, ...],
) -> None:
    """Scores lie between 0 and 1 and are the logistic function of what the explanation adds up to."""
    one = features(
        wording=[wording],
        meaning=[meaning],
        headline=[headline],
        freshness=[age_days],
        evergreen=[flags[0]],
        section=[flags[1]],
        site=[flags[2]],
        author=[flags[3]],
        title=[shares[0]],
        tags=[shares[1]],
        length=[words],
    )
    scored = score(one, half_life)
    explained = scored.explain(0)
    log_odds = sum(contribution for _, _, contribution in explained)
    assert scored.weighed.odds[0] == pytest.approx(log_odds, rel=1e-5, abs=1e-5)
    assert 0 <= scored.scores[0] <= 1
    assert scored.scores[0] == pytest.approx(1 / (1 + math.exp(-log_odds)), rel=1e-3, abs=1e-6)
    assert {name for name, _, _ in explained} == {*NAMES, "base"}


def test_an_explanation_has_values_and_the_largest_contribution_first() -> None:
    """Each part shows its feature in the feature's own unit; "base" comes last."""
    scored = score(features(2, wording=[0.0, 0.25], freshness=[0.0, 30.0], section=[0.0, 1.0], length=[9.0, 600.0]))
    explained = scored.explain(1)
    assert explained[-1] == ("base", 1.0, DefaultFormula().base)
    sizes = [abs(contribution) for _, _, contribution in explained[:-1]]
    assert sizes == sorted(sizes, reverse=True)
    assert {name: value for name, value, _ in explained} == pytest.approx(
        {
            "wording": 0.25,
            "meaning": 0.5,
            "headline": 0.4,
            "title": 0.2,
            "freshness": 30.0,
            "section": 1.0,
            "tags": 0.25,
            "site": 1.0,
            "author": 0.0,
            "length": 600.0,
            "base": 1.0,
        }
    )
    contribution = {name: part for name, _, part in explained}
    assert contribution["section"] == pytest.approx(DEFAULT_WEIGHTS["section"])
    assert contribution["tags"] == pytest.approx(DEFAULT_WEIGHTS["tags"] / 4)
    assert contribution["length"] == pytest.approx(DEFAULT_WEIGHTS["length"] * math.log(2))
    assert contribution["freshness"] == pytest.approx(-DEFAULT_WEIGHTS["freshness"] * math.log1p(30.0 / HALF_LIFE))


def test_a_ranker_uses_the_given_formula() -> None:
    """The formula of a ranker decides the scores and gives the name."""
    by_site = DefaultFormula("site-only", base=0.0, weights={**dict.fromkeys(NAMES, 0.0), "site": 2.0})
    ranker = Ranker(by_site)
    assert ranker.formula.name == "site-only"
    assert ranker.score(features(2, site=[0.0, 1.0]), 1.0).scores == pytest.approx([0.5, 1 / (1 + math.exp(-2))])


@pytest.mark.parametrize("label", ["section", "site"])
def test_a_label_of_all_articles_moves_no_score(label: str) -> None:
    """A label counts by how rare it is in the archive; one that every article has moves no score."""
    two = features(2, **{label: [0.0, 1.0]})
    for share in (0.0, 0.25, 1.0):
        added = parts(replace(two, **{f"{label}_share": share}))[label]  # type: ignore[arg-type]
        weight = DEFAULT_WEIGHTS[label]
        assert added.tolist() == pytest.approx([-weight * share, weight * (1 - share)])


# Features


def test_gaps_are_counted_from_the_best_of_the_page() -> None:
    """The candidate with the largest value of a feature has no gap, the others are below it."""
    found = features(3, wording=[0.1, 0.3, 0.0], meaning=[0.5, 0.1, 0.2], headline=[0.1, 0.1, 0.4]).matrix(HALF_LIFE)
    names = FEATURE_NAMES
    for name in ("wording", "meaning", "headline"):
        column, gap = found[:, names.index(name)], found[:, names.index(f"{name}_gap")]
        assert gap.tolist() == pytest.approx((column - column.max()).tolist())


def test_a_ranker_s_file_can_rely_on_names_order_and_parts() -> None:
    """Files of fitted rankers name the features, and answers the parts; neither may change without a new version."""
    more = {
        "wording_gap": "wording",
        "meaning_gap": "meaning",
        "headline_gap": "headline",
        "shared": "wording",
        "strongest": "wording",
        "own_title": "title",
        "titles": "title",
        "linked": "history",
        "linked_near": "history",
    }
    assert FEATURES_VERSION == "features-2"
    assert (*NAMES, *more) == FEATURE_NAMES
    assert (*NAMES, *more.values()) == FEATURE_PARTS


def test_the_matrix_has_a_column_for_each_feature() -> None:
    """Columns hold the raw values, but logarithms of wording, age in half-lives and words."""
    columns = {name: [n / 20, n / 30] for n, name in enumerate(NAMES, 1)}
    found = features(2, **{**columns, "freshness": [30.0, 0.0], "length": [0.0, 300.0]}).matrix(HALF_LIFE)
    logarithms = {
        "wording": [math.log(1 + (1 / 20) / 0.02), math.log(1 + (1 / 30) / 0.02)],
        "freshness": [math.log(4), 0.0],
        "length": [0.0, math.log(301)],
    }
    assert PARTS == NAMES
    assert (found.shape, str(found.dtype), found.flags.c_contiguous) == ((2, len(FEATURE_NAMES)), "float32", True)
    for n, name in enumerate(NAMES, 1):
        expected = logarithms.get(name, [n / 20, n / 30])
        assert found[:, n - 1].tolist() == pytest.approx(expected), name


def test_an_evergreen_article_has_no_age() -> None:
    """However old an evergreen article is, its age feature is that of today's."""
    found = features(2, freshness=[3650.0, 0.0], evergreen=[1.0, 0.0]).matrix(HALF_LIFE)
    assert found[:, NAMES.index("freshness")].tolist() == [0.0, 0.0]


def test_features_of_no_candidates() -> None:
    """Without candidates the matrix has all columns and no rows; the shortest half-life leaves every feature finite."""
    assert features(0).matrix(HALF_LIFE).shape == (0, len(FEATURE_NAMES))
    assert np.isfinite(features(2, freshness=[0.0, 20_000.0]).matrix(0.0)).all()


# Freshness


def test_age_counts_in_half_lives() -> None:
    """Ten days at a half-life of ten count as one day at a half-life of one."""
    slow, fast = score(features(freshness=[10.0]), 10.0), score(features(freshness=[1.0]), 1.0)
    assert slow.scores == pytest.approx(fast.scores)
    assert score(features(freshness=[10.0]), 1.0).scores < slow.scores


def test_age_does_not_count_for_evergreens() -> None:
    """An evergreen of ten years scores as one of today."""
    two = features(2, freshness=[3650.0, 0.0], evergreen=[1.0, 0.0])
    assert score(two).scores[0] == score(two).scores[1]
    assert parts(two)["freshness"].tolist() == [0.0, 0.0]


def test_no_half_life_is_no_division_by_zero() -> None:
    """With a half-life of zero every score is finite."""
    assert np.isfinite(score(features(2, freshness=[0.0, 100.0]), 0.0).scores).all()


@pytest.mark.parametrize("every_days", [0.25, 1.0, 2.0, 10.0])
def test_the_half_life_follows_the_publishing_rate(tmp_path: Path, every_days: float) -> None:
    """The half-life is the time in which the archive publishes FRESHNESS_ARTICLES, at any publishing rate."""
    count = 30
    live = build_live(tmp_path, [article(f"a{n}", days_ago=1 + n * every_days) for n in range(count)])
    expected = FRESHNESS_ARTICLES / (count / ((count - 1) * every_days))
    assert default_half_life_days(live, NOW_MS) == pytest.approx(expected)


def test_the_half_life_is_that_of_the_time_asked_for(tmp_path: Path) -> None:
    """Articles that were not public yet do not change the archive's past rate."""
    slow = [article(f"old{n}", days_ago=100 + 10 * n) for n in range(10)]
    live = build_live(tmp_path, slow + [article(f"new{n}", days_ago=n / 10) for n in range(50)])
    then = default_half_life_days(live, NOW_MS - 50 * DAY_MS)
    assert then == pytest.approx(FRESHNESS_ARTICLES / (10 / 90))
    assert default_half_life_days(live, NOW_MS) < then


def test_an_empty_archive_has_some_half_life(tmp_path: Path) -> None:
    """An empty archive has a half-life of one day."""
    assert default_half_life_days(build_live(tmp_path, []), NOW_MS) == 1.0


# Order


def test_best_first_and_of_equals_the_newer() -> None:
    """The order is by score, then newest first, then by id hash, which the next snapshot does not change."""
    candidates = features(4, meaning=[0.5, 0.6, 0.5, 0.5], published_at_ms=[20, 10, 30, 30], id_hashes=[7, 8, 10, 9])
    scored = score(candidates)
    assert scored.order().tolist() == [1, 3, 2, 0]


def test_no_candidates_score_nothing() -> None:
    """Scoring no candidates gives no scores and no order."""
    scored = score(features(0))
    assert scored.scores.shape == (0,)
    assert scored.order().tolist() == []


# Features of real articles

BODY = "Envoys of the two ports met in Tarvik on Monday and agreed on a price for pilotage through the strait."
OTHER = "The orchestra opens its season with a symphony for brass and a cycle of songs by a young composer."


def gathered(live: Live, page_id: str, **labels: Any) -> dict[str, dict[str, float]]:
    """Return the features of every article of an archive beside a page, by id. labels: those to replace in the page."""
    row = live.find(page_id)
    assert row is not None
    rows = np.arange(live.count)
    stored = stored_page(live, row)
    asked = replace(stored, labels=replace(stored.labels, **labels))
    found = Candidates(rows, live.main_vectors(rows) @ asked.main, {})
    read = Ranker().gather(live, asked, found, NOW_MS)
    return {live.record(r).id: {**read.values(r), "evergreen": float(read.evergreen[r])} for r in rows.tolist()}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return an archive of a page and nine articles, each different from it in its own way."""
    return build_live(
        tmp_path_factory.mktemp("features"),
        [
            article("page", paragraphs=[BODY], days_ago=10),
            article("copy", paragraphs=[BODY], days_ago=10),
            article("older", paragraphs=[BODY], days_ago=12.5),
            article("newer", paragraphs=[BODY], days_ago=7.5, rules=Rules(evergreen=True)),
            article("other", title="Brass in spring", paragraphs=[OTHER], days_ago=10),
            article("abroad", paragraphs=[BODY], days_ago=10, site="elsewhere.example", section="economy"),
            article("bare", paragraphs=[BODY], days_ago=10, site="", section=""),
            article("signed", paragraphs=[BODY, OTHER], days_ago=10, author="Ines Vale", tags=["strait", "prices"]),
            article("quoting", title="Brass and pilotage", paragraphs=[OTHER], days_ago=10, tags=["strait"]),
            article("quoted", title="Pilotage", paragraphs=[OTHER], days_ago=10, tags=["Strait"], author="ines vale"),
        ],
    )


def test_the_same_text_has_the_largest_features(live: Live) -> None:
    """Wording, meaning and headline of a copy are 1, within the stored precision."""
    copy = gathered(live, "page")["copy"]
    assert copy["wording"] == pytest.approx(1, abs=0.01)
    assert copy["meaning"] == pytest.approx(1, abs=0.01)
    assert copy["headline"] == pytest.approx(1, abs=0.04)
    assert (copy["freshness"], copy["section"], copy["site"]) == (0.0, 1.0, 1.0)


def test_another_text_has_little(live: Live) -> None:
    """A text without shared terms has no overlap of wording, and lower cosines."""
    read = gathered(live, "page")
    assert read["other"]["wording"] == 0
    assert read["other"]["meaning"] < read["older"]["meaning"]
    assert read["other"]["headline"] < read["older"]["headline"]


def test_age_is_the_distance_in_time_either_way(live: Live) -> None:
    """An article two and a half days before or after the page has an age of two and a half days."""
    read = gathered(live, "page")
    assert (read["older"]["freshness"], read["newer"]["freshness"]) == (2.5, 2.5)
    assert (read["older"]["evergreen"], read["newer"]["evergreen"]) == (0.0, 1.0)


def test_section_and_site_are_compared_with_the_page_s(live: Live) -> None:
    """Other labels give 0; an unknown label, of page or candidate, equals none."""
    read = gathered(live, "page")
    assert (read["abroad"]["section"], read["abroad"]["site"]) == (0.0, 0.0)
    assert (read["bare"]["section"], read["bare"]["site"]) == (0.0, 0.0)
    unknown = gathered(live, "page", section="", site="")
    assert {(values["section"], values["site"]) for values in unknown.values()} == {(0.0, 0.0)}


def test_the_candidate_s_title_is_compared_with_the_page_s_text(live: Live) -> None:
    """The feature is the share of the candidate's title that the page uses in title or body, not the reverse."""
    read = gathered(live, "page")
    assert [read["copy"]["title"], read["quoted"]["title"]] == pytest.approx([1, 1])
    assert read["other"]["title"] == 0
    assert 0 < read["quoting"]["title"] < 1
    assert gathered(live, "quoted")["page"]["title"] == 0


def test_tags_are_compared_with_the_page_s(live: Live) -> None:
    """The feature is shared tags over tags of either; 0 if page or candidate has none."""
    read = gathered(live, "page", tags=("strait", "talks", "prices"))
    tags = {id: values["tags"] for id, values in read.items() if values["tags"]}
    assert tags == {"signed": pytest.approx(2 / 3), "quoting": pytest.approx(1 / 3)}
    assert {values["tags"] for values in gathered(live, "page").values()} == {0.0}


def test_the_author_is_compared_with_the_page_s(live: Live) -> None:
    """Names are equal or not; an unknown author equals none."""
    read = gathered(live, "page", author="Ines Vale")
    assert [id for id, values in read.items() if values["author"]] == ["signed"]
    assert {values["author"] for values in gathered(live, "page").values()} == {0.0}


def test_length_is_that_of_the_candidate_in_words(live: Live) -> None:
    """Title, summary and paragraphs of the candidate count."""
    read = gathered(live, "page")
    title = len(["Talks", "on", "the", "strait", "resume"])
    assert read["copy"]["length"] == title + len(BODY.split())
    assert read["signed"]["length"] == title + len(BODY.split()) + len(OTHER.split())


def test_features_do_not_depend_on_what_was_ranked_before(live: Live) -> None:
    """A ranker's working memory is clean again after each page."""
    ranker = Ranker()
    rows = np.arange(live.count)

    def wording(row: int) -> list[float]:
        page = stored_page(live, row)
        read = ranker.gather(live, page, Candidates(rows, live.main_vectors(rows) @ page.main, {}), NOW_MS)
        values: list[float] = read["wording"].tolist()
        return values

    first = [wording(row) for row in rows.tolist()]
    assert [wording(row) for row in reversed(rows.tolist())] == first[::-1]
