"""A ranker fitted on a newsroom's own links: a linear model over the evidence, with boosted trees where they help.

The only module that imports lightgbm, and only when a fitted ranker with trees is used. A ranker is one JSON file that
says what it was fitted on, how it compared with the default, and which index it fits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recommender.answer.evidence import FEATURES, FEATURES_VERSION, Evidence, Extras, Floats
from recommender.answer.link_history import LinkHistory, PastLink
from recommender.answer.rank import Weighed
from recommender.catalog.text.derived import ANALYSIS
from recommender.errors import CorruptError, MismatchError, NotFoundError

if TYPE_CHECKING:
    import lightgbm

FORMAT = 2
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_AGAIN = "run `related-news fit` again"


@dataclass(frozen=True, slots=True)
class Fit:
    """What fitting found; all of it is in the file.

    weights: by feature, for standardised values; means, scales: of the features. trees: LightGBM's text form of
    boosted trees whose output is added, "" for none. slope, intercept: turn the sum into log-odds of the share of
    editor-accepted links, on the scale of the default formula.
    links: [source id, target id, milliseconds UTC] of the editors' links up to then, which are evidence themselves.
    encoder, analysis, features: what the evidence is computed from. fitted_on, evaluation: for people.
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
        """Return the file's text."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    def history(self) -> LinkHistory | None:
        """Return the editors' links as evidence. Raises CorruptError if they are not as they should be."""
        try:
            links = [PastLink(str(source), str(target), int(at_ms)) for source, target, at_ms in self.links]
            return LinkHistory(links) if links else None
        except (TypeError, ValueError, OverflowError) as error:
            raise CorruptError(f"the ranker's links are unreadable: {error}", fix=_AGAIN) from None


class FittedModel:
    """A rank.Model made of a Fit."""

    def __init__(self, fit: Fit) -> None:
        """Load the trees, if there are any."""
        self.fit = fit
        self._weights = _vector(fit.weights)
        self._means = _vector(fit.means)
        self._scales = _vector(fit.scales)
        self._trees = _booster(fit.trees) if fit.trees else None
        self._extras = Extras(fit.history())

    @property
    def name(self) -> str:
        """As receipts show it."""
        return self.fit.name

    @property
    def extras(self) -> Extras:
        """All evidence there is, the links that it was fitted on included."""
        return self._extras

    def weigh(self, evidence: Evidence, half_life_days: float) -> Weighed:
        """Return the log-odds of every candidate, and how they come about."""
        features = evidence.features(half_life_days)
        return Weighed(self.odds(features), lambda index: self._parts(features[index]), self._base())

    def odds(self, features: Floats) -> Floats:
        """Return float32 (n,) for float32 (n, len(FEATURES))."""
        raw = ((features - self._means) / self._scales) @ self._weights
        if self._trees is not None and len(features):
            raw = raw + np.asarray(self._trees.predict(features, raw_score=True, num_threads=1))
        odds: Floats = (self.fit.slope * raw + self.fit.intercept).astype(np.float32)
        return odds

    def _parts(self, features: Floats) -> dict[str, float]:
        added = (features - self._means) / self._scales * self._weights
        if self._trees is not None:
            added = added + self._contributions(features)[:-1]
        parts = dict.fromkeys(FEATURES.values(), 0.0)
        for part, value in zip(FEATURES.values(), (self.fit.slope * added).tolist(), strict=True):
            parts[part] += value
        return parts

    def _base(self) -> float:
        mean = 0.0 if self._trees is None else float(self._contributions(self._means)[-1])
        return self.fit.slope * mean + self.fit.intercept

    def _contributions(self, features: Floats) -> Floats:
        """Return float64 (len(FEATURES) + 1,): each feature's SHAP value, then the trees' expected value."""
        assert self._trees is not None
        values: Floats = np.asarray(self._trees.predict(features[None], pred_contrib=True, num_threads=1))[0]
        return values


def load_fit(path: Path, encoder: str | None = None) -> Fit:
    """Read a ranker's file. encoder: of the index that it shall rank; None takes any.

    Raises NotFoundError if there is none, CorruptError if it is no ranker, MismatchError if it does not fit.
    """
    try:
        fit = Fit(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise NotFoundError("ranker", str(path), fix="`related-news fit` makes one; or unset `ranker`") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CorruptError(f"{path}: is no fitted ranker: {error}", fix=_AGAIN) from None
    wanted = {"format": FORMAT, "features": FEATURES_VERSION, "analysis": ANALYSIS, "encoder": encoder or fit.encoder}
    for name, value in wanted.items():
        if (found := getattr(fit, name)) != value:
            raise MismatchError(
                f"{path} was fitted for {name} {found}, this index has {value}",
                fix="run `related-news fit` on this index, or unset `ranker`",
            )
    if problem := _problem(fit):
        raise CorruptError(f"{path}: is no fitted ranker: {problem}", fix=_AGAIN)
    return fit


def _problem(fit: Fit) -> str:
    """Return what is wrong with the values that are computed with, "" if nothing is."""
    for name in ("weights", "means", "scales"):
        table = getattr(fit, name)
        if not (isinstance(table, dict) and all(map(_is_finite, table.values()))):
            return f"{name} are not numbers by feature"
        if set(table) != set(FEATURES):
            return "its features differ"
    if any(scale <= 0 for scale in fit.scales.values()):
        return "scales are not above 0"
    if not all(map(_is_finite, (fit.slope, fit.intercept))):
        return "slope and intercept are not numbers"
    if not (all(isinstance(text, str) for text in (fit.name, fit.encoder, fit.trees)) and isinstance(fit.links, list)):
        return "name, encoder and trees are not text, or links no list"
    return ""


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FLOAT32_MAX


def _vector(values: dict[str, float]) -> Floats:
    return np.array([values[name] for name in FEATURES], np.float32)


def by_feature(values: Sequence[float]) -> dict[str, float]:
    """Return values, one for each of FEATURES, under their names."""
    return dict(zip(FEATURES, map(float, values), strict=True))


def _booster(trees: str) -> lightgbm.Booster:
    import lightgbm

    try:
        booster = lightgbm.Booster(model_str=trees)
    except lightgbm.basic.LightGBMError as error:
        raise CorruptError(f"the ranker's trees are unreadable: {error}", fix=_AGAIN) from None
    if booster.num_feature() != len(FEATURES):
        raise CorruptError(f"the ranker's trees are for {booster.num_feature()} features", fix=_AGAIN)
    return booster
