"""Writing a snapshot: one pass over the store for statistics, one for rows; bounded memory, never half-written."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from recommender.catalog.derived import ANALYSIS
from recommender.catalog.near_copies import SKETCH_SIZE
from recommender.catalog.segment import COLUMN_TYPES, Columns, label_code, make_record
from recommender.catalog.snapshot import (
    CURRENT,
    FORMAT,
    MANIFEST,
    RECORDS,
    VECTORS,
    FileEntry,
    Manifest,
    crc32_of,
    current_snapshot,
    id_hash,
)
from recommender.catalog.store import FrozenStore, Store, Stored
from recommender.catalog.vectors import write_vectors
from recommender.catalog.wording import SIGNATURE_TERMS, TermStatistics, Weights, make_signature
from recommender.errors import DiskFullError, StorageError

KEPT_SNAPSHOTS = 2
_SPOOL = "spool.f16"
_BATCH_ROWS = 8_192
_TEMPORARY = "new-"

Progress = Callable[[int, int], None]
"""Called with (articles done, articles in all) now and then."""


def write_snapshot(store: Store, folder: Path, dimension: int, progress: Progress | None = None) -> Path:
    """Write an image of the store's present revision under `folder`, make it current, and prune old ones.

    Returns the snapshot's folder. A crash at any moment leaves the previous snapshot current.
    Raises DiskFullError or StorageError, naming the folder, and then leaves nothing behind.
    """
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            store.analyse_missing()
            with store.frozen() as frozen:
                manifest = _write_files(frozen, temporary, store.encoder, dimension, progress or _silent)
            return _publish(folder, temporary, manifest)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _write_files(frozen: FrozenStore, folder: Path, encoder: str, dimension: int, progress: Progress) -> Manifest:
    statistics = TermStatistics.count(frozen.terms())
    idf = statistics.idf()
    _save(folder / "idf.npy", idf)
    _write_rows(frozen, folder, idf, dimension, progress)
    write_vectors(folder / VECTORS, dimension, _spooled(folder / _SPOOL, dimension))
    (folder / _SPOOL).unlink()
    files = sorted(path for path in folder.iterdir())
    for path in files:
        _flush(path)
    return Manifest(
        format=FORMAT,
        revision=frozen.revision,
        encoder=encoder,
        analysis=ANALYSIS,
        dimension=dimension,
        rows=frozen.count,
        documents=statistics.documents,
        created_at_ms=time.time_ns() // 1_000_000,
        files={path.name: FileEntry(path.stat().st_size, crc32_of(path)) for path in files},
    )


def _write_rows(frozen: FrozenStore, folder: Path, idf: Weights, dimension: int, progress: Progress) -> None:
    rows = frozen.count
    columns = [array(np.dtype(kind).char) for kind in COLUMN_TYPES.values()]
    hashes = np.empty(rows, np.uint64)
    tag_codes = array("I")
    tag_offsets, record_offsets = array("q", [0]), array("q", [0])
    with (
        (folder / _SPOOL).open("wb") as spool,
        (folder / RECORDS).open("wb") as records,
        _RowFile(folder / "heads.npy", np.float16, (rows, dimension)) as heads,
        _RowFile(folder / "signatures.npy", np.uint32, (rows, SIGNATURE_TERMS)) as signatures,
        _RowFile(folder / "sketches.npy", np.uint16, (rows, SKETCH_SIZE)) as sketches,
    ):
        for row, stored in enumerate(frozen.in_time_order()):
            signature = make_signature(stored.analysis.terms, idf)
            record = make_record(stored.article, stored.analysis.terms, signature).to_bytes()
            spool.write(stored.vectors.main.astype(np.float16).tobytes())
            heads.append(stored.vectors.head)
            signatures.append(signature.pack())
            sketches.append(stored.analysis.sketch)
            records.write(record)
            record_offsets.append(record_offsets[-1] + len(record))
            for column, value in zip(columns, Columns.row_of(stored.article, stored.analysis.terms.words), strict=True):
                column.append(value)
            hashes[row] = id_hash(stored.article.id)
            tag_codes.extend(_tag_codes(stored))
            tag_offsets.append(len(tag_codes))
            if row % 1_000 == 0:
                progress(row, rows)
    for name, column in zip(COLUMN_TYPES, columns, strict=True):
        _save(folder / f"column_{name}.npy", np.asarray(column))
    order = np.argsort(hashes, kind="stable")
    _save(folder / "id_hashes.npy", hashes[order])
    _save(folder / "id_rows.npy", order.astype(np.int64))
    _save(folder / "tag_codes.npy", np.asarray(tag_codes))
    _save(folder / "tag_offsets.npy", np.asarray(tag_offsets))
    _save(folder / "record_offsets.npy", np.asarray(record_offsets))
    progress(rows, rows)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a .npy file. `np.save` does not say why it fails when the disk is full."""
    with _RowFile(path, array.dtype, array.shape) as file:
        file.append(array)


def _tag_codes(stored: Stored) -> list[int]:
    return [label_code(tag) for tag in stored.article.tags]


class _RowFile:
    """A .npy file written row by row. A memory map would end the process by SIGBUS when the disk is full."""

    def __init__(self, path: Path, kind: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        self._kind = np.dtype(kind)
        self._stream: BinaryIO = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(self._kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(self._stream, header)

    def append(self, row: npt.NDArray[Any]) -> None:
        self._stream.write(row.astype(self._kind, copy=False).tobytes())

    def __enter__(self) -> _RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _spooled(path: Path, dimension: int) -> Iterator[npt.NDArray[np.float16]]:
    with path.open("rb") as stream:
        while block := stream.read(_BATCH_ROWS * dimension * 2):
            yield np.frombuffer(block, np.float16).reshape(-1, dimension)


def _publish(folder: Path, temporary: Path, manifest: Manifest) -> Path:
    final = folder / f"{manifest.revision:012d}-{temporary.name.rsplit('-', 1)[1]}"
    (temporary / MANIFEST).write_text(manifest.to_json(), "utf-8")
    (temporary / CURRENT).write_text(final.name + "\n", "utf-8")
    for path in (temporary / MANIFEST, temporary / CURRENT, temporary):
        _flush(path)
    temporary.rename(final)
    try:
        _flush(folder)
        (final / CURRENT).rename(folder / CURRENT)
    except BaseException:
        shutil.rmtree(final, ignore_errors=True)
        raise
    _flush(folder)
    _prune(folder)
    return final


def _prune(folder: Path) -> None:
    """Remove old snapshots but the newest few; and what a crashed writer left. Mapped files stay readable."""
    current = current_snapshot(folder)
    finished = sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(_TEMPORARY)), reverse=True)
    kept = [p for p in finished if p != current][: KEPT_SNAPSHOTS - 1]
    for path in finished:
        if path != current and path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{_TEMPORARY}*"):
        if not _is_running(int(path.name.split("-")[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(
                f"{folder}: no space left for a snapshot; the previous one stays in use",
                fix="free space, then try again",
            ) from error
        raise StorageError(f"{folder}: cannot write a snapshot: {error.strerror}", fix="check the folder") from error


def _silent(done: int, total: int) -> None:
    del done, total
