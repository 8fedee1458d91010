"""Read dates as publishers write them, as long as they are unambiguous."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import product

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ]\s*(\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)\s*(Z|UTC|GMT|[+-]\d\d:?\d\d|[+-]\d\d)?)?"
)
"""ISO 8601: a day, maybe with a time and a zone."""
_MAIL = re.compile(
    r"((?:[A-Z]{3},? )?\d{1,2}[ -][A-Z]{3}[ -][12]\d{3} \d{1,2}:\d\d(?::\d\d)?)"
    r"(?: ?([+-]\d\d:?\d\d|Z|UTC?|GMT|[ECMP][SD]T))?(?: \([^()]*\))?",
    re.IGNORECASE,
)
"""RFC 5322, with its names of zones; others, such as IST, stand for several zones."""
_SEPT = re.compile(r"\bSept\b", re.IGNORECASE)
"""The usual short form of September, which Python does not read."""
_WEEKDAY = re.compile(r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? ", re.IGNORECASE)
"""A weekday before the date; ignored."""
_DAYS = ("%B %d, %Y", "%B %d %Y", "%b %d, %Y", "%b. %d, %Y", "%d %B %Y", "%d %b %Y", "%Y/%m/%d")
"""Forms of a day, for strptime."""
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
"""Forms of a time after the day."""


def to_rfc3339(text: str) -> str:
    """Return `text` as RFC 3339 if it names a moment or a day unambiguously, else `text` itself, trimmed.

    Without a zone it is taken as UTC, without a time as midnight; unknown zones are not guessed. All-numeric
    forms other than year-month-day are left as they are, since 03/04/2019 is two days; English month names are read.
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
    text = _SEPT.sub("Sep", _WEEKDAY.sub("", text))  # newspapers write "Sept. 1", Python reads "Sep"
    if len(text) > 40 or not any(ch.isdigit() for ch in text):
        return None
    for day, clock in product(_DAYS, _CLOCKS):
        try:
            return datetime.strptime(text, day + clock).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
