from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.profile_call import profile
from benchmarks.profile_call import table as table_of_call
from benchmarks.service import no_model, run
from benchmarks.service.calls import FILL, LIST
from benchmarks.service.client import Block
from benchmarks.service.figures import SAMPLES_MAX, figures, ratios, table, thinned
from benchmarks.service.hosting import Cores, Running
from benchmarks.service.no_model import NoModel
from benchmarks.service.questions import DRAFT_WORDS, ask_about, make_drafts, served_copy
from benchmarks.service.run import RunPlan, measure
from benchmarks.service.turns import Case, Plan, in_turns, reading_cases, writing_cases
from benchmarks.stage_timer import Stage, StageTimer, wrapper_s
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.verified import CHECKED
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import open_store
from tests.building import DIMENSION, article, build_store
from tests.newsroom import newsroom


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 40 articles."""
    folder = tmp_path_factory.mktemp("archives") / "data"
    folder.mkdir()
    store = build_store(folder, newsroom())
    write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return folder


def test_a_run_measures_every_call_of_a_service(data_dir: Path) -> None:
    """It has samples with and without writes, starts, memory and freshness, and leaves the index untouched."""
    plan = Plan(rounds=2, block_s=0.02, clients=(1, 3), writing_rounds=1, starts=1)
    with served_copy(data_dir) as copy:
        run_plan = RunPlan(plan, workers=1, writes=100.0, load=partial(NoModel, copy), module=no_model.MODULE)
        values = measure(copy, ask_about(copy, None, seed=1), run_plan)
        assert _revision(copy) > _revision(data_dir) == 40
    cases = values["cases"]
    assert list(cases) == [case.name for case in (*reading_cases((1, 3)), *writing_cases())]
    for case in cases.values():
        samples = case["samples_us"]
        assert len(samples) == case["count"] >= 2
        assert case["p50_us"] == pytest.approx(np.median(samples), rel=1e-3, abs=0.06)  # rounded to a tenth
    assert cases[f"{FILL}/1"]["p50_us"] > cases["empty/1"]["p50_us"]
    assert values["ratios"][f"{FILL}/1"] == pytest.approx(
        cases[f"{FILL}/1"]["p50_us"] / cases["empty/1"]["p50_us"], abs=1e-3
    )
    assert cases[f"{FILL}/3"]["count"] >= 2 * 3 * plan.rounds
    assert values["links_in_an_answer"][LIST] > 0
    assert values["start_s"] > 0
    assert values["restart_without_model_s"] > 0
    assert {"supervisor", "worker 0", "encoder 0"} == set(values["memory"]["processes"])
    assert values["writes"]["write_ms"]["count"] >= 2
    assert 0 < values["writes"]["per_second"] <= 110
    assert values["writes"]["fresh_ms"]["count"] >= 1
    assert f"| {FILL}/1 |" in table(values)
    assert not copy.exists()


def test_each_start_checks_the_snapshot_unless_it_is_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that an earlier start recorded must not make the next one look quick."""
    checked = tmp_path / SNAPSHOTS / CHECKED
    checked.parent.mkdir()
    verified: list[bool] = []

    @contextmanager
    def serving(data_dir: Path, *_: object, **__: object) -> Iterator[Running]:
        assert data_dir == tmp_path
        verified.append(checked.exists())
        checked.touch()
        yield Running("", 0, 1.5)

    monkeypatch.setattr(run, "serving", serving)
    cores = Cores(frozenset(), frozenset())
    assert run.time_starts(tmp_path, cores, 1, "module", 2) == [1.5, 1.5]
    assert run.time_starts(tmp_path, cores, 1, "module", 2, anew=False) == [1.5, 1.5]
    assert verified == [False, False, True, True]


def test_every_stage_of_a_call_is_timed(data_dir: Path) -> None:
    """The stages cover the call and nothing twice; after a rename of a function the profile fails."""
    values = profile(data_dir, lambda _: b"", lambda _: b"", pages=25, seed=1)
    assert values["pages"] == 25
    assert values["grpc_us"] == pytest.approx(values["whole_p50_us"] - values["in_process_p50_us"], abs=0.1)
    assert sum(values["stages"].values()) <= values["watched_p50_us"] * 1.5
    unseen = {label for label, us in values["stages"].items() if us == 0}
    assert unseen <= {"slots: inline positions", "slots: fit of paragraphs"}
    assert all(label in table_of_call(values) for label in values["stages"])


