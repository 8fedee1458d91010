"""Every error of this project has one documented gRPC status; an unforeseen one is INTERNAL and reveals nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from related_news.v1 import common_pb2 as common_pb

import indexer.pipeline
from recommender import errors
from recommender.errors import InvalidInputError, NotFoundError, RelatedNewsError
from recommender.rpc.statuses import CODES, DOMAIN, abortable, code_of, problem_of, status_of
from tests.newsroom import PAGE
from tests.service.client import Client, refusal
from tests.service.messages import draft, ids_of, message
from tests.service.servers import TroubledEmbedder

DOCUMENTED = {
    "RelatedNewsError": "INTERNAL",
    "InvalidInputError": "INVALID_ARGUMENT",
    "StoppedError": "INVALID_ARGUMENT",
    "NotFoundError": "NOT_FOUND",
    "AlreadyRunningError": "FAILED_PRECONDITION",
    "MismatchError": "FAILED_PRECONDITION",
    "EncoderChangedError": "FAILED_PRECONDITION",
    "UnavailableError": "UNAVAILABLE",
    "OverloadError": "RESOURCE_EXHAUSTED",
    "StorageError": "UNAVAILABLE",
    "DiskFullError": "RESOURCE_EXHAUSTED",
    "CorruptError": "DATA_LOSS",
    "DeadlineError": "DEADLINE_EXCEEDED",
}
"""The code of every class of errors; a new class needs a line here."""


def tree(cls: type[RelatedNewsError] = RelatedNewsError) -> Iterator[type[RelatedNewsError]]:
    """Yield a class and all its subclasses, wherever they are defined."""
    yield cls
    for subclass in cls.__subclasses__():
        yield from tree(subclass)


def example(cls: type[RelatedNewsError]) -> RelatedNewsError:
    """Return an error of a class."""
    if issubclass(cls, InvalidInputError):
        return cls("field", "is bad", fix="mend it")
    if issubclass(cls, NotFoundError):
        return cls("thing", "name", fix="make it")
    return cls("went wrong", fix="mend it")


PRODUCT = [cls for cls in tree() if cls.__module__.startswith(("recommender.", "indexer."))]


def test_every_class_of_errors_has_a_documented_code() -> None:
    """The tree of classes is the table of this test: none is missing, none is left over."""
    assert {cls.__name__ for cls in PRODUCT} == set(DOCUMENTED)
    assert set(CODES) <= set(PRODUCT)
    assert indexer.pipeline.StoppedError in PRODUCT


@pytest.mark.parametrize("cls", PRODUCT, ids=lambda cls: cls.__name__)
def test_an_error_becomes_its_status_with_details(cls: type[RelatedNewsError]) -> None:
    """Code, message and ErrorInfo are there for each class, and the code is never UNKNOWN."""
    error = example(cls)
    status = status_of(error)
    assert code_pb2.Code.Name(status.code) == DOCUMENTED[cls.__name__] != "UNKNOWN"
    assert status.message == str(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == DOMAIN == "related-news"
    assert info.reason == {"RelatedNewsError": "RELATED_NEWS", "AlreadyRunningError": "ALREADY_RUNNING"}.get(
        cls.__name__, info.reason
    )
    assert info.reason.replace("_", "").lower() + "error" == cls.__name__.lower()
    code, details, metadata = abortable(error)
    assert (code.name, details) == (DOCUMENTED[cls.__name__], str(error))
    assert [key for key, _ in metadata] == ["grpc-status-details-bin"]


@pytest.mark.parametrize("cls", PRODUCT, ids=lambda cls: cls.__name__)
def test_an_error_becomes_a_problem_of_the_same_code(cls: type[RelatedNewsError]) -> None:
    """Inside an answer the same error has the same code's name, its field if it has one, and its remedy."""
    error = example(cls)
    assert problem_of(error) == common_pb.Problem(
        code=DOCUMENTED[cls.__name__],
        field=error.field if isinstance(error, InvalidInputError) else "",
        message=error.message,
        fix=error.fix,
    )


def test_a_subclass_without_a_line_has_its_base_s_code() -> None:
    """A kind of error that is added later is mapped as the nearest class that is listed."""
    later = type("LaterError", (errors.DiskFullError,), {})
    assert code_of(later("x")) == code_pb2.RESOURCE_EXHAUSTED


def test_a_field_and_a_missing_thing_are_named_in_the_details() -> None:
    """BadRequest names the field and the remedy, ResourceInfo what was asked for."""
    bad = error_details_pb2.BadRequest()
    assert status_of(InvalidInputError("slots[2].count", "is 0", fix="send 1")).details[1].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [("slots[2].count", "is 0 (send 1)")]
    missing = error_details_pb2.ResourceInfo()
    assert status_of(NotFoundError("layout", "wide", fix="use another")).details[1].Unpack(missing)
    assert (missing.resource_type, missing.resource_name, missing.description) == ("layout", "wide", "use another")


def test_an_unforeseen_exception_is_internal_and_keeps_its_text_to_itself(
    service: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns only that the service failed; the log has the trace; the next calls are answered."""
    with caplog.at_level(logging.ERROR):
        refused = refusal(lambda: service.fill(draft=draft(title="mishap secret")))
    assert refused.code is grpc.StatusCode.INTERNAL
    assert refused.message == "an internal error; the service's log has it (report it with the time of the call)"
    assert (refused.reason, refused.domain) == ("RELATED_NEWS", "related-news")
    failures = [r for r in caplog.records if r.name == "recommender.rpc.interceptor"]
    assert [r.getMessage() for r in failures] == ["/related_news.v1.RelatedNewsService/FillSlots failed"]
    assert failures[0].exc_info
    assert failures[0].exc_info[0] is ValueError
    assert len(ids_of(service.fill(draft=draft()))) == 5


def test_an_unforeseen_exception_in_a_write_leaves_the_archive_as_it_was(
    service: Client, embedder: TroubledEmbedder
) -> None:
    """A write whose embedding fails is INTERNAL and wholly undone; the next write is made."""
    refused = refusal(lambda: service.upsert(message("good"), message("bad", title="mishap")))
    assert refused.code is grpc.StatusCode.INTERNAL
    assert service.status().revision == 40
    assert refusal(lambda: service.get("good")).code is grpc.StatusCode.NOT_FOUND
    encoded = embedder.texts
    assert service.upsert(message("good")).revision == 41
    assert embedder.texts > encoded
    assert service.list(article_id=PAGE).receipt.revision == 41
