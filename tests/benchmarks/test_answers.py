from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.peers.answer import AnswerPeer, Question
from benchmarks.peers.answers import OWN, PEERS, compare_answers, documents, open_answer
from benchmarks.result import read
from indexer.evaluation.workbench import Bench
from recommender.catalog.articles import Article
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from tests.building import DIMENSION, article, build_store

TOPICS = ("strait envoys talks", "orchard harvest frost", "ferry harbour timetable", "painting court ruling")


def articles() -> list[Article]:
    """Return 80 articles on four topics, two sites and two sections, a day apart, the first the oldest."""
    made = []
    for n in range(80):
        topic = TOPICS[n % 4]
        words = topic.split() * 4
        text = " ".join(f"{word} note{n}x{place}" for place, word in enumerate(words))  # no near copies
        site, section = f"site{n // 4 % 2}.example", f"section{n // 8 % 2}"
        made.append(
            article(f"a{n}", title=f"{topic} {n}", paragraphs=[text], days_ago=80 - n, site=site, section=section)
        )
    return made


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench with an archive of `articles`."""
    folder = tmp_path_factory.mktemp("archive")
    store = build_store(folder, articles())
    yield Bench(store, Live(Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION))))
    store.close()


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Iterator[AnswerPeer]:
    """Every installed peer, with the archive built."""
    try:
        opened = open_answer(request.param, bench.live)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    opened.build(documents(bench), tmp_path)
    yield opened
    opened.close()


@pytest.mark.filterwarnings("ignore")  # of other libraries
def test_related_articles_are_on_the_topic_and_pass_the_filters(peer: AnswerPeer) -> None:
    """None is the page or newer than the question, and all are of the site and section asked for."""
    by_id = {one.id: one for one in articles()}
    page = by_id["a28"]
    question = Question(page.id, page.published_at_ms, page.labels.language, page.labels.site)
    related = [by_id[name] for name in peer.related(question, 5)]
    assert related
    assert page not in related
    assert all(one.published_at_ms <= page.published_at_ms and one.labels.site == page.labels.site for one in related)
    assert related[0].title.startswith(TOPICS[0])
    narrowed = Question(page.id, page.published_at_ms, section="section0")
    assert {by_id[name].labels.section for name in peer.related(narrowed, 5)} == {"section0"}


@pytest.mark.filterwarnings("ignore")  # of other libraries
def test_answers_are_measured_on_the_same_pages(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result has our own with samples of every page; other peers are measured or say what is missing."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    values = read(compare_answers(bench, None, pages=30, seed=1, scratch=tmp_path)).values
    assert (values["pages"], values["articles"]) == (30, 80)
    assert len(values["answers"]) == len(PEERS)
    own = values["answers"]["related-news"]["cases"]["own site and language"]
    assert len(own["samples_us"]) == 30
    assert own["found"] > 0
    assert all("cases" in one or "not installed" in one["skipped"] for one in values["answers"].values())
    assert OWN not in values["answers"]
