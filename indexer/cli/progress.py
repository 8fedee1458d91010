"""Progress on a terminal: a bar for each stage of a job; nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from recommender.catalog.snapshot.progress import Progress
from recommender.catalog.snapshot.writer import PROGRESS_STAGE as SNAPSHOT


@contextmanager
def job_progress(console: Console) -> Iterator[Progress]:
    """Show bars with count, share, rate and time left, for jobs that run long."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TextColumn("{task.fields[rate]}"),
    )
    with _bars(console, *columns) as bars:
        yield _Stages(bars)


@contextmanager
def stage_progress(console: Console) -> Iterator[Progress]:
    """Show bars with count and time left, for jobs of many short stages."""
    with _bars(console, TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bars:
        yield _Stages(bars)


def _bars(console: Console, *columns: ProgressColumn) -> Bars:
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return Bars(*columns, *times, console=console, disable=not console.is_terminal)


class _Stages:
    """A Progress that adds a bar for every stage."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._bar = TaskID(0)
        self._is_rated = True

    def begin(self, stage: str, total: int | None) -> None:
        """Add a bar; that of the snapshot, which takes seconds, shows no rate."""
        self._bar = self._bars.add_task(stage, total=total, rate="")
        self._is_rated = stage != SNAPSHOT

    def advance(self, steps: int = 1) -> None:
        """Move the newest bar on."""
        self._bars.advance(self._bar, steps)
        speed = self._bars.tasks[self._bar].speed
        if speed and self._is_rated:
            self._bars.update(self._bar, rate=f"{speed:.0f}/s")
