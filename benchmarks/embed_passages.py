"""Make real vectors for the benchmarks: passages of real articles, embedded once. A killed run can be continued.

python -m benchmarks.embed_passages ARTICLES... --to FILE.npy

Passages are overlapping windows of whole sentences, so that a small archive gives many: a window and its neighbours are
as similar as versions of one story in a newsroom's archive. FILE.json describes the source of the vectors.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.data import read_articles
from recommender.catalog.articles import Article
from recommender.encoding.embedder import Embedder, load_embedder

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+(?=\S)")
"""Space between two sentences."""
_CHUNK_TEXTS = 1_024
"""Texts embedded and written at once: what a killed run has to do again at most."""


def main(
    articles: Annotated[list[Path], typer.Argument(help="Articles, in any format that `index` reads.")],
    to: Annotated[Path, typer.Option(help="File of the vectors: float16 (n, dimension), rows in time order.")],
    words: Annotated[int, typer.Option(help="Words of a passage, at least.")] = 40,
    step: Annotated[int, typer.Option(help="Words from the start of one passage to the start of the next.")] = 20,
) -> None:
    """Embed every passage and keep the vectors with a description."""
    texts = list(dict.fromkeys(text for article in _in_time_order(articles) for text in passages(article, words, step)))
    embedder = load_embedder()
    dimension = embedder.info.dimension
    part = to.with_suffix(".part")
    started = time.perf_counter()
    for done, total in encode_resumably(texts, embedder, part):
        print(f"{done} of {total}, {time.perf_counter() - started:.0f} s", flush=True)
    np.save(to, np.fromfile(part, np.float16).reshape(len(texts), dimension))
    source = {
        "articles": [path.parent.name + "/" + path.name for path in articles],
        "passages": len(texts),
        "words": words,
        "step": step,
        "encoder": embedder.info.key,
    }
    to.with_suffix(".json").write_text(json.dumps(source, indent=1) + "\n")
    part.unlink()


def encode_resumably(texts: Sequence[str], embedder: Embedder, part: Path) -> Iterator[tuple[int, int]]:
    """Append the vectors of `texts`, float16, to those in `part`; yields (done, all)."""
    row_bytes = 2 * embedder.info.dimension
    done = part.stat().st_size // row_bytes if part.exists() else 0
    with part.open("ab") as stream:
        stream.truncate(done * row_bytes)
        for start in range(done, len(texts), _CHUNK_TEXTS):
            chunk = texts[start : start + _CHUNK_TEXTS]
            stream.write(embedder.encode(chunk).astype(np.float16).tobytes())
            stream.flush()
            yield start + len(chunk), len(texts)


def passages(article: Article, words: int, step: int) -> Iterator[str]:
    """Yield windows of whole sentences: `words` words or just above; the last ones have half of that at least."""
    sentences = [s for p in article.paragraphs if p.text for s in _SENTENCE_END.split(p.text)]
    counts = np.array([len(sentence.split()) for sentence in sentences], np.int64)
    ends = np.cumsum(counts)
    starts = ends - counts
    first = 0
    while first < len(sentences):
        last = int(np.searchsorted(ends, starts[first] + words))
        if ends[min(last, len(sentences) - 1)] - starts[first] < words // 2:
            return
        yield " ".join(sentences[first : last + 1])
        first = int(np.searchsorted(starts, starts[first] + step))


def _in_time_order(paths: Sequence[Path]) -> list[Article]:
    return sorted((a for path in paths for a in read_articles(path)), key=lambda a: (a.published_at_ms, a.id))


if __name__ == "__main__":
    typer.run(main)
