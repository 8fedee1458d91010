"""Article sources: one file per input format, one way to open them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from indexer.sources.base import Anchor, BadRecord, Block, Format, RawArticle, Source, Where
from indexer.sources.csv_file import CsvFile
from indexer.sources.detect import detect_format
from indexer.sources.feed import Feed
from indexer.sources.html_folder import HtmlFolder
from indexer.sources.jsonlines import JsonLines
from indexer.sources.text_folder import TextFolder
from indexer.sources.wordpress import WordPress
from recommender.errors import InvalidInputError, NotFoundError

__all__ = ["FORMATS", "Anchor", "BadRecord", "Block", "Format", "RawArticle", "Source", "Where", "open_source"]

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "jsonl": Format(JsonLines, "JSON Lines, one article a line (.jsonl, .ndjson, also .gz)"),
        "csv": Format(CsvFile, "CSV with a header row (.csv, .tsv, also .gz)"),
        "feed": Format(Feed, "RSS, Atom or RDF feed in a file (.xml, .rss, .atom)"),
        "html": Format(HtmlFolder, "folder of saved web pages (*.html, *.htm, also .gz), or one of them"),
        "wordpress": Format(WordPress, "WordPress export, WXR (.xml, also .gz)"),
        "text": Format(TextFolder, "folder of text files (*.txt), title on the first line, or one of them"),
    }
)
"""Name, as in --format -> the class that reads it and one line for the help."""

_FOLDERS = frozenset(("html", "text"))
"""Formats that are read from a folder, too."""


def open_source(path: Path, *, format: str | None = None, site: str = "", language: str = "") -> Source:
    """Return the source at `path`, of the format named or, without one, of the format that the input looks like.

    site, language: for records that state none. Raises NotFoundError if there is nothing at `path`, InvalidInputError
    if the format is unknown, cannot be detected or does not fit a file or folder, or if a folder has no file of it,
    StorageError if the operating system refuses.
    """
    if not path.exists():
        raise NotFoundError("file", str(path), fix="check the path")
    if not (path.is_file() or path.is_dir()):
        raise InvalidInputError("path", f"{path} is neither a file nor a folder", fix="save the input to a file")
    name = format or detect_format(path)
    if name is None:
        raise InvalidInputError("path", f"cannot tell the format of {path}", fix=f"name one of them: {_format_list()}")
    if name not in FORMATS:
        raise InvalidInputError("format", f"{name!r} is unknown", fix=f"use one of them: {_format_list()}")
    if path.is_dir() and name not in _FOLDERS:
        raise InvalidInputError("path", f"{path} is a folder, the format {name!r} a file", fix="name the file in it")
    source = FORMATS[name].source(path, site=site, language=language)
    if path.is_dir() and source.count() == 0:
        description = FORMATS[name].description
        raise InvalidInputError("path", f"{path} holds no file of the format {name!r}", fix=f"it reads a {description}")
    return source


def _format_list() -> str:
    return "; ".join(f"{name} ({format.description})" for name, format in FORMATS.items())
