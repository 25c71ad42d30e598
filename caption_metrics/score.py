"""The score card of a captioning system: the paper's metrics, facts, and the same for captions made blind."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caption_metrics.blind import OWN_SHUFFLED, blind_signature
from caption_metrics.caption_scorer import Progress, Score, Scoring, SystemScores
from caption_metrics.fact_columns import CAPTION_MEASURES, CAPTION_SIGNATURE, CATEGORY_MEASURES, FACTS_SIGNATURE
from caption_metrics.facts import FactScores
from caption_metrics.measures import CaptionTable, Measure, Numbers
from caption_metrics.model_columns import load_models
from caption_metrics.pairs import Pair, read_captions_file, read_pairs
from caption_metrics.significance import FEWEST, LEVEL, SAMPLES, Difference, bootstrap_together, difference, interval
from lpmc_errors import UsageError

if TYPE_CHECKING:
    from caption_metrics.slice_labels import SliceLabels

__all__ = ["Pair", "ScoreCard", "evaluate_captions", "read_captions_file", "read_pairs"]

Interval = tuple[float, float]
PER_CAPTION = "per_caption"

# The scores that a claim of quality rests on, and that a system must therefore win. Precision and recall of facts (and
# the rates and coverages akin to them) are left out: a caption that claims little has the best precision and one that
# claims everything the best recall, without hearing; F1 holds both.
CLAIMS = (
    *("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rougeL", "bertscore", "similarity", "fense", "clap"),
    *("retrieval_r1", "retrieval_r5", "retrieval_r10", "facts_f1"),
)

# What the released evaluation writes into `results.json`, and which of our scores that is. Its vocabulary counts the
# first 2,656 captions; its ROUGE-L is the median of an unseeded bootstrap, ours the mean, within 2e-4.
RELEASED_NAMES = {
    **{name: name for name in ("bleu1", "bleu2", "bleu3", "bleu4")},
    "meteor_1.0": "meteor",
    "rougeL": "rougeL",
    "bertscore": "bertscore",
    "vocab_size": "vocab_size_released",
    "vocab_diversity": "vocab_novelty_released",
    "caption_novelty": "caption_novelty",
    "length_avg": "length_avg",
    "length_std": "length_std",
}

SLICED = (  # one BLEU stands for its kin
    *("bleu1", "meteor", "rougeL", "bertscore", "similarity", "fense", "clap", "retrieval_r10"),
    *("facts_f1", "facts_hallucination_rate"),
)
FEWEST_SAMPLES = 100  # of a bootstrap: the ends of a 95 % interval are then the third smallest and largest
OF_THE_TEXT = frozenset({"fluency_errors"})  # the same whatever clip a caption is given to
FEWEST_TESTED = 6  # captions: with 5 the smallest two-sided p of exchanging them is 2 / 2**5, above 0.05
FEWEST_TRUSTED = (
    30  # captions; of simulated corpora of 3, 6, 20 and 50 the interval holds the truth in 75, 85, 92, 93 %
)
WARNED = 2**16  # captions that are looked at for warnings, the first ones; 40 MB of text


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: bootstrap `samples` drawn with `seed`, percentile intervals of `level`."""

    samples: int = SAMPLES
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        if self.samples < FEWEST_SAMPLES:
            raise UsageError("samples", f"is {self.samples}", f"draw {FEWEST_SAMPLES} or more, better {SAMPLES}")
        if self.seed < 0:
            raise UsageError("seed", f"is {self.seed}", "take 0 or a larger number")
        if not 0 < self.level < 1:
            raise UsageError("level", f"is {self.level:g}", "write 0.95 for 95 %")

    def signature(self, n: int) -> str:
        return f"bootstrap:percentile|level:{self.level:g}|samples:{self.samples}|seed:{self.seed}|n:{n}"


