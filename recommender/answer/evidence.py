"""What is known of candidates beside a page: the evidence that a model weighs. Values only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recommender.answer.link_history import LinkHistory
from recommender.catalog.vectors.index import Rows

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """What only a fitted ranker looks at; all float32 (n,), parallel to the evidence's rows.

    shared, strongest, own_title, titles: see wording.OverlapDetail. linked: number of earlier pages whose editors
    linked to the candidate. linked_near: the largest wording overlap with such a page; see history.LinkHistory.
    """

    shared: Floats
    strongest: Floats
    own_title: Floats
    titles: Floats
    linked: Floats
    linked_near: Floats

    @staticmethod
    def none(n: int) -> Detail:
        """Return zeros for n candidates."""
        return Detail(*(np.zeros(n, np.float32) for _ in range(6)))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of each candidate beside the page; all arrays float32 (n,), parallel to `rows`, ascending.

    wording: TF-IDF cosine of full texts, 0 to 1. meaning, headline: cosines of main and head vectors. title: share of
    the candidate's title that the page's text uses. age_days: how far in time from the page, either way. tags: Jaccard
    coefficient. evergreen; section, site, author: whether the page's is the same, 0 or 1. words: the candidate's.
    section_share, site_share: share of the archive's articles that have the page's; what all have tells nothing.
    """

    rows: Rows
    wording: Floats
    meaning: Floats
    headline: Floats
    title: Floats
    age_days: Floats
    evergreen: Floats
    section: Floats
    tags: Floats
    site: Floats
    author: Floats
    words: Floats
    published_at_ms: npt.NDArray[np.int64]
    id_hashes: npt.NDArray[np.uint64]
    section_share: float = 0.0
    site_share: float = 0.0
    detail: Detail | None = None

    def values(self, index: int) -> dict[str, float]:
        """Return one candidate's evidence under the names of the score parts."""
        values = {name: float(getattr(self, _FIELDS.get(name, name))[index]) for name in PARTS}
        return values | {HISTORY: float(self.detail.linked[index]) if self.detail else 0.0}

    def features(self, half_life_days: float) -> Floats:
        """Return float32 (n, len(FEATURES)), C-contiguous: what a fitted ranker sees; see FEATURES_VERSION."""
        detail = self.detail or Detail.none(len(self.rows))
        wording = np.log1p(np.maximum(self.wording, 0) / WORDING_OFFSET)
        columns = {name: getattr(self, _FIELDS.get(name, name)) for name in PARTS} | {
            "wording": wording,
            "freshness": self.log_age(half_life_days),
            "length": np.log1p(self.words),
            "wording_gap": wording - wording.max(initial=0),
            "meaning_gap": self.meaning - self.meaning.max(initial=-1),
            "headline_gap": self.headline - self.headline.max(initial=-1),
            "shared": np.log1p(detail.shared),
            "strongest": detail.strongest,
            "own_title": detail.own_title,
            "titles": detail.titles,
            "linked": np.log1p(detail.linked),
            "linked_near": detail.linked_near,
        }
        return np.ascontiguousarray(np.column_stack([columns[name] for name in FEATURES]), np.float32)

    def log_age(self, half_life_days: float) -> Floats:
        """Return ln(1 + age in half-lives); 0 for evergreen articles."""
        ages: Floats = np.log1p(self.age_days / max(half_life_days, 1e-6)) * (1 - self.evergreen)
        return ages


PARTS = (
    "wording",
    "meaning",
    "headline",
    "title",
    "freshness",
    "section",
    "tags",
    "site",
    "author",
    "length",
)
"""Names of the evidence, as score parts show it."""
WORDING_OFFSET = 0.02
"""Evidence of wording is ln(1 + overlap / 0.02): below a fiftieth two texts share next to nothing."""
HISTORY = "history"
"""Name of the score part that only a fitted ranker has: what editors linked to before."""
FEATURES = {
    **{name: name for name in PARTS},
    "wording_gap": "wording",
    "meaning_gap": "meaning",
    "headline_gap": "headline",
    "shared": "wording",
    "strongest": "wording",
    "own_title": "title",
    "titles": "title",
    "linked": HISTORY,
    "linked_near": HISTORY,
}
"""A fitted ranker's features in their order, each with the score part that shows what it adds. A gap is how far a
candidate is below the best of its page."""
FEATURES_VERSION = "features-2"
"""Names the columns of `Evidence.features` and how they are computed; changes whenever they do."""
_FIELDS = {"freshness": "age_days", "length": "words"}


@dataclass(frozen=True, slots=True)
class Extras:
    """Asks for evidence in Detail. history: of the editors' links, None if there is none."""

    history: LinkHistory | None = None
