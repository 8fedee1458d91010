"""Manifests, and which snapshot is the current one; test_damage.py has damage to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recommender.catalog.snapshot.manifest import (
    CURRENT,
    FORMAT,
    MANIFEST,
    FileEntry,
    Manifest,
    check_file,
    crc32_of,
    current_snapshot,
    finished_snapshots,
    unfinished_snapshots,
)
from recommender.errors import CorruptError

MADE = Manifest(
    format=FORMAT,
    revision=7,
    encoder="modèle@0123456789ab/recipe",
    analysis="terms-1",
    statistics=2,
    dimension=3,
    rows=4,
    trained_rows=3,
    created_at_ms=1_780_000_000_000,
    files={"a.npy": FileEntry(10, 2**32 - 1), "b.npy": FileEntry(0, 0)},
)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every field is read back, in whatever order the keys are."""
    (tmp_path / MANIFEST).write_text(MADE.to_json())
    assert Manifest.read(tmp_path) == MADE
    reversed_values = dict(reversed(json.loads(MADE.to_json()).items()))
    (tmp_path / MANIFEST).write_text(json.dumps(reversed_values))
    assert Manifest.read(tmp_path) == MADE


@pytest.mark.parametrize("change", [{"extra": 1}, {"revision": 8}, {"files": {}}])
def test_a_manifest_changed_by_hand_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """A change by hand shows in the checksum, which is over everything else in the manifest."""
    (tmp_path / MANIFEST).write_text(json.dumps({**json.loads(MADE.to_json()), **change}))
    with pytest.raises(CorruptError, match="its checksum differs"):
        Manifest.read(tmp_path)


def test_a_file_is_checked_by_size_and_when_asked_by_checksum(tmp_path: Path) -> None:
    """A file of the right size passes unless its checksum is compared."""
    path = tmp_path / "a.npy"
    path.write_bytes(b"abc")
    entry = FileEntry(3, crc32_of(path))
    check_file(path, entry, verify=True)
    path.write_bytes(b"abd")
    check_file(path, entry, verify=False)
    with pytest.raises(CorruptError, match=r"its checksum differs from the manifest's \(rebuild it\)"):
        check_file(path, entry, verify=True, fix="rebuild it")


def test_the_current_one_comes_first_then_the_newest(tmp_path: Path) -> None:
    """Snapshots are sorted by their names, which begin with the revision; unfinished ones are listed apart."""
    for name in ("000000000009-b", "000000000010-a", "000000000002-c", "new-0a"):
        (tmp_path / name).mkdir()
    (tmp_path / "writer.lock").touch()
    names = ["000000000010-a", "000000000009-b", "000000000002-c"]
    assert [path.name for path in finished_snapshots(tmp_path)] == names
    (tmp_path / CURRENT).write_text("000000000009-b\n")
    assert current_snapshot(tmp_path) == tmp_path / "000000000009-b"
    assert [path.name for path in finished_snapshots(tmp_path)] == [names[1], names[0], names[2]]
    assert unfinished_snapshots(tmp_path) == [tmp_path / "new-0a"]


def test_a_missing_folder_has_no_snapshots(tmp_path: Path) -> None:
    """A folder that is missing has no snapshots."""
    missing = tmp_path / "snapshots"
    assert (current_snapshot(missing), finished_snapshots(missing), unfinished_snapshots(missing)) == (None, [], [])
