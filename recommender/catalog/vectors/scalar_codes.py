"""How a snapshot and the tail hold vectors: turned, then rounded to eight bits a component, or in short to four.

The turn is orthogonal and always the same, signs flipped and then a discrete cosine transform, so inner products stay
what they are. After it the components of any model's vectors are alike, none far larger than the others (Ailon and
Chazelle 2006), and one step between two codes suits them all, which depends on nothing but the dimension: a vector has
the same code wherever and whenever it is made. With 384 dimensions an inner product is off by .0005; of a million
vectors the exact best 100 are found with recall .996. In short it is off by .009: too much to search by, little where
it is one of several things that are weighed.

Everything in the catalog is turned: vectors that it returns, and queries that it is asked.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Coded = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

ZERO = 128
"""The code of 0; FAISS calls such codes "direct signed"."""
_STEPS = 127
_DEVIATIONS = 4.5
"""Codes reach so many standard deviations, 1 / sqrt(dimension) each; of 384 components that follow the normal
distribution one of 400 vectors has one beyond them, which is cut off."""
SHORT_CODES = 16
_SHORT_DEVIATIONS = 2.7
"""So far the short codes reach, which loses least of such components."""


def step(dimension: int) -> float:
    """Return how far two neighbouring codes are apart."""
    return min(1.0, _DEVIATIONS / math.sqrt(dimension)) / _STEPS


def turned(vectors: Floats) -> Vector:
    """Return float32 of the same shape, (dimension,) or (n, dimension). Each row is the same whatever is beside it."""
    turn: Vector = (vectors.astype(np.float64) @ _turn(vectors.shape[-1])).astype(np.float32)
    return turn


def in_steps(vectors: Vector) -> Vector:
    """Return turned vectors in steps: whole numbers, float32 of the same shape."""
    steps: Vector = np.rint(vectors / np.float32(step(vectors.shape[-1])))
    return np.clip(steps, -_STEPS, _STEPS)


def encoded(vectors: Vector) -> Coded:
    """Return the codes of turned vectors, uint8 of the same shape."""
    return (in_steps(vectors) + ZERO).astype(np.uint8)


def decoded(codes: Coded) -> Vector:
    """Return the turned vectors of codes, float32 of the same shape."""
    return (codes.astype(np.float32) - ZERO) * np.float32(step(codes.shape[-1]))


def held(vectors: Floats) -> Coded:
    """Return how the catalog holds vectors, not turned yet: from half precision on, in which the store keeps them."""
    return encoded(turned(vectors.astype(np.float16)))


def as_held(vectors: Floats) -> Vector:
    """Return what is read back of vectors, not turned yet, once they are held."""
    return decoded(held(vectors))


def short_step(dimension: int) -> float:
    """Return how far two neighbouring short codes are apart."""
    return 2 * _SHORT_DEVIATIONS / math.sqrt(dimension) / SHORT_CODES


def short(vectors: Floats) -> Coded:
    """Return how the catalog holds vectors in short, not turned yet: uint8 (n, dimension / 2, rounded up).

    Of a byte's two components the first is in the lower half. A code stands for the middle of what is rounded to it.
    """
    turns = turned(vectors.astype(np.float16))
    steps = np.floor(turns / np.float32(short_step(vectors.shape[-1])))
    codes = (np.clip(steps, -SHORT_CODES // 2, SHORT_CODES // 2 - 1) + SHORT_CODES // 2).astype(np.uint8)
    if codes.shape[-1] % 2:
        codes = np.concatenate((codes, np.zeros_like(codes[..., :1])), axis=-1)
    halves: Coded = codes[..., ::2] | (codes[..., 1::2] << 4)
    return halves


def read_short(codes: Coded, dimension: int) -> Vector:
    """Return the turned vectors of short codes, float32 (n, dimension)."""
    both = np.stack((codes & 15, codes >> 4), axis=-1).reshape(*codes.shape[:-1], -1)[..., :dimension]
    return (both.astype(np.float32) + np.float32(0.5 - SHORT_CODES / 2)) * np.float32(short_step(dimension))


def as_short(vectors: Floats) -> Vector:
    """Return what is read back of vectors, not turned yet, once they are held in short."""
    return read_short(short(vectors), vectors.shape[-1])


@lru_cache(maxsize=4)
def _turn(dimension: int) -> npt.NDArray[np.float64]:
    """Return an orthogonal matrix: the components negated or not, as by the toss of a coin, then DCT-II over them.

    In double precision, so that in which order a library adds up makes no difference to a code.
    """
    at = np.arange(dimension)
    cosines = np.cos(np.pi / dimension * np.outer(at + 0.5, at)) * math.sqrt(2 / dimension)
    cosines[:, 0] /= math.sqrt(2)
    tossed = np.unpackbits(np.frombuffer(hashlib.shake_128(b"turn").digest(-(-dimension // 8)), np.uint8))[:dimension]
    turn: npt.NDArray[np.float64] = cosines * np.where(tossed, -1.0, 1.0)[:, None]
    return turn
