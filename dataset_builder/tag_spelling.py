"""Tags that look misspelled, with what was probably meant, and tags that are one tag written in several ways.

Nothing is changed by this: a corpus keeps its own spelling, and a person decides. So a false alarm costs more than a
miss: a word is only suspected when no English dictionary and no musical term has it, it is rare, it is no compound
("electro" + "hop"), and it reads like a slip of the pen for a musical term or for a word that is frequent in the
corpus. `trance` beside `dance`, `bass` beside `brass` or `zouk` beside `zook` raise nothing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from symspellpy import SymSpell, Verbosity

from caption_metrics.facts import extract_facts
from caption_metrics.lexicon import CATEGORIES, lexicon_values, load_lexicon, plain_text, tokenize

SHORTEST = 5  # letters of a word that is looked at: of four-letter words too many are one letter apart
TWO_SLIPS_FROM = 9  # letters; shorter words may have one wrong, and
LONGER_THAN = 6  # letters; up to these a letter may be wrong only for one that sounds alike ("folky" is no "foley")
RARE = 5  # tracks; a word of at most so many may be a slip, whatever else the corpus holds ...
RARER_THAN = 20  # ... one of more only where the word that is meant has this many times as many, ...
MUSICAL_RARER_THAN = 4  # ... or this many times, where a musical term is meant (MagnaTagATune's own tag `clasical`)
FREQUENT = 20  # tracks; from here on a word of the corpus that no dictionary has can be what was meant
_HEARD_ALIKE = ("aeiouy", "ckq", "sxz", "gj", "pf", "bp", "dt", "mn")  # letters that are taken for each other
# British and American spellings of one word; either is right where the other is known.
_TWO_ENGLISHES = tuple(
    (re.compile(pattern), other)
    for pattern, other in {
        "or(?=s?$|ed|ing|ful|al|ab|it)": "our",
        "our": "or",
        "iz": "is",
        "is": "iz",
        "yz": "ys",
        "ys": "yz",
        "er$": "re",
        "re$": "er",
        "l(?=ing|ed|er)": "ll",
        "ll(?=ing|ed|er)": "l",
        "og$": "ogue",
        "c(?=ing|ed|e$)": "s",
    }.items()
)
_ENDINGS = ("s", "y", "ish", "like", "ness")  # that make a word of a known one, be it in no dictionary: "folky"
# Words of music that no list here has and that look like a slip for another one (semba is no samba).
_GENUINE = frozenset({"flutist", "maschine", "nacional", "rhumba", "semba", "spacy"})
SHORTEST_PART = 3  # letters of a word in a compound
_PREFIXES = frozenset({"psy", "nu", "neo", "afro", "euro", "electro", "synth", "tech", "indie", "turbo"})
_DICTIONARY = "frequency_dictionary_en_82_765.txt"  # SymSpell's, of Google Books words that SCOWL has too
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Misspelling:
    """A tag of `tracks` tracks that holds a word nobody knows, and the same tag with the word that may be meant."""

    tag: str
    tracks: int
    suggestion: str


@dataclass(frozen=True)
class Spelling:
    """One way to write a tag."""

    tag: str
    tracks: int


def misspelled_tags(counts: Mapping[str, int]) -> tuple[Misspelling, ...]:
    """The tags that look misspelled, those of most tracks first; `counts` says how many tracks have each tag."""
    words: Counter[str] = Counter()
    for tag, count in counts.items():
        for word in set(_words(tag)):
            words[word] += count
    meant = _meant_words(words)
    found: list[Misspelling] = []
    for tag, count in counts.items():
        slips = {word: meant[word] for word in _words(tag) if word in meant}
        if slips:
            found.append(Misspelling(tag, count, _respelled(tag, slips)))
    return tuple(sorted(found, key=lambda each: (-each.tracks, each.tag)))


def spelling_variants(counts: Mapping[str, int]) -> tuple[tuple[Spelling, ...], ...]:
    """Groups of tags that differ only in case, hyphens, spaces, accents or a plural s, the most frequent first.

    `key` and `keys` are apart: to the lexicon they say different things.
    """
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for tag in counts:
        joined = "".join(tokenize(tag))
        if len(joined) > 3 and joined.endswith("s") and not joined.endswith("ss") and not joined[-2].isdigit():
            joined = joined[:-1]
        if joined:
            alike[joined].append(tag)
    groups: list[tuple[Spelling, ...]] = []
    for tags in alike.values():
        meanings: defaultdict[object, list[Spelling]] = defaultdict(list)
        for tag in tags if len(tags) > 1 else ():
            meanings[extract_facts(tag)].append(Spelling(tag, counts[tag]))
        groups += [
            tuple(sorted(same, key=lambda each: (-each.tracks, each.tag)))
            for same in meanings.values()
            if len(same) > 1
        ]
    return tuple(sorted(groups, key=lambda group: (-sum(each.tracks for each in group), group[0].tag)))


def _respelled(tag: str, slips: Mapping[str, str]) -> str:
    return _WORD.sub(lambda match: slips.get(match[0], match[0]), tag.lower())


def _words(tag: str) -> list[str]:
    return _WORD.findall(tag.lower())


def _meant_words(words: Counter[str]) -> dict[str, str]:
    """Of the words of a corpus, with the number of their tracks, the suspected ones and what each may stand for."""
    known = _known_words()
    suspects = [
        word
        for word in words
        if len(word) >= SHORTEST and word.isascii() and not _is_known(word) and not _is_compound(word)
    ]
    targets = dict.fromkeys(_musical_words(), 0) | {
        word: count for word, count in words.items() if len(word) >= SHORTEST and (word in known or count >= FREQUENT)
    }
    index = SymSpell(max_dictionary_edit_distance=2, prefix_length=7)
    for word in targets:
        index.create_dictionary_entry(word, max(1, words[word]))
    meant: dict[str, str] = {}
    for word in suspects:
        slips = 2 if len(word) >= TWO_SLIPS_FROM else 1
        nearest = [
            item
            for item in index.lookup(word, Verbosity.ALL, max_edit_distance=slips)
            if item.term != word and _is_slip(word, item.term) and _is_rarer(words[word], words[item.term], item.term)
        ]
        if nearest:
            meant[word] = min(nearest, key=lambda item: (item.distance, -words[item.term], item.term)).term
    return meant


def _is_rarer(count: int, of_meant: int, meant: str) -> bool:
    if meant in _musical_words():
        return count <= RARE or count * MUSICAL_RARER_THAN <= of_meant
    return count * RARER_THAN <= of_meant


def _is_slip(word: str, meant: str) -> bool:
    """Whether `word` begins and ends as `meant` does: inflected and foreign words end otherwise ("guitare")."""
    if len(meant) < SHORTEST or word[-1] != meant[-1]:
        return False
    if len(word) == len(meant):
        wrong = [pair for pair in zip(word, meant, strict=True) if pair[0] != pair[1]]
        if len(wrong) == 1 and (len(word) <= LONGER_THAN or word[0] != meant[0]):
            return any(set(wrong[0]) <= set(alike) for alike in _HEARD_ALIKE)
    return word[0] == meant[0]


def _is_known(word: str) -> bool:
    known = _known_words()
    if word in known or any(word.removesuffix(ending) in known for ending in _ENDINGS):
        return True
    return any(
        word[: found.start()] + other + word[found.end() :] in known
        for pattern, other in _TWO_ENGLISHES
        for found in pattern.finditer(word)
    )


def _is_compound(word: str) -> bool:
    """Whether the word is made of two that are known: `nerdcore`, `eurotrance`, `electrohop`."""
    parts = ((word[:cut], word[cut:]) for cut in range(SHORTEST_PART, len(word) - SHORTEST_PART + 1))
    return any(_is_part(first) and _is_part(second) for first, second in parts)


def _is_part(word: str) -> bool:
    # Three letters of a dictionary are easily the rest of a slip ("per" + "cusive"); "hop" and "dub" are musical.
    return word in _musical_words() or word in _PREFIXES or (len(word) > SHORTEST_PART and word in _dictionary())


@cache
def _dictionary() -> frozenset[str]:
    lines = files("symspellpy").joinpath(_DICTIONARY).read_text(encoding="utf-8-sig").splitlines()
    return frozenset(line.split(" ", 1)[0] for line in lines)


@cache
def _musical_words() -> frozenset[str]:
    """The words of the lexicon's own names, plurals included, and of its other forms those that a dictionary has.

    The rest of the forms are misspellings that captions are forgiven.
    """
    names = (value for category in CATEGORIES for value in lexicon_values(category))
    words = {word for name in names for word in plain_text(name).split() if word.isalpha()}
    plurals = {f"{word}s" for word in words if not word.endswith("s")}
    return frozenset(words | plurals | (load_lexicon().words & _dictionary()))


@cache
def _known_words() -> frozenset[str]:
    return _dictionary() | _musical_words() | _GENUINE