@dataclass(frozen=True)
class ScoreCard:
    """Scores of `n` captions, each with the signature of how it was made; fractions in [0, 1], lengths in words.

    A score is None when it could not be computed; `notes` then says why. `intervals` holds the ends of the interval of
    every score that has one. `blind` holds the same scores of captions that were made without the music (`blind.py`),
    `beats_blind` by score and blind row how far the system lies above it. `table` and `measures` are what all of this
    was computed from: a row of numbers for every caption.
    """

    n: int
    scores: Mapping[str, Score]
    signatures: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)
    facts: FactScores | None = None
    blind: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    blind_intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    fact_intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)  # by category and `per_caption`
    beats_blind: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    warnings: tuple[Any, ...] = ()
    slices: Any = None
    regions: Any = None
    measures: tuple[Measure, ...] = ()
    table: CaptionTable | None = field(default=None, repr=False, compare=False)
    blind_tables: Mapping[str, CaptionTable] = field(default_factory=dict, repr=False, compare=False)
    resampling: Resampling | None = None  # None: no intervals were made

    def beaten(self, name: str) -> bool | None:
        """Whether the score beats every blind row with its whole interval; None where that was not tested."""
        rows = self.beats_blind.get(name)
        return all(self._favoured(name, row) for row in rows.values()) if rows else None

    def unbeaten_rows(self, name: str) -> list[str]:
        """The blind rows that a score does not beat."""
        return [row for row, found in self.beats_blind.get(name, {}).items() if not self._favoured(name, found)]

    def _favoured(self, name: str, found: Difference) -> bool:
        return found.favours(next(measure.better for measure in self.measures if measure.name == name))

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON: the scores by name, `n`, `signature`, `notes`, `intervals`, `blind`, `beats_blind`, ...

        `as_released` has the scores under the names of the released `results.json`.
        """
        result: dict[str, Any] = {**self.scores, "n": self.n, "signature": dict(self.signatures)}
        result["as_released"] = {
            released: self.scores[name] for released, name in RELEASED_NAMES.items() if name in self.scores
        }
        if self.facts is not None:
            result["signature"] |= {"facts_by_category": FACTS_SIGNATURE, "facts_per_caption": CAPTION_SIGNATURE}
            result["facts_by_category"] = {
                name: score.to_dict() | {"intervals": _ends(self.fact_intervals.get(name, {}))}
                for name, score in self.facts.by_category.items()
                if score.claimed or score.stated
            }
            if self.facts.per_caption is not None:
                ends = _ends(self.fact_intervals.get(PER_CAPTION, {}))
                result["facts_per_caption"] = self.facts.per_caption.to_dict() | {"intervals": ends}
        result["notes"] = dict(self.notes)
        result["intervals"] = _ends(self.intervals)
        result["blind"] = {
            name: {**scores, "intervals": _ends(self.blind_intervals.get(name, {}))}
            for name, scores in self.blind.items()
        }
        result["beats_blind"] = {
            name: {row: found.to_dict() | {"beaten": self._favoured(name, found)} for row, found in rows.items()}
            for name, rows in self.beats_blind.items()
        }
        result["beats_all_blind"] = {name: self.beaten(name) for name in self.beats_blind}
        result["warnings"] = [warning.to_dict() for warning in self.warnings]
        result["slices"] = None if self.slices is None else self.slices.to_dict()
        result["regions"] = None if self.regions is None else self.regions.to_dict()
        return result


def evaluate_captions(
    pairs: Iterable[Pair],
    *,
    training_captions: Sequence[str] | None = None,
    bertscore_model: str | None = None,
    similarity_model: str | None = None,
    fluency_model: str | None = None,
    clap_model: str | None = None,
    audio_column: str | None = None,
    audio_root: str | Path | None = None,
    blind: bool = True,
    intervals: bool = True,
    samples: int = SAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    slice_by: Sequence[str] = (),
    regions: bool = False,
    coco: bool = False,
    progress: Progress | None = None,
) -> ScoreCard:
    """Score captions against their references, with intervals, beside what blind captions get.

    `pairs` may be a stream of any length. `training_captions` adds the novelty scores and supplies the blind constant.
    The models are folders or names on the Hub: BERTScore, sentence similarity (with `fluency_model` also penalised for
    errors, as FENSE is), and CLAP, which needs the recordings (`audio_column` of the file, under `audio_root`).
    METEOR is None, with a note, where WordNet is not installed. `slice_by` scores parts of the clips (`slices.py`),
    `regions` those of non-Western regions and of rare genres (`out_of_distribution.py`), `coco` adds Java METEOR 1.5
    and CIDEr without intervals (`coco.py`, the extra `coco` and Java); these hold all captions.

    Random: the bootstrap's captions, by `seed`. Dealing references out is seeded apart, always alike.
    Raises `TableError` without pairs, `UsageError` for settings that exclude each other, `ModelError` for a model that
    can't be had, `MissingExtraError` without the packages of the extra `metrics` (or `bertscore`).
    """
    resampling = Resampling(samples, seed, level)
    labels = None
    if slice_by:
        pairs = list(pairs)  # kept anyway; a name that nothing is known of is found before anything is scored
        labels = _slice_labels(pairs, slice_by.split(",") if isinstance(slice_by, str) else slice_by)
    if coco:
        from caption_metrics.coco import check_coco

        check_coco()
    models = load_models(bertscore_model, similarity_model, fluency_model, clap_model, audio_column, audio_root)
    scoring = Scoring(training_captions, models, progress, keep=sys.maxsize if slice_by or regions or coco else WARNED)
    system = scoring.system(pairs, blind=blind, pass_on=blind)
    rivals = scoring.rivals()
    card = score_card(system, rivals, resampling if intervals else None, scoring.notes)
    card = with_warnings(card, scoring.kept[:WARNED], training_captions)
    if coco:
        card = with_coco(card, scoring.kept)
    if labels is not None:
        card = with_slices(card, labels, samples, seed)
    if regions:
        from caption_metrics.out_of_distribution import out_of_distribution

        found = out_of_distribution(scoring.kept, training_texts=training_captions, samples=samples, seed=seed)
        card = replace(card, regions=found)
    return card


def score_card(
    system: SystemScores,
    rivals: Mapping[str, SystemScores],
    resampling: Resampling | None = None,
    notes: Mapping[str, str] | None = None,
) -> ScoreCard:
    """The card of a system beside blind ones on the same captions; without `resampling` no intervals.

    A blind row that lacks a score (it claims nothing, say, and so has no precision) is no rival there.
    """
    n = len(system.table)
    if system.passed_on is not None:
        rivals = {**rivals, OWN_SHUFFLED: system.passed_on}
    card = ScoreCard(
        n=n,
        scores=system.scores,
        signatures={**system.signatures, **({"blind": blind_signature(rivals)} if rivals else {})},
        notes={**system.notes, **(notes or {})},
        facts=system.facts,
        blind={name: rival.scores for name, rival in rivals.items()},
        measures=system.measures,
        table=system.table,
        blind_tables={name: rival.table for name, rival in rivals.items()},
    )
    if resampling is None:
        return card
    if n < FEWEST:
        return replace(card, notes={**card.notes, "intervals": f"intervals need at least {FEWEST} captions"})
    if n < FEWEST_TRUSTED:
        few = f"{n} captions are too few for a percentile bootstrap: these intervals are too narrow"
        card = replace(card, notes={**card.notes, "intervals": few})
    if n < FEWEST_TESTED and rivals:
        note = f"{n} captions are too few to tell a system from a blind one, expected at least {FEWEST_TESTED}"
        card = replace(card, notes={**card.notes, "beats_blind": note})
    details = {**CATEGORY_MEASURES, PER_CAPTION: CAPTION_MEASURES}
    drawn = bootstrap_together(
        {_SYSTEM: system.table, **card.blind_tables},
        [*system.measures, *(measure for measures in details.values() for measure in measures)],
        samples=resampling.samples,
        seed=resampling.seed,
    )
    contested = [measure.name for measure in system.measures if measure.better != "neither"]
    contested = contested if rivals and n >= FEWEST_TESTED else []
    signatures = {**card.signatures, "intervals": resampling.signature(n)}
    if contested:
        signatures["beats_blind"] = f"paired-{resampling.signature(n)}|beaten:the-whole-interval-for-every-blind-row"
    return replace(
        card,
        signatures=signatures,
        intervals=_intervals(system.measures, drawn[_SYSTEM], resampling.level),
        blind_intervals={name: _intervals(system.measures, drawn[name], resampling.level) for name in rivals},
        fact_intervals={
            part: {_share(name): ends for name, ends in _intervals(measures, drawn[_SYSTEM], resampling.level).items()}
            for part, measures in details.items()
        },
        beats_blind={
            name: {
                row: difference(
                    less(card.scores[name], rival.scores[name]),
                    drawn[_SYSTEM][name] - drawn[row][name],
                    resampling.level,
                )
                for row, rival in rivals.items()
                if _is_rival(name, row, card.scores[name], rival.scores.get(name))
            }
            for name in contested
        },
        resampling=resampling,
    )


def with_warnings(
    card: ScoreCard,
    pairs: Sequence[Pair],
    training_captions: Sequence[str] | None = None,
    systems: Mapping[str, ScoreCard] | None = None,
) -> ScoreCard:
    """`card` with the named warnings that its scores and these captions of it deserve (`failure_signatures.py`).

    `systems`, cards by name, adds the warning about zero-shot and transfer systems that are named so.
    """
    from caption_metrics.failure_signatures import find_warnings

    notes = dict(card.notes)
    if len(pairs) < card.n:
        notes["warnings"] = f"looked for in the first {len(pairs):,} captions"
    predictions, references = [pair.prediction for pair in pairs], [pair.references for pair in pairs]
    found = find_warnings(card, predictions, references, training_captions, systems)
    return replace(card, warnings=tuple(found), notes=notes)


def _slice_labels(pairs: Sequence[Pair], slice_by: Sequence[str]) -> SliceLabels:
    """Raises `UsageError` for a dimension of which nothing is known."""
    from caption_metrics.slice_labels import slice_labels

    found = slice_labels(pairs, slice_by)
    for dimension in slice_by:
        if dimension not in found.labels:
            raise UsageError(dimension, "is nothing that the clips can be divided by", "name a column of the file")
    return found


def with_coco(card: ScoreCard, pairs: Sequence[Pair]) -> ScoreCard:
    """`card` with Java METEOR 1.5 and CIDEr under names of their own."""
    from caption_metrics.coco import coco_scores

    found = coco_scores([pair.prediction for pair in pairs], [pair.references for pair in pairs])
    return replace(card, scores={**card.scores, **found.scores}, signatures={**card.signatures, **found.signatures})


def with_slices(card: ScoreCard, labels: SliceLabels, samples: int, seed: int) -> ScoreCard:
    """`card` with the scores of the parts of its clips that `labels` name."""
    from caption_metrics.slices import slice_report

    assert card.table is not None
    measures = [measure for measure in card.measures if measure.name in SLICED]
    return replace(card, slices=slice_report(card.table, measures, labels, samples=samples, seed=seed))


def _is_rival(name: str, row: str, value: Score, other: Score) -> bool:
    return (other is not None or value is None) and not (row == OWN_SHUFFLED and name in OF_THE_TEXT)


def required_claims(card: ScoreCard, wanted: Sequence[str] = ()) -> list[str]:
    """The scores that must beat the blind rows: `wanted`, else those of `CLAIMS` that the card or a blind row has.

    Raises `UsageError` for a name that the card has no test for.
    """
    for name in wanted:
        if name not in card.beats_blind:
            known = ", ".join(card.beats_blind) or "none: blind rows and intervals are off"
            raise UsageError(name, "is no score that was tested against the blind rows", f"tested are {known}")
    return list(wanted) or [
        name
        for name in CLAIMS
        if name in card.beats_blind
        and any(scores.get(name) is not None for scores in (card.scores, *card.blind.values()))
    ]


def less(value: Score, other: Score) -> float:
    """One score less another; NaN where either is missing."""
    return math.nan if value is None or other is None else value - other


def _share(name: str) -> str:
    """`precision` of `facts_genre_precision`; a category has no underscore."""
    return name.split("_", 2)[2]


_SYSTEM = ""  # among the names of blind rows


def _intervals(measures: Sequence[Measure], drawn: Mapping[str, Numbers], level: float) -> dict[str, Interval]:
    found = {measure.name: interval(drawn[measure.name], level) for measure in measures}
    return {name: ends for name, ends in found.items() if not math.isnan(ends[0])}


def _ends(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    return {name: list(ends) for name, ends in intervals.items()}
