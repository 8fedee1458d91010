"""Some damage at the level of the service; every file in every way: python -m tests.soak damage."""

from __future__ import annotations

import random
from pathlib import Path

from tests.soak.damage import CALLS, cut_logs, damaged_snapshots


def test_a_service_starts_beside_a_damaged_snapshot(tmp_path: Path) -> None:
    """The service names the file, uses the older snapshot or writes a new one, and answers as a rebuild does."""
    rng = random.Random(2)
    done = damaged_snapshots(
        tmp_path, lambda cases: [rng.choice([case for case in cases if case.alone == alone]) for alone in (False, True)]
    )
    assert done == 2


def test_a_log_that_was_cut_leaves_whole_calls(tmp_path: Path) -> None:
    """A prefix of the acknowledged calls is left, each as a whole, and new revisions never clash with lost ones."""
    (left,) = cut_logs(tmp_path, seed=3, shares=[0.5])
    assert 0 < left < CALLS
