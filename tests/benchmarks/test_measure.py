from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import machine
from benchmarks.peers import report
from benchmarks.peers.cases import Case, make_cases, recalls
from benchmarks.peers.corpus import Corpus
from benchmarks.peers.measure import Plan, measure, pin
from benchmarks.peers.peer import EVERYTHING, Columns, Filter, Half, Postings, Rows, Setting, Vector
from tests.benchmarks.corpora import small_corpus


class FakePeer:
    """An exact scan that returns only the first `effort` hits, without filters unless a test sets them."""

    name = "fake"
    version = "1"
    efforts: tuple[int, ...] = (10, 50, 100, 400)
    filters = False
    rows_max = 10_000
    server_pid: int | None = None
    limits = "no filters"
    closed = False

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        self._vectors, self._postings = vectors, Postings(columns)
        (folder / "file").write_bytes(b"12345")

    def set_effort(self, effort: int) -> None:
        self._effort = effort

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        rows = self._postings.rows(wanted)
        order = np.argsort(-(self._vectors[rows] @ query), kind="stable")
        return rows[order][: min(k, self._effort)] if hasattr(self, "_effort") else rows[:k]

    def disk_bytes(self) -> int:
        return 5

    def settings(self) -> dict[str, Setting]:
        return {"threads": 1}

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of 1,500 clustered rows and 40 queries."""
    return small_corpus(tmp_path_factory.mktemp("corpus"))


def test_effort_rises_until_the_recall_is_reached_and_no_further(corpus: Corpus, tmp_path: Path) -> None:
    """Every effort that was tried is kept with recall and samples; the last is the cheapest that suffices."""
    values = measure(FakePeer(), corpus, make_cases(corpus, 1), tmp_path, Plan(recall=0.98))
    every = values["cases"]["all"]
    assert [(point["effort"], point["recall@100"]) for point in every["points"]] == [(10, 0.1), (50, 0.5), (100, 1.0)]
    assert [point["recall@10"] for point in every["points"]] == [1.0, 1.0, 1.0]
    assert every["reached"]
    assert all(len(point["samples_us"]) == len(corpus.queries) for point in every["points"])
    assert values["disk_bytes"] == 5


def test_a_case_that_a_peer_does_not_support_says_why(corpus: Corpus, tmp_path: Path) -> None:
    """Filtered cases of a peer without filters are skipped, with the peer's own words."""
    values = measure(FakePeer(), corpus, make_cases(corpus, 1), tmp_path, Plan())
    assert values["cases"]["site 10.0%"] == {"skipped": "no filters"}


def test_a_recall_that_is_never_reached_is_not_hidden(corpus: Corpus, tmp_path: Path) -> None:
    """The last effort is kept with its recall and marked."""
    peer = FakePeer()
    peer.efforts = (10, 50)
    every = measure(peer, corpus, make_cases(corpus, 1)[:1], tmp_path, Plan())["cases"]["all"]
    assert not every["reached"]
    assert every["points"][-1]["recall@100"] == 0.5


def test_slow_peers_get_fewer_queries(corpus: Corpus, tmp_path: Path) -> None:
    """A case at one effort ends with the budget, but not before twenty queries."""
    every = measure(FakePeer(), corpus, make_cases(corpus, 1)[:1], tmp_path, Plan(budget_s=0.0))["cases"]["all"]
    assert [len(point["samples_us"]) for point in every["points"]] == [20, 20, 20]


def test_a_peer_is_closed_when_it_fails(corpus: Corpus, tmp_path: Path) -> None:
    """A server is stopped whatever happens."""
    peer = FakePeer()
    peer.search = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(ZeroDivisionError):
        measure(peer, corpus, make_cases(corpus, 1), tmp_path, Plan())
    assert peer.closed


def test_the_right_answers_are_those_of_an_exact_scan(corpus: Corpus) -> None:
    """Thresholds are the 10th and the 100th best of the rows that pass, and counts are those of the filter."""
    vectors = corpus.vectors.astype(np.float32)
    for case in make_cases(corpus, 1):
        for index, (query, wanted) in enumerate(zip(corpus.queries, case.filters, strict=True)):
            scores = np.sort(vectors[Postings(corpus.columns).mask(wanted)] @ query)[::-1]
            assert case.passing[index] == len(scores)
            if len(scores):
                expected = [scores[min(depth, len(scores)) - 1] for depth in (10, 100)]
                np.testing.assert_allclose(case.thresholds[index], expected, atol=1e-6)


