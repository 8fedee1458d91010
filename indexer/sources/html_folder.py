"""A folder of saved web pages: trafilatura separates content from furniture, blocks keep kinds, links and boxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from indexer.sources.base import Block, RawArticle, Where
from indexer.sources.folder import FileFolder
from indexer.sources.html_blocks import parse_html, tree_blocks
from indexer.sources.html_meta import PageMeta, read_meta
from indexer.sources.labels import is_label, split_label
from indexer.sources.reading import UnreadableError, read_whole, relative_stem
from recommender.catalog.articles import ParagraphKind
from recommender.catalog.checks import BODY_CHARS_MAX

PAGE_BYTES_MAX = 8 * 2**20
"""Refuse larger pages: finding the main content would take minutes. An article's page is a hundredth of it."""

_SHORT_CHARS = 24
"""Require a shorter block to be a whole line of the main content: "Share" is part of many sentences."""
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")
"""White space between two sentences."""
_COVERED_SHARE_MIN = 0.5
"""Use trafilatura's plain lines if our blocks match less than this share of the main content."""


class HtmlFolder(FileFolder):
    """Articles from *.html and *.htm, plain or gzip.

    The id is the canonical URL, else the path in the folder without suffix. A date without a zone is taken as UTC, a
    day without a time as its first moment in UTC.
    """

    suffixes = (".html.gz", ".htm.gz", ".html", ".htm")

    def _article(self, path: Path) -> RawArticle:
        meta, blocks = read_page(read_whole(path, PAGE_BYTES_MAX))
        if not blocks:
            raise UnreadableError("no main content found; is this an article's page?")
        return RawArticle(
            where=Where(path, 1),
            id=meta.url or relative_stem(path, self._path, self.suffixes),
            url=meta.url,
            title=meta.title,
            summary=meta.summary,
            blocks=blocks,
            published_at=meta.published_at,
            labels=replace(
                meta.labels,
                site=meta.labels.site or self._site,
                language=meta.labels.language or self._language,
            ),
            image_url=meta.image_url,
        )


def read_page(data: bytes) -> tuple[PageMeta, tuple[Block, ...]]:
    """Return what a page says about itself, and its main content with the boxes of related links around it.

    Raises UnreadableError if the parsers give up on the page.
    """
    from trafilatura.utils import decode_file  # imported here: other formats need not load it

    html = decode_file(data)
    root = parse_html(html)
    if root is None:
        raise UnreadableError("is empty or no HTML; save the page again")
    try:
        meta = read_meta(root)
        text = _main_text(html)
    except Exception as error:  # third-party code on hostile pages may raise anything; it concerns this page only
        raise UnreadableError(f"cannot be parsed ({error!r:.120}); save the page again") from error
    return meta, _main_blocks(tree_blocks(root, meta.url), text)


def _main_text(html: str) -> str:
    from trafilatura import bare_extraction
    from trafilatura.settings import Document

    document = bare_extraction(html, include_comments=False, with_metadata=False)
    return (document.text or "") if isinstance(document, Document) else ""


def _main_blocks(blocks: Sequence[Block], text: str) -> tuple[Block, ...]:
    """Return those of a page's blocks that stand in its main content `text`, or announce or hold related links."""
    content = _Content(text)
    inside = [not block.boxed and content.contains(block) for block in blocks]
    matched = [i for i, is_inside in enumerate(inside) if is_inside]
    if sum(len(_squash(blocks[i].text)) for i in matched) < _COVERED_SHARE_MIN * len(content.squashed):
        return tuple(Block(line.strip()) for line in text.split("\n") if line.strip())
    if not matched:
        return ()
    main: list[Block] = []
    announced = False
    for i, block in enumerate(blocks):
        announced = is_label(block.text) or (announced and bool(block.anchors) and not inside[i])
        pictured = block.kind == ParagraphKind.MEDIA and matched[0] < i < matched[-1]
        if inside[i] or block.boxed or announced or pictured or split_label(block.text) is not None:
            main.append(block)
    return tuple(main)


class _Content:
    """The main content that trafilatura extracted, prepared for looking blocks up in it."""

    def __init__(self, text: str) -> None:
        self.squashed = _squash(text)
        self._lines = frozenset(_squash(line) for line in text.split("\n"))

    def contains(self, block: Block) -> bool:
        """Whether most of the block's text is in the content, which sometimes lacks a link in the middle.

        In a content too long for an article only whole lines are looked up: searching it would take minutes.
        """
        whole = _squash(block.text)
        if len(whole) < _SHORT_CHARS or whole in self._lines or len(self.squashed) > BODY_CHARS_MAX:
            return bool(whole) and whole in self._lines
        if whole in self.squashed:
            return True
        parts = [_squash(part) for part in _SENTENCE.split(block.text)]
        return sum(len(part) for part in parts if part in self.squashed) > len(whole) / 2


def _squash(text: str) -> str:
    return "".join(ch for ch in text.casefold() if ch.isalnum())
