"""Makes an Article of raw values: normalises and checks each; an error names the field and the fix."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from recommender.catalog.articles import NO_LABELS, Article, Body, Labels, Paragraph, Rules
from recommender.clock import DAY_MS
from recommender.errors import InvalidInputError

ID_BYTES_MAX = 512
"""Longest id."""
URL_BYTES_MAX = 2048
"""Longest address of an article or image."""
LABEL_BYTES_MAX = 256
"""Longest site, section, author or tag."""
TITLE_CHARS_MAX = 1_000
"""Longest title."""
SUMMARY_CHARS_MAX = 10_000
"""Longest summary."""
BODY_CHARS_MAX = 1_000_000
"""Longest body, all paragraphs together."""
PARAGRAPHS_MAX = 5_000
"""Most paragraphs of a body, empty ones included."""
TAGS_MAX = 64
"""Most distinct tags."""
NEVER_WITH_MAX = 1_000
"""Most ids in `Rules.never_with`."""
RAW_FACTOR = 4
"""A raw text this many times longer than its limit is refused at once: normalising it first would take seconds."""
_RAW_TAGS_MAX = 10_000
"""Raw tags above this number are refused without normalising them."""
FUTURE_MS_MAX = 366 * DAY_MS
"""How far ahead a publication date may be (scheduled articles); beyond a year the clock or the format is wrong."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
"""Control characters, line separators, byte order marks, non-characters and lone surrogates."""
_SPACE = re.compile(r"\s+")
"""A run of white space."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_IN_IDS = re.compile(rf"[\t\n]|{_CONTROL.pattern}")
"""What an id must not contain: tabs, line breaks, and what _CONTROL matches."""


def make_article(
    *,
    id: str,
    url: str = "",
    title: str = "",
    summary: str = "",
    paragraphs: Iterable[Paragraph] = (),
    published_at_ms: int,
    now_ms: int,
    labels: Labels = NO_LABELS,
    image_url: str = "",
    rules: Rules | None = None,
) -> Article:
    """Return a valid Article: texts normalised, sizes and dates checked.

    now_ms: the present time, which limits published_at_ms. Raises InvalidInputError naming the field; its message
    repeats no text of the article.
    """
    check_id(id, "id")
    body = make_body(title, summary, paragraphs)
    _check_published_at(published_at_ms, now_ms)
    return Article(
        id=id,
        url=clean_label(url, "url", URL_BYTES_MAX),
        title=body.title,
        summary=body.summary,
        paragraphs=body.paragraphs,
        published_at_ms=published_at_ms,
        labels=make_labels(labels),
        image_url=clean_label(image_url, "image_url", URL_BYTES_MAX),
        rules=_check_rules(rules or Rules()),
    )


def make_body(title: str, summary: str, paragraphs: Iterable[Paragraph]) -> Body:
    """Normalise the texts of an article or a draft. Empty paragraphs stay, so that indices remain valid.

    Raises InvalidInputError if all texts are empty or one is too long.
    """
    raw = Body(title, summary, tuple(paragraphs))
    _check_sizes(raw, RAW_FACTOR)
    cleaned = tuple(Paragraph(clean_text(p.text), p.kind) for p in raw.paragraphs)
    body = Body(clean_text(title), clean_text(summary), cleaned)
    if not (body.title or body.summary or any(p.text for p in cleaned)):
        raise InvalidInputError("title", "title, summary and paragraphs are all empty", fix="send at least one of them")
    _check_sizes(body)
    return body


def _check_sizes(body: Body, factor: int = 1) -> None:
    """Raise InvalidInputError if a text is longer than `factor` times its limit."""
    if len(body.paragraphs) > PARAGRAPHS_MAX:
        raise InvalidInputError(
            "paragraphs",
            f"{len(body.paragraphs)} paragraphs; at most {PARAGRAPHS_MAX}",
            fix="send only the body of the article",
        )
    limits = (
        ("title", len(body.title), TITLE_CHARS_MAX),
        ("summary", len(body.summary), SUMMARY_CHARS_MAX),
        ("paragraphs", sum(len(p.text) for p in body.paragraphs), BODY_CHARS_MAX),
    )
    for name, size, limit in limits:
        if size > factor * limit:
            raise InvalidInputError(name, f"{size:,} characters; at most {limit:,}", fix="shorten or split the text")


def clean_text(text: str) -> str:
    """Return `text` in NFC, without control characters, each run of white space as one space, ends trimmed."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    visible = _CONTROL.sub("", _SPACE.sub(" ", text))  # in this order: some white space is a control character too
    return _SPACE.sub(" ", unicodedata.normalize("NFC", visible)).strip()


