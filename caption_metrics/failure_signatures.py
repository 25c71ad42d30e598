"""Warnings with names: what experienced readers of captioning results look for before they believe a score.

Each has a threshold with its source. Where people do the same, the references of the test set are the measure: a rate
is suspicious when it exceeds theirs clearly. Thresholds were set on the published captions of the paper's Table 2, on
the human captions of MusicCaps (evaluation split) and on blind captions; `tests/caption_metrics` holds which fire on
which, and that none fires on human captions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Protocol

from caption_metrics.caption_survey import (
    RUN_WORDS,
    VARIETY_BIGRAMS,
    CaptionSurvey,
    survey_captions,
    training_copies,
)

FEWEST = 30  # captions; below this a rate says little, and only what is wrong in a single caption is named

# Paper, Table 4: the zero-shot LP-MusicCaps model has BLEU-1 19.77; the lowest BERTScore of the table is 79.30, that of
# tag lists with BLEU-1 4.33. So 0.75 lies below all that was published, and above the "near 0.7" that readers name.
HIGH_BLEU1, LOW_BERTSCORE = 0.1977, 0.75
# Table 2's captions: facts are right to 0.53 with the instruction that asks for invented attributes, to 0.66 with
# `writing`; the first is more varied than the human captions.
LOW_FACT_PRECISION = 0.60
# Table 4: from zero-shot to transfer +9.3 BLEU-1, +9.5 METEOR, +8.5 ROUGE-L; all transfer rows lie within 1.1 BLEU-1.
TRANSFER_GAP = 0.05
# Table 4: 31 % of the supervised model's different captions are training captions, 4 % of the transfer model's. Of
# 1,419 human captions of MusicCaps none equals one of 1,420 others; 0.14 % share a run of `RUN_WORDS` words with one.
COPIED = 0.01
# Of the human captions of MusicCaps' evaluation split 18.7 % begin "The low quality recording", about a third comment
# on quality or give advice for use; a system exceeds its references when it does so ten points more often.
TICK_EXCESS = 0.10
# The most frequent opener: 18.6 % of the human captions, 21.2 % of K2C, 7.6 % of `writing`.
OPENER_SHARE = 0.30
# No human caption, no `writing` caption and 0.14 % of K2C's are repeated.
REPEATED_SHARE = 0.05
TEMPLATE_SHARE = 0.10  # the most frequent template: 0.04 % of the human captions, 0.5 % of K2C
# Different word pairs beside those of the references: K2C has 0.91 of theirs, a shuffle all of them, a constant 0.01.
LOW_VARIETY = 0.50
NAMED_EXCESS = 0.02  # 0.04 % of the human captions name an artist or a title, 0.1 % of `writing`, 7 % of K2C
# A caption that no one can use is no matter of style: 1 in 1,000 may happen. 8.7 % of the published attribute
# predictions are dictionaries that were not parsed.
UNUSABLE = 0.001
FOREIGN_EXCESS = 0.01  # none of the human captions

# Standard errors by which a rate must lie above its limit, so that chance does not warn: one-sided 99 %, as a report
# asks about ten rates. With 95 %, 4 of 60 draws of 30 to 700 human captions were warned about.
_CLEARLY = 2.326


class Scored(Protocol):
    """A score card: scores by name in [0, 1], their signatures, and the scores of blind captions."""

    @property
    def scores(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class CaptionWarning:
    """A named warning: what was measured, the threshold that it crossed, what it means, and captions that show it."""

    name: str
    value: float
    threshold: float
    message: str
    examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The warning as JSON data."""
        return asdict(self)


