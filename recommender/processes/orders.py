"""What the supervisor and its processes say to each other: typed values, each one line of JSON.

This is the only place where a value becomes a line and a line a value. `kind` in a line is the name of the class.
"""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from recommender.config import Settings
from recommender.errors import InvalidInputError

LINE_BYTES_MAX = 1 << 26
"""Longest line that either side reads. Settings may hold thousands of layouts."""


class Message(BaseModel):
    """Anything that one side may send to the other."""

    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=Message)


# From the supervisor


class Start(Message):
    """The first order to a process."""

    settings: Settings


class StartWorker(Start):
    """Load the index, then answer calls. model: name of the index's own; encoder_address: where the encoder listens."""

    model: str
    encoder_address: str


class StartEncoder(Start):
    """Load a model, then encode for whoever calls `address`."""

    model: str
    address: str


class Compact(Start):
    """Write a snapshot, then end.

    dimension: of the vectors of an index that has none yet. only_if_missing: write it only if no snapshot is usable, as
    at the start of a service; else write the next one.
    """

    dimension: int
    only_if_missing: bool


class NewSettings(Message):
    """Apply settings that were reloaded; sent to workers at any time."""

    settings: Settings


# To the supervisor, once


class WorkerReady(Message):
    """The worker answers calls at `address`."""

    address: str


class EncoderReady(Message):
    """The encoder answers calls; its model has this key and dimension."""

    key: str
    dimension: int


class Compacted(Message):
    """The snapshot is there."""


class Failed(Message):
    """The process cannot do its work and ends. error and fix: as of a RelatedNewsError."""

    error: str
    fix: str


def to_line(message: Message) -> bytes:
    """Return a message as one line of JSON."""
    return json.dumps({"kind": type(message).__name__, **message.model_dump(mode="json")}).encode() + b"\n"


def from_line(line: bytes, *kinds: type[M], sender: str) -> M:
    """Return the message of a line, which must be of one of these kinds.

    sender: named by the error. Raises InvalidInputError if the line is none of them.
    """
    field = f"line from the {sender}"
    by_name = {kind.__name__: kind for kind in kinds}
    try:
        values = json.loads(line)
        kind = by_name[values.pop("kind")]
    except ValueError as error:
        raise InvalidInputError(field, f"is not JSON: {error}") from None
    except (LookupError, TypeError, AttributeError):
        raise InvalidInputError(field, f"is not of the kind {' or '.join(by_name)}") from None
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(field, f"is not a valid {kind.__name__}: {key}: {first['msg']}") from None
