"""Recognise lines of a page that are not part of its article: prompts, advertisements, credits, dates, bylines.

Used by cleaning. Every function judges a whole line and never looks inside a paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from indexer.sources.labels import fold

FURNITURE_CHARS_MAX = 300
"""A longer block of words is never furniture."""

PHRASES: Mapping[str, tuple[str, ...]] = {
    "en": (
        *("share", "share this", "share this article", "share this story", "share this post", "share this page"),
        *(
            "share on facebook",
            "share on twitter",
            "share on x",
            "share on linkedin",
            "share on whatsapp",
            "share via email",
        ),
        *("tweet", "tweet this", "pin it", "copy link", "link copied", "email this", "email this article", "print"),
        *("print this", "print this article", "print this page", "save this article", "listen to this article"),
        *(
            "subscribe",
            "subscribe now",
            "subscribe today",
            "sign up",
            "sign up now",
            "sign in",
            "log in",
            "register now",
        ),
        *("advertisement", "advertisment", "ad", "sponsored", "sponsored content", "paid content", "promoted"),
        *(
            "story continues below",
            "story continues below advertisement",
            "article continues below",
            "skip advertisement",
        ),
        *("article continues below advertisement", "article continues after advertisement", "scroll to continue"),
        *(
            "advertisement - scroll to continue",
            "continue reading the main story",
            "comments",
            "comment",
            "no comments",
        ),
        *("leave a comment", "leave a reply", "post a comment", "add a comment", "view comments", "show comments"),
        *("comments are closed", "join the conversation", "your email address will not be published", "follow us"),
        *("read more", "continue reading", "more", "keep reading", "read the full story", "read the full article"),
        *("accept cookies", "accept all cookies", "cookie settings", "cookie policy", "privacy policy", "terms of use"),
        *("all rights reserved", "back to top", "back to the top", "back to the table of contents", "skip to content"),
        *("skip to main content", "loading", "click to enlarge", "view gallery", "newsletter", "download our app"),
    ),
    "de": (
        *(
            "teilen",
            "artikel teilen",
            "drucken",
            "artikel drucken",
            "anzeige",
            "werbung",
            "abonnieren",
            "jetzt abonnieren",
        ),
        *("kommentare", "kommentar schreiben", "weiterlesen", "mehr lesen", "nach oben", "alle rechte vorbehalten"),
        *("folgen sie uns", "newsletter abonnieren", "jetzt registrieren", "cookie-einstellungen"),
    ),
    "fr": (
        *("partager", "partager cet article", "imprimer", "publicité", "s'abonner", "abonnez-vous", "je m'abonne"),
        *("commentaires", "laisser un commentaire", "lire la suite", "haut de page", "tous droits réservés"),
        *("suivez-nous", "la suite après cette publicité", "la suite après la publicité", "inscrivez-vous"),
    ),
    "es": (
        *(
            "compartir",
            "compartir en facebook",
            "compartir en twitter",
            "imprimir",
            "publicidad",
            "anuncio",
            "suscríbete",
        ),
        *(
            "suscribirse",
            "comentarios",
            "deja un comentario",
            "leer más",
            "seguir leyendo",
            "síguenos",
            "volver arriba",
        ),
        *("todos los derechos reservados", "continúa leyendo"),
    ),
    "it": (
        *("condividi", "stampa", "pubblicità", "annuncio", "abbonati", "iscriviti", "commenti", "lascia un commento"),
        *("continua a leggere", "leggi tutto", "leggi di più", "seguici", "tutti i diritti riservati", "torna su"),
    ),
    "pt": (
        *("compartilhar", "compartilhe", "partilhar", "imprimir", "publicidade", "anúncio", "assine", "assine já"),
        *("comentários", "deixe um comentário", "leia mais", "continue lendo", "continuar a ler", "siga-nos"),
        *("todos os direitos reservados", "continua após a publicidade", "voltar ao topo"),
    ),
    "nl": (
        *("delen", "deel dit artikel", "afdrukken", "advertentie", "abonneren", "word abonnee", "reacties", "reageer"),
        *("lees meer", "lees verder", "volg ons", "alle rechten voorbehouden", "terug naar boven"),
    ),
    "ru": (
        *("поделиться", "поделиться новостью", "распечатать", "реклама", "подписаться", "подпишитесь", "комментарии"),
        *("оставить комментарий", "читать далее", "читать полностью", "все права защищены", "наверх"),
    ),
    "ar": (
        *("شارك", "مشاركة", "طباعة", "إعلان", "اشترك", "اشترك الآن", "تعليقات", "التعليقات", "أضف تعليقا", "تابعنا"),
        *("اقرأ المزيد", "جميع الحقوق محفوظة"),
    ),
    "zh": (
        *(
            "分享",
            "打印",
            "广告",
            "廣告",
            "订阅",
            "訂閱",
            "评论",
            "評論",
            "发表评论",
            "阅读全文",
            "閱讀全文",
            "阅读更多",
        ),
        *("关注我们", "版权所有", "返回顶部"),
    ),
    "ja": (
        *(
            "シェア",
            "シェアする",
            "共有",
            "ツイート",
            "印刷",
            "広告",
            "購読",
            "コメント",
            "コメントを書く",
            "続きを読む",
        ),
        *("もっと読む", "フォローする", "無断転載を禁じます"),
    ),
}
"""Language -> phrases that are furniture as a whole line; matched like labels."""

_PHRASES = frozenset(fold(phrase) for phrases in PHRASES.values() for phrase in phrases)
"""PHRASES, folded."""
_PHRASE_CHARS_MAX = 80
"""Do not look up longer lines."""

_SENTENCES = re.compile(
    r"(?:"
    r"(?:share|tweet|pin|print|e-?mail)(?: this)?(?: (?:on|via|to) [\w/]+)?"
    r"(?:[\s,|•·/]+(?:share|tweet|pin|print|save|copy|e-?mail|facebook|twitter|linkedin|whatsapp|reddit|x|link|this|on|via|to|article|story|page|post)\b)+"
    r"|\d+ (?:comments?|shares?|replies|min(?:ute)?s? read)"
    r"|(?:[^.?!]{0,80}[?!.] )?(?:please )?(?:sign up|subscribe|register) (?:to|for) (?:our|my|the free) [^.,!?]{0,80}"
    r"\b(?:newsletters?|mailing list|e-?mail (?:list|alerts|updates))\b[^.,!?]{0,60}[.!]?"
    r"|(?:please )?follow (?:us|me|@\w+)(?: (?:here|on|at|at:)\b[^.!?]{0,80})?[.!:]?"
    r"|like us on facebook[^.!?]{0,60}[.!]?"
    r"|(?:we|this (?:web)?site|our (?:web)?site) uses? cookies\b.*"
    r"|by (?:using|continuing to use) (?:this|our) (?:web)?site,? you (?:agree|consent)\b.*"
    r"|(?:©|\(c\)|copyright (?:©|\(c\)|\d{4}))[^.!?]{0,150}(?:\. all rights reserved)?\.?"
    r"|[^.!?]{0,100}\ball rights reserved\.?"
    r"|(?:the post|the article|this post) .{1,200} (?:appeared first|first appeared) on [^.!?]{1,80}\.?"
    r"|(?:to )?(?:view|post|leave|see|read) comments?,? (?:please )?(?:log|sign) in\b[^.!?]{0,40}[.!]?"
    r"|\[?\(?more(?:…|\.\.\.)\)?\]?"
    r")",
    re.IGNORECASE,
)
"""Whole lines that are furniture, in English."""

_NOUN = (
    r"photos?|photographs?|images?|pictures?|illustrations?|graphics?|credits?|fotos?|bild(?:er)?|grafik|photographie"
    r"|crédits?(?: photos?)?|imagen|imágenes|imagem|immagine|afbeelding|beeld|фото|изображение|صورة|الصورة|图片?|圖片?"
    r"|写真|画像"
)
"""Words for a picture, in several languages."""
_CREDIT = re.compile(
    rf"[\W_]*(?:{_NOUN})(?:来源|來源|提供)?\s*(?:[:：/]|©|\b(?:by|courtesy|credit|source|via)\b)(?P<name>.{{1,80}})",
    re.IGNORECASE,
)
"""The credit of a picture: a word for it, a separator, a name."""
_NAME_WORDS = re.compile(
    rf"(?:{_NOUN}|by|of|the|for|and|from|via|courtesy|source|credit|at|on|in|de|del|la|le|du|des|di|da|do|dos|von|van|der"
    r"|den|und|et|y|e|en|with|permission|public|domain|cc|license|dpa|apa|epa|efe|ansa|afp)",
    re.IGNORECASE,
)
"""Lower-case words that may stand in a name."""
_WORD = re.compile(r"[^\W_](?:[\w'’.-]*[^\W_])?")

_MONTHS = (
    "january february march april may june july august september october november december jan feb mar apr jun "
    "jul aug sep sept oct nov dec januar februar märz mai juni juli oktober dezember janvier février mars "
    "avril juin juillet août septembre octobre novembre décembre enero febrero marzo abril mayo junio julio "
    "agosto septiembre octubre noviembre diciembre gennaio febbraio aprile maggio giugno luglio settembre "
    "ottobre dicembre janeiro fevereiro março maio junho julho setembro outubro novembro dezembro januari "
    "februari maart mei augustus января февраля марта апреля мая июня июля августа сентября октября ноября "
    "декабря يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر"
)
_DATE_WORDS = (
    "monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun montag dienstag "
    "mittwoch donnerstag freitag samstag sonntag lundi mardi mercredi jeudi vendredi samedi dimanche lunes "
    "martes miércoles jueves viernes sábado domingo lunedì martedì mercoledì giovedì venerdì sabato domenica "
    "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira maandag dinsdag woensdag donderdag "
    "vrijdag zaterdag zondag понедельник вторник среда четверг пятница суббота воскресенье года г published "
    "updated posted last at on am pm a.m p.m st nd rd th gmt utc est edt cet cest uhr um den der de le à a el "
    "del las il alle às om de op"
)
_MONTH_SET = frozenset(fold(_MONTHS).split())
"""Names of months, folded."""
_DATE_SET = frozenset(fold(_DATE_WORDS).split())
"""Words that may stand in a date beside a month, folded."""
_NUMBER = re.compile(r"\d{1,4}(?:st|nd|rd|th|h|er)?")
"""A day or a year, with its ending."""
_NUMERIC_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{4}\s?年\s?\d{1,2}\s?月\s?\d{1,2}\s?日"
)
"""A date in digits only."""
_TOKENS = re.compile(r"[\s,:|•·–—()\[\]-]+")
"""Separates the words of a date."""

_BY = {"en": "by", "de": "von", "fr": "par", "es": "por", "pt": "por", "it": "di", "nl": "door"}
"""Language -> the word that begins a byline."""

SUMMARY_TAIL = re.compile(
    r"(?:^|(?<=[.!?…\]\"”»。]))\s*(?:Read [Mm]ore|READ MORE|Continue [Rr]eading|CONTINUE READING|Keep reading"
    r"|Read the full story|Weiterlesen|Mehr lesen|Lire la suite|Leer más|Seguir leyendo|Continua a leggere|Leggi tutto"
    r"|Leia mais|Continue lendo|Lees meer|Lees verder|Читать далее|اقرأ المزيد|阅读全文|閱讀全文|阅读更多|続きを読む"
    r"|もっと読む)[^.!?]{0,120}$"
    r"|\s*[\[(](?:…|\.\.\.|more(?:…|\.\.\.)?)[\])]$"
    r"|\s+(?:→|»|>>)$"
    r"|\s*The post .{1,200} (?:appeared first|first appeared) on [^.!?]{1,80}\.?$"
)
"""What feeds append to a summary; to be removed until nothing matches."""


def is_furniture(text: str) -> bool:
    """Whether a block of normalised text is a prompt, a credit, a copyright line, a separator or empty."""
    if not any(ch.isalnum() for ch in text):
        return True
    if len(text) > FURNITURE_CHARS_MAX:
        return False
    phrase = fold(text) if len(text) <= _PHRASE_CHARS_MAX else ""
    return phrase in _PHRASES or _SENTENCES.fullmatch(text) is not None or _is_credit(text)


def is_lead_line(text: str, language: str = "") -> bool:
    """Whether a first block is only a date or a byline. language: the article's, for bylines; may be empty."""
    return len(text) <= 120 and (_is_date(text) or _is_byline(text, language))


