"""Bounds that no run may cross: ratios within one run, about twice as bad as measured, so that noise does not."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.reporting.kept import Kept, ratios

BOUNDS = Path(__file__).parents[1] / "bounds.toml"


class Bound(BaseModel):
    """What one ratio of one benchmark may be at the most, or at the least."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: Annotated[str, Field(description="Of the result: core-10000.")]
    ratio: Annotated[str, Field(description="As benchmarks.reporting.kept.ratios names it.")]
    at_most: float | None = None
    at_least: float | None = None
    why: Annotated[str, Field(min_length=1, description="What was measured, and where.")]

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a bound has either at_most or at_least")
        return self

    def allows(self, value: float) -> bool:
        """Say whether a ratio is within."""
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least


@dataclass(frozen=True, slots=True)
class Checked:
    """One bound and what a run has. value: None where the result does not hold the ratio, which is a failure too."""

    bound: Bound
    value: float | None

    @property
    def ok(self) -> bool:
        """Whether the run keeps the bound."""
        return self.value is not None and self.bound.allows(self.value)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bounds: list[Bound]


def load_bounds(path: Path = BOUNDS) -> list[Bound]:
    """Return all bounds of a file. Raises pydantic.ValidationError if it is not one."""
    return _File.model_validate(tomllib.loads(path.read_text("utf-8"))).bounds


def check(kept: Kept, bounds: list[Bound]) -> list[Checked]:
    """Return the bounds of this result's benchmark with what it has. Raises ValueError if there are none."""
    found = ratios(kept)
    checked = [Checked(bound, found.get(bound.ratio)) for bound in bounds if bound.benchmark == kept.name]
    if not checked:
        raise ValueError(f"there are no bounds for {kept.name}")
    return checked
