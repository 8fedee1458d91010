"""The product codes of a snapshot: trained and encoded, or copied from the snapshot before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot import files, writer
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import create_store
from recommender.catalog.vectors import product_codes
from recommender.catalog.vectors.product_codes import Quantizers, train
from recommender.catalog.vectors.scalar_codes import ScalarCodes
from tests.building import (
    DIMENSION,
    NOW_MS,
    FakeEmbedder,
)
from tests.recommender.catalog.snapshot.making import (
    MANY,
    QUERY,
    assert_encoded,
    quantizers_of,
    tagged,
    vector_store,
    vector_writes,
    write,
)
from tests.searching import (
    CODES_ONLY,
    COMPRESSIBLE,
    assert_best,
    exact,
    unit_points,
    unit_vectors,
)


def test_a_snapshot_from_scratch_is_trained_on_its_own_vectors(many: Path, matrix: ScalarCodes) -> None:
    """Codebooks are trained on its vectors, in row order, and all of them are encoded."""
    snapshot = Snapshot(many)
    assert snapshot.mains.codes.tolist() == matrix.tolist()
    assert snapshot.manifest.trained_rows == MANY
    assert_encoded(snapshot, train(matrix, MANY))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lists", [1, 16])
@pytest.mark.parametrize("same_words", [True, False], ids=["rows copied", "terms weighed again"])
def test_copied_codes_are_those_of_encoding_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: int, same_words: bool
) -> None:
    """Unchanged rows keep their codes; only new and changed rows are encoded, by the same codebooks."""
    monkeypatch.setattr(product_codes, "list_count", lambda _: lists)
    monkeypatch.setattr(writer, "STATISTICS_GROWTH_MAX", 1e9 if same_words else 1.0)
    monkeypatch.setattr(files, "_ENCODED_ROWS", 9)
    store = vector_store(tmp_path, unit_points(90, DIMENSION))
    base = Snapshot(write(store))
    store.delete([f"r{at}" for at in (0, 1, 7, 50, 89)])
    store.write(vector_writes(unit_points(12, DIMENSION, seed=2), first=30, title="Changed"), NOW_MS)
    store.write(vector_writes(unit_points(20, DIMENSION, seed=3), first=90), NOW_MS)
    encode, encoded = Quantizers.encode, []

    def counted(self: Quantizers, vectors: Any) -> Any:
        encoded.append(len(vectors))
        return encode(self, vectors)

    with monkeypatch.context() as patch:
        patch.setattr(Quantizers, "encode", counted)
        snapshot = Snapshot(write(store))
    store.close()
    assert (snapshot.rows, snapshot.manifest.trained_rows) == (105, 90)
    assert (snapshot.manifest.statistics == base.manifest.statistics) == same_words
    assert sum(encoded) == 12 + 20
    assert max(encoded) <= 9
    assert_encoded(snapshot, quantizers_of(base))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("sizes", [[32, 47, 64, 65], [64, 40, 32, 31]], ids=["growing", "shrinking"])
def test_codebooks_stay_until_the_archive_has_doubled_or_halved(tmp_path: Path, sizes: list[int]) -> None:
    """Codebooks stay up to twice and down to half as many rows; one row beyond, they are trained again."""
    some = vector_writes(unit_points(80, DIMENSION))
    store = create_store(tmp_path / STORE_FILE, FakeEmbedder().info.key)
    made = []
    for size in sizes:
        store.write(some[:size], NOW_MS)
        store.delete([w.upsert.article.id for w in some[size:]])
        made.append(Snapshot(write(store)))
    store.close()
    assert [s.rows for s in made] == sizes
    assert [s.manifest.trained_rows for s in made] == [sizes[0], sizes[0], sizes[0], sizes[3]]
    for snapshot in made[:3]:
        assert_encoded(snapshot, quantizers_of(made[0]))
    assert_encoded(made[3], train(made[3].mains.codes, sizes[3]))


@pytest.mark.usefixtures("small")
def test_only_a_large_enough_archive_has_codes(tmp_path: Path) -> None:
    """The threshold is inclusive, and an archive that is large enough again is trained for again."""
    some = vector_writes(unit_points(COMPRESSIBLE, DIMENSION))
    store = create_store(tmp_path / STORE_FILE, FakeEmbedder().info.key)
    for size in (COMPRESSIBLE - 1, COMPRESSIBLE, COMPRESSIBLE - 1, COMPRESSIBLE):
        store.write(some[:size], NOW_MS)
        store.delete([w.upsert.article.id for w in some[size:]])
        snapshot = Snapshot(write(store))
        assert snapshot.rows == size
        if size < COMPRESSIBLE:
            assert snapshot.compressed is None
        else:
            assert_encoded(snapshot, train(snapshot.mains.codes, size))
        hits = snapshot.index.search(QUERY, 5, 0, NOW_MS, Scope())
        assert_best(hits, exact(snapshot.mains.codes, QUERY, 5, range(size)))
    store.close()


@pytest.mark.usefixtures("small")
def test_vectors_of_a_dimension_that_cannot_be_compressed_are_searched_exactly(tmp_path: Path) -> None:
    """Neither the whole archive nor a scope of it has product codes, whatever its size."""
    matrix, query = unit_vectors(60, 20), np.ones(20, np.float32)
    store = vector_store(tmp_path, unit_points(60, 20))
    snapshot = Snapshot(write_snapshot(store, tmp_path / SNAPSHOTS, 20), costs=CODES_ONLY)
    store.close()
    assert snapshot.compressed is None
    snapshot.index.warm_up([Scope(), tagged(3)])
    assert_best(snapshot.index.search(query, 5, 0, NOW_MS, Scope()), exact(matrix, query, 5, range(60)))
    assert_best(snapshot.index.search(query, 5, 0, NOW_MS, tagged(3)), exact(matrix, query, 5, range(3, 60, 10)))
