"""Plots of kept results: latency by corpus size, recall by latency, searches at equal recall, latency over commits.

The colours are Okabe and Ito's (2008), which the colour-blind can tell apart; every search has a marker of its own too.
The same results make the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.reporting.history import Run, commits
from benchmarks.reporting.sweeps import FLAT, OURS, UNFILTERED, Sweep, Sweeps, sweeps
from benchmarks.reporting.units import count, duration, share
from benchmarks.result import Result

CASES = (UNFILTERED, "window 10.0%", "site 1.0%", "near sections 1.0%")
"""Cases that have a panel: no filter, and one of each kind of filter."""
PEERS_ROWS = 100_000
"""Corpus size whose peers are plotted: the largest that all of them were measured at."""
HISTORY_SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
"""Corpus and archive sizes that have a line in the plot over commits."""
_STYLES = {
    OURS: ("#0072B2", "o"),
    FLAT: ("#000000", "s"),
    "hnswlib": ("#E69F00", "^"),
    "usearch": ("#56B4E9", "v"),
    "lancedb": ("#009E73", "D"),
    "chroma": ("#CC79A7", "P"),
    "pgvector": ("#D55E00", "X"),
    "milvus-lite": ("#7F7F7F", "*"),
}
"""Colour and marker of each search."""
_OTHER = ("#A08000", "h")
"""Colour and marker of a search that _STYLES does not name."""
_SIZE_STYLES = (("#E69F00", "^"), ("#56B4E9", "v"), ("#0072B2", "o"), ("#D55E00", "X"))
"""Colour and marker of each of HISTORY_SIZES."""
_GAP = 0.002
"""Distance from 1 at which the stretched recall axis ends: without it a recall of 1 would lie at infinity."""
_RECALLS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
"""Ticks of the recall axis."""
_RECALL_WANTED = 0.98
"""Recall at which searches are compared; a dashed line."""


def draw(results: Mapping[str, Result], runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write every plot for which there are results; returns the files. runs: the history, the oldest first."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(figure, folder / f"{name}.png") for name, figure in _figures(results, runs)]


def _figures(results: Mapping[str, Result], runs: Sequence[Run]) -> Iterator[tuple[str, Figure]]:
    core = _by_rows(results, "core")
    if core:
        yield "latency", latency(core)
    peers_result = results.get(f"peers-{PEERS_ROWS}")
    if peers_result:
        yield f"recall-{PEERS_ROWS}", recall(peers_result, PEERS_ROWS)
        yield f"peers-{PEERS_ROWS}", peers(peers_result, PEERS_ROWS)
    if runs:
        yield "history", history(runs)


def _by_rows(results: Mapping[str, Result], benchmark: str) -> dict[int, Result]:
    """Return the results of the series BENCHMARK-ROWS, the smallest corpus first."""
    named = {name.removeprefix(f"{benchmark}-"): result for name, result in results.items()}
    return {rows: named[str(rows)] for rows in sorted(int(size) for size in named if size.isdecimal())}


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


def latency(core: Mapping[int, Result]) -> Figure:
    """Return the median by corpus size, ours and FAISS flat, one panel a case; bands reach up to p95."""
    measured = {rows: sweeps(result) for rows, result in core.items()}
    figure, panels = _panels("Search of the 100 nearest, one thread: median, band up to p95", 2, 2, (9.5, 7.5))
    for axes, case in zip(panels, CASES, strict=True):
        for name in (FLAT, OURS):
            points = {rows: sweep.chosen for rows, one in measured.items() if (sweep := one.get(name, {}).get(case))}
            p50, p95 = ([getattr(p, which) / 1e3 for p in points.values()] for which in ("p50_us", "p95_us"))
            axes.plot(list(points), p50, **_style(name))
            axes.fill_between(list(points), p50, p95, color=_style(name)["color"], alpha=0.15, linewidth=0)
            if name == OURS:
                for rows, point in points.items():
                    _note(axes, share(point.recall_100), (rows, point.p50_us / 1e3), below=True)
        axes.set_title(_titled(case), fontsize=10)
        _log(axes, "x", lambda rows: count(round(rows)))
        _log(axes, "y")
        axes.margins(x=0.1, y=0.15)
        axes.set_xticks(sorted(measured))
    for axes in panels[2:]:
        axes.set_xlabel("articles")
    for axes in panels[::2]:
        axes.set_ylabel("latency (ms)")
    _legend(figure, panels, f"below the points of {OURS}: recall@100")
    return figure


def recall(result: Result, rows: int) -> Figure:
    """Return recall by median latency of all efforts of all searches, one panel a case."""
    measured = sweeps(result)
    title = f"Recall against latency, {_corpus(result, rows)}, one core"
    figure, panels = _panels(title, 2, 2, (9.5, 8.0))
    for axes, case in zip(panels, CASES, strict=True):
        axes.axhline(_RECALL_WANTED, color="#555555", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for name, cases in measured.items():
            sweep = cases.get(case)
            points = sweep.points if sweep else ()
            axes.plot([p.p50_us / 1e3 for p in points], [p.recall_100 for p in points], **_style(name))
        axes.set_title(_titled(case), fontsize=10)
        _log(axes, "x")
        axes.set_yscale("function", functions=(_stretched, _unstretched))
        axes.set_yticks(_RECALLS, [f"{value:g}" for value in _RECALLS])
        axes.set_ylim(0, 1.0007)
        axes.minorticks_off()
    for axes in panels[2:]:
        axes.set_xlabel("median latency (ms)")
    for axes in panels[::2]:
        axes.set_ylabel("recall@100 (axis stretched towards 1)")
    _legend(
        figure,
        panels,
        f"dashed: {_RECALL_WANTED:g}, the recall wanted; a search without filters is missing where there is one",
    )
    return figure


def peers(result: Result, rows: int) -> Figure:
    """Return the median at the recall wanted as bars, one panel a case; hatched where the recall was missed."""
    measured = sweeps(result)
    cases = list(next(iter(measured.values()), {}))
    names = sorted(measured, key=lambda name: _unfiltered_us(measured, name), reverse=True)
    deep = -(-len(cases) // 2)
    title = f"Median latency at recall@100 of {_RECALL_WANTED:g} or more, {_corpus(result, rows)}, one core"
    figure, panels = _panels(title, deep, 2, (11.0, 1.3 + 0.21 * (len(names) + 2) * deep))
    shown = [sweep.chosen.p50_us / 1e3 for one in measured.values() for sweep in one.values() if sweep]
    left, right = 10 ** np.floor(np.log10(min(shown, default=1.0))), max(shown, default=1.0) * 8
    for axes, case in zip(panels, cases, strict=False):
        for place, name in enumerate(names):
            _bar(axes, place, name, measured[name].get(case), left)
        axes.set_title(_titled(case), fontsize=10)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlim(left, right)
        _log(axes, "x")
        axes.grid(visible=False, axis="y")
    for axes in islice(panels, len(cases), None):
        axes.set_visible(False)
    for axes in panels[max(0, len(cases) - 2) : len(cases)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("median latency (ms, logarithmic)")
    return figure


def history(runs: Sequence[Run]) -> Figure:
    """Return medians over commits, one line a size: core search and FillSlots, each as time and by its baseline."""
    shown = [run for run in runs if _sized(run, "core") or _sized(run, "service")]
    order = commits(shown)
    figure, panels = _panels("Medians of every run, by commit in order of measuring", 2, 2, (11.0, 8.0), same_y=False)
    sources: tuple[tuple[str, str, Callable[[Run], float | None]], ...] = (
        ("core search of the 100 nearest (ms)", "core", _core_ms),
        ("core search / FAISS flat", "core", lambda run: run.ratios.get(f"{OURS} over {FLAT}, {UNFILTERED}")),
        ("FillSlots by id, first request (ms)", "service", _fill_ms),
        ("FillSlots by id / empty call", "service", lambda run: run.ratios.get("fill_slots by id/1")),
    )
    for axes, (title, benchmark, value) in zip(panels, sources, strict=True):
        for size, (color, marker) in zip(HISTORY_SIZES, _SIZE_STYLES, strict=True):
            points = [
                (order.index(run.commit), y)
                for run in shown
                if run.benchmark == f"{benchmark}-{size}" and (y := value(run)) is not None
            ]
            look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.2}
            axes.plot([x for x, _ in points], [y for _, y in points], label=count(size), **look)
        axes.set_title(title, fontsize=10)
        _log(axes, "y")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.set_xticks(range(len(order)), [commit[:7] + "+" * commit.endswith("+changes") for commit in order])
        axes.tick_params(axis="x", labelrotation=60, labelsize=8)
    _legend(figure, panels, "articles; a commit with + had changes besides")
    return figure


def _sized(run: Run, benchmark: str) -> bool:
    return run.benchmark in {f"{benchmark}-{size}" for size in HISTORY_SIZES}


def _core_ms(run: Run) -> float | None:
    point = run.figures.get("searches", {}).get(OURS, {}).get(UNFILTERED)
    return point["p50_us"] / 1e3 if point else None


def _fill_ms(run: Run) -> float | None:
    case = run.figures.get("cases", {}).get("fill_slots by id/1")
    return case["p50_us"] / 1e3 if case else None


def _bar(axes: Axes, place: int, name: str, sweep: Sweep | None, left: float) -> None:
    if not sweep:
        _note(axes, "no filters", (left, place))
        return
    point = sweep.chosen
    ms = point.p50_us / 1e3
    look = {} if sweep.reached else {"hatch": "////", "fill": False}
    axes.barh(
        place, ms - left, left=left, height=0.75, color=_style(name)["color"], edgecolor=_style(name)["color"], **look
    )
    missed = "" if sweep.reached else f"  recall {share(point.recall_100)}"
    _note(axes, duration(point.p50_us) + missed, (ms, place))


def _unfiltered_us(measured: Sweeps, name: str) -> float:
    sweep = measured[name].get(UNFILTERED)
    return sweep.chosen.p50_us if sweep else np.inf


def _panels(
    title: str, deep: int, wide: int, inches: tuple[float, float], *, same_y: bool = True
) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=inches)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.06)
    panels = figure.subplots(deep, wide, sharex=True, sharey=same_y, squeeze=False).ravel().tolist()
    figure.suptitle(title, fontsize=12)
    for axes in panels:
        axes.grid(visible=True, which="major", color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _style(name: str) -> dict[str, Any]:
    color, marker = _STYLES.get(name, _OTHER)
    look: dict[str, Any] = {"label": name, "color": color, "marker": marker, "markersize": 5, "linewidth": 1.2}
    if name == OURS:
        return look | {"linewidth": 2.0, "zorder": 4}
    if name == FLAT:  # hollow and larger, so that a search as fast shows inside
        return look | {"markersize": 8, "markerfacecolor": "none"}
    return look


def _note(axes: Axes, text: str, at: tuple[float, float], *, below: bool = False) -> None:
    """Write a text to the right of a point, or below it."""
    place = {"xytext": (0, -5), "ha": "center", "va": "top"} if below else {"xytext": (4, 0), "va": "center"}
    axes.annotate(text, at, textcoords="offset points", fontsize=8, color="#222222", **place)


def _legend(figure: Figure, panels: Sequence[Axes], note: str) -> None:
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, title=note, title_fontsize=9)


def _log(axes: Axes, which: str, written: Callable[[float], str] = "{:g}".format) -> None:
    """Make the axis "x" or "y" logarithmic, with ticks written out."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
    axis.set_minor_formatter(NullFormatter())


def _stretched(values: Any) -> Any:
    """Stretch recalls towards 1: equal steps of the axis are equal factors of the share that is missed."""
    return -np.log10(np.maximum(1 + _GAP - values, _GAP / 4))


def _unstretched(values: Any) -> Any:
    return 1 + _GAP - 10**-values


def _titled(case: str) -> str:
    return "no filter" if case == UNFILTERED else f"filter: {case}"


def _corpus(result: Result, rows: int) -> str:
    return f"{count(rows)} vectors ({result.values['corpus']['vectors']})"
