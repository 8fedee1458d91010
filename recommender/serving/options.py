"""What answers depend on besides the archive: layouts, limits, and the ranker that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recommender.answer.layout import DEFAULT_LAYOUT, DEFAULT_LAYOUT_NAME, Layout
from recommender.answer.rank import Ranker
from recommender.encoding.embedder import ModelInfo
from recommender.errors import NotFoundError

LAYOUT_NAME_SHOWN = 80
"""Limits the characters of an unknown layout's name in the error: statuses travel in headers, which are small."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedRanker:
    """A ranker that was fitted for the vectors of one encoder. ranker: None if its file could not be read."""

    ranker: Ranker | None
    encoder: str


@dataclass(frozen=True, slots=True, eq=False)
class ServingOptions:
    """The settings of answering. layouts: by name, one of them "default". fitted: None ranks by the default formula."""

    layouts: Mapping[str, Layout] = field(default_factory=lambda: {DEFAULT_LAYOUT_NAME: DEFAULT_LAYOUT})
    pages_per_batch: int = 100
    articles_per_write: int = 500
    fitted: FittedRanker | None = None
    default_ranker: Ranker = field(default_factory=Ranker)

    def layout(self, name: str) -> Layout:
        """Return a layout by its name; "" is the default one. Raises NotFoundError."""
        name = name or DEFAULT_LAYOUT_NAME
        if name not in self.layouts:
            names = ", ".join(sorted(self.layouts))
            raise NotFoundError("layout", name[:LAYOUT_NAME_SHOWN], fix=f"use one of: {names}; or give a layout inline")
        return self.layouts[name]

    def ranker_for(self, encoder: str) -> Ranker:
        """Return the fitted ranker, or the default one if the fitted one does not fit an index of this encoder."""
        if self.fitted is None or self.fitted.ranker is None or self.fitted.encoder != encoder:
            return self.default_ranker
        return self.fitted.ranker

    def warnings(self, language: str, model: ModelInfo, encoder: str) -> list[str]:
        """Return what limits the answer for a page in `language`.

        model: embeds drafts. encoder: the key of the index's encoder.
        """
        warnings = []
        if language and model.languages and language not in model.languages:
            languages = ", ".join(sorted(model.languages))
            warnings.append(
                f"the model {model.name} is made for {languages}; this page is {language}: "
                "trust wording more than meaning"
            )
        if self.fitted and self.fitted.ranker is None:
            warnings.append("the fitted ranker cannot be read: ranked by the default; the service's log says why")
        elif self.fitted and self.fitted.encoder != encoder:
            warnings.append(f"the fitted ranker is for {self.fitted.encoder}: ranked by the default; fit it again")
        return warnings