def find_warnings(
    card: Scored,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    training_captions: Iterable[str] | None = None,
    systems: Mapping[str, Scored] | None = None,
) -> list[CaptionWarning]:
    """The warnings that a system's scores and captions deserve, in the order of the list in this file.

    `references` are those of each prediction; `training_captions` adds copies and is read once; `systems`, score cards
    by name, adds the gap between a zero-shot and a transfer system where two are named so. Nothing is random. One pass
    over the captions, about 0.3 ms each. Raises `ValueError` when predictions and references differ in number.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions beside {len(references)} references")
    human = survey_captions(text for texts in references for text in texts)
    most_pairs = min(VARIETY_BIGRAMS, human.pairs_read)
    said = survey_captions(predictions, most_pairs=most_pairs)
    warnings = list(_of_scores(card, said, human))
    if systems:
        warnings += _transfer_gap(systems)
    if training_captions is not None:
        warnings += _copies(predictions, training_captions)
    warnings += _ticks(said, human)
    warnings += _collapse(said, human)
    warnings += _unusable(said, human)
    return warnings


# --- scores that do not fit together --------------------------------------------------------------------------------


def _of_scores(card: Scored, said: CaptionSurvey, human: CaptionSurvey) -> Iterator[CaptionWarning]:
    scores = card.scores
    bleu1, bertscore, precision = (_score(scores, name) for name in ("bleu1", "bertscore", "facts_precision"))
    if bleu1 is not None and bertscore is not None and bleu1 >= HIGH_BLEU1:
        if _is_roberta_large(card):
            if bertscore <= LOW_BERTSCORE:
                yield CaptionWarning(
                    "ngrams_without_meaning",
                    bertscore,
                    LOW_BERTSCORE,
                    f"BLEU-1 is {100 * bleu1:.1f} and BERTScore only {100 * bertscore:.1f}: the words match, the "
                    "meaning does not",
                )
        else:
            blind = [_score(row, "bertscore") for row in _blind(card).values()]
            best = max((value for value in blind if value is not None), default=None)
            if best is not None and bertscore <= best:
                yield CaptionWarning(
                    "ngrams_without_meaning",
                    bertscore,
                    best,
                    f"BLEU-1 is {100 * bleu1:.1f}, but captions made without the music reach as high a BERTScore: "
                    "the words match, the meaning does not",
                )
    if precision is not None and precision < LOW_FACT_PRECISION and _as_varied(said, human):
        yield CaptionWarning(
            "varied_but_wrong",
            precision,
            LOW_FACT_PRECISION,
            f"the wording is as varied as people's ({said.variety:.2f} different word pairs, theirs "
            f"{human.variety:.2f}) and only {precision:.0%} of the claimed facts are in the references: much of "
            "the variety is invented",
        )


def _as_varied(said: CaptionSurvey, human: CaptionSurvey) -> bool:
    """Whether the captions have as many different word pairs as the references, among as many pairs (half at least)."""
    enough = said.n >= FEWEST and said.pairs_read >= min(human.pairs_read, VARIETY_BIGRAMS) / 2
    return enough and said.variety >= human.variety


def _score(scores: Mapping[str, Any], name: str) -> float | None:
    value = scores.get(name)
    return None if value is None or value != value else float(value)


def _blind(card: Scored) -> Mapping[str, Mapping[str, Any]]:
    rows = getattr(card, "blind", None) or {}
    return {name: getattr(row, "scores", row) for name, row in rows.items()}


def _is_roberta_large(card: Scored) -> bool:
    """Whether BERTScore is on the paper's scale, which the threshold is for; a card without signatures counts as it."""
    signature = (getattr(card, "signatures", None) or {}).get("bertscore", "")
    return not signature or ("roberta-large" in signature and "rescaled:yes" not in signature)


_ZERO_SHOT = re.compile(r"zero[-_ ]?shot|pre-?train", re.IGNORECASE)
_TRANSFER = re.compile(r"transfer|fine-?_?tun", re.IGNORECASE)


def _transfer_gap(systems: Mapping[str, Scored]) -> Iterator[CaptionWarning]:
    before = [name for name in systems if _ZERO_SHOT.search(name) and not _TRANSFER.search(name)]
    after = [name for name in systems if _TRANSFER.search(name)]
    for zero_shot in before:
        for transfer in after:
            one, other = systems[zero_shot].scores, systems[transfer].scores
            gaps = {name: _gap(one, other, name) for name in ("bleu1", "meteor", "rougeL")}
            known = {name: gap for name, gap in gaps.items() if gap is not None}
            if not known or max(known.values()) < TRANSFER_GAP:
                continue
            name = max(known, key=lambda each: known[each])
            facts = _gap(one, other, "facts_f1")
            learnt = "" if facts is None else f", facts F1 by {100 * facts:+.1f}"
            yield CaptionWarning(
                "zero_shot_to_transfer_gap",
                known[name],
                TRANSFER_GAP,
                f"from {zero_shot} to {transfer} {name} rises by {100 * known[name]:.1f}{learnt}: fine-tuning teaches "
                "the style of the references first; compare facts before calling it musical knowledge",
            )


