"""`evaluate` and `fit` as they are run: reports, the service's own code path, caches, exit codes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from indexer.cli import commands, console, evaluation
from indexer.evaluation import fitting
from indexer.evaluation.evaluate import CALIBRATION_BINS, measure, ranking_of
from indexer.evaluation.links import Gold, GoldLink, usable
from indexer.evaluation.report import relevance_json, system_json
from indexer.evaluation.workbench import Bench, bring_up_to_date, open_bench, read_gold
from recommender.answer.fitted_ranker import FittedFormula
from recommender.answer.rank import Ranker
from recommender.answer.recommend import EVERY, Recommender, Request
from recommender.catalog.articles import Article
from recommender.catalog.checks import format_time
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.clock import DAY_MS
from recommender.config import Settings
from recommender.errors import InvalidInputError
from recommender.serving.ranker_file import read_ranker
from tests.building import DIMENSION, NOW_MS, FakeEmbedder, RecordingProgress, article, build_store, make_parameters
from tests.newsroom import PER_SECTION, SECTIONS, newsroom
from tests.service.servers import environment

pytestmark = pytest.mark.slow

METRICS = {"ndcg@10", "mrr@10", "recall@10", "hit@3"}
SYSTEMS = ["related-news", "cosine", "lexical", "recent"]
YEARS_MS = 1_000 * DAY_MS
"""Files hold articles so much older than the tests' clock that the real one never finds them in the future."""


def _links() -> list[GoldLink]:
    """Return links of each article to the two before it in its section, both at paragraph 4."""
    return [
        GoldLink(f"{section}-{n}", f"{section}-{older}", 4)
        for section in SECTIONS
        for n in range(PER_SECTION)
        for older in (n + 1, n + 2)
        if older < PER_SECTION
    ]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Return the newsroom's index."""
    folder = tmp_path_factory.mktemp("bench")
    store = build_store(folder, newsroom())
    yield Bench(store, Live(Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION))))
    store.close()


@pytest.fixture(scope="module")
def gold(bench: Bench) -> Gold:
    """Return the newsroom's links, and three that cannot be used."""
    lost = [GoldLink("harbour-0", "nobody"), GoldLink("nobody", "harbour-0"), GoldLink("harbour-7", "harbour-0")]
    return usable([*_links(), *lost], bench.live)


@pytest.fixture(scope="module")
def report(bench: Bench, gold: Gold) -> dict[str, Any]:
    """Return the report on the newsroom as JSON."""
    return relevance_json(measure(bench.store, bench.live, gold))


# The report


def test_the_report_has_its_keys(report: dict[str, Any]) -> None:
    """The report has counts, every system's metrics with intervals, placement, empty places and seconds."""
    assert (report["sources"], report["links"], report["articles"]) == (35, 65, 40)
    assert list(report["systems"]) == SYSTEMS
    for values in report["systems"].values():
        assert values.keys() == METRICS | {"ci95"}
        assert values["ci95"].keys() == METRICS
        assert all(low <= values[name] <= high for name, (low, high) in values["ci95"].items())
    assert report["placement"].keys() == {"pairs", "within_one", "random", "first_allowed"}
    assert report["placement"]["pairs"] == 65
    assert 0 <= report["empty_share"] <= 1
    assert {*SYSTEMS, "candidates", "lexical index", "fitted", "placement", "plans"} == report["seconds"].keys()
    assert json.loads(json.dumps(report)) == report


def test_unusable_links_are_counted_by_reason(report: dict[str, Any]) -> None:
    """Links with an unknown end and links to the page's future are counted separately."""
    assert report["passed_over"] == {"unknown_source": 1, "unknown_target": 1, "target_not_yet_public": 1}


def test_related_news_ranks_as_the_service_lists(bench: Bench, gold: Gold, report: dict[str, Any]) -> None:
    """The product's ranking is that of ListRelated as of the page's time, of every language and site."""
    recommender = Recommender(bench.live)
    reciprocal = []
    for page in gold.pages:
        request = Request(page.id, page.published_at_ms, Scope(languages=EVERY, sites=EVERY))
        ids = [link.article.id for link in recommender.list_related(request, 10).recommendations]
        assert ranking_of(recommender)(page) == ids
        assert ids
        assert all(bench.live.public_at_ms(bench.live.find(id) or 0) <= page.published_at_ms for id in ids)
        places = [place for place, id in enumerate(ids, 1) if id in page.relevant]
        reciprocal.append(1 / places[0] if places else 0.0)
    assert report["systems"]["related-news"]["mrr@10"] == pytest.approx(np.mean(reciprocal))


