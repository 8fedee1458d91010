"""An opened snapshot: an immutable, memory-mapped image of the store at one revision. writer.py writes snapshots.

Rows are sorted by (public_at_ms, id), oldest first. A snapshot is a folder of plain NumPy files, the records, and a
manifest. Processes share the mapped pages; each has an index of product codes of its own, 60 bytes a row.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from bisect import bisect_left
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import Columns, Tags, id_hash
from recommender.catalog.snapshot.manifest import FIX, Manifest
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.scoped_search import ScopedIndex, time_range
from recommender.catalog.text.near_copies import Sketch
from recommender.catalog.text.terms import Packed, Weights
from recommender.catalog.vectors.index import Rows, Vectors4Bit, Vectors8Bit
from recommender.catalog.vectors.product_codes import ProductCodes, Quantizers
from recommender.catalog.vectors.scalar_codes import Vector, dequantise_8bit
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from recommender.errors import CorruptError

RECORDS = "records.bin"
"""Name of the file of records."""
_LABELS_CACHED_MAX = 10_000
"""Labels whose number of rows is cached."""
_header_lock = threading.Lock()
"""Held while NumPy parses a file's header in Python, which can fail in two threads at once (cpython issue 106905)."""


def map_array(path: Path) -> npt.NDArray[Any]:
    """Map one array of a snapshot into memory; the array's base is the map, unless the array is empty."""
    with path.open("rb") as stream, _header_lock:
        np.lib.format.read_magic(stream)
        shape, _, kind = np.lib.format.read_array_header_2_0(stream)
        if 0 in shape:  # no bytes cannot be mapped
            return np.empty(shape, kind)
        return np.ndarray(shape, kind, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), stream.tell())


class Snapshot:
    """An open snapshot, a Segment. Not thread-safe: it caches the rows of recent scopes.

    Its attributes are read-only for its users:
    rows: number of rows.
    columns, tags, signatures, sketches, id_hashes: see Segment.
    mains: 8-bit codes of the main vectors, which are searched.
    heads: 4-bit codes of the head vectors, which are compared.
    compressed: product codes of the main vectors; None if the snapshot is too small to need them.
    index: searches the main vectors by scope and time.
    idf: float32 (TERM_BUCKETS,), the weights of the signatures' terms.
    """

    def __init__(self, folder: Path, *, verify: bool = True, costs: SearchCosts = MEASURED) -> None:
        """Map a snapshot. verify: also compare checksums, which reads every byte once. costs: of its searches.

        Raises CorruptError naming a file that is missing or damaged.
        """
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.manifest.check_files(folder, verify=verify)
        self.rows = self.manifest.rows
        self.columns = Columns(*(self._array(f"column_{f.name}") for f in fields(Columns)))
        self.tags = Tags(self._array("tag_offsets"), self._array("tag_codes"))
        self.signatures: Packed = self._array("signatures")
        self.sketches: Sketch = self._array("sketches")
        self.heads = Vectors4Bit(self._array("heads"), self.manifest.dimension)
        quantizers = Quantizers(self._array("centroids"), self._array("codebooks"))
        codes, lists = self._array("codes"), self._array("lists")
        self.compressed = ProductCodes(quantizers, codes, lists) if len(codes) else None
        self.mains = Vectors8Bit(self._array("mains"))
        self.index = ScopedIndex(self.mains, self.compressed, self.columns, self.tags, costs)
        if isinstance(codes.base, mmap.mmap):
            codes.base.madvise(mmap.MADV_DONTNEED)  # the index has a copy of them in its inverted lists
        self.id_hashes: npt.NDArray[np.uint64] = self._array("hashes")
        self._sorted_hashes = self._array("sorted_hashes")
        self._rows_by_hash = self._array("rows_by_hash")
        self._record_offsets = self._array("record_offsets")
        self._records = os.open(folder / RECORDS, os.O_RDONLY)
        weakref.finalize(self, os.close, self._records)
        self.idf: Weights = self._array("idf")
        self._label_counts: dict[tuple[str, int], int] = {}

    def _array(self, name: str) -> npt.NDArray[Any]:
        return map_array(self.folder / f"{name}.npy")

    def label_count(self, column: str, code: int) -> int:
        """Return the number of rows whose column of that name holds `code`."""
        count = self._label_counts.get((column, code))
        if count is None:
            count = int(np.count_nonzero(getattr(self.columns, column) == code))
            if len(self._label_counts) == _LABELS_CACHED_MAX:
                self._label_counts.clear()
            self._label_counts[column, code] = count
        return count

    def find(self, article_id: str) -> int | None:
        """Return the row of an article, or None."""
        wanted_hash = id_hash(article_id)
        at = int(np.searchsorted(self._sorted_hashes, wanted_hash))
        while at < self.rows and self._sorted_hashes[at] == wanted_hash:
            row = int(self._rows_by_hash[at])
            if Record.is_of(self._blob(row), article_id):
                return row
            at += 1
        return None

    def insertion_row(self, public_at_ms: int, article_id: str) -> int:
        """Return the row that keeps the order if an article with this key were inserted before it."""
        low, high = time_range(self.columns.public_at_ms, public_at_ms, public_at_ms)
        return low + bisect_left(range(high - low), article_id, key=lambda at: self.record(low + at).id)

    def records(self, low: int, high: int) -> tuple[npt.NDArray[np.int64], bytes]:
        """Return the serialised records of rows [low, high): the size of each in bytes, and all of them joined."""
        offsets = self._record_offsets[low : high + 1]
        return np.diff(offsets), self._read(int(offsets[0]), int(offsets[-1]))

    def record(self, row: int) -> Record:
        """Read one record."""
        return Record.from_bytes(self._blob(row))

    def _blob(self, row: int) -> bytes:
        return self._read(*self._record_offsets[row : row + 2].tolist())

    def _read(self, start: int, end: int) -> bytes:
        """Return bytes of the file of records, which is half of a snapshot and seldom needed: read, not mapped."""
        data = os.pread(self._records, end - start, start)
        if len(data) != end - start:
            raise CorruptError(f"{self.folder / RECORDS}: cut off before byte {end}", fix=FIX)
        return data

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        return self.mains.read(rows)

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return dequantise_8bit(self.mains.codes[row])

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return self.heads.read(row)

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): cosines of the rows' head vectors with `head`."""
        return self.heads.cosines(rows, head)
