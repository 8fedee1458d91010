"""Terms: which ones a text has, how they are weighted, and how they are packed and stored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.catalog.articles import Paragraph, ParagraphKind
from recommender.catalog.text.terms import (
    IN_TITLE,
    MASKED_PARAGRAPHS,
    SIGNATURE_TERMS,
    TERM_BUCKETS,
    TERMS_STORED,
    TITLE_TERMS,
    Signature,
    Terms,
    TermStatistics,
    extract_terms,
    make_signature,
    unpack,
    word_hash,
    words_of,
)
from tests.recommender.terms import EVEN, STEP, term_id, terms_of, titled_in


def counts(terms: Terms) -> dict[str, int]:
    """Return the count of each term by its surface."""
    return dict(zip(terms.surfaces, terms.counts.tolist(), strict=True))


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", [], id="empty"),
        pytest.param(" – … !", [], id="no words"),
        pytest.param("Talks resume, at last.", ["Talks", "resume", "at", "last"], id="punctuation"),
        pytest.param("state-owned up/down a_b", ["state", "owned", "up", "down", "a", "b"], id="joined words"),
        pytest.param("don't Iran’s U.S. AT&T", ["don't", "Iran’s", "U.S", "AT&T"], id="apostrophes and initials"),
        pytest.param("rose 3.5 per cent in 2019", ["rose", "3.5", "per", "cent", "in", "2019"], id="figures"),
        pytest.param("Überfluß naïve Ελλάδα Київ", ["Überfluß", "naïve", "Ελλάδα", "Київ"], id="other alphabets"),
        pytest.param("新闻", ["新闻"], id="two characters"),
        pytest.param("新", ["新"], id="one character"),
        pytest.param("海峡谈判", ["海峡", "峡谈", "谈判"], id="Chinese"),
        pytest.param("カメラ、ニュース", ["カメ", "メラ", "ニュ", "ュー", "ース"], id="Japanese"),
        pytest.param("2026年3月COVID疫情", ["2026", "年", "3", "月", "COVID", "疫情"], id="mixed scripts"),
        pytest.param(
            "हिन्दी समाचार",
            ["हिन्दी", "समाचार"],
            id="Hindi",
        ),
        pytest.param("대통령 회담", ["대통령", "회담"], id="Korean is written with spaces"),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    """Words come as written; scripts without spaces give pairs of neighbouring characters."""
    assert words_of(text) == words


@given(st.text(st.characters() | st.sampled_from("新闻报道 Aa.'’&-")))
def test_words_are_parts_of_the_text_in_order(text: str) -> None:
    """Whatever the text, words are parts of it in order, without white space."""
    at = 0
    for word in words_of(text):
        at = text.index(word, at)
        assert word
        assert word == "".join(word.split())


# Terms


def test_terms_of_a_sentence() -> None:
    """Stop words and contractions are removed, plurals and possessives shortened; case does not matter."""
    terms = terms_of("", "The talks on Iran’s gas prices: Talk of Gas didn't stop, they've said. One price a glass.")
    assert counts(terms) == {"talks": 2, "Iran": 1, "gas": 2, "prices": 2, "stop": 1, "glass": 1}
    assert terms.ids.tolist() == [term_id(term) for term in ("talk", "iran", "gas", "price", "stop", "glass")]
    assert terms.words == 17


@pytest.mark.parametrize(
    ("word", "normal"),
    [
        ("Talks", "talk"),
        ("gas", "gas"),
        ("class", "class"),
        ("virus", "virus"),
        ("Iran's", "iran"),
        ("Iran’s", "iran"),
        ("STRASSE", "strasse"),
        ("agencies", "agencie"),
        ("O’Neill", "o'neill"),
        ("2019", "2019"),
        ("新闻", "新闻"),
    ],
)
def test_the_normal_form_of_a_word(word: str, normal: str) -> None:
    """It is in lower case with straight apostrophes, without possessive or plural s."""
    assert terms_of("", word).ids.tolist() == [term_id(normal)]


@pytest.mark.parametrize("word", ["The", "years", "didn't", "we’ve", "I'm", "they'd", "x", "7", "新", "–"])
def test_some_words_are_no_terms(word: str) -> None:
    """Stop words, contractions and single characters are no terms."""
    assert terms_of("", word).ids.tolist() == []


def test_neighbouring_names_are_a_term_of_their_own() -> None:
    """Pairs of capitalised words that follow each other are terms, beside each of the words."""
    terms = terms_of("", "Envoys left the Vienna Talks Room on Monday. Vienna talks go on.")
    assert term_id("vienna talk") in terms.ids
    assert term_id("talk room") in terms.ids
    assert counts(terms)["Vienna Talks"] == 1
    assert counts(terms)["Vienna"] == 2
    assert "Room Monday" not in terms.surfaces, "a word stands between them"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("the vienna talks", id="lower case"),
        pytest.param("in Vienna. Talks go on", id="a sentence ends between them"),
        pytest.param("in Vienna the Talks", id="a word between them"),
        pytest.param("in Vienna? Talks", id="a question between them"),
    ],
)
def test_names_apart_are_no_pair(text: str) -> None:
    """Names are paired only side by side in one sentence."""
    terms = terms_of("", text)
    assert term_id("vienna talk") not in terms.ids
    assert {term_id("vienna"), term_id("talk")} <= set(terms.ids.tolist())


def test_the_surface_is_the_first_one_inside_a_sentence() -> None:
    """A sentence's first word has a capital in any case; a later one shows its spelling. A possessive is left out."""
    assert terms_of("", "Markets fell.").surfaces == ("Markets", "fell")
    assert terms_of("", "Markets fell. The markets rose.").surfaces == ("markets", "fell", "rose")
    assert terms_of("", "Vienna’s mayor saw Vienna.").surfaces == ("Vienna", "mayor", "saw")
    assert terms_of("", "They saw IAEA and Iaea.").surfaces == ("saw", "IAEA")


