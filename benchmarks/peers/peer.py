"""The interface that every vector search is measured behind, and what several implementations share.

Vectors are float16 (n, d), which all hold exactly in whatever precision: no one is judged by another's rounding.
Nearness is the inner product. Rows are in time order and their numbers are the ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Half = npt.NDArray[np.float16]
Vector = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Setting = str | int | float | bool
Label = Literal["section", "site"]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What filters look at, one value a row. published_at_ms ascends. section follows content; site does not."""

    published_at_ms: npt.NDArray[np.int64]
    section: npt.NDArray[np.int32]
    site: npt.NDArray[np.int32]

    def label(self, name: Label) -> npt.NDArray[np.int32]:
        """Return one of the two label columns."""
        return self.section if name == "section" else self.site


@dataclass(frozen=True, slots=True)
class Filter:
    """Published in [from_ms, until_ms), and the label one of `codes`. None and "" do not narrow."""

    from_ms: int | None = None
    until_ms: int | None = None
    label: Label | Literal[""] = ""
    codes: tuple[int, ...] = ()


EVERYTHING = Filter()


class Peer(Protocol):
    """One way to search vectors. Used by one thread of one process."""

    name: str
    version: str
    efforts: tuple[int, ...]
    """Values of the knob that buys recall with time, cheapest first; one value where search is exact or fixed."""
    filters: bool
    """Whether it takes a filter that narrows."""
    rows_max: int
    """More rows are not tried: too slow, or too large for this machine."""
    server_pid: int | None
    """The process that searches, if it is not this one."""
    limits: str
    """What it does not do, in a sentence; empty if nothing that is measured here."""

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Index all rows, on all cores, and leave everything on disk in `folder`, which is empty."""
        ...

    def set_effort(self, effort: int) -> None:
        """Search with this much effort from now on."""
        ...

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Return at most k rows that pass, nearest first."""
        ...

    def disk_bytes(self) -> int:
        """Return what it keeps on disk."""
        ...

    def settings(self) -> dict[str, Setting]:
        """Return every setting that was not left at its default, and how threads are bounded."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


class Postings:
    """Rows by label code, for libraries that know vectors only: what an application around them would keep."""

    def __init__(self, columns: Columns) -> None:
        """Sort the rows of each label by code."""
        self._published_at_ms = columns.published_at_ms
        self._sorted = {name: _by_code(columns.label(name)) for name in ("section", "site")}

    def range(self, wanted: Filter) -> tuple[int, int]:
        """Return the rows [low, high) of the filter's time window."""
        low = 0 if wanted.from_ms is None else int(np.searchsorted(self._published_at_ms, wanted.from_ms))
        high = len(self._published_at_ms)
        return low, high if wanted.until_ms is None else int(np.searchsorted(self._published_at_ms, wanted.until_ms))

    def rows(self, wanted: Filter) -> Rows:
        """Return the rows that pass, in no order."""
        low, high = self.range(wanted)
        if not wanted.label:
            return np.arange(low, high)
        rows, starts = self._sorted[wanted.label]
        passing = np.concatenate([rows[starts[code] : starts[code + 1]] for code in wanted.codes])
        return passing if high - low == len(rows) else passing[(passing >= low) & (passing < high)]

    def mask(self, wanted: Filter) -> npt.NDArray[np.bool_]:
        """Return bool (n,): which rows pass."""
        mask = np.zeros(len(self._published_at_ms), np.bool_)
        mask[self.rows(wanted)] = True
        return mask


def _by_code(codes: npt.NDArray[np.int32]) -> tuple[Rows, npt.NDArray[np.int64]]:
    order = np.argsort(codes, kind="stable")
    return order, np.searchsorted(codes[order], np.arange(int(codes.max(initial=0)) + 2))


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def where(wanted: Filter) -> str:
    """Return the filter as an SQL condition over columns published_at_ms, section and site; "" for none."""
    parts = [] if wanted.from_ms is None else [f"published_at_ms >= {wanted.from_ms}"]
    parts += [] if wanted.until_ms is None else [f"published_at_ms < {wanted.until_ms}"]
    parts += [f"{wanted.label} IN ({', '.join(map(str, wanted.codes))})"] if wanted.label else []
    return " AND ".join(parts)
