"""Articles: what `make_article` refuses and in which words, what it normalises, and what identifies a text."""

from __future__ import annotations

import json
import string
import unicodedata
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog import checks
from recommender.catalog.articles import NO_LABELS, Article, Labels, Paragraph, ParagraphKind, Rules, article_from_json
from recommender.catalog.checks import (
    check_id,
    clean_label,
    clean_text,
    format_time,
    make_article,
    make_body,
    make_labels,
    make_language,
    make_tags,
    parse_time_ms,
)
from recommender.clock import DAY_MS
from recommender.errors import InvalidInputError
from tests.building import NOW_MS, article

LABELS = {field.name for field in fields(Labels)}


def made(**changes: Any) -> Article:
    """Make a valid article but for `changes`, labels among them."""
    valid: dict[str, Any] = {"id": "a", "title": "Talks resume", "published_at_ms": NOW_MS, "now_ms": NOW_MS}
    labels = Labels(**{name: changes.pop(name) for name in LABELS & changes.keys()})
    return make_article(**{**valid, **changes}, labels=labels)


def relabelled(a: Article, **changes: Any) -> Article:
    """Return an article with other labels."""
    return replace(a, labels=replace(a.labels, **changes))


def paragraphs(*texts: str) -> list[Paragraph]:
    """Return text paragraphs."""
    return [Paragraph(text) for text in texts]


# Refusals

