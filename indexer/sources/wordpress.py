"""WordPress exports (WXR): published posts, streamed, so that an export of any size fits in memory."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lxml import etree

from indexer.sources.base import BadRecord, RawArticle, Where
from indexer.sources.bodies import language_tag, plain_text
from indexer.sources.html_blocks import fragment_blocks
from indexer.sources.reading import UnreadableError, open_bytes, read_head
from indexer.sources.times import to_rfc3339
from indexer.sources.wordpress_markup import to_html
from recommender.catalog.articles import Labels

_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?(?>(?:\s+|<\?(?>.*?\?>)|<!--(?>.*?-->))*)<(?![!?])", re.DOTALL)
"""What may stand before the root element; no document type."""
_PROLOG_BYTES_MAX = 1_048_576
"""The root element must begin within this much."""
_ENCODING = re.compile(rb"<\?xml[^>]*\bencoding\s*=\s*[\"']([\w.-]+)")
"""The encoding that the file declares."""
_FORBIDDEN_BYTES = bytes(n for n in range(32) if n not in b"\t\n\r")
"""Control characters, which XML forbids."""
_CHUNK_BYTES = 32_768
"""Size of the first read, which must contain the XML declaration."""
_FORBIDDEN_CHARS = re.compile("[\ufffe\uffff]")
"""Characters that XML forbids."""
_WXR = "wordpress.org/export"
"""Part of the export format's namespace in every version."""
_CONTENT = "{http://purl.org/rss/1.0/modules/content/}encoded"
_CREATOR = "{http://purl.org/dc/elements/1.1/}creator"
_NO_DATE = "0000-00-00"
"""What WordPress writes for no date."""
_NO_CATEGORY = frozenset(("uncategorized", "uncategorised"))
"""WordPress's categories, lower case, of a post without one."""


class WordPress:
    """Articles from a WXR file (Tools > Export in WordPress), plain or gzip.

    Only published posts without a password; no pages. The id is the guid, as in the site's own feed. The
    first category becomes the section, the others and the tags become tags. The file is read twice, since
    the attachment of a featured image may stand anywhere in it.
    """

    def __init__(self, path: Path, *, site: str = "", language: str = "") -> None:
        self._path = path
        self._site = site
        self._language = language

    def records(self) -> Iterator[RawArticle | BadRecord]:
        """Yield an article for every published post. A damaged file is read as far as possible, then reported."""
        if not _starts_with_root(self._path):
            reason = "is no WordPress export in UTF-8, or has a document type; export it again"
            yield BadRecord(Where(self._path, 1), reason)
            return
        images = {_wp(item, "post_id"): _wp(item, "attachment_url") for item in _Items(self._path, "attachment")}
        posts = _Items(self._path, "post")
        for item in posts:
            if _wp(item, "status") == "publish" and not _wp(item, "post_password"):
                yield self._record(Where(self._path, posts.number), item, posts, images)
        if posts.problem:
            yield BadRecord(Where(self._path, max(1, posts.number)), posts.problem)

    def count(self) -> int | None:
        """Return None: counting would parse the whole file."""
        return None

    def _record(self, where: Where, item: Any, posts: _Items, images: Mapping[str, str]) -> RawArticle | BadRecord:
        url = _child(item, "link")
        identity = _child(item, "guid") or url or _wp(item, "post_id")
        if not identity:
            return BadRecord(where, "the post has no guid, link or post_id; export it again")
        categories = [name for name in _terms(item, "category") if name.lower() not in _NO_CATEGORY]
        return RawArticle(
            where=where,
            id=identity,
            url=url,
            title=plain_text(_child(item, "title")),
            summary=plain_text(_excerpt(item)),
            blocks=fragment_blocks(to_html(_text(item.find(_CONTENT))), url),
            published_at=_published_at(item),
            labels=Labels(
                site=self._site or posts.site,
                section=categories[0] if categories else "",
                tags=tuple(dict.fromkeys((*categories[1:], *_terms(item, "post_tag")))),
                language=self._language or posts.language,
                author=_text(item.find(_CREATOR)),
            ),
            image_url=images.get(_thumbnail_id(item), ""),
        )


