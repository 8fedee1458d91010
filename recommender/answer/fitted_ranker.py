"""A ranker fitted on a newsroom's own links: a linear model over the features, with boosted trees where they help.

Only this module imports lightgbm, and only for a ranker with trees. `recommender.serving.ranker_file` reads and writes
the file of a fitted ranker.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recommender.answer.features import FEATURE_NAMES, FEATURE_PARTS, FEATURES_VERSION, Detail, Features, Floats
from recommender.answer.link_history import LinkHistory, PastLink
from recommender.answer.rank import Weighed
from recommender.catalog.text.derived import ANALYSIS
from recommender.errors import CorruptError, MismatchError

if TYPE_CHECKING:
    import lightgbm

FORMAT = 2
"""Version of the file's keys; another version is refused."""
FIT_AGAIN = "run `related-news fit` again"
"""The fix that an error about an unusable ranker names."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class FittedParameters:
    """The parameters of a fitted ranker: all that its file holds.

    name: shown in receipts.
    weights: by feature, for standardised values. means, scales: of the features.
    trees: boosted trees in LightGBM's text form, whose output is added; "" for none.
    slope, intercept: map the sum to log-odds on the scale of the default formula.
    links: [source id, target id, milliseconds UTC] of the editors' links up to then; a feature is read from them.
    encoder, analysis, features: versions that the features are computed by.
    fitted_on, evaluation: for people.
    """

    name: str
    encoder: str
    weights: dict[str, float]
    means: dict[str, float]
    scales: dict[str, float]
    slope: float
    intercept: float
    trees: str = ""
    analysis: str = ANALYSIS
    features: str = FEATURES_VERSION
    format: int = FORMAT
    links: list[list[str | int]] = field(default_factory=list)
    fitted_on: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the file's text; `parse_parameters` reads it back."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    def history(self) -> LinkHistory | None:
        """Return the editors' links, or None without any. Raises CorruptError if they are malformed."""
        try:
            links = [PastLink(str(source), str(target), int(at_ms)) for source, target, at_ms in self.links]
            return LinkHistory(links) if links else None
        except (TypeError, ValueError, OverflowError) as error:
            raise CorruptError(f"the ranker's links are unreadable: {error}", fix=FIT_AGAIN) from None


def parse_parameters(data: bytes, source: str, encoder: str | None = None) -> FittedParameters:
    """Return the parameters in the bytes of a ranker's file.

    source: the file's name, for errors. encoder: key of the index's encoder; None accepts any.
    Raises CorruptError if the data is no ranker, MismatchError if it is for another index.
    """
    try:
        parameters = FittedParameters(**json.loads(data.decode()))
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptError(f"{source}: is no fitted ranker: {error}", fix=FIT_AGAIN) from None
    expected = {
        "format": FORMAT,
        "features": FEATURES_VERSION,
        "analysis": ANALYSIS,
        "encoder": encoder or parameters.encoder,
    }
    for name, value in expected.items():
        if (actual := getattr(parameters, name)) != value:
            raise MismatchError(
                f"{source} was fitted for {name} {actual}, this index has {value}",
                fix="run `related-news fit` on this index, or unset `ranker`",
            )
    if problem := _problem(parameters):
        raise CorruptError(f"{source}: is no fitted ranker: {problem}", fix=FIT_AGAIN)
    return parameters


def _problem(parameters: FittedParameters) -> str:
    """Return what is wrong with the values that ranking computes with; "" if nothing is."""
    for name in ("weights", "means", "scales"):
        table = getattr(parameters, name)
        if not (isinstance(table, dict) and all(map(_is_finite, table.values()))):
            return f"{name} are not numbers by feature"
        if set(table) != set(FEATURE_NAMES):
            return "its features differ"
    if any(scale <= 0 for scale in parameters.scales.values()):
        return "scales are not above 0"
    if not all(map(_is_finite, (parameters.slope, parameters.intercept))):
        return "slope and intercept are not numbers"
    texts = (parameters.name, parameters.encoder, parameters.trees)
    if not (all(isinstance(text, str) for text in texts) and isinstance(parameters.links, list)):
        return "name, encoder and trees are not text, or links no list"
    return ""


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FLOAT32_MAX


class FittedFormula:
    """A rank.Formula with fitted parameters."""

    def __init__(self, parameters: FittedParameters) -> None:
        """Load the trees, if there are any."""
        self.parameters = parameters
        self._weights = _vector(parameters.weights)
        self._means = _vector(parameters.means)
        self._scales = _vector(parameters.scales)
        self._trees = _booster(parameters.trees) if parameters.trees else None
        self._detail = Detail(parameters.history())

    @property
    def name(self) -> str:
        """The name that receipts show."""
        return self.parameters.name

    @property
    def detail(self) -> Detail:
        """Ask for all features, with the links that it was fitted on."""
        return self._detail

    def weigh(self, features: Features, half_life_days: float) -> Weighed:
        """Return the log-odds of every candidate, and their parts."""
        matrix = features.matrix(half_life_days)
        return Weighed(self.odds(matrix), lambda index: self._parts(matrix[index]), self._base())

    def odds(self, matrix: Floats) -> Floats:
        """Return log-odds, float32 (n,). matrix: as Features.matrix."""
        raw = ((matrix - self._means) / self._scales) @ self._weights
        if self._trees is not None and len(matrix):
            raw = raw + np.asarray(self._trees.predict(matrix, raw_score=True, num_threads=1))
        odds: Floats = (self.parameters.slope * raw + self.parameters.intercept).astype(np.float32)
        return odds

    def _parts(self, row: Floats) -> dict[str, float]:
        added = (row - self._means) / self._scales * self._weights
        if self._trees is not None:
            added = added + self._contributions(row)[:-1]
        parts = dict.fromkeys(FEATURE_PARTS, 0.0)
        for part, value in zip(FEATURE_PARTS, (self.parameters.slope * added).tolist(), strict=True):
            parts[part] += value
        return parts

    def _base(self) -> float:
        mean = 0.0 if self._trees is None else float(self._contributions(self._means)[-1])
        return self.parameters.slope * mean + self.parameters.intercept

    def _contributions(self, row: Floats) -> Floats:
        """Return float64 (len(FEATURES) + 1,): each feature's SHAP value, then the trees' expected value."""
        assert self._trees is not None
        values: Floats = np.asarray(self._trees.predict(row[None], pred_contrib=True, num_threads=1))[0]
        return values


def _vector(values: dict[str, float]) -> Floats:
    return np.array([values[name] for name in FEATURE_NAMES], np.float32)


def by_feature(values: Sequence[float]) -> dict[str, float]:
    """Return values, in the order of FEATURE_NAMES, by name."""
    return dict(zip(FEATURE_NAMES, map(float, values), strict=True))


def _booster(trees: str) -> lightgbm.Booster:
    import lightgbm

    try:
        booster = lightgbm.Booster(model_str=trees)
    except lightgbm.basic.LightGBMError as error:
        raise CorruptError(f"the ranker's trees are unreadable: {error}", fix=FIT_AGAIN) from None
    if booster.num_feature() != len(FEATURE_NAMES):
        raise CorruptError(f"the ranker's trees are for {booster.num_feature()} features", fix=FIT_AGAIN)
    return booster
