"""Converts protobuf messages to values and back. No logic beyond defaults and checks of form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.answer.layout import LABELS_MAX, SLOTS_MAX, Layout
from recommender.answer.plan import PagePlan, Place, Receipt, Recommendation, RelatedList
from recommender.answer.recommend import EVERY
from recommender.answer.slots import Empty
from recommender.catalog.articles import Article, Labels, Paragraph, ParagraphKind, Rules
from recommender.catalog.checks import PARAGRAPHS_MAX, clean_label, make_article, make_language
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.store.writes import Outcome, Upsert
from recommender.errors import InvalidInputError
from recommender.serving.affected_feed import Affected

_KINDS: dict[int, ParagraphKind] = {
    common_pb.PARAGRAPH_KIND_UNSPECIFIED: ParagraphKind.TEXT,
    common_pb.PARAGRAPH_KIND_TEXT: ParagraphKind.TEXT,
    common_pb.PARAGRAPH_KIND_HEADING: ParagraphKind.HEADING,
    common_pb.PARAGRAPH_KIND_MEDIA: ParagraphKind.MEDIA,
    common_pb.PARAGRAPH_KIND_QUOTE: ParagraphKind.QUOTE,
}
_PLACEMENTS: dict[int, str] = {related_pb.SLOT_PLACEMENT_INLINE: "inline", related_pb.SLOT_PLACEMENT_END: "end"}
_PLACEMENT_VALUES = {
    "inline": related_pb.SLOT_PLACEMENT_INLINE,
    "end": related_pb.SLOT_PLACEMENT_END,
}
_FALLBACKS: dict[int, str] = {
    related_pb.SLOT_FALLBACK_UNSPECIFIED: "none",
    related_pb.SLOT_FALLBACK_NONE: "none",
    related_pb.SLOT_FALLBACK_LATEST_IN_SECTION: "latest_in_section",
}
_EMPTY_VALUES = {empty: related_pb.EmptyReason.Value(f"EMPTY_REASON_{empty.value.upper()}") for empty in Empty}
_DAY_S = 86_400
"""A day."""
_TIME_MAX_S = 253_402_300_799
"""The last second of the year 9999, the latest time that a Timestamp may hold."""

V = TypeVar("V")

TimedRequest = related_pb.FillSlotsRequest | related_pb.ListRelatedRequest | related_pb.BatchFillSlotsRequest


# From messages


def upserts_from(messages: Sequence[common_pb.Article], now_ms: int) -> list[Upsert | InvalidInputError]:
    """Return what to write for each message, or why it is rejected. If two messages share an id, both are."""
    counts = Counter(message.id for message in messages)
    upserts: list[Upsert | InvalidInputError] = []
    for index, message in enumerate(messages):
        try:
            if counts[message.id] > 1:
                raise InvalidInputError("id", f"{message.id[:40]!r} stands twice in this call", fix="send it once")
            upserts.append(Upsert(article_from(message, now_ms), keep_rules=not message.HasField("rules")))
        except InvalidInputError as error:
            upserts.append(error.under(f"articles[{index}]"))
    return upserts


def article_from(message: common_pb.Article, now_ms: int) -> Article:
    """Return a valid Article. Raises InvalidInputError with the field's path inside the message."""
    if not message.HasField("published_at"):
        raise InvalidInputError("published_at", "is missing", fix="send when the article became public")
    return make_article(
        id=message.id,
        url=message.url,
        title=message.title,
        summary=message.summary,
        paragraphs=paragraphs_from(message.paragraphs),
        published_at_ms=time_from(message.published_at, "published_at"),
        now_ms=now_ms,
        labels=labels_from(message),
        image_url=message.image_url,
        rules=_rules_from(message.rules) if message.HasField("rules") else None,
    )


def labels_from(message: common_pb.Article | related_pb.Draft) -> Labels:
    """Return the labels as they were sent, not yet checked."""
    return Labels(message.site, message.section, tuple(message.tags), message.language, message.author)


def paragraphs_from(messages: Sequence[common_pb.Paragraph]) -> list[Paragraph]:
    """Return the paragraphs of a body."""
    if len(messages) > PARAGRAPHS_MAX:
        raise InvalidInputError("paragraphs", f"{len(messages)} paragraphs", fix=f"send at most {PARAGRAPHS_MAX}")
    return [Paragraph(m.text, _enum_value(_KINDS, m.kind, f"paragraphs[{i}].kind")) for i, m in enumerate(messages)]


def time_from(message: Timestamp, field: str) -> int:
    """Return milliseconds UTC. Raises InvalidInputError if the time is outside the years 1970 to 9999."""
    if not 0 <= message.seconds <= _TIME_MAX_S or not 0 <= message.nanos < 1_000_000_000:
        raise InvalidInputError(field, "is not a time between 1970 and 9999", fix="send seconds since 1970, UTC")
    return message.seconds * 1000 + message.nanos // 1_000_000


