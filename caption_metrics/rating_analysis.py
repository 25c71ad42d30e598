"""What a listening study found: every result over all raters and over those whom no rule excludes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caption_metrics.agreement import Agreement, agreement_of_counts
from caption_metrics.preference import Preference, preference
from caption_metrics.rating_counts import (
    LEFT,
    NOT_ANSWERED,
    RIGHT,
    Comparisons,
    PairResult,
    Share,
    comparisons,
    pair_results,
    quantile,
    resample,
    share,
    sign_test,
)
from caption_metrics.rating_quality import ExclusionRules, StudyQuality, rater_quality
from caption_metrics.ratings import BLIND, HUMAN, QUESTIONS, REQUIRED_QUESTIONS, Rating, RatingFile
from caption_metrics.significance import holm

SAMPLES = 1000  # resamples of an interval
LEVEL = 0.05  # a sanity check fails where p is not below it: where 0 lies in the 95 % interval


@dataclass(frozen=True)
class QuestionResult:
    """One question: pairs, strengths, agreement between raters, and how often the left side was preferred."""

    question: str
    pairs: tuple[PairResult, ...]
    preference: Preference
    nominal: Agreement  # alpha over win, tie, lose
    ordinal: Agreement  # the same, a win further from a defeat than from a tie
    left: Share  # of answers that are no tie
    left_p: float  # exact two-sided p were both sides preferred alike


@dataclass(frozen=True)
class ClaimResult:
    """What raters ticked as wrong among the claims shown of a system: `right` is the human precision."""

    system: str
    category: str  # "all" or one of the facts' categories
    right: Share  # Wilson, of as many claims as they are worth over raters and clips
    ratings: int


@dataclass(frozen=True)
class Results:
    """Everything that real ratings tell, by some of the raters."""

    ratings: int
    raters: int
    items: int
    questions: tuple[QuestionResult, ...]
    claims: tuple[ClaimResult, ...]


@dataclass(frozen=True)
class Sanity:
    """Whether raters preferred people, and each system, to a caption that was written without hearing anything."""

    verdict: str  # passed, broken or not checked
    reasons: tuple[str, ...]
    not_above_blind: tuple[tuple[str, str], ...]  # system and question


@dataclass(frozen=True)
class RatingAnalysis:
    """A study analysed. `kept` is the result to report; it is None when the rules exclude every rater."""

    study: str
    simulated: bool
    simulated_ratings: int
    lines: Mapping[str, int]  # ratings of each kind, and lines that could not be used
    problems: tuple[tuple[str, str], ...]
    planned: int | None
    quality: StudyQuality
    kept: Results | None
    everyone: Results
    sanity: Sanity
    warnings: tuple[str, ...]
    samples: int
    seed: int


def analyse(
    file: RatingFile, *, rules: ExclusionRules | None = None, samples: int = SAMPLES, seed: int = 0
) -> RatingAnalysis:
    """Analyse a study, with the raters whom `rules` exclude and without them. Resamples are drawn by `seed`."""
    familiarity = {name: rater.familiarity for name, rater in file.raters.items()}
    quality = rater_quality(file.ratings, rules, familiarity=familiarity, samples=samples, seed=seed)
    real = file.of_kind("real")
    everyone = results(real, samples=samples, seed=seed)
    excluded = set(quality.excluded)
    honest = [rating for rating in real if rating.rater not in excluded]
    kept = (results(honest, samples=samples, seed=seed) if honest else None) if excluded else everyone
    sanity = _sanity(kept or everyone)
    planned = file.plan.real if file.plan else None
    simulated = sum(rating.simulated for rating in file.ratings)
    lines = {kind: len(file.of_kind(kind)) for kind in ("real", "gold", "duplicate")} | {"unusable": len(file.problems)}
    return RatingAnalysis(
        file.study,
        simulated > 0,
        simulated,
        lines,
        file.problems,
        planned,
        quality,
        kept,
        everyone,
        sanity,
        tuple(_warnings(file, quality, kept, everyone, sanity, planned, simulated)),
        samples,
        seed,
    )


def results(real: Sequence[Rating], *, samples: int = SAMPLES, seed: int = 0) -> Results:
    """Every result over these real ratings; at least one is needed."""
    data = comparisons(real)
    drawn = resample(data, samples, seed)
    questions = []
    for question, resamples in drawn.items():
        counts = data.counts(question).sum(axis=0)
        left, right = int(counts[LEFT]), int(counts[RIGHT])
        nominal, ordinal = _agreement(data, question, samples, seed)
        questions.append(
            QuestionResult(
                question,
                tuple(pair_results(data, question, resamples)),
                preference(data, question, resamples),
                nominal,
                ordinal,
                share(left, left + right),
                sign_test(left, right),
            )
        )
    return Results(len(data), len(data.raters), len(data.items), tuple(questions), tuple(_claims(real)))


def _agreement(data: Comparisons, question: str, samples: int, seed: int) -> tuple[Agreement, Agreement]:
    """Alpha over units of one clip and one pair of systems, whatever their sides; whole clips are drawn."""
    answers = data.outcome[question]
    given = answers != NOT_ANSWERED
    first, second = np.minimum(data.left, data.right), np.maximum(data.left, data.right)
    told = np.where(data.left == first, answers, RIGHT - answers)[given]  # by the side of the first system
    size = len(data.systems)
    keys, unit = np.unique((data.item * size * size + first * size + second)[given], return_inverse=True)
    counts = np.bincount(3 * unit + told, minlength=3 * len(keys)).reshape(-1, 3)
    clusters = keys // (size * size)
    nominal, ordinal = agreement_of_counts(
        counts, range(3), ["nominal", "ordinal"], clusters=clusters, samples=samples, seed=seed
    )
    return nominal, ordinal


def _claims(real: Sequence[Rating]) -> list[ClaimResult]:
    """The share of claims that raters left unticked, by system and category."""
    found: dict[tuple[str, str], list[tuple[str, str, int, int]]] = defaultdict(list)
    for rating in real:
        if rating.claims is None or rating.wrong_claims is None:
            continue
        for side, system in (("left", rating.left), ("right", rating.right)):
            shown, wrong = rating.claims.get(side), rating.wrong_claims.get(side)
            if not shown or wrong is None:
                continue
            by_category: dict[str, list[bool]] = defaultdict(list)
            for claim in shown:
                by_category["all"].append(claim not in wrong)
                by_category[claim.split(":")[0].strip()].append(claim not in wrong)
            for category, right in by_category.items():
                found[system, category].append((rating.rater, rating.item, sum(right), len(right)))
    return [
        ClaimResult(system, category, _precision(rows), len(rows))
        for (system, category), rows in sorted(
            found.items(), key=lambda entry: (entry[0][0], entry[0][1] != "all", entry[0])
        )
    ]


def _precision(rows: Sequence[tuple[str, str, int, int]]) -> Share:
    right, shown = sum(row[2] for row in rows), sum(row[3] for row in rows)
    value = right / shown
    squares = []
    for key in (lambda row: row[0], lambda row: row[1], lambda row: row[:2]):
        sums: dict[object, float] = defaultdict(float)
        for row in rows:
            sums[key(row)] += row[2] - value * row[3]
        squares.append(sum(part * part for part in sums.values()))
    independent = shown * value * (1 - value)
    effect = max(1.0, (squares[0] + squares[1] - squares[2]) / independent) if independent else 1.0
    reach = quantile(len({row[0] for row in rows}), len({row[1] for row in rows}))
    return share(right, shown, effect=effect, reach=reach)


def _sanity(found: Results) -> Sanity:
    """People must beat the blind caption on both of the paper's questions; where people were not rated, some system."""
    reasons, behind, checked = [], [], False
    for result in found.questions:
        against = {}
        for row in result.preference.differences:
            if BLIND in (row.first, row.second):
                name = row.second if row.first == BLIND else row.first
                against[name] = (-row.value if row.first == BLIND else row.value, row.p)
        if not against:
            continue
        above = {name for name, (value, p) in against.items() if value > 0 and p is not None and p < LEVEL}
        behind += [(name, result.question) for name in against if name not in above]
        if result.question not in REQUIRED_QUESTIONS:
            continue
        checked = True
        if HUMAN in against and HUMAN not in above:
            reasons.append(f"{QUESTIONS[result.question]}: raters did not prefer people's captions to the blind one")
        elif HUMAN not in against and not above:
            reasons.append(f"{QUESTIONS[result.question]}: raters preferred no system to the blind caption")
    if not checked:
        return Sanity("not checked", (f"no comparison reaches the blind caption ({BLIND})",), ())
    return Sanity("broken" if reasons else "passed", tuple(reasons), tuple(behind))


