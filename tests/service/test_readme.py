"""The README and the documents for users: examples run; tables, layout and links are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_command

from indexer.cli.commands import app
from indexer.pipeline import run
from indexer.sources import FORMATS, open_source
from recommender.answer.layout import Slot
from recommender.config import Settings, load_settings
from tests import ROOT
from tests.building import FakeEmbedder
from tests.service.servers import Host

README = (ROOT / "README.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text("utf-8")
USER_DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NEWSROOM = ROOT / "indexer" / "sample" / "newsroom.jsonl"


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _commands() -> str:
    """Return every shell block of the documents for users."""
    return " ".join(block for path in USER_DOCUMENTS for block in _blocks("sh", path.read_text("utf-8")))


def _table(heading: str, text: str = README) -> dict[str, tuple[str, ...]]:
    """Return the first table after a heading: first cell -> the others."""
    section = text[text.index(heading) :]
    rows: dict[str, tuple[str, ...]] = {}
    for line in section[section.index("\n|") :].lstrip("\n").splitlines()[2:]:
        if not line.startswith("|"):
            break
        name, *rest = (cell.strip().strip("`") for cell in line.strip("|").split(" | "))
        rows[name] = tuple(rest)
    return rows


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _settings(info.annotation, f"{prefix}{name}.")
        else:
            default = str(info.get_default(call_default_factory=True))
            shown = "none" if default in ("", "{}", "None") else default
            yield prefix + name, (shown, " ".join((info.description or "").split()))


def test_settings_table_is_the_code_s() -> None:
    """Every setting stands in the table with its default and description, in order, and none else does."""
    assert list(_table("## Settings", SETTINGS).items()) == list(_settings(Settings))


def test_slot_table_names_every_key_with_its_default() -> None:
    """Every key of a slot stands in the table, in order; plain defaults are the code's."""
    table = _table("filters = {", SETTINGS)
    assert list(table) == list(Slot.model_fields)
    for name, info in Slot.model_fields.items():
        if info.is_required():
            assert table[name][0] == "required"
        elif isinstance(info.default, int | float):
            assert table[name][0] == str(info.default)


def test_formats_table_names_every_format() -> None:
    """The table of sources names the formats that the command line takes, in its order."""
    assert list(_table("## Index your own")) == list(FORMATS)


def test_layout_example_is_valid(tmp_path: Path) -> None:
    """The TOML example loads, and replaces the default layout by three slots."""
    (example,) = _blocks("toml", SETTINGS)
    path = tmp_path / "related-news.toml"
    path.write_text(example, "utf-8")
    layout = load_settings(path).layouts["default"]
    assert [slot.name for slot in layout.slots] == ["related_news", "read_more", "from_sport"]


def test_commands_exist() -> None:
    """Every related-news command shown is one that the command line has."""
    shown = set(re.findall(r"related-news (?:--data-dir \S+ )?([a-z]+)", _commands()))
    assert {"index", "serve", "page", "related", "status", "fit", "backup"} <= shown
    assert shown <= set(get_command(app).commands)  # type: ignore[attr-defined]


def test_make_targets_exist() -> None:
    """Every make target shown is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    shown = set(re.findall(r"make ([a-z]+)\b", " ".join([_commands(), *re.findall(r"`(make [a-z]+)`", README)])))
    assert {"demo", "test", "serve"} <= shown
    assert all(f"\n{target}:" in makefile for target in shown)


def test_python_example_prints_the_filled_page(host: Host, tmp_path: Path) -> None:
    """The client example, run as it stands but for the port, prints the slots of the sample newsroom's page."""
    embedder = FakeEmbedder()
    run(open_source(NEWSROOM), tmp_path, embedder)
    example, _ = _blocks("python")
    with host.server(tmp_path, embedder) as (client, _):
        code = example.replace("127.0.0.1:50051", client.address)
        assert code != example
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    slots = [line.split()[0] for line in done.stdout.splitlines()]
    assert set(slots) == {"related_news", "read_more"}
    assert all("courier.example" in line for line in done.stdout.splitlines())


def test_the_readme_is_short() -> None:
    """The README stays under 150 lines, ARCHITECTURE within 1,200 words: both are read in one go."""
    assert len(README.splitlines()) < 150
    assert len(ARCHITECTURE.split()) <= 1_200


@pytest.mark.parametrize(
    ("document", "link"),
    [
        pytest.param(path, link, id=f"{path.relative_to(ROOT)}: {link}")
        for path in DOCUMENTS
        for link in sorted(set(re.findall(r"(?:\]\(|src=\")([\w./-]+)(?:#[\w-]+)?[\")]", path.read_text("utf-8"))))
    ],
)
def test_links_lead_somewhere(document: Path, link: str) -> None:
    """Every relative link of a document leads to a file or a folder of the repository."""
    assert (document.parent / link).exists()


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`((?:recommender|indexer|tests|docs)/[\w/.]*)`", ARCHITECTURE)))
)
def test_architecture_names_files_that_exist(name: str) -> None:
    """Every file and folder that ARCHITECTURE names is there."""
    assert (ROOT / name).exists()
