"""What every source yields: raw articles with their place in the input, or bad records with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from recommender.catalog.articles import NO_LABELS, Labels, ParagraphKind


@dataclass(frozen=True, slots=True)
class Where:
    """The place of a record in its input. line: its 1-based line (JSON Lines, CSV), else its 1-based number."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A link inside a block. href: as written, resolved against the page's URL where that is known."""

    href: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a body before cleaning: a paragraph, a heading, a list item, a caption.

    text: a line break of the input is a newline; other white space is not normalised. boxed: the page marks it as part
    of a box of related links (by class, id or heading); cleaning takes the links and removes the block.
    """

    text: str
    kind: ParagraphKind = ParagraphKind.TEXT
    anchors: tuple[Anchor, ...] = ()
    boxed: bool = False


@dataclass(frozen=True, slots=True)
class RawArticle:
    """An article as the input states it, neither checked nor cleaned. Empty means absent.

    published_at: RFC 3339 where the source could read it as one (see times.py), else the input's own text. id: the
    source derives one where the format has none (a feed's guid, a page's URL, a file's stem).
    """

    where: Where
    id: str
    url: str = ""
    title: str = ""
    summary: str = ""
    blocks: tuple[Block, ...] = ()
    published_at: str = ""
    labels: Labels = NO_LABELS
    image_url: str = ""
    evergreen: bool = False


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that could not be read. reason: one line, what is wrong and how to fix it."""

    where: Where
    reason: str


class Source(Protocol):
    """A stream of records from one input. Iterating twice reads the input twice."""

    def records(self) -> Iterator[RawArticle | BadRecord]:
        """Yield records in input order, lazily, in bounded memory. Raises StorageError if the input is unreadable."""
        ...

    def count(self) -> int | None:
        """Return the number of records if that is cheap to know (for a progress bar), else None."""
        ...


class SourceClass(Protocol):
    """How every source class is called; `site` and `language` are for records that state none."""

    def __call__(self, path: Path, *, site: str = "", language: str = "") -> Source:
        """Return the source; nothing is read before `records`."""
        ...


class Format(NamedTuple):
    """One input format: the class that reads it and one line for the command's help."""

    source: SourceClass
    description: str
