"""Backups: a consistent copy while others write, checked before it is restored, and nothing left of one that failed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indexer.maintenance.backup import ABOUT, FORMAT, back_up, read_about, restore
from recommender.catalog.articles import Article, EditorLink
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE, usable_snapshot
from recommender.catalog.snapshot.manifest import Manifest, current_snapshot, finished_snapshots
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.catalog.store.store import Store, open_store
from recommender.catalog.store.writes import Upsert
from recommender.errors import CorruptError, InvalidInputError, NotFoundError, StorageError
from tests import ROOT
from tests.building import DIMENSION, FakeEmbedder, article, build_store, open_archive, writes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return the store of a data folder with a snapshot, a change after it, and an editor's link."""
    (tmp_path / "data").mkdir()
    store = build_store(tmp_path / "data", [article(id) for id in "abc"])
    write_snapshot(store, tmp_path / "data" / SNAPSHOTS, DIMENSION)
    store.write(writes([Upsert(article("late"), links=(EditorLink("late", "a", 0, "see"),))]))
    store.delete(["b"])
    yield store
    store.close()


@pytest.fixture
def data_dir(store: Store) -> Path:
    """Return its data folder."""
    return store.path.parent


@pytest.fixture
def backup(data_dir: Path, tmp_path: Path) -> Path:
    """Return a backup of it."""
    back_up(data_dir, tmp_path / "backup")
    return tmp_path / "backup"


def contents(data_dir: Path) -> tuple[dict[str, Article], list[EditorLink], int, str, set[str]]:
    """Return all that a store says."""
    store = open_store(data_dir / STORE_FILE)
    try:
        articles = store.get_many(sorted(store.ids()))
        return articles, list(store.links()), store.revision(), store.encoder, store.withdrawn(["a", "b"])
    finally:
        store.close()


def files(folder: Path) -> list[str]:
    """Return every file under a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# There and back


def test_what_was_backed_up_is_restored(data_dir: Path, backup: Path, tmp_path: Path) -> None:
    """Articles, links, withdrawals, revision, model; and the snapshot, so that the service starts at once."""
    about = restore(backup, tmp_path / "new")
    assert (about.format, about.revision, about.articles, about.encoder) == (FORMAT, 5, 3, FakeEmbedder().info.key)
    assert contents(tmp_path / "new") == contents(data_dir)
    before, after = (current_snapshot(folder / SNAPSHOTS) for folder in (data_dir, tmp_path / "new"))
    assert before is not None
    assert after is not None
    assert after.name == before.name
    opened, live = open_archive(tmp_path / "new")
    opened.close()
    assert (live.folder, live.revision) == (after, 3), "nothing had to be written anew"
    assert read_about(backup) == about


def test_it_holds_nothing_but_what_it_names(backup: Path) -> None:
    """The store, the current snapshot, and the list of both."""
    assert files(backup) == sorted([ABOUT, *read_about(backup).files])
    assert [path.name for path in backup.iterdir() if path.is_dir()] == [SNAPSHOTS]


def test_an_index_without_a_snapshot_can_be_backed_up(data_dir: Path, tmp_path: Path) -> None:
    """Restored, it gets a new one at the start."""
    shutil.rmtree(data_dir / SNAPSHOTS)
    about = back_up(data_dir, tmp_path / "backup")
    assert list(about.files) == [STORE_FILE]
    restore(tmp_path / "backup", tmp_path / "new")
    opened, live = open_archive(tmp_path / "new")
    opened.close()
    assert live.count == 3


def test_a_snapshot_that_is_broken_is_left_out(data_dir: Path, tmp_path: Path) -> None:
    """It would only be found out when it is needed."""
    current = current_snapshot(data_dir / SNAPSHOTS)
    assert current is not None
    (current / "heads.npy").write_bytes(b"broken")
    assert list(back_up(data_dir, tmp_path / "backup").files) == [STORE_FILE]


def test_folders_above_are_made_and_an_empty_one_is_taken(data_dir: Path, tmp_path: Path) -> None:
    """Both for the backup and for what is restored."""
    (tmp_path / "empty").mkdir()
    back_up(data_dir, tmp_path / "a" / "b" / "backup")
    back_up(data_dir, tmp_path / "empty")
    restore(tmp_path / "empty", tmp_path / "c" / "d" / "data")
    assert contents(tmp_path / "c" / "d" / "data") == contents(data_dir)


def test_a_copy_is_consistent_whatever_is_written_meanwhile(data_dir: Path, store: Store, tmp_path: Path) -> None:
    """A writer goes on writing pairs, and snapshots: each copy has whole pairs, and every change of its snapshot."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            store.write(writes([article(f"{number}-left"), article(f"{number}-right")]))
            if number % 5 == 0:
                write_snapshot(store, data_dir / SNAPSHOTS, DIMENSION)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        abouts = [back_up(data_dir, tmp_path / f"backup-{turn}") for turn in range(4)]
    finally:
        stop.set()
        writer.join()
    for turn, about in enumerate(abouts):
        restore(tmp_path / f"backup-{turn}", tmp_path / f"new-{turn}")
        articles, _, revision, _, _ = contents(tmp_path / f"new-{turn}")
        pairs = {id.split("-")[0] for id in articles if "-" in id}
        assert articles.keys() >= {f"{pair}-{side}" for pair in pairs for side in ("left", "right")}
        assert (about.revision, about.articles) == (revision, len(articles)) == (5 + 2 * len(pairs), 3 + 2 * len(pairs))
        for snapshot in finished_snapshots(tmp_path / f"new-{turn}" / SNAPSHOTS):
            assert Manifest.read(snapshot).revision <= revision
    assert abouts[-1].revision > abouts[0].revision


