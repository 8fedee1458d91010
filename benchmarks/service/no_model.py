"""`related-news` with an encoder process that loads no model, to measure the rest of a start.

python -m benchmarks.service.no_model OPTIONS serve: as `related-news OPTIONS serve`. All else is real: the encoder
process with its imports, the supervisor, the workers. Vectors of drafts have no meaning.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.manifest import Manifest, current_snapshot
from recommender.catalog.store.store import encoders_of
from recommender.config import Settings
from recommender.encoding.embedder import Embedder, Matrix, ModelInfo, model_of
from recommender.processes import supervisor
from recommender.processes.child import run_child
from recommender.processes.encoder import serve_encoder
from recommender.processes.orders import StartEncoder

MODULE = "benchmarks.service.no_model"
"""Name of this module, to start it with `python -m`."""
_AS_ENCODER = "encoder"
"""Argument with which this module is the encoder process."""
_MAX_TOKENS = 256
"""Length limit that the missing model states."""


class NoModel:
    """An Embedder with the name of an index's model; vectors have the right shape and no meaning."""

    def __init__(self, data_dir: Path) -> None:
        """Take the name and dimension of the index in `data_dir`, which has a snapshot."""
        key, _ = encoders_of(data_dir / STORE_FILE)
        weights = key.removeprefix(f"{model_of(key)}@").partition("/")[0]
        snapshot = current_snapshot(data_dir / SNAPSHOTS)
        assert snapshot is not None, "the benchmark has opened the archive"
        self._info = ModelInfo(model_of(key), weights, Manifest.read(snapshot).dimension, _MAX_TOKENS)

    @property
    def info(self) -> ModelInfo:
        """Identify the index's model."""
        return self._info

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Return float32 (len(texts), dimension), rows of length 1, the same for the same text."""
        rows = [np.random.default_rng(zlib.crc32(t.encode())).standard_normal(self._info.dimension) for t in texts]
        matrix = np.array(rows, np.float32).reshape(len(texts), self._info.dimension)
        vectors: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        return vectors


def _load(name: str, settings: Settings) -> Embedder:
    del name  # always that of the index
    return NoModel(settings.data_dir)


if __name__ == "__main__":
    if sys.argv[1:] == [_AS_ENCODER]:
        run_child(StartEncoder, lambda orders: serve_encoder(orders, _load))
    else:
        from indexer.cli.commands import main  # takes a second, which users of NoModel do not need

        encoder = (sys.executable, "-m", MODULE, _AS_ENCODER)
        with mock.patch.object(supervisor, "Commands", partial(supervisor.Commands, encoder=encoder)):
            main()
