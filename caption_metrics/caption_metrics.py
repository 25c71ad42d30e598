"""The score card as a module of Hugging Face `evaluate`: `evaluate.load("path/to/caption_metrics")`.

It needs the package `lp-musiccaps[metrics]`: `evaluate` copies this one file elsewhere before it runs it.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from caption_metrics.pairs import Pair  # From: lp-musiccaps[metrics]
from caption_metrics.score import evaluate_captions  # From: lp-musiccaps[metrics]

_DESCRIPTION = """
Scores music captions as LP-MusicCaps (ISMIR 2023) does - BLEU-1 to 4, METEOR, ROUGE-L, length, vocabulary, novelty -
to the digit, adds the precision and recall of musical facts, and prints beside each score what captions get that were
made without hearing the music.
"""

_INPUTS = """
Args:
    predictions (list of str): one caption a clip.
    references (list of str, or list of list of str): what people wrote about the same clip.
    training_captions (list of str, optional): adds `vocab_novelty` and `caption_novelty`, and the blind constant.
    bertscore_model (str, optional): a local model folder; adds `bertscore`.
    blind (bool): also score blind captions (default True; triples the time).
Returns:
    dict: bleu1, bleu2, bleu3, bleu4, meteor, rougeL, length_avg, length_std, vocab_size, vocab_size_released, facts_*,
    `signature` (how each was computed), `n`, `notes` (why a score is None) and `blind`.
"""

_CITATION = """
@inproceedings{doh2023lpmusiccaps,
  title={LP-MusicCaps: LLM-Based Pseudo Music Captioning},
  author={Doh, SeungHeon and Choi, Keunwoo and Lee, Jongpil and Nam, Juhan},
  booktitle={International Society for Music Information Retrieval Conference (ISMIR)},
  year={2023}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class CaptionMetrics(evaluate.Metric):
    """Music-caption metrics with blind baselines."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
            reference_urls=["https://arxiv.org/abs/2307.16372"],
            license="Apache-2.0",
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str] | list[list[str]],
        training_captions: list[str] | None = None,
        bertscore_model: str | None = None,
        blind: bool = True,
    ) -> dict[str, Any]:
        pairs = [
            Pair(prediction, (texts,) if isinstance(texts, str) else tuple(texts))
            for prediction, texts in zip(predictions, references, strict=True)
        ]
        card = evaluate_captions(
            pairs, training_captions=training_captions, bertscore_model=bertscore_model, blind=blind
        )
        return card.to_dict()
