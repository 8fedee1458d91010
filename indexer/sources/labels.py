"""The phrases with which publishers announce related links ("Read More:", "Lesen Sie auch"), by language.

The HTML sources keep such boxes by them, and cleaning takes their links.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

LABEL_CHARS_MAX = 60
"""A longer text is no label."""

LABELS: Mapping[str, tuple[str, ...]] = {
    "en": (
        *("related", "related news", "related story", "related stories", "related article", "related articles"),
        *("related post", "related posts", "related link", "related links", "related content", "related coverage"),
        *("related reading", "related topics", "related reports", "related video", "related videos", "read more"),
        *(
            "read more on this",
            "read more on this story",
            "read more on this topic",
            "read more about this",
            "read next",
        ),
        *("what to read next", "read also", "also read", "see also", "also see", "more on this", "more on this story"),
        *("more on this topic", "more stories", "more news", "you may also like", "you might also like"),
        *("you may also be interested in", "you may be interested in", "you might be interested in"),
        *("recommended", "recommended for you", "recommended reading", "recommended stories", "recommended articles"),
    ),
    "de": (
        *("lesen sie auch", "lies auch", "lesen sie dazu", "lesen sie mehr", "lesen sie hier mehr", "mehr zum thema"),
        *("mehr dazu", "mehr lesen", "siehe auch", "auch interessant", "das könnte sie auch interessieren", "lesetipp"),
        *("das könnte dich auch interessieren", "verwandte artikel", "verwandte beiträge", "ähnliche artikel"),
        *(
            "ähnliche beiträge",
            "weitere artikel",
            "passend dazu",
            "zum thema",
            "empfohlen",
            "empfehlungen",
            "lesetipps",
        ),
    ),
    "fr": (
        *("à lire aussi", "lire aussi", "à lire également", "lire également", "à lire", "à voir aussi", "voir aussi"),
        *("sur le même sujet", "sur le même thème", "articles liés", "article lié", "articles similaires", "lire plus"),
        *("vous aimerez aussi", "vous pourriez aimer", "cela pourrait vous intéresser", "recommandé", "recommandés"),
        *("nos recommandations", "pour aller plus loin", "lisez aussi"),
    ),
    "es": (
        *("lea también", "lee también", "leer también", "lea además", "lee además", "lea más", "leer más", "lee más"),
        *("vea también", "ver también", "mira también", "te puede interesar", "también te puede interesar"),
        *("le puede interesar", "también le puede interesar", "quizás te interese", "noticias relacionadas"),
        *("noticia relacionada", "artículos relacionados", "artículo relacionado", "notas relacionadas", "relacionado"),
        *("relacionados", "relacionadas", "más sobre este tema", "recomendado", "recomendados", "véase también"),
    ),
    "it": (
        *("leggi anche", "leggete anche", "vedi anche", "guarda anche", "leggi di più", "potrebbe interessarti"),
        *(
            "potrebbe interessarti anche",
            "ti potrebbe interessare",
            "ti potrebbe interessare anche",
            "notizie correlate",
        ),
        *("articoli correlati", "articolo correlato", "per approfondire", "sullo stesso argomento", "consigliati"),
        *("raccomandati", "correlati"),
    ),
    "pt": (
        *(
            "leia também",
            "leia mais",
            "ler também",
            "veja também",
            "veja mais",
            "confira também",
            "notícias relacionadas",
        ),
        *("notícia relacionada", "matérias relacionadas", "artigos relacionados", "artigo relacionado", "relacionada"),
        *("você também pode gostar", "você pode gostar", "mais sobre este tema", "recomendadas", "saiba mais sobre"),
    ),
    "nl": (
        *("lees ook", "lees meer", "lees verder", "zie ook", "bekijk ook", "meer over dit onderwerp", "meer hierover"),
        *("gerelateerd", "gerelateerde artikelen", "gerelateerd nieuws", "gerelateerde berichten", "aanbevolen"),
        *("misschien vind je dit ook leuk", "dit vind je misschien ook leuk", "ook interessant"),
    ),
    "ru": (
        *("читайте также", "читать также", "смотрите также", "читайте по теме", "по теме", "материалы по теме"),
        *("ещё по теме", "больше по теме", "похожие статьи", "похожие новости", "похожие материалы", "рекомендуем"),
        *("рекомендуем почитать", "вам может быть интересно", "вас может заинтересовать", "связанные новости"),
        *("связанные статьи", "новости по теме", "читать далее", "подробнее по теме"),
    ),
    "ar": (
        *("اقرأ أيضا", "اقرأ المزيد", "اقرأ أيضا على موقعنا", "أخبار ذات صلة", "مواضيع ذات صلة", "مقالات ذات صلة"),
        *("ذات صلة", "خبر ذو صلة", "شاهد أيضا", "انظر أيضا", "طالع أيضا", "قد يعجبك أيضا", "قد يهمك أيضا"),
        *("المزيد حول هذا الموضوع", "موصى به", "مقترح لك", "مواضيع متعلقة"),
    ),
    "zh": (
        *(
            "相关新闻",
            "相关阅读",
            "相关文章",
            "相关报道",
            "相关链接",
            "相关内容",
            "延伸阅读",
            "阅读更多",
            "推荐阅读",
            "更多阅读",
        ),
        *(
            "另请参阅",
            "另见",
            "参见",
            "更多报道",
            "猜你喜欢",
            "你可能还喜欢",
            "为您推荐",
            "相關新聞",
            "相關閱讀",
            "相關文章",
        ),
        *("相關報導", "延伸閱讀", "閱讀更多", "推薦閱讀", "更多報導", "你可能也喜歡", "看更多"),
    ),
    "ja": (
        *(
            "関連記事",
            "関連ニュース",
            "関連リンク",
            "関連情報",
            "あわせて読みたい",
            "合わせて読みたい",
            "併せて読みたい",
        ),
        *(
            "こちらもおすすめ",
            "こちらの記事もおすすめ",
            "おすすめ記事",
            "おすすめ",
            "もっと読む",
            "こちらもあわせて読む",
        ),
        *("あわせて読む", "次に読む", "関連する記事"),
    ),
}
"""Language -> phrases, written for this project; matched without regard to case, accents and punctuation."""

WEAK_LABELS = (
    *("more", "more from us", "watch", "further reading", "don't miss", "background", "in case you missed it", "icymi"),
    *("in this series", "mehr", "plus", "più", "más", "read", "listen", "video", "analysis", "opinion", "explainer"),
    *("explained", "timeline", "profile", "interview", "editor's pick", "editor's picks", "editors' picks"),
)
"""Words that announce links only if nothing but links follows them."""

_TRIM = re.compile(r"^[\W_]+|[\W_]+$")
"""Punctuation and spaces around a phrase."""
_SPACE = re.compile(r"[\s\u00a0]+")
"""White space, no-break spaces included."""
_SEPARATOR = re.compile(r"\s*(?:[:：»›→▸▶►|—]|\s[-–>]+\s)\s*")
"""Stands between a label and the headline after it."""


def fold(text: str) -> str:
    """Return `text` for comparing phrases: no accents, case or outer punctuation, single spaces, plain apostrophes."""
    plain = "".join(ch for ch in unicodedata.normalize("NFKD", text) if not unicodedata.combining(ch))
    return _SPACE.sub(" ", _TRIM.sub("", plain.casefold().replace("\u2019", "'"))).strip()


_STRONG = frozenset(fold(phrase) for phrases in LABELS.values() for phrase in phrases)
"""LABELS, folded."""
_WEAK = frozenset(fold(phrase) for phrase in WEAK_LABELS)
"""WEAK_LABELS, folded."""


class Labelled(NamedTuple):
    """A line that starts with a label. rest: what follows it. weak: it is a label only if `rest` is all links."""

    rest: str
    weak: bool


def is_label(text: str, *, weak: bool = False) -> bool:
    """Whether `text` is a label and nothing else. weak: count the weak ones, too."""
    if len(text) > LABEL_CHARS_MAX:
        return False
    phrase = _fold_short(text)
    return phrase in _STRONG or (weak and phrase in _WEAK)


def split_label(text: str) -> Labelled | None:
    """Split "Related News: X" after its label. Returns None if no label with a separator starts the text."""
    start = _TRIM.match(text)
    begin = start.end() if start else 0
    match = _SEPARATOR.search(text, begin, begin + LABEL_CHARS_MAX + 4)
    if match is None or match.end() >= len(text):
        return None
    phrase = _fold_short(text[begin : match.start()])
    if phrase not in _STRONG and phrase not in _WEAK:
        return None
    return Labelled(text[match.end() :].strip(), phrase not in _STRONG)


@lru_cache(maxsize=4096)
def _fold_short(text: str) -> str:
    return fold(text)
