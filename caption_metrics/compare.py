"""Systems beside each other on the same clips: whose score is higher, by how much, and whether that is more than luck.

Every system, the blind ones too, is compared with one baseline on every score that can be better or worse: the paired
bootstrap gives the interval of the difference, approximate randomisation its p value, and Holm's correction is made
over the whole family, all systems times all these scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from caption_metrics.caption_scorer import Progress, Scoring, SystemScores
from caption_metrics.model_columns import load_models
from caption_metrics.pairs import Pair
from caption_metrics.score import WARNED, Resampling, ScoreCard, less, score_card, with_warnings
from caption_metrics.significance import (
    FEWEST,
    LEVEL,
    SAMPLES,
    TRIALS,
    Difference,
    approximate_randomisation,
    bootstrap_together,
    difference,
    holm,
)
from lpmc_errors import TableError, UsageError

FEWEST_SYSTEMS = 2
SHOWN = 60  # characters of a reference in an error


@dataclass(frozen=True)
class Compared:
    """One score of one system less the baseline's: interval, p of approximate randomisation, p after Holm.

    `better` is True or False where the corrected p is at most 1 - level, and None where luck could explain it.
    """

    value: float
    low: float
    high: float
    p: float
    p_holm: float
    better: bool | None

    def to_dict(self) -> dict[str, float | bool | None]:
        values = {"difference" if name == "value" else name: value for name, value in asdict(self).items()}
        return {name: None if value is None or math.isnan(value) else value for name, value in values.items()}


@dataclass(frozen=True)
class Comparison:
    """The cards of systems by name, and by system and score what `Compared` says against `baseline`.

    `differences` has the blind rows as well, named `blind: constant` and so on. `tests` is the size of the family.
    """

    baseline: str
    cards: Mapping[str, ScoreCard]
    differences: Mapping[str, Mapping[str, Compared]]
    blind: tuple[str, ...]
    resampling: Resampling
    trials: int
    tests: int
    notes: Mapping[str, str]

    @property
    def n(self) -> int:
        return self.cards[self.baseline].n

    @property
    def signature(self) -> str:
        """How differences were tested."""
        return (
            f"paired-{self.resampling.signature(self.n)}|p:approximate-randomisation,two-sided,trials:{self.trials}"
            f"|p_holm:family-of-{self.tests}-tests(systems-and-blind-rows-x-scores)"
        )

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON: `baseline`, `systems` (their cards), `differences`, `signature`, `notes`."""
        return {
            "n": self.n,
            "baseline": self.baseline,
            "systems": {name: card.to_dict() for name, card in self.cards.items()},
            "differences": {
                name: {score: found.to_dict() for score, found in scores.items()}
                for name, scores in self.differences.items()
            },
            "tests": self.tests,
            "signature": self.signature,
            "notes": dict(self.notes),
        }


def compare_systems(
    systems: Mapping[str, Sequence[Pair]],
    *,
    baseline: str | None = None,
    training_captions: Sequence[str] | None = None,
    bertscore_model: str | None = None,
    similarity_model: str | None = None,
    fluency_model: str | None = None,
    clap_model: str | None = None,
    audio_column: str | None = None,
    audio_root: str | Path | None = None,
    blind: bool = True,
    samples: int = SAMPLES,
    trials: int = TRIALS,
    seed: int = 0,
    level: float = LEVEL,
    progress: Progress | None = None,
) -> Comparison:
    """Score systems on the same clips and test each against `baseline` (the first one, where none is named).

    Clips are brought together by `Pair.id` where every system has it, else by their order; references must agree.
    Further arguments as in `evaluate_captions`. Random: the bootstrap's captions and the exchanged captions, by `seed`.
    Raises `UsageError` for fewer than two systems or an unknown baseline, `TableError` where the clips or references
    of two systems differ, naming the first difference.
    """
    if len(systems) < FEWEST_SYSTEMS:
        raise UsageError("comparison", f"has {len(systems)} system, expected at least {FEWEST_SYSTEMS}", "name more")
    base = next(iter(systems)) if baseline is None else baseline
    if base not in systems:
        raise UsageError(base, "is not among the systems", f"they are {', '.join(systems)}")
    aligned = aligned_systems(systems)
    if len(aligned[base]) < FEWEST:
        raise TableError("comparison", "has one clip", f"give at least {FEWEST}")
    models = load_models(bertscore_model, similarity_model, fluency_model, clap_model, audio_column, audio_root)
    scoring = Scoring(training_captions, models, _across(progress, len(aligned[base]), len(aligned)))
    scored = {
        name: scoring.system(pairs, blind=blind and name == base, pass_on=blind) for name, pairs in aligned.items()
    }
    rivals = scoring.rivals()
    resampling = Resampling(samples, seed, level)
    cards = {name: score_card(system, rivals, resampling, scoring.notes) for name, system in scored.items()}
    cards = {
        name: with_warnings(card, aligned[name][:WARNED], training_captions, cards if name == base else None)
        for name, card in cards.items()
    }
    everyone = {**scored, **{_blind_name(name): rival for name, rival in rivals.items()}}
    differences = _differences(everyone, base, resampling, trials)
    return Comparison(
        baseline=base,
        cards=cards,
        differences=differences,
        blind=tuple(map(_blind_name, rivals)),
        resampling=resampling,
        trials=trials,
        tests=sum(not math.isnan(found.p) for scores in differences.values() for found in scores.values()),
        notes={note: text for card in cards.values() for note, text in card.notes.items()},
    )


