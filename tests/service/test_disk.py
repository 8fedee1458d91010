"""A server process on a data folder that is read-only or full: errors are clear, reads go on, nothing is lost."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from related_news.v1 import common_pb2 as common_pb

from recommender.catalog.opening import SNAPSHOTS, STORE_FILE
from tests import ROOT
from tests.building import FakeEmbedder
from tests.newsroom import PAGE
from tests.service.client import TIMEOUT_S, Client, Refusal, refusal
from tests.service.crew import COMPACTION, children, eventually
from tests.service.messages import ids_of, message
from tests.service.servers import Served, environment, fake_server, served

DISK_MIB = 12


def own_mounts(script: str) -> list[str]:
    """Return the command that runs a shell script in a mount namespace of its own."""
    return ["unshare", "--mount", "sh", "-ec", script]


pytestmark = pytest.mark.usefixtures("may_mount")


@pytest.fixture(scope="module")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where this user may not mount: permissions alone do not bind root."""
    folder = shlex.quote(str(tmp_path_factory.mktemp("mount")))
    try:
        tried = subprocess.run(own_mounts(f"mount -t tmpfs none {folder}"), capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here, so that no read-only or full disk can be made")
    if tried.returncode:
        pytest.skip(f"this user may not mount, so that no read-only or full disk can be made: {tried.stderr.strip()}")


@dataclass(frozen=True)
class Disk:
    """A small disk that only processes in its mount namespace see. path: in there; seen_from_here: to the tests."""

    holder: int
    path: Path

    @property
    def seen_from_here(self) -> Path:
        return Path(f"/proc/{self.holder}/root{self.path}")

    def server(self, *options: str) -> AbstractContextManager[Served]:
        """Start a server on the disk."""
        return served([*self._inside, *fake_server(self.path, *options)])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `related-news`, on a fake encoder, with the disk as its data folder."""
        command = [sys.executable, "-m", "tests.soak.fake_cli", "--data-dir", str(self.path), *arguments]
        return subprocess.run(
            [*self._inside, *command], capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=TIMEOUT_S
        )

    def fill(self, free: int) -> Path:
        """Leave this many bytes free; returns the file that fills the rest."""
        filler = self.seen_from_here / "filler"
        with filler.open("wb", buffering=0) as stream:
            with suppress(OSError):
                while stream.write(bytes(1 << 16)):
                    pass
            stream.truncate(max(0, stream.tell() - free))
        return filler

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", "--target", str(self.holder), "--mount", f"--wdns={ROOT}"]


@pytest.fixture
def disk(data_dir: Path, tmp_path: Path) -> Iterator[Disk]:
    """Copy the newsroom to a small disk of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    script = (
        f"mount -t tmpfs -o size={DISK_MIB}m none {path}; cp -r {data_dir}/. {path}; echo ready; exec sleep infinity"
    )
    with subprocess.Popen(own_mounts(script), stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield Disk(holder.pid, path)
        finally:
            holder.kill()


def big(number: int) -> common_pb.Article:
    """Return an article of 300 kB, unlike any other."""
    return message(f"big-{number}", title=f"Big {number}", paragraphs=[str(number) * (300_000 // len(str(number)))])


def write_until_refused(client: Client) -> tuple[list[str], Refusal]:
    """Write one article after the other until one is refused; returns the acknowledged ids and the refusal."""
    written: list[str] = []
    while True:
        try:
            client.upsert(big(len(written)))
        except grpc.RpcError:
            return written, refusal(lambda: client.upsert(big(len(written))))
        written.append(f"big-{len(written)}")


def test_a_full_disk_refuses_writes_by_name_and_reads_go_on(disk: Disk) -> None:
    """A write that does not fit is RESOURCE_EXHAUSTED and leaves nothing; reads go on; space freed, writes go on."""
    filler = disk.seen_from_here / "filler"
    with disk.server() as server:
        client = server.client
        before = ids_of(client.fill(article_id=PAGE))
        filler.write_bytes(bytes(2 << 20))
        written, refused = write_until_refused(client)
        assert written
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
        assert refused.message == (
            f"{disk.path / STORE_FILE}: no space left; nothing of this write was kept (free space, then try again)"
        )
        assert refusal(lambda: client.upsert(big(999))) == refused, "again and again, the same"
        assert len(ids_of(client.fill(article_id=PAGE))) == len(before) == 5
        assert [client.get(article_id).id for article_id in written] == written
        assert refusal(lambda: client.get("big-999")).code is grpc.StatusCode.NOT_FOUND
        assert client.status().article_count == 40 + len(written)
        filler.unlink()
        assert client.upsert(big(999)).revision == 41 + len(written)
        assert server.end() == 0


def test_what_was_acknowledged_before_the_disk_was_full_survives_a_kill(disk: Disk) -> None:
    """After SIGKILL a new server starts on the still full disk, and has exactly what was acknowledged."""
    with disk.server() as server:
        written, _ = write_until_refused(server.client)
        server.process.kill()
    with disk.server() as server:
        assert [server.client.get(article_id).id for article_id in written] == written
        assert server.client.status().article_count == 40 + len(written)
        assert len(ids_of(server.client.fill(article_id=PAGE))) == 5


def test_a_full_disk_leaves_the_former_snapshot_in_use(disk: Disk) -> None:
    """Compaction reports it and leaves nothing; writes and answers go on; it succeeds once there is space."""
    with disk.server("--compact-after", "10", "--compact-again-s", "0.1", "--log-level", "ERROR") as server:
        client = server.client
        before = names(disk)
        filler = disk.fill(free=2 << 20)
        for number in range(12):
            client.upsert(small(number))
        assert eventually(lambda: compactions(server) > 1)
        assert client.status().snapshot_revision == 40
        assert names(disk) - before <= {path for path in names(disk) if path.startswith("new-")}
        assert [client.get(f"small-{number}").id for number in range(12)] == [f"small-{n}" for n in range(12)]
        assert len(ids_of(client.fill(article_id=PAGE))) == 5
        filler.unlink()
        assert eventually(lambda: client.status().snapshot_revision == 52)
        assert client.status().article_count == 52
        assert server.end() == 0
        assert server.process.stderr is not None
        said = f"no new snapshot: {disk.path / SNAPSHOTS}: no space left for a snapshot; the previous one stays in use"
        assert said in server.process.stderr.read()


def test_a_full_disk_stops_a_reindex_and_not_the_service(disk: Disk) -> None:
    """If the vectors or the snapshot do not fit, one line says so, and the index keeps its former model."""
    with disk.server() as server:
        client = server.client
        model = client.status().model
        for free, problem in (
            (0, f"{disk.path / STORE_FILE}: no space left; nothing of this write was kept"),
            (2 << 20, f"{disk.path / SNAPSHOTS}: no space left for a snapshot; the previous one stays in use"),
        ):
            filler = disk.fill(free)
            done = disk.command("reindex", "--model", "other")
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"error: {problem} (free space, then try again)\n"
            assert client.status().model == model
            assert len(ids_of(client.fill(article_id=PAGE))) == 5
        client.upsert(small(0))
        filler.unlink()
        done = disk.command("reindex", "--model", "other")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("1 articles embedded"), "what was embedded before is not embedded again"
        assert eventually(lambda: client.status().model == FakeEmbedder("other").info.key)
        assert client.get("small-0").id == "small-0"
        assert server.end() == 0


def test_a_full_disk_stops_a_backup_and_not_the_service(disk: Disk) -> None:
    """A backup that does not fit leaves nothing; one that does is whole."""
    with disk.server() as server:
        filler = disk.fill(free=3 << 20)
        before = files(disk)
        done = disk.command("backup", str(disk.path / "backup"))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"error: {disk.path / 'backup'}: no space left (free space, then try again)\n"
        assert files(disk) == before
        server.client.upsert(small(0))
        assert len(ids_of(server.client.fill(article_id=PAGE))) == 5
        filler.unlink()
        done = disk.command("backup", str(disk.path / "backup"))
        assert (done.returncode, done.stdout) == (0, f"41 articles at revision 41 written to {disk.path / 'backup'}\n")
        assert server.end() == 0


def small(number: int) -> common_pb.Article:
    """Return an article of some words."""
    return message(f"small-{number}", title=f"Small tide {number}")


def compactions(server: Served) -> int:
    """Return how many compactions were seen to begin."""
    seen: set[int] = server.__dict__.setdefault("seen", set())
    seen.update(children(server, COMPACTION))
    return len(seen)


def names(disk: Disk) -> set[str]:
    """Return the names in the folder of snapshots."""
    return {path.name for path in (disk.seen_from_here / SNAPSHOTS).iterdir()}


def files(disk: Disk) -> set[str]:
    """Return every file and folder on the disk."""
    root = disk.seen_from_here
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.name.endswith(("-wal", "-shm"))}


@pytest.mark.parametrize("snapshot", ["kept", "missing"])
def test_a_read_only_data_folder_ends_the_start_with_a_clear_line(data_dir: Path, snapshot: str) -> None:
    """The service keeps its store writable; on a read-only folder it says so and exits with 1."""
    if snapshot == "missing":
        (data_dir / SNAPSHOTS / "CURRENT").unlink()
    script = (
        f"mount --bind {data_dir} {data_dir}; mount -o remount,bind,ro {data_dir}; "
        f"exec {shlex.join(fake_server(data_dir))}"
    )
    ended = subprocess.run(
        own_mounts(script), capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=TIMEOUT_S
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: {data_dir / STORE_FILE}: cannot be opened for writing: ")
    assert ended.stderr.endswith("(make data_dir writable for this user, or move it)\n")


def test_a_start_on_a_full_disk_says_so(disk: Disk) -> None:
    """Opening a store that was closed in order needs some room beside it."""
    disk.fill(free=0)
    done = disk.command("serve", "--port", "0")
    problem = f"{disk.path / STORE_FILE}: no space left; nothing of this write was kept (free space, then try again)"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {problem}\n")
