"""Records of a few articles, each read once."""

from __future__ import annotations

from recommender.catalog.live import Live
from recommender.catalog.snapshot.record import Record


class RecordCache:
    """Reads the records of one answer's articles, each once."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._records: dict[int, Record] = {}

    def record(self, row: int) -> Record:
        """Return the record of a row."""
        record = self._records.get(row)
        if record is None:
            record = self._records[row] = self._live.record(row)
        return record
