"""Folders of saved pages: metadata, main content, related boxes, and pages that are none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from indexer.cleaning import clean
from indexer.sources import open_source
from indexer.sources.base import BadRecord, RawArticle
from recommender.catalog.articles import Labels, ParagraphKind

PAGE = Path(__file__).parent / "data" / "page.html"
PROSE = (
    "<p>The harbour master said on Monday that the pumps had failed twice that winter, and would be replaced.</p>" * 5
)


def _read(path: Path, *, site: str = "", language: str = "") -> list[RawArticle | BadRecord]:
    return list(open_source(path, format="html", site=site, language=language).records())


def _page(tmp_path: Path, head: str = "", body: str = PROSE, name: str = "a.html") -> RawArticle:
    path = tmp_path / name
    path.write_text(f"<!doctype html><html><head>{head}</head><body><article>{body}</article></body></html>")
    (record,) = _read(path, site="s", language="de")
    assert isinstance(record, RawArticle), record
    return record


def test_page_is_read() -> None:
    """A news page gives its metadata and its body in reading order, without navigation, sharing and footer."""
    (article,) = _read(PAGE)
    assert isinstance(article, RawArticle)
    assert article.id == article.url == "https://courier.example/economy/halden-pilots"
    assert article.title == "Halden pilots agree new rota after tanker scare"
    assert article.summary == "Pilots in the strait will work in pairs from October."
    assert article.published_at == "2026-09-14T08:30:00+02:00"
    assert article.labels == Labels("The Courier", "economy", ("strait of halden",), "en-GB", "Marta Lindqvist")
    assert article.image_url == "https://courier.example/images/pilots.jpg"
    words = " ".join(block.text for block in article.blocks)
    assert not any(word in words for word in ("Tweet", "Sport", "Most popular", "All rights", "no bearing"))


def test_cleaned_page_has_its_body_and_its_editors_links() -> None:
    """Cleaning a page leaves the text with its kinds, and the links of box and line with their places."""
    (article,) = _read(PAGE)
    assert isinstance(article, RawArticle)
    cleaned = clean(article)
    text, heading, media, quote = ParagraphKind.TEXT, ParagraphKind.HEADING, ParagraphKind.MEDIA, ParagraphKind.QUOTE
    with_text = [i for i, p in enumerate(cleaned.paragraphs) if p.text]
    assert [cleaned.paragraphs[i].kind for i in with_text] == [text, media, text, heading, text, quote, text]
    assert [(link.target, with_text.index(link.paragraph)) for link in cleaned.links] == [
        ("https://courier.example/diplomacy/halden-talks", 4),
        ("https://courier.example/science/tide-model", 4),
        ("https://courier.example/explainers/pilotage", 6),
    ]


def test_list_of_links_under_a_label_survives(tmp_path: Path) -> None:
    """A heading "See also" with links under it reaches cleaning, though main content has no such lists."""
    items = "".join(f'<li><a href="/{n}">Pump station number {n} is closed for good</a></li>' for n in range(3))
    other = items.replace("Pump", "Popular pump")
    body = f"{PROSE}<h3>See also</h3><ul>{items}</ul><div><h3>Most read</h3><ul>{other}</ul></div>"
    cleaned = clean(_page(tmp_path, '<link rel="canonical" href="https://e.example/a/b">', body))
    assert [link.target for link in cleaned.links] == [f"https://e.example/{n}" for n in range(3)]
    assert {p.text for p in cleaned.paragraphs} == {PROSE[3 : PROSE.index("</p>")]}


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            '<script type="application/ld+json">{"@graph":[{"datePublished":"2026-01-02T03:04:05Z"}]}</script>',
            "2026-01-02T03:04:05+00:00",
        ),
        ('<script type="application/ld+json">[{"datePublished":"2026-01-02"}]</script>', "2026-01-02T00:00:00+00:00"),
        (
            '<script type="application/ld+json">{broken</script><meta name="date" content="2026-01-02">',
            "2026-01-02T00:00:00+00:00",
        ),
        (
            '<script type="application/ld+json">{"datePublished":"2026 Thu"}</script><meta name="date"'
            ' content="2026-01-02">',
            "2026-01-02T00:00:00+00:00",
        ),
        (
            '<meta name="datePublished" content="0001-01-01T00:00:00"><meta name="date" content="2026-01-02">',
            "2026-01-02T00:00:00+00:00",
        ),
        ('<meta name="date" content="2026-01-02T10:00:00 PST">', "2026-01-02T00:00:00+00:00"),
        ('<meta property="article:published_time" content="2026-01-02T03:04:05">', "2026-01-02T03:04:05+00:00"),
        ('<meta name="DC.date.issued" content="2 January 2026">', "2026-01-02T00:00:00+00:00"),
        ('<link rel="canonical" href="https://e.example/2026/01/02/a">', "2026-01-02T00:00:00+00:00"),
        ("", ""),
    ],
)
def test_date_is_taken_from_where_pages_declare_it(tmp_path: Path, head: str, expected: str) -> None:
    """JSON-LD, meta tags and the URL give the date, UTC if there is no zone; it is never guessed from the text."""
    body = PROSE + "<p>The dam broke on 3 March 2011 and the town of Corvin was never built again, its people said.</p>"
    assert _page(tmp_path, head, body).published_at == expected


def test_page_without_metadata(tmp_path: Path) -> None:
    """The id is the path without suffix where the page names no URL; site and language come from the caller."""
    article = _page(tmp_path, "<title>T</title>")
    assert (article.id, article.url, article.labels.site, article.labels.language) == ("a", "", "s", "de")
    assert len(article.blocks) >= 1


def test_folder_is_read_by_path(tmp_path: Path) -> None:
    """Pages in folders below are read too, gzip or not, sorted by path; other and hidden files are left alone."""
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "dir.html").mkdir()
    html = f"<html><body><article>{PROSE}</article></body></html>".encode()
    for name in ("b.htm", "sub/c.HTML", ".git/x.html", "._a.html", "notes.txt"):
        (tmp_path / name).write_bytes(html)
    (tmp_path / "a.html.gz").write_bytes(gzip.compress(html))
    source = open_source(tmp_path)
    assert [r.id for r in source.records() if isinstance(r, RawArticle)] == ["a", "b", "sub/c"]
    assert source.count() == 3


def test_old_encodings_are_detected(tmp_path: Path) -> None:
    """A page in another encoding than UTF-8 comes out right."""
    path = tmp_path / "a.html"
    words = "Café “Zoë” — naïve façade"
    html = f'<html><head><meta charset="windows-1252"></head><body><article>{PROSE}<p>{words}</p></article>'
    path.write_bytes(html.encode("cp1252"))
    (article,) = _read(path)
    assert isinstance(article, RawArticle)
    assert words in [block.text for block in article.blocks]


def test_page_wrapped_in_a_form(tmp_path: Path) -> None:
    """Systems that wrap a whole page in a form do not hide its text."""
    assert "pumps" in " ".join(b.text for b in _page(tmp_path, body=f"<form action=x>{PROSE}</form>").blocks)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        b"<html></html>",
        b"<html><body><script>let x = 1</script></body></html>",
        pytest.param(b"<div>" * 50_000, marks=pytest.mark.slow),
        gzip.compress(b"<html><body>" + PROSE.encode())[:-20],
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    ],
    ids=["empty", "nul", "bare", "script", "deep", "torn", "png"],
)
def test_what_is_no_page_is_a_bad_record(tmp_path: Path, data: bytes) -> None:
    """A file without readable content gives a bad record with its path; the next page is read."""
    (tmp_path / "a.html").write_bytes(data)
    (tmp_path / "b.html").write_text(f"<html><body><article>{PROSE}</article></body></html>")
    bad, good = _read(tmp_path)
    assert isinstance(bad, BadRecord) and bad.where.path == tmp_path / "a.html" and bad.where.line == 1
    assert "\n" not in bad.reason
    assert isinstance(good, RawArticle)


@pytest.mark.slow
def test_huge_page_is_read_and_larger_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of 5 MB is read; one over the limit is a bad record, compressed or not."""
    sentences = "The harbour master said on day {} that the pumps had failed once more. " * 14
    body = "".join(f"<p>{sentences.format(*[n] * 14)}</p>" for n in range(5_000))
    assert len(body) > 5_000_000
    assert len(_page(tmp_path, body=body).blocks) == 5_000
    monkeypatch.setattr("indexer.sources.html_folder.PAGE_BYTES_MAX", 1_000_000)
    (tmp_path / "a.html").write_bytes(gzip.compress(body.encode()))
    (bad,) = _read(tmp_path / "a.html")
    assert isinstance(bad, BadRecord) and "is larger than" in bad.reason
