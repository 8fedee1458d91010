"""The file of a fitted ranker: one JSON object with what it was fitted on and which index it is for."""

from __future__ import annotations

from pathlib import Path

from recommender.answer.fitted_ranker import FIT_AGAIN, FittedParameters, parse_parameters
from recommender.errors import CorruptError, NotFoundError


def read_ranker(path: Path, encoder: str | None = None) -> FittedParameters:
    """Read a ranker's file. encoder: key of the index's encoder; None accepts any.

    Raises NotFoundError without the file, CorruptError if it is no ranker, MismatchError if it is for another index.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError("ranker", str(path), fix="`related-news fit` makes one; or unset `ranker`") from None
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path}: is no fitted ranker: {error}", fix=FIT_AGAIN) from None
    return parse_parameters(data, str(path), encoder)


def write_ranker(path: Path, parameters: FittedParameters) -> None:
    """Write a ranker's file. Raises OSError."""
    path.write_text(parameters.to_json(), "utf-8")
