"""Reading a text from left to right for claims: the longest form of the lexicon wins, numbers apart, denials marked.

What a word says depends on where it stands (`context.py`); what the text sends the music to ("could be used in a horror
movie") and what its lyrics are about claim nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from caption_metrics.context import JOINTS, LIKE_SUFFIX, Span, advised_words, composed, facts_in_context
from caption_metrics.denials import denied_after, denied_words
from caption_metrics.lexicon import Fact, Form, load_lexicon, tokenize


class Claim(NamedTuple):  # not a dataclass: a caption has ten of them, and one takes half the time
    """A fact where it stands in a text: its words as written (none for a key, BPM number or year), denied or not."""

    fact: Fact
    words: tuple[str, ...]
    denied: bool


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# --- keys, tempo in BPM, years: open values that no word list can hold ---------------------------------------------

_PITCH = r"([A-Ga-g])(?:(#|♯|♭|b)|[\s-]+(sharp|flat))?"
_KEY = re.compile(rf"(?<![\w#'’]){_PITCH}[\s-]*\b(major|minor|maj|min)\b(?!\s+third)", re.IGNORECASE)
_KEY_SHORT = re.compile(r"(?<![\w#'’])([A-G])(#|b|♯|♭)?()(maj|min|m)(?![\w#'’])(?!\s+I\b)")
_KEY_OF = re.compile(rf"\b(?:key|scale) of {_PITCH}(?![\w#'’])", re.IGNORECASE)
_KEY_IN = re.compile(  # "in C", "in B flat"; not "in A Sentimental Mood", "in D.C.", "tuned in D", "in C++"
    r"\b[Ii]n(?<!tuned in) ([A-G])(?:(#|♯|♭|b)|[\s-](sharp|flat))?(?![\w#'’+&]|\.\w|/)"
    r"(?=\s*(?:$|[.,;:!?)\]|]|(?:with|at|and)\b)|(?<=[#♯♭b])|(?<=sharp)|(?<=flat))"
)
_KEY_PATTERNS = (  # with the parts of which an ASCII text in lower case has one where the pattern matches
    (_KEY, ("maj", "min")),
    (_KEY_SHORT, ()),
    (_KEY_OF, ("key of", "scale of")),
    (_KEY_IN, ("in ",)),
)
_DIGIT = re.compile(r"\d")
_BPM = re.compile(
    r"(?<![\w.])(\d{2,3}(?:\.\d+)?)[\s-]*(?:bpm|b\.p\.m|beats? ?(?:per|a|/) ?minute)\b"
    r"|(?:\b(?:bpm|tempo)|♩)\s*(?::|=|of|is|at)?\s*(?:about |around |approximately |roughly |~)?"
    r"(\d{2,3}(?:\.\d+)?)(?![\w/])",
    re.IGNORECASE,
)
_TENS = {"ten": 10, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70}
_TENS |= {"eighty": 80, "ninety": 90}
_UNITS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_SPELLED_BPM = re.compile(  # "one hundred and twenty beats per minute", "ninety-five bpm"
    rf"\b(?P<hundred>(?:a|one) hundred(?: and)?[\s-]?)?(?P<tens>{'|'.join(_TENS)})?"
    rf"(?:[\s-]?(?P<unit>{'|'.join(_UNITS)}))?\s+(?=bpm\b|beats? (?:per|a) minute\b)",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?<![\w./-])(19[2-9]|20[0-2])\d(?![\w/-]|\s*(?:hz|bpm|khz|samples))", re.IGNORECASE)
_DECADE = re.compile(
    r"(?<![\w.])(?P<whose>\b(?:his|her|their|my|your)\s+(?:early |mid |late )?)?"
    r"[’']?(?P<century>19|20)?(?P<tens>\d)0[’']?s\b",
    re.IGNORECASE,
)
_ENHARMONIC = {"db": "c#", "d#": "eb", "gb": "f#", "g#": "ab", "a#": "bb", "cb": "b", "b#": "c", "e#": "f", "fb": "e"}
_ACCIDENTALS = {"#": "#", "♯": "#", "sharp": "#", "b": "b", "♭": "b", "flat": "b", "": ""}
# What may follow the key of A in "in a minor": anything else makes "a" the article ("a minor detail", "a minor key").
_AFTER_KEY = re.compile(r"\s*($|[^\w\s]|(?:and|with|at|or|on|to|by|while|played|featuring|in|for|is)\b)", re.IGNORECASE)
_BEFORE_KEY = re.compile(r"(?:\b(?:in|of|key|is|to|tonality|and|or)|[^\w\s])$")


def _key_value(match: re.Match[str]) -> str | None:
    letter, sign, spelled, mode = (*match.groups(default=""), "")[:4]
    accidental = _ACCIDENTALS[(sign or spelled).lower()]
    if letter in "aA" and not accidental and match.re is _KEY and not _is_key_of_a(match, letter):
        return None
    pitch = _ENHARMONIC.get(letter.lower() + accidental, letter.lower() + accidental)
    if not mode:
        return pitch
    return f"{pitch} {'major' if mode.lower().startswith('maj') else 'minor'}"


def _is_key_of_a(match: re.Match[str], letter: str) -> bool:
    """Whether the letter is the key and not the article: "in A minor", not "a minor key" or "A minor detail"."""
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :]
    may_be_article = letter == "a" or not before or before[-1] in ".!?"
    if may_be_article and not _AFTER_KEY.match(after):
        return False
    return letter == "A" or not before or bool(_BEFORE_KEY.search(before))


def _decade_value(match: re.Match[str]) -> str | None:
    century, tens = match["century"], match["tens"]
    if match["whose"]:  # "in his 40s" is an age
        return None
    if century is None:
        if tens in "12":  # "10s" is a duration, "20s" an age
            return None
        century = "20" if tens == "0" else "19"
    return f"{century}{tens}0s"


def _digits(match: re.Match[str]) -> str:
    hundred, tens, unit = match["hundred"], match["tens"], match["unit"]
    if not hundred and not tens:  # "one beat per minute" is no tempo
        return match[0]
    value = 100 * bool(hundred) + _TENS.get((tens or "").lower(), 0) + _UNITS.get((unit or "").lower(), 0)
    return f"{value} "


def _mark_numbers(text: str) -> tuple[str, list[Fact]]:
    """Replace keys, BPM numbers and years by marks `<0>`, `<1>`, ... and return the facts that these stand for."""
    found: list[Fact] = []

    def marked(category: str, value: str | None, original: str) -> str:
        if value is None:
            return original
        found.append(Fact(category, value))
        return f" <{len(found) - 1}> "

    text = text.replace("<", " ").replace(">", " ")
    lower, unusual = text.lower(), not text.isascii()  # IGNORECASE lets a few letters beyond ASCII stand for "i"
    for pattern, needed in _KEY_PATTERNS:
        if unusual or not needed or any(part in lower for part in needed):
            text = pattern.sub(lambda match: marked("key", _key_value(match), match[0]), text)
    if "bpm" in lower or " minute" in lower:
        text = _SPELLED_BPM.sub(_digits, text)
    if _DIGIT.search(text):
        text = _BPM.sub(lambda match: marked("tempo", f"{round(float(match[1] or match[2]))} bpm", match[0]), text)
        text = _DECADE.sub(lambda match: marked("era", _decade_value(match), match[0]), text)
        text = _YEAR.sub(lambda match: marked("era", f"{match[1]}0s", match[0]), text)
    return text, found


# --- claims ---------------------------------------------------------------------------------------------------------

_MUSIC_NOUNS = _set(
    "music song songs track tracks tune tunes piece genre genres style styles styled beat beats band bands ballad vibe "
    "vibes groove grooves composition instrumental hit hits anthem singer influences influence influenced elements "
    "inspired tinged infused flavored flavoured flavor rhythm rhythms melody number production classic roots scene "
    "masterpiece banger jam version remix riff riffs flair feel arrangement arrangements performance choir ensemble "
    "duo trio quartet"
)


_TAG_LETTERS = 40  # longer texts are captions


def read_claims(text: str) -> tuple[Claim, ...]:
    """Every claim in `text`, in order, denied ones included."""
    return _tag_claims(text) if len(text) <= _TAG_LETTERS else _caption_claims(text)


@lru_cache(maxsize=50_000)  # tags repeat: a corpus has a few thousand different ones
def _tag_claims(text: str) -> tuple[Claim, ...]:
    return _read(text)


@lru_cache(maxsize=8_192)  # a metric reads the captions of a test split several times; millions come once
def _caption_claims(text: str) -> tuple[Claim, ...]:
    return _read(text)


def _read(text: str) -> tuple[Claim, ...]:
    lexicon = load_lexicon()
    marked, numbers = _mark_numbers(text)
    tokens = tokenize(marked.replace("-like", LIKE_SUFFIX))
    if tokens not in lexicon.forms:
        whole = (*lexicon.whole.get(tokens, ()), *lexicon.weak.get(tokens, ()))  # "rap" is a genre and a way to sing
        if whole:
            return tuple(Claim(fact, tokens, False) for fact in whole)

    spans = list(_spans(tokens, numbers))
    denied, advised = denied_words(tokens), advised_words(tokens)
    claims: list[Claim] = []
    for number, span in enumerate(spans):
        if advised[span.start] or (span.weak and not _is_genre_here(tokens, spans, number)):
            continue
        words = () if tokens[span.start].startswith("<") else tokens[span.start : span.end]
        no = denied[span.start] or denied_after(tokens, span.end)
        for fact in facts_in_context(tokens, spans, number):
            claims.append(Claim(fact, words, no))
    for position, fact in composed(tokens, spans):
        if not advised[position]:
            claims.append(Claim(fact, (tokens[position],), denied[position]))
    return tuple(claims)


def _spans(tokens: Form, numbers: Sequence[Fact]) -> Iterator[Span]:
    lexicon = load_lexicon()
    sizes, forms, weak = lexicon.sizes, lexicon.forms, lexicon.weak
    position = 0
    for start in [at for at, token in enumerate(tokens) if token in sizes or token[0] == "<"]:
        if start < position:  # inside the last form
            continue
        first = tokens[start]
        if first[0] == "<":
            yield Span(start, start + 1, (numbers[int(first[1:-1])],), False)
            continue
        for size in sizes[first]:
            form = tokens[start : start + size]
            facts = forms.get(form)
            if facts is not None or form in weak:
                position = start + len(form)  # shorter than `size` where the text ends
                yield Span(start, position, weak[form] if facts is None else facts, facts is None)
                break


def _is_genre_here(tokens: Sequence[str], spans: Sequence[Span], number: int) -> bool:
    """Whether a weak form stands where a genre stands: "house music", "soul and funk", "genre: house"."""
    span = spans[number]
    if span.end < len(tokens) and tokens[span.end] in _MUSIC_NOUNS:
        return True
    if "genre" in tokens[max(0, span.start - 2) : span.start]:
        return True
    for other in spans[max(0, number - 1) : number + 2]:
        first, second = sorted((span, other), key=lambda each: each.start)
        between = tokens[first.end : second.start]
        is_genre = other is not span and any(fact.category == "genre" for fact in other.facts)
        if is_genre and len(between) <= 2 and set(between) <= JOINTS:
            return True
    return False
