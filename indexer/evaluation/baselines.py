"""Baselines: cosine of embeddings, TF-IDF over full texts, the most recent in the section.

Each ranks what was public at the page's own time, over the whole archive; cosine as the vector index searches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from indexer.evaluation.links import GoldPage
from indexer.evaluation.metrics import CUTOFF
from recommender.catalog.live import Live
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.store.store import Store

Baseline = Callable[[GoldPage], list[str]]
"""Returns the ids of the CUTOFF best for a page, best first, the page itself left out."""

_BATCH_ARTICLES = 1_000
"""Articles that are read from the store at once."""
EVERYTHING = Scope()
"""Every article."""


def cosine(live: Live) -> Baseline:
    """Rank by the cosine of the vectors that the index is searched by."""

    def rank(page: GoldPage) -> list[str]:
        query = live.main_vectors(np.array([page.row]))[0]
        return _ids(live, live.search(query, CUTOFF + 1, 0, page.published_at_ms, EVERYTHING).rows.tolist(), page)

    return rank


def recent(live: Live) -> Baseline:
    """Rank the latest of the page's section first; of the whole archive if the page has no section."""

    def rank(page: GoldPage) -> list[str]:
        section = live.record(page.row).labels.section
        scope = Scope(sections=frozenset({section})) if section else EVERYTHING
        return _ids(live, live.latest(scope, CUTOFF + 1, page.published_at_ms).tolist(), page)

    return rank


def lexical(live: Live, store: Store) -> Baseline:
    """Rank by TF-IDF cosine of title, summary and body: scikit-learn's vectoriser, English stop words, log counts."""
    rows = live.rows().tolist()
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", dtype=np.float32)
    matrix = vectorizer.fit_transform(_texts(live, store, rows))
    postings = matrix.T.tocsr()
    position_of = {row: position for position, row in enumerate(rows)}
    public_at_ms = np.array([live.public_at_ms(row) for row in rows])

    def rank(page: GoldPage) -> list[str]:
        scores = (matrix[position_of[page.row]] @ postings).toarray().ravel()
        scores[public_at_ms > page.published_at_ms] = -1
        best = np.argsort(-scores, kind="stable")[: CUTOFF + 1]
        return _ids(live, [rows[position] for position in best.tolist() if scores[position] > 0], page)

    return rank


def _ids(live: Live, rows: list[int], page: GoldPage) -> list[str]:
    return [live.record(row).id for row in rows if row != page.row][:CUTOFF]


def _texts(live: Live, store: Store, rows: list[int]) -> Iterator[str]:
    for start in range(0, len(rows), _BATCH_ARTICLES):
        ids = [live.record(row).id for row in rows[start : start + _BATCH_ARTICLES]]
        articles = store.get_many(ids)
        for article_id in ids:
            article = articles[article_id]
            yield "\n".join((article.title, article.summary, *(p.text for p in article.paragraphs)))
