"""One indexing run: what it stores, what it skips, what it refuses, and what is left of it when it is stopped."""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from indexer import pipeline
from indexer.pipeline import Report, StoppedError, run
from indexer.sources import open_source
from indexer.sources.base import BadRecord, Where
from recommender.catalog.articles import Article, EditorLink, ParagraphKind, Rules
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.store.schema import SCHEMA_VERSION
from recommender.catalog.store.store import Store, open_store
from recommender.catalog.store.writes import Upsert, Write
from recommender.catalog.text.derived import analyse
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Matrix
from recommender.errors import MismatchError
from tests.building import FakeEmbedder, RecordingProgress, open_archive

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 20.0
"""Generous: a child that takes this long has hung."""
WORDS = ("anchor", "basalt", "cobalt", "damson", "ember", "fathom", "garnet", "hazel", "indigo", "juniper")
"""Each word stands in the title and the body of one article, and nowhere else."""


class RecordingEmbedder(FakeEmbedder):
    """Keeps every text that it was asked to embed."""

    def __init__(self, name: str = "fake") -> None:
        super().__init__(name)
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Matrix:
        self.seen += texts
        return super().encode(texts)


def record(word: str, **changes: Any) -> dict[str, Any]:
    """Return one valid record of a JSON Lines file."""
    return {
        "id": f"id-{word}",
        "url": f"https://courier.example/{word}",
        "title": f"Envoys speak about {word}",
        "summary": "",
        "paragraphs": [f"The {word} talks went on for a third day on Monday.", "No date was set for the next round."],
        "published_at": "2026-03-01T12:00:00Z",
        "site": "courier.example",
        "section": "diplomacy",
        "language": "en",
        **changes,
    }


def write(path: Path, records: Iterable[dict[str, Any] | str | bytes]) -> Path:
    """Write a JSON Lines file; a string or bytes is a line as it is."""
    lines = [json.dumps(r) if isinstance(r, dict) else r for r in records]
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    """Return a file of ten articles."""
    return write(tmp_path / "articles.jsonl", map(record, WORDS))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a data folder that does not exist yet."""
    return tmp_path / "data"


def index(path: Path, data_dir: Path, embedder: FakeEmbedder | None = None, **options: Any) -> Report:
    """Index a file."""
    return run(open_source(path), data_dir, embedder or FakeEmbedder(), **options)


def counts(report: Report) -> dict[str, int]:
    """Return the counts of a report that are not zero."""
    names = ("read", "added", "changed", "unchanged", "withdrawn", "refused", "editor_links")
    return {name: value for name in names if (value := getattr(report, name))}


def opened(data_dir: Path) -> Store:
    """Open the store of a data folder."""
    return open_store(data_dir / STORE_FILE, FakeEmbedder().info.key)


def ids_in(data_dir: Path) -> list[str]:
    """Return the ids in the store, in the order in which they were written."""
    store = opened(data_dir)
    try:
        return [change.article_id for change in store.changes_after(0, 1_000) if not change.deleted]
    finally:
        store.close()


def article_in(data_dir: Path, article_id: str) -> Article:
    """Read one stored article."""
    store = opened(data_dir)
    try:
        article = store.get(article_id)
        assert article is not None
        return article
    finally:
        store.close()


def links_in(data_dir: Path) -> list[EditorLink]:
    """Read every stored editor link."""
    store = opened(data_dir)
    try:
        return list(store.links())
    finally:
        store.close()


def words_in(texts: Iterable[str]) -> set[str]:
    """Return which articles' words stand in texts."""
    together = " ".join(texts)
    return {word for word in WORDS if word in together}


# A run and the next


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
    """No record is no error; the archive opens with nothing in it."""
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


# What editors and the archive decided before


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
    """Whoever withdraws it then does not know that a new version is on its way."""
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


# Editor links


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


# Records that are refused


