"""A server process on a data folder that is read-only or full: clear errors, reads go on, nothing is lost."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from related_news.v1 import common_pb2 as common_pb

from recommender.opening import SNAPSHOTS, STORE_FILE
from tests.service.hosting import (
    PAGE,
    ROOT,
    TIMEOUT_S,
    Client,
    Refusal,
    Served,
    environment,
    fake_server,
    ids_of,
    message,
    refusal,
    served,
)

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

    def server(self) -> AbstractContextManager[Served]:
        """Start a server on the disk."""
        return served(["nsenter", "--target", str(self.holder), "--mount", "--wdns=.", *fake_server(self.path)])


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
