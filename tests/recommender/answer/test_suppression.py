"""What must not stand on a page together, and which paragraph a link continues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from recommender.answer.page import Draft, Page, draft_page, stored_page
from recommender.answer.records import RecordCache
from recommender.answer.shared_terms import ParagraphFit, SharedTerms
from recommender.answer.suppression import Suppression
from recommender.catalog.articles import Article, Body, Paragraph, ParagraphKind, Rules
from recommender.catalog.snapshot.snapshot import Snapshot
from recommender.catalog.text.derived import analyse
from recommender.catalog.text.terms import MASKED_PARAGRAPHS, headline_key
from recommender.encoding.embed_articles import embed
from tests.building import NOW_MS, FakeEmbedder, article, build_snapshot, replayed

BODY = (
    "Envoys of the two ports met in Tarvik on Monday and agreed on a price for pilotage through the strait.",
    "Shipowners had asked for a lower price since the spring, when fuel became dear and cargo scarce.",
    "A second round of talks about dredging and buoys will open in the autumn.",
)
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def other(id: str, **changes: Any) -> Article:
    """Return an article that shares neither words nor headline nor address with another one."""
    words = " ".join(f"{number}{id}" for number in NUMBERS)
    return article(id, **{"title": f"Headline {id}", "paragraphs": [words], **changes})


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Return the snapshot of an empty archive; what an archive of these tests holds came after it."""
    return build_snapshot(tmp_path_factory.mktemp("empty"), [])


class Archive:
    """An archive and its rows by id."""

    def __init__(self, empty: Snapshot, *articles: Article) -> None:
        self.live = replayed(empty, articles)

    def row(self, article_id: str) -> int:
        row = self.live.find(article_id)
        assert row is not None
        return row

    def page(self, page_id: str) -> Page:
        """Return a stored page."""
        return stored_page(self.live, self.row(page_id))

    def shared_terms(self, page_id: str) -> SharedTerms:
        """Return what finds the terms that other articles share with a stored page."""
        return SharedTerms(self.live, self.page(page_id), RecordCache(self.live))

    def fits(self, page_id: str, article_id: str) -> list[float]:
        """Return how well an article continues each paragraph of a stored page."""
        paragraph_fit = ParagraphFit(self.page(page_id), self.shared_terms(page_id))
        fits: list[float] = paragraph_fit.fit(self.row(article_id)).tolist()
        return fits

    def rule_against(
        self, page_id: str, article_id: str, links: Sequence[str] = (), on_page: Sequence[str] = ()
    ) -> str | None:
        """Return the rule by which an article must not stand on a page beside others."""
        suppression = Suppression(self.live, self.page(page_id), map(self.row, on_page), RecordCache(self.live))
        return suppression.rule_against(self.row(article_id), [self.row(id) for id in links])


# Against the page


@pytest.mark.parametrize(
    ("page", "candidate", "rule"),
    [
        (other("page"), other("a"), None),
        (other("page", paragraphs=BODY), other("a", paragraphs=BODY), "near_copy_of_page"),
        (
            other("page", paragraphs=BODY),
            other("a", paragraphs=[*BODY, "The harbour master said more."]),
            "near_copy_of_page",
        ),
        (
            other("page", paragraphs=BODY),
            other("a", paragraphs=[Paragraph("Photo: the quay", ParagraphKind.MEDIA), *BODY], site="elsewhere.example"),
            "near_copy_of_page",
        ),
        (other("page", paragraphs=BODY), other("a", paragraphs=[BODY[0], " ".join(NUMBERS * 4)]), None),
        (other("page", url="https://x.example/1"), other("a", url="https://x.example/1"), "same_url_as_page"),
        (other("page", url=""), other("a", url=""), None),
        (other("page", title="Talks resume"), other("a", title="Talks resume"), "same_headline_as_page"),
        (other("page", title="Talks resume"), other("a", title="UPDATED: talks, resume!"), "same_headline_as_page"),
        (other("page", title="Talks resume"), other("a", title="Talks resume in Tarvik"), None),
        (other("page", title=""), other("a", title=""), None),
        (other("page", title="Breaking"), other("a", title="Live"), None),
        (other("page", rules=Rules(never_with=("a",))), other("a"), "never_with"),
        (other("page"), other("a", rules=Rules(never_with=("page",))), "never_with"),
        (other("page", rules=Rules(never_with=("b",))), other("a", rules=Rules(never_with=("c",))), None),
        (other("page", paragraphs=["Too short."]), other("a", paragraphs=["Too short."]), None),
    ],
    ids=[
        "nothing in common",
        "cross-post",
        "with a paragraph more",
        "with a caption, on another site",
        "a quoted paragraph",
        "same address",
        "no addresses",
        "same headline",
        "updated headline",
        "longer headline",
        "no headlines",
        "headlines without telling words",
        "pair of the page",
        "pair of the article",
        "pairs with others",
        "bodies too short to tell",
    ],
)
def test_clash_with_the_page(page: Article, candidate: Article, rule: str | None, empty: Snapshot) -> None:
    """The page's copies, versions and forbidden pairs do not stand on it."""
    assert Archive(empty, page, candidate).rule_against("page", "a") == rule


