from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.cases import make_cases, recalls
from benchmarks.peers.corpus import ARTICLES_PER_DAY, FIRST_MS, Corpus
from benchmarks.peers.peer import EVERYTHING, Columns, Filter, Postings, where
from benchmarks.peers.run import PEERS, NotInstalledError, open_peer
from recommender.clock import DAY_MS
from tests.benchmarks.corpora import small_corpus

RECALL_MIN = {"faiss_flat": 1.0, "related_news": 0.97}
"""Least recall of a peer; .9 for all others, which are approximate, on so few vectors."""
K = 100
"""Rows asked for."""
STEP_MS = DAY_MS // ARTICLES_PER_DAY
"""Time from one row to the next."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of 1,500 clustered rows and 40 queries."""
    return small_corpus(tmp_path_factory.mktemp("corpus"))


def passes(columns: Columns, wanted: Filter) -> np.ndarray:
    """Return which rows pass, by plain comparison with the columns."""
    allowed = np.ones(len(columns.published_at_ms), np.bool_)
    if wanted.from_ms is not None:
        allowed &= columns.published_at_ms >= wanted.from_ms
    if wanted.until_ms is not None:
        allowed &= columns.published_at_ms < wanted.until_ms
    if wanted.label:
        allowed &= np.isin(columns.label(wanted.label), wanted.codes)
    return allowed


@pytest.mark.filterwarnings("ignore")  # of other libraries
@pytest.mark.parametrize("module", PEERS)
def test_a_peer_finds_the_nearest_that_pass_and_nothing_else(module: str, corpus: Corpus, tmp_path: Path) -> None:
    """Every peer that is installed reaches the recall in every case that it supports."""
    try:
        peer = open_peer(module)
    except NotInstalledError as error:
        pytest.skip(str(error))
    own = tmp_path / module
    own.mkdir()
    peer.build(corpus.vectors, corpus.columns, own)
    try:
        peer.set_effort(peer.efforts[-1])
        for case in make_cases(corpus, seed=1):
            if not peer.filters and case.filters[0] != EVERYTHING:
                continue
            shares = []
            for index, (query, wanted) in enumerate(zip(corpus.queries, case.filters, strict=True)):
                found = peer.search(query, K, wanted)
                mask = passes(corpus.columns, wanted)
                assert len(found) <= K
                assert len(set(found.tolist())) == len(found)
                assert mask[found].all(), f"{case.name}: rows that do not pass"
                shares.append(recalls(case, index, found, corpus, mask))
            recall_min = RECALL_MIN.get(module, 0.9)
            assert np.mean(shares, axis=0).min() >= recall_min, case.name
        assert peer.disk_bytes() > 0
        assert peer.settings()
        assert peer.version
    finally:
        peer.close()


@pytest.mark.parametrize(
    "wanted",
    [
        EVERYTHING,
        Filter(from_ms=1_420_500_000_000),
        Filter(until_ms=1_420_500_000_000),
        Filter(from_ms=1_420_100_000_000, until_ms=1_420_900_000_000, label="site", codes=(0, 5)),
        Filter(
            from_ms=FIRST_MS + 100 * STEP_MS, until_ms=FIRST_MS + 200 * STEP_MS, label="site", codes=tuple(range(32))
        ),
        Filter(label="section", codes=(3,)),
        Filter(from_ms=9_999_999_999_999),
    ],
)
def test_postings_hold_the_rows_that_pass(wanted: Filter, corpus: Corpus) -> None:
    """Rows and mask equal those of the plain comparison with the columns."""
    columns = corpus.columns
    postings = Postings(columns)
    expected = passes(columns, wanted)
    assert sorted(postings.rows(wanted).tolist()) == np.flatnonzero(expected).tolist()
    assert (postings.mask(wanted) == expected).all()


def test_a_filter_is_written_as_sql() -> None:
    """Bounds and codes are joined by AND; no filter is an empty condition."""
    assert where(EVERYTHING) == ""
    assert where(Filter(from_ms=1, until_ms=2)) == "published_at_ms >= 1 AND published_at_ms < 2"
    assert where(Filter(until_ms=2, label="site", codes=(4, 5))) == "published_at_ms < 2 AND site IN (4, 5)"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer without its library is not taken for one that fails."""
    monkeypatch.setitem(__import__("sys").modules, "hnswlib", None)
    monkeypatch.delitem(__import__("sys").modules, "benchmarks.peers.hnsw_lib", raising=False)
    with pytest.raises(NotInstalledError, match="hnswlib is not installed"):
        open_peer("hnsw_lib")
