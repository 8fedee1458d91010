"""The Node.js packages of package-lock.json, installed once into node_modules whatever number of tests ask for them."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
LOCK_FILE = FOLDER / "package-lock.json"
MODULES = FOLDER / "node_modules"
INSTALL_TIMEOUT_S = 300
_STAMP = MODULES / ".installed"
_NO_NETWORK = re.compile(
    r"code (ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|E\w*TIMEOUT|ETIMEDOUT|ENETUNREACH|ENOTCACHED)"
)


def install() -> Path:
    """Return node_modules with exactly what the lock file names; one process installs while the others wait.

    Skips the test where there is no Node.js, or no network to install from; any other failure is an error.
    """
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on PATH, so that no Node.js client can run")
    wanted = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    with LOCK_FILE.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_STAMP.is_file() and _STAMP.read_text() == wanted):
            _install()
            _STAMP.write_text(wanted)
    return MODULES


def _install() -> None:
    retries = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", *retries]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    if done.returncode and (unreachable := _NO_NETWORK.search(done.stderr)):
        pytest.skip(f"npm cannot reach its registry to install the Node.js packages: {unreachable[1]}")
    assert done.returncode == 0, f"npm ci failed:\n{done.stderr}"
