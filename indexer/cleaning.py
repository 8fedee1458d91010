"""Page furniture out, the editors' own related links harvested: what is left of a body is what the article says.

Pure, and idempotent: cleaning what came out changes nothing. Every pattern matches a whole block and is kept narrow,
since a line too many in a body does little harm and a lost paragraph does much.
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

HEADLINE_CHARS_MAX, HEADLINE_WORDS_MAX = 200, 30
PLAIN_LIST_MAX = 10
"""More unlinked lines than this after a "Related:" heading are not taken for headlines."""

_LINKED_SHARE_MIN = 0.6
_NO_PAGE = re.compile(r"(?:#|mailto:|tel:|sms:|javascript:|data:|whatsapp:)|\Z", re.IGNORECASE)
_LINE_BORDER = re.compile(r"\s*[|•·\n]\s*")
_SENTENCE_END = re.compile(r"(?<!\.\.)(?<!\b[A-Z])[.。]$|[.!?。！？][\"”’)]?\s+[a-z]")
_BULLET = re.compile(r"(?:([-•*·–])|1[.)])\s+")
_MARKDOWN_LINK = re.compile(r"\[([^\[\]]{1,300})\]\(((?:https?:/)?/[^\s()<>]{1,2000})\)")
_LAST_ADDRESS = re.compile(r"[\s–—|:<(\[-]*(https?://[^\s<>()\[\]]+)[>)\]]?$")
_MARKS = "«»‹›→▸▶►*_ "
"""Arrows and emphasis around a headline."""
_NUMBERS = re.compile(r"\s\d{1,2}[.)]\s+")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A body without furniture, one paragraph for each block of the input: what is removed leaves an empty one.

    So the index of a paragraph here is its index on the publisher's page, which a page plan refers to. Empty ones at
    the end are cut. links: in reading order. removed: how many blocks that had text have none now.
    """

    paragraphs: tuple[Paragraph, ...]
    links: tuple[EditorLink, ...]
    summary: str
    removed: int


_Links = tuple[tuple[str, str], ...]
"""Target and anchor of each link in a block."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A related link and the position of the block that held it."""

    position: int
    target: str
    anchor: str


def clean(raw: RawArticle) -> Cleaned:
    """Return the article's paragraphs and the related links that stood among them. Never raises.

    A link's `paragraph` is the index of the last paragraph with text before it, -1 if there is none. A link in running
    text is no editor link and its words stay.
    """
    parts = [(origin, _normal(part)) for origin, block in enumerate(raw.blocks) for part in _split_lines(block)]
    blocks = [_read_markdown(part) for _, part in parts]
    kept, found = _harvest(blocks, raw.url)
    kept = _without_lead(kept, blocks, raw)
    origins = [parts[i][0] for i in kept]
    links = (EditorLink(raw.id, f.target, _last_before(kept, origins, f.position), f.anchor) for f in found)
    lines: dict[int, list[Block]] = {}
    for origin, i in zip(origins, kept, strict=True):
        lines.setdefault(origin, []).append(parts[i][1])
    cleaned = Cleaned(
        paragraphs=_in_place(raw.blocks, lines),
        links=_distinct(links),
        summary=clean_summary(raw.summary),
        removed=sum(1 for i, block in enumerate(raw.blocks) if i not in lines and _normal_text(block.text)),
    )
    return cleaned if len(lines) == len(kept) else _again(raw, cleaned, lines)


def _again(raw: RawArticle, first: Cleaned, lines: Mapping[int, Sequence[Block]]) -> Cleaned:
    """Clean once more where lines were put together again: as one they may be what none of them is, a labelled line."""
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


def _last_before(kept: Sequence[int], origins: Sequence[int], position: int) -> int:
    at = bisect_left(kept, position)
    return origins[at - 1] if at else -1


def _in_place(blocks: Sequence[Block], lines: Mapping[int, Sequence[Block]]) -> tuple[Paragraph, ...]:
    """Return a paragraph for each block: of the lines that are left of it, or an empty one."""
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
    kept = _harvest(lines, "")[0] if len(lines) > 1 else range(len(lines))
    text = _normal_text(" ".join(lines[i].text for i in kept))
    while len(text) <= SUMMARY_CHARS_MAX and (shorter := SUMMARY_TAIL.sub("", text).rstrip()) != text:
        text = shorter
    return "" if is_furniture(text) else text


def _normal_text(text: str) -> str:
    """Normalise twice: a control character taken out may leave two others that combine."""
    once = clean_text(text)
    return once if once.isascii() else clean_text(once)


def _normal(block: Block) -> Block:
    anchors = tuple(Anchor(a.href.strip(), _normal_text(a.text)) for a in block.anchors)
    return Block(_normal_text(block.text), block.kind, anchors, block.boxed)


def _read_markdown(block: Block) -> Block:
    """Return a plain block with its Markdown links as anchors, to be judged; what is kept of it stays as it was."""
    if block.anchors or "](" not in block.text:
        return block
    anchors = tuple(Anchor(match[2], match[1]) for match in _MARKDOWN_LINK.finditer(block.text))
    return replace(block, text=_MARKDOWN_LINK.sub(r"\1", block.text), anchors=anchors)


