"""Whether near copies are told from texts that merely share a title."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.evaluation.links import read_objects
from recommender.answer.suppression import NEAR_COPY
from recommender.catalog.live import Live
from recommender.catalog.text.near_copies import resemblance
from recommender.errors import InvalidInputError

LABELLED_FROM = 0.8
"""A labelled pair is a near copy from this share of common shingles on. Pairs between NEAR_COPY and here are versions
of one text too, and are suppressed on purpose; they are counted apart, neither right nor wrong."""


def measure(live: Live, path: Path) -> dict[str, float | int]:
    """Return precision and recall of the near-copy rule on labelled pairs.

    path: one JSON object a line: first_id, second_id, shingle_jaccard. precision: of the pairs that the product takes
    for near copies, versions apart; precision_strict: versions counted as wrong.
    """
    truths, said, unknown = [], [], 0
    for where, values in read_objects(path):
        jaccard = values.get("shingle_jaccard")
        if isinstance(jaccard, bool) or not isinstance(jaccard, int | float):
            raise InvalidInputError(where, "has no shingle_jaccard", fix="write the share of common shingles, 0 to 1")
        rows = [live.find(str(values.get(name, ""))) for name in ("first_id", "second_id")]
        if rows[0] is None or rows[1] is None:
            unknown += 1
            continue
        first, second = (live.sketches(np.array([row])) for row in rows)
        truths.append(jaccard)
        said.append(bool(resemblance(first[0], second)[0] >= NEAR_COPY))
    truth, found = np.array(truths, float), np.array(said, bool)
    copies, versions = truth >= LABELLED_FROM, (truth >= NEAR_COPY) & (truth < LABELLED_FROM)
    return {
        "pairs": len(truths),
        "unknown_pairs": unknown,
        "near_copies": int(copies.sum()),
        "versions": int(versions.sum()),
        "detected_from": NEAR_COPY,
        "precision": _share(copies, found & ~versions),
        "precision_strict": _share(copies, found),
        "recall": _share(found, copies),
    }


def _share(wanted: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> float:
    return float(wanted[among].mean()) if among.any() else 1.0