def _is_credit(text: str) -> bool:
    match = _CREDIT.match(text)
    return match is not None and match.end() == len(text) and _is_name(match["name"], 10)


def _is_name(text: str, words_max: int) -> bool:
    """Whether every word is capitalised, a number or a connecting word, as in "Jane Doe of the Courier"."""
    words = _WORD.findall(text)
    if not words or len(words) > words_max or (len(words) == 1 and len(text) > 20):
        return False
    return all(_NAME_WORDS.fullmatch(w) or not w[0].islower() or "." in w for w in words)


def _is_date(text: str) -> bool:
    numeric = _NUMERIC_DATE.search(text)
    rest = text[: numeric.start()] + " " + text[numeric.end() :] if numeric else text
    words = [word for token in _TOKENS.split(rest) if (word := fold(token))]
    named = [word for word in words if word in _MONTH_SET]
    numbers = [word for word in words if _NUMBER.fullmatch(word)]
    others = [w for w in words if w not in named and w not in numbers and w not in _DATE_SET]
    return len(words) <= 12 and not others and (numeric is not None or (bool(named) and bool(numbers)))


def _is_byline(text: str, language: str) -> bool:
    """Whether it is a byline in the article's language; in an unknown one only the English "By" counts."""
    by = _BY.get(language[:2].lower() or "en")
    first, _, rest = text.partition(" ")
    if by is None or first.lower().rstrip(":") != by or text.endswith((".", "?", "!", ":")):
        return False
    return len(rest.split()) >= 2 and _is_name(rest, 12)
