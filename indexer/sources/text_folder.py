"""A folder of plain-text files: the title on the first line, then the body in paragraphs set off by blank lines."""

from __future__ import annotations

import codecs
import re
from datetime import UTC, datetime
from pathlib import Path

from indexer.sources.base import RawArticle, Where
from indexer.sources.bodies import text_blocks
from indexer.sources.folder import FileFolder
from indexer.sources.reading import UnreadableError, read_whole, relative_stem
from indexer.sources.times import to_rfc3339
from recommender.catalog.articles import Labels
from recommender.errors import StorageError

_DATE_LINE = re.compile(r"date\s*:\s*(\S.*)", re.IGNORECASE)
"""A second line that states the date, such as "Date: 2026-03-01"."""


class TextFolder(FileFolder):
    """Articles from *.txt files.

    The id is the file's path in the folder without ".txt". Published: the "Date:" on the second line, else the time of
    the file's last change.
    """

    suffixes = (".txt",)

    def _article(self, path: Path) -> RawArticle:
        title, date, body = _split(_decode(read_whole(path)))
        return RawArticle(
            where=Where(path, 1),
            id=relative_stem(path, self._path, self.suffixes),
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
