"""What tests of the live view share: small archives, and a comparison with the articles that they must hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from recommender.catalog.articles import Article
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot import columns
from recommender.catalog.snapshot.columns import Columns
from recommender.catalog.snapshot.record import Record
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.reads import StoredArticle
from recommender.catalog.store.store import Change, Store
from recommender.catalog.text.terms import make_signature
from recommender.catalog.vectors.index import Hits, Rows
from recommender.catalog.vectors.scalar_codes import Vector, round_trip_4bit, round_trip_8bit
from recommender.catalog.vectors.search_costs import MEASURED, SearchCosts
from recommender.clock import DAY_MS, YEAR_MS
from tests.building import (
    DIMENSION,
    NOW_MS,
    FakeEmbedder,
    article,
    build_store,
)
from tests.searching import COMPRESSIBLE

EVER = (0, NOW_MS + YEAR_MS)
"""From and until which every article of these tests is public."""


def query(text: str) -> Vector:
    """Return the main vector of a page with this title."""
    return round_trip_8bit(FakeEmbedder().encode([text])[0])


def ids_at(live: Live, rows: Rows) -> list[str]:
    """Return the ids of some rows."""
    return [live.record(row).id for row in rows.tolist()]


def found_ids(live: Live, hits: Hits) -> list[str]:
    """Return the ids of hits, best first."""
    return ids_at(live, hits.rows)


def replay(live: Live, store: Store, at_once: int = 200) -> None:
    """Apply what the store has committed since, as a worker does."""
    while changes := store.changes_after(live.revision, at_once):
        live.apply(changes, live.row_values(store.stored([change.article_id for change in changes]).values()))


def image(store: Store, folder: Path, costs: SearchCosts = MEASURED) -> Live:
    """Return the live view of a new snapshot of the store's present state."""
    return Live(Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION), costs=costs))


IDS = tuple("abcdefgh")

OTHERS = [
    article(
        f"other {n}",
        title=("Talks resume", "Prices rise", "A Vienna Deal")[n % 3],
        paragraphs=(f"Report {n}.",),
        days_ago=n / 4,
        section=("world", "energy")[n % 2],
        tags=["gas"] * (n % 2),
    )
    for n in range(COMPRESSIBLE)
]
"""Articles that stay as they are, enough to be compressed."""

SCOPES = [
    Scope(),
    Scope(sections=frozenset(["world"])),
    Scope(tags=frozenset(["gas", "deal"]), languages=frozenset(["en"])),
    Scope(sites=frozenset(["two.example"]), evergreen_only=True),
    Scope(published_from_ms=NOW_MS - 3 * DAY_MS, published_before_ms=NOW_MS - DAY_MS),
    Scope(sections=frozenset(["nowhere"])),
    Scope(tags=frozenset()),
]

PERIODS = [EVER, (NOW_MS - 3 * DAY_MS, NOW_MS - DAY_MS), (0, NOW_MS), (NOW_MS, 0)]


def in_scope(a: Article, scope: Scope, from_ms: int, until_ms: int) -> bool:
    """Say whether an article may be chosen, by the definition of a scope."""
    return (
        not a.rules.never_target
        and from_ms <= a.public_at_ms <= until_ms
        and (scope.sections is None or a.labels.section in scope.sections)
        and (scope.tags is None or bool(scope.tags & set(a.labels.tags)))
        and (scope.languages is None or a.labels.language in scope.languages)
        and (scope.sites is None or a.labels.site in scope.sites)
        and (not scope.published_from_ms or a.published_at_ms >= scope.published_from_ms)
        and (not scope.published_before_ms or a.published_at_ms < scope.published_before_ms)
        and (not scope.evergreen_only or a.rules.evergreen)
    )


def assert_holds(live: Live, expected: Mapping[str, StoredArticle], revision: int) -> None:
    """Compare everything that a live view answers with the articles that it must hold."""
    assert (live.revision, live.count) == (revision, len(expected))
    rows = {}
    for article_id in (*IDS, *(a.id for a in OTHERS), "never seen"):
        row = live.find(article_id)
        assert (row is not None) == (article_id in expected), article_id
        if row is not None:
            rows[article_id] = row
            assert_is(live, row, expected[article_id])
    assert list(live.rows()) == sorted(rows.values())
    assert_gathers(live, sorted(rows.values()))
    hashes = live.id_hashes(np.array(sorted(rows.values()), np.int64))
    assert hashes.tolist() == [int(columns.id_hash(id)) for id, _ in sorted(rows.items(), key=lambda item: item[1])]
    for tags in (["gas"], ["talks", "nowhere", "gas"]):
        overlaps = live.tag_overlaps(np.array(sorted(rows.values()), np.int64), tags)
        by_row = {row: expected[id].article.labels.tags for id, row in rows.items()}
        assert overlaps.tolist() == pytest.approx([jaccard(by_row[row], tags) for row in sorted(by_row)])
    for scope, (from_ms, until_ms) in itertools.product(SCOPES, PERIODS):
        eligible = {i: s for i, s in expected.items() if in_scope(s.article, scope, from_ms, until_ms)}
        for k in (1, 3, len(expected) + 1):
            assert_nearest(live, live.search(query("Talks resume"), k, from_ms, until_ms, scope), eligible, k)
        assert_in_time(live, scope, from_ms, until_ms, eligible)
    assert_publishing_rate(live, expected)


