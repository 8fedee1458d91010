"""An immutable, memory-mapped image of the store at one revision, opened; snapshot_writer.py writes them.

Rows are in the order of (public_at_ms, id), oldest first. A snapshot is a folder of plain NumPy files, the records, and
a manifest. Worker processes share the mapped pages; each has an index of the codes of its own, 60 bytes a row.
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
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.scoped_search import LiveRows, ScopedIndex, time_range
from recommender.catalog.text.near_copies import Sketch
from recommender.catalog.text.terms import Packed, Weights
from recommender.catalog.vectors.index import Hits, Rows, Vectors4Bit, Vectors8Bit
from recommender.catalog.vectors.product_codes import ProductCodes, Quantizers
from recommender.catalog.vectors.scalar_codes import Vector, dequantise_8bit
from recommender.errors import CorruptError

RECORDS = "records.bin"
_LABELS_CACHED = 10_000
_one_at_a_time = threading.Lock()
"""NumPy has Python parse a file's header, which fails now and then in two threads at once (cpython issue 106905)."""


def map_array(path: Path) -> npt.NDArray[Any]:
    """Map one array of a snapshot; its base is the map, unless the array is empty."""
    with path.open("rb") as stream, _one_at_a_time:
        np.lib.format.read_magic(stream)
        shape, _, kind = np.lib.format.read_array_header_2_0(stream)
        if 0 in shape:  # nothing cannot be mapped
            return np.empty(shape, kind)
        return np.ndarray(shape, kind, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), stream.tell())


class Snapshot:
    """An open snapshot; a Segment. Not safe for several threads at once: it caches the rows of recent scopes."""

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        """Map a snapshot. verify: also compare checksums, which reads every byte once.

        Raises CorruptError naming the file that is not what was written.
        """
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.manifest.check_files(folder, verify=verify)
        self._columns = Columns(*(self._array(f"column_{f.name}") for f in fields(Columns)))
        self._tags = Tags(self._array("tag_offsets"), self._array("tag_codes"))
        self._signatures = self._array("signatures")
        self._sketches = self._array("sketches")
        self._heads = Vectors4Bit(self._array("heads"), self.manifest.dimension)
        quantizers = Quantizers(self._array("centroids"), self._array("codebooks"))
        codes, lists = self._array("codes"), self._array("lists")
        self.compressed = ProductCodes(quantizers, codes, lists) if len(codes) else None
        self.scoped = ScopedIndex(Vectors8Bit(self._array("mains")), self.compressed, self._columns, self._tags)
        if isinstance(codes.base, mmap.mmap):
            codes.base.madvise(mmap.MADV_DONTNEED)  # copied into lists; hardly any are read again
        self._hashes = self._array("hashes")
        self._sorted_hashes = self._array("sorted_hashes")
        self._rows_by_hash = self._array("rows_by_hash")
        self._record_offsets = self._array("record_offsets")
        self._records = os.open(folder / RECORDS, os.O_RDONLY)
        weakref.finalize(self, os.close, self._records)
        self.idf: Weights = self._array("idf")
        self._label_counts: dict[tuple[str, int], int] = {}

    def _array(self, name: str) -> npt.NDArray[Any]:
        return map_array(self.folder / f"{name}.npy")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.manifest.rows

    @property
    def columns(self) -> Columns:
        """The columns of all rows."""
        return self._columns

    @property
    def tags(self) -> Tags:
        """The tags of all rows."""
        return self._tags

    @property
    def signatures(self) -> Packed:
        """Return uint32 (rows, SIGNATURE_TERMS)."""
        return self._signatures

    @property
    def sketches(self) -> Sketch:
        """Return uint8 (rows, SKETCH_SIZE)."""
        return self._sketches

    @property
    def id_hashes(self) -> npt.NDArray[np.uint64]:
        """Return uint64 (rows,)."""
        return self._hashes

    def label_count(self, column: str, code: int) -> int:
        """Return the number of rows whose column of that name holds `code`."""
        count = self._label_counts.get((column, code))
        if count is None:
            count = int(np.count_nonzero(getattr(self._columns, column) == code))
            if len(self._label_counts) == _LABELS_CACHED:
                self._label_counts.clear()
            self._label_counts[column, code] = count
        return count

    def find(self, article_id: str) -> int | None:
        """Return the row of an article."""
        wanted = id_hash(article_id)
        at = int(np.searchsorted(self._sorted_hashes, wanted))
        while at < self.rows and self._sorted_hashes[at] == wanted:
            row = int(self._rows_by_hash[at])
            if Record.is_of(self._blob(row), article_id):
                return row
            at += 1
        return None

    def place_of(self, public_at_ms: int, article_id: str) -> int:
        """Return how many rows come before a row with these values, which need not be here."""
        low, high = time_range(self._columns.public_at_ms, public_at_ms, public_at_ms)
        return low + bisect_left(range(high - low), article_id, key=lambda at: self.record(low + at).id)

    def records(self, low: int, high: int) -> tuple[npt.NDArray[np.int64], bytes]:
        """Return the records of rows [low, high) as they stand in the file: the bytes of each, and all together."""
        offsets = self._record_offsets[low : high + 1]
        return np.diff(offsets), self._read(int(offsets[0]), int(offsets[-1]))

    def record(self, row: int) -> Record:
        """Read one record."""
        return Record.from_bytes(self._blob(row))

    def _blob(self, row: int) -> bytes:
        return self._read(*self._record_offsets[row : row + 2].tolist())

    def _read(self, start: int, end: int) -> bytes:
        """Return bytes of the records' file. It is read, not mapped: half of a snapshot, of which little is needed."""
        data = os.pread(self._records, end - start, start)
        if len(data) != end - start:
            raise CorruptError(f"{self.folder / RECORDS}: cut off before byte {end}", fix=FIX)
        return data

    @property
    def mains(self) -> Vectors8Bit:
        """The main vectors, which are searched."""
        return self.scoped.vectors

    @property
    def heads(self) -> Vectors4Bit:
        """The head vectors, which are compared."""
        return self._heads

    def main_vectors(self, rows: Rows) -> Vector:
        """Return float32 (len(rows), dimension)."""
        return self.scoped.vectors.read(rows)

    def main_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return dequantise_8bit(self.scoped.vectors.codes[row])

    def head_vector(self, row: int) -> Vector:
        """Return float32 (dimension,)."""
        return self._heads.read(row)

    def head_cosines(self, rows: Rows, head: Vector) -> npt.NDArray[np.float32]:
        """Return float32 (len(rows),): inner products of the rows' head vectors with `head`."""
        return self._heads.cosines(rows, head)

    def search(
        self, query: Vector, k: int, from_ms: int, until_ms: int, scope: Scope, *, alive: LiveRows | None = None
    ) -> Hits:
        """Return the k best rows in `scope` that became public in [from_ms, until_ms]; of those `alive`, if given."""
        return self.scoped.search(query, k, from_ms, until_ms, scope, alive=alive)