class _Items(Iterator[Any]):
    """The items of one post type, each freed when the next is requested. number: of the item in the file, from 1.

    problem: what is wrong with the file, set after the last item; empty if nothing is.
    """

    def __init__(self, path: Path, post_type: str) -> None:
        self.number = 0
        self.problem = ""
        self.site = ""
        self.language = ""
        self._type = post_type
        self._items = self._read(path)

    def __next__(self) -> Any:
        return next(self._items)

    def _read(self, path: Path) -> Iterator[Any]:
        try:
            yield from self._parse(path)
        except (UnreadableError, etree.LxmlError) as error:
            self.problem = f"cannot be read to its end: {error}; reading stopped here"

    def _parse(self, path: Path) -> Iterator[Any]:
        with open_bytes(path) as stream:
            repaired = _RepairedStream(stream)
            events = etree.iterparse(
                repaired, events=("end",), recover=True, huge_tree=True, resolve_entities=False, no_network=True
            )
            for _, element in events:
                yield from self._take(element)
        fatal = next((e for e in events.error_log if e.level >= etree.ErrorLevels.FATAL), None)
        if fatal is not None:
            self.problem = f"is not well-formed XML at line {fatal.line}: {fatal.message}; posts may be missing"

    def _take(self, element: Any) -> Iterator[Any]:
        """Yield an item of our type, note what the channel states about itself, free what was read."""
        parent = element.getparent()
        if parent is None or parent.tag != "channel":
            return
        if element.tag == "item":
            self.number += 1
            if _wp(element, "post_type") == self._type:
                yield element
        elif element.tag == "title":
            self.site = plain_text(_text(element))
        elif element.tag == "language":
            self.language = language_tag(_text(element))
        element.clear()
        while element.getprevious() is not None:
            del parent[0]


class _RepairedStream:
    """A stream without the control characters and invalid UTF-8 that exports contain and XML forbids.

    libxml2 cannot go on after either. Bytes above 127 of other declared encodings are not changed.
    """

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._decoder: codecs.IncrementalDecoder | None = None
        self._head = stream.read1(_CHUNK_BYTES)
        declared = _ENCODING.search(self._head)
        if declared is None or declared[1].lower().replace(b"-", b"") == b"utf8":
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes, not always `size_bytes`; empty only at the end."""
        while True:
            data = self._head or self._stream.read1(size_bytes)
            self._head = b""
            clean = data.translate(None, _FORBIDDEN_BYTES)
            if self._decoder is not None:
                text = self._decoder.decode(clean, final=not data)
                clean = _FORBIDDEN_CHARS.sub("\ufffd", text).encode()
            if clean or not data:
                return clean


def _starts_with_root(path: Path) -> bool:
    """Whether only comments stand before the root, and no document type, whose entities could expand without bound.

    WordPress writes none. Without one the parser's own size limits, too small for some posts, can be lifted safely.
    """
    return _PROLOG.match(read_head(path, _PROLOG_BYTES_MAX)) is not None


def _wp(item: Any, name: str) -> str:
    """Return the text of a wp: element, whatever the version of the export format."""
    for child in item.iterchildren("{*}" + name):
        if _WXR in child.tag:
            return _text(child)
    return ""


def _child(item: Any, name: str) -> str:
    return _text(item.find(name))


def _text(element: Any | None) -> str:
    return "" if element is None else "".join(element.itertext()).strip()


def _excerpt(item: Any) -> str:
    excerpts = (child for child in item.iterchildren("{*}encoded") if _WXR in child.tag)
    return _text(next(excerpts, None))


def _terms(item: Any, domain: str) -> list[str]:
    names = (_text(child) for child in item.iterchildren("category") if child.get("domain") == domain)
    return [plain_text(name) for name in names if name]


def _published_at(item: Any) -> str:
    gmt = _wp(item, "post_date_gmt")
    if gmt and not gmt.startswith(_NO_DATE):
        return to_rfc3339(gmt)
    local = _wp(item, "post_date")
    stated = _child(item, "pubDate")
    return to_rfc3339(stated if stated and "-0001" not in stated else local)


def _thumbnail_id(item: Any) -> str:
    metas = (meta for meta in item.iterchildren("{*}postmeta") if _wp(meta, "meta_key") == "_thumbnail_id")
    return next((_wp(meta, "meta_value") for meta in metas), "-")
