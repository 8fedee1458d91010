"""Settings from a TOML file, the environment and arguments: which source wins, what is refused, what is printed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from recommender.answer.layout import Fallback, Layout, Placement, Slot, SlotFilters
from recommender.config import (
    CONFIG_FILE,
    CONFIG_VARIABLE,
    PREFIX,
    IndexSettings,
    ModelSettings,
    ServerSettings,
    Settings,
    find_config,
    load_settings,
    to_toml,
)
from recommender.errors import InvalidInputError, NotFoundError, RelatedNewsError

SIDE = """
[layouts.side]
[[layouts.side.slots]]
name = "beside"
placement = "end"
count = 4
"""


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(variable)


def toml(text: str, name: str = "given.toml") -> Path:
    """Write a settings file; returns its path."""
    path = Path(name)
    path.write_text(text, "utf-8")
    return path


def refused(config: Path | None = None, arguments: dict[str, Any] | None = None) -> str:
    """Load settings that must be refused; returns the whole message."""
    with pytest.raises(RelatedNewsError) as caught:
        load_settings(config, arguments)
    return str(caught.value)


# Where they come from


def test_without_anything_the_defaults_hold() -> None:
    """Without file and variables the service listens on loopback, and uses the folder `data`."""
    settings = load_settings()
    assert settings == Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 50051)
    assert settings.data_dir == Path("data")
    assert settings.layouts == {}


def test_a_file_sets_what_it_names_and_nothing_else() -> None:
    """A TOML file sets scalars, sections and layouts; everything else keeps its default."""
    path = toml('data_dir = "archive"\n[server]\nport = 8\n[model]\nprecision = "float32"\n' + SIDE)
    beside = Slot(name="beside", placement=Placement.END, count=4)
    assert load_settings(path) == Settings(
        data_dir=Path("archive"),
        server=ServerSettings(port=8),
        model=ModelSettings(precision="float32"),
        layouts={"side": Layout(name="side", slots=(beside,))},
    )


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("DATA_DIR", "elsewhere", {"data_dir": Path("elsewhere")}),
        ("LOG_LEVEL", "DEBUG", {"log_level": "DEBUG"}),
        ("SERVER__PORT", "6000", {"server": ServerSettings(port=6000)}),
        ("SERVER__DRAIN_S", "2.5", {"server": ServerSettings(drain_s=2.5)}),
        ("SERVER", '{"host": "0.0.0.0", "port": 1}', {"server": ServerSettings(host="0.0.0.0", port=1)}),
        ("MODEL__THREADS", "2", {"model": ModelSettings(threads=2)}),
        ("INDEX__LANGUAGE", "en", {"index": IndexSettings(language="en")}),
        (
            "LAYOUTS",
            '{"l": {"slots": [{"name": "s", "placement": "inline", "count": 1}]}}',
            {"layouts": {"l": Layout(name="l", slots=(Slot(name="s", placement=Placement.INLINE, count=1),))}},
        ),
    ],
)
def test_a_variable_sets_one_thing(
    variable: str, value: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable's name is the prefix and the key, with two underscores after a section; a table is written as JSON."""
    monkeypatch.setenv(PREFIX + variable, value)
    assert load_settings() == Settings(**expected)


