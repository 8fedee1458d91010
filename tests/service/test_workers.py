"""Several workers on one port: what one acknowledges holds in all, and a process that dies is replaced."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import common_pb2 as common_pb

from indexer.maintenance.reindex import reindex
from recommender.clock import DAY_MS
from recommender.rpc.messages import timestamp
from recommender.serving.roster import open_roster
from tests.building import DIMENSION, NOW_MS, FakeEmbedder
from tests.newsroom import PAGE
from tests.service.client import TIMEOUT_S, Client, refusal, shown
from tests.service.crew import COMPACTION, ENCODER, WORKER, children, connections, end, eventually, runs
from tests.service.messages import draft, equal, fill_request, ids_of, like_page, message
from tests.service.servers import Served, fake_server, served

WORKERS = 3
CONNECTIONS = 9
"""Spread over three workers, they miss one only once in 13 times."""


@pytest.fixture(scope="module")
def crew(archive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a copy with three workers."""
    folder = Path(shutil.copytree(archive_folder, tmp_path_factory.mktemp("crew") / "data"))
    with served(fake_server(folder, "--workers", str(WORKERS))) as server:
        yield server


@pytest.fixture
def clients(crew: Served) -> Iterator[list[Client]]:
    """Return connections that are spread over the workers."""
    with connections(crew.client.address, CONNECTIONS) as opened:
        yield opened


# What is acknowledged holds everywhere


def test_the_workers_share_one_encoder(crew: Served) -> None:
    """Three workers and one encoder run, and nothing else."""
    assert (len(children(crew, WORKER)), len(children(crew, ENCODER))) == (WORKERS, 1)
    assert children(crew, COMPACTION) == []


@pytest.mark.parametrize("round_", range(4))
def test_a_withdrawn_article_is_in_no_worker_s_answer(clients: list[Client], round_: int) -> None:
    """It is everywhere once its write is acknowledged, and nowhere once its withdrawal is."""
    article_id = f"touchy-{round_}"
    clients[round_].upsert(like_page(article_id))
    assert all(article_id in shown(client) for client in clients)
    clients[-1 - round_].delete(article_id)
    assert not any(article_id in shown(client) for client in clients)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(common_pb.Rules(never_target=True), id="never a target"),
        pytest.param(common_pb.Rules(embargo_until=timestamp(NOW_MS + DAY_MS)), id="embargo"),
    ],
)
def test_a_rule_holds_in_every_worker_at_once(clients: list[Client], rules: common_pb.Rules) -> None:
    """An article that may not be shown any more is shown by none of them, nor in a batch."""
    article_id = f"ruled-{rules.never_target}"
    sent = like_page(article_id)
    clients[0].upsert(sent)
    assert all(article_id in shown(client) for client in clients)
    sent.rules.CopyFrom(rules)
    clients[1].upsert(sent)
    assert not any(article_id in shown(client) for client in clients)


def test_every_worker_has_what_was_written(clients: list[Client]) -> None:
    """Every worker has the revision that a write returned without waiting."""
    revision = clients[0].upsert(like_page("fresh")).revision
    for client in clients:
        request = fill_request(article_id="fresh", min_revision=revision)
        assert client.related.FillSlots(request, timeout=TIMEOUT_S).plan.receipt.revision >= revision


def test_all_workers_answer_alike(clients: list[Client]) -> None:
    """The same page is the same plan, byte for byte, by id and as a draft."""
    for request in (fill_request(article_id=PAGE), fill_request(draft=draft())):
        first, *others = (client.related.FillSlots(request, timeout=TIMEOUT_S) for client in clients)
        assert all(equal(first, other) for other in others)


