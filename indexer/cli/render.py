"""What the command line shows: summaries, tables, and a page as readers see it."""

from __future__ import annotations

import itertools
from pathlib import Path

from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from indexer.maintenance import backup, reindex
from indexer.pipeline import OnRefused, Report
from indexer.sources.base import BadRecord
from recommender.catalog.checks import format_time

REFUSED_SHOWN_MAX = 20
"""Refused records that are printed one by one; further ones are only counted."""


def refused_printer(console: Console) -> OnRefused:
    """Return what prints the first refused records, a line each, and says once that there are more."""
    printed = itertools.count(1)

    def print_refused(bad: BadRecord) -> None:
        number = next(printed)
        if number <= REFUSED_SHOWN_MAX:
            console.print(f"[yellow]refused[/] {escape(f'{bad.where}: {bad.reason}')}", highlight=False, soft_wrap=True)
        elif number == REFUSED_SHOWN_MAX + 1:
            console.print("[yellow]more refused records are only counted[/]")

    return print_refused


def reindex_values(report: reindex.Report) -> dict[str, int | float | str]:
    """Return a reindexing run's report as the object that `reindex --json` prints."""
    return {
        "before": report.before,
        "now": report.now,
        "embedded": report.embedded,
        "services": report.services,
        "seconds": round(report.seconds, 3),
        "snapshot": str(report.snapshot),
    }


def reindex_summary(report: reindex.Report) -> RenderableType:
    """Return a reindexing run's summary in a few lines."""
    switched = report.before != report.now
    lines = [
        f"{report.embedded:,} articles embedded in {report.seconds:.1f} s",
        f"the index is of {escape(report.now)}" + (f", before of {escape(report.before)}" if switched else ""),
    ]
    if switched:
        lines.append(f"{report.services} running services take it up now; `related-news reindex --back` goes back")
    return "\n".join(lines)


def backup_summary(about: backup.About, where: str) -> RenderableType:
    """Return the content of a backup in a line."""
    return f"{about.articles:,} articles at revision {about.revision:,} {escape(where)}"


def report_values(report: Report) -> dict[str, int | float | str]:
    """Return a run's report as the object that `index --json` prints."""
    return {
        "read": report.read,
        "added": report.added,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "withdrawn": report.withdrawn,
        "refused": report.refused,
        "editor_links": report.editor_links,
        "seconds": round(report.seconds, 3),
        "embedding_seconds": round(report.embedding_seconds, 3),
        "snapshot": str(report.snapshot),
    }


def index_summary(report: Report, data_dir: Path, model_languages: frozenset[str]) -> RenderableType:
    """Return a run's summary in a few lines."""
    counts = [f"{report.added:,} added", f"{report.changed:,} changed", f"{report.unchanged:,} unchanged"]
    if report.withdrawn:
        counts.append(f"{report.withdrawn:,} skipped as withdrawn (--restore-withdrawn brings them back)")
    if report.refused:
        counts.append(f"[yellow]{report.refused:,} refused[/]")
    lines = [
        f"[bold]{report.read:,} records:[/] " + ", ".join(counts),
        (f"{report.editor_links:,} editor links found; " if report.editor_links else "")
        + f"{report.seconds:.1f} s, {report.embedding_seconds:.1f} s of it embedding",
        f"index: {escape(str(data_dir))}",
    ]
    foreign = {n: c for n, c in report.languages.items() if n and model_languages and n not in model_languages}
    if foreign:
        named = ", ".join(f"{escape(name)} ({count:,})" for name, count in sorted(foreign.items()))
        languages = ", ".join(sorted(model_languages))
        lines.append(
            f"[yellow]the model is made for {languages}; other languages: {named}; a multilingual model suits better[/]"
        )
    return "\n".join(lines)


def related_table(answer: related_pb.ListRelatedResponse) -> RenderableType:
    """Return a flat list as a table."""
    table = Table("score", "published", "section", "title", "why", box=None, header_style="bold")
    table.add_column("id", overflow="fold")  # a truncated id could not be asked for
    for link in answer.recommendations:
        card = link.article
        table.add_row(
            f"{link.score:.2f}",
            _day(card.published_at.seconds),
            escape(card.section),
            escape(card.title),
            escape(link.reason),
            escape(card.id),
        )
    return Group(table, _receipt(answer.receipt))