def _split_lines(block: Block) -> Iterator[Block]:
    """Cut a block at those of its lines that announce related links; what else it says stays in one piece."""
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


def _harvest(blocks: Sequence[Block], own_url: str) -> tuple[list[int], list[_Found]]:
    """Return the positions of the blocks to keep and the links found in the others, both in reading order.

    Goes backwards: what follows a label is settled when the label is judged, so that one pass is enough.
    """
    kept: list[int] = []  # in reverse
    found: list[_Found] = []
    before_box = False
    for i in range(len(blocks) - 1, -1, -1):
        block = blocks[i]
        anchors = _usable(block.anchors, own_url)
        if block.boxed:
            found += _found(i, _targets(anchors))
        elif is_label(block.text, weak=True):
            taken = _list_after(block, blocks, kept, own_url)
            for position, links in taken:
                found += _found(position, links)
            del kept[len(kept) - len(taken) :]
            if not taken and not before_box and _is_heading_of_text(block, followed=bool(kept)):
                kept.append(i)
        elif is_furniture(block.text):
            continue
        elif links := _line_links(block, anchors):
            found += _found(i, links)
        else:
            kept.append(i)
        before_box = block.boxed
    return kept[::-1], sorted(found, key=lambda link: link.position)


def _found(position: int, links: _Links) -> list[_Found]:
    return [_Found(position, target, anchor) for target, anchor in links]


def _is_heading_of_text(label: Block, *, followed: bool) -> bool:
    """Whether a label that announces no links is the author's own heading, rather than what is left of a box."""
    if is_furniture(label.text):
        return False
    return followed or not is_label(label.text)


def _line_links(block: Block, anchors: Sequence[Anchor]) -> _Links:
    """Return the links of a block such as "Related News: X"; none if it is a paragraph like any other."""
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


def _list_after(label: Block, blocks: Sequence[Block], kept: Sequence[int], own_url: str) -> list[tuple[int, _Links]]:
    """Return the blocks right after a label (from the end of `kept`) that are links or headlines, with their links."""
    taken: list[tuple[int, _Links]] = []
    pictures: list[tuple[int, _Links]] = []
    plain = 0
    for i in reversed(kept):
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
        taken += [*pictures, (i, links)]
        pictures = []
    return taken


def _targets(anchors: Sequence[Anchor]) -> _Links:
    named = ((a.href, _headline(a.text)) for a in anchors)
    return tuple((href or words, words) for href, words in named if href or words)


def _plain_target(line: str) -> tuple[str, str]:
    """Return target and anchor of an unlinked headline: the address written after it, else its own words."""
    address = _LAST_ADDRESS.search(line)
    return (address[1], line[: address.start()]) if address else (line, line)


def _usable(anchors: Iterable[Anchor], own_url: str) -> tuple[Anchor, ...]:
    """Return the links that lead to another page or at least name one; "Read more" to the page itself does not."""
    usable = []
    for anchor in anchors:
        href = "" if _NO_PAGE.match(anchor.href) else anchor.href
        if (href or anchor.text) and (not href or href != own_url):
            usable.append(Anchor(href, anchor.text))
    return tuple(usable)


def _linked_targets(text: str, anchors: Sequence[Anchor]) -> _Links:
    """Return the links of a text that is little else than links; none if it is more."""
    linked = sum(_letters(a.text) for a in anchors)
    return _targets(anchors) if linked and linked >= _LINKED_SHARE_MIN * _letters(text) else ()


def _letters(text: str) -> int:
    return sum(ch.isalnum() for ch in text)


def _without_anchors(text: str, anchors: Sequence[Anchor]) -> str:
    for anchor in anchors:
        text = text.replace(anchor.text, " ", 1) if anchor.text else text
    return text


def _headline(text: str) -> str:
    """Return an anchor's text without the label that may stand inside the link; empty if it is no more than that."""
    if is_label(text):
        return ""
    labelled = split_label(text)
    return _unwrap(labelled.rest if labelled is not None else text)


def _headlines(text: str) -> tuple[str, ...]:
    """Return the headlines in the rest of a labelled line; none if it reads like a sentence."""
    parts = tuple(part for raw in _LINE_BORDER.split(text) if (part := _unwrap(raw)))
    return parts if parts and all(map(_is_headline, parts)) else ()


def _unwrap(text: str) -> str:
    """Take arrows off both ends, and a bracket whose partner stood before the label; "(updated)" stays whole."""
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
    """Return the headlines of a line after a label that stands alone: stricter, as nothing else vouches for it."""
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
    """Drop repeats: a picture, a headline and a teaser often lead to the same page. The first words win."""
    seen: dict[tuple[str, int], EditorLink] = {}
    for link in links:
        key = (link.target, link.paragraph)
        if key not in seen or not seen[key].anchor:
            seen[key] = link
    return tuple(seen.values())


def _without_lead(kept: Sequence[int], blocks: Sequence[Block], raw: RawArticle) -> list[int]:
    """Drop the title, a dateline and a byline where the body begins with them."""
    title = _normal_text(raw.title).casefold()
    start = 0
    while start < len(kept):
        text = blocks[kept[start]].text
        if text.casefold() != title and not is_lead_line(text, raw.labels.language):
            break
        start += 1
    return list(kept[start:])
