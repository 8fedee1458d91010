"""Records are read back as they were written, and take as few bytes as their paragraphs need."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.articles import Paragraph, Rules
from recommender.catalog.snapshot.record import Record, make_record
from recommender.catalog.text.derived import analyse
from recommender.catalog.text.terms import IN_TITLE, MASKED_PARAGRAPHS, TERM_BUCKETS, make_signature
from tests.building import article

IDF = np.ones(TERM_BUCKETS, np.float32)


def record_of(paragraphs: int, title: str = "Talks resume") -> Record:
    """Return the record of an article with this number of paragraphs, each with a word of its own."""
    words = ["zebra", "quay", "lemon", "flint", "gravel"]
    some = article(title=title, paragraphs=[Paragraph(f"{words[n % 5]}{n}") for n in range(paragraphs)])
    terms = analyse(some).terms
    return make_record(some, terms, make_signature(terms, IDF))


def with_masks(masks: list[int]) -> Record:
    """Return a record with these masks, each of another term."""
    values = {field.name: getattr(record_of(1), field.name) for field in fields(Record)}
    values |= {"surfaces": tuple(f"term {n}" for n in range(len(masks))), "masks": np.array(masks, np.uint64)}
    return Record(**values)


@given(masks=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 63).map(lambda bit: 1 << bit), max_size=20))
def test_a_record_is_read_back_whole(masks: list[int]) -> None:
    """Any masks are read back, also none, and every other value with them."""
    record = with_masks(masks)
    back = Record.from_bytes(record.to_bytes())
    for field in fields(Record):
        if field.name != "masks":
            assert getattr(back, field.name) == getattr(record, field.name)
    assert (back.masks.tolist(), str(back.masks.dtype)) == (masks, "uint64")


@pytest.mark.parametrize(("last", "size"), [(0, 1), (6, 1), (7, 2), (14, 2), (15, 4), (31, 8), (62, 8)])
def test_masks_are_as_wide_as_the_last_paragraph_needs(last: int, size: int) -> None:
    """Masks take the bytes that the last paragraph needs; the title's bit, the last of 64, is stored first."""
    masks = [IN_TITLE, 1 << last, IN_TITLE | 1]
    record = with_masks(masks)
    assert len(record.to_bytes()) - len(with_masks([]).to_bytes()) == len("\n".join(record.surfaces)) + 3 * size


def test_an_article_s_own_record_is_read_back() -> None:
    """Records of a stub, of a page, and of an article with more paragraphs than masks have bits are read back."""
    for paragraphs in (1, 12, MASKED_PARAGRAPHS + 5):
        record = record_of(paragraphs)
        assert Record.from_bytes(record.to_bytes()).masks.tolist() == record.masks.tolist()


def test_a_record_s_bytes_never_change() -> None:
    """Records are stored in snapshots: a change here would make every snapshot unreadable."""
    some = article("a", tags=["x", "y"], author="Jo", rules=Rules(never_with=("b",)))
    terms = analyse(some).terms
    blob = make_record(some, terms, make_signature(terms, IDF)).to_bytes()
    assert blob == (
        b"\x01\x00\x00\x00|\x00\x00\x001\x00\x00\x00a"
        b'["https://courier.example/a","Talks on the strait resume","","diplomacy","courier.example","en","Jo","",'
        b'["x","y"],"1",["b"]]'
        b"strait\nTalks\nresume\nEnvoys\nmet\nagain\nMonday\nspeak\x03\x01\x01\x02\x02\x02\x02\x02"
    )
