"""A serving process from its first line to its exit: health, reflection, draining, ports, kills."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.config import Settings
from recommender.errors import StorageError
from recommender.rpc.server import SERVICE_NAMES
from tests import ROOT
from tests.newsroom import PAGE
from tests.service.client import TIMEOUT_S, Client, refusal
from tests.service.fake_encoder import GATE
from tests.service.messages import NOW, draft, ids_of, message
from tests.service.servers import Host, TroubledEmbedder, environment, fake_server, served

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HEALTH = "grpc.health.v1.Health"


def health_of(client: Client, service: str) -> int:
    """Ask for the health of one service."""
    return int(client.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S).status)


# Health and reflection


@pytest.mark.parametrize("service", ["", *SERVICE_NAMES])
def test_a_started_service_is_serving(reading: Client, service: str) -> None:
    """The whole server and each service by name report SERVING as soon as there is an address."""
    assert health_of(reading, service) == SERVING


def test_the_health_of_an_unknown_service_is_not_found(reading: Client) -> None:
    """Health checking of a name that is not served is NOT_FOUND, as its protocol says."""
    assert refusal(lambda: health_of(reading, "nobody.v1.Service")).code is grpc.StatusCode.NOT_FOUND


def test_while_draining_health_is_not_serving_and_a_call_in_flight_finishes(
    host: Host, data_dir: Path, embedder: TroubledEmbedder
) -> None:
    """Stopping reports NOT_SERVING to who watches, refuses new calls, and answers the one that has begun."""
    with host.server(data_dir, embedder) as (client, server):
        watch = client.health.Watch(health_pb2.HealthCheckRequest(service=SERVICE_NAMES[0]), timeout=TIMEOUT_S)
        states = iter(watch)
        assert next(states).status == SERVING
        slow = client.related.FillSlots.future(
            related_pb.FillSlotsRequest(draft=draft(title="dawdle"), as_of=NOW), timeout=TIMEOUT_S
        )
        assert embedder.waiting.wait(TIMEOUT_S)
        stopped = host.loop.begin(server.stop())
        assert next(states).status == NOT_SERVING
        assert refusal(lambda: client.fill(article_id=PAGE)).code is grpc.StatusCode.UNAVAILABLE
        assert not slow.done()
        assert not stopped.done()
        embedder.gate.set()
        assert len(ids_of(slow.result(TIMEOUT_S).plan)) == 5
        watch.cancel()
        stopped.result(TIMEOUT_S)


def test_reflection_lists_the_services_and_hands_out_their_files(reading: Client) -> None:
    """Tools such as grpcurl find both services, health and reflection, and the contract's files with imports."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(reading.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in SERVICE_NAMES),
        reflection_pb2.ServerReflectionRequest(file_by_filename="related_news/v1/common.proto"),
    ]
    listed, *described = stub.ServerReflectionInfo(iter(requests), timeout=TIMEOUT_S)
    names = {service.name for service in listed.list_services_response.service}
    assert names == {*SERVICE_NAMES, HEALTH, "grpc.reflection.v1alpha.ServerReflection"}
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
        for answer in described
    ]
    assert [file.name for file in files] == [
        "related_news/v1/related_news_service.proto",
        "related_news/v1/article_service.proto",
        "related_news/v1/common.proto",
    ]
    assert {service.name for file in files for service in file.service} == {"RelatedNewsService", "ArticleService"}


# Addresses


def test_the_service_listens_on_loopback_unless_told_otherwise(reading: Client) -> None:
    """The default host is 127.0.0.1, so that nothing outside this machine reaches a service by accident."""
    assert Settings().server.host == "127.0.0.1"
    assert reading.address.startswith("127.0.0.1:")


