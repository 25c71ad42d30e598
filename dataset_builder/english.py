"""Articles, plurals and lists: the little English that sentences made from tags need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from caption_metrics.facts import extract_facts


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words with an s at their end that are no plural, and words without one that take no article.
_SINGULAR_IN_S = _set("bass brass contrabass blues chorus")
_PLURAL_WITHOUT_S = frozenset({"timpani", "tabla drums", "celli", "zills"})
_NO_ARTICLE = _set(
    "percussion brass woodwind reverb echo delay distortion tremolo noise gamelan beatboxing clapping strumming "
    "drumming singing rapping humming whistling speech narration applause music sound audio feedback "
    "laughter static hiss crackle choral scatting screaming yodeling chanting falsetto"
)
_THINGS = _set("string spring ring thing recording")  # nouns in -ing that are counted
_DETERMINED = _set("a an the some no two three four several many his her their its this that")
_CONSONANT_SOUND = re.compile(r"(?:uni|eu|ukul|u[- ]|one\b|once|use|usu)", re.IGNORECASE)  # "a ukulele", "a euphonium"
_VOWEL_SOUND = re.compile(r"(?:hour|honest|heir|8|11\b|18\b|r&b|fm\b|mc\b|lp\b|sfx)", re.IGNORECASE)
_NAMES = _set(
    "african american arabic armenian asian balkan brazilian british caribbean celtic chinese christian cuban "
    "english ethiopian european french german greek haitian hammond hawaiian hungarian indian irish italian japanese "
    "indonesian korean kurdish latin mexican persian polish romanian russian scottish spanish swedish thai "
    "turkish christmas"
)
_PROPER = {word: word.capitalize() for word in _NAMES} | {
    word: word.upper() for word in ("edm", "r&b", "dj", "bpm", "tv", "uk")
}
_WORD = re.compile(r"[\w&-]+")


def article(phrase: str) -> str:
    """`a` or `an`, by how `phrase` begins to sound ("an hour", "a ukulele", "an 8-bit tune")."""
    if _VOWEL_SOUND.match(phrase):
        return "an"
    return "an" if phrase[:1].lower() in tuple("aeiou") and not _CONSONANT_SOUND.match(phrase) else "a"


@lru_cache(maxsize=20_000)  # tags repeat
def is_plural(noun: str) -> bool:
    """Whether a noun phrase is in the plural ("drums", "hand claps"), told by its last word."""
    last = noun.lower().rsplit(" ", 1)[-1]
    if noun.lower() in _PLURAL_WITHOUT_S or last in _PLURAL_WITHOUT_S:
        return True
    return last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in _SINGULAR_IN_S


@lru_cache(maxsize=20_000)
def with_article(noun: str) -> str:
    """`noun` as it stands in a sentence: "a piano", "an organ", "drums", "percussion"."""
    words = noun.lower().split()
    if not words or is_plural(noun) or words[-1] in _NO_ARTICLE or words[0] in _DETERMINED:
        return noun
    if words[-1].endswith("ing") and words[-1] not in _THINGS:  # "hand clapping"
        return noun
    return f"{article(noun)} {noun}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """`names` as one phrase: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


@lru_cache(maxsize=20_000)
def proper(phrase: str) -> str:
    """`phrase` with the capitals that English wants ("a Celtic tune"), otherwise as it is."""
    return _WORD.sub(lambda match: _PROPER.get(match[0], match[0]), phrase)


def capitalised(sentence: str) -> str:
    """`sentence` with a capital at its beginning and single spaces."""
    text = " ".join(sentence.split())
    return f"{text[:1].upper()}{text[1:]}"


@lru_cache(maxsize=20_000)
def names_another(adjective: str, noun: str) -> bool:
    """Whether the two side by side name something else: "dark ambient" is a genre, "romantic classical" an era."""
    together = extract_facts(f"{adjective} {noun} piece")
    return together != extract_facts(f"{adjective} mood") | extract_facts(f"{noun} piece")
