"""Article and its parts: the frozen values that every other module uses.

Times are whole milliseconds since the Unix epoch, UTC. Texts are NFC, without control characters. An Article is valid
by construction: the gRPC service and the indexer both build it with `checks.make_article`.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


class ParagraphKind(enum.IntEnum):
    """What a paragraph is. A link is never placed directly after a HEADING or MEDIA."""

    TEXT = 1
    HEADING = 2
    MEDIA = 3
    QUOTE = 4


_KINDS = {int(kind): kind for kind in ParagraphKind}
"""Each kind by its number: quicker than calling the enum, for the millions of paragraphs that a snapshot reads."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One block of an article's body, in reading order."""

    text: str
    kind: ParagraphKind = ParagraphKind.TEXT


@dataclass(frozen=True, slots=True)
class Rules:
    """What an editor decided about one article; no part of its content.

    never_source: its page gets no links. never_target: it is never linked to. never_with: ids of articles that never
    stand beside it, in either direction. embargo_until_ms: it is not public before; 0 for none. evergreen: its age does
    not count.
    """

    never_source: bool = False
    never_target: bool = False
    never_with: tuple[str, ...] = ()
    embargo_until_ms: int = 0
    evergreen: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """What an article is filed under; empty means unknown. `checks.make_labels` checks and normalises labels.

    language: the primary language of a BCP 47 tag, lower case.
    """

    site: str = ""
    section: str = ""
    tags: tuple[str, ...] = ()
    language: str = ""
    author: str = ""

    def to_values(self) -> dict[str, Any]:
        """Return the labels for JSON, in the order of `Article.to_json`; `Labels.from_values` reads them back."""
        return {
            "site": self.site,
            "section": self.section,
            "tags": self.tags,
            "language": self.language,
            "author": self.author,
        }

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> Labels:
        """Read back what `to_values` returned; other keys are ignored."""
        return Labels(values["site"], values["section"], tuple(values["tags"]), values["language"], values["author"])


NO_LABELS = Labels()
"""The labels of a page or record that states none."""


@dataclass(frozen=True, slots=True)
class Article:
    """One published piece. Build it with `make_article`, which checks and normalises every field."""

    id: str
    url: str
    title: str
    summary: str
    paragraphs: tuple[Paragraph, ...]
    published_at_ms: int
    labels: Labels = NO_LABELS
    image_url: str = ""
    rules: Rules = field(default_factory=Rules)

    @property
    def public_at_ms(self) -> int:
        """When readers may see it: the later of publication and end of embargo."""
        return max(self.published_at_ms, self.rules.embargo_until_ms)

    def content_hash(self) -> bytes:
        """Return a hash, 16 bytes, of everything but the editor's rules."""
        return _digest(replace(self, rules=Rules()).to_json())

    def text_hash(self) -> bytes:
        """Return a hash, 16 bytes, of the text that is embedded and analysed."""
        body = [[int(p.kind), p.text] for p in self.paragraphs]
        return _digest(json.dumps([self.title, self.summary, body], ensure_ascii=False))

    def to_json(self) -> str:
        """Return the article as one line of JSON with a fixed key order; `article_from_json` reads it back."""
        rules = self.rules
        return json.dumps(
            {
                "id": self.id,
                "url": self.url,
                "title": self.title,
                "summary": self.summary,
                "paragraphs": [[int(p.kind), p.text] for p in self.paragraphs],
                "published_at_ms": self.published_at_ms,
                **self.labels.to_values(),
                "image_url": self.image_url,
                "rules": {
                    "never_source": rules.never_source,
                    "never_target": rules.never_target,
                    "never_with": rules.never_with,
                    "embargo_until_ms": rules.embargo_until_ms,
                    "evergreen": rules.evergreen,
                },
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )


@dataclass(frozen=True, slots=True)
class EditorLink:
    """A related link that an editor placed in a body, harvested before the body was embedded.

    target: an article id, a URL or a headline, as in the body. paragraph: 0-based index of the last remaining paragraph
    before the link; -1 if there is none. anchor: the link's text; may be empty.
    """

    source_id: str
    target: str
    paragraph: int
    anchor: str = ""


def article_from_json(text: str) -> Article:
    """Read back what `Article.to_json` wrote; its values are not checked again."""
    values = json.loads(text)
    rules = values["rules"]
    return Article(
        id=values["id"],
        url=values["url"],
        title=values["title"],
        summary=values["summary"],
        paragraphs=tuple(Paragraph(text, _KINDS[kind]) for kind, text in values["paragraphs"]),
        published_at_ms=values["published_at_ms"],
        labels=Labels.from_values(values),
        image_url=values["image_url"],
        rules=Rules(
            never_source=rules["never_source"],
            never_target=rules["never_target"],
            never_with=tuple(rules["never_with"]),
            embargo_until_ms=rules["embargo_until_ms"],
            evergreen=rules["evergreen"],
        ),
    )


@dataclass(frozen=True, slots=True)
class Body:
    """The normalised texts of a page, which an article and a draft have in common."""

    title: str
    summary: str
    paragraphs: tuple[Paragraph, ...]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
