"""The README's benchmark table: every figure from a kept result, "-" where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.reporting.kept import FILTERS, FLAT, OURS, UNFILTERED, Kept, Sweep, Sweeps, ratios, sweeps
from benchmarks.reporting.units import count, duration, ratio, share

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
CORE_ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
PEERS_ROWS = (100_000, 1_000_000)
PEERS_CASES = (UNFILTERED, "site 1.0%", "near sections 1.0%")
SERVICE_ARTICLES = (100_000, 1_000_000)
MISSING = "-"

_CALL = "fill_slots by id"


def with_table(text: str, table: str) -> str:
    """Return the README's text with the table in place of what stands between the marks.

    Raises ValueError unless each mark stands there once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"the README needs {BEGIN} and {END}, once each, in this order")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def table(results: Mapping[str, Kept], beside: Path) -> str:
    """Return the Markdown of all tables. beside: the folder that links are relative to.

    results: by name, as of `benchmarks.reporting.kept.newest`.
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
        *_runs((kept for kept in (*core, *peers, *service) if kept), beside),
    ]
    return "\n\n".join(parts)


_CORE = (
    *("articles", "vectors", "p50", "p95", "recall@10", "recall@100", "FAISS flat p50", "ours / flat"),
    *("slowest filter p50", "least filtered recall@100", "run"),
)


def _core(rows: int, kept: Kept | None) -> list[str]:
    measured = sweeps(kept) if kept else {}
    ours, flat = (measured.get(name, {}).get(UNFILTERED) for name in (OURS, FLAT))
    if not (kept and ours):
        return [count(rows), *[MISSING] * (len(_CORE) - 1)]
    best, exact = ours.chosen, flat.chosen if flat else None
    filtered = [sweep.chosen for sweep in _filtered(measured[OURS])]
    return [
        count(rows),
        kept.values["corpus"]["vectors"].split()[0],
        *(duration(best.p50_us), duration(best.p95_us)),
        *(share(best.recall_10), share(best.recall_100)),
        duration(exact.p50_us) if exact else MISSING,
        f"1/{ratio(exact.p50_us / best.p50_us)}" if exact else MISSING,
        duration(max(point.p50_us for point in filtered)) if filtered else MISSING,
        share(min(point.recall_100 for point in filtered)) if filtered else MISSING,
        kept.name,
    ]


def _filtered(cases: Mapping[str, Sweep | None]) -> Iterator[Sweep]:
    """Yield the filtered cases of one thread."""
    for name, sweep in cases.items():
        if sweep and name.startswith(FILTERS) and not name.endswith("threads"):
            yield sweep


def _peers(results: Iterable[Kept | None]) -> str:
    measured: list[Sweeps] = [sweeps(kept) if kept else {} for kept in results]
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


def _service(articles: int, kept: Kept | None) -> list[str]:
    if not kept:
        return [count(articles), *[MISSING] * (len(_SERVICE) - 1)]
    cases, stated = kept.values["cases"], ratios(kept)

    def figure(case: str, name: str, written: Callable[[float], str]) -> str:
        return written(cases[case][name]) if name in cases.get(case, {}) else MISSING

    def stated_as(name: str) -> str:
        return ratio(stated[name]) if name in stated else MISSING

    return [
        count(articles),
        figure(f"{_CALL}/1", "p50_us", duration),
        figure(f"{_CALL}/1", "p95_us", duration),
        figure("empty/1", "p50_us", duration),
        stated_as(f"{_CALL}/1"),
        stated_as(f"{_CALL}, again/1"),
        figure(f"{_CALL}/16", "per_second", "{:,.0f}".format),
        stated_as(f"throughput {_CALL}/16"),
        stated_as(f"throughput {_CALL}, again/16"),
        stated_as("draft over encoding"),
        stated_as("drafts 16 over 1"),
        kept.name,
    ]


def _runs(results: Iterable[Kept], beside: Path) -> Iterator[str]:
    """Yield where the figures come from, one line a run."""
    lines = []
    for kept in results:
        machine = kept.values["machine"]
        link = Path(os.path.relpath(kept.path, beside)).as_posix()
        command = f"`{kept.command}`" if kept.command else "command not recorded"
        where = f"{machine['cores']} cores of {machine['cpu']}"
        lines.append(f"- [{kept.name}]({link}): {command}, commit `{kept.commit}`, {where}")
    if lines:
        yield "\n".join(lines)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
