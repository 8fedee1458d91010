"""An index opened in this process: the answers of the service without a server. `open_index` is the way in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recommender.answer.layout import DEFAULT_LAYOUT, Layout
from recommender.answer.page import Draft
from recommender.answer.plan import PagePlan, RelatedList
from recommender.answer.rank import Ranker
from recommender.answer.recommend import Recommender, Request
from recommender.catalog.articles import NO_LABELS, Body, Labels, Paragraph
from recommender.catalog.checks import URL_BYTES_MAX, clean_label, make_body, make_labels
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, Catalog, open_catalog, replay
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.text.derived import Vectors, analyse
from recommender.clock import now_ms
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import Embedder, load_embedder, model_of
from recommender.errors import InvalidInputError, MismatchError, UnavailableError

_OWN_LABELS = Scope()
"""The scope of a request that names none: the page's own language and site."""
K_DEFAULT = 10
"""Articles that `list_related` returns at most unless told otherwise; as ListRelated of the contract."""


def open_index(data_dir: str | Path, *, ranker: Ranker | None = None, embedder: Embedder | None = None) -> Index:
    """Open the index in `data_dir`, which `related-news index` made. Close it, or use it as a context manager.

    ranker: ranks in place of the default formula.
    embedder: embeds drafts; the index's own model is loaded for the first draft unless given.

    The folder must be writable: SQLite needs that to read a store that others write. A service may run on the same
    folder.

    It reads no settings: rankers and layouts are arguments.

    Raises errors.NotFoundError if there is no index, errors.StorageError if it cannot be opened.
    """
    return Index(Path(data_dir), ranker, embedder)


class Index:
    """An open index. It answers as of the last `refresh`. For one thread at a time."""

    def __init__(self, data_dir: Path, ranker: Ranker | None = None, embedder: Embedder | None = None) -> None:
        """Open `data_dir`; see `open_index`."""
        self._data_dir = data_dir
        self._ranker = ranker
        self._embedder = embedder
        self._is_embedder_given = embedder is not None
        self._is_closed = False
        self._catalog = open_catalog(data_dir)
        self._file = self._store_file()

    def close(self) -> None:
        """Close the store. Every later call raises errors.UnavailableError."""
        self._is_closed = True
        self._catalog.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of articles."""
        return self._catalog.live.count

    @property
    def revision(self) -> int:
        """The last revision that is applied; answers hold every change up to it."""
        return self._catalog.live.revision

    def fill_slots(
        self,
        page: str | Draft,
        layout: Layout | None = None,
        *,
        as_of_ms: int | None = None,
        scope: Scope = _OWN_LABELS,
        on_page_ids: Sequence[str] = (),
    ) -> PagePlan:
        """Fill every slot of one page, as FillSlots does.

        page: the id of a stored article, or what `draft` returns.
        layout: the slots; the built-in layout unless given.
        as_of_ms: answer as of this time, milliseconds since the epoch, UTC; now unless given.
        scope: which articles may be chosen; the page's own language and site unless given.
        on_page_ids: articles that the page links to already.

        Raises errors.NotFoundError if there is no such article, errors.InvalidInputError if the id cannot be one.
        """
        return self._recommender().fill_slots(_request(page, as_of_ms, scope, on_page_ids), layout or DEFAULT_LAYOUT)

    def list_related(
        self,
        page: str | Draft,
        k: int = K_DEFAULT,
        *,
        min_score: float = 0.0,
        as_of_ms: int | None = None,
        scope: Scope = _OWN_LABELS,
        on_page_ids: Sequence[str] = (),
    ) -> RelatedList:
        """List at most `k` related articles, best first, as ListRelated does. Other parameters: see `fill_slots`.

        min_score: the least score of an article, 0 to 1.
        """
        if not 0 <= min_score <= 1:
            raise InvalidInputError("min_score", f"is {min_score}", fix="give 0 to 1")
        return self._recommender().list_related(_request(page, as_of_ms, scope, on_page_ids), k, min_score)

    def draft(
        self,
        title: str,
        paragraphs: Sequence[str | Paragraph] = (),
        *,
        summary: str = "",
        published_at_ms: int | None = None,
        url: str = "",
        labels: Labels = NO_LABELS,
    ) -> Draft:
        """Read and embed a page that is not stored. The first call loads the index's model, which takes seconds.

        paragraphs: the body, in reading order.
        published_at_ms: the page's own date, from which ages count; now unless given. As `as_of_ms` of `fill_slots`.
        url: its address; an indexed article with it is the page itself.
        labels: section, site, language, author, tags; empty ones are unknown.

        A draft belongs to the model that embedded it: make it again after `reindex`.

        Raises InvalidInputError that names the field.
        """
        _check_is_list("paragraphs", paragraphs)
        blocks = [Paragraph(block) if isinstance(block, str) else block for block in paragraphs]
        body, checked = make_body(title, summary, blocks), make_labels(labels)
        return Draft(
            body=body,
            vectors=self._embed(body),
            analysis=analyse(body),
            published_at_ms=now_ms() if published_at_ms is None else published_at_ms,
            url=clean_label(url, "url", URL_BYTES_MAX),
            labels=checked,
        )

    def refresh(self) -> int:
        """Apply what was written since, by whichever process; returns the revision that answers hold from now on."""
        catalog = self._open()
        if self._is_replaced():
            file = self._store_file()  # before opening: a file that takes its place meanwhile is seen next time
            self._catalog, self._file = open_catalog(self._data_dir), file
            catalog.close()
        else:
            replay(catalog.store, catalog.live)
        return self.revision

    def _is_replaced(self) -> bool:
        """Say whether another model became active, a newer snapshot was written, or a backup was restored."""
        store, live = self._catalog.store, self._catalog.live
        return (
            self._store_file() != self._file
            or store.revision() < live.revision
            or store.active_encoder() != store.encoder
            or current_snapshot(self._data_dir / SNAPSHOTS) != live.folder
        )

    def _store_file(self) -> tuple[int, int] | None:
        """Return what tells the store's file from one that takes its place; None if there is none."""
        try:
            status = (self._data_dir / STORE_FILE).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _recommender(self) -> Recommender:
        return Recommender(self._open().live, self._ranker)

    def _open(self) -> Catalog:
        if self._is_closed:
            raise UnavailableError("the index is closed", fix="open it again")
        return self._catalog

    def _embed(self, body: Body) -> Vectors:
        key = self._open().store.encoder
        is_stale = self._embedder is not None and self._embedder.info.key != key and not self._is_embedder_given
        if self._embedder is None or is_stale:
            self._embedder = load_embedder(model_of(key))
        if self._embedder.info.key != key:
            raise MismatchError(
                f"the index was made with {key}, the embedder is {self._embedder.info.key}",
                fix="open the index with an embedder of its model, or with none",
            )
        (vectors,) = embed([body], self._embedder)
        return vectors


def _request(page: str | Draft, as_of_ms: int | None, scope: Scope, on_page_ids: Sequence[str]) -> Request:
    if not isinstance(page, str | Draft):
        raise InvalidInputError("page", f"is of type {type(page).__name__}", fix="give an article's id, or a draft")
    _check_is_list("on_page_ids", on_page_ids)
    return Request(page, now_ms() if as_of_ms is None else as_of_ms, scope, tuple(on_page_ids))


def _check_is_list(name: str, values: object) -> None:
    """Refuse one string where several are expected: Python would take it as a list of letters."""
    if isinstance(values, str):
        raise InvalidInputError(name, "is one string", fix="give a list of strings")
