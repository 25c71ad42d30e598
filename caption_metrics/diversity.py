"""Lengths, vocabulary and novelty of captions, as the released metric code counts them and over all rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from caption_metrics.pieces import vocabulary_word

# The released code walks predictions zipped with the training captions of MusicCaps and so stops at their number:
# 5,521 - 26 unavailable = 5,495 clips, less 2,839 for evaluation.
RELEASED_ROWS = 2_656

LENGTH_SIGNATURE = "words:whitespace|std:population"
_WORDS = "lower|remove:,.|split:whitespace"
VOCABULARY_SIGNATURE = f"{_WORDS}|rows:all"
VOCABULARY_RELEASED_SIGNATURE = f"{_WORDS}|rows:first-{RELEASED_ROWS}"
VOCABULARY_ZIPPED_SIGNATURE = f"{_WORDS}|rows:zipped-with-training"  # the released code, whatever the number
CAPTION_SIGNATURE = "text:as-is|rows:different"

DIGEST_BYTES = 16  # two captions of a million share one with a chance of 1e-27


def lengths(captions: Sequence[str]) -> tuple[float, float]:
    """Mean and population standard deviation of the number of words, split at white space; NaN without captions."""
    return mean_and_deviation(np.array([len(caption.split()) for caption in captions], np.int64))


def mean_and_deviation(counts: NDArray[np.integer]) -> tuple[float, float]:
    """numpy's mean and population standard deviation, to whose last bit the published lengths are."""
    if not len(counts):
        return float("nan"), float("nan")
    return float(np.mean(counts)), float(np.std(counts))


def words(caption: str) -> list[str]:
    """The words of the vocabulary: lower case, commas and full stops deleted, split at white space."""
    return [word for word in map(vocabulary_word, caption.split()) if word]


def vocabulary(captions: Iterable[str]) -> set[str]:
    """The different words: lower case, commas and full stops deleted, split at white space; "rock'n'roll!" is one."""
    return {word for caption in captions for word in words(caption)}


def vocabulary_novelty(captions: Iterable[str], training_captions: Iterable[str]) -> float:
    """Share of the captions' vocabulary that no training caption has (the paper's Novel_v), over all rows."""
    return share(vocabulary(captions), vocabulary(training_captions))


def vocabulary_novelty_released(captions: Sequence[str], training_captions: Sequence[str]) -> float:
    """The same as the released code has it: of both, only as many rows as the shorter one has."""
    rows = min(len(captions), len(training_captions))
    return vocabulary_novelty(islice(captions, rows), islice(training_captions, rows))


def caption_novelty(captions: Iterable[str], training_captions: Iterable[str]) -> float:
    """Share of the different captions that are no training caption (the paper's Novel_c)."""
    return share(set(captions), set(training_captions))


def share(own: set[str], known: set[str]) -> float:
    """The part of `own` that is not in `known`; 0 when there is nothing."""
    return len(own - known) / len(own) if own else 0.0


class CaptionSet:
    """Different captions of any number, 16 bytes each: their digests, sorted out when somebody asks."""

    def __init__(self, captions: Iterable[str] = ()) -> None:
        self._digests = bytearray()
        self._sorted: NDArray[np.void] | None = None
        for caption in captions:
            self.add(caption)

    def add(self, caption: str) -> None:
        """Remember a caption."""
        self._digests += blake2b(caption.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()
        self._sorted = None

    def __len__(self) -> int:
        return len(self._different())

    def novelty(self, known: CaptionSet) -> float:
        """Share of the different captions that are not in `known`; 0 when there are none."""
        own = self._different()
        if not len(own):
            return 0.0
        return 1 - len(np.intersect1d(own, known._different(), assume_unique=True)) / len(own)

    def _different(self) -> NDArray[np.void]:
        if self._sorted is None:
            # As pairs of numbers, which numpy can order. A copy: an array on the bytes would forbid them to grow.
            halves = np.frombuffer(bytes(self._digests), dtype="<u8").reshape(-1, 2)
            self._sorted = np.unique(halves.view("<u8,<u8").ravel())
        return self._sorted


class TrainingCaptions:
    """What novelty needs of training captions: each word's first row, and digests of the captions."""

    def __init__(self, captions: Iterable[str]) -> None:
        self.first_row: dict[str, int] = {}
        self.captions = CaptionSet()
        self.rows = 0
        for row, caption in enumerate(captions):
            self.rows = row + 1
            self.captions.add(caption)
            for word in words(caption):
                self.first_row.setdefault(word, row)

    def novel_share(self, own: set[str], rows: int | None = None) -> float:
        """Share of the words `own` that no training caption has, or none of the first `rows`; 0 when there are none."""
        known = self.first_row
        if rows is None:
            new = sum(word not in known for word in own)
        else:
            new = sum(known.get(word, rows) >= rows for word in own)
        return new / len(own) if own else 0.0
