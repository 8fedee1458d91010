"""Every error this project raises on purpose.

RelatedNewsError
├── InvalidInputError          an input of the caller: names the field and the fix
├── NotFoundError              no such article, layout, file
├── AlreadyRunningError        another process does the same work
├── MismatchError              model, recipe or version does not fit the data on disk
│   └── EncoderChangedError    another encoder has become the store's active one
├── UnavailableError           for now: starting, stopping, busy
├── OverloadError              too many calls at once
├── StorageError               the disk: read-only, full, failing
│   ├── DiskFullError          no space left
│   └── CorruptError           a file differs from what was written
└── DeadlineError              the caller's deadline has passed

rpc/statuses.py maps each class to one gRPC status; a test fails if a class has none.
"""

from __future__ import annotations


class RelatedNewsError(Exception):
    """Base of all errors raised on purpose.

    message: the problem, naming the input. fix: what the caller can do; may be empty.
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
        """Return the same error for a field inside `prefix`, e.g. "articles[3]"."""
        return InvalidInputError(f"{prefix}.{self.field}", self.problem, fix=self.fix)


class NotFoundError(RelatedNewsError):
    """Something the caller named does not exist. kind: "article", "layout", ... name: the caller's name for it."""

    def __init__(self, kind: str, name: str, *, fix: str = "") -> None:
        super().__init__(f"unknown {kind} {name!r}", fix=fix)
        self.kind = kind
        self.name = name


class AlreadyRunningError(RelatedNewsError):
    """Another process already does the work that only one may do."""


class MismatchError(RelatedNewsError):
    """The configured model, recipe or version does not fit the data on disk."""


class EncoderChangedError(MismatchError):
    """The store's active encoder is not this process's encoder."""


class UnavailableError(RelatedNewsError):
    """The service cannot answer now; it may soon."""


class OverloadError(RelatedNewsError):
    """Too many calls of this kind are in progress."""


class StorageError(RelatedNewsError):
    """The disk is read-only, full, or failing."""


class DiskFullError(StorageError):
    """No space is left on the device, or the store has reached its size limit."""


class CorruptError(StorageError):
    """A file differs from what was written in checksum, size or structure."""


class DeadlineError(RelatedNewsError):
    """The caller's deadline passed before the work could start or finish."""
