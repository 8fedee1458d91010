"""Writing a snapshot to a full disk: the old one stays, and the error says why."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recommender.catalog.snapshot.manifest import MANIFEST, current_snapshot
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.store.store import Store
from recommender.errors import DiskFullError
from tests import ROOT
from tests.recommender.catalog.snapshot.making import FILES, OTHER_NAMES, leftovers, write


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full here")
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_the_old_snapshot_stays_whichever_file_does_not_fit(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A full disk is an error of its own, however small the file, and nothing is left behind."""
    old = write(store)
    opened = Path.open

    def open_full(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        full = path.name == name and "w" in mode
        return opened(Path("/dev/full") if full else path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(DiskFullError) as caught:
            write(store)
    assert str(caught.value) == (
        f"{old.parent}: no space left for a snapshot; the previous one stays in use (free space, then try again)"
    )
    assert (current_snapshot(old.parent), leftovers(old.parent)) == (old, [])
    assert {p.name for p in old.parent.iterdir()} == {old.name, *OTHER_NAMES}
    assert Snapshot(old).rows == 3


_FILLER = """
import sys
from pathlib import Path
from recommender.catalog.snapshot.manifest import current_snapshot
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.errors import DiskFullError
from tests.building import DIMENSION, build_store, article
folder = Path(sys.argv[1])
store = build_store(folder, [article(f"x{i}") for i in range(20)])
snapshots = folder / "snapshots"
old = write_snapshot(store, snapshots, DIMENSION)
filler = folder / "filler"
refused = 0
for free in range(0, 4_600_000, 200_000):
    filler.unlink(missing_ok=True)
    with filler.open("wb", buffering=0) as stream:
        while True:
            try:
                stream.write(bytes(4096))
            except OSError:
                break
        stream.truncate(max(0, stream.tell() - free))
    try:
        write_snapshot(store, snapshots, DIMENSION)
    except DiskFullError as error:
        assert str(error).startswith(f"{snapshots}: no space left for a snapshot"), error
        assert current_snapshot(snapshots) == old
        assert [p for p in snapshots.iterdir() if p.is_dir()] == [old], list(snapshots.iterdir())
        refused += 1
    else:
        break
assert refused > 20, refused
assert current_snapshot(snapshots) != old
assert Snapshot(current_snapshot(snapshots)).rows == 20
print("done")
"""


@pytest.mark.slow
def test_a_small_disk_refuses_a_snapshot_until_there_is_space(tmp_path: Path) -> None:
    """On a full disk on which more and more space is freed, the old snapshot stays until the new one is whole."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"mount -t tmpfs -o size=12m none {shlex.quote(str(disk))}; exec {shlex.quote(sys.executable)} - {disk}"
    try:
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script], input=_FILLER, capture_output=True, text=True, cwd=ROOT
        )
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    if "mount" in ended.stderr and "Traceback" not in ended.stderr:
        pytest.skip(f"this user may not mount: {ended.stderr.strip()}")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("done\n", "", 0)
