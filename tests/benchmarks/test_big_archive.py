from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks import big_archive
from benchmarks.data import open_live
from benchmarks.peers import corpus
from recommender.catalog.vectors.scalar_codes import round_trip_8bit
from tests.benchmarks.corpora import write_passages
from tests.building import article, build_live


@pytest.fixture
def like(tmp_path: Path) -> Path:
    """A data folder with a few articles."""
    folder = tmp_path / "real"
    build_live(folder, [article(f"a{n}", title=f"Title number {n}", days_ago=n + 1) for n in range(12)])
    return folder


def test_one_command_makes_an_archive_of_passages(tmp_path: Path, like: Path) -> None:
    """It has as many articles as asked for, with the vectors of the corpus of that seed, and leaves no other file."""
    passages, folder = write_passages(tmp_path, 1_500), tmp_path / "made"
    big_archive.main(passages, folder / "data", like, rows=300, seed=3)
    live = open_live(folder / "data")
    made = corpus.make(tmp_path / "corpus", passages, 300, 1, seed=3)
    assert [path.name for path in folder.iterdir()] == ["data"]
    np.testing.assert_array_equal(live.main_vectors(live.rows()), round_trip_8bit(made.vectors.astype(np.float32)))
    big_archive.main(tmp_path / "corpus", folder / "again", like, rows=None, seed=3)
    again = open_live(folder / "again")
    np.testing.assert_array_equal(again.signatures(again.rows()), live.signatures(live.rows()))


def test_rows_are_given_for_passages_only(tmp_path: Path, like: Path) -> None:
    """A corpus has its number of rows; for passages it must be given."""
    for source, rows in ((write_passages(tmp_path), None), (tmp_path, 10)):
        with pytest.raises(typer.BadParameter, match="--rows"):
            big_archive.main(source, tmp_path / "made" / "data", like, rows=rows)
    assert not (tmp_path / "made").exists()
