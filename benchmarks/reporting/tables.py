"""Markdown of kept results: all tables for benchmarks/README.md, three headline figures for the README.

Every figure is from a kept result; "-" where there is none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.reporting.sweeps import FILTERS, FLAT, OURS, UNFILTERED, Sweep, Sweeps, ratios, sweeps
from benchmarks.reporting.units import count, duration, ratio, share
from benchmarks.result import Result

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
"""Markers of the part of a document that the report writes."""
CORE_ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
"""Corpus sizes that the table of core has a line for."""
PEERS_ROWS = (100_000, 1_000_000)
"""Corpus sizes that the table of peers has lines for."""
PEERS_CASES = (UNFILTERED, "site 1.0%", "near sections 1.0%")
"""Cases that the table of peers has lines for."""
SERVICE_ARTICLES = (100_000, 1_000_000)
"""Archive sizes that the table of the service and the headline have lines for."""
HEADLINE_ROWS = 1_000_000
"""Corpus size of the headline's search."""
MISSING = "-"
"""What stands in a cell without a figure."""

_FILL = "fill_slots by id"
"""Call of a page that was not asked for before; see benchmarks.service.calls."""
_AGAIN = "fill_slots by id, again"
"""Call of a page that is asked for again."""


def with_block(text: str, block: str) -> str:
    """Return a document's text with `block` in place of what is between the markers.

    Raises ValueError unless each marker is there once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"the document needs {BEGIN} and {END}, once each, in this order")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def headline(results: Mapping[str, Result]) -> str:
    """Return the three figures that the README shows. results: by series, as of `benchmarks.result.newest`."""
    core = results.get(f"core-{HEADLINE_ROWS}")
    measured = sweeps(core) if core else {}
    ours, flat = (measured.get(name, {}).get(UNFILTERED) for name in (OURS, FLAT))
    search = f"{duration(ours.chosen.p50_us)}, recall@100 {share(ours.chosen.recall_100)}" if ours else MISSING
    exact = f"FAISS flat (exact): {duration(flat.chosen.p50_us) if flat else MISSING}"
    pages = [(count(size), results.get(f"service-{size}")) for size in SERVICE_ARTICLES]
    again = ", ".join(f"{size}: {_figure(result, f'{_AGAIN}/1', 'p50_us', duration)}" for size, result in pages)
    first = ", ".join(f"{size}: {_figure(result, f'{_FILL}/1', 'p50_us', duration)}" for size, result in pages)
    rows = [
        ("a page filled by id over gRPC, median, by articles in the archive", first, f"asked again: {again}"),
        (f"search of the 100 nearest of {count(HEADLINE_ROWS)} vectors, median, one thread", search, exact),
        ("nDCG@10 on editors' own links", _ndcg(results, OURS), f"TF-IDF: {_ndcg(results, 'lexical')}"),
    ]
    return _table(("what", "figure", "beside it"), rows)


def _ndcg(results: Mapping[str, Result], system: str) -> str:
    if "relevance" not in results:
        return MISSING
    return f"{results['relevance'].values['systems'][system]['ndcg@10']:.3f}".removeprefix("0")


def tables(results: Mapping[str, Result], beside: Path) -> str:
    """Return all tables and the runs that they are from.

    results: by series, as of `benchmarks.result.newest`. beside: the folder that links are relative to.
    """
    core = [results.get(f"core-{rows}") for rows in CORE_ROWS]
    peers = [results.get(f"peers-{rows}") for rows in PEERS_ROWS]
    service = [results.get(f"service-{articles}") for articles in SERVICE_ARTICLES]
    parts = [
        "Search of the 100 nearest in process, one thread, beside FAISS flat (exact) in the same run:",
        _table(_CORE, [_core(*pair) for pair in zip(CORE_ROWS, core, strict=True)]),
        "Beside others at recall@100 of .98 or more, p50; a recall that was missed stands in brackets:",
        _peers(peers),
        "Whole answers over gRPC on loopback, one worker, beside the empty call (health check) of the same server:",
        _table(_SERVICE, [_service(*pair) for pair in zip(SERVICE_ARTICLES, service, strict=True)]),
        *_runs((result for result in (*core, *peers, *service) if result), beside),
    ]
    return "\n\n".join(parts)


_CORE = (
    *("articles", "vectors", "p50", "p95", "recall@10", "recall@100", "FAISS flat p50", "ours / flat"),
    *("slowest filter p50", "least filtered recall@100", "run"),
)
"""Head of the table of core."""


def _core(rows: int, result: Result | None) -> list[str]:
    measured = sweeps(result) if result else {}
    ours, flat = (measured.get(name, {}).get(UNFILTERED) for name in (OURS, FLAT))
    if not (result and ours):
        return [count(rows), *[MISSING] * (len(_CORE) - 1)]
    best, exact = ours.chosen, flat.chosen if flat else None
    filtered = [sweep.chosen for sweep in _filtered(measured[OURS])]
    return [
        count(rows),
        result.values["corpus"]["vectors"].split()[0],
        *(duration(best.p50_us), duration(best.p95_us)),
        *(share(best.recall_10), share(best.recall_100)),
        duration(exact.p50_us) if exact else MISSING,
        f"1/{ratio(exact.p50_us / best.p50_us)}" if exact else MISSING,
        duration(max(point.p50_us for point in filtered)) if filtered else MISSING,
        share(min(point.recall_100 for point in filtered)) if filtered else MISSING,
        result.series,
    ]


def _filtered(cases: Mapping[str, Sweep | None]) -> Iterator[Sweep]:
    """Yield the filtered cases of one thread."""
    for name, sweep in cases.items():
        if sweep and name.startswith(FILTERS) and not name.endswith("threads"):
            yield sweep


def _peers(results: Iterable[Result | None]) -> str:
    measured: list[Sweeps] = [sweeps(result) if result else {} for result in results]
    names = list(dict.fromkeys([OURS, FLAT, *(name for one in measured for name in one)]))
    rows = []
    for size, one in zip(PEERS_ROWS, measured, strict=True):
        for case in PEERS_CASES:
            filtered = "none" if case == UNFILTERED else case
            cells = [_cell(one[name].get(case), case) if name in one else MISSING for name in names]
            rows.append([count(size), filtered, *cells, f"peers-{size}" if one else MISSING])
    return _table(("articles", "filter", *names, "run"), rows)


def _cell(sweep: Sweep | None, case: str) -> str:
    if not sweep:
        return MISSING if case == UNFILTERED else "no filters"
    shown = duration(sweep.chosen.p50_us)
    return shown if sweep.reached else f"{shown} ({share(sweep.chosen.recall_100)})"


_SERVICE = (
    *("articles", "FillSlots by id, p50", "p95", "empty call, p50", "FillSlots / empty", "page asked again / empty"),
    *("16 clients, calls/s", "share of the empty call's", "of pages asked again"),
    *("draft / encoding it", "16 drafts / one at a time", "run"),
)
"""Head of the table of the service."""


def _service(articles: int, result: Result | None) -> list[str]:
    if not result:
        return [count(articles), *[MISSING] * (len(_SERVICE) - 1)]
    stated = ratios(result)

    def stated_as(name: str) -> str:
        return ratio(stated[name]) if name in stated else MISSING

    return [
        count(articles),
        _figure(result, f"{_FILL}/1", "p50_us", duration),
        _figure(result, f"{_FILL}/1", "p95_us", duration),
        _figure(result, "empty/1", "p50_us", duration),
        stated_as(f"{_FILL}/1"),
        stated_as(f"{_AGAIN}/1"),
        _figure(result, f"{_FILL}/16", "per_second", "{:,.0f}".format),
        stated_as(f"throughput {_FILL}/16"),
        stated_as(f"throughput {_AGAIN}/16"),
        stated_as("draft over encoding"),
        stated_as("drafts 16 over 1"),
        result.series,
    ]


def _figure(result: Result | None, case: str, name: str, written: Callable[[float], str]) -> str:
    """Return a figure of a case of the service."""
    figures = result.values["cases"].get(case, {}) if result else {}
    return written(figures[name]) if name in figures else MISSING


def _runs(results: Iterable[Result], beside: Path) -> Iterator[str]:
    """Yield a list of the runs that the figures are from, one line a run."""
    lines = []
    for result in results:
        machine = result.values["machine"]
        link = Path(os.path.relpath(result.path, beside)).as_posix()
        command = f"`{result.command}`" if result.command else "command not recorded"
        where = f"{machine['cores']} cores of {machine['cpu']}"
        lines.append(f"- [{result.series}]({link}): {command}, commit `{result.commit}`, {where}")
    if lines:
        yield "\n".join(lines)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
