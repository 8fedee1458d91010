"""From texts to vectors by the text recipe: the one way for drafts, upserts and jobs."""

from __future__ import annotations

from collections.abc import Sequence

from recommender.catalog.articles import Article, Body
from recommender.catalog.derived import Vectors
from recommender.embedding import Embedder
from recommender.recipe import combine, select_texts


def embed(texts: Sequence[Article | Body], embedder: Embedder) -> list[Vectors]:
    """Embed many texts in one call of the encoder; the result is in the order of `texts`."""
    selected = [select_texts(text) for text in texts]
    encoded = embedder.encode([text for one in selected for text in one.all()])
    vectors, at = [], 0
    for one in selected:
        count = len(one.all())
        vectors.append(combine(one, encoded[at : at + count]))
        at += count
    return vectors
