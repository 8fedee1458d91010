"""Snapshots: what is read is what was written, damage is found by name, and there is always one whole current one."""

from __future__ import annotations

import errno
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from threading import Thread
from types import ModuleType

import numpy as np
import pytest

from recommender import opening
from recommender.catalog import rows, snapshot_files, snapshot_writer, stored
from recommender.catalog import store as store_module
from recommender.catalog.articles import Paragraph, ParagraphKind, Rules
from recommender.catalog.derived import ANALYSIS, analyse
from recommender.catalog.manifest import CURRENT, FORMAT, MANIFEST, Manifest, current_snapshot
from recommender.catalog.segment import Columns, Record
from recommender.catalog.snapshot import Snapshot
from recommender.catalog.snapshot_writer import KEPT_SNAPSHOTS, write_snapshot
from recommender.catalog.store import Store, open_store
from recommender.catalog.wording import TERM_BUCKETS, TermStatistics, make_signature
from recommender.errors import CorruptError, DiskFullError, MismatchError, StorageError
from recommender.opening import SNAPSHOTS, replay
from tests.building import DAY_MS, DIMENSION, NOW_MS, FakeEmbedder, article, build_store, open_archive, writes

ROOT = Path(__file__).parents[2]
FILES = (
    *(f"column_{field.name}.npy" for field in fields(Columns)),
    "hashes.npy",
    "heads.npy",
    "idf.npy",
    "record_offsets.npy",
    "records.bin",
    "rows_by_hash.npy",
    "signatures.npy",
    "sketches.npy",
    "sorted_hashes.npy",
    "tag_codes.npy",
    "tag_offsets.npy",
    "vectors.faiss",
)
KEPT = (CURRENT, "writer.lock")
"""Names in a snapshots folder beside the snapshots'."""
ARTICLES = [
    article(
        "full",
        title="A Vienna deal",
        summary="Sum",
        paragraphs=["Envoys met.", Paragraph("Map", ParagraphKind.MEDIA), "", Paragraph("Next", ParagraphKind.HEADING)],
        tags=["x", "y"],
        days_ago=3,
        rules=Rules(never_with=("b", "c"), evergreen=True),
    ),
    article("bare", paragraphs=(), url="", section="", site="", language="", days_ago=9),
    article("later", days_ago=20, tags=["y"], rules=Rules(embargo_until_ms=NOW_MS - DAY_MS, never_target=True)),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store of a few articles."""
    store = build_store(tmp_path, ARTICLES)
    yield store
    store.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a whole snapshot; copy it to change it."""
    folder = tmp_path_factory.mktemp("whole")
    store = build_store(folder, ARTICLES)
    path = write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of the snapshot that the test may damage; see `own` for its files."""
    return Path(shutil.copytree(whole, tmp_path / "copy", copy_function=os.symlink))


def own(path: Path) -> Path:
    """Make one file of `folder` a file of its own: they are links, since copies of all take long."""
    target = path.resolve()
    path.unlink()
    return Path(shutil.copyfile(target, path))


def write(store: Store) -> Path:
    """Write a snapshot of the store."""
    return write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION)


def leftovers(folder: Path) -> list[str]:
    """Return what is under a snapshots folder beside finished snapshots and CURRENT."""
    return [p.name for p in folder.iterdir() if p.name not in KEPT and not (p / MANIFEST).is_file()]


# Contents


def test_rows_are_the_articles_in_time_order(store: Store) -> None:
    """Every column, record, vector, signature and sketch is the article's, rows by the time of becoming public."""
    snapshot = Snapshot(write(store))
    in_time = [ARTICLES[i] for i in (1, 0, 2)]
    expected = store.stored([a.id for a in ARTICLES])
    assert snapshot.rows == 3
    assert [snapshot.find(a.id) for a in in_time] == [0, 1, 2]
    assert snapshot.find("nothing") is None
    for row, a in enumerate(in_time):
        kept = expected[a.id]
        terms = kept.analysis.terms
        signature = make_signature(terms, snapshot.idf)
        values = [getattr(snapshot.columns, field.name)[row] for field in fields(Columns)]
        assert values == list(Columns.row_of(a, terms.words))
        assert snapshot.signatures[row].tolist() == signature.pack().tolist()
        assert snapshot.sketches[row].tolist() == kept.analysis.sketch.tolist()
        assert snapshot.main_vectors(np.array([row]))[0].tolist() == kept.vectors.main.tolist()
        assert snapshot.head_vector(row).tolist() == kept.vectors.head.tolist()
        record = snapshot.record(row)
        for field in fields(Record):
            if hasattr(a, field.name):
                assert getattr(record, field.name) == getattr(a, field.name), field.name
        assert record.never_with == a.rules.never_with
        assert record.surfaces == tuple(terms.surfaces[i] for i in signature.order)
        assert record.masks.tolist() == terms.masks[signature.order].tolist()
    assert snapshot.record(1).kinds == "1332", "a paragraph without text counts as media"


def test_the_manifest_tells_what_it_is_an_image_of(store: Store) -> None:
    """Revision, model, analysis, sizes, and each file with its size."""
    store.delete(["bare"])
    path = write(store)
    manifest = Manifest.read(path)
    assert (manifest.format, manifest.revision, manifest.rows, manifest.removed_rows) == (FORMAT, 4, 2, 0)
    assert (manifest.encoder, manifest.analysis, manifest.dimension) == (store.encoder, ANALYSIS, DIMENSION)
    assert {name: entry.size for name, entry in manifest.files.items()} == {
        name: (path / name).stat().st_size for name in FILES
    }
    assert sorted(p.name for p in path.iterdir()) == sorted((*FILES, MANIFEST))


def test_idf_is_that_of_the_archive(store: Store) -> None:
    """The table is counted over all articles of the image."""
    snapshot = Snapshot(write(store))
    expected = TermStatistics.count(s.analysis.terms for s in store.stored([a.id for a in ARTICLES]).values())
    assert snapshot.idf.shape == (TERM_BUCKETS,)
    assert (snapshot.idf == expected.idf()).all()


def test_an_empty_store_has_a_snapshot(tmp_path: Path) -> None:
    """No articles is an archive too."""
    store = build_store(tmp_path, [])
    snapshot = Snapshot(write(store))
    store.close()
    assert (snapshot.rows, snapshot.manifest.revision, snapshot.vectors.has_graph) == (0, 0, False)
    assert snapshot.find("a") is None


def test_progress_is_told_from_nothing_to_all(store: Store) -> None:
    """The last call says that all is done."""
    told: list[tuple[int, int]] = []
    write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION, lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (3, 3)]


