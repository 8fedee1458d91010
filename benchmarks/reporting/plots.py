"""Kept results as PNG: latency against corpus size, recall against latency, peers at equal recall.

Colours are Okabe and Ito's (2008), told apart by the colour-blind; every search has a shape of its own besides.
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
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.reporting.kept import FLAT, OURS, UNFILTERED, Kept, Sweep, Sweeps, sweeps
from benchmarks.reporting.units import count, duration, share

CASES = (UNFILTERED, "window 10.0%", "site 1.0%", "near sections 1.0%")
"""Of which there are panels: none, and one of each kind of filter."""
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
_OTHER = ("#A08000", "h")
_LEAST_GAP = 0.002
_RECALLS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
_WANTED = 0.98


def draw(results: Mapping[str, Kept], folder: Path) -> list[Path]:
    """Write every plot for which there are results; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(figure, folder / f"{name}.png") for name, figure in _figures(results)]


def _figures(results: Mapping[str, Kept]) -> Iterator[tuple[str, Figure]]:
    core = _by_rows(results, "core")
    if core:
        yield "latency", latency(core)
    for rows, kept in _by_rows(results, "peers").items():
        yield f"recall-{rows}", recall(kept, rows)
        yield f"peers-{rows}", peers(kept, rows)


def _by_rows(results: Mapping[str, Kept], benchmark: str) -> dict[int, Kept]:
    """Return results named BENCHMARK-ROWS, the smallest corpus first."""
    named = {name.removeprefix(f"{benchmark}-"): kept for name, kept in results.items()}
    return {rows: named[str(rows)] for rows in sorted(int(size) for size in named if size.isdecimal())}


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


def latency(core: Mapping[int, Kept]) -> Figure:
    """Return p50 against corpus size, ours and FAISS flat, one panel a case; bands reach up to p95."""
    measured = {rows: sweeps(kept) for rows, kept in core.items()}
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


def recall(kept: Kept, rows: int) -> Figure:
    """Return recall against p50 of all efforts of all searches, one panel a case."""
    measured = sweeps(kept)
    title = f"Recall against latency, {_corpus(kept, rows)}, one core"
    figure, panels = _panels(title, 2, 2, (9.5, 8.0))
    for axes, case in zip(panels, CASES, strict=True):
        axes.axhline(_WANTED, color="#555555", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for name, cases in measured.items():
            sweep = cases.get(case)
            points = sweep.points if sweep else ()
            axes.plot([p.p50_us / 1e3 for p in points], [p.recall_100 for p in points], **_style(name))
        axes.set_title(_titled(case), fontsize=10)
        _log(axes, "x")
        axes.set_yscale("function", functions=(_spread, _gathered))
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
        f"dashed: {_WANTED:g}, the recall wanted; a search without filters is missing where there is one",
    )
    return figure


def peers(kept: Kept, rows: int) -> Figure:
    """Return p50 at the recall wanted as bars, one panel a case; hatched where the recall was missed."""
    measured = sweeps(kept)
    cases = list(next(iter(measured.values()), {}))
    names = sorted(measured, key=lambda name: _unfiltered_us(measured, name), reverse=True)
    deep = -(-len(cases) // 2)
    title = f"Median latency at recall@100 of {_WANTED:g} or more, {_corpus(kept, rows)}, one core"
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


def _panels(title: str, deep: int, wide: int, inches: tuple[float, float]) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=inches)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.06)
    panels = figure.subplots(deep, wide, sharex=True, sharey=True, squeeze=False).ravel().tolist()
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
    if name == FLAT:  # hollow and larger: what is as fast is seen within
        return look | {"markersize": 8, "markerfacecolor": "none"}
    return look


def _note(axes: Axes, text: str, at: tuple[float, float], *, below: bool = False) -> None:
    """Write a figure to the right of what it is of, or below."""
    place = {"xytext": (0, -5), "ha": "center", "va": "top"} if below else {"xytext": (4, 0), "va": "center"}
    axes.annotate(text, at, textcoords="offset points", fontsize=8, color="#222222", **place)


def _legend(figure: Figure, panels: Sequence[Axes], note: str) -> None:
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, title=note, title_fontsize=9)


def _log(axes: Axes, which: str, written: Callable[[float], str] = "{:g}".format) -> None:
    """Make the axis "x" or "y" logarithmic, its figures written out."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
    axis.set_minor_formatter(NullFormatter())


def _spread(values: Any) -> Any:
    """Stretch recalls towards 1: equal steps on the page are equal factors of what is missed."""
    return -np.log10(np.maximum(1 + _LEAST_GAP - values, _LEAST_GAP / 4))


def _gathered(values: Any) -> Any:
    return 1 + _LEAST_GAP - 10**-values


def _titled(case: str) -> str:
    return "no filter" if case == UNFILTERED else f"filter: {case}"


def _corpus(kept: Kept, rows: int) -> str:
    return f"{count(rows)} vectors ({kept.values['corpus']['vectors']})"
