"""How a long job reports its progress: writing a snapshot, indexing, reindexing, an evaluation."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a job, stage by stage; called on the thread that runs the job."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage begins. total: number of its steps, None if not known."""
        ...

    def advance(self, steps: int = 1) -> None:
        """More steps of the present stage are done."""
        ...


class _Silent:
    def begin(self, stage: str, total: int | None) -> None:
        """Do nothing."""

    def advance(self, steps: int = 1) -> None:
        """Do nothing."""


SILENT: Progress = _Silent()
"""Reports to nobody."""
