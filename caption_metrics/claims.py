"""Reading a text from left to right for claims: the longest form of the lexicon wins, numbers apart, denials marked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from caption_metrics.lexicon import Fact, Form, load_lexicon, tokenize


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact where it stands in a text: its words as written (none for a key, BPM number or year), denied or not."""

    fact: Fact
    words: tuple[str, ...]
    denied: bool


class _Span(NamedTuple):
    start: int
    end: int
    facts: tuple[Fact, ...]
    weak: bool


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# --- keys, tempo in BPM, years: open values that no word list can hold ---------------------------------------------

_PITCH = r"([A-Ga-g])(?:(#|♯|♭|b)|[\s-]+(sharp|flat))?"
_KEY = re.compile(rf"(?<![\w#'’]){_PITCH}[\s-]*\b(major|minor|maj|min)\b(?!\s+third)", re.IGNORECASE)
_KEY_SHORT = re.compile(r"(?<![\w#'’])([A-G])(#|b|♯|♭)?()(maj|min|m)(?![\w#'’])(?!\s+I\b)")
_KEY_OF = re.compile(rf"\b(?:key|scale) of {_PITCH}(?![\w#'’])", re.IGNORECASE)
_KEY_PATTERNS = (  # with the parts of which an ASCII text in lower case has one where the pattern matches
    (_KEY, ("maj", "min")),
    (_KEY_SHORT, ()),
    (_KEY_OF, ("key of", "scale of")),
)
_DIGIT = re.compile(r"\d")
_BPM = re.compile(
    r"(?<![\w.])(\d{2,3}(?:\.\d+)?)[\s-]*(?:bpm|beats? (?:per|a) minute)\b"
    r"|\b(?:bpm|tempo)\s*(?::|=|of|is|at)?\s*(?:about |around |approximately |roughly |~)?(\d{2,3}(?:\.\d+)?)(?![\w/])",
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
    if _DIGIT.search(text):
        text = _BPM.sub(lambda match: marked("tempo", f"{round(float(match[1] or match[2]))} bpm", match[0]), text)
        text = _DECADE.sub(lambda match: marked("era", _decade_value(match), match[0]), text)
        text = _YEAR.sub(lambda match: marked("era", f"{match[1]}0s", match[0]), text)
    return text, found


# --- denials --------------------------------------------------------------------------------------------------------

_PUNCTUATION = frozenset(".,;:!?()[]/|—–")
_CUES = _set(
    "no not without never neither nor lacks lacking lack lacked minus sans non isnt arent wasnt werent devoid absence "
    "excluding nothing"
)
_VERB_CUES = _set("dont doesnt didnt cannot cant wont")  # deny a claim only before one of _HAVING
_HAVING = _set("have feature include contain use need sound feel rely hear")
_PAIR_CUES = frozenset({("instead", "of"), ("rather", "than"), ("free", "of"), ("free", "from"), ("opposed", "to")})
_NO_DENIAL_AFTER = _set("only just merely simply to mention doubt matter wonder time less lost")
_ANY_CUE = _CUES | _VERB_CUES | {first for first, _ in _PAIR_CUES}
_STOPS = _set(
    "but just only however yet while though although which because instead rather except besides apart with "
    "accompanied featuring features making make makes creating create creates allowing allow allows adding add adds "
    "letting let lets giving give gives leaving leave leaves to that so"
)
_NEW_CLAUSE = _set("a an the it its is has are there this features uses contains includes sounds plays")
_DENIED_AFTER = _set("absent missing lacking omitted excluded")
_BE = _set("is are was were be")
_NOT_BE = _set("isnt arent wasnt werent")
_AFTER_CUES = _BE | _NOT_BE | {"free", "less"}
_PRESENT = _set("present used featured heard included there audible part detected played")
_REACH = 6  # words after a cue that it may deny
_LONGEST_ITEM = 3  # words, in "no drums, bass guitar, or vocals"


def denied_words(tokens: Sequence[str]) -> list[bool]:
    """For every token whether a negation before it reaches it ("no drums, bass or vocals", "instead of a piano")."""
    denied = [False] * len(tokens)
    if _ANY_CUE.isdisjoint(tokens):
        return denied
    for index, word in enumerate(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else ""
        start = index + 1
        if word in _CUES:
            if following in _NO_DENIAL_AFTER | _PRESENT:  # "vocals are not present in ..." denies what stands before
                continue
        elif (word, following) in _PAIR_CUES:
            start += 1
        elif not (word in _VERB_CUES and following in _HAVING):
            continue
        reach = 1 if word == "non" else _REACH  # "non vocal piano music" has a piano
        for position in _denied_positions(tokens, start, reach):
            denied[position] = True
    return denied


def _denied_positions(tokens: Sequence[str], start: int, reach: int) -> Iterator[int]:
    position, left = start, reach
    while position < len(tokens) and left:
        word = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else ""
        if word == ",":
            if not _list_goes_on(tokens, position + 1):
                return
            left = reach
        elif _ends_denial(word, following):
            return
        yield position
        position, left = position + 1, left - 1


def _ends_denial(word: str, following: str) -> bool:
    if word in _STOPS or (word in _PUNCTUATION and word != "/"):
        return True
    if (word, following) == ("other", "than"):  # "nothing other than piano" does claim a piano
        return True
    return word == "and" and following in _NEW_CLAUSE | _STOPS | _VERB_CUES


def _list_goes_on(tokens: Sequence[str], start: int) -> bool:
    """Whether ", bass, or vocals" follows: short items up to an "or", so that "no drums, bass or vocals" denies all."""
    length = 0
    for word in tokens[start:]:
        if word in ("or", "nor"):
            return True
        if word == ",":
            length = 0
            continue
        length += 1
        if length > _LONGEST_ITEM or word == "and" or word in _NEW_CLAUSE | _STOPS | _PUNCTUATION:
            return False
    return False


def _denied_after(tokens: Sequence[str], end: int) -> bool:
    """Whether the words after a claim deny it: "drums are absent", "vocals are not present", "drum-free"."""
    if end >= len(tokens) or tokens[end] not in _AFTER_CUES:
        return False
    first, second, third = (*tokens[end : end + 3], "", "")[:3]
    if first == "free":
        return second not in ("jazz", "flowing", "spirited", "form")
    if first == "less":
        return second != "than"
    if first in _BE and second in _DENIED_AFTER:
        return not third or third in _PUNCTUATION | {
            "and",
            "from",
            "in",
            "here",
        }  # not "the guitars are lacking volume"
    if first in _BE:
        return second in ("not", "never") and third in _PRESENT
    return first in _NOT_BE and second in _PRESENT


# --- claims ---------------------------------------------------------------------------------------------------------

_MUSIC_NOUNS = _set(
    "music song songs track tracks tune tunes piece genre genres style styles styled beat beats band bands ballad vibe "
    "vibes groove grooves composition instrumental hit hits anthem singer influences influence influenced elements "
    "inspired tinged infused flavored flavoured flavor rhythm rhythms melody number production classic roots scene"
)
_JOINTS = frozenset({"and", "or", ",", "/", "n", "|"})


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
    tokens = tokenize(marked)
    if tokens not in lexicon.forms:
        whole = (*lexicon.whole.get(tokens, ()), *lexicon.weak.get(tokens, ()))  # "rap" is a genre and a way to sing
        if whole:
            return tuple(Claim(fact, tokens, False) for fact in whole)

    spans = list(_spans(tokens, numbers))
    denied = denied_words(tokens)
    claims: list[Claim] = []
    for number, span in enumerate(spans):
        if span.weak and not _is_genre_here(tokens, spans, number):
            continue
        words = () if tokens[span.start].startswith("<") else tokens[span.start : span.end]
        no = denied[span.start] or _denied_after(tokens, span.end)
        for fact in span.facts:
            claims.append(Claim(fact, words, no))
    return tuple(claims)


def _spans(tokens: Form, numbers: Sequence[Fact]) -> Iterator[_Span]:
    lexicon = load_lexicon()
    sizes, forms, weak = lexicon.sizes, lexicon.forms, lexicon.weak
    position = 0
    for start in [at for at, token in enumerate(tokens) if token in sizes or token[0] == "<"]:
        if start < position:  # inside the last form
            continue
        first = tokens[start]
        if first[0] == "<":
            yield _Span(start, start + 1, (numbers[int(first[1:-1])],), False)
            continue
        for size in sizes[first]:
            form = tokens[start : start + size]
            facts = forms.get(form)
            if facts is not None or form in weak:
                position = start + size
                yield _Span(start, position, weak[form] if facts is None else facts, facts is None)
                break


def _is_genre_here(tokens: Sequence[str], spans: Sequence[_Span], number: int) -> bool:
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
        if is_genre and len(between) <= 2 and set(between) <= _JOINTS:
            return True
    return False
