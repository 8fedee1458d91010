"""Remove page furniture from a body, and harvest the editors' own related links.

Pure, and idempotent: cleaning a cleaned body changes nothing. Every pattern matches a whole block and is narrow, since
a remaining line does little harm and a lost paragraph does much.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from indexer.furniture import SUMMARY_TAIL, is_furniture, is_lead_line
from indexer.sources.base import Anchor, Block, RawArticle
from indexer.sources.labels import LABEL_CHARS_MAX, is_label, split_label
from recommender.catalog.articles import EditorLink, Paragraph, ParagraphKind
from recommender.catalog.checks import SUMMARY_CHARS_MAX, clean_text

HEADLINE_CHARS_MAX = 200
"""A longer text is no headline."""
HEADLINE_WORDS_MAX = 30
"""A text of more words is no headline."""
PLAIN_LIST_MAX = 10
"""Take at most this many unlinked lines after a "Related:" heading for headlines."""

_LINKED_SHARE_MIN = 0.6
"""A block is a list of links if at least this share of its letters and digits is in links."""
_NO_PAGE = re.compile(r"(?:#|mailto:|tel:|sms:|javascript:|data:|whatsapp:)|\Z", re.IGNORECASE)
"""Addresses that lead to no other page."""
_LINE_BORDER = re.compile(r"\s*[|•·\n]\s*")
"""Separates the headlines of one labelled line."""
_SENTENCE_END = re.compile(r"(?<!\.\.)(?<!\b[A-Z])[.。]$|[.!?。！？][\"”’)]?\s+[a-z]")
"""A full stop or the like that makes a text a sentence, not a headline."""
_BULLET = re.compile(r"(?:([-•*·–])|1[.)])\s+")
"""The sign or number before an item of a list."""
_MARKDOWN_LINK = re.compile(r"\[([^\[\]]{1,300})\]\(((?:https?:/)?/[^\s()<>]{1,2000})\)")
"""[words](address)."""
_LAST_ADDRESS = re.compile(r"[\s–—|:<(\[-]*(https?://[^\s<>()\[\]]+)[>)\]]?$")
"""An address at the end of a headline."""
_MARKS = "«»‹›→▸▶►*_ "
"""Arrows and signs of emphasis around a headline."""
_NUMBERS = re.compile(r"\s\d{1,2}[.)]\s+")
"""The numbers within a numbered list on one line."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A body without furniture, one paragraph for each block of the input; a removed block leaves an empty one.

    So a paragraph has the same index here and on the publisher's page, which a page plan refers to. Empty paragraphs at
    the end are cut. links: in reading order. removed: number of blocks that lost their text.
    """

    paragraphs: tuple[Paragraph, ...]
    links: tuple[EditorLink, ...]
    summary: str
    removed: int


_Links = tuple[tuple[str, str], ...]
"""Target and anchor of each link in a block."""


@dataclass(frozen=True, slots=True)
class _RelatedLink:
    """A related link and the position of its block."""

    position: int
    target: str
    anchor: str


def clean(raw: RawArticle) -> Cleaned:
    """Return the article's paragraphs and the related links that stood among them. Never raises.

    A link's `paragraph` is the index of the last paragraph with text before it, -1 if there is none. A link inside a
    paragraph of text is no editor link, and its words stay.
    """
    parts = [(origin, _normal(part)) for origin, block in enumerate(raw.blocks) for part in _split_lines(block)]
    blocks = [_read_markdown(part) for _, part in parts]
    text_parts, related = _harvest(blocks, raw.url)
    text_parts = _without_lead(text_parts, blocks, raw)
    origins = [parts[i][0] for i in text_parts]
    links = (
        EditorLink(raw.id, link.target, _last_before(text_parts, origins, link.position), link.anchor)
        for link in related
    )
    lines: dict[int, list[Block]] = {}
    for origin, i in zip(origins, text_parts, strict=True):
        lines.setdefault(origin, []).append(parts[i][1])
    cleaned = Cleaned(
        paragraphs=_in_place(raw.blocks, lines),
        links=_distinct(links),
        summary=clean_summary(raw.summary),
        removed=sum(1 for i, block in enumerate(raw.blocks) if i not in lines and _normal_text(block.text)),
    )
    return cleaned if len(lines) == len(text_parts) else _clean_again(raw, cleaned, lines)


def _clean_again(raw: RawArticle, first: Cleaned, lines: Mapping[int, Sequence[Block]]) -> Cleaned:
    """Clean a body whose lines were joined again: together they may be a labelled line, which none of them is alone."""
    anchors = {i: tuple(anchor for line in some for anchor in line.anchors) for i, some in lines.items()}
    blocks = (Block(p.text, p.kind, anchors.get(i, ())) for i, p in enumerate(first.paragraphs))
    second = clean(replace(raw, summary=first.summary, blocks=tuple(blocks)))
    with_text = [i for i, paragraph in enumerate(second.paragraphs) if paragraph.text]
    places = ([-1, *with_text][bisect_right(with_text, link.paragraph)] for link in first.links)
    links = (replace(link, paragraph=place) for link, place in zip(first.links, places, strict=True))
    return Cleaned(
        paragraphs=second.paragraphs,
        links=_distinct(sorted((*links, *second.links), key=lambda link: link.paragraph)),
        summary=second.summary,
        removed=first.removed + second.removed,
    )


def _last_before(text_parts: Sequence[int], origins: Sequence[int], position: int) -> int:
    at = bisect_left(text_parts, position)
    return origins[at - 1] if at else -1


def _in_place(blocks: Sequence[Block], lines: Mapping[int, Sequence[Block]]) -> tuple[Paragraph, ...]:
    """Return a paragraph for each block: its remaining lines, or an empty one."""
    end = max(lines, default=-1) + 1
    return tuple(
        Paragraph(" ".join(line.text for line in lines[i]), blocks[i].kind)
        if i in lines
        else Paragraph("", ParagraphKind.MEDIA)
        for i in range(end)
    )


def clean_summary(summary: str) -> str:
    """Return the summary, normalised, without lines of related links and a trailing "Read more" or "[...]"."""
    lines = [Block(text) for line in summary.splitlines() if (text := _normal_text(line))]
    remaining = _harvest(lines, "")[0] if len(lines) > 1 else range(len(lines))
    text = _normal_text(" ".join(lines[i].text for i in remaining))
    while len(text) <= SUMMARY_CHARS_MAX and (shorter := SUMMARY_TAIL.sub("", text).rstrip()) != text:
        text = shorter
    return "" if is_furniture(text) else text


def _normal_text(text: str) -> str:
    """Normalise twice: removing a control character may let its two neighbours combine."""
    once = clean_text(text)
    return once if once.isascii() else clean_text(once)


def _normal(block: Block) -> Block:
    anchors = tuple(Anchor(a.href.strip(), _normal_text(a.text)) for a in block.anchors)
    return Block(_normal_text(block.text), block.kind, anchors, block.boxed)


def _read_markdown(block: Block) -> Block:
    """Return a plain block with its Markdown links as anchors, only to judge it: the article keeps the original."""
    if block.anchors or "](" not in block.text:
        return block
    anchors = tuple(Anchor(match[2], match[1]) for match in _MARKDOWN_LINK.finditer(block.text))
    return replace(block, text=_MARKDOWN_LINK.sub(r"\1", block.text), anchors=anchors)


def _split_lines(block: Block) -> Iterator[Block]:
    """Split a block at its lines that announce related links; lines between them stay together."""
    lines = block.text.splitlines() if "\n" in block.text else []
    if not any(map(_announces, lines)):
        yield block
        return
    run: list[str] = []
    listing = False
    for line in lines:
        if not listing and not _announces(line):
            run.append(line)
            continue
        if run:
            yield _part(block, run)
        run = []
        listing = listing or is_label(line)
        yield _part(block, [line])
    if run:
        yield _part(block, run)


def _announces(line: str) -> bool:
    if is_label(line):
        return True
    labelled = split_label(line)
    return labelled is not None and not labelled.weak


def _part(block: Block, lines: Sequence[str]) -> Block:
    text = "\n".join(lines)
    return Block(text, block.kind, tuple(a for a in block.anchors if a.text and a.text in text), block.boxed)


def _harvest(blocks: Sequence[Block], own_url: str) -> tuple[list[int], list[_RelatedLink]]:
    """Return the positions of the blocks of text and the links in the others, both in reading order.

    Goes backwards: the blocks after a label are decided before the label is, so that one pass is enough.
    """
    text_blocks: list[int] = []  # last one first
    links: list[_RelatedLink] = []
    before_box = False
    for i in range(len(blocks) - 1, -1, -1):
        block = blocks[i]
        anchors = _usable(block.anchors, own_url)
        if block.boxed:
            links += _related_at(i, _targets(anchors))
        elif is_label(block.text, weak=True):
            listed = _list_after(block, blocks, text_blocks, own_url)
            for position, targets in listed:
                links += _related_at(position, targets)
            del text_blocks[len(text_blocks) - len(listed) :]
            if not listed and not before_box and _is_heading_of_text(block, followed=bool(text_blocks)):
                text_blocks.append(i)
        elif is_furniture(block.text):
            continue
        elif targets := _line_links(block, anchors):
            links += _related_at(i, targets)
        else:
            text_blocks.append(i)
        before_box = block.boxed
    return text_blocks[::-1], sorted(links, key=lambda link: link.position)


def _related_at(position: int, links: _Links) -> list[_RelatedLink]:
    return [_RelatedLink(position, target, anchor) for target, anchor in links]


def _is_heading_of_text(label: Block, *, followed: bool) -> bool:
    """Whether a label that announces no links is the author's own heading, not the rest of a box."""
    if is_furniture(label.text):
        return False
    return followed or not is_label(label.text)


