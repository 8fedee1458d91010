"""What counting the fields of a request before parsing it costs and spares: `python -m benchmarks.field_limit`.

Each request is read in a process of its own, once with counting and once without, as the service reads it: on the event
loop's thread, where every other call waits meanwhile. Prints a Markdown table: processor time and memory at the peak.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.errors import InvalidInputError
from recommender.rpc.field_limit import check_fields

REPEATS = 3
"""Processes that read each request; medians are reported."""
MIB = 1 << 20
"""Bytes of a MiB."""
WORD = "harbour "
"""Text that long requests repeat."""
_EMPTY_ARTICLE = b"\x0a\x00"
"""Field 1 of UpsertArticlesRequest, of no bytes."""
_EMPTY_PARAGRAPH = b"\x2a\x00"
"""Field 5 of Article, of no bytes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a request was read.

    size_bytes: of the request. cpu_s: processor time. peak_mib: memory beyond the request. is_refused: by its count.
    """

    size_bytes: int
    cpu_s: float
    peak_mib: float
    is_refused: bool


def empty_articles(mib: int) -> bytes:
    """Return a write of empty articles only."""
    return _EMPTY_ARTICLE * (mib * MIB // len(_EMPTY_ARTICLE))


def empty_paragraphs(mib: int) -> bytes:
    """Return a write of one article with empty paragraphs only."""
    paragraphs = _EMPTY_PARAGRAPH * (mib * MIB // len(_EMPTY_PARAGRAPH))
    return _EMPTY_ARTICLE[:1] + _varint(len(paragraphs)) + paragraphs


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def empty_tags(mib: int) -> bytes:
    """Return a FillSlotsRequest whose draft has empty tags only."""
    one = related_pb.Draft(tags=[""]).SerializeToString()
    tags = one * (mib * MIB // len(one))
    return related_pb.FillSlotsRequest(draft=related_pb.Draft()).SerializeToString()[:1] + _varint(len(tags)) + tags


def usual_write(articles: int, paragraphs: int, chars: int) -> bytes:
    """Return a write of articles of this size."""
    text = (WORD * (chars // len(WORD) + 1))[:chars]
    body = [common_pb.Paragraph(text=text)] * paragraphs
    sent = [common_pb.Article(id=f"a-{n}", url=f"https://x.example/{n}", paragraphs=body) for n in range(articles)]
    return articles_pb.UpsertArticlesRequest(articles=sent).SerializeToString()


REQUESTS: dict[str, tuple[Any, Callable[[], bytes]]] = {
    "empty articles": (articles_pb.UpsertArticlesRequest, lambda: empty_articles(31)),
    "empty articles, `message_bytes_max` of 8 MiB": (articles_pb.UpsertArticlesRequest, lambda: empty_articles(8)),
    "empty articles, `message_bytes_max` of 4 MiB": (articles_pb.UpsertArticlesRequest, lambda: empty_articles(4)),
    "empty articles, too small to be counted": (articles_pb.UpsertArticlesRequest, lambda: empty_articles(1)),
    "empty paragraphs of one article": (articles_pb.UpsertArticlesRequest, lambda: empty_paragraphs(31)),
    "empty tags of a draft": (related_pb.FillSlotsRequest, lambda: empty_tags(31)),
    "500 articles of 20 paragraphs": (articles_pb.UpsertArticlesRequest, lambda: usual_write(500, 20, 400)),
    "500 articles of 60 paragraphs": (articles_pb.UpsertArticlesRequest, lambda: usual_write(500, 60, 400)),
    "500 articles of 900 paragraphs": (articles_pb.UpsertArticlesRequest, lambda: usual_write(500, 900, 60)),
}


def read(name: str, file: Path, is_counted: bool) -> Reading:
    """Read a request from a file in this process, and drop it."""
    kind, _ = REQUESTS[name]
    data = file.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before_kib, is_refused, started = _peak_kib(), False, time.thread_time()
    try:
        if is_counted:
            check_fields(data, kind.DESCRIPTOR)
        message = kind.FromString(data)
        del message
    except InvalidInputError:
        is_refused = True
    return Reading(len(data), time.thread_time() - started, (_peak_kib() - before_kib) / 1024, is_refused)


def _peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Measure and print."""
    print("| request | MiB | without: ms | without: MiB | with: ms | with: MiB | with: answer |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as fresh,
    ):
        file = Path(folder) / "request"
        for name, (_, make) in REQUESTS.items():
            file.write_bytes(make())
            without, counted = (
                [fresh.submit(read, name, file, is_counted).result() for _ in range(REPEATS)]
                for is_counted in (False, True)
            )
            cells = [f"{without[0].size_bytes / MIB:.1f}"]
            for readings in (without, counted):
                cells.append(f"{np.median([one.cpu_s for one in readings]) * 1e3:,.0f}")
                cells.append(f"{np.median([one.peak_mib for one in readings]):,.0f}")
            print(f"| {name} | {' | '.join(cells)} | {'refused' if counted[0].is_refused else 'read'} |")


if __name__ == "__main__":
    main()
