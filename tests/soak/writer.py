"""Writers at a steady rate, and a probe of how soon an article is shown, and how soon a withdrawn one is not."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from related_news.v1 import common_pb2 as common_pb

from tests.newsroom import PAGE, SECTIONS, made_up
from tests.service.client import Client
from tests.service.crew import connections
from tests.service.messages import ids_of, list_request, message

THREADS = 4
"""Threads that write together."""
PROBE_EVERY_S = 0.5
"""Seconds between two probes."""
PROBES = "probes"
"""A section of nothing but the probe's article."""
SEEN_S = 10.0
"""Seconds in which a probe's article must be shown."""


@dataclass
class Written:
    """What writers did. gone_s: when the withdrawal of each id was acknowledged, monotonic clock."""

    upsert_s: list[float] = field(default_factory=list)
    delete_s: list[float] = field(default_factory=list)
    gone_s: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    fresh_s: list[float] = field(default_factory=list)
    takedown_s: list[float] = field(default_factory=list)
    still_shown: list[str] = field(default_factory=list)
    """Ids that the probe saw after their withdrawal."""


class Writers:
    """Threads that write together `rate` times a second, half upserts, half deletions; and the probe."""

    def __init__(self, address: str, rate: float, living: int) -> None:
        """Write to the service at `address`. living: number of their articles before the first is withdrawn."""
        self.written = Written()
        self._address, self._rate, self._most = address, rate, living
        self._living: deque[str] = deque()
        self._number = 0
        self._lock = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write until the end."""
        stop = threading.Event()
        with connections(self._address, THREADS) as clients, connections(self._address, 8) as eyes:
            threads = [threading.Thread(target=self._write, args=(client, stop)) for client in clients]
            threads.append(threading.Thread(target=self._probe, args=(eyes, stop)))
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                stop.set()
                for thread in threads:
                    thread.join()

    def _write(self, client: Client, stop: threading.Event) -> None:
        every_s = THREADS / self._rate
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due += every_s
            try:
                self._one(client)
            except Exception as error:
                self.written.errors.append(repr(error))

    def _one(self, client: Client) -> None:
        with self._lock:
            self._number += 1
            number = self._number
            leaving = self._living.popleft() if len(self._living) >= self._most else None
        begun = time.monotonic()
        if leaving is not None and number % 2:
            client.delete(leaving)
            now = time.monotonic()
            self.written.delete_s.append(now - begun)
            self.written.gone_s[leaving] = now
            return
        with self._lock:
            if leaving is not None:
                self._living.appendleft(leaving)
        client.upsert(_article(number))
        self.written.upsert_s.append(time.monotonic() - begun)
        with self._lock:
            self._living.append(f"live-{number}")

    # The probe

    def _probe(self, clients: list[Client], stop: threading.Event) -> None:
        number = 0
        while not stop.wait(PROBE_EVERY_S):
            number += 1
            try:
                self._look(clients, f"probe-{number}")
            except Exception as error:
                self.written.errors.append(repr(error))

    def _look(self, clients: list[Client], article_id: str) -> None:
        """Publish an article, see it on every connection, withdraw it, see it on none."""
        clients[0].upsert(_article(90_000 + int(article_id.rpartition("-")[2]), id=article_id, section=PROBES))
        acknowledged = time.monotonic()
        for client in clients:
            while article_id not in _probes(client):
                if time.monotonic() > acknowledged + SEEN_S:
                    self.written.errors.append(f"{article_id} is not shown after {SEEN_S} s")
                    return
        self.written.fresh_s.append(time.monotonic() - acknowledged)
        begun = time.monotonic()
        clients[-1].delete(article_id)
        self.written.takedown_s.append(time.monotonic() - begun)
        self.written.still_shown += [article_id for client in clients if article_id in _probes(client)]


def _article(number: int, **changes: str) -> common_pb.Article:
    like = made_up(SECTIONS[number % len(SECTIONS)], 20_000 + number)
    values = {"id": f"live-{number}", "section": like.labels.section, **changes}
    paragraphs = [paragraph.text for paragraph in like.paragraphs]
    return message(
        title=f"{like.title} {number}",
        summary=like.summary,
        paragraphs=paragraphs,
        tags=like.labels.tags,
        days_ago=0.1,
        **values,
    )


def _probes(client: Client) -> list[str]:
    only = common_pb.Filters(sections=[PROBES])
    return ids_of(client.related.ListRelated(list_request(article_id=PAGE, filters=only, k=5), timeout=SEEN_S))