TOO_LONG = "x" * 600
FUTURE = "use RFC 3339 with a zone, such as 2026-03-01T12:00:00Z"
BAD = {
    "not JSON": ('{"id": "a"', "is not valid JSON: EOF while parsing an object at column 10; write one object a line"),
    "not an object": ("[1]", "is not a JSON object; write one object a line"),
    "not UTF-8": (
        b'{"id": "\xff", "title": "t"}',
        "is not UTF-8 at byte 9 of the line; save the file as UTF-8",
    ),
    "no id": (record("ember", id=None), "id: input should be a valid string, not null"),
    "empty id": (record("ember", id=""), "id: string should have at least 1 character"),
    "long id": (record("ember", id="x" * 10_000), "id: is 10,000 bytes long; at most 512 (use a shorter id)"),
    "NUL in id": (
        record("ember", id="a\x00b"),
        "id: 'a\\x00b' has control characters or outer white space (use plain text for ids)",
    ),
    "no date": (
        record("ember", published_at=None),
        "published_at: is missing (use RFC 3339, such as 2026-03-01T12:00:00Z)",
    ),
    "date without zone": (
        record("ember", published_at="2026-03-01T12:00:00"),
        f"published_at: '2026-03-01T12:00:00' has no time zone ({FUTURE})",
    ),
    "unparsable date": (
        record("ember", published_at="last Tuesday"),
        f"published_at: cannot read 'last Tuesday' as a time ({FUTURE})",
    ),
    "date far ahead": (
        record("ember", published_at="2999-01-01T00:00:00Z"),
        "published_at: 2999-01-01T00:00:00Z is more than a year ahead (check the clock or the format)",
    ),
    "nothing to read": (
        record("ember", title="", paragraphs=[]),
        "title: title, summary and paragraphs are all empty (send at least one of them)",
    ),
    "five million characters": (
        record("ember", paragraphs=["ember " * 100_000] * 9),
        "paragraphs: 5,399,991 characters; at most 1,000,000 (shorten or split the text)",
    ),
    "not a language": (
        record("ember", language="12"),
        "language: '12' is not a language tag (use BCP 47, such as \"en\")",
    ),
    "a second time": (
        record("anchor", title="Another"),
        "id: 'id-anchor' stands already at {path}:1 (keep one of them)",
    ),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD)
def test_a_bad_record_is_reported_with_its_place_and_reason_and_skipped(
    tmp_path: Path, data_dir: Path, line: dict[str, Any] | str | bytes, reason: str
) -> None:
    """File, line and reason are reported, the record is counted as refused, all others are stored."""
    path = write(tmp_path / "articles.jsonl", [record("anchor"), line, record("basalt")])
    refused: list[BadRecord] = []
    report = index(path, data_dir, on_refused=refused.append)
    assert refused == [BadRecord(Where(path, 2), reason.format(path=path))]
    assert counts(report) == {"read": 3, "added": 2, "refused": 1}
    assert ids_in(data_dir) == ["id-anchor", "id-basalt"]
    assert article_in(data_dir, "id-anchor").title == "Envoys speak about anchor"


def test_control_characters_in_texts_are_taken_out(tmp_path: Path, data_dir: Path) -> None:
    """NUL and its kind are no reason to refuse an article, and are neither stored nor embedded."""
    embedder = RecordingEmbedder()
    dirty = record("anchor", title="Env\x00oys\x07 speak", paragraphs=["The\x1b anchor\x00 talks went on."])
    assert counts(index(write(tmp_path / "a.jsonl", [dirty]), data_dir, embedder)) == {"read": 1, "added": 1}
    article = article_in(data_dir, "id-anchor")
    assert (article.title, article.paragraphs[0].text) == ("Envoys speak", "The anchor talks went on.")
    assert embedder.seen == ["Envoys speak", "The anchor talks went on."]