def _line_links(block: Block, anchors: Sequence[Anchor]) -> _Links:
    """Return the links of a block such as "Related News: X"; none if it is a paragraph of text."""
    labelled = split_label(block.text)
    if labelled is not None:
        links = _linked_targets(labelled.rest, anchors)
        if links or labelled.weak:
            return links
        headlines = _headlines(labelled.rest)
        return _targets(anchors) or tuple(map(_plain_target, headlines)) if headlines else ()
    unlinked_chars = len(block.text) - sum(len(a.text) for a in anchors)
    if anchors and unlinked_chars <= LABEL_CHARS_MAX and is_label(_without_anchors(block.text, anchors)):
        return _targets(anchors)
    return ()


def _list_after(
    label: Block, blocks: Sequence[Block], text_blocks: Sequence[int], own_url: str
) -> list[tuple[int, _Links]]:
    """Return the blocks right after a label (the last of `text_blocks`) that are links or headlines."""
    listed: list[tuple[int, _Links]] = []
    pictures: list[tuple[int, _Links]] = []
    plain = 0
    for i in reversed(text_blocks):
        block = blocks[i]
        links = _linked_targets(block.text, _usable(block.anchors, own_url))
        if not links and block.kind == ParagraphKind.MEDIA:
            pictures.append((i, ()))
            continue
        if not links and block.kind == ParagraphKind.TEXT and plain < PLAIN_LIST_MAX and is_label(label.text):
            links = tuple(map(_plain_target, _list_headlines(block.text)))
            plain += 1
        if not links:
            break
        listed += [*pictures, (i, links)]
        pictures = []
    return listed


