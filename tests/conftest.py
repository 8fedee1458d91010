"""What all tests share: hypothesis profiles, and the guard that keeps model and processes out of `pytest --fast`.

A test is fast unless it is marked slow, or stands in a folder of slow ones. A fast one fails as soon as it starts a
process or imports torch, in the whole suite too: so a new test is in the right set on its first day.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and threads that wait for a core spin

for _profile, _examples in (("fast", 8), ("default", 60), ("thorough", 1_000)):
    settings.register_profile(
        _profile, deadline=None, max_examples=_examples, suppress_health_check=[HealthCheck.too_slow]
    )

_SLOW_FOLDERS = tuple(Path(__file__).parent / name for name in ("benchmarks", "service", "soak"))
"""Folders whose tests are all slow: most of them measure, or serve over gRPC in processes of their own."""
_PROCESS_EVENTS = {"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
"""Audit events of the ways to start a process."""
_HEAVY_MODULES = {"torch", "sentence_transformers", "transformers", "multiprocessing.popen_spawn_posix"}
"""Modules that load the model or start processes without an audit event."""


class _Guard:
    """Refuses processes and heavy imports while it is on, and remembers what it refused."""

    def __init__(self) -> None:
        self.is_on = False
        self.refused: list[str] = []

    def __call__(self, event: str, values: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in _PROCESS_EVENTS:
            self._refuse(f"starts a process ({event})")
        elif event == "import" and values[0] in _HEAVY_MODULES:
            self._refuse(f"imports {values[0]}")

    def _refuse(self, what: str) -> None:
        self.refused.append(what)
        raise RuntimeError(f"a test that is not marked slow {what}")


_guard = _Guard()
sys.addaudithook(_guard)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --fast."""
    parser.addoption(
        "--fast", action="store_true", help="only tests that are not marked slow, with few examples of each property"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples a property is tested with."""
    default = "fast" if config.getoption("--fast") else "default"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", default))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """No test module starts a process or imports torch at its top."""
    _guard.is_on = True
    try:
        return (yield)
    finally:
        _guard.is_on = False


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the tests of slow folders for a fast run."""
    return True if config.getoption("--fast") and collection_path in _SLOW_FOLDERS else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of slow folders, and leave slow tests out of a fast run."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in _SLOW_FOLDERS):
            item.add_marker("slow")
    if config.getoption("--fast"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Guard a test that is not marked slow, its fixtures included."""
    _guard.refused.clear()
    _guard.is_on = item.get_closest_marker("slow") is None
    try:
        return (yield)
    finally:
        _guard.is_on = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that was refused something, also if it caught the error."""
    report = yield
    if _guard.refused and report.passed and call.when == "call":
        report.outcome = "failed"
        report.longrepr = f"mark it slow: it {_guard.refused[0]}"
    return report
