"""What editors linked to before, as features: counted, timed, and compared with a plain reading of the links."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recommender.answer.link_history import KNOWN_AFTER_MS, LinkHistory, PastLink
from recommender.catalog.snapshot.columns import id_hash

DAY_MS = KNOWN_AFTER_MS


def features_of(
    links: list[PastLink], ids: list[str], similarity: list[float], as_of_ms: int
) -> list[tuple[float, float]]:
    """Return (linked, linked_near) of each candidate."""
    hashes = np.array([id_hash(article_id) for article_id in ids], np.uint64)
    found = LinkHistory(links).features(hashes, np.array(similarity, np.float32), as_of_ms)
    return list(zip(*(values.tolist() for values in found), strict=True))


def test_links_count_from_a_day_after_their_page() -> None:
    """Links count from a day after their page, when a ranker fitted every night knows them."""
    links = [PastLink("page", "hub", 10 * DAY_MS)]
    assert features_of(links, ["hub"], [0.0], 11 * DAY_MS - 1) == [(0, 0)]
    assert features_of(links, ["hub"], [0.0], 11 * DAY_MS) == [(1, 0)]


def test_the_nearest_page_that_linked_is_one_of_the_candidates() -> None:
    """Only a linking page among the candidates gives a similarity, the largest of several; others just count."""
    links = [PastLink("near", "hub", 0), PastLink("far", "hub", 0), PastLink("elsewhere", "hub", 0)]
    found = features_of(links, ["far", "hub", "near"], [0.25, 0.5, 0.75], DAY_MS)
    assert found == [(0, 0), (3, 0.75), (0, 0)]


def test_a_pair_counts_once_from_its_first_time() -> None:
    """Two links between the same two articles count as one, from the earlier."""
    links = [PastLink("page", "hub", 5 * DAY_MS), PastLink("page", "hub", DAY_MS)]
    assert LinkHistory(links).links == (PastLink("page", "hub", DAY_MS),)
    assert features_of(links, ["hub"], [0.0], 2 * DAY_MS) == [(1, 0)]


def test_no_links_and_no_candidates_are_no_error() -> None:
    """Without links every feature is zero; without candidates there is none."""
    assert features_of([], ["a"], [0.5], DAY_MS) == [(0, 0)]
    assert features_of([PastLink("a", "b", 0)], [], [], DAY_MS) == []


_ids = st.sampled_from("abcdefgh")
_links = st.lists(st.builds(PastLink, _ids, _ids, st.integers(0, 6).map(lambda day: day * DAY_MS)), max_size=30)


@given(links=_links, candidates=st.lists(_ids, unique=True), similarity=st.lists(st.floats(0, 1, width=16), min_size=8))
def test_features_equal_those_of_a_plain_loop(
    links: list[PastLink], candidates: list[str], similarity: list[float]
) -> None:
    """Numbers of links and similarities are those that a loop over all links finds."""
    as_of_ms = 4 * DAY_MS
    like = dict(zip(candidates, similarity, strict=False))
    known = {(link.source_id, link.target_id) for link in links if link.at_ms <= as_of_ms - KNOWN_AFTER_MS}
    expected = []
    for candidate in candidates:
        sources = [source for source, target in known if target == candidate]
        expected.append((len(sources), max((like[s] for s in sources if s in like), default=0)))
    assert features_of(links, candidates, [like[c] for c in candidates], as_of_ms) == expected
