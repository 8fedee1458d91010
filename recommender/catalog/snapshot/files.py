"""The files of a snapshot, written batch by batch in row order, by plain writes that are flushed at the end.

A memory map would end the process by SIGBUS when the disk is full, and `np.save` would not say why it failed.
"""

from __future__ import annotations

import os
import uuid
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
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
from recommender.catalog.vectors.index import SCANNED_ROWS, Rows
from recommender.catalog.vectors.product_codes import ProductCodes, Quantizers, can_compress, train
from recommender.catalog.vectors.scalar_codes import ScalarCodes, dequantise_8bit

COMPRESSED_ROWS = SCANNED_ROWS
"""Fewer rows are scanned exactly."""
_ENCODED_ROWS = 65_536

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """Codes to carry over; new rows are encoded by the same quantizers. source: for each new row its row, or -1."""

    compressed: ProductCodes
    source: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some rows, array by array, all parallel. tag_counts, record_sizes: how much of tag_codes and records is whose."""

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


def batch_of(entries: Sequence[RowValues]) -> Batch:
    """Return new rows; at least one."""
    records = [entry.record.to_bytes() for entry in entries]
    columns = zip(COLUMN_TYPES.values(), zip(*(entry.columns for entry in entries), strict=True), strict=True)
    return Batch(
        mains=np.stack([entry.main for entry in entries]),
        heads=np.stack([entry.head for entry in entries]),
        signatures=np.stack([entry.signature for entry in entries]),
        sketches=np.stack([entry.sketch for entry in entries]),
        columns=Columns(*(np.array(values, kind) for kind, values in columns)),
        hashes=np.array([entry.id_hash for entry in entries]),
        tag_counts=np.array([len(entry.tag_codes) for entry in entries]),
        tag_codes=np.array([code for entry in entries for code in entry.tag_codes], np.uint32),
        record_sizes=np.array([len(record) for record in records]),
        records=b"".join(records),
    )


def batch_from(snapshot: Snapshot, low: int, high: int) -> Batch:
    """Return rows [low, high) of a snapshot as they are there."""
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
    """Writes all files of a snapshot but the manifest. A context manager; `finish` inside it."""

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

    def finish(self, carried: Carried | None) -> None:
        """Write what depends on all rows. carried: compressed codes to keep; None makes all anew."""
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
        self._compress(carried)

    def _compress(self, carried: Carried | None) -> None:
        """Write compressed codes, if there are rows enough for them."""
        quantizers = Quantizers(np.empty((0, self._dimension), np.float32), np.empty((0, 0, 0), np.float32))
        codes, lists = np.empty((0, 0), np.uint8), np.empty(0, np.uint16)
        if self._rows >= COMPRESSED_ROWS and can_compress(self._dimension):
            mains: ScalarCodes = map_array(self._folder / "mains.npy")
            quantizers = carried.compressed.quantizers if carried else train(mains, self._rows)
            codes = np.empty((self._rows, self._dimension // 8), np.uint8)
            lists = np.empty(self._rows, np.uint16)
            new = np.arange(self._rows)
            if carried:
                kept, new = carried.source >= 0, np.flatnonzero(carried.source < 0)
                source = carried.source[kept]
                codes[kept], lists[kept] = carried.compressed.codes[source], carried.compressed.lists[source]
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
    """Have the system write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(path: Path, text: str) -> None:
    """Write a whole text file, or replace it, by one rename; it is on the disk afterwards."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_text(text, "utf-8")
        flush(temporary)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def _offsets(sizes: array[int]) -> Counts:
    return np.concatenate(([0], np.cumsum(np.asarray(sizes, np.int64))))


def _write_header(stream: BinaryIO, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(stream, header)
