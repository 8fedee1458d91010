"""Scalar quantisation: vectors are rotated, then each component is rounded to 8 bits, or to 4.

The rotation is a fixed orthogonal matrix, random signs followed by a discrete cosine transform, so inner products do
not change. After it the components of any model's vectors have about the same size (Ailon and Chazelle 2006), and one
step size suits them all. That step depends on the dimension only: a vector has the same code in every snapshot.

With 384 dimensions an inner product of 8-bit vectors is off by .0005; brute-force search finds the best 100 of a
million with recall .996. An inner product of 4-bit vectors is off by .009: too much to search by, little for one
feature among several.

All vectors that the catalog returns, and all queries that it takes, are rotated.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
ScalarCodes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

ZERO_CODE = 128
"""The 8-bit code of the value 0. FAISS calls such codes "direct signed"."""
_LEVEL_MAX = 127
"""Largest level of the 8-bit quantiser; a level is a code minus ZERO_CODE."""
_RANGE_8BIT = 4.5
"""Range of the 8-bit quantiser on either side of 0, in standard deviations of a component, 1 / sqrt(dimension) each.

Of 384 normally distributed components, one vector in 400 has one outside the range; it is clipped.
"""
LEVELS_4BIT = 16
"""Number of levels of the 4-bit quantiser."""
_RANGE_4BIT = 2.7
"""Range of the 4-bit quantiser, as _RANGE_8BIT: the one with the least error for normally distributed components."""


def step_8bit(dimension: int) -> float:
    """Return the difference of two neighbouring levels of the 8-bit quantiser."""
    return min(1.0, _RANGE_8BIT / math.sqrt(dimension)) / _LEVEL_MAX


def step_4bit(dimension: int) -> float:
    """Return the difference of two neighbouring levels of the 4-bit quantiser."""
    return 2 * _RANGE_4BIT / math.sqrt(dimension) / LEVELS_4BIT


def rotate(vectors: Floats) -> Vector:
    """Rotate one vector, (dimension,), or several, (n, dimension). A row's result does not depend on other rows."""
    rotated: Vector = (vectors.astype(np.float64) @ _rotation(vectors.shape[-1])).astype(np.float32)
    return rotated


def levels_8bit(rotated: Vector) -> Vector:
    """Return the 8-bit quantiser's levels of rotated vectors: whole numbers from -127 to 127, as float32."""
    levels: Vector = np.rint(rotated / np.float32(step_8bit(rotated.shape[-1])))
    return np.clip(levels, -_LEVEL_MAX, _LEVEL_MAX)


def quantise_8bit(rotated: Vector) -> ScalarCodes:
    """Return the 8-bit codes of rotated vectors, uint8 of the same shape."""
    return (levels_8bit(rotated) + ZERO_CODE).astype(np.uint8)


def dequantise_8bit(codes: ScalarCodes) -> Vector:
    """Return the rotated vectors that 8-bit codes stand for, float32 of the same shape."""
    return (codes.astype(np.float32) - ZERO_CODE) * np.float32(step_8bit(codes.shape[-1]))


def encode_8bit(vectors: Floats) -> ScalarCodes:
    """Rotate and quantise vectors to 8 bits a component.

    They are rounded to float16 first, as in the store, so that stored and request vectors get identical codes.
    """
    return quantise_8bit(rotate(vectors.astype(np.float16)))


def round_trip_8bit(vectors: Floats) -> Vector:
    """Return rotated vectors as they are read back from 8-bit codes."""
    return dequantise_8bit(encode_8bit(vectors))


def encode_4bit(vectors: Floats) -> ScalarCodes:
    """Rotate and quantise vectors to 4 bits a component, rounded to float16 first: uint8 (n, ceil(dimension / 2)).

    The first of a byte's two components is in the lower half. A code stands for the middle of its interval.
    """
    rotated = rotate(vectors.astype(np.float16))
    levels = np.floor(rotated / np.float32(step_4bit(vectors.shape[-1])))
    codes = (np.clip(levels, -LEVELS_4BIT // 2, LEVELS_4BIT // 2 - 1) + LEVELS_4BIT // 2).astype(np.uint8)
    if codes.shape[-1] % 2:
        codes = np.concatenate((codes, np.zeros_like(codes[..., :1])), axis=-1)
    packed: ScalarCodes = codes[..., ::2] | (codes[..., 1::2] << 4)
    return packed


def dequantise_4bit(codes: ScalarCodes, dimension: int) -> Vector:
    """Return the rotated vectors that packed 4-bit codes stand for, float32 (n, dimension)."""
    unpacked = np.stack((codes & 15, codes >> 4), axis=-1).reshape(*codes.shape[:-1], -1)[..., :dimension]
    return (unpacked.astype(np.float32) + np.float32(0.5 - LEVELS_4BIT / 2)) * np.float32(step_4bit(dimension))


def round_trip_4bit(vectors: Floats) -> Vector:
    """Return rotated vectors as they are read back from 4-bit codes."""
    return dequantise_4bit(encode_4bit(vectors), vectors.shape[-1])


@lru_cache(maxsize=4)
def _rotation(dimension: int) -> npt.NDArray[np.float64]:
    """Return an orthogonal matrix: random signs, the same every time, then DCT-II.

    Double precision makes codes independent of the order in which a library adds up.
    """
    at = np.arange(dimension)
    cosines = np.cos(np.pi / dimension * np.outer(at + 0.5, at)) * math.sqrt(2 / dimension)
    cosines[:, 0] /= math.sqrt(2)
    signs = np.unpackbits(np.frombuffer(hashlib.shake_128(b"turn").digest(-(-dimension // 8)), np.uint8))[:dimension]
    rotation: npt.NDArray[np.float64] = cosines * np.where(signs, -1.0, 1.0)[:, None]
    return rotation
