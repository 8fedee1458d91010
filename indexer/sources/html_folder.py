"""A folder of saved web pages: trafilatura tells content from furniture, the blocks keep kinds, links and boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from indexer.sources.base import BadRecord, Block, RawArticle, Where
from indexer.sources.html_blocks import parse_html, tree_blocks
from indexer.sources.html_meta import PageMeta, read_meta
from indexer.sources.labels import is_label, split_label
from indexer.sources.reading import UnreadableError, list_files, read_whole, relative_stem
from recommender.catalog.articles import ParagraphKind
from recommender.catalog.checks import BODY_CHARS_MAX
from recommender.errors import StorageError

SUFFIXES = (".html.gz", ".htm.gz", ".html", ".htm")

PAGE_BYTES_MAX = 8 * 2**20
"""Finding the main content takes minutes beyond this; an article's page is a hundredth of it."""

_SHORT_CHARS = 24
"""A shorter block must be a whole line of the main content: "Share" is part of many a sentence."""
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")
_COVERED_SHARE_MIN = 0.5


class HtmlFolder:
    """Articles from *.html, *.htm, plain or gzip, in the folder and below it, by path; or from one such file.

    The id is the canonical URL, else the path in the folder without suffix. A date without a zone is taken as UTC, a
    day without a time as its first moment in UTC.
    """

    def __init__(self, path: Path, *, site: str = "", language: str = "") -> None:
        self._path = path
        self._site = site
        self._language = language

    def records(self) -> Iterator[RawArticle | BadRecord]:
        """Yield an article, or the reason against it, for every file."""
        for path in self._files:
            try:
                yield self._article(path)
            except (UnreadableError, StorageError) as error:
                yield BadRecord(Where(path, 1), str(error))

    def count(self) -> int | None:
        """Return the number of files."""
        return len(self._files)

    @cached_property
    def _files(self) -> list[Path]:
        return list_files(self._path, lambda name: name.endswith(SUFFIXES))

    def _article(self, path: Path) -> RawArticle:
        meta, blocks = read_page(read_whole(path, PAGE_BYTES_MAX))
        if not blocks:
            raise UnreadableError("no main content found; is this an article's page?")
        return RawArticle(
            where=Where(path, 1),
            id=meta.url or relative_stem(path, self._path, SUFFIXES),
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
    from trafilatura.utils import decode_file  # here, since the other formats need not pay for loading it

    html = decode_file(data)
    root = parse_html(html)
    if root is None:
        raise UnreadableError("is empty or no HTML; save the page again")
    try:
        meta = read_meta(root)
        text = _main_text(html)
    except Exception as error:  # third-party code over hostile pages: whatever it raises concerns this page alone
        raise UnreadableError(f"cannot be parsed ({error!r:.120}); save the page again") from error
    return meta, _main_blocks(tree_blocks(root, meta.url), text)


def _main_text(html: str) -> str:
    from trafilatura import bare_extraction
    from trafilatura.settings import Document

    found = bare_extraction(html, include_comments=False, with_metadata=False)
    return (found.text or "") if isinstance(found, Document) else ""


def _main_blocks(blocks: Sequence[Block], text: str) -> tuple[Block, ...]:
    """Return those of a page's blocks that stand in its main content `text`, or announce or hold related links."""
    content = _Content(text)
    inside = [not block.boxed and content.holds(block) for block in blocks]
    matched = [i for i, kept in enumerate(inside) if kept]
    if sum(len(_squash(blocks[i].text)) for i in matched) < _COVERED_SHARE_MIN * len(content.squashed):
        return tuple(Block(line.strip()) for line in text.split("\n") if line.strip())
    if not matched:
        return ()
    kept: list[Block] = []
    announced = False
    for i, block in enumerate(blocks):
        announced = is_label(block.text) or (announced and bool(block.anchors) and not inside[i])
        pictured = block.kind == ParagraphKind.MEDIA and matched[0] < i < matched[-1]
        if inside[i] or block.boxed or announced or pictured or split_label(block.text) is not None:
            kept.append(block)
    return tuple(kept)


class _Content:
    """The main content as trafilatura found it, prepared for looking blocks up in it."""

    def __init__(self, text: str) -> None:
        self.squashed = _squash(text)
        self._lines = frozenset(_squash(line) for line in text.split("\n"))

    def holds(self, block: Block) -> bool:
        """Whether most of the block's text is in the content: now and then a link is missing in the middle of it.

        A content too long for an article is looked up by whole lines only, as searching in it would take minutes.
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
