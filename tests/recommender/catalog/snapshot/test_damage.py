"""Damage to a snapshot is found, and the damaged file is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from recommender.catalog.snapshot.manifest import FORMAT, MANIFEST, Manifest
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.errors import CorruptError, MismatchError
from tests.recommender.catalog.snapshot.making import (
    CODES,
    DAMAGES,
    FILES,
    FLIPPED,
    own,
)

pytestmark = pytest.mark.slow
"""They open an archive for each damage to each file."""


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(folder: Path, whole: Path, name: str) -> None:
    """A damaged file is named before any row is read; one of another size even without checksums."""
    assert_damage_is_named(folder, whole, name)


@pytest.mark.parametrize("name", CODES)
def test_a_damaged_file_of_codes_is_named(many: Path, tmp_path: Path, name: str) -> None:
    """A damaged file of product codes is named, which no other file would contradict."""
    assert_damage_is_named(Path(shutil.copytree(many, tmp_path / "copy", copy_function=os.symlink)), many, name)


def assert_damage_is_named(folder: Path, whole: Path, name: str) -> None:
    """Damage one file of `folder`, a copy of the snapshot `whole`, in every way."""
    path, size = folder / name, (whole / name).stat().st_size
    for damage, problem in DAMAGES.values():
        path.unlink(missing_ok=True)
        shutil.copyfile(whole / name, path)
        damage(path)
        text = problem.format(size=size, half=size // 2, less=size - 1, more=size + 1)
        for verify in (True, False) if text != FLIPPED else (True,):
            with pytest.raises(CorruptError) as caught:
                Snapshot(folder, verify=verify)
            assert str(caught.value) == f"{path}: {text} (an older snapshot is used, or it is rebuilt from the store)"
    path.unlink(missing_ok=True)
    shutil.copyfile(whole / name, path)
    assert Snapshot(folder).rows == Manifest.read(whole).rows


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "longer"])
def test_a_damaged_manifest_is_named(folder: Path, damage: str) -> None:
    """A manifest is damaged in several ways, and named each time."""
    DAMAGES[damage][0](own(folder / MANIFEST))
    with pytest.raises(CorruptError) as caught:
        Snapshot(folder)
    assert str(caught.value).startswith(f"{folder / MANIFEST}: unreadable: ")
    assert caught.value.fix == "an older snapshot is used, or it is rebuilt from the store"


def test_no_bit_of_the_manifest_may_flip(folder: Path) -> None:
    """A manifest with any flipped bit is refused: a wrong revision would hide changes for good."""
    path = own(folder / MANIFEST)
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as stream:
        for at, byte in enumerate(data):
            os.pwrite(stream.fileno(), bytes([byte ^ 1 << at % 8]), at)
            with pytest.raises((CorruptError, MismatchError)) as caught:
                Manifest.read(folder)
            assert str(caught.value).startswith(f"{path}")
            os.pwrite(stream.fileno(), bytes([byte]), at)
    assert Manifest.read(folder).rows == 3


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "3", f'{{"format": {FORMAT}}}', f'{{"format": {FORMAT}, "checksum": 0}}']
)
def test_a_text_that_is_no_manifest_is_named(folder: Path, text: str) -> None:
    """A text that is no manifest is refused, and its file named."""
    own(folder / MANIFEST).write_text(text)
    with pytest.raises(CorruptError) as caught:
        Manifest.read(folder)
    assert str(caught.value).startswith(f"{folder / MANIFEST}: unreadable: ")


def test_a_manifest_of_another_format_is_named(folder: Path) -> None:
    """A later release's snapshot is not read, however it looks inside."""
    own(folder / MANIFEST).write_text(json.dumps({"format": FORMAT + 1, "new": []}))
    with pytest.raises(MismatchError) as caught:
        Snapshot(folder)
    assert str(caught.value) == (
        f"{folder / MANIFEST} has format {FORMAT + 1}, this release reads {FORMAT}"
        " (an older snapshot is used, or it is rebuilt from the store)"
    )


def test_a_folder_in_the_place_of_a_file_is_named(folder: Path) -> None:
    """A folder is not what was written, and is not read."""
    (folder / "heads.npy").unlink()
    (folder / "heads.npy").mkdir()
    with pytest.raises(CorruptError) as caught:
        Snapshot(folder)
    assert str(caught.value).startswith(f"{folder / 'heads.npy'}: ")
