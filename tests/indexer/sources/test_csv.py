"""CSV: column names, delimiters, quoting, and rows that do not fit."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from indexer.sources import open_source, reading
from indexer.sources.base import BadRecord, RawArticle
from recommender.catalog.articles import Labels
from recommender.errors import InvalidInputError


def _read(tmp_path: Path, data: str | bytes, name: str = "a.csv") -> list[RawArticle | BadRecord]:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(open_source(path, site="s", language="de").records())


def _articles(found: list[RawArticle | BadRecord]) -> list[RawArticle]:
    assert all(isinstance(record, RawArticle) for record in found), found
    return [record for record in found if isinstance(record, RawArticle)]


def test_every_column_is_read(tmp_path: Path) -> None:
    """Each column lands in its field, tags are split, the date becomes RFC 3339."""
    header = "id,url,title,summary,body,published_at,site,section,tags,language,author,image_url,evergreen\n"
    row = 'a,https://e.example/a,"T, too",S &amp; s,"One\n\nTwo",2026-01-02 03:04:05,x,c,"t1; t2,t3;",en,J,i,Yes\n'
    (article,) = _articles(_read(tmp_path, header + row))
    assert (article.id, article.url, article.title, article.summary) == ("a", "https://e.example/a", "T, too", "S & s")
    assert [block.text for block in article.blocks] == ["One", "Two"]
    assert article.published_at == "2026-01-02T03:04:05+00:00"
    assert article.labels == Labels(site="x", section="c", tags=("t1", "t2", "t3"), language="en", author="J")
    assert (article.image_url, article.evergreen) == ("i", True)


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("guid,headline,content,date", ","),
        ("Article-ID;Title;Text;Pub Date", ";"),
        ("ID\tTITLE\tArticle Body\tPublished", "\t"),
        ("slug|headline|html|datetime", "|"),
        ("\ufeffid,title,body,published_at", ","),
        ("link,title,body,created at", ","),
        ("id,title,paragraphs,published_at", ","),
    ],
)
def test_usual_names_and_delimiters(tmp_path: Path, header: str, delimiter: str) -> None:
    """Columns are known by their usual names in any case; the delimiter is told from the header; a BOM is no matter."""
    row = delimiter.join(("a", "T", "<p>One <a href='x'>x</a></p><p>Two</p>", "2026-01-02"))
    (article,) = _articles(_read(tmp_path, f"{header}\n{row}\n"))
    assert (article.id, article.title, article.published_at) == ("a", "T", "2026-01-02T00:00:00+00:00")
    assert [block.text for block in article.blocks] == ["One x", "Two"]
    assert (article.labels.site, article.labels.language) == ("s", "de")


@pytest.mark.slow
def test_big_fields_gzip_and_line_numbers(tmp_path: Path) -> None:
    """A body of 5 MB is read, also from gzip; a record's line is the one on which it starts."""
    data = 'id,title,date,body\na,T,2026-01-02,"{}"\n\nb,T,2026-01-02,x\n'.format("word \n" * 900_000)
    first, second = _articles(_read(tmp_path, gzip.compress(data.encode()), "a.csv.gz"))
    assert len(first.blocks[0].text) > 5_000_000
    assert (first.where.line, second.id) == (2, "b")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", "no header row"),
        ("\n", "no header row"),
        ("title,date\n", "no column for id"),
        ("id,date\n", "no column for title"),
        ("id,title,body\n", "no column for published_at"),
        ("foo,bar\n1,2\n", "no column for id, title, published_at"),
    ],
)
def test_missing_column_is_named(tmp_path: Path, data: str, expected: str) -> None:
    """A header without a needed column is refused, naming the column and what it may be called."""
    with pytest.raises(InvalidInputError, match=expected) as error:
        _read(tmp_path, data)
    assert "name them in the first row" in error.value.fix


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (b"a,T", "has 2 columns, the header 3"),
        (b"a,T,2026-01-02,x", "has 4 columns, the header 3"),
        (b"\xff,T,2026-01-02", "not UTF-8"),
        (b",T,2026-01-02", "id: is empty"),
        (b'"a"b,T,2026-01-02', "not valid CSV"),
    ],
)
def test_bad_rows_are_told_and_passed(tmp_path: Path, row: bytes, expected: str) -> None:
    """A row that does not fit gives its line and a reason; the next row is read."""
    bad, good = _read(tmp_path, b"id,title,date\n" + row + b"\nb,T,2026-01-02\n")
    assert isinstance(bad, BadRecord) and expected in bad.reason and bad.where.line == 2
    assert isinstance(good, RawArticle) and good.id == "b"


