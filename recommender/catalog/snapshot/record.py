"""A record: what is read of one article only when it is the page, or chosen."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from recommender.catalog.articles import Article, Labels, Paragraph, ParagraphKind
from recommender.catalog.text.terms import Masks, Signature, Terms

_SIZES = struct.Struct("<III")


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What is read of one article only when it is the page, or chosen.

    kinds: one character ("1" to "4", see ParagraphKind) for each paragraph. surfaces and masks: of the signature's
    terms, in its order: as first written, and bit p set where the term stands in paragraph p.
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
        """Serialise; `Record.from_bytes` reads it back."""
        labels = self.labels
        texts = self.url, self.title, self.summary, labels.section, labels.site, labels.language, labels.author
        values = [*texts, self.image_url, labels.tags, self.kinds, self.never_with]
        parts = [
            self.id.encode(),
            json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(),
            "\n".join(self.surfaces).encode(),
        ]
        return b"".join((_SIZES.pack(*map(len, parts)), *parts, _narrow(self.masks)))

    @staticmethod
    def from_bytes(blob: bytes) -> Record:
        """Read back what `to_bytes` wrote."""
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
            masks=_widened(blob[masks:], len(terms)),
        )

    @staticmethod
    def is_of(blob: bytes, article_id: str) -> bool:
        """Say whether what `to_bytes` wrote is the record of this article; quicker than reading all of it."""
        return blob[_SIZES.size : _SIZES.size + _SIZES.unpack_from(blob)[0]] == article_id.encode()


def _narrow(masks: Masks) -> bytes:
    """Return masks in as few bytes each as hold the last paragraph; IN_TITLE, the last bit, is put before the first."""
    rolled = (masks << np.uint64(1)) | (masks >> np.uint64(63))
    return rolled.astype(np.min_scalar_type(rolled.max(initial=0))).tobytes()


def _widened(data: bytes, count: int) -> Masks:
    """Return what `_narrow` wrote of so many masks."""
    rolled = np.frombuffer(data, f"u{len(data) // count}" if count else np.uint8).astype(np.uint64)
    masks: Masks = (rolled >> np.uint64(1)) | (rolled << np.uint64(63))
    return masks


def make_record(article: Article, terms: Terms, signature: Signature) -> Record:
    """Return what the snapshot keeps of an article beside its columns."""
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
    """Return one character for each paragraph, as Record.kinds holds them; one without text counts as media."""
    return "".join(str(int(p.kind if p.text else ParagraphKind.MEDIA)) for p in paragraphs)
