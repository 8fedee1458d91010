"""Some seconds of steady reading and writing; ten minutes of it, with figures: python -m tests.soak load."""

from __future__ import annotations

from pathlib import Path

from tests.soak.load import Plan, run


def test_under_load_nothing_fails_and_nothing_withdrawn_is_shown(tmp_path: Path) -> None:
    """Pages are filled while fifty articles a second come and go and every worker swaps in a new snapshot."""
    plan = Plan(
        articles=500, readers=2, living=10, turns=1, quiet_s=1.0, writing_s=4.5, warm_up_s=0.5, compact_after=60
    )
    outcome = run(
        tmp_path,
        plan,
        lambda written, swaps: len(swaps) >= plan.workers and len(written.gone_s) > 10 and len(written.takedown_s) >= 3,
    )
    assert outcome.errors == []
    assert outcome.shown_after_withdrawal == []
    assert len(outcome.written.gone_s) > 10
    assert len(outcome.swaps) >= plan.workers
    assert len(outcome.written.takedown_s) >= 3
    assert len(outcome.latencies(writing=True)) > 50