def test_links_cross_languages_and_sites(tmp_path: Path) -> None:
    """An editor's link to another language or site can be found."""
    articles = [article("page"), article("far", days_ago=3, site="elsewhere.example", language="fr", title="Autre")]
    store = build_store(tmp_path, articles)
    live = Live(Snapshot(write_snapshot(store, tmp_path / SNAPSHOTS, DIMENSION)))
    (page,) = usable([GoldLink("page", "far")], live).pages
    report = measure(store, live, Gold((page,), {}))
    store.close()
    assert report.candidates.recall == 1.0


def test_candidates_and_calibration(bench: Bench, gold: Gold, report: dict[str, Any]) -> None:
    """On a small archive everything older is a candidate; the bins hold all of them and all links."""
    sizes = [len(bench.live.latest(Scope(), 100, page.published_at_ms)) - 1 for page in gold.pages]
    assert report["candidate_recall"] == 1.0
    assert report["candidates"] == {"mean": pytest.approx(np.mean(sizes)), "max": max(sizes)}
    bins = report["calibration"]
    assert [b["from"] for b in bins] + [bins[-1]["to"]] == list(CALIBRATION_BINS)
    assert sum(b["candidates"] for b in bins) == sum(sizes)
    assert sum(b["candidates"] * b["linked"] for b in bins) == pytest.approx(65)


def test_every_step_of_a_measurement_is_reported(bench: Bench, gold: Gold) -> None:
    """Each stage has as many steps as it announces."""
    progress = RecordingProgress()
    measure(bench.store, bench.live, gold, progress=progress)
    assert progress.stages == [(name, 35) for name in ("candidates", *SYSTEMS, "plans")]
    assert [sum(steps) for steps in progress.steps] == [35] * len(progress.stages)


@pytest.mark.parametrize("days_ago", [30, 5, 0])
def test_a_fitted_ranker_is_measured_on_later_pages(bench: Bench, gold: Gold, days_ago: int) -> None:
    """Pages up to the last one that it was fitted on do not count; with none left there are no metrics."""
    until_ms = NOW_MS - days_ago * DAY_MS
    parameters = make_parameters(fitted_on={"until_ms": until_ms})
    later = [page for page in gold.pages if page.published_at_ms > until_ms]
    fitted = system_json(measure(bench.store, bench.live, gold, parameters=parameters).systems["fitted"])
    assert fitted["pages_after_fitting"] == len(later)
    assert fitted.keys() == {"pages_after_fitting"} | (METRICS | {"ci95"} if later else set())
    if later:
        ranking = ranking_of(Recommender(bench.live, Ranker(FittedFormula(parameters))))
        found = [len(page.relevant & set(ranking(page))) / len(page.relevant) for page in later]
        assert fitted["recall@10"] == pytest.approx(np.mean(found))


@pytest.mark.parametrize("links", ["harvested", "file"])
def test_nothing_to_measure_on_is_an_error(bench: Bench, tmp_path: Path, links: str) -> None:
    """Without one usable link the message says what became of them."""
    path = tmp_path / "links.jsonl"
    path.write_text('{"source_id": "nobody", "target_id": "harbour-0"}', "utf-8")
    why = "there are none" if links == "harvested" else "1 unknown_source"
    with pytest.raises(InvalidInputError) as caught:
        read_gold(bench, links if links == "harvested" else str(path))
    assert str(caught.value) == f"links: none can be used: {why} (give links between indexed articles)"


# The command line


class Invoke(Protocol):
    """Runs the command line in this process."""

    def __call__(self, *arguments: str | Path) -> Result: ...


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> FakeEmbedder:
    """Return the encoder that commands load."""
    fake = FakeEmbedder()
    monkeypatch.setattr(evaluation, "load_embedder", lambda *_, **__: fake)
    monkeypatch.setitem(fitting._BOOSTING, "num_threads", 1)
    return fake


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: FakeEmbedder) -> Invoke:
    """Return a caller of the command line in an empty working folder, with the fake encoder."""
    del embedder
    monkeypatch.chdir(tmp_path)
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    monkeypatch.setattr(console, "out", Console(width=160))
    monkeypatch.setattr(console, "err", Console(width=160, stderr=True))

    def call(*arguments: str | Path) -> Result:
        return CliRunner().invoke(commands.app, [str(argument) for argument in arguments])

    return call