def assert_is(live: Live, row: int, expected: StoredArticle) -> None:
    """Compare one row; terms have the weights of the snapshot's statistics until there is a new snapshot."""
    a, record, terms = expected.article, live.record(row), expected.analysis.terms
    signature = make_signature(terms, live.idf)
    assert record.masks.tolist() == terms.masks[signature.order].tolist()
    values = {f.name: getattr(record, f.name) for f in fields(Record) if f.name != "masks"}
    kinds = "".join(str(int(p.kind)) for p in a.paragraphs)
    assert values == {
        **{name: getattr(a, name) for name in values if name not in ("kinds", "never_with", "surfaces")},
        "kinds": kinds,
        "never_with": a.rules.never_with,
        "surfaces": tuple(terms.surfaces[i] for i in signature.order),
    }
    assert live.signature(row).tolist() == signature.pack().tolist()
    assert live.head_vector(row).tolist() == round_trip_4bit(expected.vectors.head).tolist()
    assert live.main_vectors(np.array([row])).tolist() == [round_trip_8bit(expected.vectors.main).tolist()]
    assert live.sketches(np.array([row])).tolist() == [expected.analysis.sketch.tolist()]
    assert (live.public_at_ms(row), live.published_at_ms(row)) == (a.public_at_ms, a.published_at_ms)
    assert [live.column(f.name, np.array([row]))[0] for f in fields(Columns)] == list(Columns.row_of(a, terms.words))


def assert_gathers(live: Live, rows: Sequence[int]) -> None:
    """Check that reading many rows together is reading each of them."""
    head, some = query("Gas flows again"), np.array(rows, np.int64)
    each = [np.array([row]) for row in rows]
    assert live.signatures(some).tolist() == [live.signatures(row)[0].tolist() for row in each]
    assert live.sketches(some).tolist() == [live.sketches(row)[0].tolist() for row in each]
    assert live.main_vectors(some).tolist() == [live.main_vectors(row)[0].tolist() for row in each]
    assert live.column("words", some).tolist() == [live.column("words", row)[0] for row in each]
    cosines = np.array([min(float(live.head_vector(row) @ head), 1.0) for row in rows], np.float32)
    np.testing.assert_allclose(live.head_cosines(some, head), cosines, atol=1e-6)


def jaccard(some: Sequence[str], others: Sequence[str]) -> float:
    """Return the share of common tags among all of both."""
    return len({*some} & {*others}) / (len({*some} | {*others}) or 1)


def assert_nearest(live: Live, hits: Hits, eligible: Mapping[str, StoredArticle], k: int) -> None:
    """Check that hits are the k best of the eligible articles; any of those that tie for the last place will do."""
    scores = {i: float(round_trip_8bit(s.vectors.main) @ query("Talks resume")) for i, s in eligible.items()}
    ids = found_ids(live, hits)
    assert len(ids) == len(set(ids)) == min(k, len(eligible))
    np.testing.assert_allclose(hits.scores, [scores[i] for i in ids], rtol=0, atol=1e-6)
    assert hits.scores.tolist() == sorted(hits.scores.tolist(), reverse=True)
    assert all(scores[i] <= hits.scores[-1] + 1e-6 for i in eligible if i not in ids)


def assert_in_time(
    live: Live, scope: Scope, from_ms: int, until_ms: int, eligible: Mapping[str, StoredArticle]
) -> None:
    """Check the earliest and the latest articles of a scope, and the window of time around a moment."""
    times = {i: s.article.public_at_ms for i, s in eligible.items()}
    for n in (0, 1, 3, len(eligible) + 1):
        earliest = live.earliest(scope, n, from_ms, until_ms)
        assert [times[i] for i in ids_at(live, earliest)] == sorted(times.values())[:n]
        assert len(set(earliest.tolist())) == len(earliest)
        if from_ms == 0:
            latest = live.latest(scope, n, until_ms)
            assert [times[i] for i in ids_at(live, latest)] == sorted(times.values(), reverse=True)[:n]
            at_ms = min(NOW_MS - 2 * DAY_MS, until_ms)
            before = sorted(ms for ms in times.values() if ms <= at_ms)[::-1][:n]
            after = sorted(ms for ms in times.values() if ms > at_ms)[: n // 2]
            expected = (before[-1] if before else at_ms, after[-1] if after else at_ms)
            assert live.window(scope, NOW_MS - 2 * DAY_MS, until_ms, n) == expected


def assert_publishing_rate(live: Live, expected: Mapping[str, StoredArticle]) -> None:
    """Check the publishing rate: articles of the year before the newest one, over the time since the oldest of them."""
    newest = max(
        (s.article.public_at_ms for s in expected.values() if in_scope(s.article, Scope(), 0, NOW_MS)), default=None
    )
    assert live.newest_ms(NOW_MS) == newest
    if newest is None:
        assert live.published_per_day(NOW_MS) == 0
        return
    year = [ms for s in expected.values() if newest - YEAR_MS <= (ms := s.article.public_at_ms) <= newest]
    assert live.published_per_day(NOW_MS) == pytest.approx(len(year) / max(1, (newest - min(year)) / DAY_MS))


@contextmanager
def archive(folder: Path, *articles: Article) -> Iterator[tuple[Store, Live]]:
    """Make a store of articles and the live view of its snapshot."""
    store = build_store(folder, articles)
    yield store, image(store, folder)
    store.close()


def deleted(revision: int, article_id: str) -> Change:
    """Return the log entry of a deletion."""
    return Change(revision, article_id, deleted=True)


def written(revision: int, article_id: str) -> Change:
    """Return the log entry of a write."""
    return Change(revision, article_id, deleted=False)