def test_a_taken_port_is_a_storage_error_that_names_it(host: Host, reading: Client, data_dir: Path) -> None:
    """Two servers never share a port: the second one says which address is taken."""
    port = int(reading.address.split(":")[1])
    with pytest.raises(StorageError) as caught, host.server(data_dir, port=port):
        pytest.fail("it started")
    assert str(caught.value) == (f"cannot listen on 127.0.0.1:{port} (choose another port, or stop who uses it)")


def test_a_process_on_a_taken_port_exits_with_one_line(reading: Client, data_dir: Path) -> None:
    """The process ends with exit code 1 and says why, instead of hanging or sharing the port."""
    port = reading.address.split(":")[1]
    command = fake_server(data_dir, "--port", port)
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=TIMEOUT_S)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1] == (
        f"error: cannot listen on 127.0.0.1:{port} (choose another port, or stop who uses it)"
    )


# Processes


@pytest.fixture
def gate(data_dir: Path) -> Iterator[Path]:
    """Make the pipe at which a fake server's slow texts wait."""
    path = data_dir / GATE
    os.mkfifo(path)
    yield path
    path.unlink()


def test_sigterm_lets_a_call_in_flight_finish_and_exits_with_0(data_dir: Path, gate: Path) -> None:
    """The process drains: a draft that is being embedded is answered, new calls are not, the exit code is 0."""
    with served(fake_server(data_dir)) as server:
        client = server.client
        watch = client.health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        states = iter(watch)
        assert next(states).status == SERVING
        slow = client.related.FillSlots.future(
            related_pb.FillSlotsRequest(draft=draft(title="dawdle"), as_of=NOW), timeout=TIMEOUT_S
        )
        with gate.open("wb"):
            server.process.terminate()
            assert next(states).status == NOT_SERVING
            assert refusal(lambda: client.fill(article_id=PAGE)).code is grpc.StatusCode.UNAVAILABLE
            assert not slow.done()
        assert len(ids_of(slow.result(TIMEOUT_S).plan)) == 5
        watch.cancel()
        assert server.process.wait(TIMEOUT_S) == 0


def test_an_idle_process_ends_at_once_on_sigterm(data_dir: Path) -> None:
    """With nothing in flight the exit is clean and silent, and the store is whole."""
    with served(fake_server(data_dir)) as server:
        server.client.upsert(message("last"))
        assert server.end() == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
    assert not (data_dir / "store.sqlite3-wal").exists(), "closed in order, SQLite leaves no log behind"


@pytest.mark.parametrize("round_", range(2))
def test_a_killed_server_has_lost_no_acknowledged_write(data_dir: Path, round_: int) -> None:
    """SIGKILL in the middle of a stream of writes and deletions: a new server has every one that was acknowledged."""
    written: list[str] = []
    withdrawn: list[str] = []
    enough = threading.Event()

    def write(client: Client) -> None:
        try:
            for number in range(10_000):
                client.upsert(message(f"w-{number}", title=f"Tide {number}"))
                written.append(f"w-{number}")
                if number % 3 == 0:
                    client.delete(f"w-{number}")
                    withdrawn.append(f"w-{number}")
                if number == 5 + 7 * round_:
                    enough.set()
        except grpc.RpcError:
            pass

    with served(fake_server(data_dir)) as server:
        writer = threading.Thread(target=write, args=(server.client,))
        writer.start()
        assert enough.wait(TIMEOUT_S)
        server.process.kill()
        writer.join(TIMEOUT_S)
        assert not writer.is_alive()
    with served(fake_server(data_dir)) as server:
        present = {article_id for article_id in written if _is_there(server.client, article_id)}
        in_doubt = {f"w-{len(written)}", *(written[-1:] if len(written) % 3 == 1 else [])}
        assert present - in_doubt == set(written) - set(withdrawn) - in_doubt
        assert server.client.status().revision >= 40 + len(written) + len(withdrawn)
        assert len(ids_of(server.client.fill(article_id=PAGE))) == 5


def _is_there(client: Client, article_id: str) -> bool:
    try:
        return client.get(article_id).id == article_id
    except grpc.RpcError:
        return False
