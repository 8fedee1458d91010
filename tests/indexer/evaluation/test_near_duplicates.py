"""Near-copy detection on labelled pairs: made-up ones, and real ones where they are at hand."""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from indexer.evaluation import near_duplicates
from indexer.pipeline import run
from indexer.sources import open_source
from recommender.answer.suppression import NEAR_COPY
from recommender.catalog.live import Live
from recommender.errors import InvalidInputError, NotFoundError
from tests import ROOT
from tests.building import FakeEmbedder, article, build_live, open_archive

GOV = Path(os.environ.get("RELATED_TEST_DATA", ROOT.parent / "shared" / "data")) / "gov-blogs"
TITLE = "Talks on the strait resume"
COPY, VERSION, STUB = 0.9, 0.65, 0.0
"""Labels: share of common shingles."""


def _words(seed: int, n: int = 300) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(5_000)}" for _ in range(n)]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return an article, a copy with another end, a version with a quarter rewritten, and a text of the same title."""
    text = _words(1)
    bodies = {
        "original": text,
        "copy": [*text[:290], *_words(2, 10)],
        "version": [*text[:230], *_words(3, 70)],
        "stub": _words(4),
    }
    articles = [article(name, title=TITLE, paragraphs=[" ".join(words)]) for name, words in bodies.items()]
    return build_live(tmp_path_factory.mktemp("near"), articles)


def _measure(live: Live, folder: Path, *pairs: tuple[str, str, float]) -> dict[str, Any]:
    path = folder / "pairs.jsonl"
    lines = [json.dumps({"first_id": a, "second_id": b, "shingle_jaccard": j}) for a, b, j in pairs]
    path.write_text("\n".join(lines), "utf-8")
    return asdict(near_duplicates.measure(live, path))


@pytest.mark.parametrize(
    ("pairs", "counts", "shares"),
    [
        pytest.param([("original", "copy", COPY)], (1, 1, 0), (1, 1, 1), id="copy told"),
        pytest.param([("original", "stub", COPY)], (1, 1, 0), (1, 1, 0), id="copy missed"),
        pytest.param([("original", "stub", STUB)], (1, 0, 0), (1, 1, 1), id="same title, other text"),
        pytest.param([("original", "copy", STUB)], (1, 0, 0), (0, 0, 1), id="false alarm"),
        pytest.param([("original", "version", VERSION)], (1, 0, 1), (1, 0, 1), id="version told"),
        pytest.param(
            [("original", "copy", COPY), ("stub", "copy", COPY), ("original", "version", VERSION)],
            (3, 2, 1),
            (1, 1 / 2, 1 / 2),
            id="versions only count strictly",
        ),
        pytest.param(
            [("original", "copy", 0.8), ("copy", "original", 0.79), ("copy", "original", NEAR_COPY)],
            (3, 1, 2),
            (1, 1 / 3, 1),
            id="bounds of copies and versions",
        ),
        pytest.param([("original", "copy", COPY), ("copy", "original", 0.49)], (2, 1, 0), (1 / 2, 1 / 2, 1), id="half"),
        pytest.param([], (0, 0, 0), (1, 1, 1), id="no pairs"),
    ],
)
def test_precision_and_recall(
    live: Live,
    tmp_path: Path,
    pairs: list[tuple[str, str, float]],
    counts: tuple[int, int, int],
    shares: tuple[float, float, float],
) -> None:
    """Precision and recall have the values that the labels give by hand."""
    names = ("pairs", "near_copies", "versions", "precision", "precision_strict", "recall")
    expected = dict(zip(names, (*counts, *map(pytest.approx, shares)), strict=True))
    assert _measure(live, tmp_path, *pairs) == {**expected, "unknown_pairs": 0, "detected_from": NEAR_COPY}


def test_pairs_of_unknown_articles_are_counted_apart(live: Live, tmp_path: Path) -> None:
    """A pair with an end that is not stored is neither right nor wrong."""
    report = _measure(live, tmp_path, ("original", "nobody", COPY), ("nobody", "copy", STUB), ("original", "copy", 1))
    assert (report["pairs"], report["unknown_pairs"], report["recall"]) == (1, 2, 1.0)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param("{}", "has no shingle_jaccard (write the share of common shingles, 0 to 1)", id="none"),
        pytest.param(
            '{"shingle_jaccard": "1"}',
            "has no shingle_jaccard (write the share of common shingles, 0 to 1)",
            id="a text",
        ),
        pytest.param(
            '{"shingle_jaccard": true}',
            "has no shingle_jaccard (write the share of common shingles, 0 to 1)",
            id="a truth",
        ),
        pytest.param("[]", "is not an object (write one object a line)", id="no object"),
    ],
)
def test_a_bad_line_is_named(live: Live, tmp_path: Path, line: str, problem: str) -> None:
    """The error names file and line."""
    path = tmp_path / "pairs.jsonl"
    path.write_text(f'{{"first_id": "original", "second_id": "copy", "shingle_jaccard": 1}}\n{line}\n', "utf-8")
    with pytest.raises(InvalidInputError) as caught:
        near_duplicates.measure(live, path)
    assert str(caught.value) == f"{path}:2: {problem}"


def test_a_missing_file_is_named(live: Live, tmp_path: Path) -> None:
    """A path that is no file is not found."""
    with pytest.raises(NotFoundError, match=r"absent\.jsonl' \(check the path\)"):
        near_duplicates.measure(live, tmp_path / "absent.jsonl")


@pytest.mark.slow
@pytest.mark.skipif(not (GOV / "near-duplicates.jsonl").is_file(), reason=f"no labelled pairs at {GOV}")
def test_real_cross_posts_are_told_from_stubs_of_the_same_title(tmp_path: Path) -> None:
    """On gov-blogs' labelled pairs precision and recall are at least .97."""
    pairs = GOV / "near-duplicates.jsonl"
    labelled = map(json.loads, pairs.read_text(encoding="utf-8").splitlines())
    named = {pair[end] for pair in labelled for end in ("first_id", "second_id")}
    with gzip.open(GOV / "articles.jsonl.gz", "rt", encoding="utf-8") as lines:
        kept = [line for line in lines if json.loads(line)["id"] in named]
    articles = tmp_path / "articles.jsonl"
    articles.write_text("".join(kept), encoding="utf-8")
    embedder = FakeEmbedder(dimension=8)
    run(open_source(articles), tmp_path / "data", embedder)
    store, live = open_archive(tmp_path / "data", embedder)
    report = near_duplicates.measure(live, pairs)
    store.close()
    assert (report.unknown_pairs, report.near_copies) == (0, 58)
    assert report.precision >= 0.97
    assert report.recall >= 0.97
