"""The files of a snapshot, written batch by batch in row order, by plain writes that are flushed at the end.

A memory map would end the process by SIGBUS when the disk is full, and `np.save` would not say why it failed.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from recommender.catalog.entry import Entry
from recommender.catalog.graph import Half
from recommender.catalog.near_copies import SKETCH_SIZE, Sketch
from recommender.catalog.segment import COLUMN_TYPES, Codes, Columns
from recommender.catalog.snapshot import RECORDS, VECTORS, Snapshot
from recommender.catalog.vectors import Rows, VectorFile, write_changed_vectors, write_vectors
from recommender.catalog.wording import SIGNATURE_TERMS, Packed, Weights

_SPOOL = "spool.f16"
_SPOOL_ROWS = 8_192

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The vectors whose graph is carried over. source: for each new row its row there, or -1 for a new vector."""

    vectors: VectorFile
    source: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some rows, array by array, all parallel. tag_counts, record_sizes: how much of tag_codes and records is whose."""

    mains: Half
    heads: Half
    signatures: Packed
    sketches: Sketch
    columns: Columns
    hashes: npt.NDArray[np.uint64]
    tag_counts: Counts
    tag_codes: Codes
    record_sizes: Counts
    records: bytes


def batch_of(entries: Sequence[Entry]) -> Batch:
    """Return new rows; at least one."""
    records = [entry.record.to_bytes() for entry in entries]
    columns = zip(COLUMN_TYPES.values(), zip(*(entry.columns for entry in entries), strict=True), strict=True)
    return Batch(
        mains=np.stack([entry.main for entry in entries]).astype(np.float16),
        heads=np.stack([entry.head for entry in entries]).astype(np.float16),
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
        mains=snapshot.vectors.codes(low, high),
        heads=snapshot.heads[rows],
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
        self._dimension = dimension
        self._stack = ExitStack()
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._tag_counts, self._record_sizes = array("q"), array("q")
        self._spool = self._stack.enter_context((folder / _SPOOL).open("wb"))
        self._records = self._stack.enter_context((folder / RECORDS).open("wb"))
        self._arrays = {
            "heads": self._array("heads", np.float16, rows, dimension),
            "signatures": self._array("signatures", np.uint32, rows, SIGNATURE_TERMS),
            "sketches": self._array("sketches", np.uint16, rows, SKETCH_SIZE),
        }
        self._columns = {name: self._array(f"column_{name}", kind, rows) for name, kind in COLUMN_TYPES.items()}
        self._tag_codes: list[Codes] = []
        _save(folder / "idf.npy", idf)

    def _array(self, name: str, kind: npt.DTypeLike, *shape: int) -> BinaryIO:
        stream = self._stack.enter_context((self._folder / f"{name}.npy").open("wb"))
        _write_header(stream, np.dtype(kind), shape)
        return stream

    def append(self, batch: Batch) -> None:
        """Write the next rows."""
        self._spool.write(batch.mains.tobytes())
        self._records.write(batch.records)
        for name, stream in self._arrays.items():
            stream.write(getattr(batch, name).tobytes())
        for name, stream in self._columns.items():
            stream.write(getattr(batch.columns, name).tobytes())
        self._hashes.append(batch.hashes)
        self._tag_codes.append(batch.tag_codes)
        self._tag_counts.extend(batch.tag_counts.tolist())
        self._record_sizes.extend(batch.record_sizes.tolist())

    def finish(self, graph: Graph | None) -> None:
        """Write what depends on all rows. graph: the one to carry over; None builds one if there are rows enough."""
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        codes = np.concatenate(self._tag_codes) if self._tag_codes else np.empty(0, np.uint32)
        _save(self._folder / "hashes.npy", hashes)
        _save(self._folder / "sorted_hashes.npy", hashes[order])
        _save(self._folder / "rows_by_hash.npy", order.astype(np.int64))
        _save(self._folder / "tag_codes.npy", codes)
        _save(self._folder / "tag_offsets.npy", _offsets(self._tag_counts))
        _save(self._folder / "record_offsets.npy", _offsets(self._record_sizes))
        self._stack.close()
        if graph is None:
            write_vectors(self._folder / VECTORS, self._dimension, self._mains())
        else:
            new = np.flatnonzero(graph.source < 0)
            write_changed_vectors(self._folder / VECTORS, graph.vectors, graph.source, self._mains_at(new))
        (self._folder / _SPOOL).unlink()

    def _mains(self) -> Iterator[Half]:
        with (self._folder / _SPOOL).open("rb") as stream:
            while block := stream.read(_SPOOL_ROWS * self._dimension * 2):
                yield np.frombuffer(block, np.float16).reshape(-1, self._dimension)

    def _mains_at(self, rows: Rows) -> Iterator[Half]:
        if len(rows):
            yield np.memmap(self._folder / _SPOOL, np.float16, "r").reshape(-1, self._dimension)[rows]

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


def _offsets(sizes: array[int]) -> Counts:
    return np.concatenate(([0], np.cumsum(np.asarray(sizes, np.int64))))


def _save(path: Path, values: npt.NDArray[Any]) -> None:
    with path.open("wb") as stream:
        _write_header(stream, values.dtype, values.shape)
        stream.write(values.tobytes())


def _write_header(stream: BinaryIO, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(stream, header)
