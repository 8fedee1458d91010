"""Feeds: RSS, Atom and RDF, whole and broken."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from indexer.cleaning import clean
from indexer.sources import open_source
from indexer.sources.base import Anchor, BadRecord, RawArticle
from recommender.catalog.articles import ParagraphKind

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:media="http://search.yahoo.com/mrss/"
 xmlns:dc="http://purl.org/dc/elements/1.1/">
<channel><title>The Courier</title><language>en-gb</language>{}</channel></rss>"""
FULL = """<item><title>Fish &amp;amp; chips</title><link>https://e.example/1</link><guid isPermaLink="false">g1</guid>
<description>Short. &lt;b&gt;Bold&lt;/b&gt;.</description><pubDate>Fri, 02 Jan 2026 03:04:05 +0200</pubDate>
<content:encoded><![CDATA[<p>One <a href="/x">x</a></p><h2>Two</h2>
<aside class="related"><a href="/y">Why</a></aside>]]></content:encoded>
<category>Food</category><category>Sea</category><category>Food</category><dc:creator>Jane</dc:creator>
<enclosure url="https://e.example/a.mp3" type="audio/mpeg"/>
<enclosure url="https://e.example/i.jpg" type="image/jpeg"/></item>"""
ATOM = """<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom" xml:lang="fr"><title>Le Courrier</title>
<entry><id>tag:1</id><title>T</title><link href="https://e.example/1"/><updated>2026-02-03T00:00:00Z</updated>
<published>2026-01-02T03:04:05Z</published><content type="html">&lt;p&gt;Un&lt;/p&gt;</content></entry>
<entry><id>tag:2</id><title>U</title><updated>2026-02-03T04:05:06Z</updated><summary>Resume</summary></entry></feed>"""
RDF = """<?xml version="1.0"?><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns="http://purl.org/rss/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="x"><title>C</title></channel>
<item rdf:about="https://e.example/1">
<title>T</title><link>https://e.example/1</link><description>D</description>
<dc:date>2026-01-02T03:04:05+01:00</dc:date></item></rdf:RDF>"""


def _read(tmp_path: Path, data: str | bytes, *, site: str = "", language: str = "") -> list[RawArticle | BadRecord]:
    path = tmp_path / "feed.xml"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(open_source(path, format="feed", site=site, language=language).records())


def _articles(found: list[RawArticle | BadRecord]) -> list[RawArticle]:
    assert all(isinstance(record, RawArticle) for record in found), found
    return [record for record in found if isinstance(record, RawArticle)]


def test_rss_item_is_read(tmp_path: Path) -> None:
    """An RSS item comes out field by field: full content first, HTML as blocks, the image from the enclosure."""
    (article,) = _articles(_read(tmp_path, RSS.format(FULL)))
    assert (article.id, article.url, article.title, article.summary) == (
        "g1",
        "https://e.example/1",
        "Fish & chips",
        "Short. Bold.",
    )
    assert [(b.text, b.kind, b.boxed) for b in article.blocks] == [
        ("One x", ParagraphKind.TEXT, False),
        ("Two", ParagraphKind.HEADING, False),
        ("Why", ParagraphKind.TEXT, True),
    ]
    assert article.blocks[0].anchors == (Anchor("https://e.example/x", "x"),)
    assert article.published_at == "2026-01-02T01:04:05+00:00"
    assert (article.labels.tags, article.labels.author, article.labels.language) == (("Food", "Sea"), "Jane", "en-gb")
    assert (article.labels.site, article.image_url) == ("The Courier", "https://e.example/i.jpg")


def test_caller_fills_in_what_the_entry_lacks(tmp_path: Path) -> None:
    """A site and language that the caller names go before what the feed says of itself."""
    (article,) = _articles(_read(tmp_path, RSS.format(FULL), site="courier", language="de"))
    assert (article.labels.site, article.labels.language) == ("courier", "de")