SHORTEN = "(shorten or split the text)"
PLAIN = "(use plain text for ids)"
DATE = "(send when the article became public)"
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "empty id": ({"id": ""}, "id", "is empty (send the article's id)"),
    "id of 10 kB": ({"id": "x" * 10_240}, "id", "is 10,240 bytes long; at most 512 (use a shorter id)"),
    "id of 513 bytes": ({"id": "ü" * 256 + "x"}, "id", "is 513 bytes long; at most 512 (use a shorter id)"),
    "NUL in the id": (
        {"id": "a\0b"},
        "id",
        f"'a\\x00b' has control characters or outer white space {PLAIN}",
    ),
    "tab in the id": ({"id": "a\tb"}, "id", f"'a\\tb' has control characters or outer white space {PLAIN}"),
    "line separator in the id": (
        {"id": "a\u2028b"},
        "id",
        f"'a\\u2028b' has control characters or outer white space {PLAIN}",
    ),
    "lone surrogate in the id": (
        {"id": "a\ud800"},
        "id",
        f"'a\\ud800' has control characters or outer white space {PLAIN}",
    ),
    "space before the id": ({"id": " a"}, "id", f"' a' has control characters or outer white space {PLAIN}"),
    "no-break space after the id": (
        {"id": "a\xa0"},
        "id",
        f"'a\\xa0' has control characters or outer white space {PLAIN}",
    ),
    "id of white space": ({"id": "  "}, "id", f"'  ' has control characters or outer white space {PLAIN}"),
    "long id with a line feed": (
        {"id": "\n" + "x" * 100},
        "id",
        f"'\\n{'x' * 39}' has control characters or outer white space {PLAIN}",
    ),
    "no text": (
        {"title": ""},
        "title",
        "title, summary and paragraphs are all empty (send at least one of them)",
    ),
    "only white space and control characters": (
        {"title": " \t", "summary": "\0", "paragraphs": paragraphs("\x07", "\n", "\ufeff")},
        "title",
        "title, summary and paragraphs are all empty (send at least one of them)",
    ),
    "long title": ({"title": "x" * 1_001}, "title", f"1,001 characters; at most 1,000 {SHORTEN}"),
    "long summary": ({"summary": "x" * 10_001}, "summary", f"10,001 characters; at most 10,000 {SHORTEN}"),
    "body of 5 MB": (
        {"paragraphs": paragraphs(*["x" * (1 << 20)] * 5)},
        "paragraphs",
        f"5,242,880 characters; at most 1,000,000 {SHORTEN}",
    ),
    "too many paragraphs": (
        {"paragraphs": paragraphs(*["x"] * 5_001)},
        "paragraphs",
        "5001 paragraphs; at most 5000 (send only the body of the article)",
    ),
    "too many empty paragraphs": (
        {"paragraphs": paragraphs(*[""] * 5_001)},
        "paragraphs",
        "5001 paragraphs; at most 5000 (send only the body of the article)",
    ),
    "no date": ({"published_at_ms": 0}, "published_at", f"is missing or before 1970 {DATE}"),
    "date before 1970": ({"published_at_ms": -1}, "published_at", f"is missing or before 1970 {DATE}"),
    "date more than a year ahead": (
        {"published_at_ms": NOW_MS + 366 * DAY_MS + 1},
        "published_at",
        "2027-05-29T20:26:40Z is more than a year ahead (check the clock or the format)",
    ),
    "long URL": ({"url": "x" * 2_049}, "url", "is 2,049 bytes long; at most 2048 (send a shorter one)"),
    "long image URL": (
        {"image_url": "ü" * 1_025},
        "image_url",
        "is 2,050 bytes long; at most 2048 (send a shorter one)",
    ),
    "long site": ({"site": "x" * 257}, "site", "is 257 bytes long; at most 256 (send a shorter one)"),
    "long section": ({"section": "新" * 86}, "section", "is 258 bytes long; at most 256 (send a shorter one)"),
    "long author": ({"author": "x" * 257}, "author", "is 257 bytes long; at most 256 (send a shorter one)"),
    "long tag": ({"tags": ["x", "y" * 257]}, "tags", "is 257 bytes long; at most 256 (send a shorter one)"),
    "too many tags": (
        {"tags": [str(i) for i in range(65)]},
        "tags",
        "65 tags; at most 64 (send the most telling ones)",
    ),
    "language that is none": (
        {"language": "English!"},
        "language",
        "'English!' is not a language tag (use BCP 47, such as \"en\")",
    ),
    "language of one letter": (
        {"language": "x-klingon"},
        "language",
        "'x-klingon' is not a language tag (use BCP 47, such as \"en\")",
    ),
    "too many pairs": (
        {"rules": Rules(never_with=tuple(f"x{i}" for i in range(1_001)))},
        "rules.never_with",
        "1001 ids; at most 1000 (name fewer articles)",
    ),
    "pair with an empty id": (
        {"rules": Rules(never_with=("x", ""))},
        "rules.never_with[1]",
        "is empty (send the article's id)",
    ),
    "pair with a long id": (
        {"rules": Rules(never_with=("x" * 513,))},
        "rules.never_with[0]",
        "is 513 bytes long; at most 512 (use a shorter id)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_field_and_the_fix(name: str) -> None:
    """The message names the field, the problem and the fix."""
    changes, field, message = REFUSED[name]
    with pytest.raises(InvalidInputError) as caught:
        made(**changes)
    assert caught.value.field == field
    assert str(caught.value) == f"{field}: {message}"
    assert caught.value.fix


def test_a_refusal_under_a_prefix() -> None:
    """A refusal in a batch gets the path of its record."""
    with pytest.raises(InvalidInputError) as caught:
        made(id="")
    under = caught.value.under("articles[3]")
    assert (under.field, str(under)) == ("articles[3].id", "articles[3].id: is empty (send the article's id)")


def test_no_text_of_the_article_is_repeated() -> None:
    """A refusal may be logged, so it repeats nothing of the article's text."""
    secret = "embargoed " * 300
    for changes in ({"title": secret}, {"tags": [secret]}, {"section": secret}, {"url": secret}):
        with pytest.raises(InvalidInputError) as caught:
            made(**changes)
        assert "embargoed" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"id": "x" * 512}, id="id"),
        pytest.param({"id": "a b/c?d#é新"}, id="id of any characters"),
        pytest.param({"title": "x" * 1_000}, id="title"),
        pytest.param({"title": "", "summary": "x" * 10_000}, id="summary alone"),
        pytest.param({"title": "", "paragraphs": tuple(paragraphs("x" * 1_000_000))}, id="body alone"),
        pytest.param({"paragraphs": tuple(paragraphs(*["x"] * 5_000))}, id="paragraphs"),
        pytest.param({"published_at_ms": 1}, id="1970"),
        pytest.param({"published_at_ms": NOW_MS + 366 * DAY_MS}, id="a year ahead"),
        pytest.param({"url": "x" * 2_048, "image_url": "x" * 2_048}, id="URLs"),
        pytest.param({"site": "x" * 256, "section": "x" * 256, "author": "x" * 256}, id="labels"),
        pytest.param({"tags": tuple(f"{i:0256}" for i in range(64))}, id="tags"),
        pytest.param({"rules": Rules(True, True, tuple(f"x{i}" for i in range(1_000)), 1, True)}, id="rules"),
    ],
)
def test_a_value_at_its_limit_is_kept_as_it_is(changes: dict[str, Any]) -> None:
    """A value of exactly the limit is valid."""
    kept = made(**changes)
    assert {name: getattr(kept.labels if name in LABELS else kept, name) for name in changes} == changes