def test_the_copy_shares_snapshots_and_not_the_store(data_dir: Path) -> None:
    """The store, which is written to, is copied; snapshots, which never change, are linked."""
    with served_copy(data_dir) as copy:
        copied, original = current_snapshot(copy / SNAPSHOTS), current_snapshot(data_dir / SNAPSHOTS)
        assert copied and original
        assert (copied / "mains.npy").samefile(original / "mains.npy")
        assert not (copy / STORE_FILE).samefile(data_dir / STORE_FILE)
        assert _revision(copy) == 40


def test_calls_take_turns() -> None:
    """Every case has one block in each round, and each round begins with another case."""
    cases = [Case(name, 1) for name in "abc"]
    ran: list[str] = []

    def run(case: Case) -> Block:
        ran.append(case.call)
        return Block([len(ran)], 1.0, 0.0)

    blocks = in_turns(cases, 4, run)
    assert "".join(ran) == "abcbcacababc"
    assert [block.samples for block in blocks["a/1"]] == [[1], [6], [8], [10]]


def test_figures_are_of_all_samples_and_few_are_kept() -> None:
    """Percentiles do not depend on thinning, which is even; calls a second are over all blocks."""
    random = np.random.default_rng(1)
    blocks = [Block(random.random(SAMPLES_MAX).tolist(), 2.0, 0.5, 1.0) for _ in range(3)]
    values = figures(blocks)
    every = np.concatenate([block.samples for block in blocks])
    assert (values["count"], values["seconds"], values["per_second"]) == (15_000, 6.0, 2_500.0)
    assert values["p99_us"] == pytest.approx(np.percentile(every, 99) * 1e6, rel=1e-4)
    assert len(values["p50_us_by_round"]) == 3
    assert (values["asking_busy"], values["serving_busy"]) == (0.25, 0.5)
    assert len(values["samples_us"]) == SAMPLES_MAX
    assert thinned(np.arange(10.0), 4).tolist() == [0, 2, 5, 7]
    assert thinned(np.arange(3.0), 4).tolist() == [0, 1, 2]


def test_ratios_are_to_the_empty_call_by_as_many_clients() -> None:
    """One client is compared by medians, several by calls a second; a call without figures has no ratio."""
    cases = {
        "empty/1": {"p50_us": 200.0, "per_second": 5_000.0},
        "empty/16": {"p50_us": 3_000.0, "per_second": 6_000.0},
        f"{FILL}/1": {"p50_us": 400.0, "per_second": 2_500.0},
        f"{FILL}/16": {"p50_us": 6_000.0, "per_second": 3_000.0},
        "fill_slots by draft/1": {"p50_us": 9_000.0, "per_second": 110.0},
        "fill_slots by draft/16": {"p50_us": 90_000.0, "per_second": 165.0},
        "encoding alone/1": {"p50_us": 7_500.0, "per_second": 130.0},
    }
    assert ratios(cases) == {
        f"{FILL}/1": 2.0,
        f"throughput {FILL}/16": 0.5,
        "draft over encoding": 1.2,
        "drafts 16 over 1": 1.5,
    }


def test_drafts_are_distinct_and_of_one_length() -> None:
    """A draft goes on with the next article where one ends, and its words are those of the articles."""
    short = [article(f"a{n}", title=f"Title {n}", paragraphs=[f"p{n}w{w} " * 60 for w in range(3)]) for n in range(8)]
    drafts = make_drafts(short, 20)
    assert len({draft.SerializeToString() for draft in drafts}) == 20
    words = [" ".join(paragraph.text for paragraph in draft.paragraphs).split() for draft in drafts]
    assert {len(some) for some in words} == {DRAFT_WORDS}
    assert words[2][0] == "p2w0"
    assert words[2][DRAFT_WORDS - 1].startswith("p4")
    assert make_drafts([], 20) == []


def test_a_stage_timer_counts_each_second_once() -> None:
    """The time of a function is without that of the wrapped ones it calls, and nothing stays wrapped."""
    timer, inner = StageTimer(), _Work.inner
    with timer.timing([Stage(_Work, "outer", ("outer",)), Stage(_Work, "inner", ("first", "later"))]):
        started = time.perf_counter()
        _Work().outer()
        took = time.perf_counter() - started
    seconds, calls = timer.take()
    assert calls == 4
    assert seconds["first"] >= 0.01
    assert seconds["later"] >= 0.02
    assert seconds["outer"] >= 0.005
    assert sum(seconds.values()) <= took
    assert timer.take() == ({}, 0)
    assert _Work.inner is inner
    assert 0 < wrapper_s() < 1e-3


class _Work:
    def outer(self) -> None:
        time.sleep(0.005)
        for _ in range(3):
            self.inner()

    def inner(self) -> None:
        time.sleep(0.01)


def _revision(data_dir: Path) -> int:
    with closing(open_store(data_dir / STORE_FILE)) as store:
        return store.revision()
