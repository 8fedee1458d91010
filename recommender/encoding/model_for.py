"""The model that a data folder needs."""

from __future__ import annotations

from pathlib import Path

from recommender.catalog.opening import STORE_FILE
from recommender.catalog.store.store import encoders_of
from recommender.encoding.embedder import EMBEDDED_MODEL, model_of
from recommender.errors import MismatchError


def model_for(data_dir: Path, configured: str | None) -> str:
    """Return the name of the model to use for a data folder: the one that its index was made with.

    configured: the setting `model.name`, or None. A new index takes it, or else the default model.
    Raises MismatchError if the index was made with another model than the configured one.
    """
    path = data_dir / STORE_FILE
    if not path.exists():
        return configured or EMBEDDED_MODEL
    key, _ = encoders_of(path)
    if configured is not None and configured != model_of(key):
        raise MismatchError(
            f"{path} was indexed with {key}, the configured model is {configured}",
            fix="unset model.name, or run `related-news reindex` to change the model",
        )
    return model_of(key)
