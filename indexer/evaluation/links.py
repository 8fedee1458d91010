"""Editors' links as the ground truth of relevance: read, resolve to articles, keep what was public in time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.sources.reading import read_lines
from recommender.catalog.articles import EditorLink
from recommender.catalog.checks import PARAGRAPHS_MAX
from recommender.catalog.live import Live
from recommender.catalog.store.store import Store
from recommender.catalog.text.terms import headline_key
from recommender.errors import InvalidInputError, NotFoundError

HARVESTED = "harvested"
"""Given for a file name: use the links that cleaning harvested from the archive's own articles."""


@dataclass(frozen=True, slots=True)
class GoldLink:
    """A link that an editor placed. paragraph: 0-based paragraph of the source that contains it, None if unknown."""

    source_id: str
    target_id: str
    paragraph: int | None = None


@dataclass(frozen=True, slots=True)
class GoldPage:
    """A page and what its editor linked to, all public when the page was. row: of the page in the live view."""

    row: int
    id: str
    published_at_ms: int
    links: tuple[GoldLink, ...]

    @property
    def relevant(self) -> frozenset[str]:
        """Return the distinct ids that the editor linked to."""
        return frozenset(link.target_id for link in self.links)


@dataclass(frozen=True, slots=True)
class Gold:
    """The ground truth. pages: oldest first. skipped: number of links that cannot be used, by reason."""

    pages: tuple[GoldPage, ...]
    skipped: dict[str, int]


def read_links(path: Path) -> Iterator[GoldLink]:
    """Read links, one JSON object a line: source_id, target_id, and maybe paragraph.

    Raises NotFoundError if there is no such file, InvalidInputError naming file and line.
    """
    for where, values in read_objects(path):
        source, target, paragraph = values.get("source_id"), values.get("target_id"), values.get("paragraph")
        for name, value in (("source_id", source), ("target_id", target)):
            if not isinstance(value, str) or not value:
                raise InvalidInputError(where, f"has no {name}", fix="write it as a non-empty string")
        yield GoldLink(str(source), str(target), _paragraph(where, paragraph))


def _paragraph(where: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < PARAGRAPHS_MAX):
        return value
    problem = f"paragraph is no whole number below {PARAGRAPHS_MAX:,}"
    raise InvalidInputError(where, problem, fix="count paragraphs from 0, or leave it out")


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Read a JSON Lines file, plain or gzip: ("FILE:LINE", object) for each line that is not empty."""
    if not path.is_file():
        raise NotFoundError("file", str(path), fix="check the path")
    for line in read_lines(path):
        where = f"{path}:{line.number}"
        if line.problem:
            raise InvalidInputError(where, line.problem)
        if line.data.strip():
            yield where, _object(where, line.data)


def _object(where: str, data: bytes) -> dict[str, object]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(where, f"is not JSON: {error}", fix="write one object a line") from None
    if not isinstance(values, dict):
        raise InvalidInputError(where, "is not an object", fix="write one object a line")
    return values


def harvested_links(store: Store, live: Live) -> Iterator[GoldLink]:
    """Yield the links that cleaning harvested, their targets resolved by URL, or else by headline."""
    by_address = _Addresses()
    by_headline: dict[str, str] = {}
    for row in live.rows().tolist():
        record = live.record(row)
        if record.url:
            by_address.add(record.url, record.id)
        by_headline[headline_key(record.title)] = record.id
    for link in store.links():
        target = _resolve(link, by_address, by_headline)
        yield GoldLink(link.source_id, target or link.target, link.paragraph if link.paragraph >= 0 else None)


def _resolve(link: EditorLink, by_address: _Addresses, by_headline: dict[str, str]) -> str | None:
    titles = (headline_key(text) for text in (link.target, link.anchor))
    return by_address.find(link.target) or next((by_headline[t] for t in titles if t and t in by_headline), None)


class _Addresses:
    """Articles by their addresses: by the whole one, or without its query where only one article has that."""

    def __init__(self) -> None:
        self._whole: dict[str, str] = {}
        self._bare: dict[str, str] = {}

    def add(self, url: str, article_id: str) -> None:
        whole, bare = _spellings(url)
        self._whole[whole] = article_id
        self._bare[bare] = "" if bare in self._bare else article_id

    def find(self, url: str) -> str:
        """Return an article's id, or "" if there is none or more than one."""
        whole, bare = _spellings(url)
        return self._whole.get(whole) or self._bare.get(bare, "")


def _spellings(url: str) -> tuple[str, str]:
    """Return an address's normal form with the query and a route in the fragment, and the form without them.

    `?p=123` and `#/article/5` may distinguish two articles; `?from=rss` and `#top` do not.
    """
    address, _, fragment = url.partition("#")
    path, _, query = address.partition("?")
    bare = path.rstrip("/").lower().removeprefix("https://").removeprefix("http://").removeprefix("www.")
    route = fragment.rstrip("/") if fragment.startswith(("/", "!/")) else ""
    return f"{bare}?{query}#{route}", bare


def usable(links: Iterable[GoldLink], live: Live) -> Gold:
    """Keep the links whose two ends are stored and whose target was public when the source was published."""
    skipped = {"unknown_source": 0, "unknown_target": 0, "to_itself": 0, "target_not_yet_public": 0}
    rows: dict[str, int | None] = {}
    links_by_row: dict[int, list[GoldLink]] = {}
    for link in links:
        for article_id in (link.source_id, link.target_id):
            if article_id not in rows:
                rows[article_id] = live.find(article_id)
        source, target = rows[link.source_id], rows[link.target_id]
        if source is None:
            skipped["unknown_source"] += 1
        elif target is None:
            skipped["unknown_target"] += 1
        elif source == target:
            skipped["to_itself"] += 1
        elif live.public_at_ms(target) > live.published_at_ms(source):
            skipped["target_not_yet_public"] += 1
        else:
            links_by_row.setdefault(source, []).append(link)
    pages = [
        GoldPage(row, some[0].source_id, live.published_at_ms(row), tuple(some)) for row, some in links_by_row.items()
    ]
    pages.sort(key=lambda page: (page.published_at_ms, page.id))
    return Gold(tuple(pages), {reason: count for reason, count in skipped.items() if count})
