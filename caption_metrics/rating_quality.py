"""How well each rater worked, and whom the rules fixed beforehand exclude.

The rules look at attention only, never at whom a rater prefers. Consistency on duplicates is reported and excludes
nobody: of two captions of equal worth an attentive rater reverses a third of his answers by chance (with 20 % ties).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from caption_metrics.agreement import Agreement, agreement_of_counts
from caption_metrics.rating_counts import Share, share, sign_test
from caption_metrics.ratings import ANSWERS, MISMATCHED, REQUIRED_QUESTIONS, Rating

SIDE_QUESTION = REQUIRED_QUESTIONS[0]  # one answer a rating: the others lean with it and are no further evidence
OTHER_SIDE = {"left": "right", "right": "left", "tie": "tie"}


@dataclass(frozen=True)
class ExclusionRules:
    """The rules; fix them before the study. A rule is not applied where a rater gave too few answers for it."""

    # An attentive rater answers perhaps 90 % of gold questions right, a careless one 33 %: this is the middle. With
    # 2 gold comparisons (4 answers) it finds 89 % of careless raters and loses 5 % of attentive ones, with 3 it finds
    # 90 % and loses 2 % (binomial).
    min_gold_accuracy: float = 0.6
    gold_answers: int = 4
    # Seconds a comparison. The clip is 10 s, and two captions of 45 words take 23 s at 238 words a minute (Brysbaert
    # 2019, silent reading); who takes less than the clip alone has not done both.
    min_median_seconds: float = 10.0
    # Chance that a rater without a side is excluded. One careful rater in a thousand may be lost to it.
    side_p: float = 0.001
    # A rater who finds nearly everything tied tells nothing of the systems.
    max_tie_share: float = 0.95
    ratings: int = 20  # real ratings from which the rule on ties applies; a block of the rating page

    def describe(self) -> list[str]:
        """The rules as sentences for a report."""
        return [
            f"fewer than {100 * self.min_gold_accuracy:g} % of at least {self.gold_answers} gold answers right",
            f"a median of less than {self.min_median_seconds:g} s a comparison",
            f"one side preferred so often that chance does it in fewer than {100 * self.side_p:g} % of raters",
            f"at least {100 * self.max_tie_share:g} % ties in {self.ratings} or more ratings",
        ]


@dataclass(frozen=True)
class RaterQuality:
    """One rater's work; shares are over `of` answers, and None where there was none."""

    rater: str
    real: int
    gold: Share  # gold answers right, both questions
    repeated: Share  # answers to duplicates that are the same again
    reversed: Share  # that prefer the other caption
    median_seconds: float | None
    left: Share  # of answers that are no tie, for the left side
    side_p: float
    ties: Share
    familiarity: int | None
    excluded_for: tuple[str, ...]


@dataclass(frozen=True)
class StudyQuality:
    """All raters together, and each."""

    raters: tuple[RaterQuality, ...]
    gold: Share
    repeated: Share
    reversed: Share
    intra_rater: Mapping[str, Agreement]  # question -> alpha of each rater with himself, on duplicates
    rules: ExclusionRules

    @property
    def excluded(self) -> tuple[str, ...]:
        """The raters whom a rule excludes."""
        return tuple(rater.rater for rater in self.raters if rater.excluded_for)


def rater_quality(
    ratings: Sequence[Rating],
    rules: ExclusionRules | None = None,
    *,
    familiarity: Mapping[str, int | None] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> StudyQuality:
    """What gold comparisons, duplicates, times, sides and ties tell of each rater, in the order of their names."""
    rules = rules or ExclusionRules()
    by_rater: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_rater[rating.rater].append(rating)
    originals = {rating.rating_id: rating for rating in ratings if rating.kind == "real"}
    known = familiarity or {}
    raters = tuple(_quality(rater, by_rater[rater], originals, rules, known.get(rater)) for rater in sorted(by_rater))

    def pooled(shares: Sequence[Share]) -> Share:
        return share(sum(part.count for part in shares), sum(part.of for part in shares))

    return StudyQuality(
        raters,
        pooled([rater.gold for rater in raters]),
        pooled([rater.repeated for rater in raters]),
        pooled([rater.reversed for rater in raters]),
        {question: _intra_rater(ratings, originals, question, samples, seed) for question in REQUIRED_QUESTIONS},
        rules,
    )


def _quality(
    rater: str,
    ratings: Sequence[Rating],
    originals: Mapping[str, Rating],
    rules: ExclusionRules,
    familiarity: int | None,
) -> RaterQuality:
    real = [rating for rating in ratings if rating.kind == "real"]
    gold = [
        rating.answers[question] == ("left" if rating.right == MISMATCHED else "right")
        for rating in ratings
        if rating.kind == "gold"
        for question in REQUIRED_QUESTIONS
    ]
    again = [pair for question in REQUIRED_QUESTIONS for pair in _twice(ratings, originals, question)]
    chosen = [rating.answers[SIDE_QUESTION] for rating in real]
    left, right = chosen.count("left"), chosen.count("right")
    times = [rating.seconds for rating in real if rating.seconds is not None]
    quality = RaterQuality(
        rater,
        len(real),
        share(sum(gold), len(gold)),
        share(sum(first == second for first, second in again), len(again)),
        share(sum("tie" not in pair and pair[0] != pair[1] for pair in again), len(again)),
        median(times) if times else None,
        share(left, left + right),
        sign_test(left, right),
        share(chosen.count("tie"), len(chosen)),
        familiarity,
        (),
    )
    return replace(quality, excluded_for=tuple(_reasons(quality, rules)))


def _reasons(quality: RaterQuality, rules: ExclusionRules) -> list[str]:
    gold, ties = quality.gold, quality.ties
    reasons = []
    if gold.of >= rules.gold_answers and gold.count < rules.min_gold_accuracy * gold.of:
        reasons.append(f"{gold.count} of {gold.of} gold answers right")
    if quality.median_seconds is not None and quality.median_seconds < rules.min_median_seconds:
        reasons.append(f"median of {quality.median_seconds:.1f} s a comparison")
    if quality.side_p < rules.side_p:
        reasons.append(f"left preferred in {quality.left.count} of {quality.left.of} answers")
    if ties.of >= rules.ratings and ties.count >= rules.max_tie_share * ties.of:
        reasons.append(f"{ties.count} of {ties.of} ties")
    return reasons


def _twice(ratings: Sequence[Rating], originals: Mapping[str, Rating], question: str) -> list[tuple[str, str]]:
    """First and second answer to each duplicate, told by the sides of the first showing."""
    answers = []
    for rating in ratings:
        if rating.kind == "duplicate" and rating.duplicate_of is not None:
            first = originals[rating.duplicate_of]
            second = rating.answers[question]
            answers.append((first.answers[question], second if rating.left == first.left else OTHER_SIDE[second]))
    return answers


def _intra_rater(
    ratings: Sequence[Rating], originals: Mapping[str, Rating], question: str, samples: int, seed: int
) -> Agreement:
    answers = _twice(ratings, originals, question)
    counts = np.array([[pair.count(answer) for answer in ANSWERS] for pair in answers], float).reshape(-1, 3)
    clusters = [rating.item for rating in ratings if rating.kind == "duplicate"]
    return agreement_of_counts(counts, range(3), ["nominal"], clusters=clusters, samples=samples, seed=seed)[0]
