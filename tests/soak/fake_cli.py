"""The command line on a fake encoder: python -m tests.soak.fake_cli ARGUMENTS, as `related-news ARGUMENTS`."""

from __future__ import annotations

from indexer.cli import commands
from indexer.cli.commands import indexing, maintaining
from recommender.encoding.embedder import Computing
from tests.building import DIMENSION, FakeEmbedder


def load(name: str, _: Computing) -> FakeEmbedder:
    """Return the fake encoder of a name."""
    return FakeEmbedder(name, 2 * DIMENSION if name == "wide" else DIMENSION)


if __name__ == "__main__":
    for module in (indexing, maintaining):
        setattr(module, "load_embedder", load)  # noqa: B010 - a module's name that it imports itself
    commands.main()
