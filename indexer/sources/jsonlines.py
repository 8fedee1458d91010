"""JSON Lines: one article a line, in the format that the README describes."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import ErrorDetails

from indexer.sources.base import Anchor, BadRecord, Block, RawArticle, Where
from indexer.sources.bodies import body_blocks
from indexer.sources.reading import Line, read_lines
from recommender.catalog.articles import Labels, ParagraphKind

_KINDS = {kind.name.lower(): kind for kind in ParagraphKind}
"""Value of a paragraph's "kind" -> what it stands for."""


def _null_is_absent(value: Any) -> Any:
    return "" if value is None else value


def _null_is_empty(value: Any) -> Any:
    return () if value is None else value


def _text_as_paragraph(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


def _known_kind(value: Any) -> Any:
    if isinstance(value, str) and value.lower() not in _KINDS:
        raise ValueError(f"{value[:40]!r} is not one of {', '.join(_KINDS)}")
    return value


_Text = Annotated[str, BeforeValidator(_null_is_absent)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Link(_Model):
    href: _Text = ""
    text: _Text = ""


class _Paragraph(_Model):
    text: _Text = ""
    kind: Annotated[str, BeforeValidator(_known_kind)] = "text"
    links: Annotated[tuple[_Link, ...], BeforeValidator(_null_is_empty)] = ()

    def to_block(self) -> Block:
        return Block(self.text, _KINDS[self.kind.lower()], tuple(Anchor(a.href, a.text) for a in self.links))


class _Record(_Model):
    """The fields of a line. Unknown ones are ignored; null is the same as absent."""

    id: str = Field(min_length=1)
    url: _Text = ""
    title: _Text = ""
    summary: _Text = ""
    paragraphs: tuple[Annotated[_Paragraph, BeforeValidator(_text_as_paragraph)], ...] | None = None
    body: _Text = ""
    published_at: _Text = ""
    site: _Text = ""
    section: _Text = ""
    tags: Annotated[tuple[str, ...], BeforeValidator(_null_is_empty)] = ()
    language: _Text = ""
    author: _Text = ""
    image_url: _Text = ""
    evergreen: Annotated[StrictBool, BeforeValidator(lambda value: False if value is None else value)] = False


class JsonLines:
    """Articles from a .jsonl or .ndjson file, plain or gzip; "body" is read where "paragraphs" is absent."""

    def __init__(self, path: Path, *, site: str = "", language: str = "") -> None:
        self._path = path
        self._site = site
        self._language = language

    def records(self) -> Iterator[RawArticle | BadRecord]:
        """Yield an article or the reason against it for every line that is not blank."""
        for line in read_lines(self._path):
            if line.problem or line.data.strip():
                yield self._record(line)

    def count(self) -> int | None:
        """Return None: counting would read the whole file."""
        return None

    def _record(self, line: Line) -> RawArticle | BadRecord:
        where = Where(self._path, line.number)
        if line.problem:
            return BadRecord(where, line.problem)
        data = line.data.removeprefix(codecs.BOM_UTF8) if line.number == 1 else line.data
        try:
            record = _Record.model_validate_json(data.rstrip().decode("utf-8"))
        except UnicodeDecodeError as error:
            return BadRecord(where, f"is not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8")
        except ValidationError as error:
            return BadRecord(where, describe(error))
        return self._article(where, record)

    def _article(self, where: Where, record: _Record) -> RawArticle:
        given = record.paragraphs
        return RawArticle(
            where=where,
            id=record.id,
            url=record.url,
            title=record.title,
            summary=record.summary,
            blocks=body_blocks(record.body, record.url) if given is None else tuple(p.to_block() for p in given),
            published_at=record.published_at,
            labels=Labels(
                site=record.site or self._site,
                section=record.section,
                tags=record.tags,
                language=record.language or self._language,
                author=record.author,
            ),
            image_url=record.image_url,
            evergreen=record.evergreen,
        )


def describe(error: ValidationError) -> str:
    """Return the problems that pydantic reports as one line: at most three fields, each with what is wrong."""
    problems = error.errors(include_url=False, include_context=True)
    named = [_describe_one(problem) for problem in problems[:3]]
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(named) + more


def _describe_one(problem: ErrorDetails) -> str:
    if problem["type"] == "json_invalid":
        detail = str(problem.get("ctx", {}).get("error", "")).replace(" at line 1 column", " at column")
        return f"is not valid JSON: {detail}; write one object a line"
    if not problem["loc"]:
        return "is not a JSON object; write one object a line"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] != "missing" and not isinstance(problem["input"], str):
        message += f", not {_json_type(problem['input'])}"
    return f"{_field(problem['loc'])}: {message[:1].lower()}{message[1:]}"


def _field(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _json_type(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), "null")