def test_an_image_is_of_one_revision_whatever_is_written_meanwhile(store: Store) -> None:
    """Changes that are committed while it is being written are not in it."""

    def change(done: int, total: int) -> None:
        if done < total:
            store.write(writes([article("new"), replace(ARTICLES[0], title="Changed")]))
            store.delete(["later"])

    path = write_snapshot(store, store.path.parent / SNAPSHOTS, DIMENSION, change)
    snapshot = Snapshot(path)
    assert (snapshot.manifest.revision, store.revision(), snapshot.rows) == (3, 6, 3)
    assert [snapshot.record(row).title for row in range(3)] == [ARTICLES[i].title for i in (1, 0, 2)]


# Damage

Damage = Callable[[Path], object]


def flip(at: Callable[[int], int]) -> Damage:
    """Return what flips one bit of the byte at a place that depends on the file's size."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at(len(data))] ^= 4
        path.write_bytes(data)

    return damage


def cut(to: Callable[[int], int]) -> Damage:
    """Return what cuts or lengthens a file to a length that depends on its size."""
    return lambda path: os.truncate(path, to(path.stat().st_size))


FLIPPED = "its checksum differs from the manifest's"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "emptied": (cut(lambda _: 0), "0 bytes, expected {size}"),
    "cut in half": (cut(lambda size: size // 2), "{half} bytes, expected {size}"),
    "last byte lost": (cut(lambda size: size - 1), "{less} bytes, expected {size}"),
    "longer": (cut(lambda size: size + 1), "{more} bytes, expected {size}"),
    "first byte flipped": (flip(lambda _: 0), FLIPPED),
    "middle byte flipped": (flip(lambda size: size // 2), FLIPPED),
    "last byte flipped": (flip(lambda size: size - 1), FLIPPED),
    "removed": (Path.unlink, "No such file or directory"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(folder: Path, whole: Path, name: str) -> None:
    """A file that is not what was written is found before anything is read; if its size differs, without checksums."""
    path, size = folder / name, (whole / name).stat().st_size
    for damage, problem in DAMAGES.values():
        path.unlink(missing_ok=True)
        shutil.copyfile(whole / name, path)
        damage(path)
        told = problem.format(size=size, half=size // 2, less=size - 1, more=size + 1)
        for verify in (True, False) if told != FLIPPED else (True,):
            with pytest.raises(CorruptError) as caught:
                Snapshot(folder, verify=verify)
            assert str(caught.value) == f"{path}: {told} (an older snapshot is used, or it is rebuilt from the store)"
    path.unlink(missing_ok=True)
    shutil.copyfile(whole / name, path)
    assert Snapshot(folder).rows == 3


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "longer"])
def test_a_damaged_manifest_is_named(folder: Path, damage: str) -> None:
    """The manifest vouches for the others, and for itself."""
    DAMAGES[damage][0](own(folder / MANIFEST))
    with pytest.raises(CorruptError) as caught:
        Snapshot(folder)
    assert str(caught.value).startswith(f"{folder / MANIFEST}: unreadable: ")
    assert caught.value.fix == "an older snapshot is used, or it is rebuilt from the store"


def test_no_bit_of_the_manifest_may_flip(folder: Path) -> None:
    """Whichever byte it is in, the manifest is refused: a wrong revision would hide changes for good."""
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
def test_a_manifest_that_is_none_is_named(folder: Path, text: str) -> None:
    """Other JSON is no manifest."""
    own(folder / MANIFEST).write_text(text)
    with pytest.raises(CorruptError) as caught:
        Manifest.read(folder)
    assert str(caught.value).startswith(f"{folder / MANIFEST}: unreadable: ")


def test_a_manifest_of_another_format_is_refused_by_name(folder: Path) -> None:
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


# The current one


def no_pointer(folder: Path) -> None:
    """Remove CURRENT."""
    (folder / CURRENT).unlink()


def pointing(data: bytes) -> Damage:
    """Return what puts other bytes in CURRENT."""
    return lambda folder: (folder / CURRENT).write_bytes(data)


POINTERS = {
    "missing": no_pointer,
    "empty": pointing(b""),
    "a line feed": pointing(b"\n"),
    "to nothing": pointing(b"000000000001-gone\n"),
    "not UTF-8": pointing(b"\xb0\xff\n"),
    "a NUL": pointing(b"a\0b\n"),
    "to a file": pointing(b"CURRENT\n"),
}


@pytest.mark.parametrize("pointer", POINTERS)
def test_a_pointer_to_nothing_is_no_snapshot(store: Store, pointer: str) -> None:
    """Whatever stands in CURRENT, the service starts, on the newest whole snapshot, which is the current one again."""
    old = write(store)
    folder = store.path.parent / SNAPSHOTS
    assert current_snapshot(folder) == old
    POINTERS[pointer](folder)
    assert current_snapshot(folder) is None
    opened, live = open_archive(store.path.parent)
    opened.close()
    assert (current_snapshot(folder), live.count) == (old, 3)


def test_there_may_be_no_folder(tmp_path: Path) -> None:
    """A data folder that was never snapshot has no current snapshot."""
    assert current_snapshot(tmp_path / SNAPSHOTS) is None


@pytest.mark.parametrize("damage", ["cut in half", "middle byte flipped", "removed"])
@pytest.mark.parametrize("name", ["vectors.faiss", "heads.npy", MANIFEST])
def test_a_service_starts_beside_a_damaged_snapshot(
    store: Store, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    """It says in one line which file is broken, and goes on with a new snapshot of the store."""
    broken = write(store)
    DAMAGES[damage][0](broken / name)
    opened, live = open_archive(store.path.parent)
    opened.close()
    [warning] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warning.startswith(f"snapshot {broken.name} is not used: {broken / name}: ")
    assert live.count == 3
    assert current_snapshot(broken.parent) != broken


@pytest.mark.parametrize("damage", ["cut in half", "middle byte flipped", "removed"])
@pytest.mark.parametrize("name", FILES)
def test_a_service_goes_back_to_the_snapshot_before_a_damaged_one(store: Store, name: str, damage: str) -> None:
    """The older snapshot becomes the current one, and what came after it is replayed."""
    older = write(store)
    store.write(writes([article("new")]))
    broken = write(store)
    DAMAGES[damage][0](broken / name)
    opened, live = open_archive(store.path.parent)
    assert (current_snapshot(older.parent), live.revision) == (older, 3)
    replay(opened, live)
    opened.close()
    assert (live.revision, live.count, live.find("new")) == (4, 4, 3)


def test_a_service_starts_on_the_archive_of_a_release_that_analysed_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot is not used; a new one has today's terms, with nothing embedded again."""
    stale = analyse(article("x", title="Stale", paragraphs=["Stale words, of which there are five or more."]))
    with monkeypatch.context() as older:
        for module in (opening, rows, snapshot_writer, store_module, stored):
            older.setattr(module, "ANALYSIS", "terms-0+sketch-0")
        store = build_store(tmp_path, [])
        store.write([replace(w, analysis=stale) for w in writes(ARTICLES)], NOW_MS)
        old = write(store)
        store.close()
        opened, live = open_archive(tmp_path)
        assert current_snapshot(old.parent) == old
        assert set(live.record(0).surfaces) >= {"Stale"}
        opened.close()
    embedder = FakeEmbedder()
    opened, live = open_archive(tmp_path, embedder)
    opened.close()
    new = current_snapshot(old.parent)
    assert new is not None
    assert new != old
    assert Snapshot(new).manifest.analysis == ANALYSIS
    assert embedder.texts == 0
    statistics = TermStatistics.count(analyse(a).terms for a in ARTICLES)
    assert live.idf.tolist() == statistics.idf().tolist()
    for a in ARTICLES:
        row = live.find(a.id)
        assert row is not None
        analysis = analyse(a)
        assert live.signature(row).tolist() == make_signature(analysis.terms, live.idf).pack().tolist()
        assert live.sketches(np.array([row])).tolist() == [analysis.sketch.tolist()]
    with monkeypatch.context() as patch:
        patch.setattr(opening, "write_snapshot", None)
        again, _ = open_archive(tmp_path, embedder)
        again.close()