# Normalising


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("Talks resume", "Talks resume", id="plain"),
        pytest.param("  Talks   resume ", "Talks resume", id="spaces"),
        pytest.param("Talks\n\tresume\r\n", "Talks resume", id="line feeds and tabs"),
        pytest.param("Talks\rresume", "Talks resume", id="carriage return"),
        pytest.param("Talks\x0b\x0cresume", "Talks resume", id="form feed"),
        pytest.param("Talks\u2028resume\u2029now", "Talks resume now", id="line separators"),
        pytest.param("Talks\x85resume\x1fnow", "Talks resume now", id="separators among control characters"),
        pytest.param("Talks\u00a0resume\u3000now", "Talks resume now", id="no-break and wide spaces"),
        pytest.param("Ta\0lks \x07 re\x1bsume\x7f", "Talks resume", id="control characters"),
        pytest.param("\ufeffTalks\uffff", "Talks", id="byte order mark"),
        pytest.param("Talks\ud800", "Talks", id="lone surrogate"),
        pytest.param("e\u0301", "é", id="composed"),
        pytest.param("e\0\u0301", "é", id="composed once the control character is gone"),
        pytest.param("ﬁ ² Ⅳ", "ﬁ ² Ⅳ", id="compatibility characters stay"),
        pytest.param("नमस्ते\u200d 👩\u200d🚀", "नमस्ते\u200d 👩\u200d🚀", id="joiners stay"),
        pytest.param("“A” – ‘b’…", "“A” – ‘b’…", id="typography stays"),
    ],
)
def test_clean_text(text: str, cleaned: str) -> None:
    """Text is composed and loses control characters; a run of white space is one space. Nothing else changes."""
    assert clean_text(text) == cleaned


@given(st.text(st.characters() | st.sampled_from("  \n\r\t\0\x0c\x85\u2028\u0301e\ufeff\ud800")))
def test_clean_text_joins_no_words_and_has_no_control_characters(text: str) -> None:
    """Cleaned text is encodable and composed, with single spaces and the same words; cleaning is idempotent."""
    cleaned = clean_text(text)
    assert cleaned.encode().decode() == cleaned == clean_text(cleaned) == unicodedata.normalize("NFC", cleaned)
    assert cleaned == " ".join(cleaned.split())
    assert not any(unicodedata.category(ch) == "Cc" for ch in cleaned)
    visible = [unicodedata.normalize("NFC", "".join(filter(keeps, word))) for word in text.split()]
    assert cleaned.split(" ") == ([word for word in visible if word] or [""])


def keeps(ch: str) -> bool:
    """Say whether cleaning keeps a character that is no white space."""
    return unicodedata.category(ch) not in ("Cc", "Cs") and ch not in "\ufeff\ufffe\uffff"


