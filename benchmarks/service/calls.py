"""The calls that are measured, by their names in results."""

from __future__ import annotations

EMPTY, FILL, DRAFT, LIST = "empty", "fill_slots by id", "fill_slots by draft", "list_related by id"
AGAIN = "fill_slots by id, again"
"""Of the same few pages over and over, as front pages are asked for; FILL is every time of another."""
ENCODING = "encoding alone"
"""No call: encoding a draft's texts, without a service."""
METHODS = {
    EMPTY: "/grpc.health.v1.Health/Check",
    FILL: "/related_news.v1.RelatedNewsService/FillSlots",
    AGAIN: "/related_news.v1.RelatedNewsService/FillSlots",
    DRAFT: "/related_news.v1.RelatedNewsService/FillSlots",
    LIST: "/related_news.v1.RelatedNewsService/ListRelated",
}
