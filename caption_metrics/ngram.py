"""BLEU-1 to 4 and ROUGE-L as the paper's Table 2 and 4 have them. All values are fractions in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sacrebleu
from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU

BLEU_ORDERS = (1, 2, 3, 4)
ROUGE_L_SIGNATURE = "rouge_score|rougeL|stemmer:no|stat:fmeasure|agg:mean"


def bleu_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Corpus BLEU-1, -2, -3 and -4: 13a tokens of the raw text, no smoothing, uniform weights over orders 1..k.

    Captions may differ in the number of their references. Bit-exact with the published `bleu1` ... `bleu4`.
    """
    counted = _bleu(BLEU_ORDERS[-1], references).corpus_score(list(predictions), None)
    scores = [
        BLEU.compute_bleu(
            correct=counted.counts[:order],
            total=counted.totals[:order],
            sys_len=counted.sys_len,
            ref_len=counted.ref_len,
            smooth_method="none",
            effective_order=False,
            max_ngram_order=order,
        ).score
        / 100
        for order in BLEU_ORDERS
    ]
    return [min(1.0, score) for score in scores]  # a perfect match gives 1 + 4e-16


def best_by_bleu1(candidates: Iterable[str], references: Sequence[Sequence[str]]) -> str:
    """The candidate that, given to every clip, has the highest corpus BLEU-1."""
    metric = _bleu(1, references)
    return max(candidates, key=lambda caption: metric.corpus_score([caption] * len(references), None).score)


def _bleu(order: int, references: Sequence[Sequence[str]]) -> BLEU:
    columns = max(map(len, references))
    # A row with fewer references than another has None in the columns beyond, which sacrebleu leaves out.
    streams: Any = [
        [texts[column] if column < len(texts) else None for texts in references] for column in range(columns)
    ]
    return BLEU(max_ngram_order=order, tokenize="13a", smooth_method="none", effective_order=False, references=streams)


def bleu_signature(references: Sequence[Sequence[str]]) -> str:
    """sacrebleu's own signature, with the number of references (`var` when it varies)."""
    counts = {len(texts) for texts in references}
    number = str(counts.pop()) if len(counts) == 1 else "var"
    return f"nrefs:{number}|case:mixed|eff:no|tok:13a|smooth:none|version:{sacrebleu.__version__}"


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L F-measure without stemming, of the best reference of each prediction.

    The published value is the median of an unseeded bootstrap of 1000 samples, which scatters by about 1e-4 around it.
    """
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_CachedTokenizer())
    return float(
        np.mean(
            [
                scorer.score_multi(list(texts), prediction)["rougeL"].fmeasure
                for prediction, texts in zip(predictions, references, strict=True)
            ]
        )
    )


class _CachedTokenizer(DefaultTokenizer):
    """rouge_score's tokenizer; a constant caption is split once and not once a clip."""

    def __init__(self) -> None:
        super().__init__(use_stemmer=False)
        self._words: dict[str, list[str]] = {}

    def tokenize(self, text: str) -> list[str]:
        if text not in self._words:
            self._words[text] = super().tokenize(text)
        return self._words[text]