def test_every_text_is_cleaned() -> None:
    """Title, summary, paragraphs, URLs, labels and tags are cleaned; only the id must be clean already."""
    dirty = " A\0 b\n"
    a = made(
        title=dirty,
        summary=dirty,
        paragraphs=paragraphs(dirty),
        **dict.fromkeys(("url", "image_url", "site", "section", "author"), dirty),
        tags=[dirty],
    )
    assert {a.title, a.summary, a.paragraphs[0].text, a.url, a.image_url} == {"A b"}
    assert a.labels == Labels(site="A b", section="A b", tags=("A b",), author="A b")


def test_empty_paragraphs_keep_their_place_and_kind() -> None:
    """A plan's `after_paragraph` counts the publisher's paragraphs, the empty ones too."""
    kinds = [ParagraphKind.TEXT, ParagraphKind.MEDIA, ParagraphKind.HEADING, ParagraphKind.QUOTE]
    given_ = [Paragraph(text, kind) for text, kind in zip(["One", " ", "\0", "Two"], kinds, strict=True)]
    assert made(paragraphs=iter(given_)).paragraphs == tuple(
        Paragraph(text, kind) for text, kind in zip(["One", "", "", "Two"], kinds, strict=True)
    )


def test_labels_are_checked_in_a_fixed_order() -> None:
    """The first bad label is the one that is reported."""
    long = "x" * 257
    bad: dict[str, Any] = {"site": long, "section": long, "tags": (long,), "language": "x", "author": long}
    for name in tuple(bad):
        with pytest.raises(InvalidInputError) as refused:
            make_labels(Labels(**bad))
        assert refused.value.field == name
        del bad[name]
    assert make_labels(Labels(**bad)) == NO_LABELS


def test_tags_are_cleaned_then_made_distinct() -> None:
    """Empty and repeated tags are removed, the order stays; the limit applies to the remaining ones."""
    assert made(tags=["b", " a ", "", "\0", "b ", "a", "A"]).labels.tags == ("b", "a", "A")
    assert made(tags=["x"] * 1_000 + ["y"]).labels.tags == ("x", "y")


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("", ""),
        ("  ", ""),
        ("en", "en"),
        ("EN", "en"),
        ("en-GB", "en"),
        ("pt_BR", "pt"),
        ("zh-Hant-TW", "zh"),
        (" de ", "de"),
        ("fil", "fil"),
    ],
)
def test_language(tag: str, language: str) -> None:
    """A language is its primary tag in lower case; an empty one stays empty."""
    assert make_language(tag) == language == made(language=tag).labels.language


@pytest.mark.parametrize("tag", ["e", "12", "en2", "*", "English", "deutsch", "日本", "e\0n"])
def test_another_text_is_refused_as_a_language(tag: str) -> None:
    """A language has two or three letters before the first hyphen."""
    with pytest.raises(InvalidInputError) as caught:
        make_language(tag)
    assert str(caught.value) == f'language: {tag!r} is not a language tag (use BCP 47, such as "en")'


def test_check_id_returns_the_id_and_names_the_field() -> None:
    """The same check serves every id of a request."""
    assert check_id("x" * 512, "article_id") == "x" * 512
    with pytest.raises(InvalidInputError) as caught:
        check_id("", "on_page_ids[2]")
    assert caught.value.field == "on_page_ids[2]"


def test_a_draft_is_normalised_and_refused_like_an_article() -> None:
    """The texts of a draft pass the same checks as an article's."""
    body = make_body(" A\0 ", "", paragraphs("x  y"))
    assert (body.title, body.summary, body.paragraphs) == ("A", "", (Paragraph("x y"),))
    with pytest.raises(InvalidInputError) as caught:
        make_body("", "", [])
    assert caught.value.field == "title"