def test_title_summary_and_body_count() -> None:
    """A word counts twice in the title, once in summary and body; captions do not count."""
    body = [Paragraph("Gas flows."), Paragraph("Gas map", ParagraphKind.MEDIA), Paragraph("Gas", ParagraphKind.QUOTE)]
    terms = extract_terms("Gas deal", "Gas again", body)
    assert counts(terms) == {"Gas": 5, "deal": 2, "again": 1, "flows": 1}
    assert terms.words == 7


def test_a_count_stops_at_255() -> None:
    """Counts are stored in a byte."""
    assert counts(terms_of("", "gas " * 1_000)) == {"gas": 255}


def test_a_mask_names_the_paragraphs_of_a_term() -> None:
    """Bit p of a mask stands for paragraph p, the last one for the title; summary and later paragraphs have none."""
    texts = ["Oil", "gas", "", "gas and oil", *["filler"] * 58, "late gas", "later oil"]
    assert len(texts) == MASKED_PARAGRAPHS + 1
    terms = terms_of("Coal, oil", *texts, summary="Coal mines")
    masks = dict(zip(terms.surfaces, terms.masks.tolist(), strict=True))
    assert IN_TITLE == 1 << 63
    assert masks["Coal"] == IN_TITLE
    assert masks["mines"] == 0
    assert masks["gas"] == (1 << 1) | (1 << 3) | (1 << 62)
    assert masks["oil"] == (1 << 0) | (1 << 3) | IN_TITLE
    assert masks["late"] == 1 << 62
    assert masks["later"] == 0


def test_quotations_in_another_script_are_left_out_of_a_latin_text() -> None:
    """A few foreign words are no terms; a text that is largely in that script keeps them, and its Latin names."""
    body = "The party asked for calm after the vote in Delhi and the ministers left for the north"
    assert "चुनाव" not in counts(terms_of("Calm after vote", f"{body}. चुनाव हुआ."))
    assert "Élysée" in counts(terms_of("Calm after vote", f"{body} at the Élysée in 2026."))
    assert {"चुनाव", "Delhi"} <= counts(terms_of("चुनाव के बाद", "दिल्ली में Delhi चुनाव हुआ और मंत्री उत्तर गए")).keys()


