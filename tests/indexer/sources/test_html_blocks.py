"""HTML to blocks: kinds, links, boxes, and markup that is not as it should be."""

from __future__ import annotations

import time

import pytest

from indexer.sources.base import Anchor, Block
from indexer.sources.bodies import body_blocks, language_tag, plain_text, text_blocks
from indexer.sources.html_blocks import fragment_blocks, fragment_text
from recommender.catalog.articles import ParagraphKind

BASE = "https://e.example/a/b"
TEXT, HEADING, MEDIA, QUOTE = ParagraphKind.TEXT, ParagraphKind.HEADING, ParagraphKind.MEDIA, ParagraphKind.QUOTE


def _kinds(html: str) -> list[tuple[str, ParagraphKind]]:
    return [(block.text, block.kind) for block in fragment_blocks(html, BASE)]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>One</p><p>Two</p>", [("One", TEXT), ("Two", TEXT)]),
        ("<p>Fish &amp; chips,\n   <b>bo</b>ld&nbsp;and<br>broken</p>", [("Fish & chips, bold and\nbroken", TEXT)]),
        ("<h1>A</h1><h6>B</h6>", [("A", HEADING), ("B", HEADING)]),
        (
            "<ul><li>One</li><li>Two<ol><li>Three</li></ol>four</li></ul>",
            [(t, TEXT) for t in ("One", "Two", "Three", "four")],
        ),
        ("<blockquote><p>One</p><p>Two</p></blockquote>after", [("One", QUOTE), ("Two", QUOTE), ("after", TEXT)]),
        ("<figure><img alt=alt src=x><figcaption>A <i>caption</i></figcaption></figure>", [("A caption", MEDIA)]),
        ("<figure><img alt=alt src=x></figure>", [("alt", MEDIA)]),
        ("<figure><iframe src=x></iframe></figure>", [("", MEDIA)]),
        ("<figure><div>https://youtu.be/x</div></figure>", [("", MEDIA)]),
        ("<figure><table><tr><td>a</td><td>b</td></tr></table></figure>", [("a b", TEXT)]),
        ("<figure><blockquote><p>Pulled</p></blockquote></figure>", [("Pulled", QUOTE)]),
        ("<figure><figure><img alt=1></figure><figure><img alt=2></figure></figure>", [("1", MEDIA), ("2", MEDIA)]),
        ("<p>Before <img src=x alt=Alt> after</p>", [("Before after", TEXT), ("Alt", MEDIA)]),
        ("<p>Smile <img class=wp-smiley alt=':)' src=x></p>", [("Smile :)", TEXT)]),
        ("<p>x</p><img src=pixel width=1 height=1>", [("x", TEXT)]),
        ("<video title=Clip>no player</video><iframe title=Map></iframe>", [("Clip", MEDIA), ("Map", MEDIA)]),
        ("one<br>two<br><br>three", [("one\ntwo", TEXT), ("three", TEXT)]),
        ("<script>x</script>a<style>y</style><nav>n</nav><aside>s</aside><form>f</form>", [("a", TEXT)]),
        ("a<p hidden>h</p><p style='display: none'>n</p>", [("a", TEXT)]),
        ("<form><p>The whole page</p><p>in a form</p></form>", [("The whole page", TEXT), ("in a form", TEXT)]),
        ("<p>a<!-- c --> b<?php x ?></p>", [("a b", TEXT)]),
        ("<p>un<b>closed<p>next", [("unclosed", TEXT), ("next", TEXT)]),
        ("just text", [("just text", TEXT)]),
        ("a < b and c > d", [("a < b and c > d", TEXT)]),
        ("a\x00b", [("ab", TEXT)]),
        ("", []),
        (" \n\x00", []),
    ],
)
def test_blocks_and_kinds(html: str, expected: list[tuple[str, ParagraphKind]]) -> None:
    """Each piece of markup gives its blocks in reading order, with their kinds."""
    assert _kinds(html) == expected


