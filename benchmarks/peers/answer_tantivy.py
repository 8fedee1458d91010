"""tantivy, a Lucene-like engine: its more-like-this over title, summary and body, under filters that do not score."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

import tantivy

from benchmarks.peers.answer import Question
from benchmarks.peers.peer import Setting, Vector
from recommender.catalog.articles import Article

MAX_QUERY_TERMS = 100
"""Terms of the article that are searched, at most.

More are more accurate and slower, by the documentation of Lucene and Elasticsearch. With the two constants below
nDCG@10 on gov-blogs is .402; with the defaults (25, 5, 2) it is .320.
"""
MIN_DOC_FREQUENCY = 2
"""Articles that a searched term must be in, at least."""
MIN_TERM_FREQUENCY = 1
"""Times that a searched term must be in the article, at least."""
_HEAP_BYTES = 256_000_000
"""Memory of the index writer."""


class Peer:
    """An index on disk, one segment after the build."""

    name = "tantivy more-like-this"
    version = importlib.metadata.version("tantivy")
    limits = "words only; freshness does not count; no near-copy suppression, no explanation"
    server_pid: int | None = None

    def build(self, articles: Iterable[tuple[Article, Vector]], folder: Path) -> None:
        """Index texts with the English stemmer; vectors are ignored."""
        self._schema = _schema()
        self._index = tantivy.Index(self._schema, path=str(folder))
        writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        self._ids: list[str] = []
        for article, _ in articles:
            writer.add_document(_document(article, len(self._ids)))
            self._ids.append(article.id)
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    def related(self, question: Question, k: int) -> list[str]:
        """Find the article, and search its heaviest terms under the filters."""
        itself = tantivy.Query.term_query(self._schema, "id", question.article_id)
        address = self._searcher.search(itself, 1).hits[0][1]
        like = tantivy.Query.more_like_this_query(
            address,
            min_doc_frequency=MIN_DOC_FREQUENCY,
            min_term_frequency=MIN_TERM_FREQUENCY,
            max_query_terms=MAX_QUERY_TERMS,
        )
        must, without = tantivy.Occur.Must, tantivy.Occur.MustNot
        filters = [(must, tantivy.Query.const_score_query(passing, 0.0)) for passing in self._filters(question)]
        query = tantivy.Query.boolean_query([(must, like), (without, itself), *filters])
        found = [address for _, address in self._searcher.search(query, k, count=False).hits]
        return [self._ids[row] for row in self._searcher.fast_field_values("row", found)]

    def _filters(self, question: Question) -> list[tantivy.Query]:
        public = tantivy.Query.range_query(
            self._schema, "published_at_ms", tantivy.FieldType.Integer, upper_bound=question.as_of_ms
        )
        return [public, *(tantivy.Query.term_query(self._schema, *label) for label in question.labels().items())]

    def settings(self) -> dict[str, Setting]:
        """Return how terms are chosen."""
        return {
            "tokenizer": "en_stem",
            "max_query_terms": MAX_QUERY_TERMS,
            "min_doc_frequency": MIN_DOC_FREQUENCY,
            "min_term_frequency": MIN_TERM_FREQUENCY,
            "threads": 1,
        }

    def close(self) -> None:
        """Do nothing: nothing was started."""


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in ("title", "summary", "body"):
        builder.add_text_field(name, stored=True, tokenizer_name="en_stem")  # more-like-this reads what is stored
    for name in ("id", "language", "site", "section"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("published_at_ms", indexed=True, fast=True)
    builder.add_unsigned_field("row", fast=True)
    return builder.build()


def _document(article: Article, row: int) -> tantivy.Document:
    body = "\n".join(p.text for p in article.paragraphs)
    document = tantivy.Document(id=article.id, title=article.title, summary=article.summary, body=body)
    labels = article.labels
    for name, value in (("language", labels.language), ("site", labels.site), ("section", labels.section)):
        document.add_text(name, value)
    document.add_integer("published_at_ms", article.published_at_ms)
    document.add_unsigned("row", row)
    return document
