"""The scores of a run's captions, beside those of captions that were made without listening."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lpmc_errors import MissingExtraError

if TYPE_CHECKING:
    from caption_metrics.score import ScoreCard

EXTRA = "metrics"
FOLLOWED = ("facts_f1", "bleu1", "bleu4", "meteor", "rougeL")  # in the trainer's log; metrics.jsonl holds all
# What the record and the card of a run tell: the paper's scores, and facts.
TOLD = (
    *("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rougeL"),
    *("facts_f1", "facts_precision", "facts_recall", "facts_hallucination_rate"),
)


def check_scores(needed: bool = False) -> bool:
    """Whether captions can be scored here. Raises `MissingExtraError` where they cannot and are `needed`."""
    try:
        import nltk  # noqa: F401
        import rouge_score  # noqa: F401
        import sacrebleu  # noqa: F401
        import scipy  # noqa: F401
    except ModuleNotFoundError as error:
        if needed:
            raise MissingExtraError(error.name or "a package", extra=EXTRA) from error
        return False
    return True


def scores_of(
    captions: Sequence[str], references: Sequence[str], training_captions: Sequence[str], *, intervals: bool
) -> ScoreCard:
    """The card of captions, each against one reference, with blind rows that know the training captions.

    A caption without words is scored as one; `intervals` bootstraps 95 % intervals.
    """
    from caption_metrics import Pair, evaluate_captions

    pairs = [Pair(caption, (reference,)) for caption, reference in zip(captions, references, strict=True)]
    return evaluate_captions(pairs, training_captions=training_captions or None, intervals=intervals)


def score_values(card: ScoreCard) -> dict[str, Any]:
    """`{"scores": {name: value}, "blind": {row: {name: value}}}` of a card, JSON's types, without undefined ones."""
    return {
        "scores": _defined(card.scores),
        "blind": {row: _defined(scores) for row, scores in card.blind.items()},
    }


def curve_points(card: ScoreCard) -> dict[str, float]:
    """The followed scores by name, and as `NAME_blind` that of the blind row which does best."""
    points: dict[str, float] = {}
    for name in FOLLOWED:
        value = card.scores.get(name)
        if value is None:
            continue
        points[name] = float(value)
        blind = [float(found) for row in card.blind.values() if (found := row.get(name)) is not None]
        if blind:
            points[f"{name}_blind"] = max(blind)
    return points


def told_results(card: ScoreCard, dataset: str, split: str) -> dict[str, Any]:
    """What `training.json` keeps of a card: `TOLD` at its top, their intervals, blind rows and signatures below.

    In the form of `lpmc evaluate --json`, so that a model card is rendered from either.
    """
    whole = card.to_dict()
    told = [name for name in TOLD if whole.get(name) is not None]

    def of(values: dict[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in told if values.get(name) is not None}

    return {
        **of(whole),
        "n": card.n,
        "dataset": dataset,
        "split": split,
        "signature": {name: text for name, text in whole["signature"].items() if name in (*told, "intervals", "blind")},
        "intervals": of(whole["intervals"]),
        "blind": {row: {**of(values), "intervals": of(values["intervals"])} for row, values in whole["blind"].items()},
        "beats_all_blind": {name: beaten for name, beaten in whole["beats_all_blind"].items() if name in told},
        "notes": whole["notes"],
    }


def _defined(scores: Any) -> dict[str, float | int]:
    return {name: value for name, value in scores.items() if value is not None and math.isfinite(value)}
