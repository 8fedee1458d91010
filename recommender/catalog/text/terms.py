"""Terms of a text, and its signature: a sparse TF-IDF vector that is compared in microseconds.

Three steps. `extract_terms` reads a text once, when it is written: hashed terms with counts, paragraphs and surface
forms; it needs nothing of the archive. `TermStatistics` counts the articles that have each term. `make_signature`
weights terms by (1 + ln tf) * idf, keeps the heaviest and normalises: the dot product of two signatures is their TF-IDF
cosine, the feature that editors' own links follow most closely.

Terms are words (lower case, plural s removed), pairs of neighbouring capitalised words ("vienna talks"), and pairs of
neighbouring characters in scripts without spaces. A term is identified by a hash of TERM_BITS bits.
"""

from __future__ import annotations

import math
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from recommender.catalog.articles import Paragraph, ParagraphKind

TERM_BITS = 20
"""Size of a term's hash."""
TERM_BUCKETS = 1 << TERM_BITS
"""Number of different hashes."""
TERMS_STORED = 320
"""Limits the terms stored of one text, before statistics are known: the most frequent, then the earliest."""
SIGNATURE_TERMS = 128
"""Limits the terms in a signature. On gov-blogs nDCG@10 of the cosine alone: 64 .469, 96 .482, 128 .489, all .504."""
MASKED_PARAGRAPHS = 63
"""Number of paragraphs, from the first, that a term's mask distinguishes."""
IN_TITLE = 1 << MASKED_PARAGRAPHS
"""The last bit of a term's mask: the term is in the title."""
TITLE_TERMS = 16
"""Limits the title's terms that a signature marks as such and puts first."""
_FLAG_BITS = 1
"""Size of a packed term's flag, TITLE_FLAG."""
_WEIGHT_BITS = 11
"""Size of a packed term's weight."""
WEIGHT_MAX = (1 << _WEIGHT_BITS) - 1
"""The weight 1.0 in a packed term."""
TITLE_FLAG = np.uint32(1 << _WEIGHT_BITS)
"""Marks a packed term of the title."""
HASH_SHIFT = np.uint32(_WEIGHT_BITS + _FLAG_BITS)
"""Position of a packed term's hash, above flag and weight."""
_TITLE_COUNT = 2
"""What an occurrence in the title adds to a term's count."""
_DOCUMENTS_MIN = 20
"""Least number of articles that weights assume, so that the first articles of an archive have weights at all."""