def _targets(anchors: Sequence[Anchor]) -> _Links:
    named = ((a.href, _headline(a.text)) for a in anchors)
    return tuple((href or words, words) for href, words in named if href or words)


def _plain_target(line: str) -> tuple[str, str]:
    """Return target and anchor of an unlinked headline: the address after it, else its own words."""
    address = _LAST_ADDRESS.search(line)
    return (address[1], line[: address.start()]) if address else (line, line)


def _usable(anchors: Iterable[Anchor], own_url: str) -> tuple[Anchor, ...]:
    """Return the links that lead to another page or at least name one, unlike "Read more" to the page itself."""
    usable = []
    for anchor in anchors:
        href = "" if _NO_PAGE.match(anchor.href) else anchor.href
        if (href or anchor.text) and (not href or href != own_url):
            usable.append(Anchor(href, anchor.text))
    return tuple(usable)


def _linked_targets(text: str, anchors: Sequence[Anchor]) -> _Links:
    """Return the links of a text that is mostly links; none of another text."""
    linked = sum(_letters(a.text) for a in anchors)
    return _targets(anchors) if linked and linked >= _LINKED_SHARE_MIN * _letters(text) else ()


def _letters(text: str) -> int:
    return sum(ch.isalnum() for ch in text)


def _without_anchors(text: str, anchors: Sequence[Anchor]) -> str:
    for anchor in anchors:
        text = text.replace(anchor.text, " ", 1) if anchor.text else text
    return text


