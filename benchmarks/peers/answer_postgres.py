"""Postgres with pgvector: the 100 nearest that pass SQL filters, ordered by cosine and age, in one statement."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector

from benchmarks.peers.answer import Question
from benchmarks.peers.peer import Setting, Vector
from benchmarks.peers.server import SERVER_SETTINGS, start
from recommender.catalog.articles import Article
from recommender.clock import DAY_MS

CANDIDATES = 100
"""Nearest articles that are ordered by cosine and age."""
EF_SEARCH = 200
"""Effort of the graph's search."""
HALF_LIFE_DAYS = 365
"""Age at which the bonus for freshness is half of FRESHNESS_WEIGHT."""
FRESHNESS_WEIGHT = 0.2
"""Bonus of a new article, added to its cosine.

With HALF_LIFE_DAYS the best of six pairs on gov-blogs: nDCG@10 .457; without freshness .417.
"""
_SESSION = {
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.ef_search": str(EF_SEARCH),
    "plan_cache_mode": "force_custom_plan",
}
"""Settings of the session that differ from the defaults."""
_TABLE = """CREATE TABLE archive (id text PRIMARY KEY, published_at_ms int8, language text, site text, section text,
embedding halfvec({d}))"""
"""Statement that makes the table."""
_INDEXES = (
    "CREATE INDEX ON archive USING hnsw (embedding halfvec_ip_ops) WITH (m = 16, ef_construction = 128)",
    "CREATE INDEX ON archive (published_at_ms)",
    "CREATE INDEX ON archive (site, section, published_at_ms)",
    "VACUUM ANALYZE archive",
)
"""Statements after the rows are copied."""
_RELATED = """WITH nearest AS MATERIALIZED (
  SELECT id, published_at_ms, embedding <#> (SELECT embedding FROM archive WHERE id = %(id)s) AS distance
  FROM archive WHERE published_at_ms <= %(as_of_ms)s AND id <> %(id)s {labels} ORDER BY distance LIMIT {candidates})
SELECT id FROM nearest
ORDER BY distance - {weight} * power(0.5, (%(as_of_ms)s - published_at_ms) / {half_life_ms}) LIMIT %(k)s"""
"""Statement that answers a question."""


class Peer:
    """One table in a server of its own."""

    name = "pgvector with date decay"
    limits = "no wording, no near-copy suppression, no explanation"
    server_pid: int | None = None

    def build(self, articles: Iterable[tuple[Article, Vector]], folder: Path) -> None:
        """Start a server, copy the rows, index them."""
        self._server = start(folder)
        self._connection = psycopg.connect(self._server.get_uri(), autocommit=True)
        self.server_pid = self._connection.info.backend_pid
        self._connection.execute("CREATE EXTENSION vector")
        register_vector(self._connection)
        self._copy(articles)
        for statement in _INDEXES:
            self._connection.execute(statement)
        for name, value in _SESSION.items():
            self._connection.execute(f"SET {name} = '{value}'")
        row = self._connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        self.version = str(row[0])

    def _copy(self, articles: Iterable[tuple[Article, Vector]]) -> None:
        rows = iter(articles)
        first = next(rows)
        self._connection.execute(_TABLE.format(d=len(first[1])))
        with self._connection.cursor().copy("COPY archive FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["text", "int8", "text", "text", "text", "halfvec"])
            for article, vector in (first, *rows):
                labels = (article.labels.language, article.labels.site, article.labels.section)
                copy.write_row((article.id, article.published_at_ms, *labels, HalfVector(vector)))

    def related(self, question: Question, k: int) -> list[str]:
        """Run one prepared statement."""
        labels = question.labels()
        statement = _RELATED.format(
            labels=" ".join(f"AND {name} = %({name})s" for name in labels),
            candidates=CANDIDATES,
            weight=FRESHNESS_WEIGHT,
            half_life_ms=HALF_LIFE_DAYS * DAY_MS,
        )
        values = {"id": question.article_id, "as_of_ms": question.as_of_ms, "k": k, **labels}
        return [row[0] for row in self._connection.execute(statement, values, prepare=True).fetchall()]

    def settings(self) -> dict[str, Setting]:
        """Return the settings of server and session, and the formula."""
        formula = f"cosine + {FRESHNESS_WEIGHT} * 0.5 ** (age / {HALF_LIFE_DAYS} days)"
        return {"candidates": CANDIDATES, "score": formula, **SERVER_SETTINGS, **_SESSION}

    def close(self) -> None:
        """Stop the server that was started here."""
        self._connection.close()
        self._server.stop()
