"""What a writer was promised: the acknowledged state of every article, and the one write in doubt."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import grpc
from related_news.v1 import article_service_pb2 as articles_pb

from tests.service.client import Client
from tests.soak.newsroom import Version, message_of, version_of

State = dict[str, Version | None]
"""Each article's version; None for one that is not there."""
CALL_S = 30.0
"""Seconds for a call: a write that waits for a worker to be replaced is slow, but returns."""


@dataclass
class Ledger:
    """One writer's articles, which nobody else writes."""

    name: str
    rng: random.Random
    articles: int = 6
    acknowledged: State = field(default_factory=dict)
    in_doubt: State = field(default_factory=dict)
    version: int = 0
    writes: int = 0

    def __post_init__(self) -> None:
        self.acknowledged = {f"{self.name}-{number}": None for number in range(self.articles)}

    def write(self, client: Client) -> bool:
        """Make one random call; returns whether it was acknowledged. One that was not is in doubt until `settle`."""
        assert not self.in_doubt
        chosen = self.rng.sample(sorted(self.acknowledged), self.rng.randint(1, 4))
        call, self.in_doubt = self._deletion(chosen) if self.rng.random() < 0.3 else self._upsert(chosen)
        try:
            if isinstance(call, articles_pb.DeleteArticlesRequest):
                client.articles.DeleteArticles(call, timeout=CALL_S)
            else:
                answer = client.articles.UpsertArticles(call, timeout=CALL_S)
                assert not any(result.HasField("problem") for result in answer.results), answer
        except grpc.RpcError:
            return False
        self.acknowledged.update(self.in_doubt)
        self.in_doubt = {}
        self.writes += 1
        return True

    def _deletion(self, ids: list[str]) -> tuple[articles_pb.DeleteArticlesRequest, State]:
        return articles_pb.DeleteArticlesRequest(ids=ids), dict.fromkeys(ids)

    def _upsert(self, ids: list[str]) -> tuple[articles_pb.UpsertArticlesRequest, State]:
        """Write new texts, new rules, or both; a text that is sent without rules keeps those that are stored."""
        request, state = articles_pb.UpsertArticlesRequest(), State()
        self.version += 1
        for article_id in ids:
            before = self.acknowledged[article_id]
            kind = self.rng.choice(["both", "text", "rules"]) if before else "both"
            new = Version(
                before.text if before and kind == "rules" else self.version,
                before.rules if before and kind == "text" else self.version,
            )
            request.articles.append(message_of(article_id, new, with_rules=kind != "text"))
            state[article_id] = new
        return request, state

    def settle(self, client: Client) -> None:
        """Check every article: it is as acknowledged, and a write in doubt is there as a whole or not at all.

        Raises AssertionError saying what was lost or half-applied.
        """
        present = self.read(client)
        for outcome in (self.acknowledged, self.acknowledged | self.in_doubt):
            if present == outcome:
                self.acknowledged, self.in_doubt = outcome, {}
                return
        wrong = {
            article_id: (present[article_id], state, self.in_doubt.get(article_id, "not written"))
            for article_id, state in self.acknowledged.items()
            if present[article_id] != state
        }
        raise AssertionError(f"present, acknowledged, in doubt: {wrong}")

    def read(self, client: Client) -> State:
        """Return what the service has of every article. Raises AssertionError if one is half of another version."""
        return {article_id: self._read(client, article_id) for article_id in self.acknowledged}

    def _read(self, client: Client, article_id: str) -> Version | None:
        try:
            return version_of(client.get(article_id))
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
