"""Which files of a snapshot an earlier start verified and nobody has changed since: a restart need not read them.

Comparing checksums reads the whole snapshot. docs/measurements.md says what that costs, and what a restart saves.

Like make and git, this goes by what the file system says of a file, which any write to it changes. It holds for one
boot of the system: after a loss of power everything is read again. The file CHECKED beside the snapshots remembers it.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from recommender.catalog.snapshot.files import replace_file
from recommender.catalog.snapshot.manifest import Manifest

CHECKED = "CHECKED"
"""Name of the file of stamps."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The system's file that holds another id after each boot."""
_SETTLED_NS = 2_000_000_000
"""Remember a file only this long after its last change: a file system's times may be too coarse to show another one."""

Stamp = tuple[int, ...]

log = logging.getLogger(__name__)


def verify_snapshot(folder: Path) -> None:
    """Compare the checksums of a snapshot's files, except of those that an earlier start verified.

    Raises CorruptError naming a file that is missing or damaged, MismatchError if another release wrote the snapshot.
    """
    manifest = Manifest.read(folder)
    begun_ns = time.time_ns()
    stamps = {name: stamp for name, entry in manifest.files.items() if (stamp := _stamp(folder / name, entry.crc32))}
    verified = {name for name, stamp in _read_stamps(folder).items() if stamps.get(name) == stamp}
    manifest.check_files(folder, verify=True, verified=verified)
    log.info(
        "snapshot %s is whole; untouched since an earlier start: %d of %d files",
        folder.name,
        len(verified),
        len(stamps),
    )
    if len(verified) < len(stamps):
        _write_stamps(folder, {name: stamp for name, stamp in stamps.items() if begun_ns - stamp[-1] > _SETTLED_NS})


def _stamp(path: Path, crc32: int) -> Stamp | None:
    """Return what any change of a file changes, last the time of that change; None if there is no such file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return crc32, stat.st_size, stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def _boot_id() -> str:
    """Return the id of this boot of the system, or an empty one."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _read_stamps(folder: Path) -> dict[str, Stamp]:
    """Return the stamps that the files of a snapshot had when they were verified in this boot."""
    try:
        values = json.loads((folder.parent / CHECKED).read_text("utf-8"))
        if not _boot_id() or [values["boot"], values["snapshot"]] != [_boot_id(), folder.name]:
            return {}
        return {name: tuple(stamp) for name, stamp in values["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _write_stamps(folder: Path, stamps: dict[str, Stamp]) -> None:
    values = {"boot": _boot_id(), "snapshot": folder.name, "files": stamps}
    try:
        replace_file(folder.parent / CHECKED, json.dumps(values, indent=1) + "\n")
    except OSError as error:
        log.warning("the next start checks snapshot %s again: %s", folder.name, error)
