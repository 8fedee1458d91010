"""A restart reads only those files of a snapshot that may have changed since an earlier start verified them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recommender.catalog.snapshot import manifest, verified
from recommender.catalog.snapshot.manifest import MANIFEST, FileEntry, crc32_of
from recommender.catalog.snapshot.verified import CHECKED, verify_snapshot
from recommender.errors import CorruptError
from tests.recommender.catalog.snapshot.test_manifest import MADE

NAMES = ["a.npy", "b.npy", "c.npy"]
SETTLED_S = 0.05


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a snapshot of three files that have settled."""
    monkeypatch.setattr(verified, "_SETTLED_NS", int(SETTLED_S * 1e9))
    folder = tmp_path / "000000000007-a"
    write(folder)
    time.sleep(2 * SETTLED_S)
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the files whose bytes are read; it grows as they are."""
    names: list[str] = []

    def reading(path: Path) -> int:
        names.append(path.name)
        return crc32_of(path)

    monkeypatch.setattr(manifest, "crc32_of", reading)
    return names


def write(folder: Path) -> None:
    """Write a snapshot's files and its manifest."""
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
    files = {name: FileEntry(5, crc32_of(folder / name)) for name in NAMES}
    (folder / MANIFEST).write_text(replace(MADE, files=files).to_json())


def flip(path: Path) -> None:
    """Change one bit in place, and restore the times that can be restored."""
    before = path.stat()
    data = path.read_bytes()
    with path.open("r+b") as stream:
        stream.write(bytes([data[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def copy_over(path: Path) -> None:
    """Replace a file by a copy with the same bytes, size and time of modification."""
    shutil.copy2(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def test_a_restart_reads_no_file_again(snapshot: Path, read: list[str]) -> None:
    """A second start compares no checksum and leaves CHECKED alone."""
    verify_snapshot(snapshot)
    assert sorted(read) == NAMES
    before = (snapshot.parent / CHECKED).stat()
    verify_snapshot(snapshot)
    assert sorted(read) == NAMES
    assert (snapshot.parent / CHECKED).stat() == before


def test_a_flipped_bit_is_found_though_size_and_date_are_the_same(snapshot: Path, read: list[str]) -> None:
    """A write shows in the time of the last status change, which no program can restore."""
    verify_snapshot(snapshot)
    read.clear()
    flip(snapshot / "b.npy")
    with pytest.raises(CorruptError, match=r"b\.npy: its checksum differs"):
        verify_snapshot(snapshot)
    assert read == ["b.npy"]
    with pytest.raises(CorruptError):
        verify_snapshot(snapshot)


@pytest.mark.parametrize("touch", [copy_over, Path.touch, lambda path: path.chmod(0o600)])
def test_only_a_touched_file_is_read_again(snapshot: Path, read: list[str], touch: Callable[[Path], None]) -> None:
    """A file that was replaced by a copy, touched, or given other permissions is read again and found whole."""
    verify_snapshot(snapshot)
    read.clear()
    touch(snapshot / "b.npy")
    verify_snapshot(snapshot)
    assert read == ["b.npy"]


def test_a_file_written_a_moment_ago_is_read_again(tmp_path: Path, read: list[str]) -> None:
    """The times of files are coarse, so that another write soon after may not show."""
    write(tmp_path / "new")
    verify_snapshot(tmp_path / "new")
    verify_snapshot(tmp_path / "new")
    assert sorted(read) == sorted(2 * NAMES)


def test_another_boot_reads_everything(
    snapshot: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power may lose what was not on the disk yet, which no time of a file would show."""
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(verified, "_BOOT_ID", boot)
    for text in ("one\n", "two\n", None):
        boot.unlink() if text is None else boot.write_text(text)
        read.clear()
        verify_snapshot(snapshot)
        assert sorted(read) == NAMES
    read.clear()
    verify_snapshot(snapshot)  # without a boot id nothing is remembered
    assert sorted(read) == NAMES


def test_a_missing_file_is_named(snapshot: Path) -> None:
    """A file that is missing is named, also if it was verified before."""
    verify_snapshot(snapshot)
    (snapshot / "c.npy").unlink()
    with pytest.raises(CorruptError, match=r"c\.npy: No such file"):
        verify_snapshot(snapshot)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"boot": ',
        b"\xff",
        {"files": [1]},
        {"files": {"a.npy": 1}},
        {"files": {"a.npy": [1, 5]}},
        {"snapshot": "000000000006-a"},
    ],
)
def test_a_damaged_file_of_stamps_costs_one_reading(
    snapshot: Path, read: list[str], content: bytes | dict[str, object]
) -> None:
    """Every file is read again, and the stamps are right afterwards."""
    verify_snapshot(snapshot)
    path = snapshot.parent / CHECKED
    right_bytes = path.read_bytes()
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(json.loads(right_bytes) | content).encode())
    read.clear()
    verify_snapshot(snapshot)
    assert sorted(read) == NAMES
    assert path.read_bytes() == right_bytes


def test_a_file_of_stamps_that_cannot_be_written_is_a_warning(
    snapshot: Path, read: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The snapshot is verified all the same, and a warning says that the next start does it again."""
    (snapshot.parent / CHECKED).mkdir()
    verify_snapshot(snapshot)
    verify_snapshot(snapshot)
    assert sorted(read) == sorted(2 * NAMES)
    assert f"the next start checks snapshot {snapshot.name} again" in caplog.text
    assert [path.name for path in snapshot.parent.iterdir() if path.name.startswith(f"{CHECKED}.")] == []
