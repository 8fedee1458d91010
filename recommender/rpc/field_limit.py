"""How many fields a serialised message holds, told before it is parsed.

An empty submessage is two bytes on the wire and two hundred in memory: 32 MiB of them would take more than 3 GB. Only
tags and lengths are looked at (https://protobuf.dev/programming-guides/encoding/), and not inside messages that hold
nothing more than once, such as paragraphs. A message that is malformed is counted up to where it is, as far as the
parser gets before it refuses it.
"""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.descriptor import Descriptor

from recommender.errors import InvalidInputError

FIELDS_MAX = 500_000
"""100 MB of memory: 500 articles with nearly 1,000 paragraphs each. Looked through in .15 s."""
UNCOUNTED_BYTES = 1 << 20
"""A message of so few bytes cannot hold more."""
_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)
_VARINT_BYTES_MAX = 10


class _MalformedError(Exception):
    """The bytes are no message from here on."""


def check_fields(data: bytes, kind: Descriptor, most: int = FIELDS_MAX) -> None:
    """Raise InvalidInputError if a message of this kind has more fields than so many, with those of its submessages."""
    if len(data) > UNCOUNTED_BYTES and _count(data, kind, most) > most:
        raise InvalidInputError("request", f"has more than {most:,} fields", fix="send less at once")


def _count(data: bytes, kind: Descriptor, most: int) -> int:
    """Return the number of fields; of more than `most` any larger number."""
    count, waiting = 0, [(0, len(data), kind)]
    while waiting and count <= most:
        at, end, kind = waiting.pop()
        inner = _submessages(kind)
        try:
            while at < end and count <= most:
                count += 1
                at, number, size = _next(data, at)
                if size and number in inner:
                    waiting.append((at, min(at + size, end), inner[number]))
                at += size
        except (_MalformedError, IndexError):
            continue
    return count


def _next(data: bytes, at: int) -> tuple[int, int, int]:
    """Read a field's tag, and its length if it has one; returns where its bytes begin, its number, and how many.

    The tags around a group count as fields, and so do those inside it.
    """
    tag = data[at]
    at += 1
    if tag > 127:
        tag, at = _varint(data, at - 1)
    wire = tag & 7
    if wire == _LENGTH:
        size = data[at]
        at += 1
        if size > 127:
            size, at = _varint(data, at - 1)
        return at, tag >> 3, size
    if wire == _VARINT:
        _, at = _varint(data, at)
    elif wire in (_FIXED64, _FIXED32):
        at += 8 if wire == _FIXED64 else 4
    elif wire not in (_GROUP, _END_GROUP):
        raise _MalformedError
    return at, 0, 0


@lru_cache
def _submessages(kind: Descriptor) -> dict[int, Descriptor]:
    """Return the kinds of the fields that are messages which can hold others or lists, by the fields' numbers."""
    return {field.number: inner for field in kind.fields if (inner := field.message_type) and _holds_more(inner)}


def _holds_more(kind: Descriptor) -> bool:
    return any(field.is_repeated or field.message_type for field in kind.fields)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends. Raises IndexError if the data end before."""
    value = 0
    for place in range(_VARINT_BYTES_MAX):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise _MalformedError