@pytest.mark.parametrize(
    ("sources", "port"),
    [
        ((), 50051),
        (("file",), 1),
        (("environment",), 2),
        (("file", "environment"), 2),
        (("file", "arguments"), 3),
        (("environment", "arguments"), 3),
        (("file", "environment", "arguments"), 3),
    ],
    ids=lambda value: "+".join(value) or "default" if isinstance(value, tuple) else str(value),
)
def test_arguments_go_before_environment_before_file(
    sources: tuple[str, ...], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments win over the environment, the environment over the file, for each key that they name."""
    if "environment" in sources:
        monkeypatch.setenv(f"{PREFIX}SERVER__PORT", "2")
    path = toml("[server]\nport = 1\n") if "file" in sources else None
    arguments = {"server": {"port": 3}} if "arguments" in sources else None
    assert load_settings(path, arguments).server.port == port


def test_sources_are_merged_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sources may each set a key of one section."""
    monkeypatch.setenv(f"{PREFIX}SERVER__HOST", "0.0.0.0")
    monkeypatch.setenv(f"{PREFIX}LAYOUTS__EXTRA", '{"slots": [{"name": "s", "placement": "end", "count": 1}]}')
    path = toml("[server]\nport = 1\ndrain_s = 3\n" + SIDE)
    settings = load_settings(path, {"server": {"port": 7}, "log_level": "ERROR"})
    assert settings.server == ServerSettings(host="0.0.0.0", port=7, drain_s=3.0)
    assert settings.log_level == "ERROR"
    assert sorted(settings.layouts) == ["extra", "side"]


# Which file


def test_the_file_that_is_named_goes_before_the_variable_s_before_the_folder_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the argument's, else that of RELATED_NEWS_CONFIG, else related-news.toml in the working folder."""
    assert find_config() is None
    in_folder = toml("", CONFIG_FILE)
    assert find_config() == in_folder
    by_variable = toml("[server]\nport = 2\n", "variable.toml")
    monkeypatch.setenv(CONFIG_VARIABLE, str(by_variable))
    assert find_config() == by_variable
    assert load_settings().server.port == 2
    by_argument = toml("[server]\nport = 3\n", "argument.toml")
    assert find_config(by_argument) == by_argument
    assert load_settings(by_argument).server.port == 3


def test_an_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty RELATED_NEWS_CONFIG is treated as unset."""
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    assert find_config() is None


@pytest.mark.parametrize("by", ["argument", "variable"])
@pytest.mark.parametrize("name", ["missing.toml", "."], ids=["missing", "a folder"])
def test_a_file_that_is_named_must_be_there(by: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file that was named is an error."""
    if by == "variable":
        monkeypatch.setenv(CONFIG_VARIABLE, name)
    with pytest.raises(NotFoundError) as caught:
        load_settings(Path(name) if by == "argument" else None)
    assert str(caught.value) == f"unknown settings file '{name}' (name an existing TOML file)"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"x = [", "is not valid TOML: Invalid value (at end of document) (correct the file)"),
        (b"a = 1\na = 2\n", "is not valid TOML: Cannot overwrite a value (at line 2, column 6) (correct the file)"),
        (
            b"\xff\xfe",
            "is not valid TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
            " (correct the file)",
        ),
    ],
    ids=["cut off", "a key twice", "not UTF-8"],
)
def test_a_file_that_is_not_toml(data: bytes, problem: str) -> None:
    """The message for invalid TOML names the file and the place."""
    path = Path("broken.toml")
    path.write_bytes(data)
    assert refused(path) == f"broken.toml: {problem}"


def test_a_file_that_cannot_be_read() -> None:
    """The message gives the system's reason; /proc/self/mem exists, and cannot be read."""
    path = "/proc/self/mem"
    assert refused(Path(path)) == f"{path}: cannot be read: Input/output error (check its permissions)"


# Unknown keys

SLOT = '[[layouts.l.slots]]\nname = "s"\nplacement = "end"\ncount = 1\n'