def _blind_name(row: str) -> str:
    return f"blind: {row}"


def _differences(
    everyone: Mapping[str, SystemScores], base: str, resampling: Resampling, trials: int
) -> dict[str, dict[str, Compared]]:
    measures = [measure for measure in everyone[base].measures if measure.better != "neither"]
    tables = {name: system.table for name, system in everyone.items()}
    drawn = bootstrap_together(tables, measures, samples=resampling.samples, seed=resampling.seed)
    others = [name for name in everyone if name != base]
    found: dict[tuple[str, str], tuple[Difference, float]] = {}
    for name in others:
        p_values = approximate_randomisation(tables[name], tables[base], measures, trials=trials, seed=resampling.seed)
        for measure in measures:
            score = measure.name
            value = less(everyone[name].scores[score], everyone[base].scores[score])
            samples = drawn[name][score] - drawn[base][score]
            found[name, score] = difference(value, samples, resampling.level), p_values[score]
    corrected = dict(zip(found, holm([p for _, p in found.values()]), strict=True))
    result: dict[str, dict[str, Compared]] = {name: {} for name in others}
    for (name, score), (apart, p) in found.items():
        better: bool | None = None
        if corrected[name, score] <= 1 - resampling.level:
            wanted = next(measure.better for measure in measures if measure.name == score)
            better = (apart.value > 0) == (wanted == "higher")
        result[name][score] = Compared(apart.value, apart.low, apart.high, p, corrected[name, score], better)
    return result


def aligned_systems(systems: Mapping[str, Sequence[Pair]]) -> dict[str, list[Pair]]:
    """The pairs of every system in the order of the first one. Raises `TableError` where clips or references differ."""
    (first, pairs), *others = systems.items()
    by_id = all(pair.id is not None for each in systems.values() for pair in each)
    if by_id:
        for name, each in systems.items():
            repeated = next((clip for clip, count in Counter(pair.id for pair in each).items() if count > 1), None)
            if repeated is not None:
                raise TableError(f"{name}, clip {repeated}", "is there more than once", "write one row a clip")
    aligned = {first: list(pairs)}
    for name, each in others:
        if by_id:
            known = {pair.id: pair for pair in each}
            _same_clips(first, [str(pair.id) for pair in pairs], name, [str(pair.id) for pair in each])
            each = [known[pair.id] for pair in pairs]
        elif len(each) != len(pairs):
            raise TableError(
                name, f"has {len(each):,} rows where {first} has {len(pairs):,}", "give files on the same clips"
            )
        for row, (one, other) in enumerate(zip(pairs, each, strict=True), start=1):
            if sorted(one.references) != sorted(other.references):
                where = f"clip {one.id}" if by_id else f"row {row}"
                raise TableError(
                    f"{name}, {where}",
                    f"has another reference than {first}: {_shown(other)} instead of {_shown(one)}",
                    "compare systems on the same clips with the same references"
                    + ("" if by_id else ", in the same order or with a column of ids"),
                )
        aligned[name] = [replace(one, prediction=other.prediction) for one, other in zip(pairs, each, strict=True)]
    return aligned


def _same_clips(first: str, expected: Sequence[str], name: str, found: Sequence[str]) -> None:
    here, there = set(expected), set(found)
    missing, surplus = [clip for clip in expected if clip not in there], [clip for clip in found if clip not in here]
    if missing:
        raise TableError(
            name, f"lacks {len(missing):,} of the clips of {first}, first {missing[0]}", "give files on the same clips"
        )
    if surplus:
        raise TableError(
            name, f"has {len(surplus):,} clips that {first} lacks, first {surplus[0]}", "give files on the same clips"
        )


def _shown(pair: Pair) -> str:
    text = " | ".join(pair.references)
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


def _across(progress: Progress | None, clips: int, systems: int) -> Progress | None:
    """Counts of one pass after another; the blind rows come last and are known only then."""
    if progress is None:
        return None

    def count(done: int, total: int) -> None:
        progress(done, max(total, done, clips * systems))

    return count