def status_table(status: articles_pb.GetIndexStatusResponse) -> RenderableType:
    """Return the status as a table."""
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    newest = _day(status.newest_published_at.seconds) if status.HasField("newest_published_at") else "none"
    rows = (
        ("articles", f"{status.article_count:,}"),
        ("revision", f"{status.revision:,} applied, {status.store_revision:,} stored"),
        ("model", escape(status.model)),
        (
            "snapshot",
            f"revision {status.snapshot_revision:,}, {_span(status.snapshot_age.ToTimedelta().total_seconds())} old",
        ),
        ("changed since", f"{status.tail_count:,} rows"),
        ("newest article", newest),
        ("published a day", f"{status.published_per_day:.2f}"),
        ("layouts", escape(", ".join(status.layouts))),
        ("version", status.version),
    )
    for row in rows:
        table.add_row(*row)
    return table


def page_view(page: common_pb.Article | related_pb.Draft, plan: related_pb.PagePlan) -> RenderableType:
    """Return a page with its links between the paragraphs and at the end, each with its reason."""
    after: dict[int, list[related_pb.Recommendation]] = {}
    end: list[RenderableType] = []
    for slot in plan.slots:
        for place in slot.places:
            if place.HasField("after_paragraph"):
                after.setdefault(place.after_paragraph, []).append(place.recommendation)
        if slot.placement == related_pb.SLOT_PLACEMENT_END:
            end.append(_end_slot(slot))
    parts: list[RenderableType] = [Text(page.title, style="bold"), Text(_byline(page), style="dim"), Text("")]
    if page.summary:
        parts += [Text(page.summary, style="italic"), Text("")]
    for index, paragraph in enumerate(page.paragraphs):
        if paragraph.text:
            parts += [_paragraph(paragraph), Text("")]
        for link in after.get(index, ()):
            parts += [_link("Related News", link), Text("")]
    return Group(Panel(Group(*parts, *end), padding=(1, 2)), _empty_places(plan), _receipt(plan.receipt))


def _paragraph(paragraph: common_pb.Paragraph) -> Text:
    styles = {common_pb.PARAGRAPH_KIND_HEADING: "bold", common_pb.PARAGRAPH_KIND_QUOTE: "italic"}
    return Text(paragraph.text, style=styles.get(paragraph.kind, ""))


def _link(label: str, link: related_pb.Recommendation) -> RenderableType:
    text = Text.assemble((f"{label}: ", "bold cyan"), (link.article.title, "cyan"), "\n", (_why(link), "dim"))
    return Padding(text, (0, 0, 0, 4))


def _end_slot(slot: related_pb.FilledSlot) -> RenderableType:
    lines: list[RenderableType] = [Text("Read More:", style="bold cyan")]
    for place in slot.places:
        if place.HasField("recommendation"):
            link = place.recommendation
            lines.append(Text.assemble("  • ", (link.article.title, "cyan"), "\n    ", (_why(link), "dim")))
    return Group(*lines) if len(lines) > 1 else Text("")


def _why(link: related_pb.Recommendation) -> str:
    return link.reason if link.fallback else f"{link.score:.2f}  {link.reason}"


def _empty_places(plan: related_pb.PagePlan) -> RenderableType:
    empty = [
        f"{slot.name}: {related_pb.EmptyReason.Name(place.empty_reason).removeprefix('EMPTY_REASON_').lower()}"
        for slot in plan.slots
        for place in slot.places
        if place.empty_reason
    ]
    return Text("left empty: " + "; ".join(empty), style="dim") if empty else Text("")


def _receipt(receipt: related_pb.Receipt) -> RenderableType:
    removed = ", ".join(f"{r.count} {r.rule}" for r in receipt.removals)
    lines = [
        f"revision {receipt.revision}, {receipt.candidates_seen} candidates seen, {receipt.ranker}",
        f"removed: {removed}" if removed else "",
        *receipt.warnings,
    ]
    return Text("\n".join(line for line in lines if line), style="dim")


def _byline(page: common_pb.Article | related_pb.Draft) -> str:
    return "  ".join(part for part in (page.section, _day(page.published_at.seconds), page.site) if part)


def _day(seconds: int) -> str:
    return format_time(seconds * 1000)[:10] if seconds else ""


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
