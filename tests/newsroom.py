"""A made-up newsroom: articles of five beats, each with words of its own and words that all share."""

from __future__ import annotations

import random
from typing import Any

from recommender.catalog.articles import Article
from tests.building import article

SECTIONS = ("harbour", "orchards", "railways", "theatre", "glaciers")
BEATS = {
    "harbour": "pier crane tide cargo pilot dredging berth customs tonnage breakwater mooring tug ferry quay container",
    "orchards": "apple blossom frost cider grafting pollen harvest beehive pruning orchardist pear irrigation crate",
    "railways": "tunnel signal gauge sleeper timetable locomotive junction freight viaduct commuter platform depot",
    "theatre": "rehearsal curtain playwright ensemble matinee premiere stagehand monologue costume critic balcony",
    "glaciers": "moraine meltwater crevasse snowpack borehole climate summit ablation icefall survey sediment ridge",
}
COMMON = "officials reported monday plans council residents budget spokesperson described changes region committee"
PER_SECTION = 8
PAGE = "harbour-0"
"""A stored page of eight paragraphs with something related in the archive."""


def newsroom() -> list[Article]:
    """Return 40 articles, eight of each section, the first of each the newest; no two alike."""
    return [made_up(section, number) for section in SECTIONS for number in range(PER_SECTION)]


def made_up(section: str, number: int) -> Article:
    """Return one article of a section; another number is another text on the same beat."""
    dice = random.Random(f"{section}-{number}")
    beat, common = BEATS[section].split(), COMMON.split()
    return article(
        f"{section}-{number}",
        title=f"{dice.choice(beat)} {dice.choice(beat)} {dice.choice(common)} {number}".capitalize(),
        summary=sentence(dice, section, 12),
        paragraphs=[sentence(dice, section, 24) for _ in range(8)],
        days_ago=1 + number % 1_000 * 3,
        section=section,
        tags=[section, f"tag-{number % 2}"],
    )


def piece(id: str, beat: str = "harbour", **changes: Any) -> Article:
    """Return an article of six paragraphs on a beat; no two ids have the same text. changes: arguments of `article`."""
    dice, own = random.Random(id), BEATS[beat].split()
    values: dict[str, Any] = {
        "title": f"{dice.choice(own)} {dice.choice(own)} {id}".capitalize(),
        "summary": sentence(dice, beat, 10),
        "paragraphs": [sentence(dice, beat, 22) for _ in range(6)],
        "section": beat,
    }
    return article(id, **{**values, **changes})


def sentence(dice: random.Random, beat: str, words: int) -> str:
    """Return a sentence, six words of ten from the beat."""
    own, common = BEATS[beat].split(), COMMON.split()
    return " ".join(dice.choice(own if dice.random() < 0.6 else common) for _ in range(words)).capitalize() + "."
