"""Commands that ask a service: tables, JSON, and errors, against a real server process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from related_news.v1 import article_service_pb2 as articles_pb
from related_news.v1 import related_news_service_pb2 as related_pb
from rich.console import Console

from indexer.cli import console
from recommender.catalog.opening import SNAPSHOTS
from recommender.catalog.snapshot.writer import write_snapshot
from recommender.errors import UnavailableError
from recommender.rpc.statuses import abortable
from tests.building import DIMENSION, FakeEmbedder, build_store
from tests.indexer.cli.running import Invoke, article, failed, write
from tests.newsroom import PAGE, newsroom
from tests.service.messages import draft
from tests.service.servers import Served, fake_server, served

NOBODY = "127.0.0.1:1"
"""An address at which no service listens."""
FIX = "start one with `related-news serve`, or give --address"
ASKING = {
    "status": ["status"],
    "related": ["related", PAGE],
    "page": ["page", PAGE],
    "delete": ["delete", PAGE],
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the made-up newsroom in a process of its own, for tests that change nothing."""
    with newsroom_server(tmp_path_factory.mktemp("newsroom")) as server:
        yield server


def newsroom_server(folder: Path) -> Any:
    """Return a server process on a new index of the made-up newsroom."""
    store = build_store(folder, newsroom())
    write_snapshot(store, folder / SNAPSHOTS, DIMENSION)
    store.close()
    return served(fake_server(folder))


@pytest.mark.parametrize("arguments", ASKING.values(), ids=ASKING)
def test_without_a_service_the_address_and_the_remedy_are_named(invoke: Invoke, arguments: list[str]) -> None:
    """The command prints one line on standard error and exits with 1."""
    line = failed(invoke(*arguments, "--address", NOBODY))
    assert line.startswith("error: no service answers: ")
    assert NOBODY in line
    assert line.endswith(f"({FIX})")


