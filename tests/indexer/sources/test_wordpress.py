"""WordPress exports: what is taken, what is left out, and files that are broken or hostile."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from indexer.sources import open_source
from indexer.sources.base import BadRecord, RawArticle
from indexer.sources.wordpress_markup import to_html
from recommender.catalog.articles import Labels, ParagraphKind

WXR = """<?xml version="1.0" encoding="UTF-8" ?>
<!-- This is a WordPress eXtended RSS file -->
<rss version="2.0" xmlns:excerpt="http://wordpress.org/export/1.2/excerpt/"
 xmlns:content="http://purl.org/rss/1.0/modules/content/"
 xmlns:wfw="http://wellformedweb.org/CommentAPI/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:wp="http://wordpress.org/export/1.2/">
<channel><title>The Courier</title><link>https://e.example</link><language>en-US</language>
<wp:wxr_version>1.2</wp:wxr_version>
{}</channel></rss>"""
CONTENT = """<!-- wp:paragraph -->
<p>One <a href="/x">x</a> [sic]</p>
<!-- /wp:paragraph -->
<!-- wp:heading --><h2 class="wp-block-heading">Two</h2><!-- /wp:heading -->
[caption id="attachment_9" align="left"]<a href="i"><img src="i.jpg" alt="alt" /></a> The <b>quay</b>[/caption]
[gallery ids="1,2"]

Classic one
still one

Classic two"""


def _item(
    post_id: str = "1", *, content: str = CONTENT, status: str = "publish", kind: str = "post", extra: str = ""
) -> str:
    return f"""<item><title>T &amp;amp; {post_id}</title><link>https://e.example/p{post_id}/</link>
<pubDate>Fri, 02 Jan 2026 03:04:05 +0000</pubDate><dc:creator><![CDATA[jane]]></dc:creator>
<guid isPermaLink="false">https://e.example/?p={post_id}</guid><description></description>
<content:encoded><![CDATA[{content}]]></content:encoded><excerpt:encoded><![CDATA[Short.]]></excerpt:encoded>
<wp:post_id>{post_id}</wp:post_id><wp:post_date><![CDATA[2026-01-02 05:04:05]]></wp:post_date>
<wp:post_date_gmt><![CDATA[2026-01-02 03:04:05]]></wp:post_date_gmt><wp:status><![CDATA[{status}]]></wp:status>
<wp:post_type><![CDATA[{kind}]]></wp:post_type>{extra}</item>"""


TERMS = """<category domain="category" nicename="a"><![CDATA[Uncategorized]]></category>
<category domain="category" nicename="b"><![CDATA[Sea &amp; land]]></category>
<category domain="category" nicename="c">Ports</category>
<category domain="post_tag" nicename="d"><![CDATA[ships]]></category>
<category domain="post_format" nicename="e">Aside</category>
<wp:postmeta><wp:meta_key>_edit_last</wp:meta_key><wp:meta_value>7</wp:meta_value></wp:postmeta>
<wp:postmeta><wp:meta_key><![CDATA[_thumbnail_id]]></wp:meta_key>
<wp:meta_value><![CDATA[9]]></wp:meta_value></wp:postmeta>"""
ATTACHMENT = _item(
    "9", kind="attachment", status="inherit", extra="<wp:attachment_url>https://e.example/i.jpg</wp:attachment_url>"
)


def _read(tmp_path: Path, data: str | bytes, *, site: str = "", language: str = "") -> list[RawArticle | BadRecord]:
    path = tmp_path / "export.xml"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(open_source(path, format="wordpress", site=site, language=language).records())


def _articles(found: list[RawArticle | BadRecord]) -> list[RawArticle]:
    assert all(isinstance(record, RawArticle) for record in found), found
    return [record for record in found if isinstance(record, RawArticle)]


@pytest.mark.parametrize("order", ["before", "after"])
def test_post_is_read(tmp_path: Path, order: str) -> None:
    """A post comes out field by field; its image is found whether the attachment stands before or after it."""
    post = _item(extra=TERMS)
    (article,) = _articles(_read(tmp_path, WXR.format(ATTACHMENT + post if order == "before" else post + ATTACHMENT)))
    assert (article.id, article.url) == ("https://e.example/?p=1", "https://e.example/p1/")
    assert (article.title, article.summary) == ("T & 1", "Short.")
    assert article.labels == Labels("The Courier", "Sea & land", ("Ports", "ships"), "en-US", "jane")
    assert article.published_at == "2026-01-02T03:04:05+00:00"
    assert article.image_url == "https://e.example/i.jpg"
    assert [(block.text, block.kind) for block in article.blocks] == [
        ("One x [sic]", ParagraphKind.TEXT),
        ("Two", ParagraphKind.HEADING),
        ("The quay", ParagraphKind.MEDIA),
        ("Classic one still one", ParagraphKind.TEXT),
        ("Classic two", ParagraphKind.TEXT),
    ]
    assert article.blocks[0].anchors[0].href == "https://e.example/x"


def test_only_published_posts_are_taken(tmp_path: Path) -> None:
    """Drafts, scheduled, private and trashed posts, posts with a password, and pages are left out."""
    left_out = [
        _item(str(n), status=status) for n, status in enumerate(("draft", "future", "private", "trash", "pending"), 10)
    ]
    left_out += [_item("20", kind="page"), _item("21", kind="nav_menu_item")]
    left_out += [_item("22", extra="<wp:post_password><![CDATA[pw]]></wp:post_password>")]
    found = _articles(_read(tmp_path, WXR.format("".join(left_out) + _item("1")), site="s", language="de"))
    assert [a.id for a in found] == ["https://e.example/?p=1"]
    assert (found[0].labels.site, found[0].labels.language, found[0].where.line) == ("s", "de", 9)


def test_date_falls_back(tmp_path: Path) -> None:
    """A zero GMT date is none: the feed's date counts then."""
    post = _item().replace("2026-01-02 03:04:05", "0000-00-00 00:00:00").replace("Jan 2026", "Jan 2025")
    assert _articles(_read(tmp_path, WXR.format(post)))[0].published_at == "2025-01-02T03:04:05+00:00"