def test_the_page_never_links_to_itself(empty: Snapshot) -> None:
    """Its own row clashes, by its address."""
    assert Archive(empty, other("page")).rule_against("page", "page") == "same_url_as_page"


def test_a_draft_is_judged_like_a_stored_page(empty: Snapshot) -> None:
    """A draft has copies, versions and an address; no pair can name it."""
    archive = Archive(
        empty,
        other("copy", paragraphs=BODY),
        other("version", title="Corrected: Ports agree on a price"),
        other("itself", url="https://x.example/1"),
        other("pair", rules=Rules(never_with=("draft",))),
    )
    body = Body("Ports agree on a price", "", tuple(map(Paragraph, BODY)))
    vectors = embed([body], FakeEmbedder())[0]
    page = draft_page(archive.live, Draft(body, vectors, analyse(body), NOW_MS, url="https://x.example/1"))
    suppression = Suppression(archive.live, page, (), RecordCache(archive.live))
    rules = {id: suppression.rule_against(archive.row(id), []) for id in ("copy", "version", "itself", "pair")}
    assert rules == {
        "copy": "near_copy_of_page",
        "version": "same_headline_as_page",
        "itself": "same_url_as_page",
        "pair": None,
    }


# Against other links


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        (other("a"), other("b"), None),
        (other("a", paragraphs=BODY), other("b", paragraphs=BODY), "near_copy_of_link"),
        (other("a", title="Talks resume"), other("b", title="Talks resume - live"), "same_headline_as_link"),
        (other("a", url="https://x.example/1"), other("b", url="https://x.example/1"), "same_url_as_link"),
        (other("a", rules=Rules(never_with=("b",))), other("b"), "never_with"),
        (other("a"), other("b", rules=Rules(never_with=("a",))), "never_with"),
        (other("a", url="", title=""), other("b", url="", title=""), None),
    ],
    ids=["nothing in common", "near copies", "versions", "same address", "pair", "pair, other way", "no labels"],
)
@pytest.mark.parametrize("how", ["chosen", "on_page"])
def test_clash_with_a_link(first: Article, second: Article, rule: str | None, how: str, empty: Snapshot) -> None:
    """Two links clash whichever comes first, and whether we chose the first or the page had it."""
    archive = Archive(empty, other("page"), first, second)
    for one, two in (("a", "b"), ("b", "a")):
        chosen, on_page = ([one], []) if how == "chosen" else ([], [one])
        assert archive.rule_against("page", two, chosen, on_page) == rule


def test_every_link_counts_not_only_the_first(empty: Snapshot) -> None:
    """A candidate is compared with all that the page holds, whatever their order."""
    archive = Archive(
        empty, other("page"), other("x"), other("y"), other("a", paragraphs=BODY), other("b", paragraphs=BODY)
    )
    for chosen in (["a", "x", "y"], ["x", "a", "y"], ["y", "x", "a"]):
        assert archive.rule_against("page", "b", chosen) == "near_copy_of_link"
    assert archive.rule_against("page", "b", ["y"], on_page=["x", "a"]) == "near_copy_of_link"
    assert archive.rule_against("page", "b", ["x", "y"]) is None


