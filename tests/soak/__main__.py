"""python -m tests.soak: the long forms. Each ends with exit code 1 at the first thing that is not as it must be."""

from __future__ import annotations

import json
import logging
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from benchmarks.machine import keep
from tests.soak import damage as damaging
from tests.soak import kills as killing
from tests.soak import load as loading
from tests.soak.any_sequence import Catalog

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Seed = Annotated[int | None, typer.Option(help="Which random moments. Default: others each time; it is printed.")]


@app.command()
def kills(rounds: Annotated[int, typer.Option(help="How many kills.")] = 200, seed: Seed = None) -> None:
    """Kill -9 every kind of process at random moments."""
    seed = random.randrange(2**32) if seed is None else seed
    print(f"seed {seed}", flush=True)
    with _folder() as folder:
        soak, begun = killing.Soak(folder, seed), time.monotonic()
        soak.rounds(_told(killing.in_turn(random.Random(seed), rounds), rounds))
        values = {**soak.tally.values(), "seed": seed, "seconds": round(time.monotonic() - begun, 1)}
        print(json.dumps(values, indent=1))
        print(keep("soak-kills", values))


def _told(victims: Iterator[killing.Victim], rounds: int) -> Iterator[killing.Victim]:
    for number, victim in enumerate(victims, 1):
        print(f"round {number} of {rounds}: {victim.value}", flush=True)
        yield victim


@app.command()
def load(
    minutes: Annotated[float, typer.Option(help="Minutes of writing; half as long is read without.")] = 10.0,
    articles: Annotated[int, typer.Option(help="Articles of the archive.")] = 3_000,
    workers: Annotated[int, typer.Option(help="Processes that answer.")] = 2,
    writes: Annotated[float, typer.Option(help="Upserts and deletions a second, together.")] = 50.0,
) -> None:
    """Read and write at a steady rate, with and without writing in turn."""
    plan = loading.Plan(articles=articles, workers=workers, writes=writes)
    plan = replace(plan, turns=max(1, round(minutes * 60 / plan.writing_s)))
    with _folder() as folder:
        values = loading.run(folder, plan).values()
    print(json.dumps(values, indent=1))
    print(keep("soak-load", values))
    if values["failures"]:
        raise typer.Exit(1)


@app.command()
def damage(cuts: Annotated[int, typer.Option(help="How often SQLite's log is cut.")] = 30, seed: Seed = None) -> None:
    """Damage each file of a snapshot in every way, and cut SQLite's log at random places."""
    seed = random.randrange(2**32) if seed is None else seed
    print(f"seed {seed}", flush=True)
    rng, begun = random.Random(seed), time.monotonic()
    with _folder() as folder:
        snapshots = damaging.damaged_snapshots(folder / "snapshots", lambda cases: cases)
        print(f"{snapshots} damaged snapshots", flush=True)
        left = damaging.cut_logs(folder / "logs", seed, [1.0, 0.0, *(rng.random() for _ in range(cuts))])
    seconds = round(time.monotonic() - begun, 1)
    values = {"damaged_snapshots": snapshots, "calls": damaging.CALLS, "calls_left_after_cuts": left, "seed": seed}
    print(keep("soak-damage", {**values, "seconds": seconds}))


@app.command()
def sequences(examples: Annotated[int, typer.Option(help="How many random sequences of 50 steps.")] = 500) -> None:
    """Make random sequences of writes, snapshots, switches, restarts and requests, against a dictionary."""
    logging.disable(logging.WARNING)  # of broken snapshots, which is what this is about
    thorough = settings(max_examples=examples, stateful_step_count=50, deadline=None, print_blob=True)
    run_state_machine_as_test(Catalog, settings=thorough)
    print(f"{examples} sequences")


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder for a run; it is left, and named, if that fails."""
    folder = Path(tempfile.mkdtemp(prefix="related-news-soak-"))
    try:
        yield folder
    except BaseException:
        print(f"what it left is in {folder}", flush=True)
        raise
    shutil.rmtree(folder)


if __name__ == "__main__":
    app()
