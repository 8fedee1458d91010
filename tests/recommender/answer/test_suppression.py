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
    """Return the snapshot of an empty archive; the tests' articles are in the tail."""
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
def test_rules_against_a_candidate_of_the_page(
    page: Article, candidate: Article, rule: str | None, empty: Snapshot
) -> None:
    """Copies and versions of the page, and articles of a forbidden pair, are suppressed."""
    assert Archive(empty, page, candidate).rule_against("page", "a") == rule


def test_the_page_never_links_to_itself(empty: Snapshot) -> None:
    """The page is suppressed on itself, by its address."""
    assert Archive(empty, other("page")).rule_against("page", "page") == "same_url_as_page"


def test_a_draft_has_the_rules_of_a_stored_page(empty: Snapshot) -> None:
    """Copies, versions and the address of a draft are suppressed; no pair can name a draft."""
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
def test_rules_against_a_candidate_beside_a_link(
    first: Article, second: Article, rule: str | None, how: str, empty: Snapshot
) -> None:
    """Of two links the second is suppressed, in either order, whether the first was chosen or on the page."""
    archive = Archive(empty, other("page"), first, second)
    for one, two in (("a", "b"), ("b", "a")):
        chosen, on_page = ([one], []) if how == "chosen" else ([], [one])
        assert archive.rule_against("page", two, chosen, on_page) == rule


def test_every_link_counts_not_only_the_first(empty: Snapshot) -> None:
    """A candidate is compared with all links of the page, whatever their order."""
    archive = Archive(
        empty, other("page"), other("x"), other("y"), other("a", paragraphs=BODY), other("b", paragraphs=BODY)
    )
    for chosen in (["a", "x", "y"], ["x", "a", "y"], ["y", "x", "a"]):
        assert archive.rule_against("page", "b", chosen) == "near_copy_of_link"
    assert archive.rule_against("page", "b", ["y"], on_page=["x", "a"]) == "near_copy_of_link"
    assert archive.rule_against("page", "b", ["x", "y"]) is None


def test_the_page_s_rule_is_named_before_a_link_s(empty: Snapshot) -> None:
    """A candidate that copies the page and a link is counted as a copy of the page."""
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
    """The key of a headline has its words in lower case, without punctuation and without "updated"."""
    assert headline_key(title) == key


# Fit


def paragraph_fits(empty: Snapshot, paragraphs: Sequence[str | Paragraph], candidate: Sequence[str]) -> list[float]:
    """Return how well each paragraph of a page is continued by another article."""
    filler = [other(f"filler{n}") for n in range(6)]
    archive = Archive(empty, other("page", paragraphs=paragraphs), other("a", paragraphs=candidate), *filler)
    return archive.fits("page", "a")


def test_a_link_fits_the_paragraph_that_it_shares_words_with(empty: Snapshot) -> None:
    """Of four paragraphs only the one on the candidate's subject fits."""
    page = [BODY[0], "Meteorologists measured hail in Ostmark.", BODY[1], BODY[2]]
    fits = paragraph_fits(empty, page, ["Hail ruined the barley around Ostmark, as meteorologists had feared."])
    assert fits[1] > 0
    assert fits[0] == fits[2] == fits[3] == 0


def test_a_term_in_two_paragraphs_counts_half_in_each(empty: Snapshot) -> None:
    """A term of two paragraphs adds half as much to each as one that stands in a single paragraph."""
    page = ["Hail fell.", "Hail again.", "Ostmark waited."]
    first, second, third = paragraph_fits(empty, page, ["Hail in Ostmark."])
    assert 0 < first == second < third


def test_captions_and_the_title_have_no_fit(empty: Snapshot) -> None:
    """Words of a caption or of the title fit no paragraph."""
    caption = Paragraph("Hail over Ostmark, photographed by a farmer", ParagraphKind.MEDIA)
    assert paragraph_fits(empty, [caption, BODY[0]], ["Hail over Ostmark."]) == [0.0, 0.0]


