"""HTML to blocks: paragraphs, headings, media, quotes and list items in reading order, with their links."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

from lxml import etree
from lxml import html as lxml_html

from indexer.sources.base import Anchor, Block
from indexer.sources.html_boxes import is_related_box
from recommender.catalog.articles import ParagraphKind

_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
"""Elements that become a HEADING."""
_BREAKING = _HEADINGS.union(
    ("p", "div", "section", "article", "main", "header", "footer", "hgroup", "body", "html", "aside", "nav", "form"),
    ("ul", "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tfoot", "tr", "caption", "figure", "figcaption"),
    ("pre", "address", "center", "details", "summary", "fieldset", "hr", "blockquote"),
)
"""Elements that begin and end a block."""
_CELLS = frozenset(("td", "th"))
"""Elements that only separate words, so that a table row stays one block."""
_MEDIA = frozenset(("img", "video", "iframe", "audio", "object", "embed"))
"""Elements that become MEDIA."""
_DROPPED = frozenset(("script", "style", "noscript", "template", "svg", "canvas", "map", "head", "title")).union(
    ("nav", "aside", "button", "select", "input", "textarea")
)
"""Elements whose content is not read."""
_FRAMED_TEXT = ("blockquote", "table", "pre", "figure", "ul", "ol")
"""A figure that contains one of these is no picture but a table, a pull quote or a gallery."""

_WHITE = re.compile(r"\s+")
_AROUND_BREAK = re.compile(r" *\n *")
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_BARE_URL = re.compile(r"https?://\S+")


def fragment_blocks(html: str, base_url: str = "") -> tuple[Block, ...]:
    """Return the blocks of a piece of HTML; none if it has no content. Never raises on broken markup.

    base_url: what relative links are resolved against; empty leaves them as written.
    """
    root = parse_html(html)
    return () if root is None else tree_blocks(root, base_url)


def fragment_text(html: str) -> str:
    """Return the text of a piece of HTML, a line for each block, without captions and boxes of related links."""
    return "\n".join(b.text for b in fragment_blocks(html) if b.kind != ParagraphKind.MEDIA and not b.boxed)


def parse_html(html: str) -> Any | None:
    """Return the lxml root element of `html`, repaired as browsers do; None if it is empty."""
    data = html.replace("\x00", "").encode("utf-8", "replace")
    if not data.strip():
        return None
    parser = lxml_html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=True
    )
    try:
        return etree.fromstring(data, parser)
    except etree.LxmlError:
        return None


def tree_blocks(root: Any, base_url: str = "") -> tuple[Block, ...]:
    """Return the blocks of an lxml element in reading order.

    h1-h6 become HEADING; figure, img, video and iframe become MEDIA, with the caption, else the alternative text or the
    title, as text (which may be empty); the content of a blockquote becomes QUOTE; all else becomes TEXT. Scripts,
    forms, asides and navigation are dropped; boxes of related links of any element become blocks with `boxed` set.
    """
    builder = _Builder(base_url)
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        if not isinstance(element.tag, str):
            continue
        if event == "start":
            if not builder.enter(element):
                walker.skip_subtree()
        else:
            builder.leave(element)
            if element is not root:
                builder.add_text(element.tail or "")
    builder.flush()
    return tuple(builder.blocks)


class _Builder:
    """Collects the text of the current block, with the kind and link that the open elements give it."""

    def __init__(self, base_url: str) -> None:
        self.blocks: list[Block] = []
        self._base_url = base_url
        self._parts: list[str] = []
        self._anchors: list[Anchor] = []
        self._link: tuple[str, int] | None = None  # address of the open link; index of its first part
        self._kinds: list[tuple[Any, ParagraphKind]] = []
        self._alt = ""
        self._box: Any | None = None
        self._late_media: list[Block] = []

    def enter(self, element: Any) -> bool:
        """Open `element`. Returns False if its content is to be skipped."""
        if self._box is None and is_related_box(element):
            self.flush()
            self._box = element
        elif not _is_wanted(element):
            return False
        if element.tag in _MEDIA:
            self._add_media(element)
            return False
        self._open(element)
        self.add_text(element.text or "")
        return True

    def leave(self, element: Any) -> None:
        """Close `element`, skipped or not; called once for each, after its descendants."""
        if element.tag == "a":
            self._close_link()
        elif self._kinds and self._kinds[-1][0] is element:
            self.flush()
            self._kinds.pop()
        elif element.tag in _BREAKING:
            self._border()
        if self._box is element:
            self.flush()
            self._box = None

    def add_text(self, text: str) -> None:
        """Append text of the document to the current block."""
        if text:
            self._parts.append(_WHITE.sub(" ", text))

    def flush(self) -> None:
        """End the current block, if it has content."""
        self._note_anchor()
        text = _tidy("".join(self._parts))
        kind = self._kinds[-1][1] if self._kinds else ParagraphKind.TEXT
        if kind == ParagraphKind.MEDIA:
            text = (text if not _BARE_URL.fullmatch(text) else "") or self._alt
        if text or kind == ParagraphKind.MEDIA:
            self.blocks.append(Block(text, kind, tuple(self._anchors), self._box is not None))
        self.blocks += self._late_media
        self._parts, self._anchors, self._late_media, self._alt = [], [], [], ""
        if self._link is not None:
            self._link = (self._link[0], 0)

    @property
    def _in_picture(self) -> bool:
        return bool(self._kinds) and self._kinds[-1][1] == ParagraphKind.MEDIA

    def _open(self, element: Any) -> None:
        tag: str = element.tag
        if tag == "br":
            self._break()
        elif tag == "a":
            self._note_anchor()
            self._link = (self._resolve(element.get("href", "")), len(self._parts))
        elif tag in _HEADINGS and not self._in_picture:
            self._push(element, ParagraphKind.HEADING)
        elif tag == "blockquote":
            self._push(element, ParagraphKind.QUOTE)
        elif tag == "figure" and not any(True for _ in element.iterdescendants(*_FRAMED_TEXT)):
            self._push(element, ParagraphKind.MEDIA)
        elif tag in _BREAKING or tag in _CELLS:
            self._border(soft=tag in _CELLS)

    def _push(self, element: Any, kind: ParagraphKind) -> None:
        self.flush()
        self._kinds.append((element, kind))

    def _border(self, *, soft: bool = False) -> None:
        """End a block; in a table row, and in a picture, which is one block with its caption, end only a word."""
        if soft or self._in_picture:
            self.add_text(" ")
        else:
            self.flush()

    def _break(self) -> None:
        """Keep one line break; two in a row end the block: some authors separate paragraphs like this."""
        last = next((part for part in reversed(self._parts) if part != " "), "\n")
        if last == "\n" or self._in_picture:
            self._border()
        else:
            self._parts.append("\n")

    def _add_media(self, element: Any) -> None:
        alt = _tidy(element.get("alt") or element.get("title") or element.get("aria-label") or "")
        if self._in_picture:
            self._alt = self._alt or alt
        elif element.tag == "img" and _is_emoji(element):
            self.add_text(alt)
        elif not _is_pixel(element):
            block = Block(alt, ParagraphKind.MEDIA, (), self._box is not None)
            (self._late_media if "".join(self._parts).strip() else self.blocks).append(block)

    def _close_link(self) -> None:
        self._note_anchor()
        self._link = None

    def _note_anchor(self) -> None:
        if self._link is None:
            return
        href, start = self._link
        text = _tidy("".join(self._parts[start:])).replace("\n", " ")
        if text:
            self._anchors.append(Anchor(href, text))

    def _resolve(self, href: str) -> str:
        href = href.strip()
        try:
            return urljoin(self._base_url, href) if href and self._base_url else href
        except ValueError:
            return href


def _is_wanted(element: Any) -> bool:
    if "hidden" in element.attrib or _HIDDEN.search(element.get("style", "")):
        return False
    if element.tag == "form":  # some systems wrap the whole page in a form
        return len(element.findall(".//p")) > 1
    return element.tag not in _DROPPED


def _is_emoji(image: Any) -> bool:
    """Whether an image stands for a character."""
    return bool({"emoji", "wp-smiley"} & set(image.get("class", "").split()))


def _is_pixel(element: Any) -> bool:
    """Whether an element is an invisible one that counts readers."""
    return not {element.get("width"), element.get("height")}.isdisjoint(("0", "1"))


def _tidy(text: str) -> str:
    return _AROUND_BREAK.sub("\n", re.sub(r" {2,}", " ", text)).strip()
