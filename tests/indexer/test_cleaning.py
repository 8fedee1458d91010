"""Cleaning: what is furniture, what is an editor's related link, and what must never be lost."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.cleaning import Cleaned, clean, clean_summary
from indexer.sources.base import Anchor, Block, RawArticle, Where
from indexer.sources.labels import LABELS
from recommender.catalog.articles import Labels, Paragraph, ParagraphKind
from recommender.catalog.checks import clean_text

WHERE = Where(Path("input"), 1)
FIRST = "The ministers met in Estrel on Monday and agreed on a price."
SECOND = "Talks go on in Tarvik next week, both sides said."
HEADLINE = "Gas flows again through North Sound line"
HREF = "https://courier.example/energy/gas-flows"


def _body(*blocks: Block | str, title: str = "A title", language: str = "en", url: str = "") -> Cleaned:
    made = tuple(Block(b) if isinstance(b, str) else b for b in blocks)
    return clean(RawArticle(where=WHERE, id="a", url=url, title=title, blocks=made, labels=Labels(language=language)))


def _texts(cleaned: Cleaned) -> list[str]:
    return [p.text for p in cleaned.paragraphs if p.text]


def _linked(text: str, *anchors: tuple[str, str], kind: ParagraphKind = ParagraphKind.TEXT) -> Block:
    return Block(text, kind, tuple(Anchor(href, words) for href, words in anchors))


def _targets(cleaned: Cleaned) -> list[tuple[str, int, str]]:
    return [(link.target, link.paragraph, link.anchor) for link in cleaned.links]


FURNITURE = [
    *(
        "Share this article",
        "SHARE",
        "Share on Facebook",
        "Share on Facebook | Share on Twitter | Email",
        "Print this page",
    ),
    *("Subscribe now!", "Sign up for our daily newsletter!", "Like what you read? Sign up for our weekly newsletter."),
    *("We use cookies to improve your experience.", "Accept all cookies", "ADVERTISEMENT", "Story continues below"),
    *("Leave a comment", "12 Comments", "Comments are closed.", "© 2026 The Courier", "Copyright 2026 The Courier"),
    *(
        "(c) 2019 AP. All rights reserved.",
        "Follow us on Twitter",
        "Follow us",
        "Follow @courier",
        "———",
        "* * *",
        "---",
    ),
    *(
        "•",
        "",
        " \u200b\x00 ",
        "Photo: Jane Doe",
        "Image: Nicholas Moreau.",
        "Photo by Jane Doe for the Courier",
        "Foto: dpa",
    ),
    *(
        "Image courtesy of the National Archive",
        "图片来源：新华社",
        "写真：共同通信",
        "Back to top",
        "Continue reading",
    ),
    *("The post A title appeared first on The Courier.", "Teilen", "Anzeige", "Partager cet article", "Publicidad"),
    *("Реклама", "إعلان", "广告", "続きを読む", "Lees verder", "Stampa", "Compartilhe", "5 min read", "(more…)"),
]


@pytest.mark.parametrize("text", FURNITURE)
def test_furniture_goes(text: str) -> None:
    """A block that is a prompt, a credit, a notice, a separator or empty does not stay in the body."""
    cleaned = _body(FIRST, text, SECOND)
    assert [p.text for p in cleaned.paragraphs] == [FIRST, "", SECOND], "what follows keeps its index"
    assert cleaned.removed == bool(clean_text(text))
    assert not cleaned.links


REAL = [
    "Related to the previous point, a writing lab can point to projects that need content help.",
    "Related costs rose by 4 per cent.",
    "Readers can read more about the treaty on the ministry's site.",
    "Read more about successful challenges and best practices for those interested in hosting one.",
    "Read more of this 5-part series:",
    "See also the report of 2019, which described the same failure in three other harbours and named the owners.",
    "See also, Gray's presentation from last week's demo day",
    "See also: our list of platform tools.",
    "Related: the committee also heard from the harbour master that the pumps had failed twice that winter.",
    "Recommended: two tablets a day, taken with water.",
    "Share prices fell for a third day.",
    "Share your stories with us by Friday.",
    "Print is dead, the editor said.",
    "Subscribers to our newsletter will be told first, the company said.",
    "Sign up for a newsletter, the agency told users, and the fraud begins.",
    "Cookies were found in the jar.",
    "Copyright law changed in 2019.",
    "Follow-through",
    "Follow our progress on the project page.",
    "Comments on the draft are due in May.",
    "Photo editors were the first to go.",
    "Image: Mollie Bates and Natalia Fitzgerald give a talk about the design team",
    "Images by themselves prove nothing.",
    "Advertisements for tobacco are banned.",
    "More: the cost of the bridge",
    "Background",
    "2019",
    "No.",
    "Up next",
    "By the numbers",
    "Friday was the coldest day since January 4, 2019.",
]


@pytest.mark.parametrize("text", REAL)
def test_ordinary_text_stays(text: str) -> None:
    """A sentence that merely begins like furniture or like a label is the article's own, wherever it stands."""
    assert _texts(_body(FIRST, text, SECOND)) == [FIRST, text, SECOND]
    assert _texts(_body(text, FIRST)) == [text, FIRST]


