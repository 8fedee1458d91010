"""The file of a fitted ranker."""

from __future__ import annotations

from pathlib import Path

import pytest

from recommender.answer.features import FEATURES_VERSION
from recommender.catalog.text.derived import ANALYSIS
from recommender.errors import CorruptError, NotFoundError
from recommender.serving.ranker_file import read_ranker, write_ranker
from tests.building import FakeEmbedder, make_parameters

ENCODER = FakeEmbedder().info.key


def test_a_ranker_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every value of the file comes back, also what it was fitted on and how it compared."""
    parameters = make_parameters(fitted_on={"pages": 959}, evaluation={"fitted": {"ndcg@10": 0.57}})
    path = tmp_path / "ranker.json"
    write_ranker(path, parameters)
    assert read_ranker(path, ENCODER) == parameters
    assert (parameters.format, parameters.features, parameters.analysis) == (2, FEATURES_VERSION, ANALYSIS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error for a missing file says how to make one."""
    path = tmp_path / "absent.json"
    with pytest.raises(NotFoundError) as caught:
        read_ranker(path, ENCODER)
    assert str(caught.value) == f"unknown ranker '{path}' (`related-news fit` makes one; or unset `ranker`)"


def test_a_folder_is_no_ranker(tmp_path: Path) -> None:
    """A path that cannot be read as a file is refused like a broken file."""
    with pytest.raises(CorruptError, match=r"is no fitted ranker: .*Is a directory"):
        read_ranker(tmp_path, ENCODER)
