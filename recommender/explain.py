"""Why a link was chosen, in words for editors: "same story: JCPOA, Vienna talks; 2 days older"."""

from __future__ import annotations

import numpy as np

from recommender.catalog.wording import Weights

SAME_STORY_WORDING = 0.20
SAME_STORY_DAYS = 45
RELATED_WORDING = 0.12
_NAMED_MOST = 3


def reason(
    surfaces: tuple[str, ...], shared: Weights, *, wording: float, gap_days: float, evergreen: bool, fallback: bool
) -> str:
    """Return a short English phrase.

    surfaces, shared: the page's terms as written, and what each adds to the wording overlap (0: not shared).
    gap_days: the page's date less the article's; negative if the article is newer.
    """
    if fallback:
        return f"latest in section; {_age(gap_days)}"
    words = ", ".join(telling(surfaces, shared))
    relation = _relation(wording, gap_days, evergreen)
    age = "background" if evergreen else _age(gap_days)
    return f"{relation}: {words}; {age}" if words else f"{relation}; {age}"


def telling(surfaces: tuple[str, ...], shared: Weights) -> list[str]:
    """Return at most three shared terms, the weightiest first, names before common words, none inside another."""
    weights = [float(w) * _clarity(s) for s, w in zip(surfaces, shared, strict=False)]
    chosen: list[str] = []
    for index in np.argsort(-np.array(weights), kind="stable") if weights else ():
        if weights[index] <= 0 or len(chosen) == _NAMED_MOST:
            break
        name = surfaces[index]
        inside = [other for other in chosen if set(other.lower().split()) & set(name.lower().split())]
        if not inside:
            chosen.append(name)
        elif len(inside) == 1 and len(name) > len(inside[0]) and inside[0].lower() in name.lower():
            chosen[chosen.index(inside[0])] = name
    return chosen


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
