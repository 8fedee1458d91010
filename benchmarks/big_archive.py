"""Make an archive of any size to serve in benchmarks: generated vectors, mixed terms and records of real articles.

python -m benchmarks.big_archive FILE.npy DATA_DIR --rows 1000000 --like REAL_DATA_DIR

FILE.npy: real vectors of benchmarks.embed_passages, around which benchmarks.peers.corpus generates one a row, in a
temporary folder beside DATA_DIR; or a folder that it wrote. REAL_DATA_DIR: an index of real articles. Each row gets the
terms, record and labels of the real article with the nearest vector; a third of the terms is from another article. Its
headline and sketch are its own, so that no two rows are near copies. The store has no texts. FillSlots and ListRelated
need the snapshot only; GetArticle finds nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.data import open_live
from benchmarks.peers.corpus import ARTICLES_PER_DAY, make
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.columns import Columns, id_hash, label_code
from recommender.catalog.snapshot.files import Batch, SnapshotFiles
from recommender.catalog.snapshot.manifest import FORMAT, MANIFEST, FileEntry, Manifest, crc32_of
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.writer import make_current
from recommender.catalog.store.sqlite import connect
from recommender.catalog.store.store import create_store
from recommender.catalog.text.derived import ANALYSIS
from recommender.catalog.text.near_copies import SKETCH_SIZE, SKETCH_VALUES
from recommender.catalog.text.terms import TITLE_TERMS, Packed, headline_key
from recommender.catalog.vectors.scalar_codes import encode_4bit, encode_8bit, rotate
from recommender.clock import DAY_MS, now_ms

_BATCH_ROWS = 20_000
"""Rows written at once."""
_OWN_TERMS = 0.67
"""Share of a row's terms that stay those of the real article with the nearest vector."""
_HEAD_NOISE = 0.35
"""Length of the random vector that is added to the main vector for the head vector."""

Half = npt.NDArray[np.float16]
Rows = npt.NDArray[np.int64]


def main(
    source: Annotated[
        Path,
        typer.Argument(metavar="VECTORS", help="Passages (FILE.npy, with --rows), or a corpus's folder.", exists=True),
    ],
    data_dir: Annotated[Path, typer.Argument(help="Folder to make.")],
    like: Annotated[Path, typer.Option(help="Index of real articles to take terms and labels from.")],
    rows: Annotated[int | None, typer.Option(help="Rows of the archive; of a folder all are taken.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of vectors and mixing.")] = 1,
) -> None:
    """Write the store and its snapshot."""
    if source.is_dir() != (rows is None):
        raise typer.BadParameter("--rows goes with a file of passages; a corpus's folder has its own")
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with _corpus(source, data_dir.parent, rows, seed) as corpus:
        count = _write(np.load(corpus / "vectors.npy", mmap_mode="r"), data_dir, open_live(like), seed)
    print(f"{count:,} articles in {data_dir}, {time.perf_counter() - started:.0f} s")


@contextmanager
def _corpus(source: Path, beside: Path, rows: int | None, seed: int) -> Iterator[Path]:
    """Yield the folder of a corpus: `source` itself, or with `rows` a temporary one made of its passages."""
    if rows is None:
        yield source
        return
    with tempfile.TemporaryDirectory(dir=beside) as folder:
        make(Path(folder), source, rows, 1, seed)
        yield Path(folder)


def _write(vectors: Half, data_dir: Path, real: Live, seed: int) -> int:
    rows, dimension = vectors.shape
    folder = data_dir / SNAPSHOTS / f"{rows:012d}-generated"
    folder.mkdir(parents=True)
    with SnapshotFiles(folder, rows, dimension, real.idf) as files:
        for batch in _batches(vectors, real, np.random.default_rng(seed)):
            files.append(batch)
        files.finish(None)
    entries = {p.name: FileEntry(p.stat().st_size, crc32_of(p)) for p in sorted(folder.iterdir())}
    encoder, at_ms = real.manifest.encoder, now_ms()
    manifest = Manifest(FORMAT, rows, encoder, ANALYSIS, 1, dimension, rows, rows, at_ms, entries)
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    create_store(data_dir / STORE_FILE, encoder).close()
    with closing(connect(data_dir / STORE_FILE)) as connection:
        connection.execute("INSERT INTO changes VALUES (?, 'generated', 0, 0, NULL)", (rows,))
    make_current(folder)
    return len(vectors)


def _batches(vectors: Half, real: Live, random: np.random.Generator) -> Iterator[Batch]:
    """Yield rows in time order, one every 24 h / ARTICLES_PER_DAY, up to now."""
    step_ms = DAY_MS // ARTICLES_PER_DAY
    first_ms = now_ms() - len(vectors) * step_ms
    living = real.rows()
    mains = real.main_vectors(living)
    for low in range(0, len(vectors), _BATCH_ROWS):
        some = vectors[low : low + _BATCH_ROWS]
        like = living[(rotate(some) @ mains.T).argmax(axis=1)]
        times = first_ms + np.arange(low, low + len(some)) * step_ms
        other = random.choice(living, len(some))
        yield _batch(some, np.arange(low, low + len(some)), times, like, other, real, random)


def _batch(
    mains: Half, numbers: Rows, times: Rows, like: Rows, other: Rows, real: Live, random: np.random.Generator
) -> Batch:
    """Return rows of the real articles `like`, with some terms of `other`."""
    count, dimension = mains.shape
    unique, at = np.unique(like, return_inverse=True)
    columns = Columns(*(real.column(f.name, unique)[at] for f in fields(Columns)))
    records = [
        replace(record, id=f"n{number}", url=f"https://generated.example/{number}", title=f"{record.title} {number}")
        for record, number in zip(map([real.record(int(row)) for row in unique].__getitem__, at), numbers, strict=True)
    ]
    blobs = [record.to_bytes() for record in records]
    urls, headlines = ([label_code(key(record)) for record in records] for key in (_url, _headline))
    heads = mains.astype(np.float32) + random.standard_normal((count, dimension), np.float32) * (
        _HEAD_NOISE / dimension**0.5
    )
    return Batch(
        mains=encode_8bit(mains),
        heads=encode_4bit(heads / np.linalg.norm(heads, axis=1, keepdims=True)),
        signatures=_mixed(real, like, other, random),
        sketches=random.integers(1, 1 + SKETCH_VALUES, (count, SKETCH_SIZE), np.uint8),
        columns=replace(
            columns,
            published_at_ms=times,
            public_at_ms=times,
            url=np.array(urls, np.uint32),
            headline=np.array(headlines, np.uint32),
        ),
        hashes=np.array([id_hash(record.id) for record in records]),
        tag_counts=np.array([len(record.labels.tags) for record in records]),
        tag_codes=np.array([label_code(tag) for record in records for tag in record.labels.tags], np.uint32),
        record_sizes=np.array(list(map(len, blobs))),
        records=b"".join(blobs),
    )


def _url(record: Record) -> str:
    return record.url


def _headline(record: Record) -> str:
    return headline_key(record.title)


def _mixed(real: Live, like: Rows, other: Rows, random: np.random.Generator) -> Packed:
    """Return the signatures of `like`, a third of their terms replaced by those of `other`."""
    mixed = []
    for rows in (like, other):
        unique, at = np.unique(rows, return_inverse=True)
        mixed.append(real.signatures(unique)[at])
    own = random.random(mixed[0].shape) < _OWN_TERMS
    own[:, :TITLE_TERMS] = True
    return np.where(own | (mixed[0] == 0) | (mixed[1] == 0), *mixed)


if __name__ == "__main__":
    typer.run(main)
