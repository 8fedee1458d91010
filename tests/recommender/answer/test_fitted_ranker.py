"""Fitted rankers: which files are refused and how, what they weigh, and a service that answers by one."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from recommender.answer.features import FEATURE_NAMES, FEATURES_VERSION
from recommender.answer.fitted_ranker import FittedFormula
from recommender.answer.rank import DefaultFormula
from recommender.catalog.text.derived import ANALYSIS
from recommender.clock import now_ms
from recommender.config import ServerSettings, Settings, load_settings
from recommender.errors import CorruptError, MismatchError
from recommender.rpc.server import Server, make_options
from recommender.serving.ranker_file import read_ranker
from tests import ROOT
from tests.building import FakeEmbedder, article, build_store, make_parameters
from tests.service.client import TIMEOUT_S, Client, connected
from tests.service.servers import Loop, environment, fake_server, in_process

ENCODER = FakeEmbedder().info.key
AGAIN = "run `related-news fit` again"
ON_THIS_INDEX = "run `related-news fit` on this index, or unset `ranker`"
TEXT = ("Envoys met again on Monday to speak about the strait.",)


def _write(path: Path, **changes: Any) -> Path:
    path.write_text(make_parameters(**changes).to_json(), "utf-8")
    return path


# Files


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"format": 1}, "format 1, this index has 2", id="format"),
        pytest.param(
            {"features": "features-0"}, f"features features-0, this index has {FEATURES_VERSION}", id="features"
        ),
        pytest.param({"analysis": "terms-0"}, f"analysis terms-0, this index has {ANALYSIS}", id="analysis"),
        pytest.param({"encoder": "other@1/r"}, f"encoder other@1/r, this index has {ENCODER}", id="encoder"),
    ],
)
def test_a_ranker_that_does_not_fit_the_index_is_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    """The error names the file, what it was fitted for and what the index has."""
    path = _write(tmp_path / "ranker.json", **changes)
    with pytest.raises(MismatchError) as caught:
        read_ranker(path, ENCODER)
    assert str(caught.value) == f"{path} was fitted for {problem} ({ON_THIS_INDEX})"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "Expecting value: line 1 column 1 (char 0)", id="empty"),
        pytest.param(b"a ranker", "Expecting value: line 1 column 1 (char 0)", id="not JSON"),
        pytest.param(b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte", id="not UTF-8"),
        pytest.param(
            b"[]",
            "recommender.answer.fitted_ranker.FittedParameters() argument after ** must be a mapping, not list",
            id="a list",
        ),
        pytest.param(
            b'{"name": "x", "weight": {}}',
            "FittedParameters.__init__() got an unexpected keyword argument 'weight'",
            id="other keys",
        ),
    ],
)
def test_a_file_that_is_no_ranker_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    """The error names the file and what cannot be read."""
    path = tmp_path / "ranker.json"
    path.write_bytes(content)
    with pytest.raises(CorruptError) as caught:
        read_ranker(path, ENCODER)
    assert str(caught.value) == f"{path}: is no fitted ranker: {problem} ({AGAIN})"


NUMBERS = "are not numbers by feature"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"weights": None}, f"weights {NUMBERS}", id="no weights"),
        pytest.param({"means": [1.0]}, f"means {NUMBERS}", id="a list of means"),
        pytest.param({"weights": dict.fromkeys(FEATURE_NAMES, "1")}, f"weights {NUMBERS}", id="weights are texts"),
        pytest.param({"scales": dict.fromkeys(FEATURE_NAMES, math.nan)}, f"scales {NUMBERS}", id="not a number"),
        pytest.param({"weights": dict.fromkeys(FEATURE_NAMES, math.inf)}, f"weights {NUMBERS}", id="without end"),
        pytest.param({"means": dict.fromkeys(FEATURE_NAMES, 10**400)}, f"means {NUMBERS}", id="beyond all"),
        pytest.param({"scales": dict.fromkeys(FEATURE_NAMES, 0)}, "scales are not above 0", id="no scale"),
        pytest.param({"slope": "x"}, "slope and intercept are not numbers", id="slope is a text"),
        pytest.param({"intercept": True}, "slope and intercept are not numbers", id="intercept is a truth"),
        pytest.param({"trees": 5}, "name, encoder and trees are not text, or links no list", id="trees are a number"),
        pytest.param({"links": None}, "name, encoder and trees are not text, or links no list", id="no links"),
    ],
)
def test_a_value_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    """A value that ranking cannot compute with is reported when the file is read."""
    path = _write(tmp_path / "ranker.json", **changes)
    with pytest.raises(CorruptError) as caught:
        read_ranker(path, ENCODER)
    assert str(caught.value) == f"{path}: is no fitted ranker: {problem} ({AGAIN})"


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """JSON that is nested too deeply is refused like any other broken file."""
    path = tmp_path / "ranker.json"
    path.write_text("[" * 500_000)
    with pytest.raises(CorruptError, match="is no fitted ranker: "):
        read_ranker(path, ENCODER)


@pytest.mark.parametrize("table", ["weights", "means", "scales"])
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(FEATURE_NAMES[1:], id="one missing"),
        pytest.param((*FEATURE_NAMES, "moon"), id="one too many"),
        pytest.param((), id="none"),
    ],
)
def test_a_ranker_of_other_features_is_refused(tmp_path: Path, table: str, names: tuple[str, ...]) -> None:
    """Each table has to name every feature and no other."""
    path = _write(tmp_path / "ranker.json", **{table: dict.fromkeys(names, 1.0)})
    with pytest.raises(CorruptError) as caught:
        read_ranker(path, ENCODER)
    assert str(caught.value) == f"{path}: is no fitted ranker: its features differ ({AGAIN})"


@pytest.mark.parametrize("link", [["a", "b", 10**30], ["a", "\ud800", 5], ["a", "b"], ["a", "b", "x"], 5])
def test_broken_links_are_refused(link: Any) -> None:
    """Links with a wrong type, count or number are refused."""
    with pytest.raises(CorruptError, match="the ranker's links are unreadable: "):
        FittedFormula(make_parameters(links=[link]))


def test_trees_of_another_number_of_features_are_refused() -> None:
    """Trees for another number of features are refused at once, not with the first page."""
    data = lightgbm.Dataset(np.random.default_rng(1).normal(size=(50, 2)), np.arange(50) % 2)
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "min_data_in_leaf": 1}, data, 2)
    with pytest.raises(CorruptError, match="the ranker's trees are for 2 features"):
        FittedFormula(make_parameters(trees=booster.model_to_string()))


def test_broken_trees_are_refused(tmp_path: Path) -> None:
    """Trees that LightGBM cannot read give an error of the ranker."""
    with pytest.raises(CorruptError, match=r"^the ranker's trees are unreadable: .* \(run `related-news fit` again\)$"):
        FittedFormula(read_ranker(_write(tmp_path / "ranker.json", trees="no trees"), ENCODER))


# Weighing


def test_log_odds_are_the_scaled_sum() -> None:
    """Log-odds are the weighted sum of standardised features, times the slope, plus the intercept."""
    fit = make_parameters(
        weights=dict(zip(FEATURE_NAMES, range(1, 20), strict=True)),
        means=dict.fromkeys(FEATURE_NAMES, 2.0),
        scales=dict.fromkeys(FEATURE_NAMES, 4.0),
        slope=0.5,
        intercept=-3.0,
    )
    features = np.zeros((2, len(FEATURE_NAMES)), np.float32)
    features[1, FEATURE_NAMES.index("freshness")] = 6.0
    weight = FEATURE_NAMES.index("freshness") + 1
    without = 0.5 * -0.5 * sum(range(1, 20)) - 3.0
    found = FittedFormula(fit).odds(features)
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([without, without + 0.5 * weight * 6 / 4])


def test_no_candidates_have_no_odds() -> None:
    """Without candidates there are no log-odds, and no error."""
    assert FittedFormula(make_parameters()).odds(np.empty((0, len(FEATURE_NAMES)), np.float32)).shape == (0,)


# Settings and the service


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return an index in which the fitted ranker's favourite, by the page's author, is the older one."""
    folder = tmp_path / "data"
    folder.mkdir()
    articles = [
        article("page", title="Strait talks", paragraphs=TEXT, author="Ada"),
        article("newer", title="Strait news", paragraphs=("Envoys about the strait met.",), author="Bo", days_ago=2),
        article("ours", title="Ferry", paragraphs=("Ferries wait for the tide.",), author="Ada", days_ago=9),
    ]
    build_store(folder, articles).close()
    return folder


