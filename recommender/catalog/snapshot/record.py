"""A record: what is read of one article only when it is the page or is shown."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from recommender.catalog.articles import Article, Labels, Paragraph, ParagraphKind
from recommender.catalog.text.terms import Masks, Signature, Terms

_SIZES = struct.Struct("<III")
"""The head of a serialised record: bytes of the id, of the JSON values and of the surfaces; the masks follow these."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What is read of one article only when it is the page or is shown.

    kinds: one character for each paragraph, "1" to "4", see ParagraphKind.
    surfaces: the signature's terms in its order, spelled as in the article.
    masks: for each of these terms, bit p is set if it stands in paragraph p, and IN_TITLE if in the title.
    """

    id: str
    url: str
    title: str
    summary: str
    labels: Labels
    image_url: str
    kinds: str
    never_with: tuple[str, ...]
    surfaces: tuple[str, ...]
    masks: Masks

    def to_bytes(self) -> bytes:
        """Serialise the record for `from_bytes`."""
        labels = self.labels
        texts = self.url, self.title, self.summary, labels.section, labels.site, labels.language, labels.author
        values = [*texts, self.image_url, labels.tags, self.kinds, self.never_with]
        parts = [
            self.id.encode(),
            json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(),
            "\n".join(self.surfaces).encode(),
        ]
        return b"".join((_SIZES.pack(*map(len, parts)), *parts, _pack_masks(self.masks)))

    @staticmethod
    def from_bytes(blob: bytes) -> Record:
        """Return the record that `to_bytes` serialised."""
        begin, text, surfaces, masks = accumulate((_SIZES.size, *_SIZES.unpack_from(blob)))
        values = json.loads(blob[text:surfaces])
        url, title, summary, section, site, language, author, image_url, tags, kinds, never_with = values
        terms = tuple(blob[surfaces:masks].decode().split("\n")) if surfaces < masks else ()
        return Record(
            id=blob[begin:text].decode(),
            url=url,
            title=title,
            summary=summary,
            labels=Labels(site, section, tuple(tags), language, author),
            image_url=image_url,
            kinds=kinds,
            never_with=tuple(never_with),
            surfaces=terms,
            masks=_unpack_masks(blob[masks:], len(terms)),
        )

    @staticmethod
    def is_of(blob: bytes, article_id: str) -> bool:
        """Say whether a serialised record is of this article, without reading the rest of it."""
        return blob[_SIZES.size : _SIZES.size + _SIZES.unpack_from(blob)[0]] == article_id.encode()


def _pack_masks(masks: Masks) -> bytes:
    """Return masks in the fewest bytes each that reach the last paragraph; the last bit, IN_TITLE, comes first."""
    rolled = (masks << np.uint64(1)) | (masks >> np.uint64(63))
    return rolled.astype(np.min_scalar_type(rolled.max(initial=0))).tobytes()


def _unpack_masks(data: bytes, count: int) -> Masks:
    """Return the `count` masks that `_pack_masks` packed."""
    rolled = np.frombuffer(data, f"u{len(data) // count}" if count else np.uint8).astype(np.uint64)
    masks: Masks = (rolled >> np.uint64(1)) | (rolled << np.uint64(63))
    return masks


def make_record(article: Article, terms: Terms, signature: Signature) -> Record:
    """Return the record of an article."""
    return Record(
        id=article.id,
        url=article.url,
        title=article.title,
        summary=article.summary,
        labels=article.labels,
        image_url=article.image_url,
        kinds=kinds_of(article.paragraphs),
        never_with=article.rules.never_with,
        surfaces=tuple(map(terms.surfaces.__getitem__, signature.order.tolist())),
        masks=terms.masks[signature.order],
    )


def kinds_of(paragraphs: tuple[Paragraph, ...]) -> str:
    """Return Record.kinds of these paragraphs; one without text counts as media."""
    return "".join(str(int(p.kind if p.text else ParagraphKind.MEDIA)) for p in paragraphs)
