"""Recognise the boxes of related links among all boxes of a page."""

from __future__ import annotations

import re
from typing import Any

from indexer.sources.labels import is_label

_BOX_TAGS = frozenset(("aside", "div", "section", "nav", "ul", "ol"))
"""Elements that may be a box."""
_BOX_NAME = re.compile(
    r"\b(related(posts?|articles?|stor(y|ies)|news|links?|content)?|read-?(more|next|also)|see-?also|more-?on"
    r"|recommend(ed|ations?)?|you-?(may|might)(-?also)?-?like|lire-?aussi|a-?lire|voir-?aussi|leia-?(mais|tambem)"
    r"|veja-?(mais|tambem)|leggi-?anche|lees-?ook|siehe-?auch|lesen-?sie-?auch|te-?puede-?interesar"
    r"|relacionad[oa]s?|correlat[ei]|verwandte?|gerelateerd|jp-relatedposts|yarpp)\b"
)
"""Names (class, id, role) of boxes of related links, in lower case with "-" between words."""
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Borders of words in camelCase."""

BOX_CHARS_MAX = 4_000
"""Take a longer element for the page itself, not a box on it."""
_LINKED_SHARE_MIN = 0.3
"""At least this share of a box's characters is in links."""
_PROSE_CHARS_MIN = 280
"""Take a paragraph of at least this length without a link for the article's own text."""


def is_related_box(element: Any) -> bool:
    """Whether an lxml element is a box of related links: by its name or heading, and mostly links."""
    if element.tag not in _BOX_TAGS:
        return False
    return (_is_named(element) or _is_headed(element)) and _is_mostly_links(element)


def _is_named(element: Any) -> bool:
    name = " ".join(element.get(key, "") for key in ("class", "id", "role", "aria-label", "data-component"))
    return bool(name.strip()) and _BOX_NAME.search(_CAMEL.sub("-", name).lower().replace("_", "-")) is not None


def _is_headed(element: Any) -> bool:
    if element.tag in ("ul", "ol"):
        return False
    first = next((text for text in element.itertext() if text.strip()), "")
    return is_label(first)


def _is_mostly_links(element: Any) -> bool:
    total = 0
    for text in element.itertext():
        total += len(text.strip())
        if total > BOX_CHARS_MAX:
            return False
    linked = sum(len(text.strip()) for link in element.iterdescendants("a") for text in link.itertext())
    return linked >= max(1.0, _LINKED_SHARE_MIN * total) and not any(map(_is_prose, element.iterdescendants("p")))


def _is_prose(paragraph: Any) -> bool:
    text = "".join(paragraph.itertext()).strip()
    if len(text) < _PROSE_CHARS_MIN or paragraph.getparent().tag == "a":
        return False
    return next(paragraph.iterdescendants("a"), None) is None
