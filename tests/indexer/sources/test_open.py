"""Opening a source: telling the format, refusing what is none, reading dates."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from indexer.sources import FORMATS, open_source
from indexer.sources.base import BadRecord
from indexer.sources.csv_file import CsvFile
from indexer.sources.feed import Feed
from indexer.sources.html_folder import HtmlFolder
from indexer.sources.jsonlines import JsonLines
from indexer.sources.text_folder import TextFolder
from indexer.sources.times import to_rfc3339
from indexer.sources.wordpress import WordPress
from recommender.errors import InvalidInputError, NotFoundError

WXR_HEAD = b'<?xml version="1.0"?><rss version="2.0" xmlns:wp="http://wordpress.org/export/1.2/">'


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.jsonl", b"", JsonLines),
        ("a.ndjson", b"", JsonLines),
        ("A.JSONL.GZ", gzip.compress(b"", mtime=0), JsonLines),
        ("a.csv", b"", CsvFile),
        ("a.tsv.gz", b"", CsvFile),
        ("a.xml", b"\xef\xbb\xbf<?xml version='1.0'?>\n<rss version='2.0'>", Feed),
        ("a.rss", b"<rss>", Feed),
        ("a.atom", b"<?xml version='1.0'?><!-- x --><feed xmlns='http://www.w3.org/2005/Atom'>", Feed),
        ("a.rdf", b"<rdf:RDF xmlns='x'>", Feed),
        ("a.xml", WXR_HEAD, WordPress),
        ("a.xml.gz", gzip.compress(WXR_HEAD, mtime=0), WordPress),
        ("a.html", b"", HtmlFolder),
        ("a.htm.gz", gzip.compress(b"", mtime=0), HtmlFolder),
        ("a", b" <!DOCTYPE HTML><p>", HtmlFolder),
        ("a.txt", b"", TextFolder),
        ("a.json", b'{"id": 1}\n', JsonLines),
        ("dump", gzip.compress(b'\n{"id": 1}\n', mtime=0), JsonLines),
    ],
)
def test_format_is_detected_by_name_and_content(tmp_path: Path, name: str, data: bytes, expected: type) -> None:
    """A file's format is detected by its name, or else by its first bytes."""
    (tmp_path / name).write_bytes(data)
    assert type(open_source(tmp_path / name)) is expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.html"], HtmlFolder),
        (["b/c/a.HTM.gz", "robots.txt"], HtmlFolder),
        (["a.txt", "b.txt", "a.html"], TextFolder),
        ([".git/a.txt", "._b.txt", "a.html"], HtmlFolder),
    ],
)
def test_format_of_a_folder_is_detected_by_its_files(tmp_path: Path, names: list[str], expected: type) -> None:
    """A folder is of pages or of texts, whichever it holds more of, hidden files apart."""
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert type(open_source(tmp_path)) is expected


@pytest.mark.parametrize("data", [b"", b"plain words", b"[1, 2]", b"\x00\x01", b"\x1f\x8b\x08", b"<svg/>"])
def test_unknown_content_is_refused_with_the_formats(tmp_path: Path, data: bytes) -> None:
    """An unknown format is refused, naming the path and every format."""
    path = tmp_path / "input.dat"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match=r"input\.dat") as error:
        open_source(path)
    assert all(name in error.value.fix for name in FORMATS)