def test_the_page_s_rule_is_named_before_a_link_s(empty: Snapshot) -> None:
    """A candidate that repeats both is counted as the page's copy."""
    copies = [other(id, paragraphs=BODY) for id in ("page", "a", "b")]
    assert Archive(empty, *copies).rule_against("page", "b", ["a"]) == "near_copy_of_page"


# Headlines


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Talks on the strait resume", "talks on the strait resume"),
        ("UPDATED: Talks on the strait resume!", "talks on the strait resume"),
        ("Talks on the strait resume (update)", "talks on the strait resume"),
        ("BREAKING | LIVE | Talks on the strait resume", "talks on the strait resume"),
        ("Exclusive: correction – corrected", ""),
        ("", ""),
        ("?!", ""),
        ("3 dead, 5 missing", "3 dead 5 missing"),
        ("Élections: le débat", "élections le débat"),
        ("東京会談", "東京 京会 会談"),
    ],
)
def test_headline_key(title: str, key: str) -> None:
    """What versions of a headline share: words in lower case, no punctuation, no "updated"."""
    assert headline_key(title) == key


# Fit


def paragraph_fits(empty: Snapshot, paragraphs: Sequence[str | Paragraph], candidate: Sequence[str]) -> list[float]:
    """Return how well each paragraph of a page is continued by another article."""
    filler = [other(f"filler{n}") for n in range(6)]
    archive = Archive(empty, other("page", paragraphs=paragraphs), other("a", paragraphs=candidate), *filler)
    return archive.fits("page", "a")


def test_a_link_fits_the_paragraph_that_it_shares_words_with(empty: Snapshot) -> None:
    """Of four paragraphs only the one about the candidate's subject has a fit."""
    page = [BODY[0], "Meteorologists measured hail in Ostmark.", BODY[1], BODY[2]]
    fits = paragraph_fits(empty, page, ["Hail ruined the barley around Ostmark, as meteorologists had feared."])
    assert fits[1] > 0
    assert fits[0] == fits[2] == fits[3] == 0


def test_a_term_in_two_paragraphs_counts_half_in_each(empty: Snapshot) -> None:
    """A subject that runs through the page says less about a place than one that stands in it once."""
    page = ["Hail fell.", "Hail again.", "Ostmark waited."]
    first, second, third = paragraph_fits(empty, page, ["Hail in Ostmark."])
    assert 0 < first == second < third


def test_captions_and_the_title_have_no_fit(empty: Snapshot) -> None:
    """Words of a caption are no subject of the text; those of the headline stand in no paragraph."""
    caption = Paragraph("Hail over Ostmark, photographed by a farmer", ParagraphKind.MEDIA)
    assert paragraph_fits(empty, [caption, BODY[0]], ["Hail over Ostmark."]) == [0.0, 0.0]


def test_the_last_of_a_very_long_page_s_paragraphs_have_no_fit(empty: Snapshot) -> None:
    """Only the first paragraphs are told apart; there is a value for each all the same."""
    page = ["Nothing here."] * (MASKED_PARAGRAPHS - 1) + ["Hail over Ostmark.", "Barley in Tarvik."]
    fits = paragraph_fits(empty, page, ["Hail over Ostmark and barley in Tarvik."])
    assert len(fits) == MASKED_PARAGRAPHS + 1
    assert fits[MASKED_PARAGRAPHS - 1] > 0
    assert fits[MASKED_PARAGRAPHS] == 0


def test_words_of_the_title_have_no_fit_in_the_paragraphs_of_a_long_page(empty: Snapshot) -> None:
    """Standing in the title is standing in no paragraph, not even in the first that is not told apart."""
    body = [f"{NUMBERS[n % 12]}{n} waited." for n in range(MASKED_PARAGRAPHS + 3)]
    page = other("page", title="Hail over Ostmark", paragraphs=body)
    archive = Archive(empty, page, other("a", paragraphs=["Hail over Ostmark."]), *(other(f"f{n}") for n in range(6)))
    assert len(archive.shared_terms("page").shared(archive.row("a")).contributions)
    assert archive.fits("page", "a") == [0.0] * len(body)