def test_languages_are_counted(tmp_path: Path, data_dir: Path) -> None:
    """The report says how many articles of each language were written, so that the summary can warn."""
    languages = ("en-GB", "en", "ja", "")
    path = write(tmp_path / "a.jsonl", [record(w, language=n) for w, n in zip(WORDS, languages, strict=False)])
    assert index(path, data_dir).languages == {"en": 2, "ja": 1, "": 1}


# --strict


@pytest.mark.parametrize(("bad_line", "kept"), [(1, 0), (2, 0), (3, 2), (6, 4), (10, 8)])
def test_a_strict_run_stops_at_the_first_bad_record_and_keeps_the_batches_before(
    articles: Path, data_dir: Path, bad_line: int, kept: int
) -> None:
    """Whole batches before the bad record stay stored; mended, the next run embeds only the rest."""
    lines: list[dict[str, Any] | str] = [record(word) for word in WORDS]
    lines[bad_line - 1] = "{"
    write(articles, lines)
    refused: list[BadRecord] = []
    embedder = RecordingEmbedder()
    with pytest.raises(StoppedError) as caught:
        index(
            articles,
            data_dir,
            embedder,
            batch_articles=2,
            strict=True,
            on_refused=refused.append,
        )
    assert str(caught.value) == (
        f"{articles}:{bad_line}: is not valid JSON: EOF while parsing an object at column 1; write one object a line"
        " (fix the record, or run without --strict)"
    )
    assert [bad.where.line for bad in refused] == [bad_line]
    assert words_in(embedder.seen) == set(WORDS[:kept])
    assert ids_in(data_dir) == [f"id-{word}" for word in WORDS[:kept]]

    write(articles, map(record, WORDS))
    embedder = RecordingEmbedder()
    report = index(articles, data_dir, embedder)
    assert (report.added, report.unchanged) == (10 - kept, kept)
    assert words_in(embedder.seen) == set(WORDS[kept:])


# Runs that are cut off


def test_an_encoder_that_fails_ends_the_run_and_keeps_the_batches_before(articles: Path, data_dir: Path) -> None:
    """The encoder's error comes out as it is; what was committed stays, and the next run goes on there."""

    class Failing(RecordingEmbedder):
        def encode(self, texts: Sequence[str]) -> Matrix:
            if any("fathom" in text for text in texts):
                raise RuntimeError("out of memory")
            return super().encode(texts)

    with pytest.raises(RuntimeError, match="out of memory"):
        index(articles, data_dir, Failing(), batch_articles=2)
    before = ids_in(data_dir)
    assert before[:4] == [f"id-{word}" for word in WORDS[:4]]
    assert "id-fathom" not in before
    assert counts(index(articles, data_dir)) == {"read": 10, "added": 10 - len(before), "unchanged": len(before)}
    assert sorted(ids_in(data_dir)) == sorted(f"id-{word}" for word in WORDS)


class Interrupted(sqlite3.Connection):
    """Raises KeyboardInterrupt after the statement of one thread that `left` counts down to, as Ctrl-C may."""

    left = 0
    thread = 0

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        cursor = super().execute(sql.replace("synchronous = FULL", "synchronous = OFF"), *values)
        if threading.get_ident() == Interrupted.thread:
            Interrupted.left -= 1
            if Interrupted.left == 0:
                raise KeyboardInterrupt
        return cursor


def test_ctrl_c_after_any_statement_ends_the_run_and_loses_nothing_that_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it strikes, the run ends by it and by nothing else, and the next one stores exactly what is missing."""
    path = write(tmp_path / "a.jsonl", map(record, WORDS[:2]))
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(Interrupted, "thread", threading.get_ident())
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Interrupted))
    for statements in itertools.count(1):
        data_dir = tmp_path / str(statements)
        Interrupted.left = statements
        try:
            index(path, data_dir, batch_articles=1)
        except KeyboardInterrupt:
            pass
        else:
            break
        Interrupted.left = 0
        index(path, data_dir)
        assert sorted(ids_in(data_dir)) == sorted(f"id-{word}" for word in WORDS[:2]), f"statement {statements}"
    assert statements > 40, statements


CHILD = """
import os, sys
from pathlib import Path
from indexer.pipeline import run
from indexer.sources import open_source
from tests.building import FakeEmbedder

