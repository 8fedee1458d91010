"""Bounds that no run may cross: ratios within one run, about twice as bad as measured, so that noise stays within."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.reporting.sweeps import ratios
from benchmarks.result import Result

BOUNDS = Path(__file__).parents[1] / "bounds.toml"
"""File of the checked-in bounds."""


class Bound(BaseModel):
    """The upper or the lower bound of one ratio of one series."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: Annotated[str, Field(description="Series of the result: core-10000.")]
    ratio: Annotated[str, Field(description="As benchmarks.reporting.sweeps.ratios names it.")]
    at_most: float | None = None
    at_least: float | None = None
    why: Annotated[str, Field(min_length=1, description="What was measured, and where.")]

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a bound has either at_most or at_least")
        return self

    def allows(self, value: float) -> bool:
        """Say whether a ratio is within the bound."""
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least


@dataclass(frozen=True, slots=True)
class Checked:
    """One bound and the value in a run; None where the result lacks the ratio, which is a failure too."""

    bound: Bound
    value: float | None

    @property
    def ok(self) -> bool:
        """Whether the run is within the bound."""
        return self.value is not None and self.bound.allows(self.value)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bounds: list[Bound]


def load_bounds(path: Path = BOUNDS) -> list[Bound]:
    """Return all bounds of a file. Raises pydantic.ValidationError if one is not valid."""
    return _File.model_validate(tomllib.loads(path.read_text("utf-8"))).bounds


def check(result: Result, bounds: list[Bound]) -> list[Checked]:
    """Return the bounds of this result's series with its values. Raises ValueError if there are none."""
    by_name = ratios(result)
    checked = [Checked(bound, by_name.get(bound.ratio)) for bound in bounds if bound.benchmark == result.series]
    if not checked:
        raise ValueError(f"there are no bounds for {result.series}")
    return checked