@pytest.mark.parametrize(
    "text", ["Friday, January 4, 2019", "4 janvier 2019", "04.01.2019", "2019年1月4日", "4 января 2019 г."]
)
def test_dateline_goes_only_from_the_top(text: str) -> None:
    """A first block that is a date and no more goes; the same line further down stays."""
    assert _texts(_body(text, FIRST)) == [FIRST]
    assert _texts(_body(FIRST, text)) == [FIRST, text]


@pytest.mark.parametrize(
    ("text", "language", "goes"),
    [
        ("By Jane Doe", "en", True),
        ("BY JANE DOE AND JOHN SMITH, Courier Staff", "", True),
        ("Von Hans Müller", "de", True),
        ("Von Hans Müller", "en", False),
        ("Par Jeanne Dupont", "fr", True),
        ("By the sea they sat down and wept", "en", False),
        ("By Friday the river had risen.", "en", False),
        ("Jane Doe", "en", False),
    ],
)
def test_byline_goes_only_from_the_top(text: str, language: str, goes: bool) -> None:
    """A first block that is a byline in the article's language goes."""
    assert _texts(_body(text, FIRST, language=language)) == ([FIRST] if goes else [text, FIRST])


def test_title_repeated_as_first_block_goes() -> None:
    """The title goes from the top if it is the same but for case, also before a byline and a date."""
    cleaned = _body(Block("A Title", ParagraphKind.HEADING), "By Jane Doe", "January 4, 2019", FIRST)
    assert _texts(cleaned) == [FIRST]
    assert _texts(_body("A title and more", FIRST)) == ["A title and more", FIRST]
    assert _texts(_body(FIRST, "A title")) == [FIRST, "A title"]


def test_summary_repeated_as_first_block_stays() -> None:
    """A first paragraph that repeats the summary is still the first paragraph."""
    raw = RawArticle(where=WHERE, id="a", summary=FIRST, blocks=(Block(FIRST), Block(SECOND)))
    assert _texts(clean(raw)) == [FIRST, SECOND]


LINES = [
    *(
        "Related News: {}",
        "Related: {}",
        "RELATED – {}",
        "Read More: {}",
        "Read also: {}",
        "See also: {}",
        "Also read: {}",
    ),
    *("More on this story: {}", "You may also like: {}", "Recommended: {}", "» Read more: {}", "(Related: {})"),
    *(
        "[Read more: {}]",
        "Related | {}",
        "Lesen Sie auch: {}",
        "Mehr zum Thema: {}",
        "À lire aussi : {}",
        "A LIRE AUSSI: {}",
    ),
    *("Lire aussi › {}", "Lea también: {}", "Te puede interesar: {}", "Leggi anche: {}", "Potrebbe interessarti: {}"),
    *("Leia também: {}", "Veja também: {}", "Lees ook: {}", "Читайте также: {}", "По теме: {}", "اقرأ أيضاً: {}"),
    *("إقرأ أيضا: {}", "相关阅读：{}", "延伸閱讀：{}", "関連記事：{}", "あわせて読みたい：{}"),
]