def test_a_long_text_keeps_its_most_frequent_terms() -> None:
    """The most frequent terms stay, of equals the earliest, in order of first appearance; all words are counted."""
    rare = [f"rare{i:03}" for i in range(TERMS_STORED)]
    often = [f"often{i}" for i in range(5)]
    terms = terms_of("", " ".join((*rare, *often, *often)))
    assert terms.words == TERMS_STORED + 10
    assert list(terms.surfaces) == [*rare[: TERMS_STORED - 5], *often]
    assert counts(terms)["often4"] == 2


def test_terms_without_words_are_empty() -> None:
    """A text without words has no terms."""
    for terms in (terms_of(), terms_of("...", "–", summary="!")):
        assert (terms.ids.size, terms.counts.size, terms.masks.size, terms.surfaces, terms.words) == (0, 0, 0, (), 0)


_sentences = st.lists(
    st.sampled_from(["Vienna", "talks", "gas", "Gas", "新闻报道", "O’Neill", "the", "."]), max_size=30
)


@given(st.lists(_sentences.map(" ".join), max_size=70), _sentences.map(" ".join))
def test_terms_are_read_back(paragraphs: list[str], title: str) -> None:
    """Terms of any number come back equal from their bytes."""
    terms = terms_of(title, *paragraphs)
    back = Terms.from_bytes(terms.to_bytes())
    assert (back.surfaces, back.words) == (terms.surfaces, terms.words)
    for name in ("ids", "counts", "masks"):
        mine, theirs = getattr(terms, name), getattr(back, name)
        assert (mine.dtype, mine.tolist()) == (theirs.dtype, theirs.tolist())
    assert len(set(terms.ids.tolist())) == len(terms.ids) == len(terms.surfaces) <= TERMS_STORED


# Statistics


def test_idf_by_document_frequency() -> None:
    """Idf is ln((n + 1) / (df + 1)); half the largest for a term of at most one article, 0 for one of all articles."""
    texts = [terms_of("", "common " + ("half " if i % 2 else "") + (f"single{i}")) for i in range(40)]
    statistics = TermStatistics.count(iter(texts))
    assert statistics.documents == 40
    idf = statistics.idf()
    assert idf[term_id("common")] == 0
    assert idf[term_id("half")] == pytest.approx(math.log(41 / 21))
    assert idf[term_id("single7")] == idf[term_id("unseen")] == pytest.approx(math.log(41) / 2)
    assert (idf.shape, str(idf.dtype)) == ((TERM_BUCKETS,), "float32")


def test_a_word_counts_once_for_each_article() -> None:
    """How often a word occurs in one article does not matter."""
    statistics = TermStatistics.count([terms_of("", "gas gas gas"), terms_of("", "gas oil")])
    assert statistics.document_counts[term_id("gas")] == 2
    assert statistics.document_counts.sum() == 3


@pytest.mark.parametrize("articles", [0, 1, 3])
def test_a_small_archive_weighs_words_as_if_it_had_twenty_articles(articles: int) -> None:
    """The first articles of an archive have signatures too."""
    idf = TermStatistics.count([terms_of("", "gas")] * articles).idf()
    expected = math.log(21) / 2 if articles <= 1 else math.log(21 / (articles + 1))
    assert idf[term_id("gas")] == pytest.approx(expected)
    assert idf[term_id("unseen")] == pytest.approx(math.log(21) / 2)


# Signatures


def test_a_signature_is_weighted_and_normalised() -> None:
    """Weights are (1 + ln tf) * idf, heaviest first, of norm 1; terms without weight are left out."""
    terms = terms_of("", "gas gas gas oil vienna the common")
    idf = EVEN.copy()
    idf[term_id("vienna")] = 3
    idf[term_id("common")] = 0
    signature = make_signature(terms, idf)
    weights = {"vienna": 3.0, "gas": 1 + math.log(3), "oil": 1.0}
    length = math.sqrt(sum(w * w for w in weights.values()))
    assert signature.ids.tolist() == [term_id(term) for term in weights]
    assert signature.weights.tolist() == pytest.approx([w / length for w in weights.values()])
    assert [terms.surfaces[i] for i in signature.order] == ["vienna", "gas", "oil"]