@pytest.mark.parametrize("name", ["a.pdf", ".a.html", ".git/a.html"])
def test_a_folder_without_anything_to_read_is_refused(tmp_path: Path, name: str) -> None:
    """Its format cannot be told; with the format named, the message says what was looked for."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(InvalidInputError, match="cannot tell the format"):
        open_source(tmp_path)
    with pytest.raises(InvalidInputError, match="holds no file of the format 'html'") as error:
        open_source(tmp_path, format="html")
    assert "(*.html, *.htm, also .gz)" in error.value.fix


@pytest.mark.parametrize("format", ["html", "text"])
def test_what_cannot_be_read_in_a_folder_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    """A folder that cannot be listed and a broken link are bad records each; pipes are left alone."""
    suffix = {"html": "html", "text": "txt"}[format]
    (tmp_path / "closed").mkdir()
    (tmp_path / f"link.{suffix}").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    records = list(open_source(tmp_path, format=format).records())
    assert all(isinstance(record, BadRecord) for record in records)
    assert [record.where.path.name for record in records] == ["closed", f"link.{suffix}"]


def test_missing_and_mismatching_inputs_are_refused(tmp_path: Path) -> None:
    """No file, an unknown format, a folder for a file's format and a pipe are refused, each by name."""
    with pytest.raises(NotFoundError, match=r"gone\.jsonl"):
        open_source(tmp_path / "gone.jsonl")
    with pytest.raises(InvalidInputError, match="'excel' is unknown"):
        open_source(tmp_path, format="excel")
    folder = tmp_path / "a.jsonl"
    folder.mkdir()
    with pytest.raises(InvalidInputError, match="is a folder"):
        open_source(folder, format="jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(InvalidInputError, match="neither a file nor a folder"):
        open_source(tmp_path / "pipe.jsonl")


def test_a_file_in_the_wrong_format_never_raises(tmp_path: Path) -> None:
    """Any file read in any format for files gives records, bad records or a refused header."""
    inputs = (
        b"",
        b"\x00",
        b"{",
        b"a,b\n1,2",
        WXR_HEAD,
        b"<html>",
        b"\x1f\x8b\x08\x00",
        bytes(range(256)) * 50,
        b"\xff\xfe<\x00",
    )
    path = tmp_path / "x"
    for data in inputs:
        path.write_bytes(data)
        for name in FORMATS:
            source = open_source(path, format=name)
            try:
                list(source.records())
            except InvalidInputError as error:
                assert name == "csv", (name, data)
                assert str(path) in str(error)


def test_every_format_is_described() -> None:
    """Each format has one line for the help."""
    assert set(FORMATS) == {"jsonl", "csv", "feed", "html", "wordpress", "text"}
    assert all(f.description and "\n" not in f.description for f in FORMATS.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02t03:04:05.678z", "2026-01-02T03:04:05.678000+00:00"),
        ("2026-01-02 03:04:05 +0200", "2026-01-02T03:04:05+02:00"),
        ("2026-01-02 03:04 UTC", "2026-01-02T03:04:00+00:00"),
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
        ("2026/01/02", "2026-01-02T00:00:00+00:00"),
        ("Fri, 02 Jan 2026 03:04:05 -0500", "2026-01-02T03:04:05-05:00"),
        ("2 Jan 2026 03:04 GMT", "2026-01-02T03:04:00+00:00"),
        ("2 Jan 2026 03:04", "2026-01-02T03:04:00+00:00"),
        ("2-Jan-2026 3:04:05 +02:00 (EET)", "2026-01-02T03:04:05+02:00"),
        ("Fri, 2 Jan 2026 03:04 est", "2026-01-02T03:04:00-05:00"),
        ("Fri, 2 Jan 2026 03:04 PM", "2026-01-02T15:04:00+00:00"),
        ("2 Jan 2026 3:04 pm", "2026-01-02T15:04:00+00:00"),
        ("2 Jan 2026 3:04 pm EST", "2 Jan 2026 3:04 pm EST"),
        ("2 Jan 2026 03:04 CEST", "2 Jan 2026 03:04 CEST"),
        ("Friday, January 2, 2026", "2026-01-02T00:00:00+00:00"),
        ("January 2, 2026 3:04 PM", "2026-01-02T15:04:00+00:00"),
        ("Sept. 2, 2026", "2026-09-02T00:00:00+00:00"),
        ("2 Sept 2026 15:04", "2026-09-02T15:04:00+00:00"),
        ("Fri, 05 Sep 0001 00:00:00 GMT", "Fri, 05 Sep 0001 00:00:00 GMT"),
        ("02/03/2026", "02/03/2026"),
        ("2026-13-45", "2026-13-45"),
        ("2026-01-02T25:00:00Z", "2026-01-02T25:00:00Z"),
        ("32 Jan 2026 03:04", "32 Jan 2026 03:04"),
        ("20260102", "20260102"),
        (" a  b ", "a b"),
        ("9" * 10_000, "9" * 10_000),
        ("", ""),
    ],
)
def test_unambiguous_dates_are_read(text: str, expected: str) -> None:
    """Unmistakable dates become RFC 3339, UTC unless they say otherwise; all else is left alone."""
    assert to_rfc3339(text) == expected
