"""The calls that are measured, by their names in results."""

from __future__ import annotations

EMPTY = "empty"
"""The health check."""
FILL = "fill_slots by id"
"""A page that was not asked for before."""
AGAIN = "fill_slots by id, again"
"""One of a few pages that are asked for again and again, like front pages."""
DRAFT = "fill_slots by draft"
"""A page that is not stored."""
LIST = "list_related by id"
"""A list of related articles."""
ENCODING = "encoding alone"
"""No call, but encoding the texts of a draft without a service."""
METHODS = {
    EMPTY: "/grpc.health.v1.Health/Check",
    FILL: "/related_news.v1.RelatedNewsService/FillSlots",
    AGAIN: "/related_news.v1.RelatedNewsService/FillSlots",
    DRAFT: "/related_news.v1.RelatedNewsService/FillSlots",
    LIST: "/related_news.v1.RelatedNewsService/ListRelated",
}
"""gRPC method of each call."""