def _headline(text: str) -> str:
    """Return an anchor's text without a label inside the link; empty if it is only the label."""
    if is_label(text):
        return ""
    labelled = split_label(text)
    return _unwrap(labelled.rest if labelled is not None else text)


def _headlines(text: str) -> tuple[str, ...]:
    """Return the headlines in the rest of a labelled line; none if it reads like a sentence."""
    parts = tuple(part for raw in _LINE_BORDER.split(text) if (part := _unwrap(raw)))
    return parts if parts and all(map(_is_headline, parts)) else ()


def _unwrap(text: str) -> str:
    """Remove arrows at both ends, and a closing bracket whose partner stood before the label; "(updated)" stays."""
    text = text.strip(_MARKS)
    for opening, closing in ("()", "[]"):
        if text.endswith(closing) and text.count(opening) < text.count(closing):
            text = text[:-1].rstrip()
    return text


def _is_headline(text: str) -> bool:
    if len(text) > HEADLINE_CHARS_MAX or len(text.split()) > HEADLINE_WORDS_MAX or not _letters(text):
        return False
    return not _SENTENCE_END.search(text)


def _list_headlines(text: str) -> tuple[str, ...]:
    """Return the headlines of a line after a label on its own: a stricter rule, as there is no other evidence."""
    start = _BULLET.match(text)
    if start is None:
        lines = [text]
    elif start[1]:
        lines = text[start.end() :].split(f" {start[1]} ")
    else:
        lines = _NUMBERS.split(text[start.end() :])
    parts = [_headlines(line) for line in lines]
    headlines = tuple(headline for part in parts for headline in part)
    return headlines if all(parts) and all(map(_is_list_headline, headlines)) else ()


def _is_list_headline(text: str) -> bool:
    long_enough = len(text.split()) >= 4 or (len(text) >= 8 and not text.isascii() and " " not in text)
    return long_enough and not text[0].islower() and text[-1] not in ":;,"


def _distinct(links: Iterable[EditorLink]) -> tuple[EditorLink, ...]:
    """Drop repeats: a picture, a headline and a teaser often lead to the same page. The first words are kept."""
    distinct: dict[tuple[str, int], EditorLink] = {}
    for link in links:
        key = (link.target, link.paragraph)
        if key not in distinct or not distinct[key].anchor:
            distinct[key] = link
    return tuple(distinct.values())


def _without_lead(text_parts: Sequence[int], blocks: Sequence[Block], raw: RawArticle) -> list[int]:
    """Drop the title, a dateline and a byline at the beginning of the body."""
    title = _normal_text(raw.title).casefold()
    start = 0
    while start < len(text_parts):
        text = blocks[text_parts[start]].text
        if text.casefold() != title and not is_lead_line(text, raw.labels.language):
            break
        start += 1
    return list(text_parts[start:])
