"""What a snapshot and the tail have in common."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import Columns, Tags
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.text.near_copies import Sketch
from recommender.catalog.text.terms import Packed
from recommender.catalog.vectors.index import Hits, Rows
from recommender.catalog.vectors.scalar_codes import Vector


class Segment(Protocol):
    """A searchable set of rows; the snapshot is one, the tail another."""

    @property
    def rows(self) -> int:
        """Number of rows, dead ones included."""
        ...

    @property
    def columns(self) -> Columns:
        """The columns of all rows."""
        ...

    @property
    def tags(self) -> Tags:
        """The tags of all rows."""
        ...

    @property
    def signatures(self) -> Packed:
        """Return uint32 (rows, SIGNATURE_TERMS)."""
        ...

    @property
    def sketches(self) -> Sketch:
        """Return uint8 (rows, SKETCH_SIZE)."""
        ...

    @property
    def id_hashes(self) -> npt.NDArray[np.uint64]:
        """Return uint64 (rows,): `id_hash` of the rows' ids."""
        ...

    def find(self, article_id: str) -> int | None:
        """Return the row of an article."""
        ...

    def record(self, row: int) -> Record:
        """Read one record."""
        ...

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        ...

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): inner products of the rows' head vectors with `head`."""
        ...

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        ...

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        ...

    def search(self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope) -> Hits:
        """Return the k best living rows in `scope` that became public in [from_ms, until_ms]."""
        ...
