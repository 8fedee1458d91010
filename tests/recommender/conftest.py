"""What tests of the recommender share."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import pytest

from recommender.catalog.vectors.index import limit_threads


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Let small searches run on one thread: more of them only wait for each other."""
    before = faiss.omp_get_max_threads()
    limit_threads(1)
    yield
    limit_threads(before)
