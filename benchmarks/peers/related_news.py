"""This project's own search, as a snapshot has it: rows in time order, scalar and product codes, scopes and windows.

Labels become scopes, which the index caches as in the service: a filter is prepared the first time it is used.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.peers.peer import Columns, Filter, Half, Rows, Setting, Vector, folder_bytes
from recommender.catalog.snapshot.columns import COLUMN_TYPES, Tags, label_code
from recommender.catalog.snapshot.columns import Columns as OurColumns
from recommender.catalog.snapshot.scope import Scope
from recommender.catalog.snapshot.scoped_search import ScopedIndex
from recommender.catalog.vectors import index as vector_index
from recommender.catalog.vectors import product_codes, scalar_codes
from recommender.catalog.vectors.index import Vectors8Bit
from recommender.catalog.vectors.product_codes import ProductCodes
from recommender.catalog.vectors.search_costs import MEASURED

_BATCH = 65_536
"""Rows encoded at once."""
_END_MS = 2**62
"""End of a filter without an end, ms since the epoch."""


class Peer:
    """A ScopedIndex over memory-mapped files like those of a snapshot."""

    name = "related-news"
    version = importlib.metadata.version("related-news")
    efforts: tuple[int, ...] = (0,)
    filters = True
    rows_max = 10_000_000
    server_pid: int | None = None
    limits = ""

    def build(self, vectors: Half, columns: Columns, folder: Path) -> None:
        """Train, encode, write vectors and codes in files like those of a snapshot, and map them."""
        self._folder = folder
        starts = range(0, len(vectors), _BATCH)
        coded = np.lib.format.open_memmap(folder / "mains.npy", "w+", np.uint8, vectors.shape)
        for at in starts:
            coded[at : at + _BATCH] = scalar_codes.encode_8bit(vectors[at : at + _BATCH])
        quantizers = product_codes.train(coded, len(coded))
        encoded = [quantizers.encode(scalar_codes.dequantise_8bit(coded[at : at + _BATCH])) for at in starts]
        np.save(folder / "codes.npy", np.concatenate([codes for codes, _ in encoded]))
        np.save(folder / "lists.npy", np.concatenate([lists for _, lists in encoded]))
        del coded, encoded
        mains, codes, lists = (
            np.load(folder / f"{name}.npy", "r").view(np.ndarray) for name in ("mains", "codes", "lists")
        )
        no_tags = Tags(np.zeros(1 + len(mains), np.int64), np.empty(0, np.uint32))
        product_codes_of_all = ProductCodes(quantizers, codes, lists)
        self._index = ScopedIndex(Vectors8Bit(mains), product_codes_of_all, _our(columns), no_tags)
        self._query = self._rotated = np.empty(0, np.float32)
        vector_index.limit_threads(1)

    def set_effort(self, effort: int) -> None:
        """Do nothing: the product chooses the effort itself."""

    def search(self, query: Vector, k: int, wanted: Filter) -> Rows:
        """Search a window in a scope. As in the product, a query's vector is rotated once for all its searches."""
        if query is not self._query:
            self._query, self._rotated = query, scalar_codes.rotate(query)
        until_ms = _END_MS if wanted.until_ms is None else wanted.until_ms - 1
        return self._index.search(self._rotated, k, wanted.from_ms or 0, until_ms, _scope(wanted)).rows

    def disk_bytes(self) -> int:
        """Return the size of vectors, codes and lists."""
        return folder_bytes(self._folder)

    def settings(self) -> dict[str, Setting]:
        """Return the product's own constants."""
        costs = {name: value for name, value in asdict(MEASURED).items() if isinstance(value, int | float)}
        constants = {
            name.lower(): value
            for module in (product_codes, scalar_codes)
            for name in dir(module)
            if name.isupper() and isinstance(value := getattr(module, name), int | float)
        }
        return {**costs, **constants, "threads": 1}

    def close(self) -> None:
        """Do nothing: nothing was started."""


def _scope(wanted: Filter) -> Scope:
    labels = frozenset(map(str, wanted.codes))
    if wanted.label == "section":
        return Scope(sections=labels)
    return Scope(sites=labels) if wanted.label == "site" else Scope()


def _our(columns: Columns) -> OurColumns:
    """Return the columns as the catalog has them; those that no filter reads are 0."""
    values = {name: np.zeros(len(columns.site), kind) for name, kind in COLUMN_TYPES.items()}
    values["published_at_ms"] = values["public_at_ms"] = columns.published_at_ms
    for name in ("section", "site"):
        codes = columns.label(name)
        of_label = [label_code(str(code)) for code in range(int(codes.max(initial=0)) + 1)]
        values[name] = np.array(of_label, np.uint32)[codes]
    return OurColumns(**values)
