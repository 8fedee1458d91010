"""Builders for tests: a fake encoder, small articles, and archives of them with a real store and a real snapshot."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from recommender.answer.features import FEATURE_NAMES
from recommender.answer.fitted_ranker import FittedParameters
from recommender.catalog.articles import Article, Labels, Paragraph, ParagraphKind, Rules
from recommender.catalog.checks import make_article
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, open_live
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.store import Change, Store, create_store, open_store
from recommender.catalog.store.writes import Upsert, Write
from recommender.catalog.text.derived import analyse
from recommender.catalog.text.terms import words_of
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from recommender.clock import DAY_MS
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Matrix, ModelInfo

NOW_MS = 1_780_000_000_000
"""The clock of tests: 2026-05-28."""
DIMENSION = 32


class FakeEmbedder:
    """An Embedder without a model: a text is the normalised sum of one fixed random vector for each of its words."""

    def __init__(self, name: str = "fake", dimension: int = DIMENSION) -> None:
        self._info = ModelInfo(name, zlib.crc32(name.encode()).to_bytes(4, "big").hex() * 8, dimension, 256)
        self.texts = 0

    @property
    def info(self) -> ModelInfo:
        return self._info

    def encode(self, texts: Sequence[str]) -> Matrix:
        self.texts += len(texts)
        vectors = np.stack([self._one(text) for text in texts]) if texts else np.empty((0, self._info.dimension))
        return vectors.astype(np.float32)

    def _one(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        total = np.full(self._info.dimension, 1e-3)
        for word in words_of(text.lower()):
            total += _vector_of(word, self._info.dimension)
        unit: np.ndarray[tuple[int], np.dtype[np.float64]] = total / np.linalg.norm(total)
        return unit


@lru_cache(maxsize=50_000)
def _vector_of(word: str, dimension: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(dimension)


class RecordingProgress:
    """A Progress that keeps what it gets: the stages with their totals, and for each the steps of every call."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.steps: list[list[int]] = []

    def begin(self, stage: str, total: int | None) -> None:
        self.stages.append((stage, total))
        self.steps.append([])

    def advance(self, steps: int = 1) -> None:
        self.steps[-1].append(steps)


def article(
    id: str = "a",
    *,
    title: str = "Talks on the strait resume",
    summary: str = "",
    paragraphs: Iterable[str | Paragraph] = ("Envoys met again on Monday to speak about the strait.",),
    days_ago: float = 1.0,
    section: str = "diplomacy",
    site: str = "courier.example",
    language: str = "en",
    author: str = "",
    tags: Sequence[str] = (),
    url: str | None = None,
    rules: Rules | None = None,
) -> Article:
    """Return a valid article published `days_ago` before NOW_MS."""
    return make_article(
        id=id,
        url=f"https://courier.example/{id}" if url is None else url,
        title=title,
        summary=summary,
        paragraphs=[p if isinstance(p, Paragraph) else Paragraph(p, ParagraphKind.TEXT) for p in paragraphs],
        published_at_ms=NOW_MS - int(days_ago * DAY_MS),
        now_ms=NOW_MS,
        labels=Labels(site, section, tuple(tags), language, author),
        rules=rules,
    )


def writes(articles: Sequence[Article | Upsert], embedder: FakeEmbedder | None = None) -> list[Write]:
    """Return what the store takes, embedded by the fake encoder."""
    upserts = [one if isinstance(one, Upsert) else Upsert(one) for one in articles]
    vectors = embed([upsert.article for upsert in upserts], embedder or FakeEmbedder())
    return [Write(u, v, analyse(u.article)) for u, v in zip(upserts, vectors, strict=True)]


def stored(articles: Sequence[Article]) -> dict[str, StoredArticle]:
    """Return articles as `Store.stored` would, by id."""
    return {w.upsert.article.id: StoredArticle(w.upsert.article, w.vectors, w.analysis) for w in writes(articles)}


def build_store(folder: Path, articles: Sequence[Article]) -> Store:
    """Return a store in `folder` that holds `articles`."""
    store = create_store(folder / STORE_FILE, FakeEmbedder().info.key)
    store.write(writes(articles), NOW_MS)
    return store


def build_snapshot(folder: Path, articles: Sequence[Article], costs: SearchCosts = MEASURED) -> Snapshot:
    """Return a new snapshot of a new store in `folder` that holds `articles`."""
    store = build_store(folder, articles)
    try:
        return Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION), costs=costs)
    finally:
        store.close()


def build_live(folder: Path, articles: Sequence[Article], costs: SearchCosts = MEASURED) -> Live:
    """Return the live view of a new snapshot of a new store in `folder` that holds `articles`."""
    return Live(build_snapshot(folder, articles, costs))


def replayed(snapshot: Snapshot, articles: Sequence[Article]) -> Live:
    """Return the live view of a snapshot after `articles` were written; makes no file."""
    live = Live(snapshot)
    changes = [Change(live.revision + n, a.id, deleted=False) for n, a in enumerate(articles, 1)]
    live.apply(changes, live.row_values(stored(articles).values()))
    return live


def open_archive(folder: Path, embedder: FakeEmbedder | None = None) -> tuple[Store, Live]:
    """Return store and live view of a data folder, as a service opens them."""
    info = (embedder or FakeEmbedder()).info
    store = open_store(folder / STORE_FILE, info.key)
    return store, open_live(store, folder / SNAPSHOTS, info.dimension)


def make_parameters(**changes: Any) -> FittedParameters:
    """Return a ranker for indexes of the fake encoder, without trees; the same author decides."""
    ones = dict.fromkeys(FEATURE_NAMES, 1.0)
    values: dict[str, Any] = {
        "name": "fitted-for-tests",
        "encoder": FakeEmbedder().info.key,
        "weights": {**dict.fromkeys(FEATURE_NAMES, 0.1), "author": 5.0},
        "means": dict.fromkeys(FEATURE_NAMES, 0.25),
        "scales": ones,
        "slope": 0.5,
        "intercept": -1.0,
    }
    return FittedParameters(**{**values, **changes})
