"""START HERE: one indexing run, stage by stage.

read (sources/) -> clean (cleaning.py) -> check (make_article) -> skip what is stored -> analyse and embed -> store

Articles go through in batches; a batch is committed whole, and the next is read while one is being embedded. A run that
is killed has lost at most the batches in flight: started again, it skips what is stored, by content hash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from indexer.cleaning import Cleaned, clean
from indexer.sources.base import BadRecord, RawArticle, Source, Where
from recommender.catalog.articles import Article, EditorLink, Rules
from recommender.catalog.checks import make_article, parse_time_ms
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.progress import SILENT, Progress
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store, create_store
from recommender.catalog.store.writes import Outcome, Write
from recommender.catalog.text.derived import Vectors, analyse
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Embedder
from recommender.errors import InvalidInputError

BATCHES_IN_FLIGHT = 2


OnRefused = Callable[[BadRecord], None]
"""Gets every record that is refused, with its place and the reason."""


@dataclass(slots=True)
class Report:
    """What a run did, in records. withdrawn: skipped because they were deleted before. ids: good ones, and where."""

    read: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    withdrawn: int = 0
    refused: int = 0
    editor_links: int = 0
    other_languages: dict[str, int] = field(default_factory=dict)
    ids: dict[str, Where] = field(default_factory=dict)
    seconds: float = 0.0
    embedding_seconds: float = 0.0
    snapshot: Path | None = None

    @property
    def embedded(self) -> int:
        """Records that were written, new or changed."""
        return self.added + self.changed


class StoppedError(InvalidInputError):
    """A strict run met a record that it had to refuse; what was committed before stays."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A record that passed cleaning and checks."""

    article: Article
    links: tuple[EditorLink, ...]


def run(
    source: Source,
    data_dir: Path,
    embedder: Embedder,
    *,
    batch_articles: int = 64,
    strict: bool = False,
    restore_withdrawn: bool = False,
    progress: Progress = SILENT,
    on_refused: OnRefused = lambda _: None,
) -> Report:
    """Index every record of `source` into `data_dir`, then write a snapshot if anything changed.

    strict: stop at the first record that must be refused (StoppedError). restore_withdrawn: bring deleted ones back.
    progress: its stages are "indexing", a step for each record, and the snapshot.
    """
    begun = time.perf_counter()
    store = create_store(data_dir / STORE_FILE, embedder.info.key)
    try:
        progress.begin("indexing", source.count())
        report = Report()
        records = _ready(source.records(), report, strict=strict, progress=progress, on_refused=on_refused)
        _embed_and_store(records, store, embedder, report, batch_articles, restore_withdrawn, progress)
        report.snapshot = _snapshot_if_needed(store, data_dir, embedder, report, progress)
    finally:
        store.close()
    report.seconds = time.perf_counter() - begun
    return report


def _ready(
    records: Iterable[RawArticle | BadRecord],
    report: Report,
    *,
    strict: bool,
    progress: Progress,
    on_refused: OnRefused,
) -> Iterator[_Ready]:
    """Clean and check; report what must be refused."""
    clock_ms = time.time_ns() // 1_000_000
    for record in records:
        report.read += 1
        try:
            if isinstance(record, BadRecord):
                raise InvalidInputError("record", record.reason)
            ready = check(record, clock_ms)
            first = report.ids.setdefault(ready.article.id, record.where)
            if first is not record.where:
                raise InvalidInputError("id", f"{ready.article.id!r} stands already at {first}", fix="keep one of them")
        except InvalidInputError as error:
            reason = error.problem if error.field == "record" else str(error)
            bad = BadRecord(record.where, reason)
            report.refused += 1
            on_refused(bad)
            progress.advance()
            if strict:
                raise StoppedError(str(bad.where), reason, fix="mend the record, or run without --strict") from None
            continue
        yield ready


