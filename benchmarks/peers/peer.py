"""The interface of every vector search that is measured, and what several implementations share.

Vectors are float16 (n, d), so that every peer stores them exactly and none is judged by another's rounding.
Similarity is the inner product. Rows are in time order, and row numbers are the ids.
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
    """Columns to filter by, one value a row. published_at_ms ascends. section follows content; site does not."""

    published_at_ms: npt.NDArray[np.int64]
    section: npt.NDArray[np.int32]
    site: npt.NDArray[np.int32]

    def label(self, name: Label) -> npt.NDArray[np.int32]:
        """Return one of the two label columns."""
        return self.section if name == "section" else self.site


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows published in [from_ms, until_ms) whose label is one of `codes`. None and "" do not restrict."""

    from_ms: int | None = None
    until_ms: int | None = None
    label: Label | Literal[""] = ""
    codes: tuple[int, ...] = ()


EVERYTHING = Filter()
"""The filter that every row passes."""


class Peer(Protocol):
    """One way to search vectors. Used by one thread of one process."""

    name: str
    version: str
    efforts: tuple[int, ...]
    """Values of the setting that trades time for recall, cheapest first; one value if search is exact or fixed."""
    filters: bool
    """Whether it supports filters."""
    rows_max: int
    """Largest corpus that is tried; a larger one is too slow or too large for this machine."""
    server_pid: int | None
    """The process that searches, if it is not this one."""
    limits: str
    """What it lacks of what is measured here, in a sentence; empty if nothing."""

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Index all rows, on all cores, and leave everything on disk in `folder`, which is empty."""
        ...

    def set_effort(self, effort: int) -> None:
        """Use this one of `efforts` from now on."""
        ...

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Return at most k rows that pass, nearest first."""
        ...

    def disk_bytes(self) -> int:
        """Return its size on disk."""
        ...

    def settings(self) -> dict[str, Setting]:
        """Return every setting that is not a default, and how threads are limited."""
        ...

    def close(self) -> None:
        """Stop what `build` started."""
        ...


class Postings:
    """Rows by label code, for libraries without columns: what an application around them would hold."""

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
