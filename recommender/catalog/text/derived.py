"""Values derived from an article's text and stored with it: vectors (by a model) and analysis (without one)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recommender.catalog.articles import Article, Body
from recommender.catalog.text.near_copies import Sketch, make_sketch
from recommender.catalog.text.terms import Terms, extract_terms

ANALYSIS = "terms-3+sketch-2"
"""Version of terms and sketches; change it whenever terms.py or near_copies.py return other values."""


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """The two vectors of one article, float32 (dimension,), normalised: `main` is searched, `head` only compared."""

    main: npt.NDArray[np.float32]
    head: npt.NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """Serialise at half precision, main first; `Vectors.from_bytes` reads it back."""
        return np.concatenate((self.main, self.head)).astype(np.float16).tobytes()

    @staticmethod
    def from_bytes(blob: bytes) -> Vectors:
        """Read back what `to_bytes` wrote; values are those of half precision."""
        main, head = np.frombuffer(blob, np.float16).astype(np.float32).reshape(2, -1)
        return Vectors(main, head)


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Terms and sketch of one text, derived without a model."""

    terms: Terms
    sketch: Sketch


def analyse(text: Article | Body) -> Analysis:
    """Extract terms and sketch of one text."""
    return Analysis(extract_terms(text.title, text.summary, text.paragraphs), make_sketch(text.paragraphs))
