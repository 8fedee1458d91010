"""Detect the format of an input from its name and its first bytes."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from indexer.sources.html_folder import HtmlFolder
from indexer.sources.reading import list_files, read_head
from indexer.sources.text_folder import TextFolder

_BY_NAME = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "text"}
_BY_NAME |= dict.fromkeys((".html", ".htm", ".xhtml"), "html")
"""Suffix of a file -> format; other files are detected by their first bytes."""
_FOLDER_SUFFIXES = (*HtmlFolder.suffixes, *TextFolder.suffixes)
"""Names in a folder that count; others do not tell its format."""
_WXR = re.compile(rb"xmlns:\w+\s*=\s*[\"']https?://wordpress\.org/export/")
_FEED = re.compile(rb"<(?:rss|feed|rdf:RDF|\w+:feed)[\s>]")
_PAGE = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)


def detect_format(path: Path) -> str | None:
    """Return the name of the format of an existing file or folder, None if unknown. Raises StorageError."""
    return _detect_folder(path) if path.is_dir() else _detect_file(path)


def _detect_folder(path: Path) -> str | None:
    """Choose the format of most files; on a tie web pages, since their folders often contain stray text files."""
    names = [path.name.lower() for path in list_files(path, lambda name: name.endswith(_FOLDER_SUFFIXES))]
    if not names:
        return None
    pages, texts = (sum(name.endswith(source.suffixes) for name in names) for source in (HtmlFolder, TextFolder))
    return "html" if pages >= texts else "text"


def _detect_file(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    by_name = _BY_NAME.get(Path(name).suffix)
    if by_name:
        return by_name
    head = read_head(path).removeprefix(codecs.BOM_UTF8)
    if _PAGE.match(head):
        return "html"
    if _FEED.search(head):
        return "wordpress" if _WXR.search(head) else "feed"
    return "jsonl" if head.lstrip().startswith(b"{") else None
