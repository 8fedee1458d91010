"""RSS, Atom and RDF feeds in files, read with feedparser."""

from __future__ import annotations

import calendar
import io
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import feedparser

from indexer.sources.base import BadRecord, Block, RawArticle, Where
from indexer.sources.bodies import body_blocks, language_tag, plain_text
from indexer.sources.reading import UnreadableError, read_whole
from indexer.sources.times import to_rfc3339
from recommender.catalog.articles import Labels

SUMMARY_CHARS_MAX = 1_000
"""Take a longer description for the article itself: many feeds have no other place for it."""

_ROOT_END = re.compile(rb"</\s*(?:\w+:)?(?:rss|feed|rdf)\b", re.IGNORECASE)
"""The last tag of a feed; without it the file is truncated."""

_GUESSED = re.compile(r"\b(?:[ap]\.?m\b|(?!(?:Z|UTC?|GMT|[ECMP][SD]?T|A[SD]T)$)[A-Z.]{2,}$)", re.IGNORECASE)
"""Parts of a date that feedparser ignores: am or pm, and time zones that it does not know."""

_log = logging.getLogger(__name__)


class Feed:
    """Articles from one RSS, Atom or RDF file, plain or gzip; nothing is ever fetched.

    The id is the guid, else the link. Of two dates of an entry, the published one is used.
    """

    def __init__(self, path: Path, *, site: str = "", language: str = "") -> None:
        self._path = path
        self._site = site
        self._language = language

    def records(self) -> Iterator[RawArticle | BadRecord]:
        """Yield an article, or the reason against it, for every entry. A broken feed is read as far as it can be."""
        try:
            data = read_whole(self._path)
            feed = _parse(data)
        except UnreadableError as error:
            yield BadRecord(Where(self._path, 1), str(error))
            return
        if feed.get("bozo") and not feed.entries:
            reason = " ".join(str(feed.get("bozo_exception", "")).split())
            yield BadRecord(Where(self._path, 1), f"is no readable feed: {reason[:200]}; export it again")
        elif feed.get("bozo"):
            _log.info("%s is not well-formed; read %d entries", self._path, len(feed.entries))
        for number, entry in enumerate(feed.entries, 1):
            yield self._record(Where(self._path, number), entry, feed.feed)
        if feed.get("bozo") and feed.entries and not _ROOT_END.search(data):
            reason = "the feed ends before its last tag: the last entry may be cut short, others may be missing"
            yield BadRecord(Where(self._path, len(feed.entries)), f"{reason}; save it again")

    def count(self) -> int | None:
        """Return None: the entries are known only after parsing."""
        return None

    def _record(self, where: Where, entry: Any, feed: Any) -> RawArticle | BadRecord:
        url = _text(entry, "link")
        identity = _text(entry, "id") or url
        if not identity:
            return BadRecord(where, "the entry has neither guid nor link; give it one")
        summary, blocks = _texts(entry, url)
        return RawArticle(
            where=where,
            id=identity,
            url=url,
            title=plain_text(_text(entry, "title")),
            summary=summary,
            blocks=blocks,
            published_at=_published_at(entry),
            labels=Labels(
                site=plain_text(_text(entry.get("source") or {}, "title"))
                or self._site
                or plain_text(_text(feed, "title")),
                tags=tuple(dict.fromkeys(term for tag in entry.get("tags") or () if (term := _text(tag, "term")))),
                language=language_tag(_language(entry)) or self._language or language_tag(_text(feed, "language")),
                author=plain_text(_text(entry, "author")),
            ),
            image_url=_image_url(entry),
        )


def _parse(data: bytes) -> Any:
    """Parse bytes, as a stream: feedparser takes a bare string for an address to fetch or a file to open."""
    try:
        return feedparser.parse(io.BytesIO(data), sanitize_html=False)
    except Exception as error:  # on hostile input its parsers may raise anything
        raise UnreadableError(f"is no readable feed: {type(error).__name__}; export it again") from error


def _text(holder: Any, key: str) -> str:
    value = holder.get(key)
    return value.strip() if isinstance(value, str) else ""


def _texts(entry: Any, url: str) -> tuple[str, tuple[Block, ...]]:
    """Return summary and body. Where feedparser repeats the content as the summary, there is no summary."""
    content = max((_text(part, "value") for part in entry.get("content") or ()), key=len, default="")
    summary = _text(entry, "summary")
    if summary == content:
        summary = ""
    short = plain_text(summary)
    if not content and len(short) > SUMMARY_CHARS_MAX:
        return "", body_blocks(summary, url)
    return short, body_blocks(content, url)


def _published_at(entry: Any) -> str:
    for name in ("published", "created", "updated"):
        guessed = _GUESSED.search(_text(entry, name))
        if not guessed and f"{name}_parsed" in entry and (moment := entry[f"{name}_parsed"]) is not None:
            try:
                return datetime.fromtimestamp(calendar.timegm(moment), UTC).isoformat()
            except (ValueError, OverflowError):  # databases write "0000-00-00" for no date, which is parsed to year -1
                pass
        if name in entry and (text := _text(entry, name)):
            return to_rfc3339(text)
    return ""


def _language(entry: Any) -> str:
    parts = (*(entry.get("content") or ()), entry.get("title_detail") or {}, entry.get("summary_detail") or {})
    return next((language for part in parts if (language := _text(part, "language"))), "")


def _image_url(entry: Any) -> str:
    links = [link for link in entry.get("links") or () if link.get("rel") == "enclosure"]
    media = entry.get("media_content") or []
    for item in (*media, *links):
        if _text(item, "type").startswith("image/") or item.get("medium") == "image":
            return _text(item, "url") or _text(item, "href")
    for thumbnail in entry.get("media_thumbnail") or ():
        return _text(thumbnail, "url")
    return _text(entry.get("image") or {}, "href")
