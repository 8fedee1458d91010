"""Servers for the service's tests: one to read from, and fresh ones to change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.writer import write_snapshot
from tests.building import DIMENSION, build_store
from tests.newsroom import newsroom
from tests.service.client import Client
from tests.service.servers import Host, Loop, TroubledEmbedder


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """Start servers on one background loop: gRPC's asyncio side wants one loop in a process."""
    loop = Loop()
    yield Host(loop)
    loop.close()


@pytest.fixture(scope="session")
def archive_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with the made-up newsroom; copy it to change it."""
    folder = tmp_path_factory.mktemp("newsroom")
    store = build_store(folder, newsroom())
    write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return folder


@pytest.fixture
def data_dir(archive_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the data folder that the test may change."""
    return Path(shutil.copytree(archive_folder, tmp_path / "data"))


@pytest.fixture(scope="module")
def reading(host: Host, archive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Serve a copy for tests that change nothing."""
    folder = Path(shutil.copytree(archive_folder, tmp_path_factory.mktemp("reading") / "data"))
    with host.server(folder) as (client, _):
        yield client


@pytest.fixture
def embedder() -> TroubledEmbedder:
    """Return the encoder of `service`."""
    return TroubledEmbedder()


@pytest.fixture
def service(host: Host, data_dir: Path, embedder: TroubledEmbedder) -> Iterator[Client]:
    """Serve a fresh copy for one test."""
    with host.server(data_dir, embedder) as (client, _):
        yield client