def test_a_word_of_the_title_counts_whole_in_its_only_paragraph(empty: Snapshot) -> None:
    """The title takes no part of it away."""
    page = other("page", title="Hail", paragraphs=["Nothing here.", "Hail fell."])
    archive = Archive(empty, page, other("a", paragraphs=["Hail."]), *(other(f"f{n}") for n in range(6)))
    shared = archive.shared_terms("page").shared(archive.row("a")).contributions.sum()
    assert shared > 0
    assert archive.fits("page", "a") == pytest.approx([0.0, shared])


def test_a_page_without_words_fits_nothing(empty: Snapshot) -> None:
    """No terms, no fit, no error."""
    archive = Archive(empty, article("page", title="?", paragraphs=["!", "..."]), other("a"))
    assert archive.fits("page", "a") == [0.0, 0.0]


def test_shared_terms_add_up_to_the_overlap(empty: Snapshot) -> None:
    """What each term adds sums to the TF-IDF cosine, which is 1 for the same text."""
    archive = Archive(empty, other("page"), other("b", title="Headline page", paragraphs=other("page").paragraphs))
    added = archive.shared_terms("page").shared(archive.row("b")).contributions
    assert added.sum() == pytest.approx(1, abs=0.01)
    assert added.min() >= 0


# What tells why


def subject_weights(shared_terms: SharedTerms, row: int) -> dict[str, float]:
    """Return how well each shared term names the subject, by how it is written."""
    return {subject.surface: subject.weight for subject in shared_terms.subjects(row)}


def beside(empty: Snapshot, page: Article, one: Article) -> tuple[SharedTerms, int]:
    """Return what a page shares with others and the row of one other article, in an archive of some more."""
    archive = Archive(empty, page, one, *(other(f"f{n}") for n in range(6)))
    return archive.shared_terms(page.id), archive.row(one.id)


def test_a_term_that_either_text_writes_small_is_a_word(empty: Snapshot) -> None:
    """The capital of a sentence's start is not taken for a name's."""
    page = other("page", title="Duties", paragraphs=["Tariffs rose. Ostmark waited."])
    shared_terms, row = beside(empty, page, other("a", title="Prices", paragraphs=["Old tariffs and Ostmark rose."]))
    assert subject_weights(shared_terms, row).keys() == {"tariffs", "Ostmark", "rose"}


def test_what_is_in_a_title_tells_twice(empty: Snapshot) -> None:
    """In the page's or in the other's; elsewhere a term tells as much as it adds to the overlap."""
    page = other("page", title="Hail again", paragraphs=["Then frost and sleet and hail."])
    one = other("a", title="Frost warning", paragraphs=["There was hail and sleet."])
    archive = Archive(empty, page, one, *(other(f"f{n}") for n in range(6)))
    shared_terms, row = archive.shared_terms("page"), archive.row("a")
    shared = shared_terms.shared(row)
    theirs = [archive.live.record(row).surfaces[at].lower() for at in shared.row_positions.tolist()]
    added = dict(zip(theirs, shared.contributions.tolist(), strict=True))
    factors = {surface: weight / added[surface] for surface, weight in subject_weights(shared_terms, row).items()}
    assert factors == pytest.approx({"hail": 2, "frost": 2, "sleet": 1})


def test_a_speaker_s_label_tells_little(empty: Snapshot) -> None:
    """What stands in every second paragraph of a long page, but not in its title, is no subject."""
    body = [f"WN asks {number}." if n % 2 else f"Answer {number} on sleet." for n, number in enumerate(NUMBERS)]
    shared_terms, row = beside(
        empty, other("page", title="Talk", paragraphs=body), other("a", title="Prices", paragraphs=["WN on hail."])
    )
    assert subject_weights(shared_terms, row) == pytest.approx({"WN": shared_terms.shared(row).contributions.sum() / 5})
