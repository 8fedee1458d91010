"""Maps every error of this project to a gRPC status with google.rpc details. A test walks the error tree."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from related_news.v1 import common_pb2

from recommender.errors import (
    AlreadyRunningError,
    CorruptError,
    DeadlineError,
    DiskFullError,
    InvalidInputError,
    MismatchError,
    NotFoundError,
    OverloadError,
    RelatedNewsError,
    StorageError,
    UnavailableError,
)

DOMAIN = "related-news"
"""The domain of each ErrorInfo."""

CODES: dict[type[RelatedNewsError], int] = {
    InvalidInputError: code_pb2.INVALID_ARGUMENT,
    NotFoundError: code_pb2.NOT_FOUND,
    AlreadyRunningError: code_pb2.FAILED_PRECONDITION,
    MismatchError: code_pb2.FAILED_PRECONDITION,
    UnavailableError: code_pb2.UNAVAILABLE,
    OverloadError: code_pb2.RESOURCE_EXHAUSTED,
    DiskFullError: code_pb2.RESOURCE_EXHAUSTED,
    CorruptError: code_pb2.DATA_LOSS,
    StorageError: code_pb2.UNAVAILABLE,
    DeadlineError: code_pb2.DEADLINE_EXCEEDED,
    RelatedNewsError: code_pb2.INTERNAL,
}
"""The code of each class; a subclass that is not listed has the code of its base."""


def code_of(error: RelatedNewsError) -> int:
    """Return the google.rpc code of an error."""
    return next(CODES[cls] for cls in type(error).__mro__ if cls in CODES)


def status_of(error: RelatedNewsError) -> status_pb2.Status:
    """Return the rich status: ErrorInfo always, BadRequest for a field, ResourceInfo for an unknown name."""
    details = [_pack(error_details_pb2.ErrorInfo(reason=_reason(error), domain=DOMAIN))]
    if isinstance(error, InvalidInputError):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=_description(error))
        details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if isinstance(error, NotFoundError):
        details.append(
            _pack(
                error_details_pb2.ResourceInfo(
                    resource_type=error.kind, resource_name=error.name, description=error.fix
                )
            )
        )
    return status_pb2.Status(code=code_of(error), message=str(error), details=details)


def problem_of(error: RelatedNewsError) -> common_pb2.Problem:
    """Return the error of one input among many, as a part of the response."""
    field = error.field if isinstance(error, InvalidInputError) else ""
    return common_pb2.Problem(
        code=code_pb2.Code.Name(code_of(error)), field=field, message=error.message, fix=error.fix
    )


def abortable(error: RelatedNewsError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Return code, details and trailing metadata: the arguments of a servicer context's abort."""
    status = rpc_status.to_status(status_of(error))
    return status.code, status.details, tuple(status.trailing_metadata)


def _reason(error: RelatedNewsError) -> str:
    name = type(error).__name__.removesuffix("Error")
    return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(name)).upper()


def _description(error: InvalidInputError) -> str:
    return f"{error.problem} ({error.fix})" if error.fix else error.problem


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.ResourceInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
