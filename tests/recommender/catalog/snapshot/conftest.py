"""Stores and snapshots that several tests of snapshots use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot import files, writer
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store
from recommender.catalog.vectors.scalar_codes import ScalarCodes
from tests.building import (
    DIMENSION,
    build_store,
)
from tests.recommender.catalog.snapshot.making import (
    ARTICLES,
    MANY,
    TOPICS,
    vector_store,
)
from tests.searching import (
    COMPRESSIBLE,
    small_archives_compressed,
    unit_points,
    unit_vectors,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store of a few articles."""
    store = build_store(tmp_path, ARTICLES)
    yield store
    store.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a whole snapshot; copy it to change it."""
    folder = tmp_path_factory.mktemp("whole")
    store = build_store(folder, ARTICLES)
    path = write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of the snapshot that the test may damage; its files are links, see `own`."""
    return Path(shutil.copytree(whole, tmp_path / "copy", copy_function=os.symlink))


@pytest.fixture(scope="module")
def matrix() -> ScalarCodes:
    """Return the vectors of `many`, in row order."""
    return unit_vectors(MANY, DIMENSION, topics=TOPICS)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a snapshot that has product codes although it is small."""
    folder = tmp_path_factory.mktemp("many")
    store = vector_store(folder, unit_points(MANY, DIMENSION, topics=TOPICS))
    with small_archives_compressed():
        path = write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let snapshots of few rows have product codes, and copy rows however many have changed."""
    monkeypatch.setattr(files, "COMPRESSED_ROWS_MIN", COMPRESSIBLE)
    monkeypatch.setattr(writer, "CHANGED_SHARE_MAX", 1e9)
