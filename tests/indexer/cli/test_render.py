"""What the command line shows: progress, summaries, tables and pages, as text on a terminal of known width."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from rich.console import Console, RenderableType

from indexer.cli import render
from indexer.cli.progress import job_progress
from indexer.maintenance import backup, reindex
from indexer.pipeline import Report
from indexer.sources.base import BadRecord, Where
from recommender.rpc.messages import timestamp
from tests.building import NOW_MS

WIDTH = 120
MARKUP = "[red]Envoys[/red] \\[sign] [/]"
"""Text of an article that must be shown as it is, though Rich would take it for styles."""


def shown(renderable: RenderableType, width: int = WIDTH) -> str:
    """Print something on a plain console; returns the text without spaces at line ends."""
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def rows(text: str) -> list[list[str]]:
    """Return the cells of a borderless table: what two spaces or more stand between."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def card(id: str, title: str = "", section: str = "harbour") -> common_pb.ArticleCard:
    """Return what an answer says of one article."""
    return common_pb.ArticleCard(
        id=id, title=title or f"Title of {id}", section=section, published_at=timestamp(NOW_MS)
    )


def link(id: str, score: float = 0.5, reason: str = "same story", **values: object) -> related_pb.Recommendation:
    """Return one recommendation."""
    title = str(values.pop("title", ""))
    return related_pb.Recommendation(
        article=card(id, title), score=score, reason=reason, fallback=bool(values.get("fallback"))
    )


# Progress


def progress_of(*, terminal: bool, refused: int = 0) -> str:
    """Return what a run of four records with some refusals writes to its console."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=WIDTH, color_system=None)
    with job_progress(console) as progress:
        progress.begin("indexing", 4)
        print_refused = render.refused_printer(console)
        for line in range(1, refused + 1):
            print_refused(BadRecord(Where(Path("[in]/a.jsonl"), line), f"id: {MARKUP} is bad"))
        progress.advance(4)
        progress.begin("snapshot", 4)
        progress.advance(4)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_on_a_terminal_there_is_a_bar_with_counts_for_each_stage() -> None:
    """The last picture has both stages with done and total."""
    text = progress_of(terminal=True)
    assert "indexing" in text
    assert "snapshot" in text
    assert text.count("4/4") >= 2
    assert "100%" in text


def test_elsewhere_a_run_is_quiet() -> None:
    """In a pipe or a log file not a single character is written while all goes well."""
    assert progress_of(terminal=False) == ""


def test_refused_records_are_printed_as_they_are_twenty_at_the_most() -> None:
    """Each record has one line with place and reason, however long; then one line says that there are more."""
    lines = progress_of(terminal=False, refused=23).splitlines()
    assert lines[:20] == [f"refused [in]/a.jsonl:{n}: id: {MARKUP} is bad" for n in range(1, 21)]
    assert lines[20:] == ["more refused records are only counted"]


# Summary


def summary(model_languages: Sequence[str] = ("en",), **counts: object) -> list[str]:
    """Return the lines of a summary."""
    report = Report(**{"seconds": 2.04, "embedding_seconds": 1.25, **counts})  # type: ignore[arg-type]
    return shown(render.index_summary(report, Path("[data]"), frozenset(model_languages)), width=200).splitlines()


def test_a_summary_says_what_became_of_every_record() -> None:
    """Counts have thousands separators; what did not happen is not mentioned."""
    lines = summary(read=12_345, added=12_000, changed=40, unchanged=300)
    assert lines[0] == "12,345 records: 12,000 added, 40 changed, 300 unchanged"
    assert lines[1].endswith("2.0 s, 1.2 s of it embedding")
    assert lines[2:] == ["index: [data]"]


def test_a_summary_names_what_was_left_out() -> None:
    """Withdrawn records come with the option that brings them back, refused ones are counted."""
    lines = summary(read=5, added=1, withdrawn=3, refused=1, editor_links=1_234)
    assert lines[0] == (
        "5 records: 1 added, 0 changed, 0 unchanged, "
        "3 skipped as withdrawn (--restore-withdrawn brings them back), 1 refused"
    )
    assert lines[1].startswith("1,234 editor links ")


def test_a_summary_warns_of_languages_that_the_model_is_not_made_for() -> None:
    """They are named with their counts; a language that is unknown, or a model that names none, is no reason to."""
    counts = {"en": 7, "ja": 1_200, "de": 3, "": 9}
    assert " ".join(summary(["fr", "en"], languages=counts)).endswith(
        "the model is made for en, fr; other languages: de (3), ja (1,200); a multilingual model suits better"
    )
    assert "language" not in " ".join(summary([], languages=counts))
    assert "language" not in " ".join(summary(languages={"en": 7, "": 2}))


def test_a_report_s_values_are_json_with_every_count() -> None:
    """What `index --json` prints has fixed names, whole numbers and rounded seconds."""
    report = Report(10, 1, 2, 3, 4, 5, 6, {"en": 1}, {}, 1.23456, 0.98765, Path("data/snapshots/1"))
    assert json.loads(json.dumps(render.report_values(report))) == {
        "read": 10,
        "added": 1,
        "changed": 2,
        "unchanged": 3,
        "withdrawn": 4,
        "refused": 5,
        "editor_links": 6,
        "seconds": 1.235,
        "embedding_seconds": 0.988,
        "snapshot": "data/snapshots/1",
    }


# Tables


def receipt(**values: object) -> related_pb.Receipt:
    """Return a receipt."""
    return related_pb.Receipt(revision=7, candidates_seen=40, ranker="formula-1", **values)  # type: ignore[arg-type]


def test_a_list_is_a_table_with_its_receipt() -> None:
    """The table has one row for each link in the answer's order; the receipt follows."""
    removals = [related_pb.RuleRemoval(rule="page_itself", count=1), related_pb.RuleRemoval(rule="on_page", count=2)]
    answer = related_pb.ListRelatedResponse(
        recommendations=[link("b", 0.914, "same story: tide; 3 days older"), link("a", 0.2, title=MARKUP)],
        receipt=receipt(removals=removals, warnings=["the model knows no Latin"]),
    )
    assert rows(shown(render.related_table(answer))) == [
        ["score", "published", "section", "title", "why", "id"],
        ["0.91", "2026-05-28", "harbour", "Title of b", "same story: tide; 3 days older", "b"],
        ["0.20", "2026-05-28", "harbour", MARKUP, "same story", "a"],
        ["revision 7, 40 candidates seen, formula-1"],
        ["removed: 1 page_itself, 2 on_page"],
        ["the model knows no Latin"],
    ]


