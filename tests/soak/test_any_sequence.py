"""Some random sequences of writes, restarts and requests; 500 longer ones: python -m tests.soak sequences."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.soak.any_sequence import Catalog


def test_any_sequence_is_that_of_a_dictionary() -> None:
    """After any sequence of events the archive equals the dictionary, and answers as a rebuild does, byte for byte."""
    run_state_machine_as_test(Catalog, settings=settings(max_examples=8, stateful_step_count=20))
