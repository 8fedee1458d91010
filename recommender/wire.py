"""How many fields a serialised message holds, told before it is parsed.

An empty submessage is two bytes on the wire and two hundred in memory: 32 MiB of them would take more than 3 GB. Only
tags and lengths are looked at (https://protobuf.dev/programming-guides/encoding/); what is malformed is the parser's
to refuse.
"""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.descriptor import Descriptor

from recommender.errors import InvalidInputError

FIELDS_MAX = 500_000
"""100 MB of memory. A full write of 500 articles may have 1,000 fields each, their paragraphs' included."""
UNCOUNTED_BYTES = 1 << 20
"""A message of so few bytes cannot hold more."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _MalformedError(Exception):
    """The bytes are no message."""


def check_fields(data: bytes, kind: Descriptor, most: int = FIELDS_MAX) -> None:
    """Raise InvalidInputError if a message of this kind has more fields than so many, its submessages' included."""
    if len(data) <= UNCOUNTED_BYTES:
        return
    try:
        count = _count(data, kind, most)
    except (_MalformedError, IndexError):
        return
    if count > most:
        raise InvalidInputError("request", f"has more than {most:,} fields", fix="send less at once")


def _count(data: bytes, kind: Descriptor, most: int) -> int:
    """Return the number of fields; of more than `most` any larger number."""
    count, waiting = 0, [(0, len(data), kind)]
    while waiting and count <= most:
        at, end, kind = waiting.pop()
        inner = _submessages(kind)
        while at < end and count <= most:
            tag, at = _varint(data, at)
            count += 1
            number, wire = tag >> 3, tag & 7
            if wire == _VARINT:
                _, at = _varint(data, at)
            elif wire == _LENGTH:
                size, at = _varint(data, at)
                if size and number in inner:
                    waiting.append((at, min(at + size, end), inner[number]))
                at += size
            elif wire in (_FIXED64, _FIXED32):
                at += 8 if wire == _FIXED64 else 4
            else:
                raise _MalformedError
    return count


@lru_cache
def _submessages(kind: Descriptor) -> dict[int, Descriptor]:
    """Return the kind of each field that is a message, by its number."""
    return {field.number: field.message_type for field in kind.fields if field.message_type}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends. Raises IndexError if the data end before."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
