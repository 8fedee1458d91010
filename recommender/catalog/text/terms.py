"""Wording: which telling words and names a text uses, as sparse signatures that compare in microseconds.

Three steps. `extract_terms` reads a text once, when it is written: hashed terms with counts, the paragraphs they stand
in, and their surface forms; no knowledge of the archive. `TermStatistics` counts in how many articles each term
stands. `make_signature` weighs terms by (1 + ln tf) * idf, keeps the strongest and normalises: the dot product of
two signatures is their TF-IDF cosine, the evidence that editors' own links follow most closely.

Terms are words (lower case, plural s cut), pairs of neighbouring capitalised words ("vienna talks"), and for scripts
that write without spaces pairs of neighbouring characters. A term is known by a hash of TERM_BITS bits.
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
TERM_BUCKETS = 1 << TERM_BITS
TERMS_STORED = 320
"""Terms kept of one text before the archive's statistics are known: the most frequent, then the earliest."""
SIGNATURE_TERMS = 128
"""Terms in a signature. On gov-blogs nDCG@10 of the cosine alone: 64 .469, 96 .482, 128 .489, all .504."""
MASKED_PARAGRAPHS = 63
"""Only the first 63 paragraphs are told apart when a link is placed; the mask's last bit is IN_TITLE."""
IN_TITLE = 1 << MASKED_PARAGRAPHS
TITLE_TERMS = 16
"""So many of a title's terms are known as such in a signature, where they come first."""
_FLAG_BITS = 1
_WEIGHT_BITS = 11
WEIGHT_MAX = (1 << _WEIGHT_BITS) - 1
TITLE_FLAG = np.uint32(1 << _WEIGHT_BITS)
HASH_SHIFT = np.uint32(_WEIGHT_BITS + _FLAG_BITS)
_TITLE_COUNT = 2
_DOCUMENTS_LEAST = 20
"""An archive that starts empty weighs words as if it had so many articles, instead of not at all."""


def _marks() -> str:
    r"""Return the combining marks of the Basic Multilingual Plane as ranges for a character class.

    Python's "\\w" leaves them out, which cuts words of Indic scripts to pieces.
    """
    marks = {code for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M"}
    starts = sorted(code for code in marks if code - 1 not in marks)
    ends = sorted(code for code in marks if code + 1 not in marks)
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


_ASCII_WORD = re.compile(r"[^\W_]+(?:['.&][^\W_]+)*")
_WORD = re.compile(rf"(?:[^\W_][{_marks()}]*)+(?:['’.&](?:[^\W_][{_marks()}]*)+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?…:])[\"'”’)]*\s+")
_UNSPACED = re.compile(
    r"[\u0e00-\u0edf\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]|\d")
_QUOTED_MOST = 0.2
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

_VERSION_WORDS = frozenset({"updated", "update", "corrected", "correction", "live", "breaking", "exclusive"})

Ids = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]
Masks = npt.NDArray[np.uint64]
Packed = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The terms of one text. All sequences are parallel, at most TERMS_STORED long, in order of first appearance.

    ids: hashes in [0, TERM_BUCKETS), distinct. counts: 1 to 255. masks: bit p set if the term stands in paragraph p,
    IN_TITLE if it stands in the title.
    surfaces: as written, where it can be told from a sentence's capital. words: number of words in the whole text.
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

    The `titled` (at most TITLE_TERMS) heaviest terms of the title come first, then all others, the heaviest first.
    order: for each term its position in the Terms that the signature was made of.
    """

    ids: Ids
    weights: Weights
    order: npt.NDArray[np.intp]
    titled: int

    def pack(self) -> Packed:
        """Return uint32 (SIGNATURE_TERMS,): 20 bits of hash, 1 set for a title's term, 11 of weight; zero-padded."""
        packed = np.zeros(SIGNATURE_TERMS, np.uint32)
        quantised = np.rint(self.weights * WEIGHT_MAX).astype(np.uint32)
        packed[: len(self.ids)] = (self.ids.astype(np.uint32) << HASH_SHIFT) | quantised
        packed[: self.titled] |= TITLE_FLAG
        return packed


