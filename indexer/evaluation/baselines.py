"""What relevance is compared with: cosine of embeddings, TF-IDF over full texts, the most recent in the section.

Each ranks what was public at the page's own time, over the whole archive, exactly or as the vector index finds it.
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

EVERYTHING = Scope()


def cosine(live: Live) -> Baseline:
    """Rank by the cosine of the vectors that the index is searched by."""

    def ranked(page: GoldPage) -> list[str]:
        query = live.main_vectors(np.array([page.row]))[0]
        return _ids(live, live.search(query, CUTOFF + 1, 0, page.published_at_ms, EVERYTHING).rows.tolist(), page)

    return ranked


def recent(live: Live) -> Baseline:
    """Rank the latest of the page's section first; of the whole archive where the page has no section."""

    def ranked(page: GoldPage) -> list[str]:
        section = live.record(page.row).labels.section
        scope = Scope(sections=frozenset({section})) if section else EVERYTHING
        return _ids(live, live.latest(scope, CUTOFF + 1, page.published_at_ms).tolist(), page)

    return ranked


def lexical(live: Live, store: Store) -> Baseline:
    """Rank by TF-IDF cosine of title, summary and body: scikit-learn's vectoriser, English stop words, log counts."""
    rows = live.rows().tolist()
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", dtype=np.float32)
    matrix = vectorizer.fit_transform(_texts(live, store, rows))
    postings = matrix.T.tocsr()
    place_of = {row: place for place, row in enumerate(rows)}
    public_at_ms = np.array([live.public_at_ms(row) for row in rows])

    def ranked(page: GoldPage) -> list[str]:
        scores = (matrix[place_of[page.row]] @ postings).toarray().ravel()
        scores[public_at_ms > page.published_at_ms] = -1
        best = np.argsort(-scores, kind="stable")[: CUTOFF + 1]
        return _ids(live, [rows[place] for place in best.tolist() if scores[place] > 0], page)

    return ranked


def _ids(live: Live, rows: list[int], page: GoldPage) -> list[str]:
    return [live.record(row).id for row in rows if row != page.row][:CUTOFF]


def _texts(live: Live, store: Store, rows: list[int]) -> Iterator[str]:
    size = 1_000
    for start in range(0, len(rows), size):
        ids = [live.record(row).id for row in rows[start : start + size]]
        articles = store.get_many(ids)
        for article_id in ids:
            article = articles[article_id]
            yield "\n".join((article.title, article.summary, *(p.text for p in article.paragraphs)))
