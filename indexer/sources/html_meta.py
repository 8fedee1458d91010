"""What a web page states about itself in meta tags, JSON-LD and markup."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from indexer.sources.bodies import language_tag
from indexer.sources.times import to_rfc3339
from recommender.catalog.articles import NO_LABELS, Labels
from recommender.catalog.checks import parse_time_ms
from recommender.errors import InvalidInputError

_DATE_NAMES = (
    "article:published_time",
    "og:article:published_time",
    "og:published_time",
    "datepublished",
    "parsely-pub-date",
    "sailthru.date",
    "pubdate",
    "publish-date",
    "publication_date",
    "dc.date.issued",
    "dcterms.created",
    "dc.date",
    "date",
)
"""Meta names and properties of the publication date, most reliable first."""
_SECTION_NAMES = ("article:section", "og:article:section", "articlesection", "parsely-section")
"""Meta names and properties of the section, most reliable first."""
_JSON_DEPTH_MAX = 6
"""Lists in JSON-LD that are nested deeper are not searched for dates."""


@dataclass(frozen=True, slots=True)
class PageMeta:
    """Empty where the page does not say. published_at: RFC 3339; without a zone on the page it is taken as UTC."""

    url: str = ""
    title: str = ""
    summary: str = ""
    published_at: str = ""
    labels: Labels = NO_LABELS
    image_url: str = ""


def read_meta(root: Any) -> PageMeta:
    """Return what the page with this lxml root states about itself. `root` is not changed.

    A date is taken only from where pages declare it (meta tags, JSON-LD, marked-up elements, the URL), never guessed
    from the text.
    """
    from trafilatura.metadata import extract_metadata  # imported here: other formats need not load it

    ahead = datetime.now(UTC) + timedelta(days=366)
    dates = {"original_date": True, "extensive_search": False, "max_date": ahead.strftime("%Y-%m-%d")}
    with warnings.catch_warnings(action="ignore"):  # its date parser warns of every zone that it does not know
        metadata = extract_metadata(deepcopy(root), date_config=dates)
    names = _meta_tags(root)
    day = to_rfc3339(metadata.date) if metadata.date else ""
    tags = (tag.strip() for part in metadata.tags or () for tag in part.split(","))
    return PageMeta(
        url=metadata.url or "",
        title=metadata.title or "",
        summary=metadata.description or "",
        published_at=_declared_date(root, names) or day,
        labels=Labels(
            site=metadata.sitename or metadata.hostname or "",
            section=next((names[name] for name in _SECTION_NAMES if name in names), ""),
            tags=tuple(dict.fromkeys(tag for tag in tags if tag)),
            language=language_tag(root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or ""),
            author=metadata.author or "",
        ),
        image_url=metadata.image or "",
    )


def _meta_tags(root: Any) -> dict[str, str]:
    """Return lower-case name or property -> content; the first of several is used."""
    contents: dict[str, str] = {}
    for meta in root.iterdescendants("meta"):
        for key in ("property", "name", "itemprop"):
            name = meta.get(key, "").lower()
            content = meta.get("content", "").strip()
            if name and content:
                contents.setdefault(name, content)
    return contents


def _declared_date(root: Any, names: dict[str, str]) -> str:
    """Return the first readable date, with its time. trafilatura looks in more places, but returns only the day."""
    from_json = (value for script in root.iterdescendants("script") for value in _json_dates(script))
    from_meta = (names[name] for name in _DATE_NAMES if name in names)
    from_time = (
        element.get("datetime", "")
        for element in root.iterdescendants("time")
        if element.get("itemprop", "").lower() == "datepublished" or element.get("pubdate") is not None
    )
    moments = map(to_rfc3339, (*from_json, *from_meta, *from_time))
    return next(filter(_is_date, moments), "")


def _is_date(moment: str) -> bool:
    """Whether it can be read, and is no placeholder: some systems write the year 1 for no date."""
    try:
        return parse_time_ms(moment) > 0
    except InvalidInputError:
        return False


def _json_dates(script: Any) -> Iterator[str]:
    if script.get("type", "").lower() != "application/ld+json":
        return
    try:
        data = json.loads(script.text or "", strict=False)
    except (ValueError, RecursionError):
        return
    yield from _find_dates(data, _JSON_DEPTH_MAX)


def _find_dates(data: Any, depth: int) -> Iterator[str]:
    if isinstance(data, dict):
        if isinstance(data.get("datePublished"), str):
            yield data["datePublished"]
        data = [data[key] for key in ("@graph", "mainEntity", "mainEntityOfPage") if key in data]
    if isinstance(data, list) and depth:
        for part in data:
            yield from _find_dates(part, depth - 1)
