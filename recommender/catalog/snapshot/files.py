"""The files of a snapshot, written batch by batch in row order, by plain writes.

On a full disk a memory map would end the process by SIGBUS, and `np.save` would not say why it failed.
"""

from __future__ import annotations

import errno
import os
import uuid
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from recommender.catalog.snapshot.columns import COLUMN_TYPES, Codes, Columns
from recommender.catalog.snapshot.row_values import RowValues
from recommender.catalog.snapshot.snapshot import RECORDS, Snapshot, map_array
from recommender.catalog.text.near_copies import SKETCH_SIZE, Sketch
from recommender.catalog.text.terms import SIGNATURE_TERMS, Packed, Weights
from recommender.catalog.vectors.index import Rows
from recommender.catalog.vectors.product_codes import ProductCodes, Quantizers, can_compress, train
from recommender.catalog.vectors.scalar_codes import ScalarCodes, dequantise_8bit
from recommender.catalog.vectors.search_costs import MEASURED
from recommender.errors import DiskFullError, StorageError

COMPRESSED_ROWS_MIN = MEASURED.scan_rows_max
"""Write product codes from this many rows on; fewer are scanned exactly."""
_ENCODED_ROWS = 65_536
"""Rows whose product codes are computed at a time."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the system's errors for a full disk, a used-up quota and a file beyond its limit."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CopiedCodes:
    """Product codes of an earlier snapshot to copy; new rows are encoded by its quantizers.

    rows: for each new row its row in the earlier snapshot, or -1.
    """

    compressed: ProductCodes
    rows: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive rows as parallel arrays.

    tag_codes, records: of all rows, joined. tag_counts, record_sizes: codes and bytes of each row.
    """

    mains: ScalarCodes
    heads: ScalarCodes
    signatures: Packed
    sketches: Sketch
    columns: Columns
    hashes: npt.NDArray[np.uint64]
    tag_counts: Counts
    tag_codes: Codes
    record_sizes: Counts
    records: bytes


def new_batch(rows: Sequence[RowValues]) -> Batch:
    """Return a batch of new rows, at least one."""
    records = [row.record.to_bytes() for row in rows]
    columns = zip(COLUMN_TYPES.values(), zip(*(row.columns for row in rows), strict=True), strict=True)
    return Batch(
        mains=np.stack([row.main for row in rows]),
        heads=np.stack([row.head for row in rows]),
        signatures=np.stack([row.signature for row in rows]),
        sketches=np.stack([row.sketch for row in rows]),
        columns=Columns(*(np.array(values, kind) for kind, values in columns)),
        hashes=np.array([row.id_hash for row in rows]),
        tag_counts=np.array([len(row.tag_codes) for row in rows]),
        tag_codes=np.array([code for row in rows for code in row.tag_codes], np.uint32),
        record_sizes=np.array([len(record) for record in records]),
        records=b"".join(records),
    )


def copied_batch(snapshot: Snapshot, low: int, high: int) -> Batch:
    """Return a batch of the rows [low, high) of a snapshot."""
    rows = slice(low, high)
    tags = snapshot.tags
    record_sizes, records = snapshot.records(low, high)
    return Batch(
        mains=snapshot.mains.codes[rows],
        heads=snapshot.heads.codes[rows],
        signatures=snapshot.signatures[rows],
        sketches=snapshot.sketches[rows],
        columns=Columns(*(getattr(snapshot.columns, f.name)[rows] for f in fields(Columns))),
        hashes=snapshot.id_hashes[rows],
        tag_counts=np.diff(tags.offsets[low : high + 1]),
        tag_codes=tags.codes[tags.offsets[low] : tags.offsets[high]],
        record_sizes=record_sizes,
        records=records,
    )


