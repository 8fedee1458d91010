"""Any sequence of writes, snapshots, switches of the model, restarts and requests, against a dictionary."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from indexer.maintenance.reindex import reindex
from recommender.answer.layout import DEFAULT_LAYOUT
from recommender.answer.recommend import Recommender, Request
from recommender.catalog.articles import Article, Rules
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, open_catalog
from recommender.catalog.snapshot import files, writer
from recommender.catalog.snapshot.manifest import CURRENT, current_snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import create_store, open_store
from recommender.catalog.store.writes import Upsert
from recommender.clock import DAY_MS
from recommender.encoding.batcher import Batcher
from recommender.encoding.embedder import Encoder, model_of
from recommender.errors import NotFoundError
from recommender.rpc.messages import plan_to
from recommender.serving.archive import Archive
from recommender.serving.following import Follower
from tests.building import DIMENSION, NOW_MS, FakeEmbedder, article, writes
from tests.service.messages import equal
from tests.soak.rebuild import rebuilt

IDS = [f"a{number}" for number in range(9)]
WORDS = ["quay", "tide", "crane", "pilot", "cargo", "berth", "ferry", "anchor", "harbour", "lock", "buoy", "dredger"]
RULES = [
    Rules(),
    Rules(never_target=True),
    Rules(never_source=True),
    Rules(evergreen=True),
    Rules(embargo_until_ms=NOW_MS + DAY_MS),
    Rules(embargo_until_ms=NOW_MS - DAY_MS // 2),
]

ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True)
versions = st.integers(0, 5)
rules = st.sampled_from(RULES)


def text(article_id: str, version: int, its_rules: Rules) -> Article:
    """Return an article in a version: on the same subject as all others, but no near copy of any."""
    number = IDS.index(article_id)
    own = [WORDS[(number + version + i) % len(WORDS)] for i in range(4)]
    return article(
        article_id,
        title=f"Port {' '.join(own)} {article_id} {version}",
        paragraphs=[f"The port of {word} {article_id}{version}{i} has a {own[i]}." for i, word in enumerate(own)],
        days_ago=1 + number,
        rules=its_rules,
    )


class Catalog(RuleBasedStateMachine):
    """An archive on its own event loop, and the dictionary that it must equal."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for module in (writer, files):
            self.patch.setattr(module, "flush", lambda _: None)  # nothing here survives the test
        self.patch.setattr(writer, "STATISTICS_GROWTH_MAX", 1e9)  # so that a rebuild weighs words alike
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, Article] = {}
        self.embedder = FakeEmbedder()
        self.archive: Archive

    @initialize(start=st.lists(st.sampled_from(IDS), unique=True) | st.just(IDS))
    def begin(self, start: list[str]) -> None:
        """Start with some articles."""
        with closing(create_store(self.folder / STORE_FILE, self.embedder.info.key)) as store:
            self.model = {article_id: text(article_id, 0, Rules()) for article_id in start}
            store.write(writes(list(self.model.values())))
        self.open()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def open(self) -> None:
        """Open the data folder as a worker does."""

        async def opened() -> Archive:
            catalog = open_catalog(self.folder, dimension=DIMENSION)
            archive = Archive(Follower(self.folder, catalog.store, catalog.live, Batcher(self.embedder), encoder_for))
            await archive.follow()
            return archive

        async def encoder_for(key: str) -> Encoder:
            return Batcher(FakeEmbedder(model_of(key)))

        self.archive = self.run(opened())

    def teardown(self) -> None:
        """Compare with a rebuild, byte for byte, and close."""
        try:
            if hasattr(self, "archive"):
                self.assert_answers_as_a_rebuild()
        finally:
            if hasattr(self, "archive"):
                self.run(self.archive.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.patch.undo()
            shutil.rmtree(self.folder)

    def assert_answers_as_a_rebuild(self) -> None:
        """Compare every page's plan; not where all articles came or went, since terms have other weights then."""
        with rebuilt(self.folder) as (_, live):
            if live.manifest.statistics != self.archive.live.manifest.statistics:
                return
            for page in sorted(self.model):
                plans = [Recommender(view).fill_slots(Request(page, NOW_MS)) for view in (self.archive.live, live)]
                one, other = (plan_to(plan, []) for plan in plans)
                assert equal(one, other), page

    # Writing

    @rule(chosen=ids, version=versions, its_rules=rules, keep=st.booleans())
    def upsert(self, chosen: list[str], version: int, its_rules: Rules, keep: bool) -> None:
        """Write articles through the archive; with `keep` the rules that are stored stay."""
        sent = [text(article_id, version, its_rules) for article_id in chosen]
        _, revision = self.run(self.archive.upsert([Upsert(one, keep_rules=keep) for one in sent]))
        self.note(sent, keep=keep)
        assert revision == self.archive.live.revision == self.archive.store.revision()

    @rule(chosen=ids)
    def delete(self, chosen: list[str]) -> None:
        """Withdraw articles through the archive."""
        were_there, _ = self.run(self.archive.delete(chosen))
        assert were_there == [article_id in self.model for article_id in chosen]
        for article_id in chosen:
            self.model.pop(article_id, None)

    @rule(chosen=ids, its_rules=rules)
    def change_rules(self, chosen: list[str], its_rules: Rules) -> None:
        """Change nothing but rules."""
        sent = [replace(self.model[article_id], rules=its_rules) for article_id in chosen if article_id in self.model]
        self.run(self.archive.upsert([Upsert(one, keep_rules=False) for one in sent]))
        self.note(sent, keep=False)

    @rule(chosen=ids, version=versions, gone=st.sampled_from(IDS))
    def another_process_writes(self, chosen: list[str], version: int, gone: str) -> None:
        """Write and withdraw without the archive, which follows."""
        sent = [text(article_id, version, Rules()) for article_id in chosen]
        with closing(open_store(self.folder / STORE_FILE)) as store:
            store.write(writes(sent, self.embedder))
            store.delete([gone])
            revision = store.revision()
        self.note(sent, keep=False)
        self.model.pop(gone, None)
        self.run(self.archive.wait_for(revision, 10))

    def note(self, sent: Iterable[Article], *, keep: bool) -> None:
        for one in sent:
            before = self.model.get(one.id)
            self.model[one.id] = replace(one, rules=before.rules) if keep and before else one

    # Snapshots, models, restarts

    @rule(from_scratch=st.booleans(), wait=st.booleans())
    def compact(self, from_scratch: bool, wait: bool) -> None:
        """Write the next snapshot beside the archive, which swaps it in by itself; wait for that, or do not."""

        def write() -> Path:
            with closing(open_store(self.folder / STORE_FILE)) as store:
                return write_snapshot(store, self.folder / SNAPSHOTS, DIMENSION, from_scratch=from_scratch)

        snapshot = self.run(asyncio.to_thread(write))
        if wait:
            self.run(self.until(lambda: self.archive.live.folder == snapshot))

    @rule()
    def change_the_model(self) -> None:
        """Reindex with another model, or back, while the archive goes on."""
        self.embedder = FakeEmbedder("other" if self.embedder.info.name == "fake" else "fake")
        self.run(asyncio.to_thread(reindex, self.folder, self.embedder))
        self.run(self.until(lambda: self.archive.store.encoder == self.embedder.info.key))

    @rule(damage=st.sampled_from(["none", "snapshot", "pointer", "all"]))
    def restart(self, damage: str) -> None:
        """Close, damage the snapshot, and open again."""
        self.run(self.archive.close())
        current = current_snapshot(self.folder / SNAPSHOTS)
        assert current is not None
        if damage == "snapshot":
            (current / "heads.npy").write_bytes(b"broken")
        elif damage == "pointer":
            (self.folder / SNAPSHOTS / CURRENT).unlink()
        elif damage == "all":
            shutil.rmtree(self.folder / SNAPSHOTS)
        self.open()

    async def until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():  # noqa: ASYNC110 - the archive goes on by itself
            await asyncio.sleep(0.005)

    # Asking

    def eligible(self, page: str, as_of_ms: int) -> set[str]:
        """Return which articles may be shown on a page."""
        if self.model[page].rules.never_source:
            return set()
        return {
            article_id
            for article_id, one in self.model.items()
            if article_id != page and not one.rules.never_target and one.public_at_ms <= as_of_ms
        }

    @precondition(lambda self: self.model)
    @rule(data=st.data(), days_ago=st.sampled_from([0.0, 0.25, 4.5, 20.0]))
    def ask(self, data: st.DataObject, days_ago: float) -> None:
        """List all that is related to a page, and fill it: nothing is missing, nothing is there that must not be."""
        page = data.draw(st.sampled_from(sorted(self.model)))
        as_of_ms = NOW_MS - int(days_ago * DAY_MS)
        recommender, request = Recommender(self.archive.live), Request(page, as_of_ms)
        listed = [link.article.id for link in recommender.list_related(request, k=100).recommendations]
        assert len(listed) == len(set(listed))
        assert set(listed) == self.eligible(page, as_of_ms)
        plan = recommender.fill_slots(request, DEFAULT_LAYOUT)
        shown = [p.recommendation.article.id for slot in plan.slots for p in slot.places if p.recommendation]
        assert len(shown) == len(set(shown))
        assert set(shown) <= self.eligible(page, as_of_ms)

    @rule(article_id=st.sampled_from(IDS))
    def get(self, article_id: str) -> None:
        """Read one article, and ask for the page of one that is not there."""
        assert self.run(self.archive.get(article_id)) == self.model.get(article_id)
        if article_id not in self.model:
            with pytest.raises(NotFoundError):
                Recommender(self.archive.live).fill_slots(Request(article_id, NOW_MS))

    @invariant()
    def has_all(self) -> None:
        """Every article is there, and no other."""
        if hasattr(self, "archive"):
            assert self.archive.live.count == len(self.model)
            assert self.archive.store.ids() == set(self.model)
