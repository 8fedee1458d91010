"""Split a body that is one string, plain or HTML, into blocks."""

from __future__ import annotations

import re

from indexer.sources.base import Block
from indexer.sources.html_blocks import fragment_blocks, fragment_text

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
"""Ends a block of plain text."""
_MARKUP = re.compile(
    r"</(?:p|div|h[1-6]|ul|ol|li|a|b|i|em|strong|span|blockquote|figure|section|article|table|iframe)\s*>"
    r"|<(?:p|br|img|hr)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
"""Tags that make a text HTML."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8}\d{0,2});", re.IGNORECASE)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*")
"""The form of a BCP 47 tag, with "_" allowed for "-"."""


def body_blocks(text: str, base_url: str = "") -> tuple[Block, ...]:
    """Return the blocks of a body that may be HTML or plain text. base_url: what relative links resolve against."""
    return fragment_blocks(text, base_url) if is_markup(text) else text_blocks(text)


def text_blocks(text: str) -> tuple[Block, ...]:
    """Split plain text on blank lines; single line breaks stay inside the blocks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return tuple(Block(part.strip()) for part in _BLANK_LINE.split(text) if part.strip())


def plain_text(text: str) -> str:
    """Return a title or summary without markup and entities, trimmed."""
    return fragment_text(text) if is_markup(text) or _ENTITY.search(text) else text.strip()


def is_markup(text: str) -> bool:
    """Whether `text` contains HTML tags, not just a stray "<" or a tag that the text is about."""
    return _MARKUP.search(text) is not None


def language_tag(text: str) -> str:
    """Return the language that a page or feed states if it looks like a BCP 47 tag, else ""; some state nonsense."""
    text = text.strip()
    return text if _LANGUAGE.fullmatch(text) else ""
