"""Every error this project raises on purpose.

RelatedNewsError
├── InvalidInputError          the caller's fault: names the field, says how to mend it
├── NotFoundError              no such article, layout, file
├── AlreadyRunningError        a second writer of the same kind
├── MismatchError              model, recipe or version does not fit what is on disk
│   └── EncoderChangedError    the store's active encoder is another one
├── UnavailableError           not now: warming, draining, busy
├── OverloadError              too much of it at once
├── StorageError               our disk: read-only, full, broken
│   ├── DiskFullError          no space left
│   └── CorruptError           what is on disk is not what was written
└── DeadlineError              the caller's time ran out before the work began

statuses.py maps each class to one gRPC status; a test walks this tree and fails on an unmapped class.
"""

from __future__ import annotations


class RelatedNewsError(Exception):
    """Base of all errors raised on purpose.

    message: what is wrong, naming the input. fix: what the caller can do about it; may be empty.
    """

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} ({self.fix})" if self.fix else self.message


class InvalidInputError(RelatedNewsError):
    """An input that cannot be used. `field` is its path in the request or record, e.g. "articles[3].id"."""

    def __init__(self, field: str, message: str, *, fix: str = "") -> None:
        super().__init__(f"{field}: {message}", fix=fix)
        self.field = field
        self.problem = message

    def under(self, prefix: str) -> InvalidInputError:
        """Return the same error with its field placed under `prefix`, e.g. "articles[3]"."""
        return InvalidInputError(f"{prefix}.{self.field}", self.problem, fix=self.fix)


class NotFoundError(RelatedNewsError):
    """Something the caller named does not exist. kind: "article", "layout", ...; name: what was asked for."""

    def __init__(self, kind: str, name: str, *, fix: str = "") -> None:
        super().__init__(f"unknown {kind} {name!r}", fix=fix)
        self.kind = kind
        self.name = name


class AlreadyRunningError(RelatedNewsError):
    """Another process holds the role that this one asked for."""


class MismatchError(RelatedNewsError):
    """What is configured (model, recipe, version) does not fit what is on disk."""


class EncoderChangedError(MismatchError):
    """The store's active encoder is not the one that this process embeds with."""


class UnavailableError(RelatedNewsError):
    """The service cannot answer now, and may soon."""


class OverloadError(RelatedNewsError):
    """So much of this is being done already that no more can be taken on."""


class StorageError(RelatedNewsError):
    """The disk refused: read-only, full, or failing."""


class DiskFullError(StorageError):
    """No space is left on the device, or the store's size limit is reached."""


class CorruptError(StorageError):
    """A file is not what was written: checksum, size or structure differ."""


class DeadlineError(RelatedNewsError):
    """The caller's deadline passed before the work could start or finish."""
