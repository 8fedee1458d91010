from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks import reindexing
from benchmarks.data import open_live, read_articles
from benchmarks.mixed import Mixed
from benchmarks.reindexing import STEPS, Plan, Values, in_own_process, measure
from recommender.catalog.opening import STORE_FILE
from recommender.catalog.store.store import open_store
from tests.building import NOW_MS

ARTICLES, CHANGED = 60, 20
ALLOCATED_BYTES = 256 << 20
"""Memory that a step allocates, to find it in its peak."""


def write_real(folder: Path) -> Path:
    """Write a few articles that a benchmark takes for real ones."""
    path = folder / "real.jsonl"
    lines = [
        {
            "id": f"r{n}",
            "title": f"Harbour news {n}",
            "paragraphs": [f"Paragraph {p} of article {n} speaks of ships and tides." for p in range(n + 1)],
            "published_at": "2026-01-01T00:00:00Z",
            "section": f"s{n}",
        }
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan of a small archive."""
    return Plan(tmp_path / "data", write_real(tmp_path), ARTICLES, CHANGED, NOW_MS, seed=1)


def here(step: reindexing.Step, plan: Plan) -> Values:
    """Carry out a step in this process."""
    return step(plan)


def allocate(plan: Plan) -> Values:
    """Allocate memory for a moment."""
    return {"sum": int(np.ones(ALLOCATED_BYTES, np.uint8)[plan.articles])}


def test_articles_are_distinct_and_depend_on_seed_number_and_version_only(plan: Plan) -> None:
    """Labels and lengths are of one real article, paragraphs of any, and the last article is published now."""
    real = list(read_articles(plan.like))
    mixed = Mixed(real, 200, 32, NOW_MS, seed=1)
    made = [mixed.article(n) for n in range(200)]
    assert len({one.text_hash() for one, _ in made}) == 200
    assert [one.published_at_ms for one, _ in made] == sorted(one.published_at_ms for one, _ in made)
    assert made[-1][0].published_at_ms == NOW_MS
    lengths = {one.labels.section: len(one.paragraphs) for one in real}
    paragraphs = {paragraph for one in real for paragraph in one.paragraphs}
    assert all(
        lengths[one.labels.section] == len(one.paragraphs) and paragraphs >= set(one.paragraphs) for one, _ in made
    )
    assert len({one.labels.section for one, _ in made}) == 4
    vectors = np.stack([vector for _, both in made for vector in (both.main, both.head)])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    again, other = Mixed(real, 200, 32, NOW_MS, seed=1), Mixed(real, 200, 32, NOW_MS, seed=2)
    assert again.article(7)[0] == made[7][0]
    assert (again.article(7)[1].main == made[7][1].main).all()
    assert (other.article(7)[1].main != made[7][1].main).any()
    assert mixed.article(7, 1)[0].text_hash() != made[7][0].text_hash()
    assert mixed.article(7, 1)[0].id == made[7][0].id


def test_ten_million_articles_are_published_after_1970(plan: Plan) -> None:
    """Articles come more often than 66 a day if they would begin before."""
    mixed = Mixed(list(read_articles(plan.like)), 10_000_000, 32, NOW_MS, seed=1)
    assert 0 < mixed.article(0)[0].published_at_ms < mixed.article(1)[0].published_at_ms


def test_every_step_leaves_what_the_next_measures(plan: Plan) -> None:
    """The store has all articles, a third of them changed, and the snapshot has them too."""
    values = measure(plan, here)
    assert list(values["steps"]) == list(STEPS)
    assert values["steps"]["open_with_changes"]["changes"] == CHANGED
    with closing(open_store(plan.data_dir / STORE_FILE)) as store:
        assert store.revision() == ARTICLES + CHANGED
        changed = [one.id for one in store.get_many(list(store.ids())).values() if one.title.endswith(".1")]
    assert sorted(changed) == sorted(f"n{n}" for n in range(0, ARTICLES, 3))
    live = open_live(plan.data_dir)
    assert live.manifest.revision == ARTICLES + CHANGED
    assert len(live.rows()) == ARTICLES
    files = values["disk"]["snapshot_files_bytes_per_article"]
    assert files["mains.npy"] == pytest.approx(reindexing.DIMENSION, abs=128 / ARTICLES)
    assert sum(files.values()) == pytest.approx(values["disk"]["snapshot_bytes_per_article"])
    assert values["disk"]["store_bytes_per_article"] > 2 * files["mains.npy"]


def test_reindexing_may_not_embed(plan: Plan) -> None:
    """Missing vectors are an error; here those of head and passage of one article."""
    STEPS["store"](plan)
    with closing(sqlite3.connect(plan.data_dir / STORE_FILE)) as connection, connection:
        connection.execute("DELETE FROM vectors WHERE rowid = 5")
    with pytest.raises(AssertionError, match="2 texts to embed"):
        STEPS["reindex_vectors_cached"](plan)


def test_a_steps_peak_of_memory_is_its_own(plan: Plan) -> None:
    """Memory of another step or of this process is not in it."""
    own = np.ones(2 * ALLOCATED_BYTES, np.uint8)
    assert ALLOCATED_BYTES < in_own_process(allocate, plan)["peak_memory_bytes"] < len(own)
