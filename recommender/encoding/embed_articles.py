"""Articles and drafts to vectors, by the text recipe: the one way for drafts, upserts and indexing jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from recommender.catalog.articles import Article, Body
from recommender.catalog.text.derived import Vectors
from recommender.encoding.embedder import Embedder, Encoder, Matrix
from recommender.encoding.text_recipe import Texts, combine, select_texts
from recommender.errors import DeadlineError


def embed(texts: Sequence[Article | Body], embedder: Embedder) -> list[Vectors]:
    """Embed many texts in one call of the embedder; the result is in the order of `texts`."""
    selected = [select_texts(text) for text in texts]
    return _combine_each(selected, embedder.encode(_flat(selected)))


async def embed_by(
    texts: Sequence[Article | Body], encoder: Encoder, *, urgent: bool, timeout_s: float | None = None
) -> list[Vectors]:
    """Embed many texts without blocking the event loop; the result is in the order of `texts`.

    timeout_s: of the whole call; None leaves the encoder's own limit. Raises DeadlineError after it.
    """
    selected = [select_texts(text) for text in texts]
    try:
        async with asyncio.timeout(timeout_s):
            encoded = await encoder.encode(_flat(selected), urgent=urgent)
    except TimeoutError:
        raise DeadlineError("the text could not be encoded in time", fix="allow more time") from None
    return _combine_each(selected, encoded)


def _flat(selected: Sequence[Texts]) -> list[str]:
    return [text for texts in selected for text in texts.all()]


def _combine_each(selected: Sequence[Texts], encoded: Matrix) -> list[Vectors]:
    vectors, at = [], 0
    for texts in selected:
        count = len(texts.all())
        vectors.append(combine(texts, encoded[at : at + count]))
        at += count
    return vectors