def as_of_from(request: TimedRequest, now_ms: int) -> int:
    """Return the time whose public articles an answer is made of: the request's, or now."""
    return time_from(request.as_of, "as_of") if request.HasField("as_of") else now_ms


def scope_from(message: common_pb.Filters) -> Scope:
    """Return the request's scope; a "*" among languages or sites selects all of them."""
    if not message.ByteSize():
        return Scope()
    from_ms, before_ms = _bound(message, "published_from"), _bound(message, "published_before")
    if _has(message, "published_before") and before_ms <= from_ms:
        raise InvalidInputError(
            "filters.published_before", "lets nothing pass", fix="send a time after published_from and after 1970"
        )
    return Scope(
        sections=_labels(message.sections, "filters.sections"),
        tags=_labels(message.tags, "filters.tags"),
        languages=_languages(_labels_or_every(message.languages, "filters.languages"), "filters.languages"),
        sites=_labels_or_every(message.sites, "filters.sites"),
        published_from_ms=from_ms,
        published_before_ms=before_ms,
    )


def layout_from(message: related_pb.Layout) -> Layout:
    """Return the layout of a request. Raises InvalidInputError naming the first field that is out of range."""
    if len(message.slots) > SLOTS_MAX:
        raise InvalidInputError("layout.slots", f"{len(message.slots)} slots", fix=f"send at most {SLOTS_MAX}")
    values = {"name": message.name, "slots": [_slot_values(slot, i) for i, slot in enumerate(message.slots)]}
    try:
        return Layout.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        names = [part if isinstance(part, int) else part.removesuffix("_days") for part in first["loc"]]
        path = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)
        problem = first["msg"].removeprefix("Value error, ")
        raise InvalidInputError(f"layout{path}", problem, fix="see Layout in the contract") from None


def _slot_values(message: related_pb.Slot, index: int) -> dict[str, object]:
    path = f"layout.slots[{index}]"
    values: dict[str, object] = {
        "name": message.name,
        "placement": _enum_value(_PLACEMENTS, message.placement, f"{path}.placement"),
        "count": message.count,
        "fallback": _enum_value(_FALLBACKS, message.fallback, f"{path}.fallback"),
        "filters": {
            name: list(_limited(getattr(message.filters, name), f"{path}.filters.{name}"))
            for name in ("sections", "tags", "languages", "sites")
        },
    }
    for name in ("published_from", "published_before"):
        if message.filters.HasField(name):
            raise InvalidInputError(
                f"{path}.filters.{name}", "is not for slots", fix="use max_age, or the request's filters"
            )
    optional = (
        "min_score",
        "diversity",
        "first_after_text_paragraphs",
        "spacing_text_paragraphs",
        "min_text_paragraphs",
    )
    values |= {name: getattr(message, name) for name in optional if _has(message, name)}
    for name in ("max_age", "freshness_half_life"):
        if _has(message, name):
            values[f"{name}_days"] = _days(getattr(message, name))
    return values


def _days(message: Duration) -> float:
    return (message.seconds + message.nanos / 1e9) / _DAY_S


def _limited(values: Sequence[str], field: str) -> Sequence[str]:
    if len(values) > LABELS_MAX:
        raise InvalidInputError(field, f"{len(values)} values", fix=f"send at most {LABELS_MAX}")
    return values


def _labels(values: Sequence[str], field: str) -> frozenset[str] | None:
    return frozenset(clean_label(value, f"{field}[{i}]") for i, value in enumerate(_limited(values, field))) or None


def _labels_or_every(values: Sequence[str], field: str) -> frozenset[str] | None:
    labels = _labels(values, field)
    return EVERY if labels and labels >= EVERY else labels


def _languages(labels: frozenset[str] | None, field: str) -> frozenset[str] | None:
    if labels is None or labels == EVERY:
        return labels
    try:
        return frozenset(make_language(label) for label in labels)
    except InvalidInputError as error:
        raise InvalidInputError(field, error.problem, fix=error.fix) from None


def _bound(message: common_pb.Filters, name: str) -> int:
    return time_from(getattr(message, name), f"filters.{name}") if _has(message, name) else 0


def _has(message: Message, field: str) -> bool:
    """Return whether a field is set; for names that the type checker cannot see."""
    return message.HasField(field)


def _rules_from(message: common_pb.Rules) -> Rules:
    embargo = message.HasField("embargo_until")
    return Rules(
        never_source=message.never_source,
        never_target=message.never_target,
        never_with=tuple(message.never_with),
        embargo_until_ms=time_from(message.embargo_until, "rules.embargo_until") if embargo else 0,
        evergreen=message.evergreen,
    )