def test_on_a_narrow_terminal_ids_and_models_are_folded_not_cut() -> None:
    """Where a line is too short for an id or a model's name, all of its characters are still there."""
    id = "port-strike-talks-resume-2026-10-05"
    answer = related_pb.ListRelatedResponse(recommendations=[link(id, reason="same story: tide, pier; 3 days older")])
    table = shown(render.related_table(answer), width=70).splitlines()
    start = table[0].index("id")
    assert "".join(line[start:] for line in table[1:-1]) == id
    status = articles_pb.GetIndexStatusResponse(model="model@" + "0123456789" * 8)
    assert status.model in "".join(shown(render.status_table(status), width=60).split())


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=0), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1.0 min"),
        (timedelta(minutes=90), "1.5 h"),
        (timedelta(hours=36), "1.5 d"),
    ],
    ids=str,
)
def test_a_status_is_a_table(age: timedelta, text: str) -> None:
    """Every figure of the status is there, the snapshot's age in the largest unit that fits."""
    snapshot_age = Duration()
    snapshot_age.FromTimedelta(age)
    status = articles_pb.GetIndexStatusResponse(
        article_count=70_000,
        revision=70_123,
        store_revision=70_125,
        model="fake@0/[recipe]",
        snapshot_revision=70_000,
        snapshot_age=snapshot_age,
        tail_count=1_123,
        newest_published_at=timestamp(NOW_MS),
        published_per_day=12.345,
        layouts=["default", "side"],
        version="1.2.3",
    )
    assert rows(shown(render.status_table(status))) == [
        ["articles", "70,000"],
        ["revision", "70,123 applied, 70,125 stored"],
        ["model", "fake@0/[recipe]"],
        ["snapshot", f"revision 70,000, {text} old"],
        ["changed since", "1,123 rows"],
        ["newest article", "2026-05-28"],
        ["published a day", "12.35"],
        ["layouts", "default, side"],
        ["version", "1.2.3"],
    ]


def test_the_status_of_an_empty_archive_has_no_newest_article() -> None:
    """There is no date to show, and none is made up."""
    assert ["newest article", "none"] in rows(shown(render.status_table(articles_pb.GetIndexStatusResponse())))


# Pages


def page() -> common_pb.Article:
    """Return a page with a heading, a paragraph that was taken out, a quote and text."""
    paragraphs = [
        ("First paragraph.", common_pb.PARAGRAPH_KIND_TEXT),
        ("A heading", common_pb.PARAGRAPH_KIND_HEADING),
        ("", common_pb.PARAGRAPH_KIND_MEDIA),
        (MARKUP, common_pb.PARAGRAPH_KIND_QUOTE),
        ("Last paragraph.", common_pb.PARAGRAPH_KIND_UNSPECIFIED),
    ]
    return common_pb.Article(
        id="page",
        title="Title of the page",
        summary="What it is about.",
        section="harbour",
        site="courier.example",
        published_at=timestamp(NOW_MS),
        paragraphs=[common_pb.Paragraph(text=text, kind=kind) for text, kind in paragraphs],
    )