def _marks() -> str:
    r"""Return the combining marks of the Basic Multilingual Plane as ranges for a character class.

    Python's "\\w" leaves them out, which cuts words of Indic scripts to pieces.
    """
    marks = {code for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M"}
    starts = sorted(code for code in marks if code - 1 not in marks)
    ends = sorted(code for code in marks if code + 1 not in marks)
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


_ASCII_WORD = re.compile(r"[^\W_]+(?:['.&][^\W_]+)*")
"""A word of an ASCII text; the same as _WORD there, and quicker."""
_WORD = re.compile(rf"(?:[^\W_][{_marks()}]*)+(?:['’.&](?:[^\W_][{_marks()}]*)+)*")
"""A word: letters and digits, each with its combining marks, joined by apostrophes, points or ampersands."""
_SENTENCE_END = re.compile(r"(?<=[.!?…:])[\"'”’)]*\s+")
"""Where a sentence ends: the next word has a capital whatever it is."""
_UNSPACED = re.compile(
    r"[\u0e00-\u0edf\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
"""A run of a script that is written without spaces."""
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]|\d")
"""A letter of Latin script, or a digit."""
_QUOTED_SHARE_MAX = 0.2
"""Largest share of terms in other scripts that counts as quotation in a text of Latin script."""
_STOPWORDS = frozenset(
    """
    a about after all also an and any are as at be because been before being between both but by can could did
    do does down during each for from further had has have he her here hers him his how i if in into is it its
    just like made make many may me might more most much must my new no nor not now of off on once one only or
    other our out over own per said same say says she should since so some such than that the their them then
    there these they this those through to too two under until up us very was we were what when where which
    while who whom whose why will with within without would year years you your
    """.split()  # noqa: SIM905 - a literal of 150 lines would hide the rest of the module
)
"""English words that are no terms."""
_VERSION_WORDS = frozenset({"updated", "update", "corrected", "correction", "live", "breaking", "exclusive"})
"""Words that tell versions of a headline apart."""

Ids = npt.NDArray[np.int32]
"""Hashes of terms."""
Weights = npt.NDArray[np.float32]
"""Weights of terms, parallel to Ids."""
Masks = npt.NDArray[np.uint64]
"""Where terms are, parallel to Ids: one bit a paragraph, and IN_TITLE."""
Packed = npt.NDArray[np.uint32]
"""Signatures as stored, see `Signature.pack`; a row each."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The terms of one text. All sequences are parallel, at most TERMS_STORED long, in order of first appearance.

    ids: hashes in [0, TERM_BUCKETS), distinct. counts: 1 to 255. masks: bit p set if the term is in paragraph p,
    IN_TITLE if it is in the title. surfaces: as written, if possible not at the start of a sentence, where every word
    has a capital. words: number of words in the whole text.
    """

    ids: Ids
    counts: npt.NDArray[np.uint8]
    masks: Masks
    surfaces: tuple[str, ...]
    words: int

    def to_bytes(self) -> bytes:
        """Serialise for the store; `Terms.from_bytes` reads it back."""
        surfaces = "\n".join(self.surfaces).encode()
        head = struct.pack("<HI", len(self.ids), self.words)
        raw = head + self.ids.tobytes() + self.counts.tobytes() + self.masks.tobytes() + surfaces
        return zlib.compress(raw, 1)

    @staticmethod
    def from_bytes(blob: bytes) -> Terms:
        """Read back what `to_bytes` wrote."""
        raw = zlib.decompress(blob)
        n, words = struct.unpack_from("<HI", raw)
        at = struct.calcsize("<HI")
        ids = np.frombuffer(raw, np.int32, n, at)
        counts = np.frombuffer(raw, np.uint8, n, at + 4 * n)
        masks = np.frombuffer(raw, np.uint64, n, at + 5 * n)
        surfaces = tuple(raw[at + 13 * n :].decode().split("\n")) if n else ()
        return Terms(ids, counts, masks, surfaces, words)


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """The weighted terms of one text, at most SIGNATURE_TERMS; weights have Euclidean norm 1.

    The `title_count` (at most TITLE_TERMS) heaviest terms of the title come first, then all others, the heaviest first.
    order: for each term its position in the Terms that the signature was made from.
    """

    ids: Ids
    weights: Weights
    order: npt.NDArray[np.intp]
    title_count: int

    def pack(self) -> Packed:
        """Return uint32 (SIGNATURE_TERMS,): 20 bits of hash, 1 set for a title's term, 11 of weight; zero-padded."""
        packed = np.zeros(SIGNATURE_TERMS, np.uint32)
        quantised = np.rint(self.weights * WEIGHT_MAX).astype(np.uint32)
        packed[: len(self.ids)] = (self.ids.astype(np.uint32) << HASH_SHIFT) | quantised
        packed[: self.title_count] |= TITLE_FLAG
        return packed


@dataclass(frozen=True, slots=True, eq=False)
class TermStatistics:
    """Document frequencies. document_counts: uint32 (TERM_BUCKETS,), articles with each term. documents: articles."""

    document_counts: npt.NDArray[np.uint32]
    documents: int

    @staticmethod
    def count(texts: Iterable[Terms]) -> TermStatistics:
        """Count over all texts, one pass, bounded memory."""
        counts = np.zeros(TERM_BUCKETS, np.uint32)
        documents = 0
        for terms in texts:
            counts[terms.ids] += 1
            documents += 1
        return TermStatistics(counts, documents)

    def to_bytes(self) -> bytes:
        """Serialise for the store; `TermStatistics.from_bytes` reads it back."""
        return struct.pack("<Q", self.documents) + zlib.compress(self.document_counts.tobytes(), 1)

    @staticmethod
    def from_bytes(blob: bytes) -> TermStatistics:
        """Read back what `to_bytes` wrote."""
        (documents,) = struct.unpack_from("<Q", blob)
        return TermStatistics(np.frombuffer(zlib.decompress(blob[8:]), np.uint32), documents)

    def idf(self) -> Weights:
        """Return float32 (TERM_BUCKETS,): ln((n + 1) / (df + 1)), at least 0.

        A term of at most one article gets half of the largest value: it may be a name that is new today, or a typing
        error, and must not displace terms that can match from a signature (gov-blogs nDCG@10 .489, otherwise .484).
        """
        documents = max(self.documents, _DOCUMENTS_MIN)
        largest = math.log(documents + 1)
        idf = np.log((documents + 1) / (self.document_counts + 1.0))
        idf[self.document_counts <= 1] = largest / 2
        return np.maximum(idf, 0).astype(np.float32)


@dataclass(slots=True)
class _Term:
    """A term while a text is read. shows_case: `surface` was not the first word of a sentence."""

    surface: str
    shows_case: bool
    count: int = 0
    mask: int = 0


def extract_terms(title: str, summary: str, paragraphs: Sequence[Paragraph]) -> Terms:
    """Read the terms of one text; the title counts twice. Media captions are left out."""
    terms: dict[str, _Term] = {}
    words = _read(title, _TITLE_COUNT, IN_TITLE, terms) + _read(summary, 1, 0, terms)
    for index, paragraph in enumerate(paragraphs):
        if paragraph.kind is not ParagraphKind.MEDIA:
            words += _read(paragraph.text, 1, 1 << index if index < MASKED_PARAGRAPHS else 0, terms)
    return _collect(terms, words)


def make_signature(terms: Terms, idf: Weights) -> Signature:
    """Return the heaviest terms, normalised. idf: float32 (TERM_BUCKETS,), as `TermStatistics.idf` returns."""
    weights = (1 + np.log(terms.counts.astype(np.float32))) * idf[terms.ids]
    order = np.argsort(-weights, kind="stable")[:SIGNATURE_TERMS]
    order = order[weights[order] > 0]
    in_title = (terms.masks[order] & np.uint64(IN_TITLE)) != 0
    titled = np.flatnonzero(in_title)[:TITLE_TERMS]
    order = np.concatenate((order[titled], np.delete(order, titled)))
    heaviest = weights[order]
    norm = float(np.sqrt(np.dot(heaviest, heaviest))) or 1.0
    return Signature(terms.ids[order], (heaviest / norm).astype(np.float32), order, len(titled))


def unpack(packed: Packed) -> tuple[Ids, Weights]:
    """Return the hashes and weights of one packed row, uint32 (SIGNATURE_TERMS,), padding removed."""
    used = packed[packed != 0]
    weights = (used & np.uint32(WEIGHT_MAX)).astype(np.float32) / WEIGHT_MAX
    return (used >> HASH_SHIFT).astype(np.int32), weights


def headline_key(title: str) -> str:
    """Return a headline's words in lower case, without "updated" and the like: equal for versions of a headline."""
    return " ".join(word for word in map(str.lower, words_of(title)) if word not in _VERSION_WORDS)


@lru_cache(maxsize=200_000)
def word_hash(word: str) -> int:
    """Return a 32-bit hash of a word that is the same in every process and version."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def words_of(text: str) -> list[str]:
    """Return the words of `text` as written; a run of a script without spaces becomes pairs of characters."""
    if text.isascii():
        return _ASCII_WORD.findall(text)
    runs = _WORD.findall(text)
    if not _UNSPACED.search(text):
        return runs
    words: list[str] = []
    for word in runs:
        if not _UNSPACED.search(word):
            words.append(word)
        else:
            words.extend(_split_unspaced(word))
    return words


def _split_unspaced(word: str) -> Iterable[str]:
    at = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > at:
            yield word[at : run.start()]
        text = run.group()
        yield from (text[i : i + 2] for i in range(max(1, len(text) - 1)))
        at = run.end()
    if at < len(word):
        yield word[at:]


def _read(text: str, weight: int, mask: int, terms: dict[str, _Term]) -> int:
    """Add the terms of a text to `terms`; returns the number of its words."""
    words = 0
    for sentence in _SENTENCE_END.split(text):
        before = ""
        for position, word in enumerate(words_of(sentence)):
            words += 1
            normal = _normal_form(word)
            if not normal:
                before = ""
                continue
            _add(terms, normal, word, weight, mask, shows_case=position > 0)
            is_capitalised = word[0].isupper()
            if is_capitalised and before:
                _add(terms, f"{_normal_form(before)} {normal}", f"{before} {word}", weight, mask, shows_case=True)
            before = word if is_capitalised else ""
    return words


def _add(terms: dict[str, _Term], key: str, surface: str, weight: int, mask: int, *, shows_case: bool) -> None:
    """Count a term. shows_case: it is not the first word of a sentence, so a capital shows that it is a name."""
    term = terms.get(key)
    if term is None:
        term = terms[key] = _Term(_without_possessive(surface), shows_case)
    elif shows_case and not term.shows_case:
        term.surface, term.shows_case = _without_possessive(surface), True
    term.count += weight
    term.mask |= mask


def _without_possessive(surface: str) -> str:
    return surface[:-2] if surface.endswith(("'s", "’s")) else surface


@lru_cache(maxsize=200_000)
def _normal_form(word: str) -> str:
    """Return lower case without possessive or plural s; "" for a stop word, a contraction or a single character."""
    lower = word.lower().replace("’", "'")
    if lower.endswith("'s"):
        lower = lower[:-2]
    elif lower.endswith(("'ve", "'re", "'ll", "'d", "'m", "n't")):
        return ""
    if lower in _STOPWORDS or len(lower) < 2:
        return ""
    if len(lower) > 3 and lower[-1] == "s" and lower[-2] not in "su'":
        return lower[:-1]
    return lower


def _without_quotations(terms: dict[str, _Term]) -> dict[str, _Term]:
    """Remove words of other scripts from a text in Latin script: it quotes another language.

    No stop word list covers that language: its function words would be the rarest terms of the archive, and any two
    texts that quote it would look alike. A text that is not mostly Latin keeps its Latin words, which are names.
    """
    foreign = {key for key in terms if not key.isascii() and not _LATIN.search(key)}
    total = sum(term.count for term in terms.values())
    if not foreign or sum(terms[key].count for key in foreign) > _QUOTED_SHARE_MAX * total:
        return terms
    return {key: term for key, term in terms.items() if key not in foreign}


def _collect(terms: dict[str, _Term], words: int) -> Terms:
    """Return at most TERMS_STORED terms as arrays; of two terms with one hash the first stays."""
    chosen = list(_without_quotations(terms).items())
    if len(chosen) > TERMS_STORED:
        strongest = sorted(range(len(chosen)), key=lambda i: -chosen[i][1].count)[:TERMS_STORED]
        chosen = [chosen[i] for i in sorted(strongest)]
    by_id: dict[int, _Term] = {}
    for key, term in chosen:
        by_id.setdefault(word_hash(key) & (TERM_BUCKETS - 1), term)
    return Terms(
        ids=np.fromiter(by_id, np.int32, len(by_id)),
        counts=np.fromiter((min(t.count, 255) for t in by_id.values()), np.uint8, len(by_id)),
        masks=np.fromiter((t.mask for t in by_id.values()), np.uint64, len(by_id)),
        surfaces=tuple(t.surface for t in by_id.values()),
        words=words,
    )