@pytest.mark.parametrize("line", LINES)
def test_labelled_line_is_harvested(line: str) -> None:
    """A label with a headline gives a link to that headline, or to its address where it is linked."""
    plain = _body(FIRST, line.format(HEADLINE), SECOND)
    assert _texts(plain) == [FIRST, SECOND]
    assert _targets(plain) == [(HEADLINE, 0, HEADLINE)]
    with_link = _body(FIRST, _linked(line.format(HEADLINE), (HREF, HEADLINE)), SECOND)
    assert _texts(with_link) == [FIRST, SECOND]
    assert _targets(with_link) == [(HREF, 0, HEADLINE)]


def test_headline_keeps_its_own_brackets_and_colon() -> None:
    """Only the label goes: brackets, colons and abbreviations of the headline are part of the target."""
    for headline in (
        "Gas leak found off Norhaven (updated)",
        "Explainer: how tariffs work",
        "Deal is struck with the U.S.",
    ):
        assert _targets(_body(FIRST, f"Related News: {headline}")) == [(headline, 0, headline)]


def test_label_inside_the_link_is_no_part_of_its_text() -> None:
    """Where the whole line is the link, the anchor is the headline without the label."""
    cleaned = _body(FIRST, _linked(f"Read More: {HEADLINE}", (HREF, f"Read More: {HEADLINE}")))
    assert _targets(cleaned) == [(HREF, 0, HEADLINE)]


def test_label_without_separator_needs_a_link_over_the_rest() -> None:
    """A label straight before a headline is a label if everything after it is the link."""
    assert _targets(_body(FIRST, _linked(f"Read more {HEADLINE}", (HREF, HEADLINE)))) == [(HREF, 0, HEADLINE)]
    partly = _linked("Read more about this in the second part of our series", (HREF, "second part"))
    assert _texts(_body(FIRST, partly)) == [FIRST, partly.text]


def test_several_links_in_one_line() -> None:
    """Each link of a labelled line is harvested; unlinked headlines are told apart by bars and dots."""
    three = _linked("Read More: One, Two, Three", *((f"https://e.example/{n}", n) for n in ("One", "Two", "Three")))
    assert _targets(_body(FIRST, three)) == [(f"https://e.example/{n}", 0, n) for n in ("One", "Two", "Three")]
    assert _targets(_body(FIRST, "Related: Pumps fail again | Harbour closed • Mayor quits")) == [
        ("Pumps fail again", 0, "Pumps fail again"),
        ("Harbour closed", 0, "Harbour closed"),
        ("Mayor quits", 0, "Mayor quits"),
    ]


@pytest.mark.parametrize("label", ["More", "READ", "Listen", "Analysis", "Editors’ picks"])
def test_weak_label_needs_links(label: str) -> None:
    """Words such as "More:" announce links only when there are links."""
    assert _targets(_body(FIRST, _linked(f"{label}: {HEADLINE}", (HREF, HEADLINE)))) == [(HREF, 0, HEADLINE)]
    assert _texts(_body(FIRST, f"{label}: {HEADLINE}")) == [FIRST, f"{label}: {HEADLINE}"]


@pytest.mark.parametrize(
    "line",
    [
        f"Related News: [{HEADLINE}]({HREF})",
        f"[Related News: {HEADLINE}]({HREF})",
        f"**Related News:** [{HEADLINE}]({HREF})",
        f"**[Related News: {HEADLINE}]({HREF})**",
        f"See also:\n* [{HEADLINE}]({HREF})",
        f"READ: [{HEADLINE}]({HREF})",
        f"Related News: {HEADLINE} {HREF}",
        f"Related News: {HEADLINE} ({HREF})",
        f"See also:\n- {HEADLINE} – {HREF}",
    ],
)
def test_addresses_in_plain_text_are_targets(line: str) -> None:
    """A Markdown link, or an address after the headline, is where a labelled line leads."""
    cleaned = _body(FIRST, line, SECOND)
    assert _texts(cleaned) == [FIRST, SECOND]
    assert _targets(cleaned) == [(HREF, 0, HEADLINE)]


