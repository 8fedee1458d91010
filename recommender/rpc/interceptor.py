"""Wraps every call: refuses unreadable requests and passed deadlines, turns errors into statuses, logs one line."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from recommender.errors import DeadlineError, InvalidInputError, RelatedNewsError
from recommender.rpc.field_limit import check_fields
from recommender.rpc.statuses import abortable

log = logging.getLogger(__name__)

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context = grpc.aio.ServicerContext[Any, Any]
_INTERNAL = RelatedNewsError("an internal error; the service's log has it", fix="report it with the time of the call")
"""Replaces every error that is not of this project: its text could repeat an article's."""


class Guard(grpc.aio.ServerInterceptor):
    """Wraps the services' methods, so that no error reaches a client as UNKNOWN or stops the service."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the method's handler, wrapped, unless it is unknown or a stream of health or reflection."""
        handler = await continuation(details)
        if handler is None or handler.request_deserializer is None:
            return handler
        read, write = _readable(handler.request_deserializer), handler.response_serializer
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(_guarded(details.method, handler.unary_unary), read, write)
        if handler.unary_stream is not None and inspect.isasyncgenfunction(handler.unary_stream):
            stream = _guarded_stream(details.method, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(stream, read, write)
        return handler


def _readable(deserialise: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    kind: Descriptor = deserialise.__self__.DESCRIPTOR  # type: ignore[attr-defined]  # a message's FromString

    def read(data: bytes) -> Any:
        try:
            check_fields(data, kind)
            return deserialise(data)
        except InvalidInputError as error:
            return error
        except DecodeError as error:
            return InvalidInputError(
                "request", f"cannot be read as its message: {error}", fix="send valid protobuf; strings must be UTF-8"
            )

    return read


def _guarded(method: str, answer: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: _Context) -> Any:
        async with _guard(method, request, context):
            return await answer(request, context)

    return call


def _guarded_stream(method: str, answers: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    async def call(request: Any, context: _Context) -> AsyncIterator[Any]:
        async with _guard(method, request, context):
            async for answer in answers(request, context):
                yield answer

    return call


@asynccontextmanager
async def _guard(method: str, request: Any, context: _Context) -> AsyncIterator[None]:
    begun = time.perf_counter()
    outcome = "OK"
    try:
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineError("the call's deadline had passed before it began", fix="allow more time")
        if isinstance(request, InvalidInputError):
            raise request
        yield
    except RelatedNewsError as error:
        outcome = await _abort(context, error)
    except (asyncio.CancelledError, grpc.aio.AbortError, GeneratorExit):
        outcome = "CANCELLED"
        raise
    except Exception:
        log.exception("%s failed", method)
        outcome = await _abort(context, _INTERNAL)
    finally:
        log.debug("%s %s %.2f ms", method, outcome, (time.perf_counter() - begun) * 1e3)


async def _abort(context: _Context, error: RelatedNewsError) -> str:
    code, details, metadata = abortable(error)
    await context.abort(code, details, metadata)
    return code.name