@dataclass(frozen=True, slots=True, eq=False)
class TermStatistics:
    """In how many articles each term stands. document_counts: uint32 (TERM_BUCKETS,). documents: number of articles."""

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

        A term seen in at most one article gets half of the largest value: it may be a name that is news today, or a
        typing error, and must not push out of a signature what can match (gov-blogs nDCG@10 .489 against .484).
        """
        documents = max(self.documents, _DOCUMENTS_LEAST)
        largest = math.log(documents + 1)
        idf = np.log((documents + 1) / (self.document_counts + 1.0))
        idf[self.document_counts <= 1] = largest / 2
        return np.maximum(idf, 0).astype(np.float32)


@dataclass(slots=True)
class _Term:
    surface: str
    telling: bool
    count: int = 0
    mask: int = 0


def extract_terms(title: str, summary: str, paragraphs: Sequence[Paragraph]) -> Terms:
    """Read the terms of one text; the title counts twice. Media captions are left out."""
    found: dict[str, _Term] = {}
    words = _read(title, _TITLE_COUNT, IN_TITLE, found) + _read(summary, 1, 0, found)
    for index, paragraph in enumerate(paragraphs):
        if paragraph.kind is not ParagraphKind.MEDIA:
            words += _read(paragraph.text, 1, 1 << index if index < MASKED_PARAGRAPHS else 0, found)
    return _collect(found, words)


def make_signature(terms: Terms, idf: Weights) -> Signature:
    """Weigh, cut and normalise. idf: float32 (TERM_BUCKETS,), as `TermStatistics.idf` returns."""
    weights = (1 + np.log(terms.counts.astype(np.float32))) * idf[terms.ids]
    order = np.argsort(-weights, kind="stable")[:SIGNATURE_TERMS]
    order = order[weights[order] > 0]
    in_title = (terms.masks[order] & np.uint64(IN_TITLE)) != 0
    titled = np.flatnonzero(in_title)[:TITLE_TERMS]
    order = np.concatenate((order[titled], np.delete(order, titled)))
    kept = weights[order]
    norm = float(np.sqrt(np.dot(kept, kept))) or 1.0
    return Signature(terms.ids[order], (kept / norm).astype(np.float32), order, len(titled))


def unpack(packed: Packed) -> tuple[Ids, Weights]:
    """Return the hashes and weights of one packed row, uint32 (SIGNATURE_TERMS,), padding removed."""
    used = packed[packed != 0]
    weights = (used & np.uint32(WEIGHT_MAX)).astype(np.float32) / WEIGHT_MAX
    return (used >> HASH_SHIFT).astype(np.int32), weights


def headline_key(title: str) -> str:
    """Return what versions of a headline have in common: its words in lower case, without "updated" and the like."""
    return " ".join(word for word in map(str.lower, words_of(title)) if word not in _VERSION_WORDS)


@lru_cache(maxsize=200_000)
def word_hash(word: str) -> int:
    """Return a 32-bit hash of a word that is the same in every process and version."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def words_of(text: str) -> list[str]:
    """Return the words of `text` as written; runs of a script without spaces come as pairs of characters."""
    if text.isascii():
        return _ASCII_WORD.findall(text)
    found = _WORD.findall(text)
    if not _UNSPACED.search(text):
        return found
    words: list[str] = []
    for word in found:
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


def _read(text: str, weight: int, mask: int, found: dict[str, _Term]) -> int:
    words = 0
    for sentence in _SENTENCE_END.split(text):
        before = ""
        for position, word in enumerate(words_of(sentence)):
            words += 1
            normal = _normal_form(word)
            if not normal:
                before = ""
                continue
            _note(found, normal, word, weight, mask, telling=position > 0)
            named = word[0].isupper()
            if named and before:
                _note(found, f"{_normal_form(before)} {normal}", f"{before} {word}", weight, mask, telling=True)
            before = word if named else ""
    return words


def _note(found: dict[str, _Term], key: str, surface: str, weight: int, mask: int, *, telling: bool) -> None:
    """Count a term. telling: its spelling shows whether it is a name; that of a sentence's first word does not."""
    term = found.get(key)
    if term is None:
        term = found[key] = _Term(_without_possessive(surface), telling)
    elif telling and not term.telling:
        term.surface, term.telling = _without_possessive(surface), True
    term.count += weight
    term.mask |= mask


def _without_possessive(surface: str) -> str:
    return surface[:-2] if surface.endswith(("'s", "’s")) else surface


@lru_cache(maxsize=200_000)
def _normal_form(word: str) -> str:
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


def _without_quotations(found: dict[str, _Term]) -> dict[str, _Term]:
    """Leave words of other scripts out of a text in Latin script: what it quotes in another language.

    Its function words, which no list of ours knows, would be the rarest of the archive, and two texts alike that quote
    the same language. A text that is not mostly Latin keeps its Latin words: they are names.
    """
    foreign = {key for key in found if not key.isascii() and not _LATIN.search(key)}
    total = sum(term.count for term in found.values())
    if not foreign or sum(found[key].count for key in foreign) > _QUOTED_MOST * total:
        return found
    return {key: term for key, term in found.items() if key not in foreign}


def _collect(found: dict[str, _Term], words: int) -> Terms:
    kept = list(_without_quotations(found).items())
    if len(kept) > TERMS_STORED:
        strongest = sorted(range(len(kept)), key=lambda i: -kept[i][1].count)[:TERMS_STORED]
        kept = [kept[i] for i in sorted(strongest)]
    by_id: dict[int, _Term] = {}
    for key, term in kept:
        by_id.setdefault(word_hash(key) & (TERM_BUCKETS - 1), term)
    terms = by_id.values()
    return Terms(
        ids=np.fromiter(by_id, np.int32, len(by_id)),
        counts=np.fromiter((min(t.count, 255) for t in terms), np.uint8, len(by_id)),
        masks=np.fromiter((t.mask for t in terms), np.uint64, len(by_id)),
        surfaces=tuple(t.surface for t in terms),
        words=words,
    )