def test_writers_on_several_workers_lose_nothing(clients: list[Client]) -> None:
    """Of two writers at once every article gets its own revision, and both see both."""
    revisions: list[int] = []

    def write(client: Client, name: str) -> None:
        revisions.extend(client.upsert(message(f"{name}{i}", title=f"Ferry {name} {i}")).revision for i in range(10))

    threads = [threading.Thread(target=write, args=(clients[i], "xy"[i])) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert len(revisions) == 20
    assert all(clients[2].get(f"{name}{i}").id == f"{name}{i}" for name in "xy" for i in range(10))


# What dies is replaced


@pytest.fixture
def pair(data_dir: Path) -> Iterator[Served]:
    """Serve a fresh copy with two workers, which answer a takedown within a second or are replaced."""
    with served(fake_server(data_dir, "--workers", "2", "--takedown-timeout-s", "1")) as server:
        yield server


def test_a_worker_that_dies_is_replaced(pair: Served) -> None:
    """The other goes on answering meanwhile; nothing that was acknowledged is lost."""
    pair.client.upsert(like_page("kept"))
    victim, other = children(pair, WORKER)
    end(victim)
    assert eventually(lambda: _answers(pair, "kept"))
    assert eventually(lambda: len(set(children(pair, WORKER)) - {victim}) == 2)
    assert other in children(pair, WORKER)


def test_a_worker_that_hangs_is_taken_out_of_service(pair: Served) -> None:
    """A withdrawal does not wait for it forever: it is killed, and no answer after that has the article."""
    pair.client.upsert(like_page("touchy"))
    hung = children(pair, WORKER)[0]
    os.kill(hung, signal.SIGSTOP)
    try:
        assert eventually(lambda: _deleted(pair, "touchy"))
        assert eventually(lambda: not runs(hung), 2)
    finally:
        if runs(hung):
            os.kill(hung, signal.SIGCONT)
    assert eventually(lambda: len(children(pair, WORKER)) == 2)
    assert eventually(lambda: _answers(pair))
    with connections(pair.client.address, CONNECTIONS) as clients:
        assert not any("touchy" in shown(client) for client in clients)


def test_an_encoder_that_dies_is_replaced(pair: Served) -> None:
    """Stored pages do not need it; a draft waits for the new one within its deadline."""
    victim = children(pair, ENCODER)[0]
    before = pair.client.fill(draft=draft())
    end(victim)
    assert len(ids_of(pair.client.fill(article_id=PAGE))) == 5
    assert equal(pair.client.fill(draft=draft()), before)
    assert children(pair, ENCODER) != [victim]


def test_a_supervisor_that_is_killed_leaves_no_process_behind(data_dir: Path, pair: Served) -> None:
    """Its workers and encoder end with it; a new service on the same folder answers as before."""
    before = pair.client.fill(article_id=PAGE)
    crew = [*children(pair, WORKER), *children(pair, ENCODER)]
    pair.process.kill()
    assert eventually(lambda: not any(map(runs, crew)))
    with served(fake_server(data_dir)) as again:
        assert equal(again.client.fill(article_id=PAGE), before)


# Settings


def test_sighup_reloads_layouts(data_dir: Path, tmp_path: Path) -> None:
    """A layout that is added is known to every worker; a file that is broken changes nothing."""
    config = tmp_path / "related-news.toml"
    config.write_text("")
    command = fake_server(data_dir, "--workers", "2", "--config", str(config))
    with served(command) as server, connections(server.client.address, CONNECTIONS) as clients:
        assert refusal(lambda: server.client.fill(article_id=PAGE, layout_name="mine")).code.name == "NOT_FOUND"
        config.write_text('[[layouts.mine.slots]]\nname = "one"\nplacement = "end"\ncount = 1\n')
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: all("mine" in client.status().layouts for client in clients))
        assert [slot.name for slot in clients[0].fill(article_id=PAGE, layout_name="mine").slots] == ["one"]
        config.write_text("layouts = 3\n")
        crew = [*children(server, WORKER), *children(server, ENCODER)]
        for pid in (server.process.pid, *crew):  # as of a terminal that is closed
            os.kill(pid, signal.SIGHUP)
        time.sleep(0.3)
        assert [*children(server, WORKER), *children(server, ENCODER)] == crew
        assert all("mine" in client.status().layouts for client in clients)


def test_settings_come_to_a_worker_that_is_being_started(data_dir: Path, tmp_path: Path) -> None:
    """A worker that was started with the former settings gets the new ones once it is ready."""
    config = tmp_path / "related-news.toml"
    config.write_text("")
    with served(fake_server(data_dir, "--workers", "2", "--config", str(config))) as server:
        victim = children(server, WORKER)[0]
        end(victim)
        assert eventually(lambda: len(set(children(server, WORKER)) - {victim}) == 2)
        config.write_text('[[layouts.mine.slots]]\nname = "one"\nplacement = "end"\ncount = 1\n')
        server.process.send_signal(signal.SIGHUP)
        with open_roster(data_dir) as roster:
            assert eventually(lambda: len(list(roster.others())) == 2)
        time.sleep(0.5)  # until it listens
        assert eventually(lambda: _all_know(server.client.address, "mine"))