def test_older_export_versions_and_gzip(tmp_path: Path) -> None:
    """The version in the namespace does not matter, nor does compression."""
    old = WXR.format(_item(extra=TERMS) + ATTACHMENT).replace("export/1.2/", "export/1.0/")
    (article,) = _articles(_read(tmp_path, gzip.compress(old.encode())))
    assert (article.summary, article.image_url) == ("Short.", "https://e.example/i.jpg")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "[caption caption='The quay']<img src=x>[/caption]",
            "<figure><img src=x><figcaption>The quay</figcaption></figure>",
        ),
        ("a[embed]https://e.example[/embed]b[youtube x]c", "abc"),
        ('[vc_row css="x"][vc_column]Text[/vc_column][/vc_row]', "Text"),
        ("[quote]Words[/quote] he [the mayor] said [sic] [1]", "Words he [the mayor] said [sic] [1]"),
        ('[button url="x" /]Text', "Text"),
        ("One<!--more-->Two<!-- wp:x {} /-->", "OneTwo"),
        ("One\r\n \r\nTwo\nthree", "One<br><br>Two\nthree"),
        ("[" * 50_000, "[" * 50_000),
    ],
)
def test_markup_of_posts_becomes_html(content: str, expected: str) -> None:
    """Captions become figures, shortcodes and block comments go, bracketed words stay."""
    assert to_html(content) == expected


@pytest.mark.slow
def test_shortcode_bombs_take_no_time() -> None:
    """Thousands of shortcodes that are never closed are handled soon."""
    start = time.monotonic()
    for opening in ("[caption]", "[caption ", "[embed]", "[embed ", "[x]", '[x a="b" ', "<!--", "\n "):
        to_html(opening * 20_000)
    assert time.monotonic() - start < 10


def test_truncated_file_gives_what_came_before(tmp_path: Path) -> None:
    """Posts before the truncation are read, and the truncation is reported."""
    whole = WXR.format("".join(_item(str(n)) for n in range(50)))
    found = _read(tmp_path, whole[: len(whole) // 2])
    assert len(_articles(found[:-1])) >= 20
    assert isinstance(found[-1], BadRecord) and "not well-formed" in found[-1].reason
    packed = gzip.compress(whole.encode())
    found = _read(tmp_path, packed[: len(packed) // 2])
    assert isinstance(found[-1], BadRecord) and "torn" in found[-1].reason


def test_control_characters_and_wrong_bytes_do_not_end_the_reading(tmp_path: Path) -> None:
    """Characters that XML forbids are common in exports: the other posts are read all the same."""
    data = WXR.format(_item("1", content="<p>a\x0bb</p>") + _item("2")).encode().replace(b"jane", b"j\xffne", 1)
    found = _read(tmp_path, data)
    assert {r.id for r in found if isinstance(r, RawArticle)} == {"https://e.example/?p=1", "https://e.example/?p=2"}


@pytest.mark.slow
def test_huge_post_is_read(tmp_path: Path) -> None:
    """A post larger than the parser's usual limit for a text is read."""
    (article,) = _articles(_read(tmp_path, WXR.format(_item(content="<p>" + "word " * 2_500_000 + "</p>"))))
    assert len(article.blocks[0].text) > 12_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no xml",
        b"\x00\x01",
        WXR.format("").encode("utf-16"),
        b"<!-- " * 300_000,
        b" " * 2_000_000,
        b"\x1f\x8b\x08torn",
        b"<rss><channel><item>",
        b"<?xml version='1.0'?><!DOCTYPE rss><rss/>",
    ],
    ids=["empty", "text", "nul", "utf16", "comments", "spaces", "gzip", "torn", "doctype"],
)
def test_what_is_no_export_is_one_bad_record(tmp_path: Path, data: bytes) -> None:
    """Input that cannot be an export gives one bad record, soon."""
    start = time.monotonic()
    (bad,) = _read(tmp_path, data)
    assert isinstance(bad, BadRecord) and bad.where.line == 1
    assert time.monotonic() - start < 5


def test_entity_bombs_are_refused(tmp_path: Path) -> None:
    """A document type is refused before anything in it is read."""
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    bomb = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {y} "{f"&{x};" * 10}">' for x, y in zip("abcdefghi", "bcdefghij", strict=True)
    )
    bomb += f'<!ENTITY ext SYSTEM "{secret.as_uri()}">'
    (bad,) = _read(tmp_path, WXR.format(_item(content="x")).replace("<rss", f"<!DOCTYPE rss [{bomb}]><rss", 1))
    assert isinstance(bad, BadRecord) and "document type" in bad.reason


def test_undeclared_entities_are_survived(tmp_path: Path) -> None:
    """An entity that no one declared does not stop the reading."""
    post = _item().replace("<description></description>", "<description>a &nbsp; b</description>")
    found = _read(tmp_path, WXR.format(post + _item("2")))
    assert [r.id for r in found if isinstance(r, RawArticle)] == ["https://e.example/?p=1", "https://e.example/?p=2"]
