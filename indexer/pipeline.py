"""START HERE: one indexing run, stage by stage.

read (sources/) -> clean (cleaning.py) -> check (make_article) -> skip what is stored -> analyse and embed -> store

Articles go through in batches; a batch is committed whole, and the next is read while one is being embedded. A run that
is killed loses at most the batches in flight: run again, it skips what is stored.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from indexer.cleaning import Cleaned, clean
from indexer.sources.base import BadRecord, RawArticle, Source, Where
from recommender.catalog.articles import Rules
from recommender.catalog.checks import make_article, parse_time_ms
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.progress import SILENT, Progress
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store, create_store
from recommender.catalog.store.writes import Outcome, Upsert, Write
from recommender.catalog.text.derived import Vectors, analyse
from recommender.clock import now_ms
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Embedder
from recommender.errors import InvalidInputError

BATCHES_IN_FLIGHT = 2
"""Batches between reading and commit: one is embedded while the next is read."""

OnRefused = Callable[[BadRecord], None]
"""Gets every record that is refused, with its place and the reason."""


@dataclass(slots=True)
class Report:
    """What a run did, in records.

    withdrawn: skipped because they were deleted before. languages: records that were written, by language. ids: where
    the record of each id stands, refused ones left out.
    """

    read: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    withdrawn: int = 0
    refused: int = 0
    editor_links: int = 0
    languages: dict[str, int] = field(default_factory=dict)
    ids: dict[str, Where] = field(default_factory=dict)
    seconds: float = 0.0
    embedding_seconds: float = 0.0
    snapshot: Path | None = None

    @property
    def embedded(self) -> int:
        """Records that were written, new or changed."""
        return self.added + self.changed

    def count(self, upsert: Upsert, outcome: Outcome) -> None:
        """Count what the store did with a record."""
        self.added += outcome is Outcome.ADDED
        self.changed += outcome is Outcome.CHANGED
        self.unchanged += outcome is Outcome.UNCHANGED
        self.withdrawn += outcome is Outcome.WITHDRAWN
        if outcome is not Outcome.WITHDRAWN:
            self.editor_links += len(upsert.links or ())
            language = upsert.article.labels.language
            self.languages[language] = self.languages.get(language, 0) + 1


class StoppedError(InvalidInputError):
    """A strict run met a record that it had to refuse; what was committed before stays."""


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
    with closing(create_store(data_dir / STORE_FILE, embedder.info.key)) as store:
        progress.begin("indexing", source.count())
        job = _Run(store, embedder, strict, restore_withdrawn, progress, on_refused)
        job.embed_and_store(job.checked(source.records()), batch_articles)
        job.write_snapshot_if_needed(data_dir / SNAPSHOTS)
    job.report.seconds = time.perf_counter() - begun
    return job.report


def check(raw: RawArticle, clock_ms: int, *, restore: bool = True) -> Upsert:
    """Clean one record and make it an upsert, with the editor's links that cleaning took out of it.

    restore: bring the article back if it was withdrawn. Raises InvalidInputError naming the field.
    """
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
    return Upsert(article, keep_rules=True, links=cleaned.links, restore=restore)


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch on its way: all its records, those of them to write, and the vectors of these."""

    records: list[Upsert]
    to_write: list[Upsert]
    vectors: Future[list[Vectors]]


@dataclass(frozen=True, slots=True)
class _Run:
    """What the stages of one run share, and the stages."""

    store: Store
    embedder: Embedder
    is_strict: bool
    restores_withdrawn: bool
    progress: Progress
    on_refused: OnRefused
    report: Report = field(default_factory=Report)

    def checked(self, records: Iterable[RawArticle | BadRecord]) -> Iterator[Upsert]:
        """Yield the records that pass cleaning and checks; refuse the others."""
        clock_ms = now_ms()
        for record in records:
            self.report.read += 1
            try:
                if isinstance(record, BadRecord):
                    raise InvalidInputError("record", record.reason)
                checked = check(record, clock_ms, restore=self.restores_withdrawn)
                first = self.report.ids.setdefault(checked.article.id, record.where)
                if first is not record.where:
                    problem = f"{checked.article.id!r} stands already at {first}"
                    raise InvalidInputError("id", problem, fix="keep one of them")
            except InvalidInputError as error:
                self._refuse(BadRecord(record.where, error.problem if error.field == "record" else str(error)))
                continue
            yield checked

    def _refuse(self, bad: BadRecord) -> None:
        self.report.refused += 1
        self.on_refused(bad)
        self.progress.advance()
        if self.is_strict:
            fix = "fix the record, or run without --strict"
            raise StoppedError(str(bad.where), bad.reason, fix=fix) from None

    def embed_and_store(self, records: Iterator[Upsert], batch_articles: int) -> None:
        """Embed and commit batch by batch; read and check the next while one is being embedded."""
        batches: deque[_Batch] = deque()
        with ThreadPoolExecutor(1, "encoder") as encoder:
            try:
                while batch := list(islice(records, batch_articles)):
                    new = self._not_stored(batch)
                    batches.append(_Batch(batch, new, encoder.submit(self._timed_embed, new)))
                    if len(batches) == BATCHES_IN_FLIGHT:
                        self._commit(batches.popleft())
            finally:
                while batches:
                    self._commit(batches.popleft())

    def _not_stored(self, batch: Sequence[Upsert]) -> list[Upsert]:
        ids = [upsert.article.id for upsert in batch]
        withdrawn = set() if self.restores_withdrawn else self.store.withdrawn(ids)
        new = self.store.changed([upsert for upsert in batch if upsert.article.id not in withdrawn])
        self.report.withdrawn += len(withdrawn)
        self.report.unchanged += len(batch) - len(new) - len(withdrawn)
        return new

    def _timed_embed(self, new: Sequence[Upsert]) -> list[Vectors]:
        """Embed each text once that the store has no vectors of yet."""
        lookup = self.store.look_up_vectors([upsert.article for upsert in new])
        begun = time.perf_counter()
        embedded = embed(list(lookup.missing.values()), self.embedder)
        self.report.embedding_seconds += time.perf_counter() - begun
        return lookup.complete(embedded)

    def _commit(self, batch: _Batch) -> None:
        analyses = [analyse(upsert.article) for upsert in batch.to_write]
        parts = zip(batch.to_write, batch.vectors.result(), analyses, strict=True)
        writes = [Write(upsert, vectors, analysis) for upsert, vectors, analysis in parts]
        for upsert, outcome in zip(batch.to_write, self.store.write(writes), strict=True):
            self.report.count(upsert, outcome)
        self.progress.advance(len(batch.records))

    def write_snapshot_if_needed(self, folder: Path) -> None:
        """Write a snapshot if anything changed, or if there is none."""
        self.report.snapshot = current_snapshot(folder)
        if self.report.snapshot is None or self.report.embedded:
            dimension = self.embedder.info.dimension
            self.report.snapshot = write_snapshot(self.store, folder, dimension, self.progress)