def test_of_equal_weights_the_earlier_term_is_kept() -> None:
    """A long text's signature has its SIGNATURE_TERMS heaviest terms, of equals the first."""
    terms = terms_of("", " ".join(f"word{i:03}" for i in range(200)) + " word150")
    signature = make_signature(terms, EVEN)
    assert signature.order.tolist() == [150, *range(SIGNATURE_TERMS - 1)]
    assert float(np.linalg.norm(signature.weights)) == pytest.approx(1)


def test_a_text_without_terms_has_an_empty_signature() -> None:
    """An empty signature is similar to nothing, not even to itself."""
    signature = make_signature(terms_of("The"), EVEN)
    assert (signature.ids.size, signature.weights.size, signature.order.size) == (0, 0, 0)
    packed = signature.pack()
    assert packed.tolist() == [0] * SIGNATURE_TERMS
    assert unpack(packed)[0].size == 0
    assert (signature.title_count, titled_in(packed)) == (0, 0)


def test_the_title_s_terms_come_first() -> None:
    """The title's terms precede the others, each group with the heaviest first; the norm is still 1."""
    terms = terms_of("Oil talks", "gas gas gas gas", "oil harbour harbour")
    signature = make_signature(terms, EVEN)
    assert [terms.surfaces[i] for i in signature.order] == ["Oil", "talks", "gas", "harbour"]
    weights = np.array([1 + math.log(n) for n in (3, 2, 4, 2)])
    np.testing.assert_allclose(signature.weights, weights / np.linalg.norm(weights), rtol=1e-6)
    assert signature.title_count == titled_in(signature.pack()) == 2


def test_of_a_long_title_the_heaviest_terms_are_marked() -> None:
    """TITLE_TERMS are marked; the rest are among the other terms by weight."""
    title = " ".join(f"title{i:02}" for i in range(TITLE_TERMS + 3))
    terms = terms_of(title, "gas gas gas", "title18")
    signature = make_signature(terms, EVEN)
    surfaces = [terms.surfaces[i] for i in signature.order]
    assert surfaces[:TITLE_TERMS] == ["title18", *(f"title{i:02}" for i in range(TITLE_TERMS - 1))]
    assert surfaces[TITLE_TERMS:] == ["gas", *(f"title{i:02}" for i in range(TITLE_TERMS - 1, TITLE_TERMS + 2))]
    assert signature.title_count == titled_in(signature.pack()) == TITLE_TERMS


def test_a_title_s_terms_do_not_displace_heavier_ones() -> None:
    """A signature has the heaviest terms of all; those of the title among them come first."""
    terms = terms_of("early late", " ".join(f"word{i:03} " * 3 for i in range(SIGNATURE_TERMS - 1)))
    idf = EVEN.copy()
    idf[term_id("late")] = 9
    signature = make_signature(terms, idf)
    assert [terms.surfaces[i] for i in signature.order[:2]] == ["late", "word000"]
    assert (len(signature.ids), signature.title_count) == (SIGNATURE_TERMS, 1)
    assert term_id("early") not in signature.ids


@pytest.mark.parametrize("title", ["", "harbour", "harbour talks oil"])
def test_packing_keeps_order_and_weights(title: str) -> None:
    """Packing keeps order and marks of the title's terms, and weights within half a step."""
    signature = make_signature(terms_of(title, "gas gas gas oil oil talks"), EVEN)
    packed = signature.pack()
    ids, weights = unpack(packed)
    assert ids.tolist() == signature.ids.tolist()
    np.testing.assert_allclose(weights, signature.weights, rtol=0, atol=STEP / 2 + 1e-7)
    assert titled_in(packed) == signature.title_count == len(title.split())


def test_a_packed_signature_is_20_bits_of_hash_a_flag_and_11_bits_of_weight() -> None:
    """The layout is stored: a change here would make every stored signature wrong."""
    signature = Signature(np.array([(1 << 20) - 1, 1], np.int32), np.array([1, 0.5], np.float32), np.arange(2), 1)
    assert signature.pack()[:3].tolist() == [0xFFFFFFFF, (1 << 12) | 1024, 0]


def test_hashes_are_the_same_in_every_process() -> None:
    """Hashes are stored: a change here would make every stored signature wrong."""
    assert word_hash("vienna") == 0x77E1ACBF
