"""CSV with a header row: comma, semicolon, tab or bar between the columns; several usual names for each column."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from indexer.sources.base import BadRecord, RawArticle, Where
from indexer.sources.bodies import body_blocks, plain_text
from indexer.sources.reading import LINE_BYTES_MAX, UnreadableError, read_lines
from indexer.sources.times import to_rfc3339
from recommender.catalog.articles import Labels
from recommender.errors import InvalidInputError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "article_id", "post_id", "guid", "slug"),
    "url": ("url", "link", "permalink", "canonical_url"),
    "title": ("title", "headline"),
    "summary": ("summary", "description", "excerpt", "teaser", "standfirst", "subtitle"),
    "body": ("body", "content", "text", "article", "article_body", "html", "paragraphs"),
    "published_at": (
        *("published_at", "published", "date", "publication_date", "publish_date", "pub_date", "pubdate", "datetime"),
        "created_at",
    ),
    "site": ("site", "publisher", "source"),
    "section": ("section", "category", "desk", "channel"),
    "tags": ("tags", "keywords"),
    "language": ("language", "lang"),
    "author": ("author", "authors", "byline"),
    "image_url": ("image_url", "image", "thumbnail"),
    "evergreen": ("evergreen",),
}
"""Field -> names of its column; the first name present is used. Case and "_", "-", " " do not matter."""

_DELIMITERS = (",", ";", "\t", "|")
"""Delimiters that are tried; the most frequent one in the header is used."""
_TRUE = frozenset(("1", "true", "yes", "y", "x"))
"""Values, lower case, that mean yes."""
_SURROGATES = re.compile("[\udc80-\udcff]")
"""What decoding leaves of bytes that are not UTF-8."""
_TAG_DELIMITER = re.compile(r"[;,]")
"""Separates the tags in their cell."""


class CsvFile:
    """Articles from a .csv or .tsv file, plain or gzip. A body that contains tags is read as HTML.

    Needs columns for title, date, and id or url (the url is then the id). A date without a zone is taken as UTC.
    """

    def __init__(self, path: Path, *, site: str = "", language: str = "") -> None:
        self._path = path
        self._site = site
        self._language = language

    def records(self) -> Iterator[RawArticle | BadRecord]:
        """Yield an article, or the reason against it, for every row that is not blank.

        Raises InvalidInputError at the first step if the header cannot be read or lacks a column. Rows with bytes that
        are not UTF-8, with another number of columns than the header or with an over-long line are bad records; reading
        goes on after them. Truncated gzip is reported and ends the records.
        """
        csv.field_size_limit(max(LINE_BYTES_MAX, csv.field_size_limit()))
        lines = _Lines(self._path)
        try:
            header = next(lines, "")
        except UnreadableError as error:
            yield BadRecord(Where(self._path, 1), f"{error}; without the first row no other can be read")
            return
        delimiter = max(_DELIMITERS, key=header.count)
        columns = _columns(self._path, _split_header(self._path, header, delimiter))
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            where = Where(self._path, lines.number + 1)
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                swallowed = f"; lines {where.line} to {lines.number} were read as one row"
                reason = f"is not valid CSV: {error}; check the quotes"
                yield BadRecord(where, reason + (swallowed if lines.number > where.line else ""))
            except UnreadableError as error:
                yield BadRecord(Where(self._path, lines.number), str(error))
            else:
                if any(cell.strip() for cell in row):
                    yield self._record(where, columns, row)

    def count(self) -> int | None:
        """Return None: rows may span lines, so counting would parse the whole file."""
        return None

    def _record(self, where: Where, columns: _Columns, row: list[str]) -> RawArticle | BadRecord:
        if len(row) != columns.width:
            return BadRecord(where, f"has {len(row)} columns, the header {columns.width}; check quotes and delimiters")
        if any(_SURROGATES.search(cell) for cell in row):
            return BadRecord(where, "is not UTF-8; save the file as UTF-8")
        identity = columns.cell(row, "id") or columns.cell(row, "url")
        if not identity:
            return BadRecord(where, "id: is empty; give every row an id")
        return self._article(where, columns, row, identity)

    def _article(self, where: Where, columns: _Columns, row: list[str], identity: str) -> RawArticle:
        url = columns.cell(row, "url")
        tags = (tag.strip() for tag in _TAG_DELIMITER.split(columns.cell(row, "tags")))
        return RawArticle(
            where=where,
            id=identity,
            url=url,
            title=plain_text(columns.cell(row, "title")),
            summary=plain_text(columns.cell(row, "summary")),
            blocks=body_blocks(columns.cell(row, "body"), url),
            published_at=to_rfc3339(columns.cell(row, "published_at")),
            labels=Labels(
                site=columns.cell(row, "site") or self._site,
                section=columns.cell(row, "section"),
                tags=tuple(tag for tag in tags if tag),
                language=columns.cell(row, "language") or self._language,
                author=columns.cell(row, "author"),
            ),
            image_url=columns.cell(row, "image_url"),
            evergreen=columns.cell(row, "evergreen").lower() in _TRUE,
        )


class _Lines(Iterator[str]):
    """The physical lines as text; bytes that are not UTF-8 become lone surrogates. Raises UnreadableError."""

    def __init__(self, path: Path) -> None:
        self.number = 0
        self._lines = read_lines(path)

    def __next__(self) -> str:
        line = next(self._lines)
        self.number = line.number
        if line.problem:
            raise UnreadableError(line.problem)
        data = line.data.removeprefix(codecs.BOM_UTF8) if line.number == 1 else line.data
        return data.decode("utf-8", "surrogateescape")


class _Columns:
    """The position of each field in a row. width: number of columns."""

    def __init__(self, positions: Mapping[str, int], width: int) -> None:
        self.width = width
        self._positions = positions

    def cell(self, row: list[str], field: str) -> str:
        position = self._positions.get(field)
        return "" if position is None else row[position].strip()


def _split_header(path: Path, header: str, delimiter: str) -> list[str]:
    """Return the names in the first row. UTF-16, and carriage returns between rows, cannot be read."""
    try:
        if "\0" in header:
            raise csv.Error("it holds NUL, as UTF-16 does")
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        problem = f"{path}: the first row cannot be read: {error}"
        raise InvalidInputError("columns", problem, fix="save the file as UTF-8 with line feeds between rows") from None


def _columns(path: Path, header: list[str]) -> _Columns:
    names = [re.sub(r"[\s_-]+", "_", name.strip().lower()) for name in header]
    positions = {
        field: names.index(alias)
        for field, aliases in COLUMNS.items()
        if (alias := next((a for a in aliases if a in names), None)) is not None
    }
    wanted = ("title", "published_at") if "url" in positions else ("id", "title", "published_at")
    missing = [field for field in wanted if field not in positions]
    if missing:
        usual = "; ".join(f"{field}: {', '.join(COLUMNS[field])}" for field in missing)
        problem = f"{path} has no column for {', '.join(missing)}" if header else f"{path} has no header row"
        raise InvalidInputError("columns", problem, fix=f"name them in the first row ({usual})")
    return _Columns(positions, len(header))