def _write_articles(path: Path, articles: Sequence[Article], more: Mapping[str, Sequence[str]] | None = None) -> Path:
    """Write articles as JSON Lines; more: paragraphs to add, by article id."""
    lines = [
        {
            "id": a.id,
            "url": a.url,
            "title": a.title,
            "summary": a.summary,
            "paragraphs": [*(p.text for p in a.paragraphs), *(more or {}).get(a.id, ())],
            "published_at": format_time(a.published_at_ms - YEARS_MS),
            "site": a.labels.site,
            "section": a.labels.section,
            "tags": list(a.labels.tags),
            "language": a.labels.language,
        }
        for a in articles
    ]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return path


def _write_links(path: Path, links: Sequence[GoldLink]) -> Path:
    lines = [{"source_id": k.source_id, "target_id": k.target_id, "paragraph": k.paragraph} for k in links]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[str | Path]:
    """Return the arguments that name the newsroom's files and a cache."""
    articles = _write_articles(tmp_path / "room.jsonl", newsroom())
    links = _write_links(tmp_path / "links.jsonl", _links())
    return ["--articles", articles, "--links", links, "--cache", tmp_path / "cache"]


def test_json_is_exactly_one_object(invoke: Invoke, files: list[str | Path]) -> None:
    """Standard output holds one line, the report; standard error is quiet without a terminal."""
    result = invoke("evaluate", *files, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    (line,) = result.stdout.splitlines()
    report = json.loads(line)
    assert {"sources", "candidate_recall", "systems", "placement", "empty_share", "seconds"} <= report.keys()
    assert (report["sources"], list(report["systems"])) == (35, SYSTEMS)
    assert "index" in report["seconds"]


def test_people_read_a_table(invoke: Invoke, files: list[str | Path]) -> None:
    """Without --json there is a row for every system and a line for everything else."""
    result = invoke("evaluate", *files)
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    for word in ("35 pages with editors' links", *SYSTEMS, *METRICS, "candidates: 1.000 of the links", "of 65 links"):
        assert word in result.stdout


def test_a_second_run_embeds_nothing(invoke: Invoke, files: list[str | Path], embedder: FakeEmbedder) -> None:
    """The index in the cache is used again, and measures the same."""
    first = json.loads(invoke("evaluate", *files, "--json").stdout)
    assert embedder.texts > 0
    embedder.texts = 0
    second = json.loads(invoke("evaluate", *files, "--json").stdout)
    assert embedder.texts == 0
    assert {**second, "seconds": {}} == {**first, "seconds": {}}


def test_what_left_the_file_leaves_the_cache(
    invoke: Invoke, files: list[str | Path], tmp_path: Path, embedder: FakeEmbedder
) -> None:
    """An article that is no longer in the file is no candidate; back again, it is, without being embedded."""
    articles = tmp_path / "room.jsonl"
    invoke("evaluate", *files, "--json")
    _write_articles(articles, [a for a in newsroom() if a.id != "harbour-3"])
    report = json.loads(invoke("evaluate", *files, "--json").stdout)
    assert report["articles"] == 39
    assert report["passed_over"] == {"unknown_source": 2, "unknown_target": 2}
    _write_articles(articles, newsroom())
    embedder.texts = 0
    assert json.loads(invoke("evaluate", *files, "--json").stdout)["articles"] == 40
    assert embedder.texts == 0


def test_each_file_and_each_model_has_its_own_index(tmp_path: Path) -> None:
    """Two files of one name, or one file under two models, do not meet in the cache."""
    other = tmp_path / "other"
    other.mkdir()
    paths = [_write_articles(folder / "room.jsonl", newsroom()[:2]) for folder in (tmp_path, other)]
    folders = {
        bring_up_to_date(path, tmp_path / "cache", Settings(), FakeEmbedder(model))
        for path in paths
        for model in ("fake", "other")
    }
    assert len(folders) == 4
    for folder in folders:
        assert folder.name.startswith("room-")


def test_without_articles_the_index_of_the_settings_is_measured(invoke: Invoke, tmp_path: Path) -> None:
    """The data folder's own index is opened as it is."""
    folder = tmp_path / "data"
    folder.mkdir()
    build_store(folder, newsroom()).close()
    links = _write_links(tmp_path / "links.jsonl", _links())
    result = invoke("--data-dir", folder, "evaluate", "--links", links, "--json")
    assert json.loads(result.stdout)["sources"] == 35


def test_harvested_links_are_measured(invoke: Invoke, tmp_path: Path) -> None:
    """Links that cleaning took out of the bodies are the ground truth, resolved by their headlines."""
    room = {a.id: a for a in newsroom()}
    boxes = {"harbour-0": [f"Related News: {room['harbour-2'].title}"], "theatre-1": ["Read More: Not in the archive"]}
    articles = _write_articles(tmp_path / "room.jsonl", list(room.values()), boxes)
    result = invoke("evaluate", "--articles", articles, "--links", "harvested", "--cache", tmp_path / "c", "--json")
    report = json.loads(result.stdout)
    assert (report["sources"], report["links"], report["passed_over"]) == (1, 1, {"unknown_target": 1})


def test_near_duplicates_are_measured_alone(invoke: Invoke, files: list[str | Path], tmp_path: Path) -> None:
    """Without --links there are only the pairs, as JSON and for people."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"first_id": "harbour-0", "second_id": "harbour-1", "shingle_jaccard": 0.1}', "utf-8")
    arguments = ["evaluate", *files[:2], *files[4:], "--near-duplicates", pairs]
    report = json.loads(invoke(*arguments, "--json").stdout)
    assert report.keys() == {"near_copies", "seconds"}
    assert report["near_copies"]["pairs"] == 1
    assert "near copies: precision 1.000" in invoke(*arguments).stdout


def _failed(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    (line,) = result.stderr.splitlines()
    return str(line)


def test_nothing_asked_is_an_error(invoke: Invoke, files: list[str | Path]) -> None:
    """Without links and pairs one line says what to give."""
    line = _failed(invoke("evaluate", *files[:2], *files[4:]))
    assert line == "error: --links: is missing (give a file or `harvested`; or --near-duplicates FILE)"


def test_a_bad_line_of_links_is_an_error(invoke: Invoke, files: list[str | Path]) -> None:
    """One line names the file and the line."""
    Path(files[3]).write_text("{}", "utf-8")
    line = _failed(invoke("evaluate", *files))
    assert line == f"error: {files[3]}:1: has no source_id (write it as a non-empty string)"


def test_a_ranker_of_another_model_is_an_error(invoke: Invoke, files: list[str | Path], tmp_path: Path) -> None:
    """--ranker takes only what fits the index."""
    path = tmp_path / "ranker.json"
    path.write_text(make_parameters(encoder="other@1/r").to_json(), "utf-8")
    line = _failed(invoke("evaluate", *files, "--ranker", path))
    assert line.startswith(f"error: {path} was fitted for encoder other@1/r, this index has {FakeEmbedder().info.key}")


# Fitting


@pytest.fixture
def large(tmp_path: Path) -> list[str | Path]:
    """Return arguments with an archive of 120 articles, of which the later ones link to another rule than the first."""
    rng = np.random.default_rng(3)
    words = ["pier", "crane", "tide", "cargo", "pilot", "apple", "frost", "cider", "tunnel", "signal", "gauge"]
    articles = [
        article(
            f"a{i:03}",
            title=" ".join(rng.choice(words, 4)),
            paragraphs=[" ".join(rng.choice(words, 10)) for _ in range(2)],
            days_ago=120 - i,
            section=f"section {i % 10}",
            tags=[f"tag {i % 7}"],
        )
        for i in range(120)
    ]
    links = [GoldLink(f"a{i:03}", f"a{i - (10 if i < 84 else 7):03}") for i in range(20, 120)]
    return [
        "--articles",
        _write_articles(tmp_path / "large.jsonl", articles),
        "--links",
        _write_links(tmp_path / "large-links.jsonl", links),
        "--cache",
        tmp_path / "cache",
    ]


def test_a_fit_is_compared_on_pages_that_it_has_not_seen(
    invoke: Invoke, large: list[str | Path], tmp_path: Path, embedder: FakeEmbedder
) -> None:
    """The file holds a ranker of all pages, and how one of the first 70 % did on the rest."""
    to = tmp_path / "ranker.json"
    result = invoke("fit", *large, "--to", to, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    (line,) = result.stdout.splitlines()
    report = json.loads(line)
    parameters = read_ranker(to, embedder.info.key)
    settings = Settings()
    with open_bench(bring_up_to_date(Path(large[1]), Path(large[5]), settings, embedder), embedder) as bench:
        pages = read_gold(bench, str(large[3])).pages
        recommender = Recommender(bench.live)
        examples = [fitting.example(recommender, page) for page in pages]
        early = Recommender(bench.live, Ranker(FittedFormula(fitting.train(examples[:70], embedder.info.key))))
        hits = [any(id in page.relevant for id in ranking_of(early)(page)[:3]) for page in pages[70:]]
    assert report["sources"] == 30
    assert report["systems"]["fitted"]["hit@3"] == pytest.approx(np.mean(hits))
    assert report["fitted_on"] == {"pages": 100, "until_ms": pages[-1].published_at_ms, "links": str(large[3])}
    assert parameters.weights["tags"] > fitting.train(examples[:70], embedder.info.key).weights["tags"] + 0.3
    assert (parameters.evaluation, parameters.fitted_on) == ({"pages": 30, **report["systems"]}, report["fitted_on"])
    assert parameters.name.startswith("fitted-20")
    assert [path.name for path in tmp_path.iterdir() if "ranker" in path.name] == ["ranker.json"]


def test_a_fitted_ranker_is_evaluated_beside_the_others(
    invoke: Invoke, large: list[str | Path], tmp_path: Path
) -> None:
    """`fit` prints where it wrote; `evaluate --ranker` finds no later page than its own, `--cross-fit` uses all."""
    result = invoke("fit", *large)
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    assert result.stdout.endswith("written to ranker.json\n")
    systems = json.loads(invoke("evaluate", *large, "--ranker", tmp_path / "ranker.json", "--json").stdout)["systems"]
    assert systems["fitted"] == {"pages_after_fitting": 0}
    result = invoke("evaluate", *large, "--cross-fit", "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    systems = json.loads(result.stdout)["systems"]
    assert list(systems) == [*SYSTEMS, "fitted", "fitted-content"]
    assert systems["fitted"]["folds"] == 5
    assert systems["fitted"]["ndcg@10"] > systems["related-news"]["ndcg@10"]


def test_too_few_links_write_no_ranker(invoke: Invoke, files: list[str | Path], tmp_path: Path) -> None:
    """One line says how many pages there are and how many it takes, those kept for the comparison among them."""
    line = _failed(invoke("fit", *files))
    assert line == "error: links: 35 pages with usable links (fit on at least 72)"
    assert not (tmp_path / "ranker.json").exists()


def test_a_place_that_cannot_be_written_is_an_error(
    invoke: Invoke, large: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is not there is named, and so is one that is a file, before anything is fitted."""
    monkeypatch.setattr(evaluation, "gather_examples", None)
    for folder, why in ((tmp_path / "absent", "No such file or directory"), (Path(large[3]), "Not a directory")):
        to = folder / "ranker.json"
        assert _failed(invoke("fit", *large, "--to", to)) == (
            f"error: cannot write {to}: {why} (choose another file with --to)"
        )


def test_links_that_are_skipped_are_reported(
    invoke: Invoke, large: list[str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate` and `fit` say in a line how many and why; where there is no terminal a system is one line too."""
    monkeypatch.setattr(console, "out", Console(width=40))
    with Path(large[3]).open("a") as links:
        links.write('\n{"source_id": "a099", "target_id": "nobody"}\n{"source_id": "a099", "target_id": "a099"}\n')
    for command in ("evaluate", "fit"):
        result = invoke(command, *large)
        assert (result.exit_code, result.stderr) == (0, ""), result.exception
        lines = result.stdout.splitlines()
        assert "links passed over: 1 unknown target, 1 to itself" in lines
        (row,) = [line for line in lines if "related-news" in line]
        assert len(re.findall(r"\d\.\d{3} \d\.\d{3}-\d\.\d{3}", row)) == len(METRICS)


@pytest.mark.parametrize("to", ["", ".", "/", "cache"])
def test_a_ranker_is_not_written_over_a_folder(
    invoke: Invoke, large: list[str | Path], monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """A folder is refused before anything is fitted; so is what names nothing, which is the working folder."""
    monkeypatch.setattr(evaluation, "gather_examples", None)
    assert _failed(invoke("fit", *large, "--to", to)) == f"error: --to: {to or '.'} is a folder (name a file)"
