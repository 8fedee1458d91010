"""Tell which format an input is in, from its name and its first bytes."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from indexer.sources import html_folder, text_folder
from indexer.sources.reading import list_files, read_head

_BY_NAME = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "text"}
_BY_NAME |= dict.fromkeys((".html", ".htm", ".xhtml"), "html")
_IN_FOLDERS = (*html_folder.SUFFIXES, *text_folder.SUFFIXES)
_WXR = re.compile(rb"xmlns:\w+\s*=\s*[\"']https?://wordpress\.org/export/")
_FEED = re.compile(rb"<(?:rss|feed|rdf:RDF|\w+:feed)[\s>]")
_PAGE = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)


def detect_format(path: Path) -> str | None:
    """Return the name of the format of an existing file or folder; None if nothing tells. Raises StorageError."""
    return _detect_folder(path) if path.is_dir() else _detect_file(path)


def _detect_folder(path: Path) -> str | None:
    """Count the files of either kind; on a tie pages win, since folders of them hold stray text files."""
    names = [path.name.lower() for path in list_files(path, lambda name: name.endswith(_IN_FOLDERS))]
    if not names:
        return None
    pages, texts = (sum(name.endswith(of.SUFFIXES) for name in names) for of in (html_folder, text_folder))
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
