"""LanceDB: an embedded table on disk.

Tuned by docs.lancedb.com/indexing/vector-index: IVF_HNSW_SQ for the best recall at low latency, one partition for each
1,048,576 rows, nprobes left alone, ef from 1.5 k to 10 k, refine_factor against the quantiser's loss; scalar indexes on
the filtered columns, prefilter.
"""

from __future__ import annotations

from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa

from benchmarks.peers.peer import Columns, Filter, Half, Rows, Setting, Vector, folder_bytes, where

_BATCH = 50_000
"""Rows written at once."""
_PARTITION_ROWS = 1_048_576
"""Rows that get a partition of their own, by LanceDB's documentation."""
_REFINE = 2
"""refine_factor: candidates compared with full vectors, as a multiple of k."""


class Peer:
    """An embedded table on disk."""

    name = "lancedb"
    version = str(lancedb.__version__)
    efforts: tuple[int, ...] = (150, 250, 500, 1_000)
    filters = True
    rows_max = 1_000_000
    server_pid: int | None = None
    limits = "threads are bounded by the process's cores only"

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Write the table, then index vectors and columns."""
        self._folder = folder
        batches = (_batch(vectors, columns, start) for start in range(0, len(vectors), _BATCH))
        schema = _batch(vectors[:1], columns, 0).schema
        self._table = lancedb.connect(folder).create_table("articles", batches, schema=schema)
        self._partitions = max(1, len(vectors) // _PARTITION_ROWS)
        self._table.create_index(
            metric="dot", index_type="IVF_HNSW_SQ", num_partitions=self._partitions, m=20, ef_construction=300
        )
        self._table.create_scalar_index("published_at_ms", index_type="BTREE")
        self._table.create_scalar_index("section", index_type="BITMAP")
        self._table.create_scalar_index("site", index_type="BITMAP")
        self._effort = self.efforts[0]

    def set_effort(self, effort: int) -> None:
        """Set ef."""
        self._effort = effort

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Search the graphs, then re-rank the best by full vectors."""
        ef = max(self._effort, k * _REFINE)  # it refuses a lower one
        search = self._table.search(query).limit(k).ef(ef).refine_factor(_REFINE).select(["id"])
        if condition := where(wanted):
            search = search.where(condition, prefilter=True)
        return np.asarray(search.to_arrow()["id"]).astype(np.int64)

    def disk_bytes(self) -> int:
        """Return the size of all files."""
        return folder_bytes(self._folder)

    def settings(self) -> dict[str, Setting]:
        """Return how the table was indexed."""
        return {
            "index": "IVF_HNSW_SQ",
            "num_partitions": self._partitions,
            "m": 20,
            "ef_construction": 300,
            "refine_factor": _REFINE,
            "scalar_indexes": "BTREE published_at_ms, BITMAP section, BITMAP site",
            "threads": "not settable for one search",
        }

    def close(self) -> None:
        """Do nothing: nothing was started."""


def _batch(vectors: Half, columns: Columns, start: int) -> pa.RecordBatch:
    part = vectors[start : start + _BATCH].astype(np.float32)
    rows = slice(start, start + len(part))
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(np.arange(start, start + len(part))),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1]),
            "published_at_ms": pa.array(columns.published_at_ms[rows]),
            "section": pa.array(columns.section[rows]),
            "site": pa.array(columns.site[rows]),
        }
    )
