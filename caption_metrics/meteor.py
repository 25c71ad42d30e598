"""METEOR as published: NLTK's (not the Java METEOR 1.5, whose values are lower by a third), on NLTK 3.8.1's words.

NLTK changed three tokenizer rules after 3.8.1, the version of the released code; the scorer gives equal values from
3.6.5 to 3.10. The rules are derived from the installed ones, so that every version gives the published value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from nltk.stem import PorterStemmer
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.translate.meteor_score import single_meteor_score

from caption_metrics.language_data import WORDNET_VERSION, load_sentence_splitter, load_wordnet

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5  # METEOR 1.0, and the defaults of Hugging Face's `meteor`
TOKENIZER_VERSION = "3.8.1"
SIGNATURE = f"nltk|tok:nltk-{TOKENIZER_VERSION}|wordnet:{WORDNET_VERSION}|alpha:{ALPHA}|beta:{BETA:g}|gamma:{GAMMA}"

_DASHES = r"[\u2012-\u2015]"
_WHITE_SPACE = r"\s+"
# 3.8.1 splits an apostrophe from a single word character wherever it stands ("rock'n" but not "rock'nroll"),
# unless a clitic follows; later versions only where no word character stands before it.
_OPENING_APOSTROPHE = re.compile(r"(?i)(\')(?!re|ve|ll|m|t|s|d|n)(\w)\b", re.UNICODE)

Rules = list[tuple[Any, str]]


def _without(rules: Rules, pattern: str) -> Rules:
    return [(regex, replacement) for regex, replacement in rules if regex.pattern != pattern]


class _Tokenizer381(NLTKWordTokenizer):
    """NLTK's word tokenizer with the three rules that changed after 3.8.1 put back."""

    PUNCTUATION = _without(NLTKWordTokenizer.PUNCTUATION, _DASHES)
    ENDING_QUOTES = _without(NLTKWordTokenizer.ENDING_QUOTES, _WHITE_SPACE)
    STARTING_QUOTES = [*NLTKWordTokenizer.STARTING_QUOTES[:-1], (_OPENING_APOSTROPHE, r"\1 \2")]


class _CachedWordNet:
    """The one look-up that METEOR makes, remembered: captions share their words."""

    def __init__(self) -> None:
        self.synsets = lru_cache(maxsize=None)(load_wordnet().synsets)


class _CachedStemmer:
    def __init__(self) -> None:
        self.stem = lru_cache(maxsize=None)(PorterStemmer().stem)


def word_tokenizer() -> Callable[[str], list[str]]:
    """The function text -> words of NLTK 3.8.1's `word_tokenize`. Raises `MissingExtraError` without Punkt's data."""
    splitter, tokenizer = load_sentence_splitter(), _Tokenizer381()

    def words(text: str) -> list[str]:
        return [word for sentence in splitter.tokenize(text) for word in tokenizer.tokenize(sentence)]

    return words


def meteor_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], progress: Callable[[], None] | None = None
) -> list[float]:
    """METEOR of each prediction, the best of its references, in [0, 1]; the corpus value is their mean.

    `progress` is called after each pair. Raises `MissingExtraError` when WordNet or Punkt's data is not installed.
    """
    words = lru_cache(maxsize=None)(word_tokenizer())
    wordnet, stemmer = _CachedWordNet(), _CachedStemmer()
    scores: list[float] = []
    for prediction, texts in zip(predictions, references, strict=True):
        said = words(prediction)
        scores.append(
            max(
                single_meteor_score(
                    words(text), said, stemmer=stemmer, wordnet=wordnet, alpha=ALPHA, beta=BETA, gamma=GAMMA
                )
                for text in texts
            )
        )
        if progress is not None:
            progress()
    return scores
