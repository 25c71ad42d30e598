"""What a form of the lexicon says where it stands: use advice, sound or mood, a language or a style, who is singing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from caption_metrics.lexicon import Fact, Form


class Span(NamedTuple):
    """A form of the lexicon in a text: its tokens `start` to `end`, what it says, and whether it needs a context."""

    start: int
    end: int
    facts: tuple[Fact, ...]
    weak: bool


JOINTS = frozenset({"and", "or", ",", "/", "n", "|"})
LIKE_SUFFIX = " like likeness"  # for "-like", so that "a violin-like tone" differs from "a violin like his"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# --- use advice and topics: words that say nothing about what sounds -------------------------------------------------
# Patterns over the tokens, joined by single spaces. A third of the human captions end in advice.

_MODAL = r"(?:can|could|may|might|would|should|will)(?: (?:also|well|easily|definitely|probably|either|likely|even))*"
_MUSIC = r"(?:song|songs|piece|track|music|tune|it|this|composition|beat|recording|audio|clip|loop|one|sounds?)"
_GOOD = r"(?:good|great|perfect|ideal|nice|suitable|fitting|excellent|appropriate|useful)"
_ADVICE = re.compile(
    rf"(?<!\S)(?:{_MUSIC} {_MODAL} be (?:playing|played|heard|found|enjoyed|featured)(?! by| with| using)"
    rf"|{_MODAL} be (?:very |so |well |best |really |also )*"
    rf"(?:used|utili[sz]ed|lifted|sampled|suited|implemented|placed|{_GOOD}|an? {_GOOD})"
    rf"|{_MODAL} (?:very |also )*(?:fit(?! in \S+ \S+ (?:genre|style))|suit|serve|go well|take place"
    r"|work(?: \S+)? (?:as|in|for|at|on|with)"
    rf"|play (?:in|at|during)|sound {_GOOD}|make (?:for )?an? {_GOOD})"
    rf"|(?:{_GOOD}|suited|fit|best|made|meant|recommended|intended) "
    r"(?:(?!up |foundation|backdrop|base|canvas|complement|contrast|accompaniment)\S+ )?(?:for|addition to)"
    r"|(?:perfect|ideal|suitable) as"
    r"|(?:something|music|song|track|tune|kind|type|sort)(?: of (?:music|songs?|track|thing|tune))?(?: that| which)?"
    r" (?:you|one|we|people|someone|they|an? \S+|\S+s) (?:would|might|could|may)"
    r"|(?:you|one|we) (?:would|might) (?:also |often |usually |normally )?(?:hear|listen|play|find|expect|use|sing)"
    r"|youd (?:hear|listen|play|find|expect|use|sing)"
    r"|(?P<topic>(?:lyrics|words|sings?|singing|sung|sang|raps|rapping|story|song)(?: is| are| talks?)? about))"
    r"(?!\S)"
)
_HINTS = _set(  # no match of `_ADVICE` without one of them
    "can could may might would should will youd about good great perfect ideal nice suitable fitting excellent "
    "appropriate useful suited fit best made meant recommended intended"
)
_ADVICE_ENDS = re.compile(
    r"(?<!\S)(?:[.!?;—–()\[\]]|with its|with his|with her|featuring|thanks|despite|though|although|however|but|"
    r", (?:this|it|its|with|as|while|making|complete|accompanied|driven|backed|creating|all|"
    r"the (?:song|track|piece|music|composition|tune|instrumental)|and (?:the|it|its|this)))(?!\S)"
)
_TOPIC_ENDS = re.compile(
    r"(?<!\S)(?:[.!?;,—–()\[\]]|with|over|featuring|accompanied|backed|while|in an?|but|makes?|making|"
    r"gives?|adds?|creates?|sets?|that|which)(?!\S)"
)


def advised_words(tokens: Sequence[str]) -> list[bool]:
    """For every token whether it stands in use advice ("perfect for a rock bar") or names what the lyrics are about."""
    advised = [False] * len(tokens)
    if _HINTS.isdisjoint(tokens):
        return advised
    text, position = " ".join(tokens), 0
    while match := _ADVICE.search(text, position):
        ends = _TOPIC_ENDS if match["topic"] else _ADVICE_ENDS
        end = ends.search(text, match.end())
        position = end.start() if end else len(text)
        first = text.count(" ", 0, match.start())
        last = text.count(" ", 0, position) if end else len(tokens)
        advised[first:last] = [True] * (last - first)
        position = max(position, match.end())
    return advised


# --- one form, several senses ----------------------------------------------------------------------------------------

_SOUND_WORDS = _set("soft softer heavy warm warmth bright brightness dark powerful intense bold cool")
# What an instrument plays has a mood, the instrument has a sound: "a dark piano melody", but "a dark synth bass".
_TUNES = _set(
    "melody melodies melodic chord chords harmony harmonies rhythm rhythms tune tunes music ballad piece song "
    "progression progressions theme accompaniment arrangement track composition vibe mood"
)
_NO_MODIFIER = _set("and or , with the a an | / . is are")  # before a noun: what stands before does not describe it
_PEOPLE = _set("crowd crowds audience listener listeners fans people dancers spectators")
_PUNCTUATION = _set(". , ; : ! ? ( ) [ ] | — –")

_SPEED_WORDS = _set("fast slow quick rapid faster slower")
_LINES = _set(  # the speed of a line is not the tempo of the piece
    "solo solos lick licks run runs strumming strummed picking picked fingerpicking fingerpicked plucking plucked "
    "arpeggio arpeggios arpeggiated notes rapping rap raps fills scratching shredding motion attack decay release fade"
)
_TEMPO_NOUNS = _set("tempo pace")
_FAST_MOODS = _set("upbeat lively energetic peppy")

_LANGUAGES = _set("arabic turkish persian indian chinese japanese korean spanish french italian russian greek")
_OF_LANGUAGE = _set("language languages lyrics words speech accent speaking text tongue dialect")
_OF_STYLE = _set("style styles styled folk music song songs")
_RESEMBLING = _set("sound sounds sounding sounded seem seems instrument instruments elements feels feel")

_COMPARED = _set(
    "tone tones quality qualities timbre timbres texture textures character synth synths synthesizer synthesiser pad "
    "pads bass guitar piano keyboard organ effect effects"
)

_FAST = Fact("tempo", "fast")
_NOTHING: tuple[Fact, ...] = ()


def facts_in_context(tokens: Form, spans: Sequence[Span], number: int) -> tuple[Fact, ...]:
    """What the form claims here: usually its facts, none where it describes a sound, a crowd or a language."""
    span = spans[number]
    category, value = span.facts[0] if span.facts else ("", "")
    following = tokens[span.end] if span.end < len(tokens) else ""
    before = tokens[span.start - 1] if span.start else ""
    if category == "mood":
        if following in _PEOPLE:  # "an excited crowd"
            return _NOTHING
        if tokens[span.start] in _SOUND_WORDS and _describes_a_sound(tokens, spans, number):
            return _NOTHING
        if tokens[span.start] in _FAST_MOODS and _leads_to_tempo(tokens, spans, number):
            return (_FAST,)
    elif category == "tempo":
        line = tokens[span.end : span.end + 4]
        if tokens[span.start] in _SPEED_WORDS and span.end == span.start + 1 and _until_stop(line) & _LINES:
            return _NOTHING
    elif category == "genre":
        one_word = span.end == span.start + 1
        if value in _LANGUAGES and one_word and (following in _OF_LANGUAGE or before == "in"):
            return span.facts if following in _OF_STYLE else _NOTHING
    elif category in ("instrument", "vocals") and _is_likeness(tokens, span):
        return _NOTHING
    return span.facts


def _until_stop(words: Sequence[str]) -> set[str]:
    kept: set[str] = set()
    for word in words:
        if word in _PUNCTUATION and word != ",":
            break
        kept.add(word)
    return kept


def _describes_a_sound(tokens: Form, spans: Sequence[Span], number: int) -> bool:
    """Whether a word such as "heavy" stands before an instrument ("heavy bass") and not before what it plays."""
    end = spans[number].end
    for span in spans[number + 1 :]:
        if span.start - end > 2 or (_PUNCTUATION - {","}) & set(tokens[end : span.start]):
            return False
        categories = {fact.category for fact in span.facts}
        if "instrument" in categories or (tokens[spans[number].start] == "heavy" and "production" in categories):
            joined = tokens[span.start - 1] in _NO_MODIFIER and tokens[spans[number].end] != "of"
            return not joined and not _TUNES & {tokens[span.end - 1], *tokens[span.end : span.end + 1]}
        if categories - {"mood", "production"}:
            return False
        end = span.end
    return False


def _leads_to_tempo(tokens: Form, spans: Sequence[Span], number: int) -> bool:
    """Whether "upbeat" describes a tempo a few words on ("upbeat dance tempo"), which no other word describes."""
    span = spans[number]
    for position in range(span.end, min(span.end + 4, len(tokens))):
        if tokens[position] in _PUNCTUATION:
            return False
        if tokens[position] in _TEMPO_NOUNS:
            return not any(
                other.start <= position < other.end or (other.start >= span.end and other.facts[:1] == (_FAST,))
                for other in spans[number + 1 : number + 4]
            )
    return False


def _is_likeness(tokens: Form, span: Span) -> bool:
    """Whether something is only compared: "a flute-like synth", "cries like a violin".

    "A flute-like instrument" and "sounds like a violin" are guesses, and count.
    """
    if "like" not in tokens:
        return False
    if tokens[span.end : span.end + 2] == ("like", "likeness"):
        return bool(_COMPARED & set(tokens[span.end + 2 : span.end + 4]))
    for article in (span.start - 1, span.start - 2):
        if article >= 1 and tokens[article] in ("a", "an") and tokens[article - 1] == "like":
            return article >= 2 and tokens[article - 2] not in _RESEMBLING
    return False


# --- claims of several words that need not touch --------------------------------------------------------------------

_VOICING = _set(
    "sing sings singing sang sung rap raps rapping rapped chant chants chanting hum hums humming speak speaks speaking "
    "talk talks talking vocalizes vocalizing vocalising vocalises scream screams screaming shout shouts shouting "
    "yell yells yelling narrates narrating whispers whispering yodels yodeling harmonizing recites reciting"
)
_PERSONS = {
    **dict.fromkeys(("man", "men", "guy", "guys", "he", "tenor", "baritone"), Fact("vocals", "male vocals")),
    **dict.fromkeys(("woman", "women", "lady", "ladies", "girl", "girls", "she"), Fact("vocals", "female vocals")),
    **dict.fromkeys(("boy", "boys", "child", "children", "kid", "kids"), Fact("vocals", "child vocals")),
}
_NEXT_PERSON = _set("and while whilst as when but")
_NO_SINGER = _set("band bands like to for")  # "a boy band sings", "made children sing"
_HARMONIZING = _set("harmonizing harmonising harmonized harmonised")
_BEHIND = _set("background backing backup")
_TRIGGERS = frozenset(_PERSONS) | _HARMONIZING | _BEHIND
_SUNG = frozenset(Fact("vocals", f"{kind}vocals") for kind in ("", "male ", "female ", "child ")) | {
    Fact("vocals", "choir")
}
_HARMONIES, _BACKING = Fact("vocals", "vocal harmonies"), Fact("vocals", "backing vocals")


def _words_after(tokens: Form, position: int) -> list[str]:
    """The four words after a person; in "a man and a woman sing together" those after the second one."""
    after = list(tokens[position + 1 : position + 8])
    if tokens[position] in _PERSONS and after[:1] == ["and"]:
        for place in (1, 2):
            if place < len(after) and after[place] in _PERSONS:
                return after[place + 1 : place + 5]
    return after[:4]


def composed(tokens: Form, spans: Sequence[Span]) -> Iterator[tuple[int, Fact]]:
    """Claims that no form of touching words can hold, with the token where each begins: "a man is softly singing" (male
    vocals), "harmonizing low male vocals" (vocal harmonies), "background male vocals" (backing vocals)."""
    if _TRIGGERS.isdisjoint(tokens):
        return
    voices = {span.start for span in spans if not _SUNG.isdisjoint(span.facts)}
    for position, word in enumerate(tokens):
        if word not in _TRIGGERS:
            continue
        near = _words_after(tokens, position)
        for place, other in enumerate(near):
            if other in _PUNCTUATION or (other in _NEXT_PERSON and word in _PERSONS):
                near = near[:place]
                break
        if word in _PERSONS:
            if not _NO_SINGER & set(near) and _VOICING & set(near):
                yield position, _PERSONS[word]
        elif voices & set(range(position + 1, position + 1 + (len(near) if word in _HARMONIZING else 1))):
            yield position, _HARMONIES if word in _HARMONIZING else _BACKING
