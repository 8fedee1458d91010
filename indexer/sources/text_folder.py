"""A folder of plain-text files: the title on the first line, then the body in paragraphs set off by blank lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from indexer.sources.base import BadRecord, RawArticle, Where
from indexer.sources.bodies import text_blocks
from indexer.sources.reading import UnreadableError, list_files, read_whole, relative_stem
from indexer.sources.times import to_rfc3339
from recommender.catalog.articles import Labels
from recommender.errors import StorageError

SUFFIXES = (".txt",)

_DATE_LINE = re.compile(r"date\s*:\s*(\S.*)", re.IGNORECASE)


class TextFolder:
    """Articles from *.txt files, in the folder and below it, in the order of their paths; or from one such file.

    The id is the file's path in the folder without ".txt". Published: the "Date:" on the second line, else the time at
    which the file was last changed.
    """

    def __init__(self, path: Path, *, site: str = "", language: str = "") -> None:
        self._path = path
        self._site = site
        self._language = language

    def records(self) -> Iterator[RawArticle | BadRecord]:
        """Yield an article, or the reason against it, for every file."""
        for path in self._files:
            try:
                yield self._article(path)
            except (UnreadableError, StorageError) as error:
                yield BadRecord(Where(path, 1), str(error))

    def count(self) -> int | None:
        """Return the number of files."""
        return len(self._files)

    @cached_property
    def _files(self) -> list[Path]:
        return list_files(self._path, lambda name: name.endswith(SUFFIXES))

    def _article(self, path: Path) -> RawArticle:
        title, date, body = _split(_decode(read_whole(path)))
        return RawArticle(
            where=Where(path, 1),
            id=relative_stem(path, self._path, SUFFIXES),
            title=title,
            blocks=text_blocks(body),
            published_at=to_rfc3339(date) if date else _changed_at(path),
            labels=Labels(site=self._site, language=self._language),
        )


def _decode(data: bytes) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not UTF-8 at byte {error.start + 1}; save the file as UTF-8") from error


def _split(text: str) -> tuple[str, str, str]:
    """Return title, date (empty if no line states one) and the rest."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    if not lines[0].strip("\x00 \t"):
        raise UnreadableError("is empty; write the title on the first line")
    match = _DATE_LINE.fullmatch(lines[1].strip()) if len(lines) > 1 else None
    rest = lines[2:] if match else lines[1:]
    return lines[0].strip(), match[1] if match else "", "\n".join(rest)


def _changed_at(path: Path) -> str:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