# Publishing


def test_old_snapshots_are_pruned_but_the_last(store: Store) -> None:
    """The current one and the one before stay; one that is open stays readable when its files go."""
    opened = Snapshot(write(store))
    paths = [opened.folder]
    for i in range(3):
        store.write(writes([article(f"x{i}")]))
        paths.append(write(store))
    folder = paths[0].parent
    assert sorted(p for p in folder.iterdir() if p.is_dir()) == paths[-KEPT_SNAPSHOTS:]
    assert current_snapshot(folder) == paths[-1]
    assert leftovers(folder) == []
    assert [opened.record(row).id for row in range(3)] == ["bare", "full", "later"]
    assert len(opened.main_vectors(np.arange(3))) == 3


def test_two_snapshots_of_one_revision(store: Store) -> None:
    """Writing again without a change is a new folder, and it is the current one."""
    first, second = write(store), write(store)
    assert first != second
    assert first.name.split("-")[0] == second.name.split("-")[0] == "000000000003"
    assert current_snapshot(first.parent) == second


def test_what_a_crashed_writer_left_is_removed(store: Store) -> None:
    """A folder that was never finished is nobody's: writers take turns."""
    half = store.path.parent / SNAPSHOTS / "new-0badc0de"
    half.mkdir(parents=True)
    (half / "heads.npy").write_bytes(b"half")
    write(store)
    assert not half.exists()


