"""The archive of a serving process, where its parts meet: a model that changes while something is being embedded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from indexer.maintenance.reindex import reindex
from recommender.catalog.articles import Body, Paragraph
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.store.writes import Outcome, Upsert
from recommender.encoding.batcher import Batcher
from recommender.encoding.embedder import Encoder, Matrix
from recommender.serving.archive import Archive
from recommender.serving.following import Follower
from tests.building import DIMENSION, FakeEmbedder, article, build_store, open_archive

WIDE = FakeEmbedder("wide", 2 * DIMENSION)


class _OvertakenEncoder(Batcher):
    """Hands out its first vectors only after another model has taken its place."""

    follower: Follower
    overtaken = False

    async def encode(self, texts: Sequence[str], *, urgent: bool = True) -> Matrix:
        encoded = await super().encode(texts, urgent=urgent)
        if not self.overtaken:
            self.overtaken = True
            await asyncio.to_thread(reindex, self.follower.data_dir, WIDE)
            while self.follower.encoder is self:  # noqa: ASYNC110 - the follower swaps it in by itself
                await asyncio.sleep(0.01)
        return encoded


async def _overtaken(data_dir: Path) -> Archive:
    """Return a following archive of one article whose encoder will be overtaken."""
    build_store(data_dir, [article("first")]).close()
    store, live = open_archive(data_dir)
    encoder = _OvertakenEncoder(FakeEmbedder())

    async def encoder_for(key: str) -> Encoder:
        assert key == WIDE.info.key
        return Batcher(WIDE)

    encoder.follower = Follower(data_dir, store, live, encoder, encoder_for)
    archive = Archive(encoder.follower)
    await archive.follow()
    return archive


def test_an_article_that_the_former_model_embedded_is_embedded_again(tmp_path: Path) -> None:
    """An article's vectors are those of the model that is active when it is written."""

    async def run() -> None:
        archive = await _overtaken(tmp_path)
        outcomes, revision = await archive.upsert([Upsert(article("late", title="Ferry"), keep_rules=True)])
        assert (outcomes, archive.live.revision) == ({"late": Outcome.ADDED}, revision)
        assert archive.encoder.info == WIDE.info
        stored = archive.store.stored(["first", "late"])
        assert {id: len(one.vectors.main) for id, one in stored.items()} == {
            "first": 2 * DIMENSION,
            "late": 2 * DIMENSION,
        }
        assert archive.live.find("late") is not None
        assert archive.live.folder.parent == tmp_path / SNAPSHOTS
        await archive.close()

    asyncio.run(run())


def test_a_draft_is_read_by_the_model_that_it_is_compared_with(tmp_path: Path) -> None:
    """A draft that was embedded by the former model is embedded again."""

    async def run() -> None:
        archive = await _overtaken(tmp_path)
        vectors, _ = await archive.read_draft(Body("Ferry", "", (Paragraph("Ferries wait."),)), None)
        assert len(vectors.main) == archive.live.manifest.dimension == 2 * DIMENSION
        await archive.close()

    asyncio.run(run())