def test_atom_dates_and_summaries(tmp_path: Path) -> None:
    """The published date goes before the updated one; the entry's own language counts."""
    first, second = _articles(_read(tmp_path, ATOM))
    assert (first.published_at, second.published_at) == ("2026-01-02T03:04:05+00:00", "2026-02-03T04:05:06+00:00")
    assert ([b.text for b in first.blocks], first.summary, first.labels.language) == (["Un"], "", "fr")
    assert (second.blocks, second.summary, second.id) == ((), "Resume", "tag:2")


def test_rdf_is_read(tmp_path: Path) -> None:
    """An RSS 1.0 item is read, also from gzip."""
    (article,) = _articles(_read(tmp_path, gzip.compress(RDF.encode())))
    assert (article.title, article.published_at) == ("T", "2026-01-02T02:04:05+00:00")


def test_long_description_is_the_body(tmp_path: Path) -> None:
    """Where the whole article stands in the description, it becomes the body, not the summary."""
    item = "<item><guid>1</guid><description>&lt;p&gt;{}&lt;/p&gt;&lt;p&gt;End&lt;/p&gt;</description></item>"
    (article,) = _articles(_read(tmp_path, RSS.format(item.format("word " * 300))))
    assert (len(article.blocks), article.summary) == (2, "")


def test_related_links_in_a_short_description_are_no_summary(tmp_path: Path) -> None:
    """What a description says after its first paragraph to announce other articles never reaches the summary."""
    item = "<item><guid>1</guid><title>T</title><description>{}</description></item>"
    html = "<p>Talks go on.</p><p>Also read: <a href='/x'>Gas flows again through the line</a></p>"
    (article,) = _articles(_read(tmp_path, RSS.format(item.format(html.replace("<", "&lt;")))))
    assert clean(article).summary == "Talks go on."


def test_media_thumbnail_is_the_last_resort(tmp_path: Path) -> None:
    """Without an image enclosure, media:content and then media:thumbnail give the image."""
    thumb = '<item><guid>1</guid><media:thumbnail url="https://e.example/t.jpg"/>{}</item>'
    assert _articles(_read(tmp_path, RSS.format(thumb.format(""))))[0].image_url == "https://e.example/t.jpg"
    content = '<media:content url="https://e.example/c.jpg" medium="image"/>'
    assert _articles(_read(tmp_path, RSS.format(thumb.format(content))))[0].image_url == "https://e.example/c.jpg"


def test_unreadable_date_stays_as_it_is(tmp_path: Path) -> None:
    """A date that cannot be read is passed on in the feed's own words."""
    item = "<item><guid>1</guid><title>T</title><pubDate>next Tuesday</pubDate></item><item><guid>2</guid></item>"
    assert [a.published_at for a in _articles(_read(tmp_path, RSS.format(item)))] == ["next Tuesday", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fri, 02 Jan 26 03:04:05 GMT", "2026-01-02T03:04:05+00:00"),
        ("Fri, 02 Jan 2026 03:04 PM", "2026-01-02T15:04:00+00:00"),
        ("Fri, 02 Jan 2026 03:04 pm EST", "Fri, 02 Jan 2026 03:04 pm EST"),
        ("Fri, 02 Jan 2026 03:04:05 CEST", "Fri, 02 Jan 2026 03:04:05 CEST"),
        ("Fri, 02 Jan 2026 03:04:05 ET", "2026-01-02T08:04:05+00:00"),
        ("Fri, 02 Jan 2026 03:04:05 AST", "2026-01-02T07:04:05+00:00"),
    ],
)
def test_the_time_of_day_is_never_guessed(tmp_path: Path, text: str, expected: str) -> None:
    """The parser takes unknown zones for UTC and drops the half of the day; both are read rightly here, or not."""
    item = f"<item><guid>1</guid><title>T</title><pubDate>{text}</pubDate></item>"
    assert [a.published_at for a in _articles(_read(tmp_path, RSS.format(item)))] == [expected]


