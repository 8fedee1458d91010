"""Where the time of one FillSlots call by id goes, from the client's request to its answer.

python -m benchmarks.profile_call DATA_DIR

Four take turns, a few pages each: the service's own method in process with wrappers that time its stages, the same
method without wrappers, and over loopback the whole call and the empty call of a server in a process of its own. What
the whole call takes beyond the method in process is gRPC: transport, event loop, interceptor. If other programs run on
the machine, compare the method's time with its processor time first. No model is loaded. Linux only.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
from related_news.v1 import related_news_service_pb2 as related_pb

from benchmarks.data import open_live
from benchmarks.machine import keep
from benchmarks.service import no_model
from benchmarks.service.calls import EMPTY, FILL, METHODS
from benchmarks.service.hosting import Cores, pin, serving
from benchmarks.service.questions import first_time, served_copy
from benchmarks.stage_timer import Stage, StageTimer, wrapper_s
from recommender.answer import features, recommend, slots
from recommender.answer.rank import Ranker, Scored
from recommender.answer.recommend import Recommender
from recommender.answer.records import RecordCache
from recommender.answer.retrieve import WINDOWS
from recommender.answer.shared_terms import ParagraphFit, SharedTerms
from recommender.answer.suppression import Suppression
from recommender.catalog.live import Live
from recommender.catalog.opening import STORE_FILE
from recommender.catalog.store.store import open_store
from recommender.catalog.vectors.index import limit_threads
from recommender.encoding.batcher import Batcher
from recommender.rpc import services
from recommender.rpc.services import RelatedNewsService
from recommender.serving.archive import Archive
from recommender.serving.following import Follower
from recommender.serving.options import ServingOptions

PAGES = 1_000
"""Pages of each of the four, unless told otherwise."""
WARM_UP = 100
"""Pages of each of the four before the measured ones."""
_BLOCK = 25
"""Pages of one turn."""
_MEASURED = ("in_process", "in_process_cpu", "watched", "whole", "empty")
"""Timings of a call, by their names in results; "watched" is in process with wrappers."""
_READ, _WRITE, _REST = "request: parse", "answer: serialise", "request: checks, and what is left of the service"
"""Labels of stages that are no function of the product."""
_SEARCHES = (*(f"search: of the last {articles:,}" for articles, _ in WINDOWS), "search: of any time")
"""Labels of the searches of a page, in order."""

STAGES = (
    Stage(recommend, "_find_page", ("page: find and read it",)),
    Stage(SharedTerms, "__init__", ("page: make its terms ready to compare",)),
    Stage(Recommender, "_read_page", ("page: scope and exclusions",)),
    Stage(Live, "window", ("search: bounds of the windows",)),
    Stage(Live, "search", _SEARCHES),
    Stage(recommend, "retrieve", ("search: unite candidates",)),
    Stage(Live, "signatures", ("evidence: read signatures",)),
    Stage(features, "overlaps", ("evidence: wording overlap",)),
    Stage(Live, "head_cosines", ("evidence: headline cosines",)),
    Stage(Live, "tag_overlaps", ("evidence: tags",)),
    Stage(Live, "label_share", ("evidence: shares of section and site",)),
    Stage(Ranker, "gather", ("evidence: columns and the rest",)),
    Stage(recommend, "default_half_life_days", ("score: publishing rate",)),
    Stage(Ranker, "score", ("score: log-odds",)),
    Stage(Scored, "order", ("score: order",)),
    Stage(Suppression, "prefetch", ("slots: read what may clash",)),
    Stage(Live, "main_vectors", ("slots: read vectors",)),
    Stage(Suppression, "rule_against", ("slots: suppression",)),
    Stage(SharedTerms, "shared", ("slots and reasons: shared terms",)),
    Stage(ParagraphFit, "fit", ("slots: fit of paragraphs",)),
    Stage(slots, "_put_in_place", ("slots: inline positions",)),
    Stage(recommend, "fill", ("slots: choose by MMR",)),
    Stage(RecordCache, "record", ("answer: read records",)),
    Stage(SharedTerms, "subjects", ("answer: reasons, subjects",)),
    Stage(recommend, "reason", ("answer: reasons, words",)),
    Stage(Scored, "explain", ("answer: score parts",)),
    Stage(Recommender, "_fill", ("slots: pools of candidates",)),
    Stage(Recommender, "_explain_link", ("answer: explained links",)),
    Stage(Recommender, "_receipt", ("answer: receipt",)),
    Stage(Recommender, "fill_slots", ("answer: what is left of the recommender",)),
    Stage(services, "plan_to", ("answer: message",)),
)
"""Functions that are timed, with their labels in results."""

Call = Callable[[bytes], bytes]
Method = Callable[[related_pb.FillSlotsRequest], related_pb.FillSlotsResponse]


class _NoDeadline:
    """The part of a call's context that the service uses."""

    def time_remaining(self) -> None:
        """Return None: there is no deadline."""


def main(
    data_dir: Annotated[Path, typer.Argument(help="Folder of an index. A copy beside it is served.")],
    pages: Annotated[int, typer.Option(help="Pages of each of the four measurements.")] = PAGES,
    seed: Annotated[int, typer.Option(help="Seed of the draw of pages.")] = 1,
) -> None:
    """Measure, print a Markdown table and keep the result."""
    cores = Cores.split()
    with (
        served_copy(data_dir) as copy,
        serving(copy, cores, module=no_model.MODULE) as service_there,
        grpc.insecure_channel(service_there.address) as channel,
    ):
        pin(cores.asking)
        whole: Any = channel.unary_unary(METHODS[FILL])
        empty: Any = channel.unary_unary(METHODS[EMPTY])
        values = profile(copy, whole, empty, pages, seed)
    values["cores"] = {"asking": sorted(cores.asking), "serving": sorted(cores.serving)}
    print(table(values))
    print(keep(f"profile-{values['articles']}", values, seed=seed))


