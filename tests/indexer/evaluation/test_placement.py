"""Placement of inline links against the editor's paragraph, a random one and the first allowed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from indexer.evaluation import placement
from indexer.evaluation.links import GoldLink, usable
from recommender.catalog.articles import Paragraph, ParagraphKind
from recommender.catalog.live import Live
from tests.building import article, build_live

SUBJECTS = [
    "pier crane",
    "apple cider",
    "tunnel gauge",
    "curtain playwright",
    "moraine icefall",
    "comet",
    "vaccine",
    "chess",
]
ON_CURTAINS = 3
"""The paragraph, of 0 to 7, whose words the target continues. A link is allowed after 2 to 6."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return a page of eight subjects, one too short for inline links, and an older target about one subject."""
    paragraphs = [f"{words.capitalize()} {words} {words}." for words in SUBJECTS]
    heading = [Paragraph("Heading", ParagraphKind.HEADING)]
    articles = [
        article("page", title="Weekly review", paragraphs=paragraphs),
        article("parted", title="Monthly review", paragraphs=[*paragraphs[:3], *heading, *paragraphs[3:]]),
        article("short", title="Brief", paragraphs=paragraphs[:4]),
        article("target", title="Playwright behind the curtain", paragraphs=[paragraphs[ON_CURTAINS]], days_ago=5),
        article("forbidden", title="Weekly review", paragraphs=paragraphs, days_ago=6),
    ]
    return build_live(tmp_path_factory.mktemp("placement"), articles)


def _measure(live: Live, *links: GoldLink) -> dict[str, Any]:
    gold = usable(links, live)
    assert not gold.skipped
    return asdict(placement.measure(live, gold.pages))


@pytest.mark.parametrize(
    ("paragraph", "within_one", "random", "first_allowed"),
    [
        pytest.param(0, 0, 0 / 5, 0, id="two before the first allowed"),
        pytest.param(1, 0, 1 / 5, 1, id="beside the first allowed"),
        pytest.param(2, 1, 2 / 5, 1, id="the first allowed"),
        pytest.param(3, 1, 3 / 5, 1, id="the subject's own"),
        pytest.param(4, 1, 3 / 5, 0, id="the next one"),
        pytest.param(5, 0, 3 / 5, 0, id="two beside"),
        pytest.param(7, 0, 1 / 5, 0, id="the last of all"),
    ],
)
def test_a_link_counts_within_one_paragraph(
    live: Live, paragraph: int, within_one: int, random: float, first_allowed: int
) -> None:
    """The link goes after its subject's paragraph; the editor's may be one beside it."""
    report = _measure(live, GoldLink("page", "target", paragraph))
    assert report == {
        "pairs": 1,
        "within_one": within_one,
        "random": pytest.approx(random),
        "first_allowed": first_allowed,
    }


def test_headings_shift_what_is_allowed(live: Live) -> None:
    """No link stands after a heading: the subject's paragraph is one further on, and so are most others."""
    report = _measure(live, GoldLink("parted", "target", ON_CURTAINS + 1))
    assert report == {"pairs": 1, "within_one": 1, "random": pytest.approx(2 / 5), "first_allowed": 0}


def test_shares_are_means_over_links(live: Live) -> None:
    """Every link counts by itself, placed alone."""
    links = [GoldLink("page", "target", paragraph) for paragraph in (3, 5, 7, 2)]
    assert _measure(live, *links) == {
        "pairs": 4,
        "within_one": pytest.approx(2 / 4),
        "random": pytest.approx((3 + 3 + 1 + 2) / 5 / 4),
        "first_allowed": pytest.approx(2 / 4),
    }


def test_a_link_that_the_service_would_suppress_is_placed(live: Live) -> None:
    """Where a near copy of the page would stand is still a question of its place."""
    assert _measure(live, GoldLink("page", "forbidden", 3))["pairs"] == 1


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(GoldLink("short", "target", 3), id="page too short"),
        pytest.param(GoldLink("page", "target"), id="paragraph unknown"),
    ],
)
def test_links_that_say_nothing_of_placement_are_left_out(live: Live, link: GoldLink) -> None:
    """Without an inline position or the editor's paragraph there is nothing to compare."""
    nothing = {"pairs": 0, "within_one": 0.0, "random": 0.0, "first_allowed": 0.0}
    assert _measure(live, link) == nothing
    assert _measure(live, link, GoldLink("page", "target", 3))["pairs"] == 1


def test_no_pages(tmp_path: Path) -> None:
    """An archive without links has no pairs."""
    assert placement.measure(build_live(tmp_path, [article()]), []).pairs == 0
