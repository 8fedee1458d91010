from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.reporting import history, tables
from benchmarks.reporting.units import count, duration, ratio, share
from benchmarks.result import newest
from tests import ROOT
from tests.benchmarks.results import core_values, keep_in, point, search_values, searcher, service_values


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results: core at 100k, an older run of it, core at 1M, peers at 100k, the service at 100k."""
    folder = tmp_path / "results"
    folder.mkdir()
    keep_in(folder, "core-100000", core_values(100_000, 9_000, 9_000), at="20250101T000000Z")
    core = core_values(100_000, 400, 5_000)
    core["peers"]["related_news"]["cases"] |= searcher("", {"site 1.0% 2 threads": [point(900, 0.5)]})["cases"]
    keep_in(folder, "core-100000", core)
    keep_in(folder, "core-1000000", core_values(1_000_000, 700, 50_000, recall=0.98))
    peers = [
        searcher("faiss-flat", {"all": [point(5_000)], "site 1.0%": [point(200)]}),
        searcher("related-news", {"all": [point(450, 0.99)], "site 1.0%": [point(100)]}),
        searcher("sweeper", {"all": [point(100, 0.9, effort=10), point(300, 0.985, effort=20)], "site 1.0%": None}),
        searcher("misser", {"all": [point(800, 0.6, effort=1)], "site 1.0%": [point(3_000, 0.9796)]}),
    ]
    values = search_values(100_000, peers)
    values["peers"]["absent"] = {"skipped": "x is not installed"}
    keep_in(folder, "peers-100000", values)
    keep_in(folder, "service-100000", service_values(100_000, 520, 280))
    return folder


def rows(text: str) -> list[list[str]]:
    """Return the cells of all lines of all tables in a text."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


def test_the_newest_result_of_each_series_is_taken(results: Path) -> None:
    """The time of measuring decides."""
    latest = newest(results)
    assert sorted(latest) == ["core-100000", "core-1000000", "peers-100000", "service-100000"]
    assert latest["core-100000"].at == "20260101T000000Z"


def test_figures_are_those_of_the_results_and_what_is_missing_is_a_dash(results: Path) -> None:
    """Tables hold latency, recall and ratio by size, peers at equal recall, and ratios to the empty call."""
    lines = rows(tables.tables(newest(results), results.parent))
    by_size = {tuple(line[:2]): line for line in lines}
    core = by_size["100k", "real"]
    assert core[5:6] + core[-1:] == [".990", "core-100000"]
    assert float(core[2].removesuffix(" µs")) == pytest.approx(400, rel=0.05)
    assert float(core[7].removeprefix("1/")) == pytest.approx(12.5, rel=0.05)
    assert float(core[8].removesuffix(" µs")) == pytest.approx(200, rel=0.05)
    assert core[9] == ".990"
    assert by_size["10k", "-"][1:] == ["-"] * 10
    head = next(line for line in lines if line[:2] == ["articles", "filter"])
    unfiltered = dict(zip(head, by_size["100k", "none"], strict=True))
    assert float(unfiltered["sweeper"].removesuffix(" µs")) == pytest.approx(300, rel=0.05)
    assert unfiltered["misser"].endswith("(.600)")
    assert "absent" not in head
    filtered = dict(zip(head, by_size["100k", "site 1.0%"], strict=True))
    assert (filtered["sweeper"], filtered["misser"][-6:]) == ("no filters", "(.979)")
    assert by_size["1M", "none"][2:] == ["-"] * (len(head) - 2)
    (service,) = [line for line in lines if line[-1] == "service-100000"]
    assert service[1:5] == ["520 µs", "624 µs", "280 µs", "1.86"]
    assert service[9:11] == ["1.25", "-"]


