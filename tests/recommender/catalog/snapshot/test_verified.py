"""A restart reads only those files of a snapshot that somebody may have touched since they were found whole."""

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
from recommender.catalog.snapshot.verified import CHECKED, check
from recommender.errors import CorruptError
from tests.recommender.catalog.snapshot.test_manifest import MADE

NAMES = ["a.npy", "b.npy", "c.npy"]
SETTLED_S = 0.05


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a snapshot of three files, written long enough ago."""
    monkeypatch.setattr(verified, "_SETTLED_NS", int(SETTLED_S * 1e9))
    folder = tmp_path / "000000000007-a"
    write(folder)
    time.sleep(2 * SETTLED_S)
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files whose bytes were read, as they are read."""
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
    """Change one bit in place, and put back the times that can be put back."""
    before = path.stat()
    data = path.read_bytes()
    with path.open("r+b") as stream:
        stream.write(bytes([data[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def copy_over(path: Path) -> None:
    """Put a copy in a file's place: the same bytes, size and time of change."""
    shutil.copy2(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def test_a_restart_reads_no_file_again(snapshot: Path, read: list[str]) -> None:
    """Every byte was compared before, in this boot, and nobody has written since."""
    check(snapshot)
    assert sorted(read) == NAMES
    kept = (snapshot.parent / CHECKED).stat()
    check(snapshot)
    assert sorted(read) == NAMES
    assert (snapshot.parent / CHECKED).stat() == kept


def test_a_flipped_bit_is_found_though_size_and_date_are_the_same(snapshot: Path, read: list[str]) -> None:
    """The system notes when a file itself was changed last, which nobody can put back."""
    check(snapshot)
    read.clear()
    flip(snapshot / "b.npy")
    with pytest.raises(CorruptError, match=r"b\.npy: its checksum differs"):
        check(snapshot)
    assert read == ["b.npy"]
    with pytest.raises(CorruptError):
        check(snapshot)


@pytest.mark.parametrize("touch", [copy_over, Path.touch, lambda path: path.chmod(0o600)])
def test_what_was_touched_is_read_again_and_nothing_else(
    snapshot: Path, read: list[str], touch: Callable[[Path], None]
) -> None:
    """A copy in its place is another file; so much the better if its bytes are right."""
    check(snapshot)
    read.clear()
    touch(snapshot / "b.npy")
    check(snapshot)
    assert read == ["b.npy"]


def test_what_was_written_a_moment_ago_is_read_again(tmp_path: Path, read: list[str]) -> None:
    """Times of files are coarse: another write so soon after may not show."""
    write(tmp_path / "new")
    check(tmp_path / "new")
    check(tmp_path / "new")
    assert sorted(read) == sorted(2 * NAMES)


def test_another_boot_reads_everything(
    snapshot: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not on the disk yet when the power failed may be lost, and no time of a file would show it."""
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(verified, "_BOOT", boot)
    for text in ("one\n", "two\n", None):
        boot.unlink() if text is None else boot.write_text(text)
        read.clear()
        check(snapshot)
        assert sorted(read) == NAMES
    read.clear()
    check(snapshot)  # where a boot has no name, nothing is known
    assert sorted(read) == NAMES


def test_a_missing_file_is_named(snapshot: Path) -> None:
    """Found whole before or not."""
    check(snapshot)
    (snapshot / "c.npy").unlink()
    with pytest.raises(CorruptError, match=r"c\.npy: No such file"):
        check(snapshot)


def told(snapshot: Path) -> dict[str, object]:
    """Return what CHECKED holds."""
    values: dict[str, object] = json.loads((snapshot.parent / CHECKED).read_text())
    return values


@pytest.mark.parametrize(
    "told",
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
def test_whatever_is_wrong_with_what_is_remembered_costs_a_reading(
    snapshot: Path, read: list[str], told: bytes | dict[str, object]
) -> None:
    """It says nothing that must be believed, and is right again afterwards."""
    check(snapshot)
    path = snapshot.parent / CHECKED
    right = path.read_bytes()
    path.write_bytes(told if isinstance(told, bytes) else json.dumps(json.loads(right) | told).encode())
    read.clear()
    check(snapshot)
    assert sorted(read) == NAMES
    assert path.read_bytes() == right


def test_where_nothing_can_be_remembered_a_warning_says_so(
    snapshot: Path, read: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The service starts all the same."""
    (snapshot.parent / CHECKED).mkdir()
    check(snapshot)
    check(snapshot)
    assert sorted(read) == sorted(2 * NAMES)
    assert f"the next start checks snapshot {snapshot.name} again" in caplog.text
    assert [path.name for path in snapshot.parent.iterdir() if path.name.startswith(f"{CHECKED}.")] == []
