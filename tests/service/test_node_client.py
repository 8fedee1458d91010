"""A Node.js client, made from the protos alone, gets the answers that the Python client gets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from related_news.v1 import related_news_service_pb2 as related_pb

from recommender.catalog.checks import format_time
from recommender.clock import DAY_MS
from recommender.rpc.messages import timestamp
from tests.building import NOW_MS
from tests.newsroom import PAGE
from tests.service.client import TIMEOUT_S, Client
from tests.service.messages import draft, equal, ids_of
from tests.service.node.packages import FOLDER, install


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    install()


def run(client: Client, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run client.js against the server that `client` is connected to, as of the tests' clock."""
    command = ["node", "client.js", client.address, "--as-of", format_time(NOW_MS), *arguments]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=TIMEOUT_S)


def as_dict(plan: related_pb.PagePlan) -> dict[str, Any]:
    """Return a plan as protobuf's JSON, with every field that is there under the contract's name."""
    return json_format.MessageToDict(plan, preserving_proto_field_name=True)


@pytest.mark.parametrize("by", ["id", "draft"])
def test_node_gets_the_plan_that_python_gets(reading: Client, tmp_path: Path, by: str) -> None:
    """By id and by draft, every field of the plan is the same, and there is no field that only one of them sees."""
    if by == "id":
        arguments, expected = [PAGE], reading.fill(article_id=PAGE)
    else:
        file = tmp_path / "draft.json"
        page = draft(published_at=timestamp(NOW_MS - DAY_MS))
        file.write_text(json_format.MessageToJson(page, preserving_proto_field_name=True))
        arguments, expected = ["--draft", str(file)], reading.fill(draft=page)
    done = run(reading, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    plan = json_format.ParseDict(printed, related_pb.PagePlan())
    assert as_dict(plan) == as_dict(expected)
    assert equal(plan, expected)
    assert len(ids_of(plan)) == 5
    assert [place["after_paragraph"] for place in printed["slots"][0]["places"]] == [
        place.after_paragraph for place in expected.slots[0].places
    ]


def test_node_gets_the_status_and_its_message(reading: Client) -> None:
    """A refusal arrives as its code and the words that Python's client gets."""
    done = run(reading, "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "NOT_FOUND: unknown article 'nobody' (upsert it first, or send the page as a draft)\n"