def test_settings_with_an_unusable_ranker_are_not_applied(data_dir: Path, tmp_path: Path) -> None:
    """A worker that is started later does not get them either: it would never start."""
    config, ranker = tmp_path / "related-news.toml", tmp_path / "ranker.json"
    config.write_text("")
    with served(fake_server(data_dir, "--config", str(config), "--log-level", "ERROR")) as server:
        for text in (None, "1x", '{"weights": 5}'):
            if text:
                ranker.write_text(text)
            config.write_text(
                f'ranker = "{ranker}"\n[[layouts.mine.slots]]\nname = "one"\nplacement = "end"\ncount = 1\n'
            )
            server.process.send_signal(signal.SIGHUP)
            assert _logs(server, "settings not reloaded")
        end(children(server, WORKER)[0])
        assert eventually(lambda: _answers(server, PAGE))
        assert not _all_know(server.client.address, "mine")


def _logs(server: Served, words: str) -> bool:
    """Wait for a line of the log that has these words; one that does not come ends the service, and the wait."""
    watchdog = threading.Timer(TIMEOUT_S, server.process.kill)
    watchdog.start()
    try:
        return any(words in line for line in iter(server.process.stderr.readline, ""))  # type: ignore[union-attr]
    finally:
        watchdog.cancel()


def _all_know(address: str, layout: str) -> bool:
    """Say whether a layout is known wherever a call arrives."""
    with connections(address, CONNECTIONS) as clients:
        return all(layout in client.status().layouts for client in clients)


# Snapshots and models


def test_a_snapshot_is_written_in_the_background_and_swapped_in(data_dir: Path) -> None:
    """After enough changes every worker is on a new snapshot, answers as before, and has no tail left."""
    with served(fake_server(data_dir, "--workers", "2", "--compact-after", "10")) as server:
        with connections(server.client.address, CONNECTIONS) as clients:
            for number in range(12):
                clients[0].upsert(like_page("new", summary=f"Version {number} of it."))
            before = clients[0].fill(article_id=PAGE)

            def all_are_on_it() -> bool:
                return all(c.status().snapshot_revision >= 50 and c.status().tail_count <= 4 for c in clients)

            assert eventually(all_are_on_it)
            assert all(equal(client.fill(article_id=PAGE), before) for client in clients)
        assert server.end() == 0


def test_a_model_is_changed_and_changed_back_without_a_failed_call(data_dir: Path) -> None:
    """Pages by id and by draft, and writes, go on while the whole archive moves to another model and back."""
    failed: list[BaseException] = []
    models: set[str] = set()
    stop = threading.Event()

    def ask(client: Client, by_draft: bool) -> None:
        while not stop.is_set():
            try:
                plan = client.fill(draft=draft()) if by_draft else client.fill(article_id=PAGE)
                models.add(plan.receipt.model)
            except grpc.RpcError as error:
                failed.append(error)

    def write(client: Client) -> None:
        number = 0
        while not stop.is_set():
            try:
                revision = client.upsert(message(f"w-{number}", title=f"Tide {number}")).revision
                client.related.FillSlots(
                    fill_request(article_id=f"w-{number}", min_revision=revision), timeout=TIMEOUT_S
                )
                number += 1
            except grpc.RpcError as error:
                failed.append(error)

    first, wide = FakeEmbedder(), FakeEmbedder("wide", 2 * DIMENSION)
    with served(fake_server(data_dir, "--workers", "2")) as server:
        with connections(server.client.address, 3) as clients:
            before = clients[0].fill(article_id=PAGE)
            threads = [
                threading.Thread(target=ask, args=(clients[0], False)),
                threading.Thread(target=ask, args=(clients[1], True)),
                threading.Thread(target=write, args=(clients[2],)),
            ]
            for thread in threads:
                thread.start()
            for embedder in (wide, first):
                reindex(data_dir, embedder)
                assert eventually(partial(_all_are_on, clients, embedder.info.key))
            stop.set()
            for thread in threads:
                thread.join(TIMEOUT_S)
            after = clients[0].fill(article_id=PAGE)
        assert server.end() == 0
    assert failed == []
    assert models == {first.info.key, wide.info.key}
    assert (after.receipt.model, len(ids_of(after))) == (before.receipt.model, 5)


def _all_are_on(clients: list[Client], model: str) -> bool:
    return all(client.status().model == model for client in clients)


def _answers(server: Served, article_id: str = PAGE) -> bool:
    try:
        return server.client.get(article_id).id == article_id and bool(ids_of(server.client.fill(article_id=PAGE)))
    except grpc.RpcError:
        return False


def _deleted(server: Served, article_id: str) -> bool:
    """Withdraw an article by a connection of its own, in time for one timeout; a hung worker does not answer it."""
    with connections(server.client.address, 1) as (client,):
        try:
            request = articles_pb.DeleteArticlesRequest(ids=[article_id])
            client.articles.DeleteArticles(request, timeout=3)
        except grpc.RpcError:
            return False
        return True
