"""Full disks, files that are no store, and migrations: the error names the file and the fix."""

from __future__ import annotations

import resource
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from recommender.catalog.articles import Article
from recommender.catalog.store import schema
from recommender.catalog.store.schema import SCHEMA_VERSION
from recommender.catalog.store.store import Store, create_store, open_store
from recommender.errors import (
    CorruptError,
    DiskFullError,
    MismatchError,
    NotFoundError,
    RelatedNewsError,
    StorageError,
)
from tests.building import article, writes
from tests.recommender.catalog.store.storing import (
    ADDED,
    KEY,
    list_in_time,
)


def big(number: int) -> Article:
    """Return an article of 100 kB."""
    return article(f"big-{number}", title=f"Big {number}", paragraphs=[str(number % 10) * 100_000])


def write_until_refused(store: Store) -> tuple[list[Article], StorageError]:
    """Write one article after the other; returns those that were acknowledged, and the refusal."""
    written: list[Article] = []
    while len(written) < 100:
        try:
            store.write(writes([big(len(written))]))
        except StorageError as error:
            return written, error
        written.append(big(len(written)))
    pytest.fail("nothing was refused")


def test_a_full_store_keeps_its_articles(path: Path, store: Store) -> None:
    """A full store refuses the whole write with an error of its own, and accepts it once there is space."""
    with store._transaction() as connection:
        connection.execute("PRAGMA max_page_count = 200")
    written, error = write_until_refused(store)
    assert isinstance(error, DiskFullError)
    assert str(error) == f"{path}: no space left; nothing of this write was kept (free space, then try again)"
    assert written
    assert list(store.get_many([f"big-{i}" for i in range(100)]).values()) == written
    assert store.revision() == len(written)
    with pytest.raises(DiskFullError):
        store.write(writes([article("small"), big(99)]))
    assert store.get("small") is None
    with store._transaction() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    assert store.write(writes([big(99)])) == [ADDED]
    assert store.revision() == len(written) + 1


def test_a_file_that_may_not_grow_loses_nothing(path: Path, store: Store) -> None:
    """Writes above a limit on file sizes, such as a quota, are refused; acknowledged ones stay."""
    store.write(writes([article("before")]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
        written, error = write_until_refused(store)
        assert str(error) == f"{path}: disk I/O error (check the disk)"
        assert store.count() == 1 + len(written)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert written
    assert store.write(writes([big(99)])) == [ADDED]
    store.close()
    again = open_store(path, KEY)
    assert list(again.get_many([a.id for a in written]).values()) == written
    assert again.revision() == len(written) + 2
    again.close()


def test_a_missing_store_is_an_error(tmp_path: Path) -> None:
    """Opening a missing store names the folder and the command that makes it, and creates nothing."""
    with pytest.raises(NotFoundError) as caught:
        open_store(tmp_path / "data" / "store.sqlite3", KEY)
    assert str(caught.value) == (f"unknown data folder '{tmp_path / 'data'}' (run `related-news index ARTICLES` first)")
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_model_is_refused(path: Path, store: Store) -> None:
    """The error names both models; the store does not change."""
    store.write(writes([article("a")]))
    for open_ in (open_store, create_store):
        with pytest.raises(MismatchError) as caught:
            open_(path, "other@0123/recipe")
        assert str(caught.value) == (
            f"{path} was indexed with {KEY}, the configured model is other@0123/recipe"
            " (unset model.name, or run `related-news reindex` to change the model)"
        )
    assert store.count() == 1
    open_store(path, KEY).close()


def test_a_store_of_a_later_release_is_refused(path: Path, store: Store) -> None:
    """The error names the schema version; the file does not change."""
    store.write(writes([article("a")]))
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    data = path.read_bytes()
    with pytest.raises(MismatchError) as caught:
        open_store(path, KEY)
    assert str(caught.value) == (
        f"{path} has schema version {SCHEMA_VERSION + 1}, this release knows {SCHEMA_VERSION}"
        " (run the release that wrote it, or a newer one)"
    )
    assert path.read_bytes() == data


def test_a_file_that_is_empty_becomes_a_store(path: Path) -> None:
    """SQLite creates a file before it writes to it; the empty file that a kill leaves then is migrated."""
    path.parent.mkdir()
    path.touch()
    store = open_store(path, KEY)
    assert (store.count(), store.revision()) == (0, 0)
    assert store.write(writes([article("a")])) == [ADDED]
    store.close()


def make_text(path: Path) -> None:
    """Put something else in the store's place."""
    path.write_text("This is no database. " * 100)


def make_torn(path: Path) -> None:
    """Cut a store in the middle."""
    store = create_store(path, KEY)
    store.write(writes([article(f"x{i}") for i in range(200)]))
    store.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_folder(path: Path) -> None:
    """Put a folder in the store's place."""
    path.mkdir()


def make_foreign(path: Path) -> None:
    """Put another program's database in the store's place."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE articles (id)")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        pytest.param(
            make_text,
            CorruptError,
            "is damaged: file is not a database (restore the store from a backup)",
            id="not a database",
        ),
        pytest.param(
            make_torn,
            CorruptError,
            "is damaged: database disk image is malformed (restore the store from a backup)",
            id="cut in the middle",
        ),
        pytest.param(
            make_folder,
            StorageError,
            "cannot be opened for writing: unable to open database file"
            " (make data_dir writable for this user, or move it)",
            id="a folder",
        ),
        pytest.param(
            make_foreign, StorageError, "table articles already exists (check the disk)", id="another program's"
        ),
    ],
)
def test_a_file_that_is_no_store_is_named(
    path: Path, make: Callable[[Path], None], kind: type[RelatedNewsError], message: str
) -> None:
    """The error names the file and the fix."""
    path.parent.mkdir()
    make(path)
    with pytest.raises(kind) as caught:
        list_in_time(open_store(path, KEY))
    assert str(caught.value) == f"{path}: {message}"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The error says that the data folder's parent is a file."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        create_store(tmp_path / "file" / "data" / "store.sqlite3", KEY)
    assert str(caught.value) == (
        f"cannot create {tmp_path / 'file' / 'data'}: Not a directory (choose another data_dir)"
    )


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails undoes all steps; the next start begins again."""
    steps = schema._STEPS
    monkeypatch.setattr(schema, "_STEPS", (steps[0] + "; CREATE TABLE broken (",))
    with pytest.raises(StorageError):
        create_store(path, KEY)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,)
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    monkeypatch.setattr(schema, "_STEPS", steps)
    create_store(path, KEY).close()


def test_an_older_store_is_brought_up_to_date_once(path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the steps that a file lacks are run; its articles stay."""
    store.write(writes([article("a")]))
    monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS, "CREATE TABLE extra (x) -- new\n;"))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    for _ in range(2):
        newer = open_store(path, KEY)
        assert newer.get("a") == article("a")
        newer.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM extra").fetchone() == (0,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