@pytest.mark.parametrize("zero", ["0000-00-00T00:00:00Z", "0000-00-00 00:00:00"])
def test_a_database_s_zero_date_concerns_its_entry_alone(tmp_path: Path, zero: str) -> None:
    """It is passed on in the feed's own words, for the pipeline to refuse by name; the next entry is read."""
    item = f"<item><guid>1</guid><title>T</title><dc:date>{zero}</dc:date></item>"
    assert [a.published_at for a in _articles(_read(tmp_path, RSS.format(item + FULL)))] == [
        zero,
        "2026-01-02T01:04:05+00:00",
    ]


def test_entry_without_identity_is_told(tmp_path: Path) -> None:
    """An entry with neither guid nor link is a bad record; the next one is read."""
    bad, good = _read(tmp_path, RSS.format("<item><title>T</title></item>" + FULL))
    assert isinstance(bad, BadRecord) and "neither guid nor link" in bad.reason and bad.where.line == 1
    assert isinstance(good, RawArticle) and good.where.line == 2


def test_broken_feed_is_read_as_far_as_possible(tmp_path: Path) -> None:
    """A feed that has stray ampersands or wrong bytes still gives its entries."""
    whole = RSS.format(FULL + FULL.replace("g1", "g2") + "<item><guid>g3</guid><title>a & b</title></item>")
    assert [a.id for a in _articles(_read(tmp_path, whole))] == ["g1", "g2", "g3"]
    assert _articles(_read(tmp_path, whole.encode().replace(b"Jane", b"J\xff\x00ne")))[0].id == "g1"


@pytest.mark.parametrize(
    "root", [RSS, RSS.replace("rss", "feed"), RSS.replace("rss", "rdf:RDF")], ids=["rss", "feed", "rdf"]
)
def test_feed_that_is_cut_off_is_told(tmp_path: Path, root: str) -> None:
    """What a broken download has is read; then a bad record says that there may have been more."""
    whole = root.format(FULL + FULL.replace("g1", "g2"))
    first, _, told = _read(tmp_path, whole[: whole.index("g2") + 200])
    assert isinstance(first, RawArticle) and first.id == "g1"
    assert isinstance(told, BadRecord) and told.where.line == 2
    assert told.reason.startswith("the feed ends before its last tag: ") and told.reason.endswith("; save it again")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"no feed at all",
        b"\x00\x01\x02",
        b"<html><p>x</p></html>",
        b"\x1f\x8b\x08torn",
        b"<rss><channel><item>",
    ],
)
def test_what_is_no_feed_is_a_bad_record(tmp_path: Path, data: bytes) -> None:
    """Input without a readable entry gives one bad record or none, and never an exception."""
    assert all(isinstance(record, BadRecord) for record in _read(tmp_path, data))


def test_feed_without_entries_is_empty(tmp_path: Path) -> None:
    """A well-formed feed with nothing in it is no mistake."""
    assert _read(tmp_path, RSS.format("")) == []


def test_entity_bombs_and_external_entities_do_nothing(tmp_path: Path) -> None:
    """Entities are neither expanded without bound nor read from files."""
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    bomb = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {y} "{f"&{x};" * 10}">' for x, y in zip("abcdefghi", "bcdefghij", strict=True)
    )
    bomb += f'<!ENTITY ext SYSTEM "{secret.as_uri()}">'
    item = "<item><guid>1</guid><title>&j;</title><description>&ext;</description></item>"
    start = time.monotonic()
    found = _read(tmp_path, RSS.format(item).replace("<rss", f"<!DOCTYPE rss [{bomb}]><rss", 1))
    assert time.monotonic() - start < 5
    assert "SECRET" not in repr(found)
    assert len(repr(found)) < 10_000


def test_a_name_in_the_file_is_never_fetched(tmp_path: Path) -> None:
    """A file that holds nothing but an address or a path is content, not a place to read from."""
    other = tmp_path / "other.xml"
    other.write_text(RSS.format(FULL))
    for content in (str(other), other.as_uri(), "http://127.0.0.1:9/feed"):
        assert all(isinstance(record, BadRecord) for record in _read(tmp_path, content))
