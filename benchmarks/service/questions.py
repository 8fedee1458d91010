"""Requests, as bytes made before anything is timed, and the copy of the archive that is served.

Pages by id are drawn from all articles. Drafts have 400 words of real articles' paragraphs, no two alike.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from grpc_health.v1 import health_pb2
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from benchmarks.data import open_live
from benchmarks.service.calls import AGAIN, DRAFT, EMPTY, FILL, LIST
from indexer.pipeline import check
from indexer.sources import open_source
from indexer.sources.base import RawArticle
from recommender.catalog.articles import Article
from recommender.catalog.checks import make_body
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from recommender.catalog.store.sqlite import copy_database
from recommender.catalog.store.store import open_store
from recommender.clock import now_ms
from recommender.encoding.text_recipe import select_texts
from recommender.errors import InvalidInputError
from recommender.rpc.messages import kind_to, paragraphs_from

IDS_MAX = 50_000
"""Pages that requests by id are drawn from, at most."""
FIRST_REQUESTS = 50_000
"""Distinct requests of pages that were not asked for before."""
AGAIN_PAGES = 200
"""Pages that are asked for again and again."""
DRAFTS_MAX = 2_000
"""Drafts, at most."""
DRAFT_WORDS = 400
"""Words of a draft."""


@dataclass(frozen=True, slots=True)
class Questions:
    """All requests of a run.

    articles: number of articles in the archive.
    requests: serialised requests of each call of METHODS, in order.
    texts: texts that the encoder gets of each draft.
    has_texts: whether the store has the articles' texts; that of a generated archive has none.
    """

    articles: int
    requests: dict[str, list[bytes]]
    texts: list[list[str]]
    has_texts: bool


@contextmanager
def served_copy(data_dir: Path) -> Iterator[Path]:
    """Yield a copy of a data folder beside it, to serve and write to; snapshots, which never change, are hard links."""
    if not (data_dir / STORE_FILE).exists():
        raise typer.BadParameter(f"{data_dir} holds no index")
    with tempfile.TemporaryDirectory(dir=data_dir.parent, prefix=f"{data_dir.name}-served-") as name:
        copy = Path(name)
        copy_database(data_dir / STORE_FILE, copy / STORE_FILE)
        if (data_dir / SNAPSHOTS).exists():
            shutil.copytree(data_dir / SNAPSHOTS, copy / SNAPSHOTS, copy_function=os.link)
        yield copy


def ask_about(data_dir: Path, drafts_of: Path | None, seed: int) -> Questions:
    """Draw pages and make drafts. drafts_of: file of articles to make drafts of; None takes the archive's own.

    Raises typer.BadParameter if there is nothing to make drafts of.
    """
    rng = np.random.default_rng(seed)
    live = open_live(data_dir)
    articles = live.count
    ids = [live.record(int(row)).id for row in rng.permutation(live.rows())[:IDS_MAX]]
    with closing(open_store(data_dir / STORE_FILE)) as store:
        own = list(store.get_many(ids[:DRAFTS_MAX]).values())
    material = _read(drafts_of, seed) if drafts_of else own
    drafts = make_drafts(material, DRAFTS_MAX)
    if not drafts:
        place = drafts_of or "the index"
        raise typer.BadParameter(f"there are no texts to make drafts of in {place}; give others with --drafts")
    requests = {
        EMPTY: [health_pb2.HealthCheckRequest().SerializeToString()],
        FILL: [first_time(ids[n % len(ids)], n) for n in range(FIRST_REQUESTS)],
        AGAIN: [related_pb.FillSlotsRequest(article_id=i).SerializeToString() for i in ids[:AGAIN_PAGES]],
        DRAFT: [related_pb.FillSlotsRequest(draft=draft).SerializeToString() for draft in drafts],
        LIST: [related_pb.ListRelatedRequest(article_id=i).SerializeToString() for i in reversed(ids)],
    }
    return Questions(articles, requests, list(map(texts_of, drafts)), bool(own))


def first_time(article_id: str, number: int) -> bytes:
    """Return a request that no other equals, so that it is not in the plan cache: the page links to a made-up id."""
    return related_pb.FillSlotsRequest(article_id=article_id, on_page_ids=[f"nothing-{number}"]).SerializeToString()


def make_drafts(articles: Sequence[Article], count_max: int) -> list[related_pb.Draft]:
    """Return at most `count_max` distinct drafts of DRAFT_WORDS words: from each article's first paragraph, then later.

    If an article is too short, the paragraphs of the next one follow.
    """
    usable = [article for article in articles if any(paragraph.text for paragraph in article.paragraphs)]
    made: dict[bytes, related_pb.Draft] = {}
    furthest = max((len(article.paragraphs) for article in usable), default=0)
    for skipped in range(furthest):
        for at in range(len(usable)):
            draft = _draft(usable[at:] + usable[:at], skipped)
            made.setdefault(draft.SerializeToString(), draft)
            if len(made) == count_max:
                return list(made.values())
    return list(made.values())


def _draft(articles: Sequence[Article], skipped: int) -> related_pb.Draft:
    first = articles[0]
    draft = related_pb.Draft(
        title=first.title,
        language=first.labels.language,
        section=first.labels.section,
        site=first.labels.site,
        tags=first.labels.tags,
    )
    left = DRAFT_WORDS
    for number, article in enumerate(articles):
        for paragraph in article.paragraphs[0 if number else skipped :]:
            words = paragraph.text.split()[:left]
            draft.paragraphs.append(common_pb.Paragraph(text=" ".join(words), kind=kind_to(paragraph.kind)))
            left -= len(words)
            if left <= 0:
                return draft
    return draft


def texts_of(draft: related_pb.Draft) -> list[str]:
    """Return the texts of a draft that the service encodes."""
    return select_texts(make_body(draft.title, draft.summary, paragraphs_from(draft.paragraphs))).all()


def _read(path: Path, seed: int) -> list[Article]:
    """Return the valid articles of a file, shuffled."""
    clock_ms, articles = now_ms(), []
    for record in open_source(path).records():
        try:
            articles += [check(record, clock_ms).article] if isinstance(record, RawArticle) else []
        except InvalidInputError:
            continue  # `related-news index` reports it
    np.random.default_rng(seed).shuffle(articles)
    return articles