def test_emphasis_is_no_part_of_a_headline() -> None:
    """Stars and underscores around label or headline are marks of the writing, not of the words."""
    for line in (f"**Related News:** {HEADLINE}", f"*Read more: {HEADLINE}*", f"_See also: {HEADLINE}_"):
        assert _targets(_body(FIRST, line)) == [(HEADLINE, 0, HEADLINE)]


def test_markdown_in_running_text_stays_as_it_is() -> None:
    """Only what announces related links is read as Markdown; a paragraph that is kept is kept as written."""
    text = f"The ministers [agreed on a price]({HREF}) on Monday, after long talks."
    assert _texts(_body(text, SECOND)) == [text, SECOND]
    assert not _body(text, SECOND).links


@pytest.mark.parametrize("kind", [ParagraphKind.HEADING, ParagraphKind.TEXT])
@pytest.mark.parametrize(
    "label", ["Related stories", "See also:", "You may also like…", "Das könnte Sie auch interessieren"]
)
def test_heading_with_a_list_of_links(label: str, kind: ParagraphKind) -> None:
    """A label on its own takes the links after it along, up to the next paragraph of text."""
    links = [_linked(f"{HEADLINE} {n}", (f"{HREF}/{n}", f"{HEADLINE} {n}")) for n in range(3)]
    cleaned = _body(FIRST, Block(label, kind), *links, SECOND)
    assert _texts(cleaned) == [FIRST, SECOND]
    assert _targets(cleaned) == [(f"{HREF}/{n}", 0, f"{HEADLINE} {n}") for n in range(3)]


def test_pictures_between_listed_links_go_with_them() -> None:
    """A thumbnail before a listed link belongs to the list; a picture after the last link is the article's."""
    picture = Block("A pipe", ParagraphKind.MEDIA)
    cleaned = _body(FIRST, "Related", picture, _linked(HEADLINE, (HREF, HEADLINE)), picture, SECOND)
    assert _texts(cleaned) == [FIRST, "A pipe", SECOND]


def test_heading_with_plain_headlines() -> None:
    """Unlinked headline lines after a label are harvested, also as bullets or numbers in one block."""
    cleaned = _body(FIRST, "Related News", HEADLINE, "Ministers float moving price cap", SECOND)
    assert _texts(cleaned) == [FIRST, SECOND]
    assert [t for t, _, _ in _targets(cleaned)] == [HEADLINE, "Ministers float moving price cap"]
    for block in (f"- {HEADLINE} - Ministers float moving cap", f"1. {HEADLINE} 2. Ministers float moving cap"):
        assert [t for t, _, _ in _targets(_body(FIRST, "Related posts:", block))] == [
            HEADLINE,
            "Ministers float moving cap",
        ]


def test_label_over_real_text_stays() -> None:
    """A heading "See also" over paragraphs of text, or over the next heading, is the author's own."""
    heading = Block("See also", ParagraphKind.HEADING)
    assert _texts(_body(FIRST, heading, SECOND)) == [FIRST, "See also", SECOND]
    under = Block("What the treaty changes for ships", ParagraphKind.HEADING)
    assert _texts(_body(FIRST, heading, under, SECOND)) == [FIRST, "See also", under.text, SECOND]


def test_lines_of_one_paragraph_are_judged_as_one_line_too() -> None:
    """A line after a label is too short for a headline of a list; in one paragraph with it, it is a labelled line."""
    cleaned = _body(FIRST, f"Related: {HEADLINE}\n{SECOND}", "See also:\nBudget vote", f"See also:\n{SECOND}")
    assert [p.text for p in cleaned.paragraphs] == [FIRST, SECOND, "", f"See also: {SECOND}"]
    assert _targets(cleaned) == [(HEADLINE, 0, HEADLINE), ("Budget vote", 1, "Budget vote")]
    gone = _body(FIRST, f"See also:\nBudget vote\nRelated: {HEADLINE}")
    assert _texts(gone) == [FIRST]
    assert [place for _, place, _ in _targets(gone)] == [0, 0]


def test_label_over_nothing_goes() -> None:
    """A label at the very end is what is left of a box whose links were lost."""
    assert _texts(_body(FIRST, "You may also like", "Related")) == [FIRST]


