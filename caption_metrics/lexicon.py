"""The closed lexicon of musical facts: its names, the forms they take in text, and which fact implies which.

The words stand in `lexicon.yaml`; keys, BPM numbers, decades and years are open and are read in `claims.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CATEGORIES = ("genre", "mood", "instrument", "vocals", "tempo", "key", "metre", "era", "production")
LEXICON = Path(__file__).with_name("lexicon.yaml")

# BPM; a number supports the word whose range holds it. The ranges overlap, as listeners' words do: adagio and andante
# reach to about 90, allegro begins at about 115.
SLOW_UP_TO, MEDIUM, FAST_FROM = 90.0, (80.0, 130.0), 115.0

PLURAL_CATEGORIES = frozenset({"instrument", "vocals"})  # nouns; "pops" and "blueses" are not wanted

Form = tuple[str, ...]  # the words of one way to say a fact


class Fact(NamedTuple):  # not a dataclass: facts live in sets, and a tuple's hash costs a tenth
    """One claim: a category of `CATEGORIES` and the lexicon's one name for the value, in lower case."""

    category: str
    value: str

    def __str__(self) -> str:
        return f"{self.category}: {self.value}"


@dataclass(frozen=True)
class Lexicon:
    """`lexicon.yaml`, indexed for reading text from left to right."""

    forms: dict[Form, tuple[Fact, ...]]
    weak: dict[Form, tuple[Fact, ...]]  # count beside a music noun or another genre
    whole: dict[Form, tuple[Fact, ...]]  # count when they are the whole text
    sizes: dict[str, tuple[int, ...]]  # first word of a form -> how many words such forms have, longest first
    kinds: dict[Fact, frozenset[Fact]]  # fact -> the general facts that it implies
    words: frozenset[str]  # every word of every form: what is spelled right


_HYPHENS = re.compile(r"[-_‐‑]+|–(?<=[^\W\d]–)(?=[^\W\d])")  # an en dash only between letters: "hi–hat"
_WITHOUT = re.compile(r"\bw/o\b")
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘`"))
_TOKEN = re.compile(r"<\d+>|\d{1,2}/\d{1,2}(?![\d/])|[a-z0-9]+|[.,;:!?()\[\]/|—–]")


def plain_text(text: str) -> str:
    """Lower case, no accents, no apostrophes, `&` as "and"; hyphens and underscores as spaces."""
    bare = text.lower()
    if not bare.isascii():  # most captions are ASCII, and have nothing to take apart
        decomposed = unicodedata.normalize("NFKD", bare)
        bare = "".join(char for char in decomposed if not unicodedata.combining(char))
    if "w/o" in bare:
        bare = _WITHOUT.sub("without", bare)
    return _HYPHENS.sub(" ", bare.replace("&", " and ").translate(_APOSTROPHES))


def tokenize(text: str) -> Form:
    """The words, metres ("3/4"), marks ("<0>") and punctuation of `text` after `plain_text`."""
    return tuple(_TOKEN.findall(plain_text(text)))


def _with_plural(form: Form) -> Iterator[Form]:
    yield form
    last = form[-1]
    if last.endswith("s"):
        return
    if last.endswith(("ch", "sh", "x")):
        yield (*form[:-1], last + "es")
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        yield (*form[:-1], last[:-1] + "ies")
    else:
        yield (*form[:-1], last + "s")


@cache
def load_lexicon() -> Lexicon:
    """Read `lexicon.yaml` once."""
    content: dict[str, Any] = yaml.safe_load(LEXICON.read_text(encoding="utf-8"))
    phrases = content.pop("phrases")
    forms: dict[Form, tuple[Fact, ...]] = {}
    weak: dict[Form, tuple[Fact, ...]] = {}
    whole: dict[Form, tuple[Fact, ...]] = {}
    parents: dict[Fact, list[Fact]] = {}
    for category, values in content.items():
        for entry, others in values.items():
            value, _, general = (part.strip() for part in str(entry).partition("<"))
            fact = Fact(category, value)
            parents[fact] = [Fact(category, name.strip()) for name in general.split(",") if name.strip()]
            names = [str(other) for other in others]
            if not {f"~{value}", f"={value}"} & set(names):
                names.append(value)
            for name in names:
                table = {"~": weak, "=": whole}.get(name[0], forms)
                form = tokenize(name.lstrip("~="))
                for variant in _with_plural(form) if category in PLURAL_CATEGORIES else [form]:
                    table.setdefault(variant, (fact,))
    for phrase, facts in phrases.items():
        forms[tokenize(str(phrase))] = tuple(Fact(*text.split("/", 1)) for text in facts)

    sizes: dict[str, set[int]] = {}
    for form in (*forms, *weak):
        sizes.setdefault(form[0], set()).add(len(form))
    return Lexicon(
        forms=forms,
        weak=weak,
        whole=whole,
        sizes={word: tuple(sorted(lengths, reverse=True)) for word, lengths in sizes.items()},
        kinds={fact: frozenset(_ancestors(fact, parents)) for fact in parents},
        words=frozenset(word for table in (forms, weak, whole) for form in table for word in form),
    )


def _ancestors(fact: Fact, parents: dict[Fact, list[Fact]]) -> Iterator[Fact]:
    for parent in parents[fact]:
        yield parent
        yield from _ancestors(parent, parents)


def lexicon_values(category: str) -> frozenset[str]:
    """Every value that the lexicon lists in `category`; BPM numbers, named keys and decades are open beside it."""
    return frozenset(fact.value for fact in load_lexicon().kinds if fact.category == category)


def with_kinds(facts: Iterable[Fact]) -> frozenset[Fact]:
    """The facts and what they imply: "electric guitar" also "guitar", "c major" also "major", "70 bpm" also "slow"."""
    return frozenset().union(*map(_implied, facts))


@lru_cache(maxsize=10_000)
def _implied(fact: Fact) -> frozenset[Fact]:
    implied = {fact, *load_lexicon().kinds.get(fact, ())}
    if fact.category == "key" and " " in fact.value:
        implied.update(Fact("key", part) for part in fact.value.split())
    elif fact.category == "tempo" and fact.value.endswith(" bpm"):
        implied.update(Fact("tempo", word) for word in _tempo_words(float(fact.value.split()[0])))
    return frozenset(implied)


def _tempo_words(bpm: float) -> Iterator[str]:
    if bpm <= SLOW_UP_TO:
        yield "slow"
    if MEDIUM[0] <= bpm <= MEDIUM[1]:
        yield "medium"
    if bpm >= FAST_FROM:
        yield "fast"
