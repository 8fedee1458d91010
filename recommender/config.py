"""Settings: one typed object from one TOML file and the environment. No other module reads the environment.

Order of precedence: arguments, RELATED_NEWS_... variables (sections with __), the TOML file, defaults.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from recommender.answer.layout import Layout, Slot, SlotFilters
from recommender.catalog.checks import make_language
from recommender.encoding.embedder import Computing, Device, Precision
from recommender.errors import InvalidInputError, NotFoundError

PREFIX = "RELATED_NEWS_"
"""Prefix of the environment variables that are settings."""
CONFIG_VARIABLE = "RELATED_NEWS_CONFIG"
"""Environment variable that names the TOML file."""
CONFIG_FILE = "related-news.toml"
"""TOML file in the working folder that is read if no other is named."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelSettings(_Section):
    """The embedding model, and how it computes."""

    name: str | None = None
    """A local folder or a Hub id. Default: the model of the index; for a new index the packaged one."""
    precision: Precision = "auto"
    """auto: bfloat16 if the device has it in hardware, else float32."""
    device: Device = "auto"
    """auto: the GPU if torch can use one (a torch built for CUDA must be installed), else the CPU."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """torch threads; 0 leaves torch's choice."""

    @property
    def computing(self) -> Computing:
        """Return what `load_embedder` takes."""
        return Computing(self.precision, self.device, self.threads)


class ServerSettings(_Section):
    """Where the service listens, and its limits."""

    host: str = "127.0.0.1"
    """Address to listen on. The default is reached from this machine only."""
    port: Annotated[int, Field(ge=0, le=65535)] = 50051
    """0 takes a free port."""
    message_bytes_max: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 32 << 20
    """Largest request or response, bytes."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that answer calls; one encoder is shared by all."""
    takedown_timeout_s: Annotated[float, Field(gt=0, le=60)] = 3.0
    """Seconds that a write waits for a worker to apply it; a worker that takes longer is replaced."""
    concurrent_calls_max: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Most concurrent calls of one worker; more are refused with RESOURCE_EXHAUSTED."""
    pages_per_batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Most article ids in one BatchFillSlots."""
    articles_per_write: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Most articles in one UpsertArticles or DeleteArticles."""
    drain_s: Annotated[float, Field(ge=0, le=600)] = 10.0
    """Seconds that calls in flight have to finish when the service is told to stop."""
    faiss_threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of one vector search; more than one pays only on idle machines."""