# What is refused


def test_without_an_index_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    """The folder and the remedy are named, and nothing is made."""
    with pytest.raises(NotFoundError) as caught:
        back_up(tmp_path / "nothing", tmp_path / "backup")
    assert str(caught.value) == (
        f"unknown data folder '{tmp_path / 'nothing'}' (run `related-news index ARTICLES` first)"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["data", "file"])
def test_a_target_that_holds_something_is_refused(data_dir: Path, tmp_path: Path, target: str) -> None:
    """What is there stays as it is."""
    (tmp_path / "file").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(InvalidInputError) as caught:
        back_up(data_dir, tmp_path / target)
    assert str(caught.value) == f"{tmp_path / target}: is not empty (name a folder that does not exist yet)"
    assert [name for name in files(tmp_path) if not name.endswith(("-wal", "-shm"))] == [
        name for name in before if not name.endswith(("-wal", "-shm"))
    ]


def test_the_working_folder_is_taken_if_it_is_empty(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named by a dot, which is no name."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    back_up(data_dir, Path())
    assert read_about(tmp_path / "here").articles == 3


def test_a_target_that_cannot_be_made_is_named(data_dir: Path, tmp_path: Path) -> None:
    """A file stands where a folder should be."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=f"{tmp_path / 'file' / 'backup'}: cannot be written: Not a directory"):
        back_up(data_dir, tmp_path / "file" / "backup")


def test_an_index_is_never_written_over(data_dir: Path, backup: Path) -> None:
    """Whoever wants that removes it first."""
    before = contents(data_dir)
    with pytest.raises(InvalidInputError) as caught:
        restore(backup, data_dir)
    assert str(caught.value) == f"{data_dir}: has an index already (choose another data_dir, or remove it)"
    assert contents(data_dir) == before


@pytest.mark.parametrize("name", ["nothing", "data", "file"])
def test_what_is_no_backup_is_named(data_dir: Path, tmp_path: Path, name: str) -> None:
    """A folder that is not there, another folder, a file."""
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError) as caught:
        restore(tmp_path / name, tmp_path / "new")
    assert str(caught.value) == (f"unknown backup '{tmp_path / name}' (name a folder that `related-news backup` made)")
    assert not (tmp_path / "new").exists()
    assert data_dir.exists()


Damage = Callable[[Path], object]


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Damage] = {
    "flipped": flip,
    "cut short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_found_out_before_anything_is_written(backup: Path, tmp_path: Path, damage: str) -> None:
    """Whichever file it is, it is named, and the data folder is not even made."""
    for name in read_about(backup).files:
        whole = (backup / name).read_bytes()
        DAMAGES[damage](backup / name)
        with pytest.raises(CorruptError) as caught:
            restore(backup, tmp_path / "new")
        assert str(caught.value).startswith(f"{backup / name}: ")
        assert caught.value.fix == "use another backup"
        assert not (tmp_path / "new").exists()
        (backup / name).write_bytes(whole)
    assert restore(backup, tmp_path / "new").articles == 3


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "files": 3}', "\xff"])
def test_a_list_that_cannot_be_read_is_named(backup: Path, tmp_path: Path, text: str) -> None:
    """Whatever stands in backup.json."""
    (backup / ABOUT).write_text(text, "latin-1")
    with pytest.raises(CorruptError) as caught:
        restore(backup, tmp_path / "new")
    assert str(caught.value).startswith(f"{backup / ABOUT}: unreadable: ")


def test_a_list_may_not_name_files_elsewhere(backup: Path, tmp_path: Path) -> None:
    """A backup that somebody else made writes into the data folder alone."""
    values = json.loads((backup / ABOUT).read_text())
    values["files"]["../elsewhere"] = values["files"][STORE_FILE]
    (backup / ABOUT).write_text(json.dumps(values))
    shutil.copy(backup / STORE_FILE, tmp_path / "elsewhere")
    with pytest.raises(CorruptError, match=r"unreadable: '\.\./elsewhere' is not in it"):
        restore(backup, tmp_path / "deep" / "new")
    assert not (tmp_path / "deep" / "elsewhere").exists()


# What lies there already


def test_what_an_older_index_left_behind_is_removed(data_dir: Path, store: Store, backup: Path, tmp_path: Path) -> None:
    """A log of SQLite without its store would be read into the restored one; snapshots of a lost future would fit."""
    new = tmp_path / "new"
    (new / SNAPSHOTS).mkdir(parents=True)
    store.write(writes([article(f"other-{i}") for i in range(5)]))
    shutil.copytree(write_snapshot(store, data_dir / SNAPSHOTS, DIMENSION), new / SNAPSHOTS / "000000000010-aaaaaaaa")
    for end in ("-wal", "-shm"):
        shutil.copy(f"{store.path}{end}", new / f"{STORE_FILE}{end}")
    assert (new / f"{STORE_FILE}-wal").stat().st_size > 0
    restore(backup, new)
    assert contents(new)[2] == 5
    restored = open_store(new / STORE_FILE)
    snapshot = usable_snapshot(restored, new / SNAPSHOTS)
    restored.close()
    assert snapshot is not None
    assert finished_snapshots(new / SNAPSHOTS) == [snapshot.folder]


# Failures on the way


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_restore_that_fails_can_be_tried_again(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """However far it came: no index is there that is not whole, and the second time it works."""
    copied: list[Path] = []
    real = shutil.copyfile

    def copy(source: Path, target: Path) -> Path:
        if len(copied) == after:
            raise OSError(5, "Input/output error")
        copied.append(target)
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", copy)
        with pytest.raises(StorageError, match="cannot be written: Input/output error"):
            restore(backup, tmp_path / "new")
    assert not (tmp_path / "new" / STORE_FILE).exists()
    assert not (tmp_path / "new" / SNAPSHOTS).exists()
    assert restore(backup, tmp_path / "new").articles == 3


_PAGE = 4096
_FULL = """
import os, shutil, sys
from pathlib import Path
from indexer.maintenance.backup import back_up, restore
from recommender.errors import DiskFullError
from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
data, disk, backup = map(Path, sys.argv[1:4])
filler, target = disk / "filler", disk / "target"
refused = {"backup": 0, "restore": 0}
for free in map(int, sys.argv[4:]):
    for what in refused:
        filler.unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        room = os.statvfs(disk)
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_frsize - free)
        try:
            if what == "backup":
                back_up(data, target)
            else:
                restore(backup, target)
        except DiskFullError as error:
            assert str(error) == f"{target}: no space left (free space, then try again)", error
            left = [p for p in disk.rglob("*") if p.name not in ("filler", "target", "index.lock")]
            assert left == [], left
            refused[what] += 1
        else:
            assert any((target / SNAPSHOTS).iterdir()), "what does not fit is not left out"
