"""Editors' links: files and their faults, links harvested from bodies, and which of them can be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from indexer.evaluation.links import GoldLink, harvested_links, read_links, usable
from recommender.catalog.articles import Article, EditorLink, Rules
from recommender.catalog.live import Live
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import create_store
from recommender.catalog.store.writes import Upsert
from recommender.clock import DAY_MS
from recommender.errors import InvalidInputError, NotFoundError
from tests.building import DIMENSION, NOW_MS, FakeEmbedder, article, build_live, writes

# Files


def test_a_file_of_links(tmp_path: Path) -> None:
    """One object a line; empty lines and further keys are passed over, the paragraph may be missing or null."""
    path = tmp_path / "links.jsonl"
    lines = [
        '{"source_id": "a", "target_id": "b", "paragraph": 3, "anchor": "more", "paragraphs_in_source": 9}',
        "",
        '  {"source_id": "a", "target_id": "c"}  ',
        '{"source_id": "é", "target_id": "d", "paragraph": null}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert list(read_links(path)) == [GoldLink("a", "b", 3), GoldLink("a", "c"), GoldLink("é", "d")]


ID_FIX = "write it as a non-empty string"
PARAGRAPH = "paragraph is no whole number below 5,000 (count paragraphs from 0, or leave it out)"
NOT_AN_OBJECT = "is not an object (write one object a line)"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param(b'{"target_id": "b"}', f"has no source_id ({ID_FIX})", id="no source"),
        pytest.param(b'{"source_id": "a"}', f"has no target_id ({ID_FIX})", id="no target"),
        pytest.param(b'{"source_id": "", "target_id": "b"}', f"has no source_id ({ID_FIX})", id="empty source"),
        pytest.param(b'{"source_id": "a", "target_id": 7}', f"has no target_id ({ID_FIX})", id="target is a number"),
        pytest.param(b'{"source_id": "a", "target_id": "b", "paragraph": "3"}', PARAGRAPH, id="paragraph is a text"),
        pytest.param(
            b'{"source_id": "a", "target_id": "b", "paragraph": 1.5}', PARAGRAPH, id="paragraph is a fraction"
        ),
        pytest.param(b'{"source_id": "a", "target_id": "b", "paragraph": true}', PARAGRAPH, id="paragraph is a truth"),
        pytest.param(b'{"source_id": "a", "target_id": "b", "paragraph": -1}', PARAGRAPH, id="paragraph before all"),
        pytest.param(
            b'{"source_id": "a", "target_id": "b", "paragraph": %d}' % 10**30, PARAGRAPH, id="paragraph beyond all"
        ),
        pytest.param(b'["a", "b"]', NOT_AN_OBJECT, id="a list"),
        pytest.param(b"7", NOT_AN_OBJECT, id="a number"),
        pytest.param(
            b"a b",
            "is not JSON: Expecting value: line 1 column 1 (char 0) (write one object a line)",
            id="no JSON",
        ),
        pytest.param(
            b'{"source_id": "\xff"}',
            "is not JSON: 'utf-8' codec can't decode byte 0xff in position 15: invalid start byte"
            " (write one object a line)",
            id="not UTF-8",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    """The error names file and line, empty lines counted, and says what is wrong with it."""
    path = tmp_path / "links.jsonl"
    path.write_bytes(b'{"source_id": "a", "target_id": "b"}\n\n' + line + b"\n")
    with pytest.raises(InvalidInputError) as caught:
        list(read_links(path))
    assert str(caught.value) == f"{path}:3: {problem}"


def test_a_compressed_file_of_links(tmp_path: Path) -> None:
    """Links may be compressed as articles may; torn data is an error."""
    path = tmp_path / "links.jsonl.gz"
    data = gzip.compress(b'{"source_id": "a", "target_id": "b"}\n')
    path.write_bytes(data)
    assert list(read_links(path)) == [GoldLink("a", "b")]
    path.write_bytes(data[:-9])
    with pytest.raises(InvalidInputError, match="the compressed data is torn or broken"):
        list(read_links(path))


def test_nesting_without_end_is_a_bad_line(tmp_path: Path) -> None:
    """It is an error that names the line, as other lines that are no JSON."""
    path = tmp_path / "links.jsonl"
    path.write_bytes(b'{"source_id": ' + b"[" * 500_000)
    with pytest.raises(InvalidInputError, match=r"links\.jsonl:1: is not JSON: "):
        list(read_links(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that is no file is not found."""
    with pytest.raises(NotFoundError) as caught:
        list(read_links(tmp_path / "absent.jsonl"))
    assert str(caught.value) == f"unknown file '{tmp_path / 'absent.jsonl'}' (check the path)"


