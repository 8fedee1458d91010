"""JSON Lines: every field, and every way in which a line can be wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from indexer.sources import open_source, reading
from indexer.sources.base import Anchor, BadRecord, Block, RawArticle, Where
from recommender.catalog.articles import Labels, ParagraphKind
from recommender.errors import StorageError


def _read(path: Path, data: bytes, *, site: str = "", language: str = "") -> list[RawArticle | BadRecord]:
    path.write_bytes(data)
    return list(open_source(path, format="jsonl", site=site, language=language).records())


def _reason(tmp_path: Path, line: str | bytes) -> str:
    """The reason against the only line of a file; the good line after it must still be read."""
    data = line.encode() if isinstance(line, str) else line
    first, second = _read(tmp_path / "a.jsonl", data + b'\n{"id":"next"}\n')
    assert isinstance(second, RawArticle) and second.where.line == 2
    assert isinstance(first, BadRecord) and first.where.line == 1 and "\n" not in first.reason
    return first.reason


def test_every_field_is_read(tmp_path: Path) -> None:
    """A full record comes out field by field, paragraphs with their kinds and links."""
    record = {
        "id": "a1",
        "url": "https://e.example/a1",
        "title": "T",
        "summary": "S",
        "paragraphs": [
            "plain",
            {"text": "H", "kind": "heading"},
            {"kind": "quote", "text": "Q", "links": [{"href": "/x", "text": "Q"}]},
            {"kind": "MEDIA", "text": None},
        ],
        "published_at": "2026-01-02T03:04:05Z",
        "site": "s",
        "section": "c",
        "tags": ["t1", "t2"],
        "language": "en",
        "author": "J",
        "image_url": "i",
        "evergreen": True,
        "unknown": {"ignored": 1},
    }
    path = tmp_path / "a.jsonl"
    assert _read(path, json.dumps(record).encode(), site="other", language="de") == [
        RawArticle(
            where=Where(path, 1),
            id="a1",
            url="https://e.example/a1",
            title="T",
            summary="S",
            blocks=(
                Block("plain"),
                Block("H", ParagraphKind.HEADING),
                Block("Q", ParagraphKind.QUOTE, (Anchor("/x", "Q"),)),
                Block("", ParagraphKind.MEDIA),
            ),
            published_at="2026-01-02T03:04:05Z",
            labels=Labels(site="s", section="c", tags=("t1", "t2"), language="en", author="J"),
            image_url="i",
            evergreen=True,
        )
    ]


def test_absent_and_null_are_the_same(tmp_path: Path) -> None:
    """Fields that are absent or null are empty; site and language then come from the caller."""
    nulls = dict.fromkeys(
        (
            "url",
            "title",
            "summary",
            "paragraphs",
            "body",
            "published_at",
            "site",
            "section",
            "tags",
            "language",
            "author",
        ),
        None,
    )
    lines = json.dumps({"id": "a"}) + "\n\n  \n" + json.dumps({"id": "a", "evergreen": None, "image_url": None} | nulls)
    first, second = _read(tmp_path / "a.jsonl", lines.encode(), site="s", language="de")
    assert isinstance(first, RawArticle) and isinstance(second, RawArticle)
    assert (first.labels, first.blocks) == (Labels(site="s", language="de"), ())
    assert second == RawArticle(where=Where(tmp_path / "a.jsonl", 4), id="a", labels=first.labels)


def test_body_in_place_of_paragraphs(tmp_path: Path) -> None:
    """A "body" is split on blank lines, or read as HTML if it is; "paragraphs" wins if both are there."""
    lines = [
        {"id": "1", "body": "One\n\nTwo"},
        {"id": "2", "url": "https://e.example/", "body": "<h2>One</h2><p>Two</p>"},
        {"id": "3", "body": "no", "paragraphs": ["yes"]},
    ]
    found = _read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert [[b.text for b in r.blocks] for r in found if isinstance(r, RawArticle)] == [
        ["One", "Two"],
        ["One", "Two"],
        ["yes"],
    ]


def test_gzip_and_byte_order_mark(tmp_path: Path) -> None:
    """A gzip file is detected by its content; a byte order mark at the start is ignored."""
    data = b'\xef\xbb\xbf{"id":"a"}\n{"id":"b"}'
    for name, content in (("a.jsonl", data), ("a.jsonl.gz", gzip.compress(data)), ("b.ndjson", gzip.compress(data))):
        assert [r.id for r in _read(tmp_path / name, content) if isinstance(r, RawArticle)] == ["a", "b"]


def test_reading_twice_reads_twice(tmp_path: Path) -> None:
    """A source can be iterated again, and an empty file has no records."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id":"a"}')
    source = open_source(path)
    assert list(source.records()) == list(source.records())
    assert source.count() is None
    path.write_bytes(b"")
    assert list(source.records()) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "not valid JSON"),
        ("{'id': 1}", "not valid JSON"),
        ('{"id":"a"} {"id":"b"}', "not valid JSON"),
        ('{"id":"a","title":"\x00"}', "not valid JSON"),
        ("\x00\x00", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"id":"\\ud800"}', "not valid JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("{}", "id: field required"),
        ('{"id":""}', "id: string should have at least 1 character"),
        ('{"id":7}', "id: input should be a valid string, not a number"),
        ('{"id":"a","title":[]}', "title: input should be a valid string, not an array"),
        ('{"id":"a","tags":"x"}', "tags: input should be a valid"),
        ('{"id":"a","tags":["x",{}]}', "tags[1]: input should be a valid string, not an object"),
        ('{"id":"a","evergreen":"yes"}', "evergreen: input should be a valid boolean"),
        ('{"id":"a","evergreen":1}', "evergreen: input should be a valid boolean, not a number"),
        ('{"id":"a","paragraphs":"x"}', "paragraphs: input should be a valid"),
        ('{"id":"a","paragraphs":["x",3]}', "paragraphs[1]: "),
        (
            '{"id":"a","paragraphs":[{"kind":"poem"}]}',
            "paragraphs[0].kind: 'poem' is not one of text, heading, media, quote",
        ),
        ('{"id":"a","paragraphs":[{"text":1}]}', "paragraphs[0].text: input should be a valid string, not a number"),
        ('{"id":"a","paragraphs":[{"links":[{"href":1}]}]}', "paragraphs[0].links[0].href: "),
        ('{"id":"a","published_at":1767323045}', "published_at: input should be a valid string, not a number"),
        ('{"id":"a","title":' + "9" * 10_000 + "}", "not valid JSON: number out of range at column"),
        ('{"id":1,"url":1,"title":1,"summary":1,"site":1}', "; and 2 more"),
        (b'{"id":"\xff"}', "not UTF-8 at byte 8"),
        ('{"id":"a"}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_bad_lines_are_reported_and_skipped(tmp_path: Path, line: str | bytes, expected: str) -> None:
    """A bad line is reported by its number with a reason that names the field; the next line is read."""
    if isinstance(line, bytes) and line.startswith(b"\xff\xfe"):
        line = line.replace(b"\n", b"")
    assert expected in _reason(tmp_path, line)


def test_overlong_line_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line over the limit is skipped without holding it; one at the limit is read."""
    monkeypatch.setattr(reading, "LINE_BYTES_MAX", 100)
    exact = b'{"id":"%s"}\n' % (b"x" * 90)
    data = exact[:9] + exact[9 + len(exact) - 100 :] + b'{"id":"%s"}\n' % (b"y" * 5_000_000) + b'{"id":"last"}'
    first, second, third = _read(tmp_path / "a.jsonl", data)
    assert isinstance(first, RawArticle)
    assert isinstance(second, BadRecord) and second.where.line == 2 and "longer than" in second.reason
    assert isinstance(third, RawArticle) and third.where.line == 3


def test_truncated_gzip_gives_what_came_before(tmp_path: Path) -> None:
    """Records before the truncation are read, the truncation is reported with its line, and nothing is raised."""
    lines = b"".join(b'{"id":"%d","title":"%s"}\n' % (n, str(hash(str(n))).encode() * 20) for n in range(2_000))
    whole = gzip.compress(lines)
    for data in (whole[: len(whole) // 2], whole[:5], whole[:-4], whole[:200] + b"\xff" * 50 + whole[250:]):
        found = _read(tmp_path / "a.jsonl.gz", data)
        assert isinstance(found[-1], BadRecord) and "torn or broken" in found[-1].reason
        assert found[-1].where.line == len(found)
        assert all(isinstance(record, RawArticle) for record in found[:-1])
    assert len(_read(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2])) > 100


def test_trailing_garbage_after_gzip_is_reported(tmp_path: Path) -> None:
    """Bytes after the end of the compressed data are reported after the records."""
    found = _read(tmp_path / "a.jsonl.gz", gzip.compress(b'{"id":"a"}\n') + b"garbage")
    assert isinstance(found[0], RawArticle) and isinstance(found[1], BadRecord)


def test_vanished_file_is_a_storage_error(tmp_path: Path) -> None:
    """A file that goes away between opening and reading is the disk's fault, not a record's."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")
    source = open_source(path)
    path.unlink()
    with pytest.raises(StorageError, match=r"a\.jsonl"):
        list(source.records())
