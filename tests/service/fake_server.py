"""Run `recommender.server.serve` with a fake encoder: python -m tests.service.fake_server DATA_DIR [PORT].

A text that says "dawdle" is encoded only once somebody has written to the named pipe DATA_DIR/gate and closed it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from recommender import server
from recommender.config import ServerSettings, Settings
from recommender.embedding import Embedder, Matrix
from recommender.errors import RelatedNewsError
from tests.building import FakeEmbedder

GATE = "gate"


class _PipedEmbedder(FakeEmbedder):
    """Waits at the pipe: opening it says that the text has arrived, its end lets the text go on."""

    def __init__(self, gate: Path) -> None:
        super().__init__()
        self._gate = gate

    def encode(self, texts: Sequence[str]) -> Matrix:
        if any("dawdle" in text for text in texts):
            self._gate.read_bytes()
        return super().encode(texts)


def main(data_dir: Path, port: int = 0) -> None:
    """Serve until SIGTERM; an error of ours ends as on the command line, with one line and exit code 1."""
    logging.basicConfig(level="WARNING", stream=sys.stderr)

    def load(*_: object, **__: object) -> Embedder:
        return _PipedEmbedder(data_dir / GATE)

    vars(server)["load_embedder"] = load
    settings = Settings(data_dir=data_dir, server=ServerSettings(port=port))
    try:
        asyncio.run(server.serve(settings, lambda address: print(f"serving on {address}", flush=True)))
    except RelatedNewsError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