def test_box_is_harvested_and_never_kept() -> None:
    """Everything in a box goes; its links stay once each, with their headlines, and so does no heading above it."""
    anchors = (Anchor(HREF, HEADLINE), Anchor(HREF, "Supply is back to half."), Anchor("#top", "Up"))
    box = Block("Gas and teaser", anchors=anchors, boxed=True)
    words = Block("By Jane Doe, three hours ago, and nothing else", boxed=True)
    cleaned = _body(FIRST, Block("Related", ParagraphKind.HEADING), box, words, SECOND)
    assert _texts(cleaned) == [FIRST, SECOND]
    assert _targets(cleaned) == [(HREF, 0, HEADLINE), ("Up", 0, "Up")]


def test_line_inside_a_block_is_cut_out() -> None:
    """A labelled line among the lines of one block goes, and the lines around it stay the one paragraph they were."""
    cleaned = _body(f"{FIRST}\nRelated: {HEADLINE}\nTalks go on\nin Tarvik.")
    assert _texts(cleaned) == [f"{FIRST} Talks go on in Tarvik."]
    assert _targets(cleaned) == [(HEADLINE, 0, HEADLINE)]


def test_paragraphs_keep_the_index_they_have_on_the_page() -> None:
    """What is dropped leaves an empty paragraph, but for the end; a link stands after the last one with text."""
    related = [f"Related: {HEADLINE} {n}" for n in range(3)]
    cleaned = _body("January 4, 2019", related[0], FIRST, "Share", related[1], "Advertisement", SECOND, related[2])
    assert [p.text for p in cleaned.paragraphs] == ["", "", FIRST, "", "", "", SECOND]
    assert [place for _, place, _ in _targets(cleaned)] == [-1, 2, 6]


def test_links_in_running_text_stay_text() -> None:
    """A link in a sentence is no editor link, and its words stay, even if the sentence is all links."""
    assert not _body(_linked(FIRST, (HREF, "agreed on a price"))).links
    assert _texts(_body(SECOND, _linked(FIRST, (HREF, FIRST)))) == [SECOND, FIRST]


def test_read_more_link_to_the_page_itself_is_no_editor_link() -> None:
    """A feed's "Read more" that leads to the article itself is furniture."""
    cleaned = _body(FIRST, _linked("Read more", (HREF, "Read more")), url=HREF)
    assert _texts(cleaned) == [FIRST]
    assert not cleaned.links


def test_summary_loses_its_related_links() -> None:
    """Lines that announce links go from a summary of several lines, with what a bare label stands over; text stays."""
    for line in (f"Related News: {HEADLINE}", f"Also read: {HEADLINE}", f"See also\n{HEADLINE}"):
        assert clean_summary(f"Talks go on.\n{line}") == "Talks go on."
    assert clean_summary("Talks go on.\nRecommended: two eggs. That is less.") == (
        "Talks go on. Recommended: two eggs. That is less."
    )
    assert clean_summary(f"Related News: {HEADLINE}") == f"Related News: {HEADLINE}"


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("Talks begin. Read more", "Talks begin."),
        ("Talks begin… Continue reading →", "Talks begin…"),
        ("Talks begin. Continue reading Talks in Tarvik", "Talks begin."),
        ("Talks begin [...]", "Talks begin"),
        ("Talks begin […] Read more »", "Talks begin"),
        ("Talks begin. The post Talks appeared first on Courier.", "Talks begin."),
        ("Verhandlungen beginnen. Weiterlesen", "Verhandlungen beginnen."),
        ("谈判开始。阅读全文", "谈判开始。"),
        ("Voters want to read more", "Voters want to read more"),
        ("Why children read more. And why not.", "Why children read more. And why not."),
        ("Read more", ""),
        ("", ""),
    ],
)
def test_summary_loses_its_tail(summary: str, expected: str) -> None:
    """What a feed hangs onto a summary goes; words of the summary do not."""
    assert clean_summary(summary) == expected


