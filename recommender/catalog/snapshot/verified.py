"""Which files of a snapshot an earlier start found whole and nobody has touched since; a restart need not read them.

To compare checksums takes as long as to read a snapshot: a second or two for a million articles, half a minute for ten.
As make and git do, this goes by what the file system says of a file, which any write to it changes. It holds for one
boot of the system: after a loss of power everything is read again. The file CHECKED beside the snapshots remembers it.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from recommender.catalog.snapshot.files import put_in_place
from recommender.catalog.snapshot.manifest import Manifest

CHECKED = "CHECKED"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SETTLED_NS = 2_000_000_000
"""Times of files may be as coarse as this: what was written so shortly before may be written again unseen."""

Stamp = tuple[int, ...]

log = logging.getLogger(__name__)


def check(folder: Path) -> None:
    """Compare the checksums of a snapshot's files, those apart that were found whole and are untouched since.

    Raises CorruptError naming the file that is not what was written, MismatchError if the snapshot is not ours.
    """
    manifest = Manifest.read(folder)
    begun_ns = time.time_ns()
    stamps = {name: stamp for name, entry in manifest.files.items() if (stamp := _stamp(folder / name, entry.crc32))}
    whole = {name for name, stamp in _remembered(folder).items() if stamps.get(name) == stamp}
    manifest.check_files(folder, verify=True, whole=whole)
    log.info(
        "snapshot %s is whole; untouched since an earlier start: %d of %d files", folder.name, len(whole), len(stamps)
    )
    if len(whole) < len(stamps):
        _remember(folder, {name: stamp for name, stamp in stamps.items() if begun_ns - stamp[-1] > _SETTLED_NS})


def _stamp(path: Path, crc32: int) -> Stamp | None:
    """Return what tells a file that is untouched, when it was itself changed last; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return crc32, found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _boot() -> str:
    """Return what names this boot of the system, or nothing."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _remembered(folder: Path) -> dict[str, Stamp]:
    """Return the stamps that a snapshot's files had when they were found whole, in this boot."""
    try:
        told = json.loads((folder.parent / CHECKED).read_text("utf-8"))
        if not _boot() or [told["boot"], told["snapshot"]] != [_boot(), folder.name]:
            return {}
        return {name: tuple(stamp) for name, stamp in told["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _remember(folder: Path, stamps: dict[str, Stamp]) -> None:
    told = {"boot": _boot(), "snapshot": folder.name, "files": stamps}
    try:
        put_in_place(folder.parent / CHECKED, json.dumps(told, indent=1) + "\n")
    except OSError as error:
        log.warning("the next start checks snapshot %s again: %s", folder.name, error)
