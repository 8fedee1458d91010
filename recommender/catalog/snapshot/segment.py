"""What a snapshot and the tail have in common: columns, records, scopes."""

from __future__ import annotations

import enum
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recommender.catalog.articles import Article, Paragraph, ParagraphKind
from recommender.catalog.text.near_copies import Sketch
from recommender.catalog.text.terms import Masks, Packed, Signature, Terms, headline_key
from recommender.catalog.vectors.index import Allowed, Hits, Rows
from recommender.catalog.vectors.scalar_codes import Vector

Codes = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]


class Flag(enum.IntFlag):
    """Bits of the column `flags`."""

    NEVER_TARGET = 1
    NEVER_SOURCE = 2
    EVERGREEN = 4
    NEVER_WITH = 8
    """There are articles that it never stands with."""


def label_code(label: str) -> int:
    """Return the 32-bit code of a section, site, language, tag or author; 0 is the empty label's alone.

    Two labels have the same code once in four thousand million pairs, and are not told apart by filters then; addresses
    and headlines, of which there are as many as articles, are compared themselves where codes agree.
    """
    return zlib.crc32(label.encode()) or 1 if label else 0


def id_hash(article_id: str) -> np.uint64:
    """Return the 64-bit hash under which segments file an id."""
    data = article_id.encode()
    return np.uint64((zlib.crc32(data) << 32) | zlib.adler32(data))


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One array an attribute, parallel, in row order. Codes are those of `label_code`; times are milliseconds UTC.

    url, headline: codes of the address and of the headline's `headline_key`, which equal ones have in common.
    """

    published_at_ms: Times
    public_at_ms: Times
    section: Codes
    site: Codes
    language: Codes
    author: Codes
    url: Codes
    headline: Codes
    words: Codes
    flags: npt.NDArray[np.uint8]

    @staticmethod
    def row_of(article: Article, words: int) -> tuple[int, ...]:
        """Return one article's values, in the order of the fields."""
        rules = article.rules
        flags = (
            Flag.NEVER_TARGET * rules.never_target
            | Flag.NEVER_SOURCE * rules.never_source
            | Flag.EVERGREEN * rules.evergreen
            | Flag.NEVER_WITH * bool(rules.never_with)
        )
        headline = headline_key(article.title)
        labels = (article.section, article.site, article.language, article.author, article.url, headline)
        return (article.published_at_ms, article.public_at_ms, *map(label_code, labels), words, int(flags))


