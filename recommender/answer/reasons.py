"""Why a link was chosen, for editors: "same story: JCPOA, Vienna talks; 2 days older"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAME_STORY_WORDING = 0.20
"""Overlap of wording (TF-IDF cosine) from which two articles tell the same story, if they are near in time."""
SAME_STORY_DAYS = 45
"""Most days between two articles of the same story."""
RELATED_WORDING = 0.12
"""Overlap of wording from which two articles have the same subject, not only a related one."""
_NAMES_MAX = 3
"""Number of shared terms that a reason names."""
_SUBJECTS_MAX = 8
"""Number of shared terms, the most telling first, that are considered for names."""


@dataclass(slots=True)
class Subject:
    """A term that two texts share.

    surface: as written. weight: how well it names their subject. mask: the page's paragraphs that have it, as bits.
    """

    surface: str
    weight: float
    mask: int


class _Name:
    """One subject, or several as one. words: in lower case, no possessives, in order; word_set: the same as a set."""

    __slots__ = ("mask", "surface", "word_set", "words")

    def __init__(self, surface: str, mask: int) -> None:
        self.surface, self.mask = surface, mask
        self.words = [word.removesuffix("'s").removesuffix("’s") for word in surface.lower().split()]
        self.word_set = set(self.words)


def reason(subjects: Sequence[Subject], *, wording: float, gap_days: float, evergreen: bool) -> str:
    """Return why a related article was chosen, as a short English phrase.

    subjects: the terms that page and article share.
    wording: TF-IDF cosine of their texts.
    gap_days: the page's date minus the article's; negative if the article is newer.
    """
    names = ", ".join(names_of(subjects))
    relation = _relation(wording, gap_days, evergreen)
    age = "background" if evergreen else _age(gap_days)
    return f"{relation}: {names}; {age}" if names else f"{relation}; {age}"


def fallback_reason(gap_days: float) -> str:
    """Return why the article of a fallback was chosen. gap_days: as in `reason`."""
    return f"latest in section; {_age(gap_days)}"


def names_of(subjects: Sequence[Subject]) -> list[str]:
    """Return at most _NAMES_MAX shared terms, most telling first, names before common words, none inside another.

    "Hong" and "Hong Kong" are one name. So are "World Health" and "Health Organization" if they stand in the same
    paragraphs.
    """
    names: list[_Name] = []
    for subject in sorted(subjects, key=_sort_key)[:_SUBJECTS_MAX]:
        _add(names, _Name(subject.surface, subject.mask))
    return [name.surface for name in names[:_NAMES_MAX]]


def _add(names: list[_Name], name: _Name) -> None:
    """Add a name: as it is, merged with one that it overlaps, or in place of its parts."""
    for index, other in enumerate(names):
        if not other.word_set.isdisjoint(name.word_set):
            if merged := _merged(other, name):
                names[index] = merged
                names[:] = [one for one in names if one is merged or not one.word_set <= merged.word_set]
            return
    names.append(name)


def _merged(first: _Name, second: _Name) -> _Name | None:
    """Return the longer name if it contains the other, or both joined if one begins with the last word of the other."""
    for one, other in ((first, second), (second, first)):
        if other.word_set <= one.word_set:
            return one
    if first.mask != second.mask:
        return None
    for one, other in ((first, second), (second, first)):
        if len(one.words) > 1 < len(other.words) and one.words[-1] == other.words[0]:
            return _Name(f"{one.surface} {other.surface.split(maxsplit=1)[1]}", one.mask)
    return None


def _sort_key(subject: Subject) -> float:
    """Return a key that sorts the most telling subject first: a name counts double, a mere number a tenth."""
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