def test_a_size_without_an_exact_search_has_its_other_figures(results: Path) -> None:
    """Only the figures that need the baseline are missing."""
    values = core_values(10_000_000, 1_900, 5_000)
    del values["peers"]["faiss_flat"]
    keep_in(results, "core-10000000", values)
    (line,) = [one for one in rows(tables.tables(newest(results), results.parent)) if one[0] == "10M"]
    assert float(line[2].removesuffix(" ms")) == pytest.approx(1.9, rel=0.05)
    assert line[6:8] == ["-", "-"]
    assert line[-1] == "core-10000000"


def test_every_run_is_named_with_command_and_commit(results: Path) -> None:
    """Each run that a row names is listed below with a link to its file."""
    text = tables.tables(newest(results), results.parent)
    named = {line[-1] for line in rows(text)} - {"run", "---", "-"}
    assert named == {"core-100000", "core-1000000", "peers-100000", "service-100000"}
    for name in named:
        (line,) = [line for line in text.splitlines() if line.startswith(f"- [{name}]")]
        assert f"(results/{name}-20260101T000000Z.json)" in line
        assert "`python -m benchmarks." in line
        assert "commit `abc123def456`, 2 cores of Example CPU" in line


def test_without_results_nothing_is_invented() -> None:
    """All tables are there, with dashes only, and no run."""
    text = tables.tables({}, ROOT)
    figures = {cell for line in rows(text) if line[0] in ("10k", "100k", "1M", "10M") for cell in line[2:]}
    assert figures == {"-"}
    assert "commit" not in text


@pytest.mark.parametrize("text", ["", "<!-- benchmarks -->", "<!-- /benchmarks --> <!-- benchmarks -->"])
def test_a_document_without_its_markers_is_left_alone(text: str) -> None:
    """Both markers must be there, once each, in order."""
    with pytest.raises(ValueError, match="the document needs"):
        tables.with_block(text, "table")


def test_the_headline_is_of_the_same_results(results: Path) -> None:
    """It has FillSlots first asked and asked again, the search of a million beside FAISS flat, and relevance."""
    service = service_values(1_000_000, 8_000, 250)
    service["cases"]["fill_slots by id, again/1"] = service["cases"]["empty/1"]
    keep_in(results, "service-1000000", service)
    systems = {"related-news": {"ndcg@10": 0.5634}, "lexical": {"ndcg@10": 0.4857}}
    keep_in(results, "relevance", {"systems": systems})
    pages, search, relevance = rows(tables.headline(newest(results)))[2:]
    assert pages[1:] == ["100k: 520 µs, 1M: 8.00 ms", "asked again: 100k: -, 1M: 250 µs"]
    assert float(search[1].partition(" µs, recall@100 ")[0]) == pytest.approx(700, rel=0.05)
    assert search[1].endswith(" µs, recall@100 .980")
    assert float(search[2].removeprefix("FAISS flat (exact): ").removesuffix(" ms")) == pytest.approx(50, rel=0.05)
    assert relevance[1:] == [".563", "TF-IDF: .486"]
    assert {cell for line in rows(tables.headline({}))[2:] for cell in line[1:]} == {
        *("100k: -, 1M: -", "asked again: 100k: -, 1M: -", "-", "FAISS flat (exact): -", "TF-IDF: -")
    }


@pytest.fixture
def command(results: Path, tmp_path: Path) -> list[str]:
    """The command that reports these results, with a history, into two documents and a folder for plots."""
    for result in sorted(newest(results).values(), key=lambda result: result.series):
        history.append(tmp_path / "history.jsonl", result)
    for name in ("README.md", "tables.md"):
        (tmp_path / name).write_text("before\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nafter\n", "utf-8")
    documents = ["--readme", str(tmp_path / "README.md"), "--tables", str(tmp_path / "tables.md")]
    return ["report", "--results", str(results), *documents, "--plots", str(tmp_path / "plots")]


