"""How vectors are held: turning keeps inner products, codes lose little, both are the same wherever they are made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.vectors.index import ShortVectors
from recommender.catalog.vectors.scalar_codes import (
    ZERO,
    as_held,
    as_short,
    decoded,
    encoded,
    held,
    in_steps,
    read_short,
    short,
    short_step,
    step,
    turned,
)
from tests.searching import unit_points

DIMENSIONS = [1, 2, 3, 8, 20, 100, 384, 768]


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_turning_keeps_inner_products(dimension: int) -> None:
    """To single precision, lengths included."""
    points = unit_points(40, dimension).astype(np.float32)
    np.testing.assert_allclose(turned(points) @ turned(points).T, points @ points.T, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dimension", [100, 384, 768])
def test_no_component_of_a_turned_vector_stands_out(dimension: int) -> None:
    """A vector with all its length in one component, as some models have, or in equal ones, fits the codes' range."""
    reach = 127 * step(dimension)
    for vector in (*np.eye(dimension, dtype=np.float32), np.full(dimension, dimension**-0.5, np.float32)):
        assert np.abs(turned(vector)).max() < reach


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_code_does_not_depend_on_what_is_encoded_with_it(dimension: int) -> None:
    """One at a time, all at once, in another order: the same to the bit; a snapshot's row is the tail's."""
    points = unit_points(300, dimension).astype(np.float32)
    together = held(points)
    assert [held(point).tolist() for point in points] == together.tolist()
    assert held(points[::-1]).tolist() == together[::-1].tolist()


def test_codes_are_the_same_in_every_process() -> None:
    """They are stored: a change here would make every stored vector wrong."""
    assert held(np.linspace(-0.6, 0.6, 8, dtype=np.float32)).tolist() == [128, 28, 128, 37, 128, 154, 128, 160]


def test_codes_are_made_of_what_the_store_keeps() -> None:
    """An article's vector is the same whether it comes from the encoder or, at half precision, from the store."""
    points = np.random.default_rng(2).standard_normal((500, 64)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert held(points.astype(np.float16).astype(np.float32)).tolist() == held(points).tolist()


@pytest.mark.parametrize(("dimension", "typical"), [(100, 0.0015), (384, 0.0008), (768, 0.0007)])
def test_inner_products_are_off_by_little(dimension: int, typical: float) -> None:
    """Of two rounded vectors: the standard deviation of the error, and no outlier beyond five times that."""
    points = unit_points(300, dimension).astype(np.float32)
    errors = as_held(points) @ as_held(points).T - points @ points.T
    assert errors.std() < typical
    assert np.abs(errors).max() < 5 * typical + 0.001  # the diagonal: a vector's error with itself does not cancel


@given(codes=st.lists(st.integers(1, 255), min_size=1, max_size=40))
def test_what_is_read_back_has_the_same_code(codes: list[int]) -> None:
    """Reading and encoding again changes nothing, and asks for whole steps."""
    some = np.array(codes, np.uint8)
    assert encoded(decoded(some)).tolist() == codes
    assert in_steps(decoded(some)).tolist() == [code - ZERO for code in codes]


def test_what_is_beyond_the_range_is_cut_off() -> None:
    """At its ends, on either side; zero is in the middle."""
    far = np.array([-9, -2, 0, 2, 9], np.float32)
    assert encoded(far).tolist() == [1, 1, ZERO, 255, 255]
    assert decoded(np.array([ZERO], np.uint8)).tolist() == [0]


def test_no_vectors_have_no_codes() -> None:
    """Nothing is turned and encoded to nothing."""
    assert held(np.empty((0, 16), np.float32)).shape == (0, 16)
    assert short(np.empty((0, 16), np.float32)).shape == (0, 8)


# In short


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_short_code_is_two_components_a_byte_and_stands_for_their_middle(dimension: int) -> None:
    """Whatever the dimension: no component is off by more than half a step, but for those beyond the range."""
    points = unit_points(50, dimension).astype(np.float32)
    codes, width = short(points), short_step(dimension)
    assert codes.shape == (50, -(-dimension // 2))
    reached = np.clip(turned(points), -7.5 * width, 7.5 * width)
    assert np.abs(as_short(points) - reached).max() <= width / 2 + 1e-3
    assert [short(point).tolist() for point in points] == codes.tolist()
    assert read_short(codes[7], dimension).tolist() == as_short(points)[7].tolist()


@pytest.mark.parametrize("dimension", [1, 8, 33, 384])
def test_short_vectors_are_compared_as_they_are_read(dimension: int) -> None:
    """In whatever order, repeated too; a cosine is never more than 1."""
    points = unit_points(60, dimension).astype(np.float32)
    stored, read = ShortVectors(short(points), dimension), as_short(points)
    assert stored.read(9).tolist() == read[9].tolist()
    for rows in (np.arange(60), np.array([5, 3, 3, 59]), np.empty(0, np.int64)):
        expected = np.minimum(read[rows] @ read[9], 1)
        np.testing.assert_allclose(stored.cosines(rows, read[9]), expected, rtol=0, atol=1e-6)


def test_in_short_inner_products_are_off_by_less_than_differences_count() -> None:
    """A standard deviation of .0095, and copies are the most alike."""
    points = unit_points(300, 384).astype(np.float32)
    stored, read = ShortVectors(short(points), 384), as_short(points)
    found = np.stack([stored.cosines(np.arange(300), query) for query in read])
    errors = (found - points @ points.T)[~np.eye(300, dtype=bool)]
    assert errors.std() < 0.0095
    assert (found.argmax(axis=1) == np.arange(300)).all()