def check(raw: RawArticle, clock_ms: int) -> _Ready:
    """Clean one record and make it an Article. Raises InvalidInputError naming the field."""
    if not raw.published_at:
        raise InvalidInputError("published_at", "is missing", fix="use RFC 3339, such as 2026-03-01T12:00:00Z")
    cleaned: Cleaned = clean(raw)
    article = make_article(
        id=raw.id,
        url=raw.url,
        title=raw.title,
        summary=cleaned.summary,
        paragraphs=cleaned.paragraphs,
        published_at_ms=parse_time_ms(raw.published_at),
        now_ms=clock_ms,
        labels=raw.labels,
        image_url=raw.image_url,
        rules=Rules(evergreen=raw.evergreen),
    )
    return _Ready(article, cleaned.links)


def _embed_and_store(
    records: Iterator[_Ready],
    store: Store,
    embedder: Embedder,
    report: Report,
    batch_articles: int,
    restore_withdrawn: bool,
    progress: Progress,
) -> None:
    waiting: list[tuple[list[_Ready], list[_Ready], Future[list[Vectors]]]] = []
    with ThreadPoolExecutor(1, "encoder") as encoder:
        try:
            while batch := list(islice(records, batch_articles)):
                new = _not_stored(batch, store, report, restore_withdrawn)
                waiting.append((batch, new, encoder.submit(_timed_embed, new, store, embedder, report)))
                if len(waiting) == BATCHES_IN_FLIGHT:
                    _commit(*waiting.pop(0), store, report, restore_withdrawn, progress)
        finally:
            while waiting:
                _commit(*waiting.pop(0), store, report, restore_withdrawn, progress)


def _not_stored(batch: Sequence[_Ready], store: Store, report: Report, restore_withdrawn: bool) -> list[_Ready]:
    ids = [ready.article.id for ready in batch]
    hashes, links = store.content_hashes(ids), store.links_of(ids)
    withdrawn = set() if restore_withdrawn else store.withdrawn(ids)

    def is_stored(ready: _Ready) -> bool:
        same_content = hashes.get(ready.article.id) == ready.article.content_hash()
        return same_content and links.get(ready.article.id, ()) == ready.links

    new = [ready for ready in batch if ready.article.id not in withdrawn and not is_stored(ready)]
    report.withdrawn += len(withdrawn)
    report.unchanged += len(batch) - len(new) - len(withdrawn)
    return new


def _timed_embed(new: Sequence[_Ready], store: Store, embedder: Embedder, report: Report) -> list[Vectors]:
    """Embed each text once that the store has no vectors of yet."""
    hashes = [ready.article.text_hash() for ready in new]
    vectors = store.vectors_of(hashes)
    missing = {text: ready.article for text, ready in zip(hashes, new, strict=True) if text not in vectors}
    begun = time.perf_counter()
    vectors |= zip(missing, embed(list(missing.values()), embedder), strict=True)
    report.embedding_seconds += time.perf_counter() - begun
    return [vectors[text] for text in hashes]


def _commit(
    batch: Sequence[_Ready],
    new: Sequence[_Ready],
    vectors: Future[list[Vectors]],
    store: Store,
    report: Report,
    restore_withdrawn: bool,
    progress: Progress,
) -> None:
    analyses = [analyse(ready.article) for ready in new]
    writes = [
        Write(ready.article, vector, analysis, keep_rules=True, links=ready.links, restore=restore_withdrawn)
        for ready, vector, analysis in zip(new, vectors.result(), analyses, strict=True)
    ]
    for ready, outcome in zip(new, store.write(writes), strict=True):
        report.added += outcome is Outcome.ADDED
        report.changed += outcome is Outcome.CHANGED
        report.unchanged += outcome is Outcome.UNCHANGED
        report.withdrawn += outcome is Outcome.WITHDRAWN
        if outcome is Outcome.WITHDRAWN:
            continue
        report.editor_links += len(ready.links)
        language = ready.article.labels.language
        report.other_languages[language] = report.other_languages.get(language, 0) + 1
    progress.advance(len(batch))


def _snapshot_if_needed(
    store: Store, data_dir: Path, embedder: Embedder, report: Report, progress: Progress
) -> Path | None:
    folder = data_dir / SNAPSHOTS
    current = current_snapshot(folder)
    if current is not None and not report.embedded:
        return current
    return write_snapshot(store, folder, embedder.info.dimension, progress)