# Harvested links


def _harvested(folder: Path, articles: list[Article], links: list[EditorLink]) -> list[GoldLink]:
    store = create_store(folder / STORE_FILE, FakeEmbedder().info.key)
    try:
        by_source = {a.id: tuple(link for link in links if link.source_id == a.id) for a in articles}
        store.write(writes([Upsert(a, links=by_source[a.id]) for a in articles]), NOW_MS)
        live = Live(Snapshot(write_snapshot(store, folder / SNAPSHOTS, DIMENSION)))
        return list(harvested_links(store, live))
    finally:
        store.close()


@pytest.mark.parametrize(
    ("target", "anchor", "found"),
    [
        pytest.param("https://courier.example/old", "", "old", id="URL"),
        pytest.param("http://www.Courier.example/old/", "", "old", id="other scheme, www, case and slash"),
        pytest.param("https://courier.example/old?from=rss#top", "", "old", id="query and fragment"),
        pytest.param("Harbour pilots end their strike", "", "old", id="headline"),
        pytest.param("UPDATED: harbour pilots end their strike!", "", "old", id="version of the headline"),
        pytest.param("https://elsewhere.example/1", "Harbour pilots end their strike", "old", id="headline as anchor"),
        pytest.param("https://courier.example/old", "Orchards in bloom", "old", id="URL before anchor"),
        pytest.param(
            "https://elsewhere.example/1", "Read this", "https://elsewhere.example/1", id="found nowhere: as it is"
        ),
    ],
)
def test_a_harvested_target_is_found_by_url_or_headline(tmp_path: Path, target: str, anchor: str, found: str) -> None:
    """Spellings of one address are the same; without a known address the headline tells."""
    articles = [
        article("page", title="Cranes move again"),
        article("old", title="Harbour pilots end their strike", days_ago=3),
        article("other", title="Orchards in bloom", days_ago=4),
    ]
    assert _harvested(tmp_path, articles, [EditorLink("page", target, 2, anchor)]) == [GoldLink("page", found, 2)]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        pytest.param("https://courier.example/?p=7", "seven", id="query"),
        pytest.param("http://courier.example?p=8#comments", "eight", id="query and fragment"),
        pytest.param("https://courier.example/?p=9", "https://courier.example/?p=9", id="query of none"),
        pytest.param("https://courier.example/", "https://courier.example/", id="what several share"),
        pytest.param("https://app.example/#/story/1", "first", id="route"),
        pytest.param("https://app.example/#/story/2/", "second", id="route with a slash"),
        pytest.param("https://app.example/#!/story/3", "third", id="route with a bang"),
        pytest.param("https://app.example/#/story/4", "https://app.example/#/story/4", id="route of none"),
    ],
)
def test_articles_that_only_a_query_or_a_route_tells_apart(tmp_path: Path, target: str, found: str) -> None:
    """An address is looked up whole; without its query only where one article alone has it."""
    addresses = {
        "seven": "https://courier.example/?p=7",
        "eight": "https://courier.example/?p=8",
        "first": "https://app.example/#/story/1",
        "second": "https://app.example/#/story/2",
        "third": "https://app.example/#!/story/3",
    }
    articles = [article("page"), *(article(id, url=url, title=id, days_ago=3) for id, url in addresses.items())]
    assert _harvested(tmp_path, articles, [EditorLink("page", target, 2)]) == [GoldLink("page", found, 2)]


