"""What `evaluate` and `fit` work on: an index, updated first if it is made from a file, and the editors' links."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_cache_path

from indexer.evaluation.links import HARVESTED, Gold, harvested_links, read_links, usable
from indexer.pipeline import OnRefused, run
from indexer.sources import open_source
from recommender.catalog.live import Live
from recommender.catalog.opening import STORE_FILE, open_catalog
from recommender.catalog.snapshot.progress import SILENT, Progress
from recommender.catalog.store.locks import exclusive_run
from recommender.catalog.store.store import Store, open_store
from recommender.config import Settings
from recommender.encoding.embedder import Embedder
from recommender.errors import InvalidInputError

_DELETE_BATCH = 500
"""Articles that are withdrawn in one transaction."""


@dataclass(frozen=True, slots=True)
class Bench:
    """An open index. seconds: what opening it took, by stage."""

    store: Store
    live: Live
    seconds: dict[str, float] = field(default_factory=dict)


def bring_up_to_date(
    articles: Path,
    cache: Path | None,
    settings: Settings,
    embedder: Embedder,
    *,
    progress: Progress = SILENT,
    on_refused: OnRefused = lambda _: None,
) -> Path:
    """Index a file in the cache, one index for each file and model; returns its folder.

    Only changed articles are embedded; those that are no longer in the file are withdrawn.
    """
    data_dir = (cache or user_cache_path("related-news")) / _name(articles, embedder)
    source = open_source(articles, site=settings.index.site, language=settings.index.language)
    with exclusive_run(data_dir):
        report = run(source, data_dir, embedder, restore_withdrawn=True, progress=progress, on_refused=on_refused)
        store = open_store(data_dir / STORE_FILE, embedder.info.key)
        try:
            gone = sorted(store.ids() - report.ids.keys())
            for start in range(0, len(gone), _DELETE_BATCH):
                store.delete(gone[start : start + _DELETE_BATCH])
        finally:
            store.close()
    return data_dir


@contextmanager
def open_bench(data_dir: Path, embedder: Embedder) -> Iterator[Bench]:
    """Open an index as it is now."""
    with open_catalog(data_dir, embedder.info.key, embedder.info.dimension) as catalog:
        yield Bench(catalog.store, catalog.live)


def read_gold(bench: Bench, links: str) -> Gold:
    """Return the usable editors' links of a file, or HARVESTED. Raises InvalidInputError if there are none."""
    links_given = harvested_links(bench.store, bench.live) if links == HARVESTED else read_links(Path(links))
    gold = usable(links_given, bench.live)
    if not gold.pages:
        skipped = ", ".join(f"{count} {reason}" for reason, count in gold.skipped.items()) or "there are none"
        raise InvalidInputError("links", f"none can be used: {skipped}", fix="give links between indexed articles")
    return gold


def _name(articles: Path, embedder: Embedder) -> str:
    key = f"{articles.resolve()}\n{embedder.info.key}"
    return f"{articles.name.split('.')[0]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
