"""Who may import whom, and how the code says where to start. Read from the source, nothing is imported."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import ROOT

PACKAGES = ("recommender", "indexer")
LAYERS = (
    "recommender.processes",
    ("recommender.rpc", "recommender.index"),
    "recommender.serving",
    ("recommender.answer", "recommender.encoding"),
    "recommender.catalog",
    ("recommender.errors", "recommender.clock"),
)
"""Packages of the recommender, top first: each imports only those below it, never one beside it."""
CATALOG_LAYERS = (
    "recommender.catalog.opening",
    "recommender.catalog.live",
    "recommender.catalog.tail",
    "recommender.catalog.snapshot",
    "recommender.catalog.store",
    ("recommender.catalog.text", "recommender.catalog.vectors"),
    "recommender.catalog.checks",
    "recommender.catalog.articles",
)
"""The same inside the catalog."""
INDEXER_LAYERS = (
    "indexer.__main__",
    "indexer.cli",
    ("indexer.evaluation", "indexer.maintenance"),
    "indexer.pipeline",
    "indexer.cleaning",
    "indexer.furniture",
    "indexer.sources",
)
"""The same in the indexer."""
CONFIG = "recommender.config"
"""Stands beside the layers: its types come from answer/ and encoding/, and processes/ and rpc/ read it."""
GRPC = {"recommender.rpc", "recommender.processes.encoder", "recommender.encoding.remote", "indexer.cli.client"}
MESSAGES = GRPC | {"indexer.cli.render"}
"""These know the contract's messages."""


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


def inside(places: Iterable[str]) -> set[str]:
    """Return the modules of these packages and modules."""
    return {m for place in places for m in under(place)}


def beside(layer: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return a layer's packages: one, or several that do not know each other."""
    return (layer,) if isinstance(layer, str) else layer


def test_the_source_is_found() -> None:
    """The other tests look at what they mean to look at."""
    assert {
        "recommender",
        "recommender.catalog.vectors.index",
        "indexer.sources.feed",
        "indexer.cli.commands",
    } <= modules().keys()
    assert "recommender.catalog.live" in imported("recommender.answer.recommend")
    assert "torch" in imported("recommender.encoding.embedder"), "imports inside functions count"


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


@pytest.mark.parametrize("layers", [LAYERS, CATALOG_LAYERS, INDEXER_LAYERS], ids=["recommender", "catalog", "indexer"])
def test_a_layer_imports_only_what_is_below_it(layers: tuple[str | tuple[str, ...], ...]) -> None:
    """A package imports itself and lower layers: neither a higher one nor one beside it."""
    upward = []
    for depth, layer in enumerate(layers):
        below = {place for lower in layers[depth + 1 :] for place in beside(lower)}
        for package in beside(layer):
            others = {place for other in layers for place in beside(other)} - below - {package}
            upward += [
                f"{module} imports {name}"
                for module in sorted(under(package))
                for name in sorted(imported(module))
                if any(_is_in(name, other) for other in others)
            ]
    assert upward == []


@pytest.mark.parametrize(
    ("package", "layers", "apart"),
    [
        ("recommender", LAYERS, {"recommender", CONFIG}),
        ("recommender.catalog", CATALOG_LAYERS, {"recommender.catalog"}),
        ("indexer", INDEXER_LAYERS, {"indexer"}),
    ],
)
def test_every_module_stands_in_a_layer(
    package: str, layers: tuple[str | tuple[str, ...], ...], apart: set[str]
) -> None:
    """A new file is covered on its first day: it is in a layer's folder, or this fails."""
    assert under(package) - inside(place for layer in layers for place in beside(layer)) == apart


def test_the_lower_layers_do_not_read_settings() -> None:
    """Only processes, the service's edge and the indexer know the settings; the layers below get values."""
    readers = importers_of(CONFIG)
    assert readers <= inside({"recommender.processes", "recommender.rpc", "indexer"})


def test_sources_know_no_more_than_how_to_read() -> None:
    """The parsers of input formats import neither the pipeline nor store, snapshot or encoder."""
    own = {name for m in under("indexer.sources") for name in imported(m) if _is_in(name, "recommender")}
    allowed = ("recommender.errors", "recommender.catalog.articles", "recommender.catalog.checks")
    assert {name for name in own if not any(_is_in(name, module) for module in allowed)} == set()
    inside = {name for m in under("indexer.sources") for name in imported(m) if _is_in(name, "indexer")}
    assert {name for name in inside if not _is_in(name, "indexer.sources")} == set()


@pytest.mark.parametrize(
    ("packages", "allowed"),
    [
        (("faiss",), {"recommender.catalog.vectors"}),
        (("sqlite3",), {"recommender.catalog.store"}),
        (("torch", "sentence_transformers", "transformers", "huggingface_hub"), {"recommender.encoding.embedder"}),
        (("grpc", "grpc_health", "grpc_reflection", "grpc_status"), GRPC),
        (("related_news", "google"), MESSAGES),
        (("feedparser", "lxml", "trafilatura", "rich", "typer"), {"indexer"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_library_is_known_to_few(packages: tuple[str, ...], allowed: set[str]) -> None:
    """Each library has its place: packages, or modules of them."""
    importers = importers_of(*packages)
    assert importers, "nobody imports it"
    assert importers <= inside(allowed)


@pytest.mark.parametrize("module", sorted(under("recommender.answer")))
def test_the_stages_of_an_answer_are_plain_functions_of_values(module: str) -> None:
    """They know neither clock, environment, disk, network nor threads: what they need comes in."""
    clock = ("time", "datetime", "recommender.clock.now_ms")
    outside = (*clock, "os", "pathlib", "io", "socket", "threading", "asyncio", "random", "logging", "grpc")
    assert [name for name in sorted(imported(module)) if any(_is_in(name, package) for package in outside)] == []


def test_there_are_two_places_to_start() -> None:
    """One for each flow: indexing and answering."""
    marked = {m for m, path in modules().items() if "START HERE" in path.read_text("utf-8")}
    assert marked == {"indexer.pipeline", "recommender.answer.recommend"}
    assert all((ast.get_docstring(tree(m)) or "").startswith("START HERE: ") for m in marked)


@pytest.mark.parametrize("module", sorted(m for m in modules() if not m.rsplit(".", 1)[-1].startswith("_")))
def test_every_public_module_says_what_it_is(module: str) -> None:
    """Its docstring begins with a sentence."""
    first = (ast.get_docstring(tree(module)) or "").split("\n\n")[0]
    assert first.rstrip().endswith((".", ":", '"')), first
