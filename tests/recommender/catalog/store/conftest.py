"""Fixtures of the store's tests: an empty store and its path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recommender.catalog.store.store import Store, create_store
from tests.recommender.catalog.store.storing import (
    KEY,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the fixture `store`."""
    return tmp_path / "data" / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Return an empty store."""
    store = create_store(path, KEY)
    yield store
    store.close()