assert min(refused.values()) > 5, refused
assert (target / STORE_FILE).exists()
print("done")
"""


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_of_a_backup(data_dir: Path, backup: Path, tmp_path: Path) -> None:
    """With more and more space freed: an error that says so and no rubbish, until the whole fits.

    Page by page about the end, where the store is copied, checked and opened; in steps before that.
    """
    store, whole = (
        sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in backup.rglob(name) if path.is_file())
        for name in (STORE_FILE, "*")
    )
    end = whole - store - 4 * _PAGE
    frees = [*range(0, end, end // 10 // _PAGE * _PAGE), *range(end, whole + 16 * _PAGE, _PAGE), 2 * whole]
    disk = tmp_path / "disk"
    disk.mkdir()
    arguments = shlex.join(map(str, (data_dir, disk, backup, *frees)))
    script = f"mount -t tmpfs -o size={3 * whole} none {disk}; exec {shlex.quote(sys.executable)} - {arguments}"
    try:
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script], input=_FULL, capture_output=True, text=True, cwd=ROOT
        )
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    if "mount" in ended.stderr and "Traceback" not in ended.stderr:
        pytest.skip(f"this user may not mount: {ended.stderr.strip()}")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("done\n", "", 0)


def test_a_backup_that_was_interrupted_leaves_nothing(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle: the folder is not there, nor the one it was filled under."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("indexer.maintenance.backup.copy_database", interrupt)
    with pytest.raises(KeyboardInterrupt):
        back_up(data_dir, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_store_that_is_damaged_is_not_backed_up(data_dir: Path, store: Store, tmp_path: Path) -> None:
    """A backup of what cannot be read is none: the store is named, not the copy."""
    store.write(writes([article(f"x{i}", paragraphs=["word " * 500]) for i in range(50)]))
    store.close()
    with store.path.open("r+b") as stream:
        stream.seek(40 * 4096)
        stream.write(b"\xa5" * 20 * 4096)
    with pytest.raises(CorruptError, match=f"{store.path}: is damaged"):
        back_up(data_dir, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
