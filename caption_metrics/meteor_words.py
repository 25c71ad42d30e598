"""The words that METEOR compares: those of NLTK 3.8.1's `word_tokenize`, the version of the released code.

NLTK changed three tokenizer rules and the marks that may end a sentence after 3.8.1. The rules are derived from the
installed ones, so that every version gives the published value; and a word between two plain words is looked up
instead of sent through thirty regular expressions, as nothing about it can depend on them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from itertools import chain
from typing import Any

from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktLanguageVars, PunktParameters, PunktSentenceTokenizer

from caption_metrics.language_data import load_punkt_parameters
from caption_metrics.pieces import Remembered

TOKENIZER_VERSION = "3.8.1"

_DASHES = r"[\u2012-\u2015]"
_WHITE_SPACE = r"\s+"
# 3.8.1 splits an apostrophe from a single word character wherever it stands ("rock'n" but not "rock'nroll"),
# unless a clitic follows; later versions only where no word character stands before it.
_OPENING_APOSTROPHE = re.compile(r"(?i)(\')(?!re|ve|ll|m|t|s|d|n)(\w)\b")

# Letters and digits, hyphens between them, a possessive, a comma. The tokenizer's rules look across a space only at
# quotes, brackets, dots and commas that stand alone, so what becomes of such a piece is decided within it: its parts
# are words, unless it is one of the contractions that are taken apart ("gonna").
_PLAIN = re.compile(r"([A-Za-z0-9]+(?:-[A-Za-z0-9]+)*)('s)?(,)?")
_PLAIN_AT_THE_END = re.compile(_PLAIN.pattern + r"(\.)?")
_NEIGHBOUR = "a"  # any plain word
_JOIN = " "  # between the marks of the neighbours that a run of pieces has and the run

Rules = list[tuple[Any, str]]
Words = tuple[str, ...]


def _standard(rules: Rules, without: str = "") -> Rules:
    """The rules in Python's own `re`, as 3.8.1 had them: NLTK 3.10 runs them in another engine under a time limit, at
    several times the cost, with another idea of white space, and with a possessive `*+` for its sake."""
    return [(re.compile(rule.pattern.replace("*+", "*")), to) for rule, to in rules if rule.pattern != without]


class _Tokenizer381(NLTKWordTokenizer):
    """NLTK's word tokenizer with the three rules that changed after 3.8.1 put back."""

    PUNCTUATION = _standard(NLTKWordTokenizer.PUNCTUATION, without=_DASHES)
    ENDING_QUOTES = _standard(NLTKWordTokenizer.ENDING_QUOTES, without=_WHITE_SPACE)
    STARTING_QUOTES = [*_standard(NLTKWordTokenizer.STARTING_QUOTES[:-1]), (_OPENING_APOSTROPHE, r"\1 \2")]
    PARENS_BRACKETS = _standard([NLTKWordTokenizer.PARENS_BRACKETS])[0]
    DOUBLE_DASHES = _standard([NLTKWordTokenizer.DOUBLE_DASHES])[0]
    CONTRACTIONS2 = [re.compile(rule.pattern) for rule in NLTKWordTokenizer.CONTRACTIONS2]
    CONTRACTIONS3 = [re.compile(rule.pattern) for rule in NLTKWordTokenizer.CONTRACTIONS3]


# All in one, for pieces of letters and digits; "wanna" is one before white space alone.
_CONTRACTION = re.compile(
    "|".join(rule.pattern.replace("(?i)", "").replace(r"(?=\s)", "") for rule in _Tokenizer381.CONTRACTIONS2), re.I
)


class _Language381(PunktLanguageVars):
    """The marks of 3.8.1: later versions count typographic quotes among those that may follow a full stop."""

    re_boundary_realignment = re.compile(r'["\')\]}]+?(?:\s+|(?=--)|$)', re.MULTILINE)
    _re_non_word_chars = r"(?:[)\";}\]\*:@\'\({\[!\?])"

    def __init__(self) -> None:
        marks = {
            "NonWord": self._re_non_word_chars,
            "MultiChar": self._re_multi_char_punct,
            "WordStart": self._re_word_start,
            "SentEndChars": self._re_sent_end_chars,
        }
        # Compiled here and by `re`, for the reason given in `_standard`.
        self._re_word_tokenizer = re.compile(self._word_tokenize_fmt % marks, re.VERBOSE)
        self._re_period_context = re.compile(self._period_context_fmt % marks, re.VERBOSE)


