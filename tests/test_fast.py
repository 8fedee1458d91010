"""The guard of tests/conftest.py: what a test that is not marked slow may not do, and what a fast run leaves out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

TESTS = """
import multiprocessing
import os
import subprocess
import sys

import pytest


def test_plain():
    pass


def test_starts_a_process():
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def test_forks():
    if not os.fork():
        os._exit(0)


def test_spawns():
    multiprocessing.get_context("spawn").Process(target=print).start()


def test_imports_torch_and_hides_it():
    try:
        import torch
    except RuntimeError:
        pass


@pytest.fixture
def process():
    return subprocess.run([sys.executable, "-c", "pass"], check=True)


def test_has_a_fixture_that_starts_a_process(process):
    pass


@pytest.mark.slow
def test_may_start_a_process(process):
    pass
"""


def outcomes(folder: Path, tests: str, *options: str) -> dict[str, str]:
    """Run tests under the guard; returns the outcome of each by its name."""
    (folder / "test_some.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "tests.conftest", "-p", "no:cacheprovider", *options]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "protos")))}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False)
    return dict(re.findall(r"^(?:test_some.py::)?(\S+) (PASSED|FAILED|ERROR)\s+\[", done.stdout, re.MULTILINE)) or {
        "": done.stdout
    }


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--fast",)], ids=["whole", "fast"])
def test_only_slow_tests_start_processes_and_load_the_model(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A test that does without the mark fails, also if it catches the error; a fast run leaves marked ones out."""
    expected = {
        "test_plain": "PASSED",
        "test_starts_a_process": "FAILED",
        "test_forks": "FAILED",
        "test_spawns": "FAILED",
        "test_imports_torch_and_hides_it": "FAILED",
        "test_has_a_fixture_that_starts_a_process": "ERROR",
    }
    if not options:
        expected["test_may_start_a_process"] = "PASSED"
    assert outcomes(tmp_path, TESTS, *options) == expected


@pytest.mark.slow
def test_no_test_module_loads_the_model_when_it_is_imported(tmp_path: Path) -> None:
    """An import of torch at the top of a module is an error of collection."""
    (output,) = outcomes(tmp_path, "import torch\n").values()
    assert "a test that is not marked slow imports torch" in output
