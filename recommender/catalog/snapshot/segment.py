"""What the live view reads of its two segments, the snapshot and the tail, alike."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import Columns, Tags
from recommender.catalog.snapshot.record import Record
from recommender.catalog.text.near_copies import Sketch
from recommender.catalog.text.terms import Packed
from recommender.catalog.vectors.index import Rows
from recommender.catalog.vectors.scalar_codes import Vector


class Segment(Protocol):
    """A searchable set of rows. Attributes are of all rows, dead ones included, and read-only for its users."""

    columns: Columns
    tags: Tags
    signatures: Packed
    """uint32 (rows, SIGNATURE_TERMS)."""
    sketches: Sketch
    """uint8 (rows, SKETCH_SIZE)."""
    id_hashes: npt.NDArray[np.uint64]
    """uint64 (rows,): `id_hash` of each row's id."""

    def record(self, row: int) -> Record:
        """Read one record."""
        ...

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        ...

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        ...

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        ...

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): cosines of the rows' head vectors with `head`."""
        ...
