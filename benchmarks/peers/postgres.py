"""Postgres with pgvector: a real server, called over its Unix socket.

Tuned by pgvector's README: halfvec with HNSW, the graph built in maintenance_work_mem by parallel workers after a
binary COPY, iterative scans for filters with the result ordered by a materialised query, B-trees on the filtered
columns, VACUUM ANALYZE, prepared statements in binary.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector

from benchmarks.peers.peer import Columns, Filter, Half, Rows, Setting, Vector
from benchmarks.peers.server import SERVER_SETTINGS, conditions, copy_rows, start

M = 32
"""Links of a node of the graph."""
EF_CONSTRUCTION = 200
"""Candidates for a node's links while the graph is built."""
_SESSION = {
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.max_scan_tuples": "200000",
    "plan_cache_mode": "force_custom_plan",
}
"""Settings of the session that differ from the defaults."""
_TABLE = """CREATE TABLE articles (id int8 PRIMARY KEY, published_at_ms int8, section int4, site int4,
embedding halfvec({d}))"""
"""Statement that makes the table."""
_INDEXES = (
    "CREATE INDEX ON articles USING hnsw (embedding halfvec_ip_ops) WITH (m = {m}, ef_construction = {ef})",
    "CREATE INDEX ON articles (published_at_ms)",
    "CREATE INDEX ON articles (section)",
    "CREATE INDEX ON articles (site)",
    "VACUUM ANALYZE articles",
)
"""Statements after the rows are copied."""


class Peer:
    """One table in a server of its own."""

    name = "pgvector"
    efforts: tuple[int, ...] = (100, 125, 150, 175, 200, 250, 300, 400, 500, 800)
    filters = True
    rows_max = 1_000_000
    server_pid: int | None = None
    limits = "a server process of its own, on a core of its own; one backend, no parallel query"

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Start a server, copy the rows, index them."""
        self._server = start(folder)
        self._connection = psycopg.connect(self._server.get_uri(), autocommit=True)
        self.server_pid = self._connection.info.backend_pid
        self._connection.execute("CREATE EXTENSION vector")
        register_vector(self._connection)
        self._connection.execute(_TABLE.format(d=vectors.shape[1]))
        copy_rows(self._connection, vectors, columns)
        for statement in _INDEXES:
            self._connection.execute(statement.format(m=M, ef=EF_CONSTRUCTION))
        for name, value in _SESSION.items():
            self._connection.execute(f"SET {name} = '{value}'")
        self.version = str(self._one("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))

    def _one(self, query: str) -> object:
        row = self._connection.execute(query).fetchone()
        return row[0] if row else None

    def set_effort(self, effort: int) -> None:
        """Set ef_search."""
        self._connection.execute(f"SET hnsw.ef_search = {effort}")

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Run one prepared statement; the planner chooses between the graph and the B-trees."""
        condition, values = conditions(wanted)
        statement = f"""WITH nearest AS MATERIALIZED (SELECT id, embedding <#> %s AS distance FROM articles {condition}
            ORDER BY distance LIMIT {k}) SELECT id FROM nearest ORDER BY distance + 0"""
        cursor = self._connection.execute(statement, (HalfVector(query), *values), prepare=True, binary=True)
        return np.array([row[0] for row in cursor.fetchall()], np.int64)

    def disk_bytes(self) -> int:
        """Return the size of table and indexes, without the server's log."""
        return int(str(self._one("SELECT pg_total_relation_size('articles')")))

    def settings(self) -> dict[str, Setting]:
        """Return the settings of server, session and index."""
        return {
            "postgres": str(self._one("SHOW server_version")),
            "m": M,
            "ef_construction": EF_CONSTRUCTION,
            **SERVER_SETTINGS,
            **_SESSION,
        }

    def close(self) -> None:
        """Stop the server that was started here."""
        self._connection.close()
        self._server.stop()