def _settings(data_dir: Path, ranker: Path | None) -> Settings:
    return Settings(data_dir=data_dir, ranker=ranker, server=ServerSettings(port=0))


def test_without_a_ranker_the_formula_ranks(tmp_path: Path) -> None:
    """Without a ranker in the settings the default formula ranks, and no file is read."""
    assert Settings().ranker is None
    assert make_options(_settings(tmp_path, None)).fitted is None


def ranker_name(settings: Settings) -> str:
    """Return the name of the ranker that a service of these settings ranks by."""
    fitted = make_options(settings).fitted
    assert fitted is not None
    assert fitted.ranker is not None
    return fitted.ranker.formula.name


def test_the_settings_name_a_ranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key `ranker` of the file, or its variable, is the path of the ranker that is used."""
    path = _write(tmp_path / "ranker.json", name="ours")
    config = tmp_path / "related-news.toml"
    config.write_text(f"ranker = '{path}'\n", "utf-8")
    assert ranker_name(load_settings(config)) == "ours"
    other = _write(tmp_path / "other.json", name="another")
    monkeypatch.setenv("RELATED_NEWS_RANKER", str(other))
    assert ranker_name(load_settings(config)) == "another"


@contextmanager
def serving(loop: Loop, settings: Settings) -> Iterator[Client]:
    """Serve the folder that the settings name; yields a client."""

    async def start() -> tuple[Server, str]:
        server = Server(settings, in_process(settings, FakeEmbedder()), now_ms)
        return server, await server.start()

    server, address = loop.run(start())
    try:
        with connected(address) as client:
            yield client
    finally:
        loop.run(server.stop())


@pytest.mark.parametrize(("fitted", "expected"), [(False, ["newer", "ours"]), (True, ["ours", "newer"])])
def test_a_service_answers_by_its_ranker(data_dir: Path, tmp_path: Path, fitted: bool, expected: list[str]) -> None:
    """Order, receipt and score parts are those of the ranker that the settings name."""
    settings = _settings(data_dir, _write(tmp_path / "ranker.json", name="ours-2026") if fitted else None)
    loop = Loop()
    try:
        with serving(loop, settings) as client:
            answer = client.list(article_id="page")
            plan = client.fill(article_id="page")
    finally:
        loop.close()
    assert [found.article.id for found in answer.recommendations] == expected
    name = "ours-2026" if fitted else DefaultFormula().name
    assert (answer.receipt.ranker, plan.receipt.ranker) == (name, name)
    for found in answer.recommendations:
        odds = sum(part.contribution for part in found.score_parts)
        assert found.score == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-3)


@pytest.mark.parametrize("reason", ["another model", "lost"])
def test_a_service_answers_without_its_ranker(
    data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    """After a reindex, or without its file, a restarted process ranks by the default formula and warns."""
    path = tmp_path / "ranker.json"
    if reason == "another model":
        _write(path, encoder="other@1/r")
    loop = Loop()
    try:
        with serving(loop, _settings(data_dir, path)) as client:
            answer = client.list(article_id="page")
    finally:
        loop.close()
    assert answer.receipt.ranker == DefaultFormula().name
    assert [found.article.id for found in answer.recommendations] == ["newer", "ours"]
    (warning,) = answer.receipt.warnings
    assert ("other@1/r" if reason == "another model" else "cannot be read") in warning
    assert ("unknown ranker" in caplog.text) == (reason == "lost")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "unknown ranker '{path}' (`related-news fit` makes one; or unset `ranker`)"),
        ("1x", f"{{path}}: is no fitted ranker: Extra data: line 1 column 2 (char 1) ({AGAIN})"),
    ],
    ids=["no such file", "no ranker"],
)
def test_an_unusable_ranker_ends_the_start_with_one_line(
    data_dir: Path, tmp_path: Path, text: str | None, problem: str
) -> None:
    """`serve` exits with code 1 before it listens, and prints only the reason to standard error."""
    path = tmp_path / "ranker.json"
    if text is not None:
        path.write_text(text)
    config = tmp_path / "related-news.toml"
    config.write_text(f"ranker = '{path}'\n", "utf-8")
    ended = subprocess.run(
        fake_server(data_dir, "--config", str(config)),
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S * 3,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [f"error: {problem.format(path=path)}"]
