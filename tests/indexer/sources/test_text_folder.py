"""Folders of text files: title, date line, paragraphs, and files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexer.sources import open_source
from indexer.sources.base import BadRecord, RawArticle


def _read(path: Path) -> list[RawArticle | BadRecord]:
    return list(open_source(path, format="text", site="s", language="de").records())


def _one(tmp_path: Path, data: str | bytes) -> RawArticle:
    path = tmp_path / "a.txt"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    os.utime(path, (1_767_323_045, 1_767_323_045))
    (record,) = _read(path)
    assert isinstance(record, RawArticle), record
    return record


@pytest.mark.parametrize(
    ("data", "date", "paragraphs"),
    [
        ("T\nDate: 2026-03-04\n\nOne\nstill one\n\nTwo\n", "2026-03-04T00:00:00+00:00", ["One\nstill one", "Two"]),
        ("T\r\nDATE : 4 March 2026 10:30\r\nOne\r\n\r\nTwo", "2026-03-04T10:30:00+00:00", ["One", "Two"]),
        ("\n\nT\n\nDate: 2026-03-04\n\nOne", "2026-01-02T03:04:05+00:00", ["Date: 2026-03-04", "One"]),
        ("T\nDate: soon\nOne", "soon", ["One"]),
        ("\ufeffT", "2026-01-02T03:04:05+00:00", []),
        ("T\nOne", "2026-01-02T03:04:05+00:00", ["One"]),
    ],
)
def test_file_is_read(tmp_path: Path, data: str, date: str, paragraphs: list[str]) -> None:
    """The title comes first, then maybe a date line, then paragraphs; without it the file's own time is the date."""
    article = _one(tmp_path, data)
    assert (article.title, article.published_at, [b.text for b in article.blocks]) == ("T", date, paragraphs)
    assert (article.id, article.labels.site, article.labels.language) == ("a", "s", "de")


def test_folder_is_read_by_path(tmp_path: Path) -> None:
    """Files in folders below are read too; the id is the path without suffix."""
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.d.TXT", "d.md"):
        (tmp_path / name).write_text("T")
    source = open_source(tmp_path)
    assert [r.id for r in source.records() if isinstance(r, RawArticle)] == ["a", "b", "sub/c.d"]
    assert source.count() == 3


@pytest.mark.parametrize("data", [b"", b" \n\n", b"\x00\x00", b"T\n\xff\xfe", "T".encode("utf-16")])
def test_what_is_no_text_is_a_bad_record(tmp_path: Path, data: bytes) -> None:
    """An empty file or one that is not UTF-8 gives a bad record with its path; the next file is read."""
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b.txt").write_text("T")
    bad, good = _read(tmp_path)
    assert isinstance(bad, BadRecord) and bad.where.path == tmp_path / "a.txt"
    assert isinstance(good, RawArticle)


def test_big_file_is_read(tmp_path: Path) -> None:
    """A text of 5 MB is read whole."""
    assert len(_one(tmp_path, "T\n" + "word " * 1_000_000).blocks[0].text) == 4_999_999