COLUMN_TYPES = dict(
    zip(
        (f.name for f in fields(Columns)),
        (np.int64, np.int64, *(7 * (np.uint32,)), np.uint8),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True, eq=False)
class Tags:
    """Tag codes of all rows: those of row i are codes[offsets[i]:offsets[i + 1]]."""

    offsets: npt.NDArray[np.int64]
    codes: Codes

    def jaccard(self, rows: Rows, wanted: Codes) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): tags shared with `wanted`, distinct codes, over tags of either."""
        counts = self.offsets[rows + 1] - self.offsets[rows]
        ends = np.cumsum(counts)
        flat = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(self.offsets[rows] - ends + counts, counts)
        hits = (self.codes[flat] == wanted[:, None]).any(axis=0)
        shared = np.bincount(np.repeat(np.arange(len(rows)), counts), hits, minlength=len(rows))
        jaccard: npt.NDArray[np.float32] = (shared / np.maximum(counts + len(wanted) - shared, 1)).astype(np.float32)
        return jaccard

    def rows_with(self, wanted: frozenset[str]) -> Allowed:
        """Return bool (rows,): which rows have at least one of these tags."""
        hit = np.isin(self.codes, [label_code(tag) for tag in wanted])
        counts = np.concatenate(([0], np.cumsum(hit)))
        with_tag: Allowed = counts[self.offsets[1:]] > counts[self.offsets[:-1]]
        return with_tag


_SORTED_TIMES = 50
"""Of so many times fewer rows than all it is quicker to sort them than to mark them among all."""


class LabelRows:
    """The rows of each label of a column, so that a choice of labels costs what it holds."""

    def __init__(self, codes: Codes) -> None:
        """Sort the rows by code: 80 ms for a million."""
        order = np.argsort(codes, kind="stable")
        self._sorted = codes[order]
        self._order = order.astype(np.uint32)

    def parts(self, wanted: frozenset[str]) -> list[npt.NDArray[np.uint32]]:
        """Return the rows of each of these labels, ascending."""
        codes = np.unique(_codes_of(wanted))
        starts, ends = (np.searchsorted(self._sorted, codes, side).tolist() for side in ("left", "right"))
        return [self._order[start:end] for start, end in zip(starts, ends, strict=True)]

    def merged(self, parts: list[npt.NDArray[np.uint32]]) -> Rows:
        """Return the rows of all these parts, ascending."""
        rows = np.concatenate((self._order[:0], *parts))
        if _SORTED_TIMES * len(rows) <= len(self._order):
            return np.sort(rows).astype(np.int64)
        marked = np.zeros(len(self._order), np.bool_)
        marked[rows] = True
        return np.flatnonzero(marked)


def _codes_of(labels: frozenset[str]) -> Codes:
    return np.array([label_code(label) for label in labels], np.uint32)


Read = Callable[[str], npt.NDArray[Any]]
"""From the name of a column to its values for the rows in question."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which articles may be chosen; None means all, an empty set none. Published in [from, before); 0 for no bound.

    An article that is never a target is in no scope.
    """

    sections: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    languages: frozenset[str] | None = None
    sites: frozenset[str] | None = None
    published_from_ms: int = 0
    published_before_ms: int = 0
    evergreen_only: bool = False

    @property
    def labels(self) -> dict[str, frozenset[str]]:
        """The labels that it asks for, by column; none for a column that may hold any."""
        asked = {"section": self.sections, "language": self.languages, "site": self.sites}
        return {column: labels for column, labels in asked.items() if labels is not None}

    @property
    def size(self) -> int:
        """Number of labels that it names."""
        return sum(map(len, (*self.labels.values(), self.tags or ())))

    def without_labels_of(self, column: str) -> Scope:
        """Return the scope that any label of this column passes."""
        any_label: dict[str, Any] = {f"{column}s": None}
        return replace(self, **any_label)

    def allowed(self, read: Read, tags: Tags | None = None) -> Allowed:
        """Return bool (rows,). read: the columns of the rows in question. tags: theirs, if it asks for tags."""
        allowed: Allowed = (read("flags") & Flag.NEVER_TARGET.value) == 0
        for column, labels in self.labels.items():
            allowed &= np.isin(read(column), _codes_of(labels))
        if self.evergreen_only:
            allowed &= (read("flags") & Flag.EVERGREEN.value) != 0
        if self.tags is not None:
            assert tags is not None
            allowed &= tags.rows_with(self.tags)
        if self.published_from_ms:
            allowed &= read("published_at_ms") >= self.published_from_ms
        if self.published_before_ms:
            allowed &= read("published_at_ms") < self.published_before_ms
        return allowed

    def narrowed(self, other: Scope) -> Scope:
        """Return the scope of articles that are in both."""
        befores = [ms for ms in (self.published_before_ms, other.published_before_ms) if ms]
        return Scope(
            sections=_both(self.sections, other.sections),
            tags=_both(self.tags, other.tags),
            languages=_both(self.languages, other.languages),
            sites=_both(self.sites, other.sites),
            published_from_ms=max(self.published_from_ms, other.published_from_ms),
            published_before_ms=min(befores, default=0),
            evergreen_only=self.evergreen_only or other.evergreen_only,
        )


def _both(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second


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
    section: str
    site: str
    language: str
    author: str
    image_url: str
    tags: tuple[str, ...]
    kinds: str
    never_with: tuple[str, ...]
    surfaces: tuple[str, ...]
    masks: Masks

    def to_bytes(self) -> bytes:
        """Serialise; `Record.from_bytes` reads it back."""
        values = [getattr(self, f.name) for f in fields(self) if f.name not in ("id", "surfaces", "masks")]
        texts = self.id, json.dumps(values, ensure_ascii=False, separators=(",", ":")), "\n".join(self.surfaces)
        parts = [text.encode() for text in texts]
        return b"".join((_SIZES.pack(*map(len, parts)), *parts, _narrow(self.masks)))

    @staticmethod
    def from_bytes(blob: bytes) -> Record:
        """Read back what `to_bytes` wrote."""
        begin, text, surfaces, masks = accumulate((_SIZES.size, *_SIZES.unpack_from(blob)))
        values: list[Any] = [tuple(v) if isinstance(v, list) else v for v in json.loads(blob[text:surfaces])]
        values.append(tuple(blob[surfaces:masks].decode().split("\n")) if surfaces < masks else ())
        values.append(_widened(blob[masks:], len(values[-1])))
        return Record(blob[begin:text].decode(), *values)

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
        section=article.section,
        site=article.site,
        language=article.language,
        author=article.author,
        image_url=article.image_url,
        tags=article.tags,
        kinds=kinds_of(article.paragraphs),
        never_with=article.rules.never_with,
        surfaces=tuple(map(terms.surfaces.__getitem__, signature.order.tolist())),
        masks=terms.masks[signature.order],
    )


def kinds_of(paragraphs: tuple[Paragraph, ...]) -> str:
    """Return one character for each paragraph, as Record.kinds holds them; one without text counts as media."""
    return "".join(str(int(p.kind if p.text else ParagraphKind.MEDIA)) for p in paragraphs)


class Segment(Protocol):
    """A searchable set of rows; the snapshot is one, the tail another."""

    @property
    def rows(self) -> int:
        """Number of rows, dead ones included."""
        ...

    @property
    def columns(self) -> Columns:
        """The columns of all rows."""
        ...

    @property
    def tags(self) -> Tags:
        """The tags of all rows."""
        ...

    @property
    def signatures(self) -> Packed:
        """Return uint32 (rows, SIGNATURE_TERMS)."""
        ...

    @property
    def sketches(self) -> Sketch:
        """Return uint8 (rows, SKETCH_SIZE)."""
        ...

    @property
    def id_hashes(self) -> npt.NDArray[np.uint64]:
        """Return uint64 (rows,): `id_hash` of the rows' ids."""
        ...

    def find(self, article_id: str) -> int | None:
        """Return the row of an article."""
        ...

    def record(self, row: int) -> Record:
        """Read one record."""
        ...

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        ...

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): inner products of the rows' head vectors with `head`."""
        ...

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        ...

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        ...

    def search(self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope) -> Hits:
        """Return the k best living rows in `scope` that became public in [from_ms, until_ms]."""
        ...
