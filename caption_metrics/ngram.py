"""BLEU-1 to 4 and ROUGE-L as the paper's Table 2 and 4 have them. All values are fractions in [0, 1].

BLEU's published values come from the `bleu` of Hugging Face `evaluate`, whose arithmetic is followed step by step:
sacrebleu counts the same n-grams, but its percentages differ in the last bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from caption_metrics.pieces import SACREBLEU_VERSION, Pieces

BLEU_ORDERS = (1, 2, 3, 4)
HIGHEST_ORDER = BLEU_ORDERS[-1]
BLEU_SIGNATURE = f"nrefs:{{nrefs}}|case:mixed|eff:no|tok:13a|smooth:none|reflen:closest|version:{SACREBLEU_VERSION}"
ROUGE_L_SIGNATURE = "tok:rouge_score-0.1.2|stemmer:no|lcs|stat:fmeasure|refs:best|agg:mean"

Matches = tuple[int, int, int, int]  # clipped n-gram matches of order 1 to 4


def bleu_matches(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> Matches:
    """N-grams of the prediction that a reference has, order 1 to 4; each counts at most as often as the reference
    that has it most often."""
    counts, known = Counter(prediction), Counter(references[0])
    for reference in references[1:]:
        known |= Counter(reference)
    matches = [sum(min(counts[word], known[word]) for word in counts.keys() & known.keys()), 0, 0, 0]
    for order in BLEU_ORDERS[1:]:
        if not matches[order - 2]:
            break  # no longer n-gram can match
        matches[order - 1] = _matching_ngrams(prediction, references, order)
    return matches[0], matches[1], matches[2], matches[3]


def _matching_ngrams(prediction: Sequence[str], references: Sequence[Sequence[str]], order: int) -> int:
    own, others = list(_ngrams(prediction, order)), [list(_ngrams(reference, order)) for reference in references]
    if len(others) == 1:
        for once, other in ((own, others[0]), (others[0], own)):
            different = set(once)
            if len(different) == len(once):  # repeats none, as most do: each counts once or not at all
                return len(different.intersection(other))
    counts, known = Counter(own), Counter(others[0])
    for other in others[1:]:
        known |= Counter(other)
    return sum(min(counts[ngram], known[ngram]) for ngram in counts.keys() & known.keys())


def _ngrams(tokens: Sequence[str], order: int) -> Iterable[tuple[str, ...]]:
    return zip(*(tokens[start:] for start in range(order)), strict=False)


def closest_length(length: int, references: Iterable[int]) -> int:
    """The reference length that is closest to `length`, the shorter of two as close (sacrebleu's choice).

    Hugging Face's `bleu` takes the shortest reference instead; with one reference, as published, they are the same.
    """
    return min(references, key=lambda other: (abs(other - length), other))


def corpus_bleu(matches: Sequence[float], totals: Sequence[float], length: float, reference_length: float) -> float:
    """BLEU of order k from the sums over a corpus: k clipped matches, k n-grams of the predictions, both lengths.

    No smoothing: 0 where an order has no match.
    """
    order = len(matches)
    if min(matches) <= 0 or length <= 0:
        return 0.0
    # Hugging Face's order of operations, on which the last bit of the published values depends.
    mean = math.exp(sum((1.0 / order) * math.log(match / total) for match, total in zip(matches, totals, strict=True)))
    longer = length / reference_length
    return mean * (1.0 if longer > 1.0 else math.exp(1 - 1.0 / longer))


def bleu_from_sums(*sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """`corpus_bleu` for arrays of sums of any one shape: k matches, k totals, length, reference length."""
    order = len(sums) // 2 - 1
    flat = np.stack([np.asarray(values, float).ravel() for values in sums], axis=1).tolist()
    # numpy's log and exp differ from the C library's in the last bit on some processors: one resample after the other.
    scores = [corpus_bleu(row[:order], row[order : 2 * order], row[-2], row[-1]) for row in flat]
    return np.array(scores).reshape(np.shape(sums[0]))


def nrefs(counts: Iterable[int]) -> str:
    """sacrebleu's word for the numbers of references that captions had: the number, or `var` when it varies."""
    different = set(counts)
    return "var" if len(different) > 1 else str(*different or [0])


def bleu_signature(references: Iterable[Sequence[str]]) -> str:
    """How a BLEU on these references is made, in sacrebleu's words."""
    return BLEU_SIGNATURE.format(nrefs=nrefs(map(len, references)))


def bleu_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Corpus BLEU-1, -2, -3 and -4: 13a tokens of the raw text, no smoothing, uniform weights over orders 1..k.

    Captions may differ in the number of their references. Equal to the published `bleu1` ... `bleu4` to the last bit.
    """
    pieces = Pieces()
    sums = np.zeros(2 * HIGHEST_ORDER + 1)
    for prediction, texts in zip(predictions, references, strict=True):
        sums += bleu_row(pieces.split(prediction).bleu, [pieces.split(text).bleu for text in texts])
    matches, totals, reference_length = sums[:HIGHEST_ORDER], sums[HIGHEST_ORDER:-1], sums[-1]
    return [
        corpus_bleu(matches[:order].tolist(), totals[:order].tolist(), totals[0], float(reference_length))
        for order in BLEU_ORDERS
    ]


def bleu_row(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """What BLEU keeps of one caption: 4 matches, 4 numbers of n-grams, and the length of the closest reference."""
    length = len(prediction)
    totals = (length, max(0, length - 1), max(0, length - 2), max(0, length - 3))
    nearest = len(references[0]) if len(references) == 1 else closest_length(length, map(len, references))
    return (*bleu_matches(prediction, references), *totals, nearest)


def best_by_bleu1(candidates: Iterable[str], references: Sequence[Sequence[str]]) -> str:
    """The candidate that, given to every clip, has the highest corpus BLEU-1."""
    pieces = Pieces()
    split = [[pieces.split(text).bleu for text in texts] for texts in references]
    known = [Counter(texts[0]) for texts in split]
    for counts, texts in zip(known, split, strict=True):
        for text in texts[1:]:
            counts |= Counter(text)

    def bleu1(candidate: str) -> float:
        tokens = pieces.split(candidate).bleu
        words, length = Counter(tokens), len(tokens)
        matches = sum(min(count, known_[word]) for known_ in known for word, count in words.items())
        nearest = sum(closest_length(length, map(len, texts)) for texts in split)
        return corpus_bleu([matches], [length * len(split)], length * len(split), nearest)

    return max(candidates, key=bleu1)


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L F-measure without stemming, of the best reference of each prediction.

    The published value is the median of an unseeded bootstrap of 1000 samples, which scatters by about 1e-4 around it.
    """
    pieces = Pieces()
    scores = [
        best_rouge_l(pieces.split(prediction).rouge, [pieces.split(text).rouge for text in texts])
        for prediction, texts in zip(predictions, references, strict=True)
    ]
    return float(np.mean(scores))


def best_rouge_l(prediction: Sequence[str], references: Iterable[Sequence[str]]) -> float:
    """ROUGE-L F-measure of one prediction with the reference that gives the most."""
    best = 0.0
    for reference in references:
        common = longest_common_subsequence(prediction, reference)
        if common:
            precision, recall = common / len(prediction), common / len(reference)
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest sequence of tokens that both have in this order, gaps allowed.

    Bit-parallel: one column of the table is one integer, so a token costs four operations on integers instead of one
    loop over the other text (Crochemore et al., "A fast and practical bit-vector algorithm for the longest common
    subsequence problem", 2001).
    """
    places: dict[str, int] = {}
    bit = 1
    for token in second:
        places[token] = places.get(token, 0) | bit
        bit <<= 1
    every = bit - 1
    column = every  # a 0 where the subsequence grows
    for token in first:
        if token in places:
            same = column & places[token]
            column = ((column + same) | (column - same)) & every
    return len(second) - column.bit_count()