def inline(*places: related_pb.Place) -> related_pb.FilledSlot:
    """Return an inline slot."""
    return related_pb.FilledSlot(name="related_news", placement=related_pb.SLOT_PLACEMENT_INLINE, places=places)


def end(*places: related_pb.Place) -> related_pb.FilledSlot:
    """Return an end slot."""
    return related_pb.FilledSlot(name="read_more", placement=related_pb.SLOT_PLACEMENT_END, places=places)


def at(paragraph: int, recommendation: related_pb.Recommendation) -> related_pb.Place:
    """Return a filled inline place."""
    return related_pb.Place(after_paragraph=paragraph, recommendation=recommendation)


def lines_of(text: str) -> list[str]:
    """Return the lines that say something, without the page's frame."""
    return [bare for line in text.splitlines() if (bare := line.strip("│╭╮╰╯─ "))]


def test_a_page_shows_each_link_after_its_paragraph_and_the_rest_at_the_end() -> None:
    """Title, byline, summary, paragraphs with links between them, Read More and receipt follow in this order."""
    plan = related_pb.PagePlan(
        slots=[
            inline(at(0, link("a", 0.93, "same story: tide")), at(3, link("b", 0.6, title=MARKUP))),
            end(related_pb.Place(recommendation=link("c", 0.4)), related_pb.Place(recommendation=link("d", 0.3))),
        ],
        receipt=receipt(),
    )
    assert lines_of(shown(render.page_view(page(), plan))) == [
        "Title of the page",
        "harbour  2026-05-28  courier.example",
        "What it is about.",
        "First paragraph.",
        "Related News: Title of a",
        "0.93  same story: tide",
        "A heading",
        MARKUP,
        f"Related News: {MARKUP}",
        "0.60  same story",
        "Last paragraph.",
        "Read More:",
        "• Title of c",
        "0.40  same story",
        "• Title of d",
        "0.30  same story",
        "revision 7, 40 candidates seen, formula-1",
    ]


def test_a_page_says_why_places_stayed_empty_and_shows_a_fallback_without_a_score() -> None:
    """A fallback's score means nothing and is left out; an end slot without links has no heading."""
    too_short = related_pb.Place(empty_reason=related_pb.EMPTY_REASON_PAGE_TOO_SHORT)
    below = related_pb.Place(empty_reason=related_pb.EMPTY_REASON_BELOW_MIN_SCORE)
    latest = related_pb.Place(recommendation=link("c", 0, "latest in section; 2 days older", fallback=True))
    filled = shown(render.page_view(page(), related_pb.PagePlan(slots=[inline(too_short), end(latest, below)])))
    assert lines_of(filled)[-5:] == [
        "Read More:",
        "• Title of c",
        "latest in section; 2 days older",
        "left empty: related_news: page_too_short; read_more: below_min_score",
        "revision 0, 0 candidates seen,",
    ]
    empty = shown(render.page_view(page(), related_pb.PagePlan(slots=[inline(), end(below)])))
    assert "Read More" not in empty
    assert "left empty: read_more: below_min_score" in empty


def test_a_draft_is_shown_with_what_is_known_of_it() -> None:
    """A draft without date, section and site has no byline; its paragraphs are all there."""
    draft = related_pb.Draft(title="Only a title", paragraphs=[common_pb.Paragraph(text="One paragraph.")])
    plan = related_pb.PagePlan(slots=[inline(at(0, link("a")))], receipt=receipt())
    assert lines_of(shown(render.page_view(draft, plan)))[:4] == [
        "Only a title",
        "One paragraph.",
        "Related News: Title of a",
        "0.50  same story",
    ]


# Reindexing


def test_a_reindex_shows_two_bars_on_a_terminal_and_nothing_elsewhere() -> None:
    """The bars count what is embedded and the rows of the snapshot."""
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=WIDTH, color_system=None)
        with job_progress(console) as progress:
            progress.begin("embedding", 4)
            progress.advance(4)
            progress.begin("snapshot", 7)
            progress.advance(7)
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert [word in text for word in ("embedding", "4/4", "snapshot", "7/7")] == [terminal] * 4


def test_a_reindex_that_switched_says_how_to_go_back() -> None:
    """Names of models are shown as they are."""
    report = reindex.Report("[a]@1/r", "[b]@2/r", 1_234, 2, Path("s"), 3.21)
    assert shown(render.reindex_summary(report)).splitlines() == [
        "1,234 articles embedded in 3.2 s",
        "the index is of [b]@2/r, before of [a]@1/r",
        "2 running services take it up now; `related-news reindex --back` goes back",
    ]


def test_a_backup_is_summed_up_in_a_line() -> None:
    """The place of the backup is printed as it is."""
    about = backup.About(1, NOW_MS, 12_345, 2_000, "key", {})
    assert shown(render.backup_summary(about, "written to /[x]")) == (
        "2,000 articles at revision 12,345 written to /[x]"
    )
