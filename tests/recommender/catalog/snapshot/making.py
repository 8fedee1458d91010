"""What tests of snapshots share: articles, stores with vectors, scopes, damages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np

from recommender.catalog.articles import Paragraph, ParagraphKind, Rules
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.columns import Columns
from recommender.catalog.snapshot.manifest import CURRENT, MANIFEST
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.scoped_search import LiveRows
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store, create_store
from recommender.catalog.store.writes import Upsert, Write
from recommender.catalog.text.derived import Vectors, analyse
from recommender.catalog.vectors.product_codes import Quantizers
from recommender.catalog.vectors.scalar_codes import dequantise_8bit
from recommender.clock import DAY_MS
from tests.building import (
    DIMENSION,
    NOW_MS,
    FakeEmbedder,
    article,
)
from tests.searching import (
    Half,
    Mask,
    bits_of,
    topics_of,
)

CODES = ("centroids.npy", "codebooks.npy", "codes.npy", "lists.npy")

FILES = (
    *(f"column_{field.name}.npy" for field in fields(Columns)),
    *CODES,
    "hashes.npy",
    "heads.npy",
    "idf.npy",
    "mains.npy",
    "record_offsets.npy",
    "records.bin",
    "rows_by_hash.npy",
    "signatures.npy",
    "sketches.npy",
    "sorted_hashes.npy",
    "tag_codes.npy",
    "tag_offsets.npy",
)

QUERY = np.ones(DIMENSION, np.float32)

OTHER_NAMES = (CURRENT, "writer.lock")
"""Names in a folder of snapshots that are not snapshots."""

ARTICLES = [
    article(
        "full",
        title="A Vienna deal",
        summary="Sum",
        paragraphs=["Envoys met.", Paragraph("Map", ParagraphKind.MEDIA), "", Paragraph("Next", ParagraphKind.HEADING)],
        tags=["x", "y"],
        days_ago=3,
        rules=Rules(never_with=("b", "c"), evergreen=True),
    ),
    article("bare", paragraphs=(), url="", section="", site="", language="", days_ago=9),
    article("later", days_ago=20, tags=["y"], rules=Rules(embargo_until_ms=NOW_MS - DAY_MS, never_target=True)),
]


def own(path: Path) -> Path:
    """Replace a link in `folder` by a copy of its file; to copy all files would take long."""
    target = path.resolve()
    path.unlink()
    return Path(shutil.copyfile(target, path))


def write(store: Store) -> Path:
    """Write a snapshot of the store."""
    return write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION)


def leftovers(folder: Path) -> list[str]:
    """Return the names in a folder of snapshots that are neither finished snapshots nor OTHER_NAMES."""
    return [p.name for p in folder.iterdir() if p.name not in OTHER_NAMES and not (p / MANIFEST).is_file()]


MANY, TOPICS = 1_500, 12


def vector_writes(points: Half, first: int = 0, title: str = "Title") -> list[Write]:
    """Return one article a vector, an hour apart, numbered from `first`; section: its topic, tag: its last digit."""
    analysis = analyse(article())
    topics = topics_of(len(points), TOPICS)
    return [
        Write(
            Upsert(
                article(
                    f"r{at}",
                    title=f"{title} {at}",
                    days_ago=200 - at / 24,
                    section=f"topic {topics[at - first]}",
                    tags=[f"tag {at % 10}"],
                )
            ),
            Vectors(main, main),
            analysis,
        )
        for at, main in enumerate(points.astype(np.float32), first)
    ]


def vector_store(folder: Path, points: Half) -> Store:
    """Return a store of one article a vector."""
    store = create_store(folder / STORE_FILE, FakeEmbedder().info.key)
    store.write(vector_writes(points), NOW_MS)
    return store


def assert_encoded(snapshot: Snapshot, by: Quantizers) -> None:
    """Check that every row has the code and the inverted list that these quantizers give its vector."""
    codes, lists = by.encode(dequantise_8bit(snapshot.mains.codes))
    compressed = snapshot.compressed
    assert compressed is not None
    assert compressed.codes.tolist() == codes.tolist()
    assert compressed.lists.tolist() == lists.tolist()
    assert compressed.quantizers.centroids.tolist() == by.centroids.tolist()
    assert compressed.quantizers.codebooks.tolist() == by.codebooks.tolist()


def quantizers_of(snapshot: Snapshot) -> Quantizers:
    """Return the codebooks of a snapshot that has some."""
    assert snapshot.compressed is not None
    return snapshot.compressed.quantizers


def tagged(*digits: int) -> Scope:
    """Return the scope of articles whose numbers end with one of these digits; they are of all topics."""
    return Scope(tags=frozenset(f"tag {digit}" for digit in digits))


def on(*topics: int) -> Scope:
    """Return the scope of articles of some topics, whose vectors are close to each other."""
    return Scope(sections=frozenset(f"topic {topic}" for topic in topics))


def inside_of(snapshot: Snapshot, scope: Scope, period: tuple[int, int], alive: Mask) -> list[int]:
    """Return the living rows in a scope and a period, by looking at each."""
    times = snapshot.columns.public_at_ms
    allowed = scope.mask(partial(getattr, snapshot.columns), snapshot.tags)
    return [r for r in range(snapshot.rows) if allowed[r] and alive[r] and period[0] <= times[r] <= period[1]]


def alive_of(mask: Mask) -> LiveRows | None:
    """Return the live rows as the live view passes them."""
    dead = len(mask) - int(mask.sum())
    return LiveRows(bits_of(mask), dead) if dead else None


Damage = Callable[[Path], object]


def flip(at: Callable[[int], int]) -> Damage:
    """Return a damage: one bit of the byte at a position that depends on the file's size is flipped."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at(len(data))] ^= 4
        path.write_bytes(data)

    return damage


def cut(to: Callable[[int], int]) -> Damage:
    """Return a damage: the file gets a length that depends on its size."""
    return lambda path: os.truncate(path, to(path.stat().st_size))


FLIPPED = "its checksum differs from the manifest's"

DAMAGES: dict[str, tuple[Damage, str]] = {
    "emptied": (cut(lambda _: 0), "0 bytes, expected {size}"),
    "cut in half": (cut(lambda size: size // 2), "{half} bytes, expected {size}"),
    "last byte lost": (cut(lambda size: size - 1), "{less} bytes, expected {size}"),
    "longer": (cut(lambda size: size + 1), "{more} bytes, expected {size}"),
    "first byte flipped": (flip(lambda _: 0), FLIPPED),
    "middle byte flipped": (flip(lambda size: size // 2), FLIPPED),
    "last byte flipped": (flip(lambda size: size - 1), FLIPPED),
    "removed": (Path.unlink, "No such file or directory"),
}
