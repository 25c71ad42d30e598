"""Reference captions of rendered clips: a seeded grammar that says what is true of a clip, and nothing else.

They stand where other corpora have a person's sentence. They are no person's, and `extra["reference_style"]` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from .rendered_facts import ClipFacts

REFERENCE_STYLE = "grammar"

_PLURALS = frozenset({"drums", "strings", "bells", "maracas", "claves", "cymbals"})
_NOUNS = {"ballad": ("ballad",), "march": ("march",)}  # "a march piece" is no English


def reference_caption(facts: ClipFacts, rng: Random) -> str:
    """One or two sentences about a clip."""
    genre, mood, instruments, melody = facts.genre, facts.mood, facts.instruments, facts.melody
    tempo, key, metre = facts.tempo, facts.key, facts.metre
    nouns = _NOUNS.get(genre, (f"{genre} piece", f"{genre} track", f"{genre} tune"))
    noun = rng.choice(nouns)
    others = [instrument for instrument in instruments if instrument != melody]
    band = _enumerated([_with_article(instrument) for instrument in instruments])
    setting = rng.choice((f"in {key}", f"in {metre} time", f"in {key} and {metre} time", ""))
    first = rng.choice(
        (
            f"{_article(mood)} {mood} instrumental {noun} {setting} at {_article(tempo)} {tempo}",
            f"This is {_article(mood)} {mood} {noun} without vocals, played {setting} at {_article(tempo)} {tempo}",
            f"{_article(mood)} {mood} {noun} {setting} moves along at {_article(tempo)} {tempo}",
            f"The {tempo} of this instrumental {noun} {setting} goes with its {mood} mood",
        )
    )
    if melody is not None and others:
        accompaniment = _enumerated([_with_article(instrument) for instrument in others])
        carries = "carry" if melody in _PLURALS else "carries"
        second = rng.choice(
            (
                f"{_with_article(melody)} {carries} the melody over {accompaniment}",
                f"{accompaniment} {_agree(others, 'accompanies', 'accompany')} {_with_article(melody)} in the lead",
                f"The melody is played on {_with_article(melody)}, accompanied by {accompaniment}",
            )
        )
    elif melody is not None:
        second = rng.choice(
            (f"{_with_article(melody)} plays alone", f"Melody and accompaniment are both played on {band}")
        )
    else:
        second = rng.choice((f"{band} can be heard", f"It is played on {band}", f"It features {band}"))
    if rng.random() < 0.15:  # some people write one sentence
        return _sentence(f"{first}, with {band}")
    return f"{_sentence(first)} {_sentence(second)}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _with_article(instrument: str) -> str:
    return instrument if instrument in _PLURALS else f"{_article(instrument)} {instrument}"


def _agree(instruments: Sequence[str], singular: str, plural: str) -> str:
    return plural if len(instruments) > 1 or instruments[0] in _PLURALS else singular


def _enumerated(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[0].upper()}{text[1:]}."
