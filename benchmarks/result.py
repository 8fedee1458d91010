"""A kept result: a JSON file, and beside it, under the same name, an .npz file with the latency samples.

In memory a measurement is a dict with "samples_us". In the JSON file "sample_count" stands in its place; the .npz file
holds the samples of all measurements in the order in which these stand in the JSON file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLES = "samples_us"
"""Key of a measurement's samples: microseconds, in the order in which they were taken."""
_COUNT = "sample_count"
"""Key that replaces SAMPLES in the JSON file: the number of samples."""
_LINE_MAX = 300
"""A dict or list is written on one line if it takes at most so many characters."""

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """One kept result. values: those of the JSON file; the samples are float64 (n,)."""

    path: Path
    values: Values

    @property
    def series(self) -> str:
        """What was measured, with the size where there are several: "core-100000"."""
        return str(self.values["benchmark"])

    @property
    def at(self) -> str:
        """When it was kept, UTC: "20260101T000000Z"."""
        return str(self.values["at"])

    @property
    def commit(self) -> str:
        """The commit that was measured; "+changes" if the working tree was not clean."""
        return str(self.values["machine"]["commit"])

    @property
    def command(self) -> str | None:
        """The command that measured it; None in results that did not record it."""
        return self.values.get("command")


def rounded_us(seconds: Sequence[float]) -> list[float]:
    """Return latencies as microseconds: four digits, from 10 ms on whole microseconds. That is how they are kept."""
    return [float(f"{sample * 1e6:.4g}" if sample < 0.01 else f"{sample * 1e6:.0f}") for sample in seconds]


def write(path: Path, values: Values) -> None:
    """Write a result: `path`, a .json file, and the samples beside it if there are any."""
    arrays: list[npt.NDArray[np.float64]] = []

    def count(samples: Any) -> tuple[str, int]:
        arrays.append(np.asarray(samples, np.float64))
        return _COUNT, len(arrays[-1])

    path.write_text(_to_json(_replaced(values, SAMPLES, count)) + "\n", "utf-8")
    if arrays:
        np.savez_compressed(path.with_suffix(".npz"), samples_us=np.concatenate(arrays))


def read(path: Path) -> Result:
    """Return the result of a JSON file. Raises ValueError if it is not one, or if its samples are missing."""
    values = json.loads(path.read_text("utf-8"))
    if not isinstance(values, dict) or not {"benchmark", "at", "machine"} <= values.keys():
        raise ValueError(f"{path} is not the result of a benchmark")
    npz = path.with_suffix(".npz")
    samples = np.load(npz)[SAMPLES] if npz.exists() else np.empty(0)
    end = 0

    def take(count: int) -> tuple[str, npt.NDArray[np.float64]]:
        nonlocal end
        end += count
        return SAMPLES, samples[end - count : end]

    values = _replaced(values, _COUNT, take)
    if end != len(samples):
        raise ValueError(f"{npz} holds {len(samples)} samples; {path.name} counts {end}")
    return Result(path, values)


def newest(folder: Path) -> dict[str, Result]:
    """Return the newest result of each series, by its name."""
    results = sorted(map(read, folder.glob("*.json")), key=lambda result: result.at)
    return {result.series: result for result in results}


def _replaced(value: Any, key: str, replace: Callable[[Any], tuple[str, Any]]) -> Any:
    """Return a copy of nested dicts and lists in which every item `key` is what `replace` makes of its value."""
    if isinstance(value, Mapping):
        return dict(
            replace(item) if name == key else (name, _replaced(item, key, replace)) for name, item in value.items()
        )
    if isinstance(value, list | tuple):
        return [_replaced(item, key, replace) for item in value]
    return value


def _to_json(value: Any, indent: str = "") -> str:
    """Return JSON, indented by one space a level; what fits on one line stands on one."""
    line = json.dumps(value)
    if len(indent) + len(line) <= _LINE_MAX or not isinstance(value, dict | list):
        return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(str(name))}: {_to_json(item, inner)}" for name, item in value.items()]
    else:
        parts = [_to_json(item, inner) for item in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}{last}"