class _Splitter(PunktSentenceTokenizer):
    """NLTK's Punkt with its two slow steps made short; its decisions are its own."""

    def __init__(self, parameters: PunktParameters) -> None:
        super().__init__(parameters, lang_vars=_Language381())
        decide = super().text_contains_sentbreak
        self._decisions = Remembered(decide)  # a decision rests on the words on both sides of the full stop alone

    def text_contains_sentbreak(self, text: str) -> bool:
        return self._decisions[text]

    def _get_last_whitespace_index(self, text: str) -> int:
        return max(0, max(map(text.rfind, string.whitespace)))


class WordTokenizer:
    """Splits captions into words, each changed by `change`, and remembers what it has seen.

    Raises `MissingExtraError` when Punkt's data is not installed.
    """

    def __init__(self, change: Callable[[str], str] = str) -> None:
        splitter = _Splitter(load_punkt_parameters())
        self._sentences: Callable[[str], list[str]] = splitter.tokenize
        self._change = change
        self._tokenizer = _Tokenizer381()
        self._within = Remembered(self._plain_within)
        self._at_the_end = Remembered(self._plain_at_the_end)
        self._runs = Remembered(self._run)

    def __call__(self, text: str) -> list[str]:
        """The words of `text`."""
        words: list[str] = []
        for sentence in self._sentences(text):
            words += self._words(sentence)
        return words

    def _words(self, sentence: str) -> list[str]:
        pieces = sentence.split()
        if not pieces:
            return []
        if " ".join(pieces) != sentence:  # some rules ask for a space and no other white space
            return list(self._tokenize(sentence))
        within = self._within
        found = [within[piece] for piece in pieces]
        found[-1] = self._at_the_end[pieces[-1]]
        if None in found:
            return self._with_runs(pieces, found)
        return list(chain.from_iterable(found))  # type: ignore[arg-type]

    def _with_runs(self, pieces: list[str], found: list[Words | None]) -> list[str]:
        """The words of a sentence some of whose pieces are not plain; neighbours among those go together."""
        words: list[str] = []
        start, count = 0, len(pieces)
        while start < count:
            known = found[start]
            if known is not None:
                words += known
                start += 1
                continue
            stop = start + 1
            while stop < count and found[stop] is None:
                stop += 1
            before, after = "<" if start else "", ">" if stop < count else ""
            words += self._runs[f"{before}{after}{_JOIN}{' '.join(pieces[start:stop])}"]
            start = stop
        return words

    def _tokenize(self, text: str) -> Words:
        return tuple(map(self._change, self._tokenizer.tokenize(text)))

    def _plain_within(self, piece: str) -> Words | None:
        return self._plain(_PLAIN.fullmatch(piece))

    def _plain_at_the_end(self, piece: str) -> Words | None:
        return self._plain(_PLAIN_AT_THE_END.fullmatch(piece))

    def _plain(self, parts: re.Match[str] | None) -> Words | None:
        if parts is None or _CONTRACTION.search(parts[1]):
            return None
        return tuple(self._change(part) for part in parts.groups() if part)

    def _run(self, key: str) -> Words:
        sides, run = key.split(_JOIN, 1)
        if "<" in sides:
            run = f"{_NEIGHBOUR} {run}"
        if ">" in sides:
            run = f"{run} {_NEIGHBOUR}"
        words = self._tokenize(run)
        return words["<" in sides : len(words) - (">" in sides)]


def word_tokenizer() -> Callable[[str], list[str]]:
    """The function text -> words of NLTK 3.8.1's `word_tokenize`. Raises `MissingExtraError` without Punkt's data."""
    return WordTokenizer()