def test_the_command_writes_tables_and_plots_and_then_the_same_bytes(command: list[str], tmp_path: Path) -> None:
    """The text around the markers stays; a second run changes no byte of any file."""
    pytest.importorskip("matplotlib", reason="plots need the extra bench")
    into, plots = [tmp_path / "README.md", tmp_path / "tables.md"], tmp_path / "plots"
    written = []
    for _ in range(2):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        written.append({path.name: path.read_bytes() for path in [*into, *sorted(plots.iterdir())]})
    assert written[0] == written[1]
    names = ["README.md", "tables.md", "history.png", "latency.png", "peers-100000.png", "recall-100000.png"]
    assert list(written[0]) == names
    for path, block in zip(into, ("| what |", "Search"), strict=True):
        text = path.read_text("utf-8")
        assert text.startswith(f"before\n<!-- benchmarks -->\n{block}")
        assert text.endswith("<!-- /benchmarks -->\nafter\n")
        assert "old" not in text


def test_without_matplotlib_the_tables_are_written(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command names the package that is missing, writes both documents and no plot."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "benchmarks.reporting.plots", raising=False)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "no plots: matplotlib" in done.output
    assert not (tmp_path / "plots").exists()
    assert "core-100000" in (tmp_path / "tables.md").read_text("utf-8")
    assert "-->\n| what |" in (tmp_path / "README.md").read_text("utf-8")


def test_one_result_is_printed(results: Path) -> None:
    """With a result of core or peers the command prints its table and touches no file."""
    done = CliRunner().invoke(app, ["report", str(results / "peers-100000-20260101T000000Z.json")])
    assert done.exit_code == 0, done.output
    assert "| absent | x is not installed |" in done.output
    values = core_values(1_000, 100, 400, recall=0.9)
    del values["recall_wanted"], values["peers"]["related_news"]["cases"]["all"]["reached"]
    del values["peers"]["related_news"]["cases"]["all"]["points"][0]["cpu_us"]
    done = CliRunner().invoke(app, ["report", str(keep_in(results, "core-1000", values).path)])
    assert done.exit_code == 0, done.output
    assert " / - (0.900) |" in done.output


@pytest.mark.parametrize("document", ["README.md", "benchmarks/README.md"])
def test_the_documents_hold_what_the_kept_results_say(document: str) -> None:
    """`make bench-report` was run after the last result was kept."""
    latest, path = newest(ROOT / "benchmarks" / "results"), ROOT / document
    block = tables.headline(latest) if document == "README.md" else tables.tables(latest, path.parent)
    assert tables.with_block(path.read_text("utf-8"), block) == path.read_text("utf-8")


def test_figures_are_written_as_people_read_them() -> None:
    """They have three digits and the unit that suits; recalls are never rounded up."""
    assert [duration(us) for us in (9.876, 453.2, 999.4, 999.6, 4_970, 1_234_567)] == [
        *("9.88 µs", "453 µs", "999 µs", "1.00 ms", "4.97 ms", "1.23 s"),
    ]
    assert [count(rows) for rows in (150, 10_000, 100_000, 1_000_000)] == [
        "150",
        "10k",
        "100k",
        "1M",
    ]
    assert [share(value) for value in (0.9796, 0.98, 1.0)] == [".979", ".980", "1.000"]
    assert [ratio(value) for value in (0.0164, 1.847, 421.3)] == ["0.0164", "1.85", "421"]


def test_the_relevance_in_the_documents_is_that_of_the_newest_result() -> None:
    """The documents state the figures of the newest kept result, in prose that no command writes."""
    result = newest(ROOT / "benchmarks" / "results")["relevance"]
    systems = result.values["systems"]
    names = ("cosine", "lexical", "related-news", "fitted-content", "fitted")
    stated = [f"{systems[name]['ndcg@10']:.3f}".removeprefix("0") for name in names]
    text = (ROOT / "docs" / "relevance.md").read_text("utf-8")
    assert stated in rows(text)
    assert result.path.name in text
    low, high = (f"{bound:.3f}".removeprefix("0") for bound in systems["related-news"]["ci95"]["ndcg@10"])
    assert f"{stated[2]} ({low} to {high})" in " ".join((ROOT / "docs" / "measurements.md").read_text("utf-8").split())
