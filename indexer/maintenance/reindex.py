"""Move an index to another model or text recipe while it is served, or back to the one before.

embed what lacks vectors -> write a snapshot of them -> let running services load the model -> switch

Nothing before the switch affects a running service, and all work is kept: a run that is killed and started again embeds
only the rest. The switch is one transaction, which also embeds what was written meanwhile. Each worker of a running
service then swaps in the new snapshot and the new model together, between two answers.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.progress import SILENT, Progress
from recommender.catalog.snapshot.writer import make_current, write_snapshot
from recommender.catalog.store.store import Store, encoders_of
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Embedder, model_of
from recommender.encoding.remote import connect_encoder
from recommender.errors import MismatchError, NotFoundError
from recommender.serving.roster import open_roster

BATCH_ARTICLES = 64
"""Articles that are embedded and stored at once."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. before, now: keys of the active encoder, then and now. services: running ones."""

    before: str
    now: str
    embedded: int
    services: int
    snapshot: Path
    seconds: float


def model_to_move_to(data_dir: Path, wanted: str | None, *, back: bool) -> str:
    """Return the name of the wanted model, or of the one before the last switch, or of the active one.

    Raises NotFoundError if there is no index, or nothing to go back to.
    """
    active, previous = encoders_of(data_dir / STORE_FILE)
    if back and previous is None:
        raise NotFoundError("model before", str(data_dir), fix="there was no switch yet; name a model with --model")
    return wanted or model_of(previous if back and previous else active)


def reindex(data_dir: Path, embedder: Embedder, *, switch: bool = True, progress: Progress = SILENT) -> Report:
    """Move the index of `data_dir` to the encoder of `embedder`; see the module.

    An index that has that encoder already gets a new snapshot, written from the store alone. switch: False stops
    before the switch. progress: its stages are "embedding", a step for each text, and the snapshot.
    Raises NotFoundError if there is no index, MismatchError if a running service cannot load the model.
    """
    begun = time.monotonic()
    before, _ = encoders_of(data_dir / STORE_FILE)
    store = Store(data_dir / STORE_FILE, embedder.info.key, lambda article: embed([article], embedder)[0])
    try:
        embedded = _embed_missing(store, embedder, progress)
        snapshot = write_snapshot(
            store,
            data_dir / SNAPSHOTS,
            embedder.info.dimension,
            progress,
            from_scratch=before == store.encoder,
        )
        services = 0
        if switch and before != store.encoder:
            services = asyncio.run(_prepare_services(data_dir, embedder))
            store.make_encoder_active()
            make_current(snapshot)
        now, _ = encoders_of(store.path)
        return Report(before, now, embedded, services, snapshot, time.monotonic() - begun)
    finally:
        store.close()


def _embed_missing(store: Store, embedder: Embedder, progress: Progress) -> int:
    """Embed every text that lacks vectors, in the order of hashes; returns their number."""
    progress.begin("embedding", store.count_without_vectors())
    done, after = 0, b""
    while missing := store.without_vectors(BATCH_ARTICLES, after):
        vectors = embed(list(missing.values()), embedder)
        store.add_vectors(dict(zip(missing, vectors, strict=True)))
        after = max(missing)
        done += len(missing)
        progress.advance(len(missing))
    return done


async def _prepare_services(data_dir: Path, embedder: Embedder) -> int:
    """Let every running service load the model, so that its workers need not wait for it at the switch."""
    with open_roster(data_dir) as roster:
        addresses = {seat.encoder for seat in roster.others() if seat.encoder}
    for address in addresses:
        encoder = await connect_encoder(address, embedder.info.name)
        key = encoder.info.key
        await encoder.close()
        if key != embedder.info.key:
            raise MismatchError(
                f"a running service makes {key} of this model, not {embedder.info.key}",
                fix="it is of another release, or cannot see these files; stop it, then run this again",
            )
    return len(addresses)