class IndexSettings(_Section):
    """How articles are indexed."""

    batch_articles: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Articles embedded and committed together; an interrupted run repeats at most these."""
    compact_after: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    """Changes after which the service writes a new snapshot in the background; a small archive needs fewer."""
    site: str = ""
    """Site of records without one."""
    language: str = ""
    """Language of records without one, BCP 47."""

    @field_validator("language")
    @classmethod
    def _is_tag(cls, value: str) -> str:
        try:
            make_language(value)
        except InvalidInputError as error:
            raise ValueError(error.problem) from None
        return value


class Settings(BaseSettings):
    """All settings, as `related-news settings` prints them."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", use_attribute_docstrings=True
    )

    data_dir: Path = Path("data")
    """Folder of the store and its snapshots."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """How much the service writes to standard error."""
    ranker: Path | None = None
    """File of a ranker that `related-news fit` made. Default: the built-in formula."""
    model: ModelSettings = ModelSettings()
    server: ServerSettings = ServerSettings()
    index: IndexSettings = IndexSettings()
    layouts: dict[str, Layout] = Field(default_factory=dict)
    """Layouts by name; one named "default" replaces the built-in one."""

    @field_validator("layouts")
    @classmethod
    def _check_names(cls, layouts: dict[str, Layout]) -> dict[str, Layout]:
        for name, layout in layouts.items():
            if layout.name != name:
                raise ValueError(f"{name} calls itself {layout.name!r}; leave its name out")
        return layouts

    @model_validator(mode="before")
    @classmethod
    def _name_layouts(cls, values: dict[str, Any]) -> dict[str, Any]:
        layouts = values.get("layouts")
        if isinstance(layouts, dict):
            values["layouts"] = {
                name: {"name": name, **layout} if isinstance(layout, dict) else layout
                for name, layout in layouts.items()
            }
        return values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values as given; `load_settings` merges file, environment and arguments."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def load_settings(config: Path | None = None, arguments: Mapping[str, Any] | None = None) -> Settings:
    """Return the effective settings.

    config: the TOML file; None takes RELATED_NEWS_CONFIG, else related-news.toml in the working folder if it is there.
    arguments: nested values that override all else.
    Raises NotFoundError for a missing file, InvalidInputError for the first key that is unknown (with the nearest known
    one) or out of range.
    """
    path = find_config(config)
    _check_environment()
    try:
        layers = {"arguments": arguments or {}, "environment": EnvSettingsSource(Settings)()}
    except SettingsError as error:
        raise InvalidInputError("environment", str(error), fix="lists and tables are written as JSON") from None
    from_file = _read_toml(path) if path else {}
    try:
        return Settings(**_merged(_merged(from_file, layers["environment"]), layers["arguments"]))
    except ValidationError as error:
        raise _explained(error, layers, str(path) if path else "settings") from None


def address_of(host: str, port: int) -> str:
    """Return host:port in gRPC's form, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def find_config(config: Path | None = None) -> Path | None:
    """Return the TOML file that `load_settings` reads, or None if there is none."""
    path = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if path is not None:
        if not path.is_file():
            raise NotFoundError("settings file", str(path), fix="name an existing TOML file")
        return path
    return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None


def to_toml(settings: Settings) -> str:
    """Return settings as TOML that `load_settings` reads back, without unset ones."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(str(path), f"is not valid TOML: {error}", fix="correct the file") from None
    except OSError as error:
        raise InvalidInputError(str(path), f"cannot be read: {error.strerror}", fix="check its permissions") from None


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        lower = merged.get(key)
        if isinstance(value, Mapping) and isinstance(lower, Mapping):
            merged[key] = _merged(lower, value)
        else:
            merged[key] = value
    return merged


def _check_environment() -> None:
    variables = {CONFIG_VARIABLE, *(PREFIX + name.upper().replace(".", "__") for name in _keys_of(Settings))}
    for name in os.environ:
        section = name.split("__")[0]
        if name.startswith(PREFIX) and name not in variables and section != f"{PREFIX}LAYOUTS":
            raise InvalidInputError(name, "is not a setting", fix=_nearest(name, variables))


def _keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys.extend(_keys_of(info.annotation, f"{prefix}{name}."))
    return keys


def _explained(error: ValidationError, layers: Mapping[str, Any], file: str) -> InvalidInputError:
    """Return the error of the first bad value, naming its layer: the file, if no other layer has the value."""
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    place = first["loc"][:-1] if first["type"] == "missing" else first["loc"]
    source = next((name for name, values in layers.items() if _has(values, place)), file)
    if first["type"] == "extra_forbidden":
        return InvalidInputError(f"{source}: {key}", "is not a setting", fix=_nearest(key, _siblings(first["loc"])))
    problem = first["msg"].removeprefix("Value error, ")
    return InvalidInputError(f"{source}: {key}", problem, fix="see `related-news settings`")


def _has(values: Any, location: tuple[int | str, ...]) -> bool:
    for part in location:
        try:
            values = values[part]
        except (LookupError, TypeError):
            return False
    return bool(location)


def _siblings(location: tuple[int | str, ...]) -> set[str]:
    if location[0] == "layouts":
        at = ".".join(str(part) for part in location[:-1])
        models: dict[int, type[BaseModel]] = {3: Layout, 5: Slot, 6: SlotFilters}
        model = models[len(location)]
        return {f"{at}.{name}" for name in model.model_fields}
    return set(_keys_of(Settings))


def _nearest(name: str, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "see `related-news settings` for the known ones"