def _gap(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> float | None:
    before, after = _score(one, name), _score(other, name)
    return None if before is None or after is None else after - before


# --- copies and style -----------------------------------------------------------------------------------------------


def _copies(predictions: Sequence[str], training_captions: Iterable[str]) -> Iterator[CaptionWarning]:
    copies = training_copies(predictions, training_captions)
    few = copies.n < FEWEST
    for name, share, what in (
        ("copied_training_captions", copies.exact, "are training captions, word for word"),
        ("near_copies_of_training_captions", copies.near, f"share a run of {RUN_WORDS} words with a training caption"),
    ):
        if share > COPIED and not few and (name.startswith("copied") or copies.near > copies.exact + COPIED):
            yield CaptionWarning(
                name, share, COPIED, f"{share:.1%} of the captions {what}: a score may be memory", copies.examples
            )


def _ticks(said: CaptionSurvey, human: CaptionSurvey) -> Iterator[CaptionWarning]:
    for sign, name, what in (
        ("quality", "quality_remarks", "comment on the quality of the recording"),
        ("advice", "use_advice", "say what the music could be used for"),
    ):
        rate, theirs = said.share(sign), human.share(sign)
        if _exceeds(said, human, sign, TICK_EXCESS):
            yield CaptionWarning(
                name,
                rate,
                theirs + TICK_EXCESS,
                f"{rate:.1%} of the captions {what}, of the references {theirs:.1%}: house style, not listening",
                tuple(said.examples.get(sign, ())),
            )


def _exceeds(said: CaptionSurvey, human: CaptionSurvey, sign: str, margin: float) -> bool:
    """Whether a rate lies above the references' by more than `margin`, and clearly so for this many captions."""
    rate, theirs = said.share(sign), human.share(sign)
    if said.n < FEWEST:
        return False
    error = sqrt(rate * (1 - rate) / said.n + theirs * (1 - theirs) / max(1, human.n))
    return rate - theirs > max(margin, _CLEARLY * error)


def _clearly_above(share: float, limit: float, n: int) -> bool:
    return limit < 1 and share - limit > _CLEARLY * sqrt(limit * (1 - limit) / n)


def _collapse(said: CaptionSurvey, human: CaptionSurvey) -> Iterator[CaptionWarning]:
    if said.n < FEWEST:
        return
    (opener, share), (_, theirs) = said.top_opener(), human.top_opener()
    allowed = max(OPENER_SHARE, 2 * theirs)
    if _clearly_above(share, allowed, said.n):
        message = f'{share:.1%} of the captions begin "{opener}"; the most frequent opener of the references has '
        yield CaptionWarning("one_opener", share, allowed, f"{message}{theirs:.1%}")
    repeated, allowed = said.repeated_share, max(REPEATED_SHARE, 2 * human.repeated_share)
    if _clearly_above(repeated, allowed, said.n):
        yield CaptionWarning(
            "repeated_captions",
            repeated,
            allowed,
            f"{repeated:.1%} of the captions repeat another one: different music gets the same words",
            tuple(said.examples.get("repeated", ())),
        )
    (template, share), (_, theirs) = said.top_template(), human.top_template()
    allowed = max(TEMPLATE_SHARE, 2 * theirs)
    if _clearly_above(share, allowed, said.n):
        message = f"{share:.1%} of the captions fill one template"
        yield CaptionWarning("few_templates", share, allowed, message, (template,))
    if human.variety and said.pairs_read >= FEWEST and said.variety < LOW_VARIETY * human.variety:
        yield CaptionWarning(
            "little_variety",
            said.variety,
            LOW_VARIETY * human.variety,
            f"{said.variety:.2f} different word pairs in {said.pairs_read:,}, the references have {human.variety:.2f}",
        )


# --- captions that no one can use -----------------------------------------------------------------------------------


def _unusable(said: CaptionSurvey, human: CaptionSurvey) -> Iterator[CaptionWarning]:
    for sign, name, what in (
        ("empty", "empty_captions", "are empty"),
        ("unparsed", "unparsed_answers", "are dictionaries or lists that were not parsed; parse them and score again"),
    ):
        rate = said.share(sign)
        if rate > max(UNUSABLE, human.share(sign)):
            yield CaptionWarning(
                name, rate, UNUSABLE, f"{rate:.1%} of the captions {what}", tuple(said.examples.get(sign, ()))
            )
    for sign, name, margin, what in (
        ("named", "artists_and_titles", NAMED_EXCESS, "give a title or name somebody, which no audio tells"),
        ("foreign", "other_languages", FOREIGN_EXCESS, "are not in English, which facts and METEOR read alone"),
    ):
        if _exceeds(said, human, sign, margin):
            yield CaptionWarning(
                name,
                said.share(sign),
                human.share(sign) + margin,
                f"{said.share(sign):.1%} of the captions {what}; of the references {human.share(sign):.1%}",
                tuple(said.examples.get(sign, ())),
            )
