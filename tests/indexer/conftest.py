"""Fixtures of indexing: a file of articles, and a data folder that does not exist yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.indexer.indexing import (
    WORDS,
    record,
    write,
)


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    """Return a file of ten articles."""
    return write(tmp_path / "articles.jsonl", map(record, WORDS))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a data folder that does not exist yet."""
    return tmp_path / "data"
