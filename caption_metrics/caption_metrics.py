"""The score card as a module of Hugging Face `evaluate`.

    evaluate.load("path/to/caption_metrics")                           # with lp-musiccaps[metrics] installed
    evaluate.load("org/caption_metrics")                               # from a Space that `lpmc push-metric` made
    from caption_metrics.caption_metrics import CaptionMetrics         # by import

`evaluate` copies this one file elsewhere before it runs it, so that it needs the installed package beside it. The Space
holds a copy of every module it takes (space.py) and needs no package of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import datasets
import evaluate

from caption_metrics.pair_files import kind_of  # From: lp-musiccaps[metrics]
from caption_metrics.pairs import Pair, joined_cell, tags_of  # From: lp-musiccaps[metrics]
from caption_metrics.score import evaluate_captions  # From: lp-musiccaps[metrics]
from lpmc_errors import TableError  # From: lp-musiccaps[metrics]

_DESCRIPTION = """
Scores music captions as LP-MusicCaps (ISMIR 2023) does - BLEU-1 to 4, METEOR, ROUGE-L, length, vocabulary, novelty -
to the digit, adds the precision and recall of musical facts, and prints beside each score what captions get that were
made without hearing the music.
"""

_INPUTS = """
Args:
    predictions (list of str): one caption a clip.
    references (list of str or of list of str, also mixed): what people wrote about the same clip, one text or several.
    training_captions (list of str, optional): adds `vocab_novelty` and `caption_novelty`, and the blind constant.
    tags (list of list of str, optional): the tags of each clip, in the order of the captions; adds `tag_coverage` and
        the blind row `majority_template`.
    columns (dict of list of str, optional): what else is known of each clip, by name, for `slice_by=["genre"]` or
        `clap_model=..., audio_column="path"`.
    bertscore_model (str, optional): a model folder or name; adds `bertscore`.
    similarity_model (str, optional): a sentence-embedding model; adds the similarity of meaning.
    blind (bool): also score blind captions, and say which scores beat them (default True).
    intervals (bool): 95 % intervals from a bootstrap of the captions (default True).
    samples (int), seed (int): of that bootstrap.
    Other options are those of `caption_metrics.evaluate_captions`.
Returns:
    dict: bleu1, bleu2, bleu3, bleu4, meteor, rougeL, length_avg, length_std, vocab_size, vocab_size_released, facts_*,
    `signature` (how each was computed), `n`, `notes` (why a score is None), `intervals`, `blind` and `beats_blind`.
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
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
            reference_urls=["https://arxiv.org/abs/2307.16372"],
            license="Apache-2.0",
        )

    def add(self, *, prediction: str | None = None, reference: Any = None, **kwargs: Any) -> None:
        """Add one caption with its reference, or with a list of them. Raises `TableError`."""
        said, meant = _checked([prediction], [reference])
        super().add(prediction=said[0], reference=meant[0], **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add captions with the references of each: one text, or a list of texts. Raises `TableError`."""
        said, meant = _checked(predictions, references)
        super().add_batch(predictions=said, references=meant, **kwargs)

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        training_captions: list[str] | None = None,
        tags: list[list[str]] | None = None,
        columns: dict[str, list[str]] | None = None,
        bertscore_model: str | None = None,
        similarity_model: str | None = None,
        blind: bool = True,
        intervals: bool = True,
        samples: int = 1000,
        seed: int = 0,
        **options: Any,
    ) -> dict[str, Any]:
        cells = columns or {}
        for what, given in {"tags": predictions if tags is None else tags, **cells}.items():
            if len(given) != len(predictions):
                raise TableError(what, f"{len(given)} for {len(predictions)} captions", "give one a caption, in order")
        pairs = (
            Pair(
                prediction,
                tuple(references[number - 1]),
                _tags(number, tags[number - 1]) if tags is not None else (),
                extra={name: text for name, values in cells.items() if (text := joined_cell(values[number - 1]))},
            )
            for number, prediction in enumerate(predictions, start=1)
        )
        card = evaluate_captions(
            pairs,
            training_captions=None if training_captions is None else _texts("training_captions", training_captions),
            bertscore_model=bertscore_model,
            similarity_model=similarity_model,
            blind=blind,
            intervals=intervals,
            samples=samples,
            seed=seed,
            **options,
        )
        return card.to_dict()


def _checked(predictions: Any, references: Any) -> tuple[list[str], list[list[str]]]:
    """Captions and their references in one form, so that batches with one reference and with several mix.

    `evaluate` itself looks at the first caption of a batch only, and makes text of whatever the others are.
    """
    said = _texts("predictions", predictions)
    meant = [_listed(number, entry) for number, entry in enumerate(_entries("references", references), start=1)]
    if len(said) != len(meant):
        raise TableError("predictions", f"{len(said)} beside {len(meant)} references", "give one of each a clip")
    return said, meant


def _entries(what: str, given: Any) -> list[Any]:
    """The entries of anything that has them in an order; a set has none, and of a dictionary they would be the keys."""
    if isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Iterable):
        raise TableError(what, f"is {kind_of(given)}, expected a list", "give one entry a clip")
    return given.to_pylist() if hasattr(given, "to_pylist") else list(given)  # Arrow's own values are no texts


def _texts(what: str, given: Any) -> list[str]:
    texts = _entries(what, given)
    for number, text in enumerate(texts, start=1):
        if not _is_whole(text):
            raise TableError(
                f"{what}, entry {number}",
                f"is {_kind(text)}, expected a text",
                "give an empty text where a system gave no caption",
            )
    return texts


def _listed(number: int, entry: Any) -> list[str]:
    texts = [entry] if isinstance(entry, str) or not isinstance(entry, Iterable) else list(entry)
    wrong = next((_kind(text) for text in texts if not _is_whole(text)), "")
    kept = [] if wrong else [text for text in texts if text.strip()]
    if not kept:
        raise TableError(
            f"references, entry {number}",
            f"holds {wrong or 'no text'}, expected a text or a list of texts",
            "leave clips without a reference out",
        )
    return kept


def _tags(number: int, entry: Any) -> tuple[str, ...]:
    if isinstance(entry, str | None):
        return tags_of({"tags": entry})  # "piano, sad" as in a file
    return tuple(map(str, _entries(f"tags, entry {number}", sorted(entry) if isinstance(entry, Set) else entry)))


def _is_whole(text: Any) -> bool:
    """Whether this is a text that can be written as UTF-8, as `evaluate` will."""
    return isinstance(text, str) and (text.isascii() or text == text.encode("utf-8", "ignore").decode("utf-8"))


def _kind(value: Any) -> str:
    return "a text with half of a character (a lone surrogate)" if isinstance(value, str) else kind_of(value)
