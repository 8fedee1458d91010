"""What a figure depends on besides the code, and the one way to keep a result."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("faiss-cpu", "numpy", "torch", "sentence-transformers", "grpcio", "protobuf")


def describe() -> dict[str, Any]:
    """Return commit, processor, cores, Python and package versions. "+changes": the working tree was not clean."""
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD") + ("+changes" if _git("status", "--porcelain") else ""),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def keep(name: str, values: dict[str, Any]) -> Path:
    """Write a result with the machine's description; returns the file, results/NAME-<UTC time>.json."""
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = RESULTS / f"{name}-{at}.json"
    path.write_text(json.dumps({"benchmark": name, "at": at, "machine": describe(), **values}, indent=1) + "\n")
    return path


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, cwd=RESULTS, check=False).stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