def test_the_last_of_a_very_long_page_s_paragraphs_have_no_fit(empty: Snapshot) -> None:
    """Paragraphs beyond MASKED_PARAGRAPHS fit nothing, and still have a value."""
    page = ["Nothing here."] * (MASKED_PARAGRAPHS - 1) + ["Hail over Ostmark.", "Barley in Tarvik."]
    fits = paragraph_fits(empty, page, ["Hail over Ostmark and barley in Tarvik."])
    assert len(fits) == MASKED_PARAGRAPHS + 1
    assert fits[MASKED_PARAGRAPHS - 1] > 0
    assert fits[MASKED_PARAGRAPHS] == 0


def test_words_of_the_title_have_no_fit_in_the_paragraphs_of_a_long_page(empty: Snapshot) -> None:
    """Words of the title fit no paragraph, also not the first beyond MASKED_PARAGRAPHS."""
    body = [f"{NUMBERS[n % 12]}{n} waited." for n in range(MASKED_PARAGRAPHS + 3)]
    page = other("page", title="Hail over Ostmark", paragraphs=body)
    archive = Archive(empty, page, other("a", paragraphs=["Hail over Ostmark."]), *(other(f"f{n}") for n in range(6)))
    assert len(archive.shared_terms("page").shared(archive.row("a")).contributions)
    assert archive.fits("page", "a") == [0.0] * len(body)


def test_a_word_of_the_title_counts_whole_in_its_only_paragraph(empty: Snapshot) -> None:
    """A term in the title and one paragraph counts in full in the paragraph."""
    page = other("page", title="Hail", paragraphs=["Nothing here.", "Hail fell."])
    archive = Archive(empty, page, other("a", paragraphs=["Hail."]), *(other(f"f{n}") for n in range(6)))
    shared = archive.shared_terms("page").shared(archive.row("a")).contributions.sum()
    assert shared > 0
    assert archive.fits("page", "a") == pytest.approx([0.0, shared])


def test_a_page_without_words_fits_nothing(empty: Snapshot) -> None:
    """A page without terms has no fit, and no error."""
    archive = Archive(empty, article("page", title="?", paragraphs=["!", "..."]), other("a"))
    assert archive.fits("page", "a") == [0.0, 0.0]


def test_shared_terms_add_up_to_the_overlap(empty: Snapshot) -> None:
    """The contributions of terms sum to the TF-IDF cosine, which is 1 for the same text."""
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


def test_a_term_in_lower_case_in_either_text_is_a_word(empty: Snapshot) -> None:
    """A word with a capital at the start of a sentence is not taken for a name."""
    page = other("page", title="Duties", paragraphs=["Tariffs rose. Ostmark waited."])
    shared_terms, row = beside(empty, page, other("a", title="Prices", paragraphs=["Old tariffs and Ostmark rose."]))
    assert subject_weights(shared_terms, row).keys() == {"tariffs", "Ostmark", "rose"}


def test_terms_of_a_title_count_double(empty: Snapshot) -> None:
    """A term in the title of page or candidate counts double; another weighs its contribution to the overlap."""
    page = other("page", title="Hail again", paragraphs=["Then frost and sleet and hail."])
    one = other("a", title="Frost warning", paragraphs=["There was hail and sleet."])
    archive = Archive(empty, page, one, *(other(f"f{n}") for n in range(6)))
    shared_terms, row = archive.shared_terms("page"), archive.row("a")
    shared = shared_terms.shared(row)
    theirs = [archive.live.record(row).surfaces[at].lower() for at in shared.row_positions.tolist()]
    added = dict(zip(theirs, shared.contributions.tolist(), strict=True))
    factors = {surface: weight / added[surface] for surface, weight in subject_weights(shared_terms, row).items()}
    assert factors == pytest.approx({"hail": 2, "frost": 2, "sleet": 1})


def test_a_speaker_s_name_counts_little(empty: Snapshot) -> None:
    """A term in every second paragraph of a long page, but not in its title, counts a fifth."""
    body = [f"WN asks {number}." if n % 2 else f"Answer {number} on sleet." for n, number in enumerate(NUMBERS)]
    shared_terms, row = beside(
        empty, other("page", title="Talk", paragraphs=body), other("a", title="Prices", paragraphs=["WN on hail."])
    )
    assert subject_weights(shared_terms, row) == pytest.approx({"WN": shared_terms.shared(row).contributions.sum() / 5})