def test_recall_counts_no_row_twice_and_none_that_does_not_pass(corpus: Corpus) -> None:
    """Recall counts distinct rows that pass."""
    every = make_cases(corpus, 1)[0]
    assert every.filters[0] == EVERYTHING
    best = np.argsort(-(corpus.vectors.astype(np.float32) @ corpus.queries[0]))[:100]
    mask = np.ones(len(corpus.vectors), np.bool_)
    assert recalls(every, 0, best, corpus, mask) == (1.0, 1.0)
    assert recalls(every, 0, np.repeat(best[:1], 100), corpus, mask) == (0.1, 0.01)
    mask[best[:5]] = False
    assert recalls(every, 0, best, corpus, mask) == (0.5, 0.95)


def test_the_cases_leave_the_shares_that_they_name(corpus: Corpus) -> None:
    """A window or a set of sections of 10 % holds about a tenth of the rows."""
    cases = {case.name: case for case in make_cases(corpus, 1)}
    rows = len(corpus.vectors)
    assert cases["all"].passing.tolist() == [rows] * len(corpus.queries)
    assert cases["window 10.0%"].passing.mean() == pytest.approx(rows / 10, abs=1)
    assert rows / 10 <= cases["near sections 10.0%"].passing.mean() < rows / 5
    assert cases["site 10.0%"].passing.mean() == pytest.approx(rows / 10, rel=0.3)


def test_near_sections_hold_what_a_query_finds_and_others_do_not(corpus: Corpus) -> None:
    """A filter on near sections correlates with the query; one on other sections does not."""
    cases = {case.name: case for case in make_cases(corpus, 1)}

    def share_kept(case: Case) -> float:
        return float(np.mean(case.thresholds[:, 0] >= cases["all"].thresholds[:, 0] - 0.15))

    assert share_kept(cases["near sections 10.0%"]) > share_kept(cases["other sections 1.0%"])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin")
def test_pinning_ends_with_its_block() -> None:
    """The block has one core; after it the process has all cores of before."""
    before = os.sched_getaffinity(0)
    with pin(1) as cores:
        assert cores == 1
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before


def test_a_result_says_seed_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`keep` records the seed and those of the named packages that are installed."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    kept = json.loads(machine.keep("x", {"value": 1}, seed=3, packages=("pytest", "no-such-package")).read_text())
    assert (kept["seed"], kept["value"]) == (3, 1)
    assert kept["machine"]["packages"]["pytest"] == pytest.__version__
    assert "no-such-package" not in kept["machine"]["packages"]


@pytest.mark.slow
def test_a_result_has_its_command_and_goes_to_the_folder_asked_for(tmp_path: Path) -> None:
    """It has the command without the machine's own folders; BENCHMARK_RESULTS names another folder."""
    script = tmp_path / "script.py"
    script.write_text("from benchmarks.machine import keep\nprint(keep('x', {}))\n")
    environment = {**os.environ, "BENCHMARK_RESULTS": str(tmp_path / "kept"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), "--rows", "a b"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    path = Path(done.stdout.strip())
    assert path.parent == tmp_path / "kept"
    assert json.loads(path.read_text())["command"] == "python script.py --rows 'a b'"


def test_the_report_shows_latency_and_what_was_missed(corpus: Corpus, tmp_path: Path) -> None:
    """Each peer is one line; a recall that was missed is beside the latency; a skipped peer says why."""
    peer = FakePeer()
    peer.efforts = (50,)
    values = {"name": "fake", **measure(peer, corpus, make_cases(corpus, 1), tmp_path, Plan())}
    peers = {"fake": values, "absent": {"skipped": "x is not installed"}}
    lines = report.markdown({"corpus": corpus.description, "recall_wanted": 0.98, "peers": peers}).splitlines()
    assert lines[0].startswith("1,500 rows, real passages")
    assert "(0.500) | no | no" in lines[4]
    assert lines[5].startswith("| absent | x is not installed |")
