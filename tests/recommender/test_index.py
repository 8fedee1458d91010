"""The library's face: `open_index` answers from a data folder without a server."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import assert_type

import pytest

import recommender
from indexer.maintenance.backup import back_up, restore
from indexer.pipeline import run
from indexer.sources import open_source
from recommender import (
    Draft,
    FilledSlot,
    Index,
    Labels,
    Layout,
    PagePlan,
    Place,
    Placement,
    Recommendation,
    Recommender,
    RelatedList,
    Request,
    Scope,
    Slot,
    errors,
    open_index,
)
from recommender import index as index_module
from recommender.answer.rank import Ranker
from recommender.catalog.articles import Rules
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, Catalog, open_catalog
from recommender.catalog.snapshot.writer import make_current, write_snapshot
from recommender.catalog.store.store import Store, create_store, open_store
from recommender.clock import DAY_MS
from tests import ROOT
from tests.building import DIMENSION, NOW_MS, FakeEmbedder, article, build_store, writes

NEWSROOM = ROOT / "indexer" / "sample" / "newsroom.jsonl"
PAGE = "painting-court-pelagia-2026-10-05"
PUBLIC = {
    *("Draft", "FilledSlot", "Index", "Layout", "PagePlan", "Paragraph", "ParagraphKind", "Place", "Placement"),
    *("Fallback", "Labels", "Recommendation", "Recommender", "RelatedList", "Request", "Scope", "Slot", "SlotFilters"),
    *("errors", "open_index"),
}


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data folder of the sample newsroom, embedded by the fake encoder."""
    folder = tmp_path_factory.mktemp("newsroom") / "data"
    run(open_source(NEWSROOM), folder, FakeEmbedder())
    return folder


@pytest.fixture
def folder(newsroom: Path, tmp_path: Path) -> Path:
    """Return a copy of the sample newsroom that a test may change."""
    return Path(shutil.copytree(newsroom, tmp_path / "data"))


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """Return the store of `folder`, as another process has it open."""
    with closing(open_store(folder / STORE_FILE)) as store:
        yield store


def links_of(plan: PagePlan) -> list[str]:
    """Return the ids of a plan's links, in order."""
    return [place.recommendation.article.id for slot in plan.slots for place in slot.places if place.recommendation]


def python(code: str, cwd: Path | None = None) -> str:
    """Run code in a new interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# Names


def test_the_public_names_are_these() -> None:
    """A name is added to the face on purpose, here and there, and never lost by accident."""
    assert set(recommender.__all__) == PUBLIC
    assert set(dir(recommender)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"errors"}))
def test_a_public_name_is_the_one_of_its_module(name: str) -> None:
    """Each name is imported on first use from the module that type checkers see."""
    source = ast.parse(Path(recommender.__file__).read_text("utf-8"))
    homes = {n.module for n in ast.walk(source) if isinstance(n, ast.ImportFrom) and n.names[0].name == name}
    assert len(homes) == 1
    (home,) = homes
    assert home is not None
    assert getattr(recommender, name) is getattr(importlib.import_module(home), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as it does for any module."""
    with pytest.raises(AttributeError, match="module 'recommender' has no attribute 'open_indeks'"):
        _ = recommender.open_indeks  # type: ignore[attr-defined]


@pytest.mark.slow
def test_importing_the_package_loads_nothing() -> None:
    """`import recommender` loads neither NumPy nor FAISS; the first name does."""
    heavy = "{'numpy', 'faiss', 'pydantic', 'grpc', 'torch'} & set(sys.modules)"
    assert python(f"import sys, recommender; print({heavy})").strip() == "set()"


@pytest.mark.slow
def test_answering_by_id_imports_neither_grpc_nor_torch(newsroom: Path) -> None:
    """The path by id needs no server and no model."""
    code = f"""
import sys
from recommender import open_index
with open_index({str(newsroom)!r}) as index:
    assert index.fill_slots({PAGE!r}).slots and index.list_related({PAGE!r}).recommendations
    index.refresh()
print(sorted(name for name in sys.modules if name.split(".")[0] in
    ("grpc", "torch", "sentence_transformers", "transformers", "related_news", "google", "indexer")))
"""
    assert python(code).strip() == "[]"


@pytest.mark.slow
def test_the_readme_s_example_prints_the_filled_page(folder: Path) -> None:
    """The README's example runs as it stands, in the folder where `make demo` left its index."""
    (example,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
        if "open_index" in block
    )
    folder.rename(folder.parent / ".demo")
    printed = python(example, folder.parent)
    assert {line.split()[0] for line in printed.splitlines()} == {"related_news", "read_more"}


def test_the_types_are_those_of_the_docstrings(newsroom: Path) -> None:
    """A type checker sees the types that an embedding program relies on; `make types` checks this test."""
    with open_index(str(newsroom)) as index:
        assert_type(index, Index)
        assert_type(index.revision, int)
        assert_type(index.refresh(), int)
        plan = index.fill_slots(PAGE)
        assert_type(plan, PagePlan)
        slot = plan.slots[0]
        assert_type(slot, FilledSlot)
        assert_type(slot.name, str)
        assert_type(slot.places, tuple[Place, ...])
        link = slot.places[0].recommendation
        assert_type(link, Recommendation | None)
        assert link is not None
        assert_type(link.article.title, str)
        assert_type(link.score, float)
        assert_type(link.reason, str)
        related = index.list_related(PAGE)
        assert_type(related, RelatedList)
        assert related.recommendations