class SnapshotFiles:
    """Writes all files of a snapshot but the manifest. A context manager: call `append` and last `finish` inside it."""

    def __init__(self, folder: Path, rows: int, dimension: int, idf: Weights) -> None:
        """Begin a snapshot of `rows` rows in `folder`, which is empty."""
        self._folder = folder
        self._rows = rows
        self._dimension = dimension
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._tag_counts, self._record_sizes = array("q"), array("q")
        self._tag_codes: list[Codes] = []
        with ExitStack() as self._stack:
            self._records = self._stack.enter_context((folder / RECORDS).open("wb"))
            self._arrays = {
                "mains": self._array("mains", np.uint8, rows, dimension),
                "heads": self._array("heads", np.uint8, rows, -(-dimension // 2)),
                "signatures": self._array("signatures", np.uint32, rows, SIGNATURE_TERMS),
                "sketches": self._array("sketches", np.uint8, rows, SKETCH_SIZE),
            }
            self._columns = {name: self._array(f"column_{name}", kind, rows) for name, kind in COLUMN_TYPES.items()}
            self._save("idf", idf)
            self._stack = self._stack.pop_all()  # open until `finish`

    def _array(self, name: str, kind: npt.DTypeLike, *shape: int) -> BinaryIO:
        stream = self._stack.enter_context((self._folder / f"{name}.npy").open("wb"))
        _write_header(stream, np.dtype(kind), shape)
        return stream

    def append(self, batch: Batch) -> None:
        """Write the next rows."""
        self._records.write(batch.records)
        for name, stream in self._arrays.items():
            stream.write(getattr(batch, name).tobytes())
        for name, stream in self._columns.items():
            stream.write(getattr(batch.columns, name).tobytes())
        self._hashes.append(batch.hashes)
        self._tag_codes.append(batch.tag_codes)
        self._tag_counts.extend(batch.tag_counts.tolist())
        self._record_sizes.extend(batch.record_sizes.tolist())

    def finish(self, copied: CopiedCodes | None) -> None:
        """Write what depends on all rows. copied: product codes to copy; None trains and encodes all."""
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        codes = np.concatenate(self._tag_codes) if self._tag_codes else np.empty(0, np.uint32)
        self._stack.close()
        self._save("hashes", hashes)
        self._save("sorted_hashes", hashes[order])
        self._save("rows_by_hash", order.astype(np.int64))
        self._save("tag_codes", codes)
        self._save("tag_offsets", _offsets(self._tag_counts))
        self._save("record_offsets", _offsets(self._record_sizes))
        self._compress(copied)

    def _compress(self, copied: CopiedCodes | None) -> None:
        """Write product codes, or empty files if there are too few rows."""
        quantizers = Quantizers(np.empty((0, self._dimension), np.float32), np.empty((0, 0, 0), np.float32))
        codes, lists = np.empty((0, 0), np.uint8), np.empty(0, np.uint16)
        if self._rows >= COMPRESSED_ROWS_MIN and can_compress(self._dimension):
            mains: ScalarCodes = map_array(self._folder / "mains.npy")
            quantizers = copied.compressed.quantizers if copied else train(mains, self._rows)
            codes = np.empty((self._rows, self._dimension // 8), np.uint8)
            lists = np.empty(self._rows, np.uint16)
            new = np.arange(self._rows)
            if copied:
                has_code, new = copied.rows >= 0, np.flatnonzero(copied.rows < 0)
                old_rows = copied.rows[has_code]
                codes[has_code], lists[has_code] = copied.compressed.codes[old_rows], copied.compressed.lists[old_rows]
            for rows in np.array_split(new, -(-len(new) // _ENCODED_ROWS)) if len(new) else ():
                codes[rows], lists[rows] = quantizers.encode(dequantise_8bit(mains[rows]))
        self._save("codes", codes)
        self._save("lists", lists)
        self._save("centroids", quantizers.centroids)
        self._save("codebooks", quantizers.codebooks)

    def _save(self, name: str, values: npt.NDArray[Any]) -> None:
        with (self._folder / f"{name}.npy").open("wb") as stream:
            _write_header(stream, values.dtype, values.shape)
            stream.write(values.tobytes())

    def __enter__(self) -> SnapshotFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def flush(path: Path) -> None:
    """Wait until the system has written a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, text: str) -> None:
    """Write a text file, or replace it, by one rename; it is on the disk afterwards."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_text(text, "utf-8")
        flush(temporary)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


@contextmanager
def disk_errors(folder: Path, full: str, failed: str) -> Iterator[None]:
    """Raise DiskFullError instead of an OSError for a full disk, StorageError instead of any other one.

    full, failed: what the message says after the folder's name.
    """
    try:
        yield
    except (OSError, DiskFullError) as error:
        if isinstance(error, DiskFullError) or error.errno in _NO_SPACE:
            raise DiskFullError(f"{folder}: {full}", fix="free space, then try again") from error
        raise StorageError(f"{folder}: {failed}: {error.strerror}", fix="check the folder") from error


def _offsets(sizes: array[int]) -> Counts:
    return np.concatenate(([0], np.cumsum(np.asarray(sizes, np.int64))))


def _write_header(stream: BinaryIO, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(stream, header)
