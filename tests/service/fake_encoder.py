"""An encoder process without a model: `recommender.processes.encoder` around a fake encoder.

Encoding a text with the word "dawdle" waits until the test has written to the named pipe DATA_DIR/gate and closed it;
so does loading the model "dawdle". Any other name but "none" is a model; each has vectors of its own, and "wide" has
more dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recommender.config import Settings
from recommender.encoding.embedder import Embedder, Matrix
from recommender.errors import NotFoundError
from recommender.processes.child import run_child
from recommender.processes.encoder import serve_encoder
from recommender.processes.orders import StartEncoder
from tests.building import DIMENSION, FakeEmbedder

GATE = "gate"


class _PipedEmbedder(FakeEmbedder):
    """Waits at the pipe: the encoder opens it when the text has arrived, and goes on when the test closes it."""

    def __init__(self, name: str, gate: Path) -> None:
        super().__init__(name, 2 * DIMENSION if name == "wide" else DIMENSION)
        self._gate = gate

    def encode(self, texts: Sequence[str]) -> Matrix:
        if any("dawdle" in text for text in texts):
            self._gate.read_bytes()
        return super().encode(texts)


def load(name: str, settings: Settings) -> Embedder:
    """Return the fake encoder of a name."""
    if name == "none":
        raise NotFoundError("model", name, fix="choose another")
    if name == "dawdle":
        (settings.data_dir / GATE).read_bytes()
    return _PipedEmbedder(name, settings.data_dir / GATE)


if __name__ == "__main__":
    run_child(StartEncoder, lambda orders: serve_encoder(orders, load))