# Answers


def test_an_index_answers_as_the_recommender_does(newsroom: Path) -> None:
    """Arguments reach the recommender: time, scope, page links, layout and count."""
    layout = Layout(name="mine", slots=(Slot(name="end", placement=Placement.END, count=4),))
    scope = Scope(sections=frozenset({"culture"}))
    with open_index(newsroom) as index, open_catalog(newsroom) as catalog:
        expected = Recommender(catalog.live)
        for at_ms in (NOW_MS, NOW_MS + 300 * DAY_MS):
            request = Request(PAGE, at_ms, scope, ("painting-three-claims-2026-09-24",))
            mine = index.fill_slots(PAGE, layout, as_of_ms=at_ms, scope=scope, on_page_ids=[*request.on_page_ids])
            theirs = expected.fill_slots(request, layout)
            assert links_of(mine) == links_of(theirs)
            assert mine.receipt == theirs.receipt
            listed = index.list_related(
                PAGE, 3, min_score=0.3, as_of_ms=at_ms, scope=scope, on_page_ids=request.on_page_ids
            )
            assert [link.article.id for link in listed.recommendations] == [
                link.article.id for link in expected.list_related(request, 3, 0.3).recommendations
            ]


def test_a_ranker_takes_the_default_one_s_place(newsroom: Path) -> None:
    """The receipt names the ranker that was given."""
    ranker = Ranker()
    with open_index(newsroom, ranker=ranker) as index:
        assert index._recommender().ranker is ranker


def test_an_answer_is_as_of_now_unless_told_otherwise(tmp_path: Path) -> None:
    """An article under embargo is shown only to who asks as of a time after it."""
    far_ms = NOW_MS * 2
    embargo = Rules(embargo_until_ms=far_ms)
    some = [
        article(
            "page", title="Harbour closed", paragraphs=["The harbour closed after a storm broke the northern quay."]
        ),
        article(
            "open", title="Storm at the harbour", paragraphs=["A storm reached the quay; ferries left the harbour."]
        ),
        article(
            "later", title="Quay repaired", paragraphs=["Masons repaired the harbour's quay in May."], rules=embargo
        ),
    ]
    build_store(tmp_path, some).close()
    with open_index(tmp_path) as index:
        assert [link.article.id for link in index.list_related("page").recommendations] == ["open"]
        then = index.list_related("page", as_of_ms=far_ms).recommendations
        assert {link.article.id for link in then} == {"open", "later"}


def test_what_is_not_there_is_named(newsroom: Path, tmp_path: Path) -> None:
    """An unknown article and a folder without an index raise NotFoundError, a bad id InvalidInputError."""
    with pytest.raises(errors.NotFoundError, match=re.escape(str(tmp_path / "nowhere"))):
        open_index(tmp_path / "nowhere")
    with open_index(newsroom) as index:
        with pytest.raises(errors.NotFoundError, match="unknown article 'nothing'"):
            index.fill_slots("nothing")
        with pytest.raises(errors.InvalidInputError, match="article_id"):
            index.list_related("")
        with pytest.raises(errors.InvalidInputError, match="k: is 0"):
            index.list_related(PAGE, 0)
        for score in (5.0, -0.1, float("nan")):
            with pytest.raises(errors.InvalidInputError, match="min_score: is"):
                index.list_related(PAGE, min_score=score)


def test_a_closed_index_says_so(newsroom: Path) -> None:
    """Every call after `close` is refused in the same words."""
    index = open_index(newsroom, embedder=FakeEmbedder())
    index.close()
    calls = (lambda: index.fill_slots(PAGE), lambda: index.list_related(PAGE), index.refresh, lambda: index.draft("A"))
    for call in calls:
        with pytest.raises(errors.UnavailableError, match="the index is closed"):
            call()


def test_a_page_of_another_type_is_refused(newsroom: Path) -> None:
    """A program without types gets an error that says what a page is."""
    with open_index(newsroom) as index, pytest.raises(errors.InvalidInputError, match="page: is of type int"):
        index.fill_slots(5)  # type: ignore[arg-type]


# Drafts


def test_a_draft_gets_the_links_of_the_same_page(newsroom: Path) -> None:
    """A page that is sent as a draft with its own URL gets the links that it has when it is stored."""
    with open_index(newsroom, embedder=FakeEmbedder()) as index:
        with closing(open_store(newsroom / STORE_FILE)) as store:
            page = store.get(PAGE)
        assert page is not None
        draft = index.draft(
            page.title,
            page.paragraphs,
            summary=page.summary,
            published_at_ms=page.published_at_ms,
            url=page.url,
            labels=page.labels,
        )
        assert_type(draft, Draft)
        assert links_of(index.fill_slots(draft, as_of_ms=2 * NOW_MS)) == links_of(
            index.fill_slots(PAGE, as_of_ms=2 * NOW_MS)
        )


