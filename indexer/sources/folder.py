"""What sources of folders share: they read every file of a format, one article each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from indexer.sources.base import BadRecord, RawArticle, Where
from indexer.sources.reading import UnreadableError, list_files
from recommender.errors import StorageError


class FileFolder(ABC):
    """Articles from the files of a format in a folder and below it, by path; or from one such file."""

    suffixes: ClassVar[tuple[str, ...]]
    """Lower-case ends of the names of the files that are read."""

    def __init__(self, path: Path, *, site: str = "", language: str = "") -> None:
        self._path = path
        self._site = site
        self._language = language

    def records(self) -> Iterator[RawArticle | BadRecord]:
        """Yield an article, or the reason against it, for every file."""
        for path in self._files:
            try:
                yield self._article(path)
            except (UnreadableError, StorageError) as error:
                yield BadRecord(Where(path, 1), str(error))

    def count(self) -> int | None:
        """Return the number of files."""
        return len(self._files)

    @cached_property
    def _files(self) -> list[Path]:
        return list_files(self._path, lambda name: name.endswith(self.suffixes))

    @abstractmethod
    def _article(self, path: Path) -> RawArticle:
        """Read one file. Raises UnreadableError or StorageError with the reason against it."""