@pytest.mark.parametrize(
    ("text", "key", "fix"),
    [
        ("dat_dir = 'x'", "dat_dir", "did you mean data_dir?"),
        ("[sever]\nport = 1", "sever", "did you mean server?"),
        ("[server]\nprot = 1", "server.prot", "did you mean server.port?"),
        ("[model]\nprecison = 'float32'", "model.precison", "did you mean model.precision?"),
        ("[index]\nbatch = 1", "index.batch", "did you mean index.batch_articles?"),
        (f"[layouts.l]\nslot = 1\n{SLOT}", "layouts.l.slot", "did you mean layouts.l.slots?"),
        ("[layouts.l]\nslot = 1", "layouts.l.slot", "did you mean layouts.l.slots?"),
        (f"{SLOT}mini_score = 0.5", "layouts.l.slots.0.mini_score", "did you mean layouts.l.slots.0.min_score?"),
        (
            '[[layouts.l.slots]]\nname = "s"\nplacement = "end"\ncuont = 1',
            "layouts.l.slots.0.cuont",
            "did you mean layouts.l.slots.0.count?",
        ),
        (
            f"{SLOT}[layouts.l.slots.filters]\nsectons = ['x']",
            "layouts.l.slots.0.filters.sectons",
            "did you mean layouts.l.slots.0.filters.sections?",
        ),
        (
            f"{SLOT.replace('.l.', '.slots.')}x = 1",
            "layouts.slots.slots.0.x",
            "did you mean layouts.slots.slots.0.name?",
        ),
        ("zq = 1", "zq", "see `related-news settings` for the known ones"),
    ],
    ids=[
        "top level",
        "section",
        "key of a section",
        "key of the model",
        "part of a name",
        "key of a layout",
        "key of a layout without slots",
        "key of a slot",
        "misspelt required key",
        "key of a filter",
        "a layout named slots",
        "nothing alike",
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(text: str, key: str, fix: str) -> None:
    """The message names the file, the key in full, and what may have been meant."""
    assert refused(toml(text)) == f"given.toml: {key}: is not a setting ({fix})"


@pytest.mark.parametrize(
    ("variable", "fix"),
    [
        ("DATADIR", "did you mean RELATED_NEWS_DATA_DIR?"),
        ("SERVER__PROT", "did you mean RELATED_NEWS_SERVER__PORT?"),
        ("SERVER_PORT", "did you mean RELATED_NEWS_SERVER__PORT?"),
        ("CONFIGURATION", "did you mean RELATED_NEWS_CONFIG?"),
        ("SERVER__HTTP__PORT", "did you mean RELATED_NEWS_SERVER__PORT?"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(
    variable: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable with the prefix that is not a setting is an error."""
    monkeypatch.setenv(PREFIX + variable, "1")
    assert refused() == f"{PREFIX}{variable}: is not a setting ({fix})"


def test_variables_without_the_prefix_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only variables that begin with the prefix are read."""
    monkeypatch.setenv("RELATED_STORIES", "1")
    monkeypatch.setenv("SERVER__PORT", "1")
    assert load_settings() == Settings()


# Types and ranges


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("server = 3", "server", "Input should be a valid dictionary or instance of ServerSettings"),
        ("layouts = 3", "layouts", "Input should be a valid dictionary"),
        ("[layouts]\nl = 3", "layouts.l", "Input should be a valid dictionary or instance of Layout"),
        ("[layouts.l]\n", "layouts.l.slots", "Field required"),
        ('log_level = "debug"', "log_level", "Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ('[model]\nprecision = "int8"', "model.precision", "Input should be 'auto', 'bfloat16' or 'float32'"),
        ("[model]\nthreads = -1", "model.threads", "Input should be greater than or equal to 0"),
        ("[model]\nthreads = 257", "model.threads", "Input should be less than or equal to 256"),
        ("[model]\nname = 5", "model.name", "Input should be a valid string"),
        ("[server]\nport = -1", "server.port", "Input should be greater than or equal to 0"),
        ("[server]\nport = 65536", "server.port", "Input should be less than or equal to 65535"),
        ("[server]\nport = 5.5", "server.port", "Input should be a valid integer, got a number with a fractional part"),
        (
            '[server]\nport = "http"',
            "server.port",
            "Input should be a valid integer, unable to parse string as an integer",
        ),
        (
            "[server]\nmessage_bytes_max = 1",
            "server.message_bytes_max",
            "Input should be greater than or equal to 65536",
        ),
        (
            "[server]\nmessage_bytes_max = 1073741825",
            "server.message_bytes_max",
            "Input should be less than or equal to 1073741824",
        ),
        (
            "[server]\nconcurrent_calls_max = 0",
            "server.concurrent_calls_max",
            "Input should be greater than or equal to 1",
        ),
        ("[server]\npages_per_batch = 10001", "server.pages_per_batch", "Input should be less than or equal to 10000"),
        (
            "[server]\narticles_per_write = 0",
            "server.articles_per_write",
            "Input should be greater than or equal to 1",
        ),
        ("[server]\ndrain_s = 601", "server.drain_s", "Input should be less than or equal to 600"),
        ("[server]\ndrain_s = nan", "server.drain_s", "Input should be less than or equal to 600"),
        ("[server]\nfaiss_threads = 0", "server.faiss_threads", "Input should be greater than or equal to 1"),
        ("[index]\nbatch_articles = 0", "index.batch_articles", "Input should be greater than or equal to 1"),
        (f"{SLOT}min_score = 1.5", "layouts.l.slots.0.min_score", "Input should be less than or equal to 1"),
        (f"{SLOT}{SLOT}", "layouts.l", "two slots have the same name"),
        ('[index]\nlanguage = "English!"', "index.language", "'English!' is not a language tag"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range(text: str, key: str, problem: str) -> None:
    """The message names the file, the key in full, and the bound."""
    assert refused(toml(text)) == f"given.toml: {key}: {problem} (see `related-news settings`)"


@pytest.mark.parametrize("text", [None, "log_level = 'INFO'"], ids=["no file", "a good file"])
def test_a_variable_s_value_is_checked_and_the_environment_named(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the layer that the value comes from, not the file."""
    monkeypatch.setenv(f"{PREFIX}SERVER__PORT", "70000")
    assert refused(toml(text) if text else None) == (
        "environment: server.port: Input should be less than or equal to 65535 (see `related-news settings`)"
    )


def test_a_layout_cannot_call_itself_otherwise() -> None:
    """A layout's key is its name, which receipts repeat."""
    text = "[layouts.side]\nname = 'other'\n[[layouts.side.slots]]\nname = 'a'\nplacement = 'end'\ncount = 1"
    assert refused(toml(text)) == (
        "given.toml: layouts: side calls itself 'other'; leave its name out (see `related-news settings`)"
    )


@pytest.mark.parametrize(
    ("slot", "problem"),
    [
        ('{"name": "s", "placement": "end", "count": 0}', "count: Input should be greater than or equal to 1"),
        ('{"name": "s", "placement": "end"}', "count: Field required"),
        ('{"name": "s", "placement": "end", "count": 1, "filters": {"tags": [1]}}', "filters.tags.0: Input should be"),
    ],
    ids=["a value", "a missing key", "an item of a list"],
)
def test_a_list_in_a_variable_is_not_the_file_s(slot: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the environment for a bad or missing value in a list that a variable holds."""
    monkeypatch.setenv(f"{PREFIX}LAYOUTS", f'{{"l": {{"slots": [{slot}]}}}}')
    assert refused(toml(SIDE)).startswith(f"environment: layouts.l.slots.0.{problem}")


def test_a_byte_order_mark_is_skipped() -> None:
    """A file may begin with a byte order mark, which some editors write."""
    assert load_settings(toml("\ufeff[server]\nport = 2\n")).server.port == 2


def test_arguments_are_checked_too() -> None:
    """An unknown key among the arguments is refused, as in a file."""
    assert refused(arguments={"server": {"prot": 1}}) == (
        "arguments: server.prot: is not a setting (did you mean server.port?)"
    )


def test_a_variable_that_holds_a_table_must_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that sets a whole section must be JSON."""
    monkeypatch.setenv(f"{PREFIX}SERVER", "port=1")
    with pytest.raises(InvalidInputError) as caught:
        load_settings()
    assert caught.value.field == "environment"
    assert '"server"' in caught.value.problem
    assert caught.value.fix == "lists and tables are written as JSON"


# Layouts


def test_a_layout_has_the_name_of_its_table() -> None:
    """A layout's name is its table's, and "default" may be replaced."""
    settings = load_settings(toml(SIDE.replace("side", "default")))
    assert settings.layouts["default"].name == "default"


def test_a_slot_with_all_its_keys() -> None:
    """Every key of a slot can be set in the file."""
    text = """
        [[layouts.l.slots]]
        name = "s"
        placement = "inline"
        count = 2
        min_score = 0.4
        max_age_days = 30
        freshness_half_life_days = 2.5
        diversity = 0.5
        fallback = "latest_in_section"
        first_after_text_paragraphs = 2
        spacing_text_paragraphs = 3
        min_text_paragraphs = 4
        [layouts.l.slots.filters]
        sections = ["world"]
        tags = ["talks"]
        languages = ["en-GB"]
        sites = ["*"]
    """
    assert load_settings(toml(text)).layouts["l"].slots == (
        Slot(
            name="s",
            placement=Placement.INLINE,
            count=2,
            min_score=0.4,
            max_age_days=30,
            freshness_half_life_days=2.5,
            diversity=0.5,
            fallback=Fallback.LATEST_IN_SECTION,
            first_after_text_paragraphs=2,
            spacing_text_paragraphs=3,
            min_text_paragraphs=4,
            filters=SlotFilters(
                sections=frozenset({"world"}),
                tags=frozenset({"talks"}),
                languages=frozenset({"en"}),
                sites=frozenset({"*"}),
            ),
        ),
    )


# Printed settings

NAMES = st.text("abc é\"\\\n'.#", min_size=1, max_size=8)
LABELS = st.frozensets(NAMES, max_size=2)
EVERY_SLOT = st.builds(
    Slot,
    name=NAMES,
    placement=st.sampled_from(Placement),
    count=st.integers(1, 20),
    min_score=st.none() | st.floats(0, 1),
    max_age_days=st.none() | st.floats(0.001, 1e6),
    diversity=st.floats(0, 1),
    fallback=st.sampled_from(Fallback),
    filters=st.builds(
        SlotFilters, sections=LABELS, tags=LABELS, sites=LABELS, languages=st.just(frozenset({"en", "*"}))
    ),
)
EVERY_LAYOUT = st.dictionaries(NAMES, EVERY_SLOT, max_size=2).map(
    lambda slots: {name: Layout(name=name, slots=(slot,)) for name, slot in slots.items()}
)
EVERY_SETTINGS = st.builds(
    Settings,
    data_dir=NAMES.map(lambda name: Path("folder") / name),
    log_level=st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR"]),
    model=st.builds(ModelSettings, name=NAMES, precision=st.sampled_from(["auto", "bfloat16", "float32"])),
    server=st.builds(ServerSettings, host=NAMES, port=st.integers(0, 65535), drain_s=st.floats(0, 600)),
    index=st.builds(IndexSettings, site=NAMES, batch_articles=st.integers(1, 10_000)),
    layouts=EVERY_LAYOUT,
)


@given(EVERY_SETTINGS)
def test_printed_settings_are_read_back_the_same(settings: Settings) -> None:
    """A file of what `to_toml` prints gives the same settings."""
    assert load_settings(toml(to_toml(settings))) == settings


def test_the_defaults_are_printed_in_full() -> None:
    """Every key is printed, except unset ones."""
    printed = to_toml(Settings())
    assert 'data_dir = "data"\n' in printed
    assert "[server]\n" in printed
    assert "port = 50051\n" in printed
    assert load_settings(toml(printed)) == Settings()


@pytest.mark.parametrize("model", [Settings, ModelSettings, ServerSettings, IndexSettings])
def test_every_setting_says_what_it_is(model: type[BaseModel]) -> None:
    """Every setting has a description, except sections."""
    keys = {name for name, field in model.model_fields.items() if field.description is None}
    assert keys <= {"model", "server", "index"}