def _warnings(
    file: RatingFile,
    quality: StudyQuality,
    kept: Results | None,
    everyone: Results,
    sanity: Sanity,
    planned: int | None,
    simulated: int,
) -> list[str]:
    told = []
    if 0 < simulated < len(file.ratings):
        told.append(
            f"{simulated:,} of {len(file.ratings):,} ratings are simulated, the rest are not: nothing here is a result"
        )
    if sanity.verdict == "broken":
        told.append(f"THE STUDY IS BROKEN: {'; '.join(sanity.reasons)}")
    if sanity.verdict == "not checked":
        told.append(f"{sanity.reasons[0]}: nothing shows that preferences need the music")
    if file.problems:
        told.append(f"{len(file.problems):,} lines or ratings could not be used")
    if planned is not None and len(file.of_kind("real")) != planned:
        told.append(
            f"{len(file.of_kind('real')):,} of {planned:,} planned ratings: a study that is stopped, or goes on, after "
            "a look at its results has wrong p values"
        )
    if kept is None:
        told.append("the rules exclude every rater; the result is over all of them and means little")
    for number, name, lacking in (
        (everyone.raters, "rater", "nothing tells what others would say"),
        (everyone.items, "clip", "nothing tells how it is on others"),
    ):
        if number == 1:
            told.append(f"one {name}: {lacking}")
    if not quality.gold.of:
        told.append("no gold comparisons: careless raters cannot be told from careful ones")
    if not quality.repeated.of:
        told.append("no duplicates: nothing tells how far raters agree with themselves")
    found = (kept or everyone).questions
    for result, p in zip(found, holm([result.left_p for result in found]), strict=True):
        if p < LEVEL and result.left.value is not None:
            told.append(
                f"{QUESTIONS[result.question]}: the left side was preferred in {100 * result.left.value:.1f} % of "
                f"answers without ties (p = {p:.2g}, Holm over the questions)"
            )
        if result.pairs and all(row.tie.count == row.ratings for row in result.pairs):
            told.append(f"{QUESTIONS[result.question]}: every answer is a tie")
        told += [f"{QUESTIONS[result.question]}: {note}" for note in result.preference.notes]
    return told