def profile(data_dir: Path, whole: Call, empty: Call, pages: int, seed: int) -> dict[str, Any]:
    """Measure on an index that nobody writes to; returns the result's values, with stages in microseconds.

    whole, empty: make a call to a service in another process, with these bytes of a request.
    """
    limit_threads(1)
    live = open_live(data_dir)
    rows = np.random.default_rng(seed).permutation(live.rows())[: 4 * (pages + WARM_UP)].tolist()
    ids = [live.record(int(row)).id for row in rows]
    requests = (first_time(i, number) for number, i in enumerate(itertools.cycle(ids)))
    timer = StageTimer()
    samples: dict[str, list[float]] = {name: [] for name in _MEASURED}
    rounds = []
    with _in_process(data_dir, live) as method:
        plain, wrapped = _answering(method), _wrapped(method, timer)
        for block in range(-WARM_UP // _BLOCK, -(-pages // _BLOCK)):
            some = {
                "in_process": [_seconds(plain, next(requests)) for _ in range(_BLOCK)],
                "in_process_cpu": [_seconds(plain, next(requests), time.thread_time) for _ in range(_BLOCK)],
                "whole": [_seconds(whole, next(requests)) for _ in range(_BLOCK)],
                "empty": [_seconds(empty, b"") for _ in range(_BLOCK)],
            }
            with timer.timing(STAGES):
                stages = [(_seconds(wrapped, next(requests)), timer.take()) for _ in range(_BLOCK)]
            some["watched"] = [seconds for seconds, _ in stages]
            if block >= 0:
                rounds += [taken for _, taken in stages]
                for name, more in some.items():
                    samples[name] += more
    calls = float(np.median([count for _, count in rounds]))
    p50 = {name: _us(np.median(some)) for name, some in samples.items()}
    return {
        "articles": live.count,
        "pages": len(rounds),
        "stages": _medians(rounds),
        **{f"{name}_p50_us": us for name, us in p50.items()},
        "grpc_us": round(p50["whole"] - p50["in_process"], 1),
        "wrapped_calls": calls,
        "wrapper_us": _us(wrapper_s()),
    }


def table(values: dict[str, Any]) -> str:
    """Return a profile in Markdown. Medians of stages need not add up to the median of the whole."""
    whole = values["whole_p50_us"]
    rows = [*values["stages"].items(), ("gRPC: transport, event loop, interceptor", values["grpc_us"])]
    lines = ["| stage | p50 us | of the call |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {us:,.1f} | {us / whole:.1%} |" for name, us in rows]
    lines += [
        f"| the whole call over loopback | {whole:,.1f} | |",
        f"| the empty call beside it | {values['empty_p50_us']:,.1f} | |",
        f"| the method in process | {values['in_process_p50_us']:,.1f} | |",
        f"| its processor time | {values['in_process_cpu_p50_us']:,.1f} | |",
        "",
        f"{values['articles']:,} articles, medians over {values['pages']:,} pages. {values['wrapped_calls']:.0f} calls "
        f"are wrapped, for {values['wrapper_us']:.2f} us each; with that the method takes "
        f"{values['watched_p50_us']:,.1f} us.",
    ]
    return "\n".join(lines)


@contextmanager
def _in_process(data_dir: Path, live: Live) -> Iterator[Method]:
    """Yield the service's method on a live view as a plain function."""

    async def no_other(key: str) -> Batcher:
        raise NotImplementedError(key)

    with closing(open_store(data_dir / STORE_FILE)) as store:
        archive = Archive(Follower(data_dir, store, live, Batcher(no_model.NoModel(data_dir)), no_other))
        options = ServingOptions()
        service_of = RelatedNewsService(archive, lambda: options, lambda: time.time_ns() // 1_000_000)
        context: Any = _NoDeadline()
        yield lambda request: _finished(service_of.FillSlots(request, context))


def _finished(work: Coroutine[Any, Any, related_pb.FillSlotsResponse]) -> related_pb.FillSlotsResponse:
    """Return the result of a coroutine that never waits; FillSlots by id is one."""
    try:
        work.send(None)
    except StopIteration as stop:
        response: related_pb.FillSlotsResponse = stop.value
        return response
    raise RuntimeError("FillSlots by id waits for something")


def _answering(method: Method) -> Call:
    def answer(data: bytes) -> bytes:
        return method(related_pb.FillSlotsRequest.FromString(data)).SerializeToString()

    return answer


def _wrapped(method: Method, timer: StageTimer) -> Call:
    parse = timer.wrapped(related_pb.FillSlotsRequest.FromString, (_READ,), -1)
    answer = timer.wrapped(method, (_REST,), -2)
    serialise = timer.wrapped(related_pb.FillSlotsResponse.SerializeToString, (_WRITE,), -3)

    def call(data: bytes) -> bytes:
        serialised: bytes = serialise(answer(parse(data)))
        return serialised

    return call


def _seconds(call: Call, request: bytes, clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    call(request)
    return clock() - started


def _medians(rounds: Sequence[tuple[dict[str, float], int]]) -> dict[str, float]:
    """Return the median microseconds of each stage, in the order of a call; a page without a stage counts 0."""
    order = [_READ, _REST, *(label for stage in STAGES for label in stage.labels), _WRITE]
    return {label: _us(np.median([seconds.get(label, 0.0) for seconds, _ in rounds])) for label in order}


def _us(seconds: float | np.floating[Any]) -> float:
    return round(float(seconds) * 1e6, 2)


if __name__ == "__main__":
    typer.run(main)
