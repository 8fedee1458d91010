"""Who may import whom, and how the code says where to start. Read from the source, nothing is imported."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("recommender", "indexer")
SERVICE_LAYER = {
    "recommender.encoder_client",
    "recommender.encoder_process",
    "recommender.interceptor",
    "recommender.wire",
    "recommender.server",
    "recommender.service",
    "recommender.statuses",
}
CLIENTS = {"indexer.client"}
MESSAGES = SERVICE_LAYER | CLIENTS | {"recommender.convert", "indexer.render"}
"""These know the contract's messages."""
ANSWERING = {
    "recommender.answer",
    "recommender.explain",
    "recommender.judging",
    "recommender.page",
    "recommender.policy",
    "recommender.rank",
    "recommender.recommend",
    "recommender.retrieve",
    "recommender.slots",
}
"""The stages of an answer: values in, values out."""


@cache
def modules() -> dict[str, Path]:
    """Return every module of the product by its dotted name; a package is named like its folder."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(modules()[module].read_text("utf-8"))


@cache
def imported(module: str) -> frozenset[str]:
    """Return the dotted names that a module imports, wherever in it: modules, and names from them."""
    return frozenset(_imported(module))


def _imported(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names
            if not names <= modules().keys():
                yield node.module


def importers_of(*packages: str) -> set[str]:
    """Return the modules that import one of these packages or anything below it."""
    return {m for m in modules() if any(_is_in(name, package) for name in imported(m) for package in packages)}


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def under(package: str) -> set[str]:
    """Return the modules of a package, itself included."""
    return {m for m in modules() if _is_in(m, package)}


def test_the_source_is_found() -> None:
    """The other tests look at what they mean to look at."""
    assert {"recommender", "recommender.catalog.vectors", "indexer.sources.feed", "indexer.cli"} <= modules().keys()
    assert "recommender.catalog.live" in imported("recommender.recommend")
    assert "torch" in imported("recommender.embedding"), "imports inside functions count"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_by_a_detour(package: str) -> None:
    """The modules of a package can be put in an order in which each imports only earlier ones."""
    known = under(package)
    graph = {m: {name for name in imported(m) if name in known and name != m} for m in known}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_recommender_does_not_know_the_indexer() -> None:
    """Imports point one way: from the indexer to the recommender."""
    assert importers_of("indexer") <= under("indexer")


def test_the_product_does_not_know_its_tests() -> None:
    """Neither tests nor benchmarks are imported by what is shipped."""
    assert importers_of("tests", "benchmarks", "pytest", "hypothesis") == set()


def test_the_catalog_does_not_know_the_answer() -> None:
    """The catalog imports itself and the errors; encoders, ranking and the service are above it."""
    own = {name for m in under("recommender.catalog") for name in imported(m) if _is_in(name, "recommender")}
    outside = {name for name in own if not _is_in(name, "recommender.catalog")}
    assert {name for name in outside if not _is_in(name, "recommender.errors")} == set()


def test_sources_know_no_more_than_how_to_read() -> None:
    """The parsers of input formats import neither the pipeline nor store, snapshot or encoder."""
    own = {name for m in under("indexer.sources") for name in imported(m) if _is_in(name, "recommender")}
    allowed = ("recommender.errors", "recommender.catalog.articles")
    assert {name for name in own if not any(_is_in(name, module) for module in allowed)} == set()
    inside = {name for m in under("indexer.sources") for name in imported(m) if _is_in(name, "indexer")}
    assert {name for name in inside if not _is_in(name, "indexer.sources")} == set()


@pytest.mark.parametrize(
    ("packages", "allowed"),
    [
        (("faiss",), {"recommender.catalog.compressed", "recommender.catalog.vectors"}),
        (("torch", "sentence_transformers", "transformers", "huggingface_hub"), {"recommender.embedding"}),
        (("grpc", "grpc_health", "grpc_reflection", "grpc_status"), SERVICE_LAYER | CLIENTS),
        (("related_news", "google"), MESSAGES),
        (
            ("sqlite3",),
            {f"recommender.catalog.{name}" for name in ("facts", "rows", "schema", "sqlite", "store", "stored")},
        ),
        (("feedparser", "lxml", "trafilatura", "rich", "typer"), None),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_library_is_known_to_few(packages: tuple[str, ...], allowed: set[str] | None) -> None:
    """Each library has its place; None stands for the indexer."""
    importers = importers_of(*packages)
    assert importers, "nobody imports it"
    assert importers <= (under("indexer") if allowed is None else allowed)


@pytest.mark.parametrize("module", sorted(ANSWERING))
def test_the_stages_of_an_answer_are_plain_functions_of_values(module: str) -> None:
    """They know neither clock, environment, disk, network nor threads: what they need comes in."""
    outside = ("time", "datetime", "os", "pathlib", "io", "socket", "threading", "asyncio", "random", "logging", "grpc")
    assert [name for name in sorted(imported(module)) if any(_is_in(name, package) for package in outside)] == []


def test_there_are_two_places_to_start() -> None:
    """One for each flow: indexing and answering."""
    marked = {m for m, path in modules().items() if "START HERE" in path.read_text("utf-8")}
    assert marked == {"indexer.pipeline", "recommender.recommend"}
    assert all((ast.get_docstring(tree(m)) or "").startswith("START HERE: ") for m in marked)


@pytest.mark.parametrize("module", sorted(m for m in modules() if not m.rsplit(".", 1)[-1].startswith("_")))
def test_every_public_module_says_what_it_is(module: str) -> None:
    """Its docstring begins with a sentence."""
    first = (ast.get_docstring(tree(module)) or "").split("\n\n")[0]
    assert first.rstrip().endswith((".", ":", '"')), first
