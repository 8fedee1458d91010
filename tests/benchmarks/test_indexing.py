from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks import indexing, plain_encode
from benchmarks.data import read_articles
from benchmarks.plain_encode import BLOCK_TEXTS, Encode, beside_plain
from recommender.encoding.embedder import Matrix
from tests.building import FakeEmbedder, article


class Clock:
    """A clock that only fake encoders move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that times both encoders."""
    clock = Clock()
    monkeypatch.setattr(plain_encode, "time", clock)
    return clock


def taking(
    clock: Clock, seconds: Callable[[int], float], calls: list[tuple[str, tuple[str, ...]]], name: str, scale: float = 1
) -> Encode:
    """Return a fake encoder that records its calls. seconds: of its n-th call, from 0."""

    def encode(texts: Sequence[str]) -> Matrix:
        clock.now += seconds(sum(called == name for called, _ in calls))
        calls.append((name, tuple(texts)))
        return FakeEmbedder().encode(texts) * np.float32(scale)

    return encode


def test_both_encode_every_text_by_turns(clock: Clock) -> None:
    """They take turns block by block, neither always first, after one block that is not counted."""
    texts = [f"text {n}" for n in range(2 * BLOCK_TEXTS + 10)]
    calls: list[tuple[str, tuple[str, ...]]] = []
    ours = taking(clock, lambda n: 100.0 if n == 0 else 1.0, calls, "ours")
    plain = taking(clock, lambda n: 100.0 if n == 0 else 4.0 if n < 3 else 1.0, calls, "plain", scale=3)
    result = beside_plain(texts, ours, plain)
    assert [name for name, _ in calls[2:]] == ["ours", "plain", "plain", "ours", "ours", "plain"]
    for name in ("ours", "plain"):
        assert [text for called, block in calls[2:] if called == name for text in block] == texts
    assert result["texts_per_s"] == {"ours": len(texts) / 3, "plain": len(texts) / 9}
    assert result["ratio"] == pytest.approx(3)
    assert result["median_ratio_of_blocks"] == pytest.approx(4)
    assert result["least_cosine"] == pytest.approx(1), "lengths do not matter"


def test_the_least_cosine_is_that_of_the_worst_text(clock: Clock) -> None:
    """One different vector of many is noticed, in whichever block it is."""
    texts = [f"text {n}" for n in range(2 * BLOCK_TEXTS)]
    same = taking(clock, lambda _: 1.0, [], "ours")

    def other(texts: Sequence[str]) -> Matrix:
        vectors = same(texts)
        vectors[[text == "text 3" for text in texts]] *= -1
        return vectors

    result = beside_plain(texts, same, other)
    assert result["least_cosine"] == pytest.approx(-1)
    assert result["mean_cosine"] == pytest.approx(1 - 2 / len(texts))


def test_a_trial_takes_the_first_lines_only(tmp_path: Path) -> None:
    """They are JSON Lines, compressed or not; in other formats an article has no known end."""
    lines = [
        json.dumps({"id": f"a{n}", "title": f"Title {n}", "published_at": "2026-01-01T00:00:00Z"}) + "\n"
        for n in range(5)
    ]
    plain, packed, table = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", tmp_path / "c.csv"
    plain.write_text("".join(lines))
    packed.write_bytes(gzip.compress("".join(lines).encode()))
    table.write_text("id,title\n")
    for path in (plain, packed):
        some = indexing._first_lines(path, 3, tmp_path / "first.jsonl")
        assert [one.id for one in read_articles(some)] == ["a0", "a1", "a2"]
    with pytest.raises(typer.BadParameter, match="is not JSON Lines"):
        indexing._first_lines(table, 3, tmp_path / "first.jsonl")


def test_texts_are_those_of_the_recipe_of_articles_spread_over_the_input() -> None:
    """They are head and passages, here of every second article."""
    articles = [article(f"a{n}", title=f"Title {n}", paragraphs=[f"Body {n}."]) for n in range(6)]
    texts = ["Title 0", "Body 0.", "Title 2", "Body 2.", "Title 4", "Body 4."]
    assert indexing._texts(articles, 3) == texts
