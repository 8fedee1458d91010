"""Counts the fields of a serialised message before it is parsed, and refuses a message with too many.

An empty submessage is two bytes on the wire and two hundred in memory: 31 MiB of them would take 3.2 GiB, see
docs/measurements.md. Only tags and lengths are read (https://protobuf.dev/programming-guides/encoding/), and not inside
messages without lists and submessages, such as paragraphs. A malformed message is counted up to its first bad byte,
where the parser will stop too.
"""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.descriptor import Descriptor

from recommender.errors import InvalidInputError

FIELDS_MAX = 500_000
"""Limits the fields of a message: 500 articles of nearly 1,000 paragraphs each, 100 MB of memory, counted in .15 s."""
UNCOUNTED_BYTES = 1 << 20
"""Messages up to this size are not counted: they cannot have more fields."""
_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)
"""The wire types of protobuf."""
_VARINT_BYTES_MAX = 10
"""Limits the bytes of a number on the wire; protobuf's own limit."""


class _MalformedError(Exception):
    """The bytes from here on are not a message."""


def check_fields(data: bytes, kind: Descriptor, fields_max: int = FIELDS_MAX) -> None:
    """Raise InvalidInputError if a message of this kind, submessages included, has more than `fields_max` fields."""
    if len(data) > UNCOUNTED_BYTES and _count(data, kind, fields_max) > fields_max:
        raise InvalidInputError("request", f"has more than {fields_max:,} fields", fix="send less at once")


def _count(data: bytes, kind: Descriptor, fields_max: int) -> int:
    """Return the number of fields; stop at the first one beyond `fields_max`."""
    count, uncounted = 0, [(0, len(data), kind)]
    while uncounted and count <= fields_max:
        at, end, kind = uncounted.pop()
        submessages = _submessages(kind)
        try:
            while at < end and count <= fields_max:
                count += 1
                at, number, size = _next(data, at)
                if size and number in submessages:
                    uncounted.append((at, min(at + size, end), submessages[number]))
                at += size
        except (_MalformedError, IndexError):
            continue
    return count


def _next(data: bytes, at: int) -> tuple[int, int, int]:
    """Read a field's tag, and its length if it has one; returns where its bytes begin, its number, and their count.

    The tags around a group count as fields, and so do the fields inside it.
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
    """Return the kinds of submessages that need counting, by the numbers of their fields."""
    return {field.number: inner for field in kind.fields if (inner := field.message_type) and _can_be_large(inner)}


def _can_be_large(kind: Descriptor) -> bool:
    return any(field.is_repeated or field.message_type for field in kind.fields)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and the position after it. Raises IndexError if the data end inside it."""
    value = 0
    for place in range(_VARINT_BYTES_MAX):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise _MalformedError
