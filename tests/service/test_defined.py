"""Behaviour that must be defined: two services on one folder, two writers, a clock that jumps."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.clock import DAY_MS
from recommender.rpc.messages import timestamp
from tests.building import NOW_MS
from tests.newsroom import PAGE
from tests.service.client import TIMEOUT_S, Client, shown
from tests.service.crew import eventually
from tests.service.messages import ids_of, like_page
from tests.service.servers import Host, Served, fake_server, served

HOUR_MS = 3_600_000


# Two services on one folder


@pytest.fixture(scope="module")
def services(archive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Served]]:
    """Serve one folder twice."""
    folder = Path(shutil.copytree(archive_folder, tmp_path_factory.mktemp("twice") / "data"))
    with ExitStack() as stack:
        options = ("--compact-after", "10", "--takedown-timeout-s", "20")
        yield [stack.enter_context(served(fake_server(folder, *options))) for _ in range(2)]


def test_two_services_on_one_folder_act_as_one(services: list[Served]) -> None:
    """What one acknowledges holds in the other, withdrawals too, while both write snapshots."""
    one, other = (server.client for server in services)
    for number in range(12):
        writer, reader = (one, other) if number % 2 else (other, one)
        writer.upsert(like_page("touchy", summary=f"Version {number}"))
        assert "touchy" in shown(reader)
        writer.delete("touchy")
        assert "touchy" not in shown(reader)
    assert eventually(lambda: min(client.status().snapshot_revision for client in (one, other)) > 40)
    assert ids_of(one.fill(article_id=PAGE)) == ids_of(other.fill(article_id=PAGE))


def test_of_two_writers_of_one_article_the_later_revision_holds(services: list[Served]) -> None:
    """Each write is whole, text and rules of one call, and all processes end with the last one."""
    last: dict[str, int] = {}

    def write(client: Client, name: str) -> None:
        for number in range(15):
            sent = like_page("both", summary=f"{name} {number}")
            sent.rules.never_with.append(f"{name}-{number}")
            last[f"{name} {number}"] = client.upsert(sent).revision

    threads = [threading.Thread(target=write, args=(server.client, "xy"[i])) for i, server in enumerate(services)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    found = [server.client.get("both") for server in services]
    assert found[0] == found[1]
    assert len(last) == 30
    name, number = found[0].summary.split()
    assert list(found[0].rules.never_with) == [f"{name}-{number}"]
    assert number == "14", "the last of one of the two"


# The clock


@pytest.fixture
def clock() -> list[int]:
    """Return the clock of `service`, milliseconds, to be set."""
    return [NOW_MS]


@pytest.fixture
def service(host: Host, data_dir: Path, clock: list[int]) -> Iterator[Client]:
    """Serve a fresh copy by the test's clock."""
    with host.server(data_dir, clock=lambda: clock[0]) as (client, _):
        yield client


def listed(client: Client, **values: object) -> list[str]:
    """Return the ids that are listed for the page at the clock's time."""
    request = related_pb.ListRelatedRequest(article_id=PAGE, k=100, **values)  # type: ignore[arg-type]
    return ids_of(client.related.ListRelated(request, timeout=TIMEOUT_S))


def test_a_clock_that_jumps_back_hides_what_is_not_yet_public_by_it(clock: list[int], service: Client) -> None:
    """Nothing is shown early and nothing is lost: an article is back when the clock is; older ones stay throughout."""
    service.upsert(like_page("fresh", days_ago=0.01))
    embargoed = like_page("embargoed", title="Dredging of the harbour", paragraphs=["The tide waits for the crane."])
    embargoed.rules.embargo_until.CopyFrom(timestamp(NOW_MS + HOUR_MS))
    service.upsert(embargoed)
    before = listed(service)
    assert "fresh" in before
    assert "embargoed" not in before
    clock[0] = NOW_MS + 2 * HOUR_MS
    assert "embargoed" in listed(service)
    clock[0] = NOW_MS
    assert listed(service) == before
    clock[0] = NOW_MS - DAY_MS // 2
    earlier = listed(service)
    assert "fresh" not in earlier
    assert set(earlier) == set(before) - {"fresh"}
    clock[0] = NOW_MS
    assert listed(service) == before


def test_a_clock_that_jumps_back_stops_no_writer(clock: list[int], service: Client) -> None:
    """Revisions grow whatever the clock says, and the later write wins."""
    first = service.upsert(like_page("fresh", summary="Older", days_ago=400)).revision
    clock[0] = NOW_MS - 300 * DAY_MS
    second = service.upsert(like_page("fresh", summary="Newer", days_ago=400)).revision
    assert second == first + 1
    assert service.get("fresh").summary == "Newer"
    assert service.status().revision == second
    service.delete("fresh")
    with pytest.raises(grpc.RpcError):
        service.get("fresh")
    assert service.status().article_count == 40


def test_the_order_of_answers_does_not_depend_on_the_clock(clock: list[int], service: Client) -> None:
    """Articles that are public at both times have the same scores: ages count from the page's date."""
    request = related_pb.ListRelatedRequest(article_id=PAGE, k=100)
    answers = []
    for ms in (NOW_MS, NOW_MS + 30 * DAY_MS, NOW_MS):
        clock[0] = ms
        answer = service.related.ListRelated(request, timeout=TIMEOUT_S)
        answers.append([(r.article.id, r.score) for r in answer.recommendations])
    assert answers[0] == answers[1] == answers[2]
