"""Lengths, vocabulary and novelty of captions, as the released metric code counts them and over all rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

# The released code walks predictions zipped with the training captions of MusicCaps and so stops at their number:
# 5,521 - 26 unavailable = 5,495 clips, less 2,839 for evaluation.
RELEASED_ROWS = 2_656

LENGTH_SIGNATURE = "words:whitespace|std:population"
VOCABULARY_SIGNATURE = "lower|remove:,.|split:whitespace|rows:all"
VOCABULARY_RELEASED_SIGNATURE = f"lower|remove:,.|split:whitespace|rows:first-{RELEASED_ROWS}"


def lengths(captions: Sequence[str]) -> tuple[float, float]:
    """Mean and population standard deviation of the number of words, split at white space."""
    counts = [len(caption.split()) for caption in captions]
    return float(np.mean(counts)), float(np.std(counts))


def vocabulary(captions: Iterable[str]) -> set[str]:
    """The different words: lower case, commas and full stops deleted, split at white space; "rock'n'roll!" is one."""
    return {word for caption in captions for word in caption.lower().replace(",", "").replace(".", "").split()}


def vocabulary_novelty(captions: Iterable[str], training_captions: Iterable[str]) -> float:
    """Share of the captions' vocabulary that no training caption has (the paper's Novel_v), over all rows."""
    words = vocabulary(captions)
    return len(words - vocabulary(training_captions)) / len(words) if words else 0.0


def caption_novelty(captions: Iterable[str], training_captions: Iterable[str]) -> float:
    """Share of the different captions that are no training caption (the paper's Novel_c)."""
    different = set(captions)
    return len(different - set(training_captions)) / len(different) if different else 0.0
