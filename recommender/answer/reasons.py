"""Why a link was chosen, in words for editors: "same story: JCPOA, Vienna talks; 2 days older"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAME_STORY_WORDING = 0.20
SAME_STORY_DAYS = 45
RELATED_WORDING = 0.12
_NAMED_MOST = 3
_LOOKED_AT = 8


@dataclass(slots=True)
class Subject:
    """A term that two texts share: as written, how well it tells what they are about, and its paragraphs as bits."""

    surface: str
    weight: float
    mask: int


class _Name:
    """What stands for one or several subjects. words: in lower case, no possessives, in order; known: as a set."""

    __slots__ = ("known", "mask", "surface", "words")

    def __init__(self, surface: str, mask: int) -> None:
        self.surface, self.mask = surface, mask
        self.words = [word.removesuffix("'s").removesuffix("’s") for word in surface.lower().split()]
        self.known = set(self.words)


def reason(subjects: Sequence[Subject], *, wording: float, gap_days: float, evergreen: bool, fallback: bool) -> str:
    """Return a short English phrase.

    subjects: the terms that page and article share. gap_days: the page's date less the article's; negative if the
    article is newer.
    """
    if fallback:
        return f"latest in section; {_age(gap_days)}"
    words = ", ".join(telling(subjects))
    relation = _relation(wording, gap_days, evergreen)
    age = "background" if evergreen else _age(gap_days)
    return f"{relation}: {words}; {age}" if words else f"{relation}; {age}"


def telling(subjects: Sequence[Subject]) -> list[str]:
    """Return at most three shared terms, the weightiest first, names before common words, none inside another.

    "Hong" and "Hong Kong" are one name; so are "World Health" and "Health Organization" where they stand in the same
    paragraphs.
    """
    chosen: list[_Name] = []
    for subject in sorted(subjects, key=_telling_least)[:_LOOKED_AT]:
        _add(chosen, _Name(subject.surface, subject.mask))
    return [name.surface for name in chosen[:_NAMED_MOST]]


def _add(chosen: list[_Name], name: _Name) -> None:
    """Add a name to those chosen: alone, joined to one that it overlaps, or in place of its parts."""
    for at, other in enumerate(chosen):
        if not other.known.isdisjoint(name.known):
            if merged := _merged(other, name):
                chosen[at] = merged
                chosen[:] = [one for one in chosen if one is merged or not one.known <= merged.known]
            return
    chosen.append(name)


def _merged(first: _Name, second: _Name) -> _Name | None:
    """Return the longer of two names that holds the other, or both as one where one goes on as the other begins."""
    for one, other in ((first, second), (second, first)):
        if other.known <= one.known:
            return one
    if first.mask != second.mask:
        return None
    for one, other in ((first, second), (second, first)):
        if len(one.words) > 1 < len(other.words) and one.words[-1] == other.words[0]:
            return _Name(f"{one.surface} {other.surface.split(maxsplit=1)[1]}", one.mask)
    return None


def _telling_least(subject: Subject) -> float:
    """Return what sorts the most telling subject first: a name tells twice as much as a word, a mere number little."""
    surface = subject.surface
    if surface[0].isupper():
        return -2.0 * subject.weight
    return -subject.weight if surface[0].isalpha() or any(map(str.isalpha, surface)) else -0.1 * subject.weight


def _relation(wording: float, gap_days: float, evergreen: bool) -> str:
    if evergreen:
        return "explainer" if wording >= RELATED_WORDING else "explainer, related subject"
    if wording >= SAME_STORY_WORDING and abs(gap_days) <= SAME_STORY_DAYS:
        return "same story"
    return "same subject" if wording >= RELATED_WORDING else "related subject"


def _age(gap_days: float) -> str:
    days = abs(gap_days)
    if days < 1:
        return "same day"
    if days < 60:
        count, unit = round(days), "day"
    elif days < 730:
        count, unit = round(days / 30.4), "month"
    else:
        count, unit = round(days / 365.25), "year"
    return f"{count} {unit}{'s' if count != 1 else ''} {'older' if gap_days > 0 else 'newer'}"