@pytest.mark.slow
def test_hostile_bodies_take_no_time_and_no_stack() -> None:
    """Thousands of labels, lines or brackets in one body are handled like any other."""
    lines = "\n".join(f"Related: Headline number {n}" for n in range(5_000))
    assert len(_body(FIRST, lines).links) == 5_000
    assert _texts(_body(FIRST, *["Related"] * 5_000)) == [FIRST]
    assert len(_texts(_body("(" * 1_000_000, "x " * 1_000_000, "(x " * 300_000))) == 2
    assert len(clean_summary("x […] " * 500_000)) > 1_000_000


PIECES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [*FURNITURE, *REAL, FIRST, SECOND, HEADLINE, "January 4, 2019", "By Jane Doe", "A title", "\n", "e\x00\u0301"]
    ),
    st.sampled_from([phrase for phrases in LABELS.values() for phrase in phrases]),
    st.sampled_from([line.format(HEADLINE) for line in LINES]),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=3).map("\n".join) | PIECES
ANCHORS = st.lists(st.builds(Anchor, st.sampled_from(["", HREF, "#", "/x", "mailto:a@b"]), PIECES), max_size=3).map(
    tuple
)
BLOCKS = st.builds(Block, TEXTS, st.sampled_from(ParagraphKind), ANCHORS, st.booleans())
ARTICLES = st.builds(
    RawArticle,
    where=st.just(WHERE),
    id=st.just("a"),
    url=st.sampled_from(["", HREF]),
    title=st.sampled_from(["A title", "", HEADLINE]),
    summary=TEXTS,
    blocks=st.lists(BLOCKS, max_size=8).map(tuple),
    labels=st.sampled_from([Labels(language=code) for code in ("", "en", "de", "xx")]),
)


@settings(max_examples=settings().max_examples * 20 // 3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ARTICLES)
def test_any_article_is_cleaned(raw: RawArticle) -> None:
    """Cleaning never raises; places are valid, an empty paragraph carries no text, and none is at the end."""
    cleaned = clean(raw)
    assert all(-1 <= link.paragraph < len(cleaned.paragraphs) for link in cleaned.links)
    assert [link.paragraph for link in cleaned.links] == sorted(link.paragraph for link in cleaned.links)
    assert all(link.target and link.source_id == raw.id for link in cleaned.links)
    empty = Paragraph("", ParagraphKind.MEDIA)
    assert all(any(ch.isalnum() for ch in p.text) or p == empty for p in cleaned.paragraphs)
    assert not cleaned.paragraphs or cleaned.paragraphs[-1].text
    assert 0 <= cleaned.removed <= len(raw.blocks)


@settings(max_examples=settings().max_examples * 20 // 3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ARTICLES)
def test_cleaning_twice_changes_nothing(raw: RawArticle) -> None:
    """What came out of cleaning is clean: no paragraph, no link and no word of the summary goes the second time."""
    first = clean(raw)
    blocks = tuple(Block(p.text, p.kind) for p in first.paragraphs)
    again = clean(
        RawArticle(
            where=WHERE,
            id="a",
            url=raw.url,
            title=raw.title,
            summary=first.summary,
            blocks=blocks,
            labels=raw.labels,
        )
    )
    assert again == Cleaned(first.paragraphs, (), first.summary, 0)


WORDS = st.text(string.ascii_lowercase, min_size=3, max_size=9)
SECRETS = st.lists(WORDS, min_size=4, max_size=8).map(lambda words: "Zq" + " zq".join(words))


@settings(max_examples=settings().max_examples * 10 // 3, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LINES), SECRETS, st.booleans()), min_size=1, max_size=5))
def test_harvested_words_never_reach_the_body(marked: list[tuple[str, str, bool]]) -> None:
    """Whatever was harvested as a link stands in no paragraph, and every labelled line is harvested."""
    blocks: list[Block | str] = [FIRST]
    for line, secret, has_link in marked:
        text = line.format(secret)
        blocks += [_linked(text, (HREF + secret, secret)) if has_link else text, SECOND]
    cleaned = _body(*blocks)
    assert "zq" not in " ".join(_texts(cleaned)).lower()
    assert {link.anchor for link in cleaned.links} == {secret for _, secret, _ in marked}