# Times


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-03-01T12:00:00Z", 1_772_366_400_000),
        ("2026-03-01T12:00:00+02:00", 1_772_359_200_000),
        ("2026-03-01 12:00:00-00:30", 1_772_368_200_000),
        ("2026-03-01T12:00:00.123456Z", 1_772_366_400_123),
        (" 2026-03-01T12:00Z ", 1_772_366_400_000),
        ("2004-06-01T00:00:00.001Z", 1_086_048_000_001),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_parse_time(text: str, ms: int) -> None:
    """A time in RFC 3339 with any zone is read to the millisecond."""
    assert parse_time_ms(text) == ms


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_read_exactly(ms: int) -> None:
    """No millisecond is lost to rounding, in any year."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert parse_time_ms(moment.isoformat(timespec="milliseconds")) == ms
    assert format_time(ms) == moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert parse_time_ms(format_time(ms)) == ms // 1000 * 1000


FIX = "(use RFC 3339 with a zone, such as 2026-03-01T12:00:00Z)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cannot read '' as a time"),
        ("yesterday", "cannot read 'yesterday' as a time"),
        ("2026-13-01T12:00:00Z", "cannot read '2026-13-01T12:00:00Z' as a time"),
        ("2026-02-30T12:00:00Z", "cannot read '2026-02-30T12:00:00Z' as a time"),
        ("01/03/2026", "cannot read '01/03/2026' as a time"),
        ("2026-03-01T12:00:00", "'2026-03-01T12:00:00' has no time zone"),
        ("2026-03-01", "'2026-03-01' has no time zone"),
        ("2026\0", "cannot read '2026\\x00' as a time"),
        ("9999-12-31T23:59:59-01:00", "cannot read '9999-12-31T23:59:59-01:00' as a time"),
        ("0001-01-01T00:00:00+14:00", "cannot read '0001-01-01T00:00:00+14:00' as a time"),
        ("x" * 1_000, f"cannot read '{'x' * 40}' as a time"),
    ],
)
def test_another_text_is_refused_as_a_time(text: str, problem: str) -> None:
    """A time that cannot be parsed or has no zone is refused; the message shows it."""
    with pytest.raises(InvalidInputError) as caught:
        parse_time_ms(text)
    assert str(caught.value) == f"published_at: {problem} {FIX}"
    with pytest.raises(InvalidInputError) as caught:
        parse_time_ms(text, "as_of")
    assert caught.value.field == "as_of"


def test_an_article_is_public_once_published_and_out_of_embargo() -> None:
    """An article is public from the later of publication and end of embargo."""
    assert made().public_at_ms == NOW_MS
    assert made(rules=Rules(embargo_until_ms=NOW_MS - 1)).public_at_ms == NOW_MS
    assert made(rules=Rules(embargo_until_ms=NOW_MS + 1)).public_at_ms == NOW_MS + 1


# Identity

FULL = article(
    "full",
    summary="Sum",
    paragraphs=["One", Paragraph("Two", ParagraphKind.QUOTE)],
    tags=["x", "y"],
    rules=Rules(True, True, ("b", "c"), 5, True),
)
CHANGES: dict[str, Callable[[Article], Article]] = {
    "id": lambda a: replace(a, id="other"),
    "url": lambda a: replace(a, url="other"),
    "published_at_ms": lambda a: replace(a, published_at_ms=1),
    "site": lambda a: relabelled(a, site="other"),
    "section": lambda a: relabelled(a, section="other"),
    "tags": lambda a: relabelled(a, tags=("y", "x")),
    "language": lambda a: relabelled(a, language="de"),
    "author": lambda a: relabelled(a, author="other"),
    "image_url": lambda a: replace(a, image_url="other"),
}
TEXT_CHANGES: dict[str, Callable[[Article], Article]] = {
    "title": lambda a: replace(a, title="other"),
    "summary": lambda a: replace(a, summary="other"),
    "summary into title": lambda a: replace(a, title=a.title + a.summary, summary=""),
    "text of a paragraph": lambda a: replace(a, paragraphs=(Paragraph("other"), *a.paragraphs[1:])),
    "kind of a paragraph": lambda a: replace(
        a, paragraphs=(replace(a.paragraphs[0], kind=ParagraphKind.QUOTE), *a.paragraphs[1:])
    ),
    "order of paragraphs": lambda a: replace(a, paragraphs=a.paragraphs[::-1]),
    "paragraphs joined": lambda a: replace(a, paragraphs=(Paragraph("OneTwo"),)),
    "an empty paragraph more": lambda a: replace(a, paragraphs=(*a.paragraphs, Paragraph(""))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_value_changes_the_content_but_not_the_text(name: str) -> None:
    """Vectors are stored by the hash of the text alone."""
    other = CHANGES[name](FULL)
    assert other.content_hash() != FULL.content_hash()
    assert other.text_hash() == FULL.text_hash()


@pytest.mark.parametrize("name", TEXT_CHANGES)
def test_another_text_changes_both_hashes(name: str) -> None:
    """Every change of the embedded text changes the hash of the text."""
    other = TEXT_CHANGES[name](FULL)
    assert other.content_hash() != FULL.content_hash()
    assert other.text_hash() != FULL.text_hash()


def test_rules_change_neither_hash() -> None:
    """An editor's decision is no change of content."""
    other = replace(FULL, rules=Rules())
    assert (other.content_hash(), other.text_hash()) == (FULL.content_hash(), FULL.text_hash())
    assert len(FULL.content_hash()) == len(FULL.text_hash()) == 16