def test_links_are_kept_per_block_and_resolved() -> None:
    """Every link is kept with its block, its address resolved; one around several blocks belongs to each of them."""
    blocks = fragment_blocks(
        '<p>A <a href="/x">ro<b>ot</b></a> and <a href="y?z#f">near</a></p><a href=q><h3>H</h3><p>t</p></a>', BASE
    )
    assert [block.anchors for block in blocks] == [
        (Anchor("https://e.example/x", "root"), Anchor("https://e.example/a/y?z#f", "near")),
        (Anchor("https://e.example/a/q", "H"),),
        (Anchor("https://e.example/a/q", "t"),),
    ]
    assert fragment_blocks('<a href="/x">a</a>')[0].anchors == (Anchor("/x", "a"),)
    assert fragment_blocks('<a href="http://[x">a</a>', BASE)[0].anchors == (Anchor("http://[x", "a"),)


@pytest.mark.parametrize(
    "opening",
    [
        '<aside class="related-stories">',
        '<div id="relatedPosts">',
        '<nav class="c-read-more">',
        '<section aria-label="Recommended">',
        "<aside><h2>More on this story</h2>",
        "<div><strong>Lesen Sie auch:</strong>",
        '<ul class="see_also">',
    ],
)
def test_boxes_of_related_links_survive(opening: str) -> None:
    """An aside or div that names or heads itself as related is kept, marked as a box, with its links."""
    tag = opening[1:].split(">")[0].split(" ")[0]
    item = '<li><a href="/x">Harbour closed after pumps fail</a></li>'
    blocks = fragment_blocks(f"<p>Text</p>{opening}{item}</{tag}><p>More text</p>", BASE)
    link = Block(
        "Harbour closed after pumps fail",
        TEXT,
        (Anchor("https://e.example/x", "Harbour closed after pumps fail"),),
        True,
    )
    assert link in blocks
    assert [b.text for b in blocks if not b.boxed] == ["Text", "More text"]


@pytest.mark.parametrize(
    "html",
    [
        '<div class="related-content"><p>{}</p><a href="/x">link</a></div>',
        '<div class="unrelated"><a href="/x">{}</a></div>',
        "<div><h2>Related</h2><p>{}</p></div>",
    ],
)
def test_text_in_a_suspicious_wrapper_is_no_box(html: str) -> None:
    """A wrapper with a telling name around running text is not taken for a box."""
    text = "The pumps failed twice that winter. " * 20
    blocks = fragment_blocks(html.format(text))
    assert text.strip() in [block.text for block in blocks if not block.boxed]


def test_other_asides_go() -> None:
    """An aside about something else is dropped with all that is in it."""
    assert _kinds('<p>a</p><aside class="promo"><p>Buy <a href=x>now</a></p></aside><p>b</p>') == [
        ("a", TEXT),
        ("b", TEXT),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 100_000 + "x",
        "<p>" + "word " * 1_000_000,
        "<a href=x>" * 20_000 + "x",
        "<" * 200_000,
        "<div class=related>" * 200 + "<a href=x>y</a>",
        "<br>" * 200_000,
        "<!DOCTYPE l [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><p>&b;</p>",
    ],
    ids=lambda html: html[:12],
)
def test_hostile_markup_is_survived(html: str) -> None:
    """Markup made to exhaust a parser gives some blocks or none, soon."""
    start = time.process_time()
    assert len(fragment_blocks(html)) < 10
    assert time.process_time() - start < 30, "of the processor's time, whatever else the machine does"


def test_body_may_be_html_or_text() -> None:
    """A body is read as HTML only if it has tags; plain text is split on blank lines, whatever the line ends."""
    assert [b.text for b in body_blocks("<p>One</p><p>Two")] == ["One", "Two"]
    assert [b.text for b in body_blocks("a < b\r\nstill a\r\n \t\r\nsecond\n\n\nthird")] == [
        "a < b\nstill a",
        "second",
        "third",
    ]
    assert text_blocks(" \n\n ") == ()


def test_titles_lose_markup_and_entities() -> None:
    """A title or summary comes out as text; one without markup is left alone."""
    assert plain_text("Fish &amp; <em>chips</em>") == "Fish & chips"
    assert plain_text(" AT&T < BT ") == "AT&T < BT"
    assert fragment_text("<p>One</p><figure><figcaption>No</figcaption></figure><p>two</p>") == "One\ntwo"


def test_languages_that_are_none_are_ignored() -> None:
    """Only what looks like a language tag is taken for one."""
    assert [language_tag(tag) for tag in ("en-GB", " de ", "pt_BR", "x-default", "English language", "")] == [
        "en-GB",
        "de",
        "pt_BR",
        "",
        "",
        "",
    ]
