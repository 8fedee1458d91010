"""Any number of made-up articles with vectors: paragraphs of real ones mixed, vectors drawn at random.

Article n depends on the seed and n alone. It has the labels and the number of paragraphs of one real article,
paragraphs of any, and its number in the title, so that no two texts are equal. Its vectors lie around one point for
each real article. So lengths are real, but the vocabulary is smaller than that of a real archive of that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.peers.corpus import ARTICLES_PER_DAY
from recommender.catalog.articles import Article, Paragraph
from recommender.catalog.checks import make_article
from recommender.catalog.text.derived import Vectors
from recommender.clock import DAY_MS
from recommender.encoding.text_recipe import Vector

_MAIN_NOISE = 0.7
"""Length of the random vector that is added to the real article's point for a main vector."""
_HEAD_NOISE = 0.35
"""Length of the random vector that is added to the main vector for a head vector."""


@dataclass(frozen=True)
class Mixed:
    """An archive of `articles` articles made of the `real` ones; the last is published at `now_ms`."""

    real: Sequence[Article]
    articles: int
    dimension: int
    now_ms: int
    seed: int

    def article(self, number: int, version: int = 0) -> tuple[Article, Vectors]:
        """Return article `number`, in [0, articles), oldest first. Another version of it has another text."""
        random = np.random.default_rng((self.seed, number, version))
        like = int(random.integers(len(self.real)))
        shape = self.real[like]
        drawn = random.integers(len(self._paragraphs), size=len(shape.paragraphs))
        step_ms = min(DAY_MS // ARTICLES_PER_DAY, self.now_ms // (self.articles + 1))
        mixed = make_article(
            id=f"n{number}",
            url=f"https://mixed.example/{number}",
            title=f"{shape.title[:900]} {number}.{version}",
            summary=shape.summary,
            paragraphs=[self._paragraphs[i] for i in drawn],
            published_at_ms=self.now_ms - (self.articles - 1 - number) * step_ms,
            now_ms=self.now_ms,
            labels=shape.labels,
        )
        main = self._around(self._centres[like], _MAIN_NOISE, random)
        return mixed, Vectors(main, self._around(main, _HEAD_NOISE, random))

    @cached_property
    def _paragraphs(self) -> list[Paragraph]:
        return [paragraph for article in self.real for paragraph in article.paragraphs]

    @cached_property
    def _centres(self) -> npt.NDArray[np.float32]:
        drawn = np.random.default_rng(self.seed).standard_normal((len(self.real), self.dimension), np.float32)
        unit: npt.NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit

    def _around(self, centre: Vector, noise: float, random: np.random.Generator) -> Vector:
        moved = centre + random.standard_normal(self.dimension, np.float32) * np.float32(noise / self.dimension**0.5)
        unit: Vector = moved / np.linalg.norm(moved)
        return unit
