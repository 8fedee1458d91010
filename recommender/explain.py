"""Why a link was chosen, in words for editors: "same story: JCPOA, Vienna talks; 2 days older"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

SAME_STORY_WORDING = 0.20
SAME_STORY_DAYS = 45
RELATED_WORDING = 0.12
_NAMED_MOST = 3
_LOOKED_AT = 12


@dataclass(frozen=True, slots=True)
class Subject:
    """A term that two texts share: as written, how well it tells what they are about, and its paragraphs as bits."""

    surface: str
    weight: float
    mask: int

    @property
    def words(self) -> list[str]:
        """Return its words in lower case."""
        return self.surface.lower().split()

    def within(self, other: Subject) -> bool:
        """Say whether the other has all its words."""
        return set(self.words) <= set(other.words)


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
    chosen: list[Subject] = []
    for subject in sorted(subjects, key=lambda s: -s.weight * _clarity(s.surface))[:_LOOKED_AT]:
        _add(chosen, subject)
    return [subject.surface for subject in chosen[:_NAMED_MOST]]


def _add(chosen: list[Subject], name: Subject) -> None:
    """Add a name to those chosen: alone, joined to one that it overlaps, or in place of its parts."""
    touched = next((i for i, other in enumerate(chosen) if set(other.words) & set(name.words)), None)
    if touched is None:
        chosen.append(name)
    elif merged := _merged(chosen[touched], name):
        chosen[touched] = merged
        chosen[:] = [other for i, other in enumerate(chosen) if i == touched or not other.within(merged)]


def _merged(first: Subject, second: Subject) -> Subject | None:
    """Return the longer of two names that holds the other, or both as one where one goes on as the other begins."""
    for one, other in ((first, second), (second, first)):
        if other.within(one):
            return one
    if first.mask != second.mask:
        return None
    for one, other in ((first, second), (second, first)):
        if len(one.words) > 1 < len(other.words) and one.words[-1] == other.words[0]:
            return replace(one, surface=f"{one.surface} {other.surface.split(maxsplit=1)[1]}")
    return None


def _clarity(surface: str) -> float:
    if not any(character.isalpha() for character in surface):
        return 0.1
    return 2.0 if surface[0].isupper() else 1.0


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
