"""One indexing run: what it stores, what it skips, and what it leaves alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from indexer import pipeline
from recommender.catalog.articles import Article, EditorLink, ParagraphKind, Rules
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.store.schema import SCHEMA_VERSION
from recommender.catalog.store.writes import Upsert, Write
from recommender.catalog.text.derived import analyse
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Matrix
from recommender.errors import MismatchError
from tests.building import FakeEmbedder, RecordingProgress, open_archive
from tests.indexer.indexing import (
    WORDS,
    RecordingEmbedder,
    article_in,
    counts,
    ids_in,
    index,
    links_in,
    opened,
    record,
    words_in,
    write,
)


def test_a_run_stores_every_article_and_writes_a_snapshot(articles: Path, data_dir: Path) -> None:
    """All fields are stored as the file has them, in its order, and the snapshot holds them all."""
    embedder = RecordingEmbedder()
    report = index(articles, data_dir, embedder)
    assert counts(report) == {"read": 10, "added": 10}
    assert words_in(embedder.seen) == set(WORDS)
    assert ids_in(data_dir) == [f"id-{word}" for word in WORDS]
    article = article_in(data_dir, "id-basalt")
    assert article.title == "Envoys speak about basalt"
    assert (article.labels.section, article.labels.language) == ("diplomacy", "en")
    assert [(p.text, p.kind) for p in article.paragraphs] == [
        ("The basalt talks went on for a third day on Monday.", ParagraphKind.TEXT),
        ("No date was set for the next round.", ParagraphKind.TEXT),
    ]
    assert report.snapshot == current_snapshot(data_dir / SNAPSHOTS)
    store, live = open_archive(data_dir)
    store.close()
    assert (live.count, live.revision, live.changed_rows) == (10, 10, 0)


def test_a_second_run_embeds_and_writes_nothing(
    articles: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same input again is all unchanged: nothing is analysed or embedded, no revision made, the snapshot stays."""
    first = index(articles, data_dir)
    monkeypatch.setattr(pipeline, "analyse", None)
    embedder = RecordingEmbedder()
    second = index(articles, data_dir, embedder)
    assert counts(second) == {"read": 10, "unchanged": 10}
    assert embedder.seen == []
    assert len(ids_in(data_dir)) == 10
    assert second.snapshot == first.snapshot