def check_id(value: str, field_name: str) -> str:
    """Return `value` if it can be an article id: 1 to 512 bytes of UTF-8 without control characters or outer spaces."""
    if not value:
        raise InvalidInputError(field_name, "is empty", fix="send the article's id")
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > ID_BYTES_MAX:
        raise InvalidInputError(field_name, f"is {size:,} bytes long; at most {ID_BYTES_MAX}", fix="use a shorter id")
    if _NOT_IN_IDS.search(value) or value != value.strip():
        raise InvalidInputError(
            field_name, f"{value[:40]!r} has control characters or outer white space", fix="use plain text for ids"
        )
    return value


def make_language(value: str) -> str:
    """Return a BCP 47 tag's primary language in lower case ("en-GB" gives "en"); empty stays empty."""
    is_short = len(value) <= RAW_FACTOR * LABEL_BYTES_MAX
    primary = re.split(r"[-_]", value.strip(), maxsplit=1)[0].lower() if is_short else value
    if primary and not re.fullmatch(r"[a-z]{2,3}", primary):
        raise InvalidInputError("language", f"{value[:40]!r} is not a language tag", fix='use BCP 47, such as "en"')
    return primary


def parse_time_ms(text: str, field_name: str = "published_at") -> int:
    """Parse RFC 3339 into milliseconds UTC. Raises InvalidInputError if that fails or the time has no zone."""
    fix = "use RFC 3339 with a zone, such as 2026-03-01T12:00:00Z"
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            raise InvalidInputError(field_name, f"{text[:40]!r} has no time zone", fix=fix)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the last hours of the year 9999 have no UTC
        raise InvalidInputError(field_name, f"cannot read {text[:40]!r} as a time", fix=fix) from None
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def format_time(ms: int) -> str:
    """Return milliseconds UTC as RFC 3339 to the second, such as 2026-03-01T12:00:00Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_published_at(published_at_ms: int, now_ms: int) -> None:
    if published_at_ms <= 0:
        raise InvalidInputError("published_at", "is missing or before 1970", fix="send when the article became public")
    if published_at_ms > now_ms + FUTURE_MS_MAX:
        raise InvalidInputError(
            "published_at",
            f"{format_time(published_at_ms)} is more than a year ahead",
            fix="check the clock or the format",
        )


def clean_label(value: str, name: str, limit: int = LABEL_BYTES_MAX) -> str:
    """Return a label or an address, normalised by `clean_text`. Raises InvalidInputError above `limit` bytes."""
    text = clean_text(value) if len(value) <= RAW_FACTOR * limit else value
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise InvalidInputError(name, f"is {size:,} bytes long; at most {limit}", fix="send a shorter one")
    return text


def make_labels(raw: Labels) -> Labels:
    """Return the labels normalised and checked. Raises InvalidInputError naming the field."""
    return Labels(
        site=clean_label(raw.site, "site"),
        section=clean_label(raw.section, "section"),
        tags=make_tags(raw.tags),
        language=make_language(raw.language),
        author=clean_label(raw.author, "author"),
    )


def make_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return cleaned, distinct tags. Raises InvalidInputError if there are too many or one is too long."""
    is_short = len(tags) <= _RAW_TAGS_MAX
    distinct = tuple(dict.fromkeys(t for tag in tags if (t := clean_label(tag, "tags")))) if is_short else tuple(tags)
    if len(distinct) > TAGS_MAX:
        raise InvalidInputError("tags", f"{len(distinct)} tags; at most {TAGS_MAX}", fix="send the most telling ones")
    return distinct


def _check_rules(rules: Rules) -> Rules:
    if len(rules.never_with) > NEVER_WITH_MAX:
        raise InvalidInputError(
            "rules.never_with", f"{len(rules.never_with)} ids; at most {NEVER_WITH_MAX}", fix="name fewer articles"
        )
    for i, other in enumerate(rules.never_with):
        check_id(other, f"rules.never_with[{i}]")
    return rules