def say(what):
    os.write(1, f"{what}\\n".encode())

def halt(*_):
    say("halted")
    sys.stdin.read()

class Halting(FakeEmbedder):
    def encode(self, texts):
        if any("halt" in text for text in texts):
            halt()
        return super().encode(texts)

source, data_dir, at = sys.argv[1:]
class Speaking:
    def begin(self, stage, total):
        self.stage = stage
        if stage == at == "snapshot":
            halt()

    def advance(self, steps=1):
        if self.stage == "indexing":
            say(steps)

run(open_source(Path(source)), Path(data_dir), Halting(), batch_articles=2, progress=Speaking())
"""
"""Indexes in batches of two; halts for ever when it shall embed a text with "halt" in it, or inside the snapshot.

Two of its threads speak: each line is one write, where print makes two of it that another's can come between.
"""


def kill_when_halted(source: Path, data_dir: Path, at: str, batches: int) -> None:
    """Run CHILD until it has halted and has committed so many batches, then end it by SIGKILL."""
    command = [sys.executable, "-c", CHILD, str(source), str(data_dir), at]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        try:
            assert child.stdout is not None
            lines = [child.stdout.readline().strip() for _ in range(batches + 1)]
            assert sorted(lines) == ["2"] * batches + ["halted"], lines
        finally:
            os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


def same_archive(one: Path, other: Path) -> bool:
    """Say whether two data folders hold the same articles with the same vectors, and serve them."""
    images = []
    for folder in (one, other):
        store, live = open_archive(folder)
        stored = store.stored([f"id-{word}" for word in WORDS])
        images.append({i: (s.article, s.vectors.to_bytes(), live.find(i) is not None) for i, s in stored.items()})
        store.close()
    return images[0] == images[1] and len(images[0]) == len(WORDS)


@pytest.mark.slow
def test_after_kill_9_half_way_what_was_stored_is_not_embedded_again(
    tmp_path: Path, data_dir: Path, articles: Path
) -> None:
    """Six of ten articles are committed when the process is killed: the next run embeds the other four, no more."""
    halting = [record(w, title=f"Envoys halt at {w}" if w == "garnet" else f"Envoys speak about {w}") for w in WORDS]
    write(articles, halting)
    kill_when_halted(articles, data_dir, "encoder", 3)
    assert ids_in(data_dir) == [f"id-{word}" for word in WORDS[:6]]
    assert current_snapshot(data_dir / SNAPSHOTS) is None

    embedder = RecordingEmbedder()
    report = index(articles, data_dir, embedder)
    assert counts(report) == {"read": 10, "added": 4, "unchanged": 6}
    assert words_in(embedder.seen) == set(WORDS[6:])
    index(articles, tmp_path / "never killed")
    assert same_archive(data_dir, tmp_path / "never killed")


@pytest.mark.slow
def test_after_kill_9_inside_the_snapshot_it_is_written_without_embedding(
    tmp_path: Path, data_dir: Path, articles: Path
) -> None:
    """A snapshot that was being written is never taken for one; the next run writes it from the store alone."""
    kill_when_halted(articles, data_dir, "snapshot", 5)
    assert len(ids_in(data_dir)) == 10
    assert current_snapshot(data_dir / SNAPSHOTS) is None

    embedder = RecordingEmbedder()
    report = index(articles, data_dir, embedder)
    assert counts(report) == {"read": 10, "unchanged": 10}
    assert embedder.seen == []
    index(articles, tmp_path / "never killed")
    assert same_archive(data_dir, tmp_path / "never killed")


# An index that is not ours


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
