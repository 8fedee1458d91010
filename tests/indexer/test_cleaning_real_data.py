"""Cleaning against real articles, where they are at hand: RELATED_TEST_DATA, else ../shared/data beside the repo."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.cleaning import Cleaned, clean
from indexer.sources import open_source
from indexer.sources.base import Anchor, RawArticle
from recommender.catalog.articles import EditorLink
from tests import ROOT

DATA = Path(os.environ.get("RELATED_TEST_DATA", ROOT.parent / "shared" / "data"))
GOV, WIKI = DATA / "gov-blogs" / "articles.jsonl.gz", DATA / "wikinews" / "articles.jsonl.gz"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (GOV.is_file() and WIKI.is_file()), reason=f"no real articles at {DATA}"),
]


def _articles(path: Path) -> list[RawArticle]:
    records = list(open_source(path).records())
    assert all(isinstance(record, RawArticle) for record in records)
    return [record for record in records if isinstance(record, RawArticle)]


def _kept_share(articles: list[RawArticle], cleaned: list[Cleaned]) -> float:
    before = sum(len(block.text.split()) for article in articles for block in article.blocks)
    return sum(len(p.text.split()) for result in cleaned for p in result.paragraphs) / before


@pytest.mark.parametrize(("path", "share_min", "articles_min"), [(GOV, 0.999, 2_500), (WIKI, 0.995, 290)])
def test_real_text_is_kept(path: Path, share_min: float, articles_min: int) -> None:
    """Real articles lose hardly a word: only separators, prompts, credits and dates."""
    articles = _articles(path)
    assert len(articles) >= articles_min
    cleaned = [clean(article) for article in articles]
    assert _kept_share(articles, cleaned) >= share_min
    emptied = [a.id for a, c in zip(articles, cleaned, strict=True) if a.blocks and not c.paragraphs]
    assert [name for name in emptied if "TEST_PAGE" not in name] == []
    longest = max(
        (block.text for a, c in zip(articles, cleaned, strict=True) for block in a.blocks if not _has(c, block.text)),
        key=len,
    )
    assert len(longest) < 250, longest


def test_links_in_running_text_survive() -> None:
    """Links that editors placed in running text stay text, but for the labelled ones."""
    articles = {article.id: article for article in _articles(GOV)}
    by_source: dict[str, list[tuple[int, Anchor]]] = defaultdict(list)
    for line in (GOV.parent / "links.jsonl").read_text(encoding="utf-8").splitlines():
        link = json.loads(line)
        by_source[link["source_id"]].append(
            (link["paragraph"], Anchor(articles[link["target_id"]].url, link["anchor"]))
        )
    harvested: list[EditorLink] = []
    for source_id, anchors in by_source.items():
        blocks = list(articles[source_id].blocks)
        for place, anchor in anchors:
            blocks[place] = replace(blocks[place], anchors=(*blocks[place].anchors, anchor))
        harvested += clean(replace(articles[source_id], blocks=tuple(blocks))).links
    assert sum(map(len, by_source.values())) > 1_800
    assert [link.anchor for link in harvested if link.target.startswith("http")] == [
        "Making Procurement Easier: Some Questions with 18F’s Kaitlin Devine"
    ]


def _has(cleaned: Cleaned, text: str) -> bool:
    words = text.split()
    return any(p.text.split() == words for p in cleaned.paragraphs)
