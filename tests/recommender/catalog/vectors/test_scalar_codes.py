"""Scalar quantisation keeps inner products closely, and a vector has the same code wherever it is made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.vectors.index import Vectors4Bit
from recommender.catalog.vectors.scalar_codes import (
    ZERO_CODE,
    dequantise_4bit,
    dequantise_8bit,
    encode_4bit,
    encode_8bit,
    levels_8bit,
    quantise_8bit,
    rotate,
    round_trip_4bit,
    round_trip_8bit,
    step_4bit,
    step_8bit,
)
from tests.searching import unit_points

DIMENSIONS = [1, 2, 3, 8, 20, 100, 384, 768]


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_rotation_keeps_inner_products(dimension: int) -> None:
    """Inner products, lengths included, stay equal to single precision."""
    points = unit_points(40, dimension).astype(np.float32)
    np.testing.assert_allclose(rotate(points) @ rotate(points).T, points @ points.T, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dimension", [100, 384, 768])
def test_no_component_of_a_rotated_vector_stands_out(dimension: int) -> None:
    """A vector with all its length in one component, as some models give, or in equal ones, fits the range."""
    reach = 127 * step_8bit(dimension)
    for vector in (*np.eye(dimension, dtype=np.float32), np.full(dimension, dimension**-0.5, np.float32)):
        assert np.abs(rotate(vector)).max() < reach


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_code_does_not_depend_on_what_is_encoded_with_it(dimension: int) -> None:
    """Codes are equal to the bit whether vectors are encoded alone, together or in another order."""
    points = unit_points(300, dimension).astype(np.float32)
    together = encode_8bit(points)
    assert [encode_8bit(point).tolist() for point in points] == together.tolist()
    assert encode_8bit(points[::-1]).tolist() == together[::-1].tolist()


def test_codes_are_the_same_in_every_process() -> None:
    """Codes are stored, so a change of these values would make every stored vector wrong."""
    assert encode_8bit(np.linspace(-0.6, 0.6, 8, dtype=np.float32)).tolist() == [128, 28, 128, 37, 128, 154, 128, 160]


def test_codes_are_made_from_half_precision() -> None:
    """An article's code is the same whether its vector comes from the encoder or, as float16, from the store."""
    points = np.random.default_rng(2).standard_normal((500, 64)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert encode_8bit(points.astype(np.float16).astype(np.float32)).tolist() == encode_8bit(points).tolist()


@pytest.mark.parametrize(("dimension", "typical"), [(100, 0.0015), (384, 0.0008), (768, 0.0007)])
def test_8_bit_inner_products_are_off_by_little(dimension: int, typical: float) -> None:
    """The error's standard deviation is bounded, and no error exceeds five times that bound."""
    points = unit_points(300, dimension).astype(np.float32)
    errors = round_trip_8bit(points) @ round_trip_8bit(points).T - points @ points.T
    assert errors.std() < typical
    assert np.abs(errors).max() < 5 * typical + 0.001  # the diagonal: a vector's error with itself does not cancel


@given(codes=st.lists(st.integers(1, 255), min_size=1, max_size=40))
def test_dequantised_vectors_quantise_to_the_same_codes(codes: list[int]) -> None:
    """Dequantising and quantising again changes nothing, and the levels are whole."""
    some = np.array(codes, np.uint8)
    assert quantise_8bit(dequantise_8bit(some)).tolist() == codes
    assert levels_8bit(dequantise_8bit(some)).tolist() == [code - ZERO_CODE for code in codes]


def test_components_outside_the_range_are_clipped() -> None:
    """Values beyond either end get the last code; zero has the middle one."""
    far = np.array([-9, -2, 0, 2, 9], np.float32)
    assert quantise_8bit(far).tolist() == [1, 1, ZERO_CODE, 255, 255]
    assert dequantise_8bit(np.array([ZERO_CODE], np.uint8)).tolist() == [0]


def test_no_vectors_have_no_codes() -> None:
    """An empty matrix encodes to an empty matrix of the right width."""
    assert encode_8bit(np.empty((0, 16), np.float32)).shape == (0, 16)
    assert encode_4bit(np.empty((0, 16), np.float32)).shape == (0, 8)


# Four bits


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_4_bit_code_packs_two_components_a_byte_and_stands_for_the_middle_of_its_interval(dimension: int) -> None:
    """No component inside the range is off by more than half a step, whatever the dimension."""
    points = unit_points(50, dimension).astype(np.float32)
    codes, step = encode_4bit(points), step_4bit(dimension)
    assert codes.shape == (50, -(-dimension // 2))
    clipped = np.clip(rotate(points), -7.5 * step, 7.5 * step)
    assert np.abs(round_trip_4bit(points) - clipped).max() <= step / 2 + 1e-3
    assert [encode_4bit(point).tolist() for point in points] == codes.tolist()
    assert dequantise_4bit(codes[7], dimension).tolist() == round_trip_4bit(points)[7].tolist()


@pytest.mark.parametrize("dimension", [1, 8, 33, 384])
def test_4_bit_cosines_are_those_of_the_vectors_as_read(dimension: int) -> None:
    """Rows may come in any order and repeat; a cosine is never above 1."""
    points = unit_points(60, dimension).astype(np.float32)
    stored, read = Vectors4Bit(encode_4bit(points), dimension), round_trip_4bit(points)
    assert stored.read(9).tolist() == read[9].tolist()
    for rows in (np.arange(60), np.array([5, 3, 3, 59]), np.empty(0, np.int64)):
        expected = np.minimum(read[rows] @ read[9], 1)
        np.testing.assert_allclose(stored.cosines(rows, read[9]), expected, rtol=0, atol=1e-6)


def test_4_bit_inner_products_are_off_by_little() -> None:
    """The error's standard deviation is below .0095, and a vector is most like itself."""
    points = unit_points(300, 384).astype(np.float32)
    stored, read = Vectors4Bit(encode_4bit(points), 384), round_trip_4bit(points)
    found = np.stack([stored.cosines(np.arange(300), query) for query in read])
    errors = (found - points @ points.T)[~np.eye(300, dtype=bool)]
    assert errors.std() < 0.0095
    assert (found.argmax(axis=1) == np.arange(300)).all()
