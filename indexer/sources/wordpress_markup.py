"""The content of a WordPress post as HTML: line breaks for paragraphs, shortcodes and block comments resolved."""

from __future__ import annotations

import re
from html import escape

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
"""A comment, such as the editor's block markers."""
_CAPTION = re.compile(r"\[(caption|wp_caption)\b([^\]]{0,4000})\](.{0,5000}?)\[/\1\]", re.DOTALL | re.IGNORECASE)
"""A captioned picture: shortcode, attributes, content."""
_CAPTION_ATTRIBUTE = re.compile(r"caption\s*=\s*(\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
"""The words of a caption in an old export."""
_IMAGE = re.compile(r"(?:<a\b[^>]*>\s*)?<img\b[^>]*>(?:\s*</a>)?", re.IGNORECASE)
"""A picture, maybe with a link around it."""
_PLAYER = re.compile(
    r"\[(embed|video|audio|gallery|playlist|youtube|vimeo|tweet|twitter|instagram|facebook|soundcloud|googlemaps"
    r"|contact-form(?:-7)?|gravityform|ninja_form|mc4wp_form|poll|iframe)\b[^\]]{0,4000}\](?:[^\[\]]*\[/\1\])?",
    re.IGNORECASE,
)
"""Shortcodes of media and forms, removed with their content."""
_BUILDER = re.compile(r"\[/?(?:vc|et_pb|fusion|av|mk|su|cs|tatsu|fl|x)_[\w-]+[^\]]{0,4000}\]", re.IGNORECASE)
"""Shortcodes of page builders."""
_WITH_ATTRIBUTES = re.compile(
    r"\[[a-z][\w-]*(?:\s+[\w-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[\w./:-]+))+\s*/?\]", re.IGNORECASE
)
"""Any opening shortcode that has attributes."""
_CLOSING = re.compile(r"\[/[a-z][\w-]*\]", re.IGNORECASE)
"""Any closing shortcode."""
_PAIRED = re.compile(r"\[([a-z][\w-]{0,60})\](?=[^\[]*\[/\1\])", re.IGNORECASE)
"""Any opening shortcode that is closed later."""
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
"""The border of two paragraphs."""


def to_html(content: str) -> str:
    """Return the content of a post as HTML: captions as figures, no shortcodes, blank lines as paragraph borders.

    Text in brackets that is no shortcode, such as "[sic]", stays. So do the words between two unknown shortcodes.
    """
    html = _COMMENT.sub("", content.replace("\r\n", "\n").replace("\r", "\n"))
    html = _CAPTION.sub(_figure, html)
    for shortcode in (_PLAYER, _BUILDER, _WITH_ATTRIBUTES, _PAIRED, _CLOSING):
        html = shortcode.sub("", html)
    return _BLANK_LINES.sub("<br><br>", html)


def _figure(match: re.Match[str]) -> str:
    """Return a [caption] as a figure. Old exports have the words in an attribute, newer ones after the image."""
    inner = match[3].strip()
    image = _IMAGE.search(inner)
    words = inner.replace(image[0], "", 1).strip() if image else inner
    attribute = _CAPTION_ATTRIBUTE.search(match[2])
    if not words and attribute:
        words = escape(attribute[2] or attribute[3] or "")
    return f"<figure>{image[0] if image else ''}<figcaption>{words}</figcaption></figure>"
