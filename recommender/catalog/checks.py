"""How an Article is made: every value is normalised and checked, with field and fix in each error."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from recommender.catalog.articles import NO_LABELS, Article, Body, Labels, Paragraph, Rules
from recommender.clock import DAY_MS
from recommender.errors import InvalidInputError

ID_BYTES_MAX = 512
URL_BYTES_MAX = 2048
LABEL_BYTES_MAX = 256
TITLE_CHARS_MAX = 1_000
SUMMARY_CHARS_MAX = 10_000
BODY_CHARS_MAX = 1_000_000
PARAGRAPHS_MAX = 5_000
TAGS_MAX = 64
PAIRS_MAX = 1_000
RAW_TIMES = 4
"""What is so many times as long as it may be is refused as it is sent: to normalise it first would take seconds."""
_RAW_TAGS_MAX = 10_000
FUTURE_MS_MAX = 366 * DAY_MS
"""A publication date may lie ahead (scheduled articles), but more than a year is a broken clock or format."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACE = re.compile(r"\s+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_IN_IDS = re.compile(rf"[\t\n]|{_CONTROL.pattern}")


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

    now_ms: the clock that "too far in the future" is measured against.
    Raises InvalidInputError naming the field; no text of the article is repeated in the message.
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
    """Normalise the texts of an article or a draft. Empty paragraphs keep their place, so that indices still hold.

    Raises InvalidInputError if all of them are empty or one is too long.
    """
    raw = Body(title, summary, tuple(paragraphs))
    _check_sizes(raw, RAW_TIMES)
    kept = tuple(Paragraph(clean_text(p.text), p.kind) for p in raw.paragraphs)
    body = Body(clean_text(title), clean_text(summary), kept)
    if not (body.title or body.summary or any(p.text for p in kept)):
        raise InvalidInputError("title", "title, summary and paragraphs are all empty", fix="send at least one of them")
    _check_sizes(body)
    return body


def _check_sizes(body: Body, times: int = 1) -> None:
    """Raise InvalidInputError if a text is more than so many times as long as it may be."""
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
        if size > times * limit:
            raise InvalidInputError(name, f"{size:,} characters; at most {limit:,}", fix="shorten or split the text")


def clean_text(text: str) -> str:
    """Return `text` in NFC, control characters removed, runs of white space as one space, ends trimmed."""
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
    short = len(value) <= RAW_TIMES * LABEL_BYTES_MAX
    primary = re.split(r"[-_]", value.strip(), maxsplit=1)[0].lower() if short else value
    if primary and not re.fullmatch(r"[a-z]{2,3}", primary):
        raise InvalidInputError("language", f"{value[:40]!r} is not a language tag", fix='use BCP 47, such as "en"')
    return primary


def parse_time_ms(text: str, field_name: str = "published_at") -> int:
    """Parse RFC 3339 into milliseconds UTC. Raises InvalidInputError if unparsable or without a zone."""
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
    """Return a label or an address as `clean_text` does. Raises InvalidInputError if it is over `limit` bytes long."""
    text = clean_text(value) if len(value) <= RAW_TIMES * limit else value
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
    few = len(tags) <= _RAW_TAGS_MAX
    kept = tuple(dict.fromkeys(t for tag in tags if (t := clean_label(tag, "tags")))) if few else tuple(tags)
    if len(kept) > TAGS_MAX:
        raise InvalidInputError("tags", f"{len(kept)} tags; at most {TAGS_MAX}", fix="send the most telling ones")
    return kept


def _check_rules(rules: Rules) -> Rules:
    if len(rules.never_with) > PAIRS_MAX:
        raise InvalidInputError(
            "rules.never_with", f"{len(rules.never_with)} ids; at most {PAIRS_MAX}", fix="name fewer articles"
        )
    for i, other in enumerate(rules.never_with):
        check_id(other, f"rules.never_with[{i}]")
    return rules