@pytest.mark.parametrize(
    ("change", "embedded"),
    [
        ({"title": "Envoys leave cobalt aside"}, True),
        ({"summary": "What cobalt has to do with it."}, True),
        ({"paragraphs": ["The cobalt talks ended on Tuesday."]}, True),
        ({"section": "economy"}, False),
        ({"published_at": "2026-03-02T12:00:00Z"}, False),
        ({"url": "https://courier.example/moved"}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_only_a_changed_article_is_written_and_only_a_changed_text_embedded(
    data_dir: Path, articles: Path, change: dict[str, Any], embedded: bool
) -> None:
    """One changed record of ten is one write; it is embedded again only if its text differs."""
    first = index(articles, data_dir)
    write(articles, [record(word, **(change if word == "cobalt" else {})) for word in WORDS])
    embedder = RecordingEmbedder()
    report = index(articles, data_dir, embedder)
    assert counts(report) == {"read": 10, "changed": 1, "unchanged": 9}
    assert words_in(embedder.seen) == ({"cobalt"} if embedded else set())
    assert ids_in(data_dir)[10:] == ["id-cobalt"]
    assert report.snapshot != first.snapshot
    assert report.snapshot is not None
    assert Snapshot(report.snapshot).manifest.revision == 11


def test_the_same_text_under_a_new_id_is_not_embedded_again(tmp_path: Path, data_dir: Path) -> None:
    """An article that comes back under another id takes the vectors that its text has already."""
    index(write(tmp_path / "a.jsonl", [record("anchor")]), data_dir)
    embedder = RecordingEmbedder()
    report = index(write(tmp_path / "b.jsonl", [record("anchor", id="renamed")]), data_dir, embedder)
    assert counts(report) == {"read": 1, "added": 1}
    assert embedder.seen == []


def test_the_same_text_twice_in_one_batch_is_embedded_once(tmp_path: Path, data_dir: Path) -> None:
    """Two new articles with one text share its vectors."""
    embedder = RecordingEmbedder()
    path = write(tmp_path / "a.jsonl", [record("anchor"), record("anchor", id="twin")])
    assert counts(index(path, data_dir, embedder)) == {"read": 2, "added": 2}
    assert len(embedder.seen) == 2, "head and one passage, once"


def test_progress_counts_every_record_batch_by_batch(articles: Path, data_dir: Path) -> None:
    """The steps add up to the records read, refused ones one by one; the snapshot's add up to its rows."""
    progress = RecordingProgress()
    write(articles, ["{", *map(record, WORDS[:5])])
    index(articles, data_dir, batch_articles=2, progress=progress)
    assert progress.stages == [("indexing", None), ("snapshot", 5)]
    assert progress.steps == [[1, 2, 2, 1], [5]]


def test_an_empty_source_makes_an_empty_index_that_can_be_served(tmp_path: Path, data_dir: Path) -> None:
    """An empty source is no error; the archive opens empty."""
    report = index(write(tmp_path / "none.jsonl", []), data_dir)
    assert counts(report) == {}
    store, live = open_archive(data_dir)
    store.close()
    assert live.count == 0


def test_a_lost_snapshot_is_written_again_without_embedding(articles: Path, data_dir: Path) -> None:
    """Everything but the store can be deleted: the next run makes the snapshot from it."""
    first = index(articles, data_dir)
    assert first.snapshot is not None
    (data_dir / SNAPSHOTS / "CURRENT").unlink()
    embedder = RecordingEmbedder()
    second = index(articles, data_dir, embedder)
    assert embedder.seen == []
    assert second.snapshot is not None
    assert Snapshot(second.snapshot).rows == 10


def test_a_deleted_article_stays_away_until_it_is_asked_back(articles: Path, data_dir: Path) -> None:
    """A withdrawn id is skipped and counted; restore_withdrawn brings it back from the vectors that are there."""
    index(articles, data_dir)
    store = opened(data_dir)
    store.delete(["id-ember"])
    store.close()
    assert counts(index(articles, data_dir)) == {"read": 10, "unchanged": 9, "withdrawn": 1}
    embedder = RecordingEmbedder()
    report = index(articles, data_dir, embedder, restore_withdrawn=True)
    assert counts(report) == {"read": 10, "added": 1, "unchanged": 9}
    assert embedder.seen == []
    assert article_in(data_dir, "id-ember").title == "Envoys speak about ember"


def test_an_article_that_is_withdrawn_while_it_is_embedded_stays_away(tmp_path: Path, data_dir: Path) -> None:
    """A withdrawal during embedding wins over the new version that is about to be written."""
    index(write(tmp_path / "a.jsonl", [record("anchor"), record("basalt")]), data_dir)

    class Withdrawing(FakeEmbedder):
        def encode(self, texts: Sequence[str]) -> Matrix:
            store = opened(data_dir)
            store.delete(["id-anchor"])
            store.close()
            return super().encode(texts)

    newer = write(tmp_path / "a.jsonl", [record("anchor", title="New"), record("basalt", title="New")])
    assert counts(index(newer, data_dir, Withdrawing())) == {"read": 2, "changed": 1, "withdrawn": 1}
    store = opened(data_dir)
    assert (store.get("id-anchor"), store.withdrawn(["id-anchor"])) == (None, {"id-anchor"})
    store.close()


def test_an_editor_s_rules_outlive_a_change_of_the_text(tmp_path: Path, data_dir: Path) -> None:
    """Rules that were set on a stored article are kept when the source has a new version of it."""
    path = write(tmp_path / "a.jsonl", [record("anchor", evergreen=True)])
    index(path, data_dir)
    article = article_in(data_dir, "id-anchor")
    assert article.rules == Rules(evergreen=True)
    store = opened(data_dir)
    ruled = Write(
        Upsert(Article(**{**_fields(article), "rules": Rules(never_target=True)})),
        embed([article], FakeEmbedder())[0],
        analyse(article),
    )
    store.write([ruled])
    store.close()
    report = index(write(path, [record("anchor", title="A new title about anchor", evergreen=True)]), data_dir)
    assert counts(report) == {"read": 1, "changed": 1}
    article = article_in(data_dir, "id-anchor")
    assert (article.title, article.rules) == ("A new title about anchor", Rules(never_target=True))


def _fields(article: Article) -> dict[str, Any]:
    return {name: getattr(article, name) for name in Article.__slots__}


LINKED = [
    "The anchor talks opened on Monday with a short statement.",
    {"text": "Related News: Basalt exports fall", "links": [{"href": "/basalt", "text": "Basalt exports fall"}]},
    "Both sides left without a word to the reporters outside.",
    {
        "text": "Read More: Cobalt mine reopens",
        "links": [{"href": "https://courier.example/cobalt", "text": "Cobalt mine reopens"}],
    },
]


def test_editor_links_are_stored_and_never_embedded(tmp_path: Path, data_dir: Path) -> None:
    """A "Related News:" line becomes a link of its article; its words are in no text that is embedded or stored."""
    embedder = RecordingEmbedder()
    path = write(tmp_path / "a.jsonl", [record("anchor", paragraphs=LINKED), record("damson")])
    report = index(path, data_dir, embedder)
    assert report.editor_links == 2
    assert links_in(data_dir) == [
        EditorLink("id-anchor", "/basalt", 0, "Basalt exports fall"),
        EditorLink("id-anchor", "https://courier.example/cobalt", 2, "Cobalt mine reopens"),
    ]
    assert words_in(embedder.seen) == {"anchor", "damson"}
    leaks = ("Related News", "Read More", "Basalt", "Cobalt")
    assert [text for text in embedder.seen if any(leak in text for leak in leaks)] == []
    article = article_in(data_dir, "id-anchor")
    assert [p.text for p in article.paragraphs] == [LINKED[0], "", LINKED[2]]


def test_a_new_version_replaces_its_editor_links(tmp_path: Path, data_dir: Path) -> None:
    """The links of the text as it stands now are kept, those of its earlier version are gone."""
    path = write(tmp_path / "a.jsonl", [record("anchor", paragraphs=LINKED)])
    index(path, data_dir)
    index(write(path, [record("anchor", paragraphs=["A new first paragraph about anchor.", LINKED[3]])]), data_dir)
    assert links_in(data_dir) == [EditorLink("id-anchor", "https://courier.example/cobalt", 0, "Cobalt mine reopens")]


def test_links_that_changed_alone_are_replaced_without_embedding(tmp_path: Path, data_dir: Path) -> None:
    """A body whose text is the same but whose "Related News:" line is another keeps the new link."""
    embedder = RecordingEmbedder()
    for word in ("basalt", "cobalt"):
        related = f"Related News: The {word} mine reopens"
        report = index(
            write(tmp_path / "a.jsonl", [record("anchor", paragraphs=["The anchor talks went on.", related])]),
            data_dir,
            embedder,
        )
    assert counts(report) == {"read": 1, "unchanged": 1, "editor_links": 1}
    assert [link.anchor for link in links_in(data_dir)] == ["The cobalt mine reopens"]
    assert len(embedder.seen) == 2, "head and one passage, once"


def test_languages_are_counted(tmp_path: Path, data_dir: Path) -> None:
    """The report says how many articles of each language were written, so that the summary can warn."""
    languages = ("en-GB", "en", "ja", "")
    path = write(tmp_path / "a.jsonl", [record(w, language=n) for w, n in zip(WORDS, languages, strict=False)])
    assert index(path, data_dir).languages == {"en": 2, "ja": 1, "": 1}


def test_an_index_of_another_model_is_refused_by_name(articles: Path, data_dir: Path) -> None:
    """Both models are named, nothing is embedded, and the index is as it was."""
    index(articles, data_dir)
    other = RecordingEmbedder("other")
    with pytest.raises(MismatchError) as caught:
        index(articles, data_dir, other)
    assert str(caught.value) == (
        f"{data_dir / STORE_FILE} was indexed with {FakeEmbedder().info.key}, the configured model is {other.info.key}"
        " (unset model.name, or run `related-news reindex` to change the model)"
    )
    assert other.seen == []
    assert counts(index(articles, data_dir)) == {"read": 10, "unchanged": 10}


def test_an_index_of_a_later_release_is_refused(articles: Path, data_dir: Path) -> None:
    """A store with a schema that this release does not know is named and left alone."""
    index(articles, data_dir)
    connection = sqlite3.connect(data_dir / STORE_FILE)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(MismatchError) as caught:
        index(articles, data_dir)
    assert str(caught.value) == (
        f"{data_dir / STORE_FILE} has schema version {SCHEMA_VERSION + 1}, this release knows {SCHEMA_VERSION}"
        " (run the release that wrote it, or a newer one)"
    )