@pytest.mark.slow
def test_the_address_is_that_of_the_settings_by_default(
    invoke: Invoke, service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --address the configured host and port are asked."""
    monkeypatch.setenv("RELATED_NEWS_SERVER__PORT", "1")
    assert f"ipv4:{NOBODY}" in failed(invoke("status"))
    monkeypatch.setenv("RELATED_NEWS_SERVER__PORT", service.client.address.split(":")[1])
    assert invoke("status").exit_code == 0


@pytest.mark.slow
def test_status_is_a_table_or_json(invoke: Invoke, service: Served) -> None:
    """Table and JSON state what the service answers."""
    shown = invoke("status", "--address", service.client.address)
    assert (shown.exit_code, shown.stderr) == (0, "")
    cells = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in shown.stdout.splitlines())
    assert cells["articles"] == "40"
    assert cells["revision"] == "40 applied, 40 stored"
    assert cells["model"] == FakeEmbedder().info.key
    printed = invoke("status", "--json", "--address", service.client.address)
    assert (printed.exit_code, printed.stderr) == (0, "")
    answer = json_format.Parse(printed.stdout, articles_pb.GetIndexStatusResponse())
    assert (answer.article_count, answer.model, list(answer.layouts)) == (40, cells["model"], ["default"])


@pytest.mark.slow
@pytest.mark.parametrize(("options", "count"), [([], 10), (["-k", "3"], 3), (["-k", "100"], 39)])
def test_related_lists_as_many_as_asked(invoke: Invoke, service: Served, options: list[str], count: int) -> None:
    """The list has ten articles by default, else as many as asked for; table and JSON have the same ids."""
    asked = ["related", PAGE, *options, "--address", service.client.address]
    printed = invoke(*asked, "--json")
    assert (printed.exit_code, printed.stderr) == (0, "")
    answer = json_format.Parse(printed.stdout, related_pb.ListRelatedResponse())
    ids = [link.article.id for link in answer.recommendations]
    assert len(ids) == len(set(ids)) == count
    assert PAGE not in ids
    table = invoke(*asked)
    assert table.exit_code == 0
    rows, receipt = table.stdout.split("revision ")
    assert re.findall(r"(\w+-\d) *$", rows, re.MULTILINE) == ids
    assert receipt.startswith(f"40, 40 candidates seen, {answer.receipt.ranker}\n")


@pytest.mark.slow
def test_where_there_is_no_terminal_a_row_is_one_line(
    invoke: Invoke, service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program reads is neither wrapped nor cut, however narrow a terminal would be."""
    monkeypatch.setattr(console, "out", Console(width=40))
    lines = invoke("related", PAGE, "-k", "3", "--address", service.client.address).stdout.splitlines()
    assert [bool(re.fullmatch(r" \d\.\d\d .* \w+-\d *", line)) for line in lines[1:4]] == [True] * 3
    assert lines[4].startswith("revision 40")
    assert FakeEmbedder().info.key in invoke("status", "--address", service.client.address).stdout


@pytest.mark.slow
@pytest.mark.parametrize("k", ["-5", "-1", "0", "101", "1000000", "99999999999999999999"])
def test_related_with_k_out_of_range_says_the_range(invoke: Invoke, service: Served, k: str) -> None:
    """The number is repeated as it was given, however large or small."""
    line = failed(invoke("related", PAGE, "-k", k, "--address", service.client.address))
    assert line == f"error: k: is {k} (ask for 1 to 100)"


def test_related_with_k_that_is_no_number_is_a_usage_error(invoke: Invoke) -> None:
    """The exit code is 2, and nothing is asked."""
    result = invoke("related", PAGE, "-k", "many", "--address", NOBODY)
    assert result.exit_code == 2
    assert "Invalid value for '-k'" in result.stderr


@pytest.mark.slow
def test_page_shows_the_text_with_both_slots_and_reasons(invoke: Invoke, service: Served) -> None:
    """Two links stand between paragraphs and three at the end, each with score and reason; JSON has the same plan."""
    asked = ["page", PAGE, "--address", service.client.address]
    shown = invoke(*asked)
    assert (shown.exit_code, shown.stderr) == (0, "")
    text = shown.stdout
    assert text.count("Related News: ") == 2
    assert text.count("Read More:") == 1
    assert len(re.findall(r"[01]\.\d\d  same story: \w+, \w+, \w+; \d+ days older", text)) == 5
    printed = invoke(*asked, "--json")
    assert (printed.exit_code, printed.stderr) == (0, "")
    plan = json_format.Parse(printed.stdout, related_pb.PagePlan())
    assert [slot.name for slot in plan.slots] == ["related_news", "read_more"]
    titles = [place.recommendation.article.title for slot in plan.slots for place in slot.places]
    assert len(titles) == 5
    assert sorted(titles, key=text.index) == [
        *(place.recommendation.article.title for place in plan.slots[0].places),
        *(place.recommendation.article.title for place in plan.slots[1].places),
    ]


@pytest.mark.slow
def test_a_draft_in_a_file_gets_links_like_a_stored_page(invoke: Invoke, service: Served, tmp_path: Path) -> None:
    """Any file that could be indexed is a draft; its own text is shown around the links."""
    like = draft(title="A harbour that was never indexed")
    record = article("x", title=like.title, summary=like.summary, paragraphs=[p.text for p in like.paragraphs])
    path = write(tmp_path / "draft.jsonl", record)
    shown = invoke("page", "--draft", path, "--address", service.client.address)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "A harbour that was never indexed" in shown.stdout
    assert shown.stdout.count("Related News: ") == 2
    printed = invoke("related", "--draft", path, "-k", "3", "--json", "--address", service.client.address)
    answer = json_format.Parse(printed.stdout, related_pb.ListRelatedResponse())
    assert [link.article.section for link in answer.recommendations] == ["harbour"] * 3


REFUSED: dict[str, tuple[list[str], str]] = {
    "unknown id": (
        ["related", "nobody"],
        "NOT_FOUND: unknown article 'nobody' (upsert it first, or send the page as a draft)",
    ),
    "unknown layout": (
        ["page", PAGE, "--layout", "wide"],
        "NOT_FOUND: unknown layout 'wide' (use one of: default; or give a layout inline)",
    ),
    "empty id": (["page", ""], "INVALID_ARGUMENT: article_id: is empty (send the article's id)"),
    "long id": (
        ["related", "x" * 10_000],
        "INVALID_ARGUMENT: article_id: is 10,000 bytes long; at most 512 (use a shorter id)",
    ),
    "empty id to delete": (["delete", ""], "INVALID_ARGUMENT: ids[0]: is empty (send the article's id)"),
    "id that is not UTF-8": (["related", "\udcff[b]"], "'\\udcff[b]' is not UTF-8"),
    "layout that is not UTF-8": (["page", PAGE, "--layout", "\udcff"], "'\\udcff' is not UTF-8"),
    "deleted id that is not UTF-8": (["delete", "\udcff"], "'\\udcff' is not UTF-8"),
    "neither id nor draft": (["related"], "page: is not clear (give either an article id or --draft FILE)"),
    "both id and draft": (
        ["page", PAGE, "--draft", "good.jsonl"],
        "page: is not clear (give either an article id or --draft FILE)",
    ),
    "missing draft": (["page", "--draft", "missing.jsonl"], "unknown file 'missing.jsonl' (check the path)"),
    "unreadable draft": (
        ["related", "--draft", "bad.jsonl"],
        "bad.jsonl: holds no readable article: bad.jsonl:1: is not valid JSON: EOF while parsing an object at column 1;"
        " write one object a line (give one that `related-news index` can read)",
    ),
    "empty draft": (
        ["page", "--draft", "empty.jsonl"],
        "INVALID_ARGUMENT: draft.title: title, summary and paragraphs are all empty (send at least one of them)",
    ),
    "undated draft": (
        ["page", "--draft", "undated.jsonl"],
        "published_at: '2026-03-01' has no time zone (use RFC 3339 with a zone, such as 2026-03-01T12:00:00Z)",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_is_one_clear_line(
    invoke: Invoke, service: Served, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """The exit code is 1, and standard error has the reason with its fix and no stack trace."""
    write(tmp_path / "good.jsonl", article("x"))
    write(tmp_path / "bad.jsonl", "{")
    write(tmp_path / "empty.jsonl", article("x", title=""))
    write(tmp_path / "undated.jsonl", article("x", published_at="2026-03-01"))
    assert failed(invoke(*arguments, "--address", service.client.address)) == f"error: {message}"


@pytest.mark.slow
def test_delete_withdraws_and_says_what_was_not_there(invoke: Invoke, tmp_path: Path) -> None:
    """The exit code is 0 if all were there, else 3; ids are printed as they are, and no answer has the articles."""
    with newsroom_server(tmp_path) as server:
        at = ["--address", server.client.address]
        both = invoke("delete", "harbour-1", "harbour-2", *at)
        assert (both.exit_code, both.stdout) == (0, "harbour-1: withdrawn\nharbour-2: withdrawn\n")
        again = invoke("delete", "harbour-3", "harbour-1", "[red]x", *at)
        assert (again.exit_code, again.stderr) == (3, "")
        assert again.stdout == "harbour-3: withdrawn\nharbour-1: not there\n[red]x: not there\n"
        printed = invoke("related", PAGE, "-k", "100", "--json", *at)
        ids = {link["article"]["id"] for link in json.loads(printed.stdout)["recommendations"]}
        assert len(ids) == 36
        assert ids.isdisjoint({"harbour-1", "harbour-2", "harbour-3"})


def test_a_service_that_cannot_answer_now_is_not_taken_for_none(invoke: Invoke) -> None:
    """The text of an UNAVAILABLE from the service is shown, without the advice to start a service."""

    def busy(request: articles_pb.GetIndexStatusRequest, context: grpc.ServicerContext) -> None:
        code, details, metadata = abortable(UnavailableError("the store is busy", fix="try again"))
        context.set_trailing_metadata(metadata)
        context.abort(code, f"{details} {request}".strip())

    method = grpc.unary_unary_rpc_method_handler(
        busy, articles_pb.GetIndexStatusRequest.FromString, articles_pb.GetIndexStatusResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler("related_news.v1.ArticleService", {"GetIndexStatus": method})
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        line = failed(invoke("status", "--address", f"127.0.0.1:{port}"))
    finally:
        server.stop(None).wait()
    assert line == "error: UNAVAILABLE: the store is busy (try again)"