def test_a_draft_is_checked(newsroom: Path) -> None:
    """An empty draft and a label that is too long are refused by field; paragraphs may be plain strings."""
    with open_index(newsroom, embedder=FakeEmbedder()) as index:
        draft = index.draft("A title", ["One.", "Two."], labels=Labels(section=" culture ", language="en-GB"))
        assert [paragraph.text for paragraph in draft.body.paragraphs] == ["One.", "Two."]
        assert draft.labels == Labels(section="culture", language="en")
        with pytest.raises(errors.InvalidInputError, match="title"):
            index.draft("")
        for take in (index.draft, lambda title, ids: index.fill_slots(title, on_page_ids=ids)):
            with pytest.raises(errors.InvalidInputError, match="is one string"):
                take("A title", "One paragraph")
        with pytest.raises(errors.InvalidInputError, match="section"):
            index.draft("A title", labels=Labels(section="x" * 300))


def test_an_embedder_of_another_model_is_refused(newsroom: Path) -> None:
    """Vectors of two models are never compared."""
    with (
        open_index(newsroom, embedder=FakeEmbedder("other")) as index,
        pytest.raises(errors.MismatchError, match="the embedder is other"),
    ):
        index.draft("A title")


# Refreshing


def test_refresh_applies_what_another_process_wrote(folder: Path, store: Store) -> None:
    """A withdrawal and a new article are seen from the next refresh on, and not before."""
    with open_index(folder) as index:
        before, count = index.revision, len(index)
        first = links_of(index.fill_slots(PAGE))
        store.delete([first[0]])
        store.write(writes([article("new")]))
        assert (index.revision, links_of(index.fill_slots(PAGE))) == (before, first)
        assert index.refresh() == index.revision == before + 2
        assert len(index) == count
        assert first[0] not in links_of(index.fill_slots(PAGE))
        assert index.refresh() == before + 2, "there is nothing new"


def test_refresh_swaps_in_a_newer_snapshot(folder: Path, store: Store) -> None:
    """After a compaction the changes come from the new snapshot, so that a long-lived index does not grow."""
    with open_index(folder) as index:
        store.write(writes([article("new")]))
        make_current(write_snapshot(store, folder / SNAPSHOTS, DIMENSION))
        index.refresh()
        live = index._catalog.live
        assert (live.manifest.revision, live.changed_rows) == (store.revision(), 0)
        assert index.list_related("new").receipt.revision == store.revision()


def test_refresh_follows_a_change_of_the_model(folder: Path) -> None:
    """After `reindex` answers come from the new model's vectors, and drafts need its embedder."""
    other = FakeEmbedder("other")
    with open_index(folder, embedder=FakeEmbedder()) as index:
        first = links_of(index.fill_slots(PAGE))
        with closing(Store(folder / STORE_FILE, other.info.key, lambda a: writes([a], other)[0].vectors)) as switching:
            snapshot = write_snapshot(switching, folder / SNAPSHOTS, DIMENSION)
            switching.make_encoder_active()
            make_current(snapshot)
        index.refresh()
        plan = index.fill_slots(PAGE)
        assert plan.receipt.encoder == other.info.key
        assert links_of(plan) == first, "the fake models agree"
        with pytest.raises(errors.MismatchError, match="the embedder is fake"):
            index.draft("A title")


def test_refresh_sees_that_a_backup_was_restored(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another store in the folder is opened, whatever its revision, also after a try that failed."""

    def refuse(_: Path) -> Catalog:
        raise errors.StorageError("not now")

    back_up(folder, tmp_path / "backup")
    with open_index(folder) as index:
        first = links_of(index.fill_slots(PAGE))
        store.write(writes([article("lost")]))
        index.refresh()
        shutil.rmtree(folder)
        restore(tmp_path / "backup", folder)
        with monkeypatch.context() as patch:
            patch.setattr(index_module, "open_catalog", refuse)
            with pytest.raises(errors.StorageError):
                index.refresh()
        with closing(open_store(folder / STORE_FILE)) as restored:
            restored.delete([first[0]])
            assert index.refresh() == restored.revision()
        assert first[0] not in links_of(index.fill_slots(PAGE))
        with pytest.raises(errors.NotFoundError):
            index.fill_slots("lost")


def test_an_index_that_nothing_was_written_to_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """No snapshot without dimensions is left behind, which a service could not start from."""
    create_store(tmp_path / STORE_FILE, FakeEmbedder().info.key).close()
    with pytest.raises(errors.NotFoundError, match="nothing is indexed there yet"):
        open_index(tmp_path)
    with open_catalog(tmp_path, dimension=DIMENSION) as catalog:
        catalog.store.write(writes([article("new")]))
    with open_index(tmp_path) as index:
        assert (len(index), index.refresh()) == (1, 1)


def test_a_folder_that_may_not_be_searched_is_a_storage_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of the system names the file and the fix."""

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(errors.StorageError, match=r"store.sqlite3: cannot be read: Permission denied \(let this user"):
        open_index(folder)