def test_open_quote_does_not_swallow_the_rest_silently(tmp_path: Path) -> None:
    """A quote that is never closed is reported, with the lines that are lost by it."""
    found = _read(tmp_path, 'id,title,date\na,T,2026-01-02\nb,"T,2026-01-02\nc,T,2026-01-02\n')
    assert isinstance(found[0], RawArticle)
    assert isinstance(found[1], BadRecord) and found[1].where.line == 3 and "check the quotes" in found[1].reason
    assert found[1].reason.endswith("; lines 3 to 4 were read as one row")


@pytest.mark.parametrize(
    "data",
    [
        b"id,title,date\ra,T,2026-01-02\rb,T,2026-01-02\r",
        "\ufeffid\ttitle\tdate\na\tT\t2026\n".encode("utf-16-le"),
    ],
    ids=["bare carriage returns", "UTF-16"],
)
def test_a_file_whose_rows_cannot_be_told_is_refused(tmp_path: Path, data: bytes) -> None:
    """Two ways in which spreadsheets save that are not understood: the file is named, and how to save it."""
    with pytest.raises(InvalidInputError, match="the first row cannot be read") as error:
        _read(tmp_path, data)
    assert str(tmp_path) in str(error.value)
    assert error.value.fix == "save the file as UTF-8 with line feeds between rows"


def test_nul_and_torn_gzip(tmp_path: Path) -> None:
    """NULs are passed on for normalising; torn gzip ends the reading with a reason."""
    assert _articles(_read(tmp_path, "id,title,date\na,T\x00T,2026-01-02\n"))[0].title == "T\x00T"
    rows = "id,title,date\n" + "".join(f"{n},{hash(str(n))},2026-01-02\n" for n in range(5_000))
    whole = gzip.compress(rows.encode())
    found = _read(tmp_path, whole[: len(whole) // 2], "a.csv.gz")
    assert isinstance(found[-1], BadRecord) and "torn" in found[-1].reason
    assert len(_articles(found[:-1])) > 100


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["{long}", "b,T,2026-01-02"], ["line 2", "b"]),
        (['a,"T', "{long}", "b,T,2026-01-02"], ["line 3", "b"]),
        (["a,T,2026-01-02", "{long}"], ["a", "line 3"]),
    ],
    ids=["first", "within a row", "last"],
)
def test_an_over_long_line_is_told_and_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], expected: list[str]
) -> None:
    """The line is named; the rows after it are read."""
    monkeypatch.setattr(reading, "LINE_BYTES_MAX", 100)
    text = "\n".join(["id,title,date", *lines]).format(long="x" * 200)
    found = _read(tmp_path, text)
    assert [r.id if isinstance(r, RawArticle) else f"line {r.where.line}" for r in found] == expected


def test_an_over_long_header_ends_the_reading_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without column names no row can be read."""
    monkeypatch.setattr(reading, "LINE_BYTES_MAX", 10)
    (bad,) = _read(tmp_path, "id,title,date\na,T,2026-01-02\n")
    assert isinstance(bad, BadRecord) and bad.reason.endswith("; without the first row no other can be read")


@pytest.mark.parametrize("text", ["03/04/2019", "yesterday", "", "2019"])
def test_ambiguous_dates_are_not_guessed(tmp_path: Path, text: str) -> None:
    """A date that can be read two ways, or none, stays as it is, for the pipeline to refuse by name."""
    assert _articles(_read(tmp_path, f"id,title,date\na,T,{text}\n"))[0].published_at == text
