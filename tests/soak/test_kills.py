"""kill -9 of each kind of process, once, while writers write; 200 rounds of it: python -m tests.soak kills."""

from __future__ import annotations

import random
from pathlib import Path

from tests.soak.kills import Soak, Victim, in_turn


def test_whatever_is_killed_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    """Supervisor, worker, encoder, indexer, reindex, compaction: the service goes on, and answers as a rebuild does."""
    soak = Soak(tmp_path, seed=1)
    soak.rounds(in_turn(random.Random(1), len(Victim)))
    tally = soak.tally
    assert tally.rounds == dict.fromkeys((victim.value for victim in Victim), 1)
    assert tally.writes > 20
    assert tally.plans > 200