def test_hashes_are_the_same_in_every_process() -> None:
    """Hashes are stored: a change here would embed every archive again."""
    assert FULL.text_hash().hex() == "bbe80a544189ef8f56b835d9fac460a4"
    assert FULL.content_hash().hex() == "40ed63d10f67476ecb39b41518d2aad1"


_texts = st.text(string.ascii_letters + " \"'\\{}[]:,éß新😀\u200d", max_size=20)


@given(
    st.lists(st.builds(Paragraph, _texts, st.sampled_from(ParagraphKind)), max_size=4),
    st.lists(_texts, max_size=3),
    _texts,
    st.builds(Rules, st.booleans(), st.booleans(), st.tuples(st.just("b")), st.integers(0, 2**60), st.booleans()),
)
def test_json_gives_the_article_back(body: list[Paragraph], tags: list[str], section: str, rules: Rules) -> None:
    """An article is one line of JSON, and is read back equal."""
    a = made(paragraphs=body, tags=tags, section=section, rules=rules)
    line = a.to_json()
    assert "\n" not in line
    assert article_from_json(line) == a
    assert json.loads(line)["id"] == "a"


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("title", lambda: make_body("x" * 4_001, "", ())),
        ("summary", lambda: make_body("", "x" * 40_001, ())),
        ("paragraphs", lambda: make_body("", "", [Paragraph("x" * 4_000_001)])),
        ("paragraphs", lambda: make_body("", "", [Paragraph("x" * 2_000_001)] * 2)),
        ("section", lambda: clean_label("x" * 1_025, "section")),
        ("tags", lambda: make_tags(["x"] * 10_001)),
    ],
)
def test_a_far_too_long_value_is_refused_before_it_is_normalised(
    monkeypatch: pytest.MonkeyPatch, field: str, make: Callable[[], object]
) -> None:
    """Thirty megabytes of it would keep every other call waiting for seconds."""

    def normalising(text: str) -> str:
        raise AssertionError(f"{len(text)} characters are normalised")

    monkeypatch.setattr(checks, "clean_text", normalising)
    with pytest.raises(InvalidInputError) as refused:
        make()
    assert refused.value.field == field


def test_white_space_that_is_removed_does_not_count() -> None:
    """The normalised text is measured, unless the raw text is several times too long."""
    body = make_body("x" * 1_000 + " " * 3_000, "", [Paragraph("y" * 900_000 + "\n" * 3_000_000)])
    assert (len(body.title), len(body.paragraphs[0].text)) == (1_000, 900_000)
    assert clean_label("section" + " " * 900, "section") == "section"
