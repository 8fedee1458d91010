"""Records that an indexing run refuses: how they are reported, and where a strict run stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from indexer.pipeline import StoppedError
from indexer.sources.base import BadRecord, Where
from tests.indexer.indexing import (
    WORDS,
    RecordingEmbedder,
    article_in,
    counts,
    ids_in,
    index,
    record,
    words_in,
    write,
)

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


@pytest.mark.parametrize(("bad_line", "kept"), [(1, 0), (2, 0), (3, 2), (6, 4), (10, 8)])
def test_a_strict_run_stops_at_the_first_bad_record_and_keeps_the_batches_before(
    articles: Path, data_dir: Path, bad_line: int, kept: int
) -> None:
    """Whole batches before the bad record stay stored; after a correction the next run embeds only the rest."""
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