def test_writers_take_turns(store: Store) -> None:
    """A second writer waits for the first, and both snapshots are whole."""
    folder = store.path.parent / SNAPSHOTS
    other = open_store(store.path)
    second: list[Thread] = []

    def meanwhile(*_: int) -> None:
        if not second:
            second.append(Thread(target=lambda: write(other)))
            second[0].start()
        assert len(list(folder.glob("new-*"))) == 1

    first = write_snapshot(store, folder, DIMENSION, meanwhile)
    second[0].join()
    other.close()
    current = current_snapshot(folder)
    assert current is not None
    assert current != first
    assert [Snapshot(path).rows for path in (first, current)] == [3, 3]


def test_a_failure_at_any_flush_leaves_a_whole_current_snapshot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the writer got when the disk failed: the old snapshot or the new one is current, and no rubbish."""
    old = write(store)
    store.write(writes([article("new")]))
    folder, flush, calls = old.parent, os.fsync, 0
    failing = 0

    def fail_once(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    while True:
        failing, calls = failing + 1, 0
        try:
            new = write(store)
        except StorageError as error:
            assert str(error) == f"{folder}: cannot write a snapshot: Input/output error (check the folder)"
        else:
            break
        current = current_snapshot(folder)
        assert current is not None
        assert Snapshot(current).rows == (3 if current == old else 4)
        assert leftovers(folder) == []
        assert {p for p in folder.iterdir() if p.is_dir()} <= {old, current}
    assert failing > len(FILES) + 4
    assert (current_snapshot(folder), Snapshot(new).rows) == (new, 4)


@pytest.mark.parametrize("step", ["_manifest", "_statistics", "_publish", "make_current", "_prune"])
def test_an_interruption_leaves_no_rubbish(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """An exception that is none of ours, such as a signal's, is passed on."""
    old = write(store)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(snapshot_writer, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(store)
    current = current_snapshot(old.parent)
    assert current is not None
    assert (current == old) == (step != "_prune")
    assert Snapshot(current).rows == 3
    assert leftovers(old.parent) == []


def test_a_folder_that_cannot_be_written_is_named(store: Store) -> None:
    """A file in the folder's place is told as what it is."""
    folder = store.path.parent / SNAPSHOTS
    folder.touch()
    with pytest.raises(StorageError) as caught:
        write(store)
    assert (
        str(caught.value)
        == f"{folder}: cannot be written: File exists (make data_dir writable for this user, or choose another)"
    )


def test_an_article_without_vectors_of_the_model_stops_the_writer(store: Store) -> None:
    """It is named, and the old snapshot stays."""
    old = write(store)
    other = Store(store.path, FakeEmbedder("other").info.key)
    with pytest.raises(MismatchError) as caught:
        write(other)
    assert str(caught.value) == "article 'bare' has no vectors of this model (run `related-news reindex`)"
    assert (current_snapshot(old.parent), leftovers(old.parent)) == (old, [])
    other.close()


_WRITER = """
import sys
from pathlib import Path
from recommender.opening import SNAPSHOTS
from recommender.catalog.snapshot_writer import write_snapshot
from recommender.catalog.store import open_store
from tests.building import DIMENSION, FakeEmbedder
folder = Path(sys.argv[1])
store = open_store(folder / "store.sqlite3", FakeEmbedder().info.key)
while True:
    print(write_snapshot(store, folder / SNAPSHOTS, DIMENSION).name, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_writer_leaves_a_whole_current_snapshot(store: Store, seed: int) -> None:
    """SIGKILL at a random moment: the current snapshot is whole, and the next writer tidies up."""
    rng = random.Random(seed)
    data_dir = store.path.parent
    folder = data_dir / SNAPSHOTS
    command = [sys.executable, "-c", _WRITER, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        for _ in range(rng.randint(1, 3)):
            child.stdout.readline()
        writing = rng.choice([name for name in FILES if name != "vectors.faiss"])
        while not list(folder.glob(f"new-*/{writing}")):
            assert child.poll() is None
        child.kill()
    assert child.returncode == -signal.SIGKILL
    current = current_snapshot(folder)
    assert current is not None
    assert Snapshot(current).rows == 3
    assert write(store) == current_snapshot(folder)
    assert leftovers(folder) == []
    assert len(list(folder.iterdir())) == KEPT_SNAPSHOTS + len(KEPT)


# A full disk


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (snapshot_files, "VECTORS"),
        (snapshot_files, "RECORDS"),
        (snapshot_files, "_SPOOL"),
        (snapshot_writer, "MANIFEST"),
    ],
)
def test_whichever_file_does_not_fit_the_old_snapshot_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    """No space left is an error of its own, and leaves nothing behind."""
    old = write(store)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, "/dev/full")
        with pytest.raises(DiskFullError) as caught:
            write(store)
    assert str(caught.value) == (
        f"{old.parent}: no space left for a snapshot; the previous one stays in use (free space, then try again)"
    )
    assert (current_snapshot(old.parent), leftovers(old.parent)) == (old, [])
    assert {p.name for p in old.parent.iterdir()} == {old.name, *KEPT}
    assert Snapshot(old).rows == 3


_FILLER = """
import sys
from pathlib import Path
from recommender.catalog.manifest import current_snapshot
from recommender.catalog.snapshot import Snapshot
from recommender.catalog.snapshot_writer import write_snapshot
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


def test_a_small_disk_refuses_a_snapshot_until_there_is_space(tmp_path: Path) -> None:
    """On a real full disk, with more and more space freed: the old snapshot stays, until the new one is whole."""
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
