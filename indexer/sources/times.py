"""Read the ways in which publishers write a date, as long as they can be read one way only."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import product

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ]\s*(\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)\s*(Z|UTC|GMT|[+-]\d\d:?\d\d|[+-]\d\d)?)?"
)
_MAIL = re.compile(
    r"((?:[A-Z]{3},? )?\d{1,2}[ -][A-Z]{3}[ -][12]\d{3} \d{1,2}:\d\d(?::\d\d)?)"
    r"(?: ?([+-]\d\d:?\d\d|Z|UTC?|GMT|[ECMP][SD]T))?(?: \([^()]*\))?",
    re.IGNORECASE,
)
"""As in mail. Of names of zones RFC 5322 knows these; others, such as IST, are of several zones."""
_SEPT = re.compile(r"\bSept\b", re.IGNORECASE)
_WEEKDAY = re.compile(r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? ", re.IGNORECASE)
_DAYS = ("%B %d, %Y", "%B %d %Y", "%b %d, %Y", "%b. %d, %Y", "%d %B %Y", "%d %b %Y", "%Y/%m/%d")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")


def to_rfc3339(text: str) -> str:
    """Return `text` as RFC 3339 if it names a moment or a day unmistakably, else `text` itself, trimmed.

    Without a zone it is taken as UTC, without a time as midnight; a zone that is not known is not guessed. All-numeric
    forms other than year-month-day are left alone, since 03/04/2019 means two days; English month names are understood.
    """
    text = " ".join(text.split())
    moment = _iso(text) or _mail(text) or _words(text)
    if moment is None:
        return text
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _iso(text: str) -> datetime | None:
    match = _ISO.fullmatch(text.upper())
    if match is None:
        return None
    day, clock, zone = match.groups()
    zone = "+00:00" if zone in ("Z", "UTC", "GMT") else zone or ""
    try:
        return datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone}")
    except ValueError:
        return None


def _mail(text: str) -> datetime | None:
    match = _MAIL.fullmatch(text)
    if match is None:
        return None
    moment, zone = match.groups(default="")
    try:
        return parsedate_to_datetime(f"{moment} {zone.replace(':', '')}")
    except ValueError:
        return None


def _words(text: str) -> datetime | None:
    text = _SEPT.sub("Sep", _WEEKDAY.sub("", text))  # the press writes "Sept. 1", Python reads "Sep"
    if len(text) > 40 or not any(ch.isdigit() for ch in text):
        return None
    for day, clock in product(_DAYS, _CLOCKS):
        try:
            return datetime.strptime(text, day + clock).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
