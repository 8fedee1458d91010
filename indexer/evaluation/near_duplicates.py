"""Whether near copies are distinguished from texts that only share a title."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.evaluation.links import read_objects
from indexer.evaluation.report import NearCopyReport
from recommender.answer.suppression import NEAR_COPY
from recommender.catalog.live import Live
from recommender.catalog.text.near_copies import resemblance
from recommender.errors import InvalidInputError

LABELLED_FROM = 0.8
"""A labelled pair with at least this share of common shingles is a near copy. Pairs from NEAR_COPY up to here are
versions of one text; they are suppressed on purpose, and counted separately, neither as right nor as wrong."""


def measure(live: Live, path: Path) -> NearCopyReport:
    """Measure the near-copy rule on labelled pairs.

    path: one JSON object a line: first_id, second_id, shingle_jaccard.
    """
    labels, detections, unknown = [], [], 0
    for where, values in read_objects(path):
        jaccard = values.get("shingle_jaccard")
        if isinstance(jaccard, bool) or not isinstance(jaccard, int | float):
            raise InvalidInputError(where, "has no shingle_jaccard", fix="write the share of common shingles, 0 to 1")
        rows = [live.find(str(values.get(name, ""))) for name in ("first_id", "second_id")]
        if rows[0] is None or rows[1] is None:
            unknown += 1
            continue
        first, second = (live.sketches(np.array([row])) for row in rows)
        labels.append(jaccard)
        detections.append(bool(resemblance(first[0], second)[0] >= NEAR_COPY))
    label, detected = np.array(labels, float), np.array(detections, bool)
    copies, versions = label >= LABELLED_FROM, (label >= NEAR_COPY) & (label < LABELLED_FROM)
    return NearCopyReport(
        pairs=len(labels),
        unknown_pairs=unknown,
        near_copies=int(copies.sum()),
        versions=int(versions.sum()),
        detected_from=NEAR_COPY,
        precision=_share(copies, detected & ~versions),
        precision_strict=_share(copies, detected),
        recall=_share(detected, copies),
    )


def _share(wanted: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> float:
    return float(wanted[among].mean()) if among.any() else 1.0
