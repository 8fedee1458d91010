"""What the command line and every process of a service log, and where to."""

from __future__ import annotations

import logging
import sys

_FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"
_OWN = ("indexer", "recommender")
"""Packages whose messages are logged from the chosen level on."""


def log_to_stderr(level: str) -> None:
    """Log our own packages from `level` on, and the warnings and errors of libraries."""
    libraries = max(logging.WARNING, logging.getLevelNamesMapping()[level])
    logging.basicConfig(level=libraries, format=_FORMAT, stream=sys.stderr)
    for package in _OWN:
        logging.getLogger(package).setLevel(level)