def _enum_value(table: dict[int, V], value: int, field: str) -> V:
    try:
        return table[value]
    except KeyError:
        raise InvalidInputError(field, f"has the unknown value {value}", fix="see the enum in the contract") from None


# To messages


def timestamp(ms: int) -> Timestamp:
    """Return milliseconds UTC as a Timestamp."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def duration(ms: int) -> Duration:
    """Return milliseconds as a Duration."""
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def article_to(article: Article) -> common_pb.Article:
    """Return a stored article as a message."""
    rules = article.rules
    message = common_pb.Article(
        id=article.id,
        url=article.url,
        title=article.title,
        summary=article.summary,
        paragraphs=[common_pb.Paragraph(text=p.text, kind=kind_to(p.kind)) for p in article.paragraphs],
        published_at=timestamp(article.published_at_ms),
        site=article.labels.site,
        section=article.labels.section,
        tags=article.labels.tags,
        language=article.labels.language,
        author=article.labels.author,
        image_url=article.image_url,
        rules=common_pb.Rules(
            never_source=rules.never_source,
            never_target=rules.never_target,
            never_with=rules.never_with,
            evergreen=rules.evergreen,
        ),
    )
    if rules.embargo_until_ms:
        message.rules.embargo_until.CopyFrom(timestamp(rules.embargo_until_ms))
    return message


def plan_to(plan: PagePlan, warnings: list[str]) -> related_pb.PagePlan:
    """Return a page plan as a message."""
    return related_pb.PagePlan(
        slots=[
            related_pb.FilledSlot(
                name=filled.name,
                placement=_PLACEMENT_VALUES[filled.slot.placement.value],
                places=map(_place_to, filled.places),
            )
            for filled in plan.slots
        ],
        receipt=_receipt_to(plan.receipt, warnings),
    )


def list_to(related: RelatedList, warnings: list[str]) -> related_pb.ListRelatedResponse:
    """Return a flat list as a message."""
    return related_pb.ListRelatedResponse(
        recommendations=map(_recommendation_to, related.recommendations),
        receipt=_receipt_to(related.receipt, warnings),
    )


def affected_to(affected: Affected) -> articles_pb.WatchAffectedPagesResponse:
    """Return a change and the pages that it affects as a message."""
    return articles_pb.WatchAffectedPagesResponse(
        revision=affected.revision,
        article_id=affected.article_id,
        withdrawn=affected.withdrawn,
        page_ids=affected.page_ids,
    )


def upsert_to(article_id: str, outcome: Outcome) -> articles_pb.UpsertResult:
    """Return what a write did to an article as a message."""
    is_unchanged = outcome is Outcome.UNCHANGED
    value = articles_pb.UPSERT_OUTCOME_UNCHANGED if is_unchanged else articles_pb.UPSERT_OUTCOME_ACCEPTED
    return articles_pb.UpsertResult(id=article_id, outcome=value)


def refusal_to(article_id: str, problem: common_pb.Problem) -> articles_pb.UpsertResult:
    """Return why an article was not written as a message."""
    return articles_pb.UpsertResult(id=article_id, outcome=articles_pb.UPSERT_OUTCOME_REFUSED, problem=problem)


def kind_to(kind: ParagraphKind) -> common_pb.ParagraphKind.ValueType:
    """Return a paragraph's kind as its enum value."""
    return common_pb.ParagraphKind.Value(f"PARAGRAPH_KIND_{kind.name}")


def _place_to(place: Place) -> related_pb.Place:
    if place.recommendation is None:
        assert place.empty is not None
        return related_pb.Place(empty_reason=_EMPTY_VALUES[place.empty])
    return related_pb.Place(
        after_paragraph=place.after_paragraph, recommendation=_recommendation_to(place.recommendation)
    )


def _recommendation_to(recommendation: Recommendation) -> related_pb.Recommendation:
    article = recommendation.article
    return related_pb.Recommendation(
        article=common_pb.ArticleCard(
            id=article.id,
            url=article.url,
            title=article.title,
            summary=article.summary,
            published_at=timestamp(recommendation.published_at_ms),
            section=article.labels.section,
            site=article.labels.site,
            image_url=article.image_url,
        ),
        score=recommendation.score,
        score_parts=[
            related_pb.ScorePart(name=part.name, value=part.value, contribution=part.contribution)
            for part in recommendation.parts
        ],
        reason=recommendation.reason,
        fallback=recommendation.fallback,
    )


def _receipt_to(receipt: Receipt, warnings: list[str]) -> related_pb.Receipt:
    return related_pb.Receipt(
        revision=receipt.revision,
        model=receipt.encoder,
        layout=receipt.layout,
        ranker=receipt.ranker,
        as_of=timestamp(receipt.as_of_ms),
        candidates_seen=receipt.candidates_seen,
        removals=[related_pb.RuleRemoval(rule=rule, count=count) for rule, count in receipt.removals.items()],
        warnings=warnings,
    )