def test_articles_without_address_or_headline_are_never_found_by_them(tmp_path: Path) -> None:
    """An empty headline or address of an article matches no link that lacks words itself."""
    articles = [article("page"), article("bare", title="", url="", days_ago=3)]
    assert _harvested(tmp_path, articles, [EditorLink("page", "»", 0)]) == [GoldLink("page", "»", 0)]


def test_a_harvested_link_before_all_paragraphs_has_no_paragraph(tmp_path: Path) -> None:
    """A box above the text says nothing about where in it an editor would link."""
    articles = [article("page"), article("old", title="Harbour pilots end their strike", days_ago=3)]
    links = [EditorLink("page", "https://courier.example/old", -1)]
    assert _harvested(tmp_path, articles, links) == [GoldLink("page", "old", None)]


# Links that can be used


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return five articles, 9 to 1 days old, one of them embargoed until yesterday."""
    articles = [
        article("old", days_ago=9),
        article("embargoed", days_ago=8, rules=Rules(embargo_until_ms=NOW_MS - DAY_MS)),
        article("twin", days_ago=5),
        article("page", days_ago=5),
        article("new", days_ago=1),
    ]
    return build_live(tmp_path_factory.mktemp("links"), articles)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("nobody", "old", "unknown_source"),
        ("page", "nobody", "unknown_target"),
        ("nobody", "nobody", "unknown_source"),
        ("page", "page", "to_itself"),
        ("page", "new", "target_not_yet_public"),
        ("page", "embargoed", "target_not_yet_public"),
    ],
)
def test_an_unusable_link_is_passed_over_for_a_reason(live: Live, source: str, target: str, reason: str) -> None:
    """What is not stored, points at itself or to its own future is counted by reason and used nowhere."""
    gold = usable([GoldLink(source, target), GoldLink("new", "old")], live)
    assert [(page.id, sorted(page.relevant)) for page in gold.pages] == [("new", ["old"])]
    assert gold.skipped == {reason: 1}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param("page", "old", id="older"),
        pytest.param("page", "twin", id="of the same moment"),
        pytest.param("new", "embargoed", id="its embargo over"),
    ],
)
def test_a_link_to_what_was_public_is_used(live: Live, source: str, target: str) -> None:
    """A target counts once it is public at the source's time."""
    gold = usable([GoldLink(source, target, 4)], live)
    (page,) = gold.pages
    assert (page.id, page.links, gold.skipped) == (source, (GoldLink(source, target, 4),), {})
    assert (page.row, page.published_at_ms) == (live.find(source), live.published_at_ms(page.row))


def test_pages_come_oldest_first_with_all_of_their_links(live: Live) -> None:
    """Links of a page stand together; two links to one target are one relevant article."""
    links = [
        GoldLink("new", "old", 1),
        GoldLink("twin", "old"),
        GoldLink("page", "old"),
        GoldLink("new", "page"),
        GoldLink("new", "old", 6),
    ]
    gold = usable(links, live)
    assert [page.id for page in gold.pages] == ["page", "twin", "new"]
    assert gold.pages[-1].links == (links[0], links[3], links[4])
    assert gold.pages[-1].relevant == {"old", "page"}


def test_reasons_are_counted(live: Live) -> None:
    """Every link that is passed over counts once, and links are read from any iterable."""
    names = ["nobody", "nobody", "new", "old"]
    gold = usable((GoldLink("page", name) for name in names), live)
    assert gold.skipped == {"unknown_target": 2, "target_not_yet_public": 1}


def test_links_of_a_file_lead_to_pages(live: Live, tmp_path: Path) -> None:
    """What is read from a file is used as it is."""
    path = tmp_path / "links.jsonl"
    path.write_text(json.dumps({"source_id": "page", "target_id": "old", "paragraph": 0}), "utf-8")
    (page,) = usable(read_links(path), live).pages
    assert page.links == (GoldLink("page", "old", 0),)
