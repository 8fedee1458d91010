from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.embed_passages import encode_resumably, passages
from benchmarks.peers import corpus
from benchmarks.peers.generator import BLOCK, COPIES, Generator, normalised
from tests.benchmarks.corpora import DIMENSION, write_passages
from tests.building import FakeEmbedder, article


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Real vectors, float32."""
    return normalised(np.load(write_passages(tmp_path_factory.mktemp("base"))).astype(np.float32))


def test_a_block_depends_on_seed_and_number_only(base: np.ndarray) -> None:
    """A block is the same in any order and in any process; other seeds and numbers give others."""
    first, second = Generator(base, 1), Generator(base, 1)
    later = first.block(3)
    assert (second.block(0) == first.block(0)).all()
    assert (second.block(3) == later).all()
    assert (Generator(base, 2).block(3) != later).any()
    assert (first.block(4) != later).any()


def test_generated_vectors_are_unit_half_precision_and_new(base: np.ndarray) -> None:
    """Every row has length 1, and none equals a base vector."""
    block = Generator(base, 1).block(0)
    assert block.dtype == np.float16
    assert block.shape == (BLOCK, DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(block.astype(np.float32), axis=1), 1, atol=2e-3)
    assert ((block[:500].astype(np.float32) @ base.T).max(axis=1) < 0.9999).mean() > 0.99


def test_one_generated_vector_in_fifty_is_a_near_copy(base: np.ndarray) -> None:
    """Near copies have a cosine of about .99 to another row of their block."""
    block = Generator(base, 1).block(0).astype(np.float32)
    cosines = block[:2_048] @ block.T
    np.fill_diagonal(cosines, 0)
    copies = int((cosines.max(axis=1) > 0.98).sum())  # of copies and originals
    assert 2_048 // COPIES <= copies <= 3 * 2_048 // COPIES


def test_generated_vectors_are_as_similar_to_each_other_as_real_ones(base: np.ndarray) -> None:
    """Among as many generated vectors, the tenth nearest is about as near as among real ones."""
    block = Generator(base, 1).block(0)[: len(base)].astype(np.float32)

    def tenth_nearest(vectors: np.ndarray) -> float:
        return float(np.median(-np.partition(-(vectors[:500] @ vectors.T), 10)[:, 10]))

    assert tenth_nearest(block) == pytest.approx(tenth_nearest(base), abs=0.1)


def test_real_passages_are_taken_if_there_are_enough(tmp_path: Path) -> None:
    """Rows are real and in the passages' order, and no query is a row; a larger corpus is generated."""
    path = write_passages(tmp_path)
    real = normalised(np.load(path).astype(np.float32)).astype(np.float16)
    small = corpus.make(tmp_path / "small", path, 2_000, 50, seed=1)
    assert small.description["vectors"] == "real passages"
    places = [int(np.flatnonzero((real == row).all(axis=1))[0]) for row in small.vectors[:200]]
    assert places == sorted(places)
    assert (small.queries @ small.vectors.astype(np.float32).T).max() < 0.9999
    large = corpus.make(tmp_path / "large", path, 9_000, 50, seed=1)
    assert large.description["vectors"] == "generated around real passages"
    assert large.vectors.shape == (9_000, DIMENSION)
    with pytest.raises(ValueError, match="at most 2000 real rows"):
        corpus.make(tmp_path / "refused", path, 9_000, 50, seed=1, generated=False)


def test_columns_are_as_described(tmp_path: Path) -> None:
    """Times ascend, sites have their shares, a section is the nearest centroid, and a corpus loads as it was made."""
    made = corpus.make(tmp_path / "c", write_passages(tmp_path), 9_000, 50, seed=1)
    columns = made.columns
    assert (np.diff(columns.published_at_ms) > 0).all()
    shares = np.bincount(columns.site)[:3] / 9_000
    np.testing.assert_allclose(shares, corpus.SITES, rtol=0.5)
    assert (columns.section == (made.vectors.astype(np.float32) @ made.centroids.T).argmax(axis=1)).mean() > 0.999
    opened = corpus.load(tmp_path / "c")
    assert (opened.vectors == made.vectors).all()
    assert (opened.columns.site == columns.site).all()
    assert opened.description == made.description


def test_passages_are_overlapping_windows_of_whole_sentences() -> None:
    """A window has the words asked for or just more; the next begins one step later; a short rest is left out."""
    sentences = [f"Sentence number {n} has exactly seven words." for n in range(12)]
    windows = list(passages(article(paragraphs=[" ".join(sentences[:5]), " ".join(sentences[5:])]), words=20, step=14))
    assert windows[0] == " ".join(sentences[:3])
    assert windows[1] == " ".join(sentences[2:5])
    assert all(20 <= len(text.split()) <= 27 for text in windows[:-1])
    assert len(windows[-1].split()) >= 10
    assert list(passages(article(paragraphs=["Too short."]), words=20, step=14)) == []


def test_killed_embedding_continues(tmp_path: Path) -> None:
    """A part that ends within a row is cut to whole rows, and only the missing texts are embedded."""
    texts = [f"text number {n}" for n in range(1_500)]
    whole, part = tmp_path / "whole.part", tmp_path / "killed.part"
    assert list(encode_resumably(texts, FakeEmbedder(), whole)) == [(1_024, 1_500), (1_500, 1_500)]
    row_bytes = 2 * FakeEmbedder().info.dimension
    part.write_bytes(whole.read_bytes()[: 1_024 * row_bytes + 5])
    embedder = FakeEmbedder()
    assert list(encode_resumably(texts, embedder, part)) == [(1_500, 1_500)]
    assert embedder.texts == 476
    assert part.read_bytes() == whole.read_bytes()
