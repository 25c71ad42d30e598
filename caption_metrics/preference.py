"""How strongly each system is preferred, from comparisons of two with ties: the model of Davidson (1970).

Of captions by systems i (left) and j (right), with strengths s and d = s_i - s_j + order, the answers have

    left : tie : right = exp(d / 2) : exp(tie) : exp(-d / 2)

It is the Bradley-Terry model with a parameter for ties, and one for the side, as Davidson and Beaver (1977) add it.
Strengths are log-odds: two systems that differ by 1 are preferred 73 : 27, ties aside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caption_metrics.rating_counts import LEFT, RIGHT, TIE, Comparisons, Resamples, pair_counts, quantile, sign_test
from caption_metrics.ratings import HUMAN
from caption_metrics.significance import holm

Numbers = NDArray[np.float64]

# A weak normal prior on each parameter keeps the estimate finite for a system that never lost. 5 log-odds are 148 : 1;
# against what 100 ratings tell of a strength (about 100 / 8) its 1 / 25 is nothing.
PRIOR_SD = 5.0
MAX_STEPS = 100
TOLERANCE = 1e-9  # of the gradient, a rating
MAX_STEP = 2.0  # log-odds; a longer Newton step may overshoot where one side never lost
ALPHA = 0.05  # of the corrected tests that ranks rest on


@dataclass(frozen=True)
class Fit:
    """Parameters of the model; each may have leading axes, one fit an element."""

    strengths: Numbers  # (..., systems), their mean 0
    tie: Numbers  # log of the weight of a tie between equals, against exp(0) for either side
    order: Numbers  # advantage of the left side


@dataclass(frozen=True)
class Strength:
    """A system's strength above the reference system (its `value` is 0), with its clustered bootstrap interval.

    `rank_best` and `rank_worst` are the ranks that the corrected tests leave open.
    """

    system: str
    value: float
    low: float | None
    high: float | None
    rank: int
    rank_best: int
    rank_worst: int


@dataclass(frozen=True)
class Difference:
    """Two systems' strengths compared: `value` is that of `first` less that of `second`."""

    first: str
    second: str
    value: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class Preference:
    """The strengths by one question, best first, every two of them tested, and the parameters for ties and side."""

    question: str
    reference: str
    strengths: tuple[Strength, ...]
    differences: tuple[Difference, ...]
    ties_between_equals: float  # share of ties between two systems of equal strength
    left_between_equals: float  # share of answers for the left side, ties aside, between equals
    left_low: float | None
    left_high: float | None
    notes: tuple[str, ...]


def fit_davidson(counts: ArrayLike, sides: ArrayLike, systems: int, *, prior_sd: float = PRIOR_SD) -> Fit:
    """The most likely parameters under a weak normal prior, by Newton's method on all fits at once.

    `counts`: answers left, tie, right, shape (..., pairs, 3), whole or weighted; `sides`: the systems on the left and
    the right of each pair, shape (pairs, 2), as numbers below `systems`. Raises `ValueError` when shapes disagree.
    """
    answers, lead, design = _checked(counts, sides, systems)
    found = np.zeros((len(answers), systems + 2))
    precision = TOLERANCE * np.maximum(answers.sum(axis=(1, 2)), 1)
    for _ in range(MAX_STEPS):
        shares = _shares(found, design)
        gradient = _gradient(found, answers, shares, design, prior_sd)
        if (np.abs(gradient).max(axis=1) <= precision).all():
            break
        step = np.linalg.solve(_curvature(answers, shares, design, prior_sd), gradient[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        found += step * np.minimum(1, MAX_STEP / np.maximum(longest, MAX_STEP))
    return _fit(found, lead)


def resampled_fits(
    fit: Fit, counts: ArrayLike, drawn: ArrayLike, sides: ArrayLike, *, prior_sd: float = PRIOR_SD
) -> Fit:
    """`fit`, of `counts`, moved by one Newton step towards each of the resamples `drawn`, (samples, pairs, 3).

    The score bootstrap (Kline and Santos 2012). Fitted to the end, the few resamples in which a system never loses lie
    so far out that they decide the variance: of 28 wins to 5, clearly not even, p became 0.06.
    """
    systems = len(fit.strengths)
    answers, _, design = _checked(counts, sides, systems)
    resamples, lead, _ = _checked(drawn, sides, systems)
    found = np.concatenate([fit.strengths, [fit.order], [fit.tie]])[None]
    shares = _shares(found, design)
    curvature = _curvature(answers, shares, design, prior_sd)[0]
    gradient = _gradient(found, resamples, shares, design, prior_sd)
    return _fit(found + np.linalg.solve(curvature, gradient.T).T, lead)


def _checked(counts: ArrayLike, sides: ArrayLike, systems: int) -> tuple[Numbers, tuple[int, ...], Numbers]:
    """Counts as (fits, pairs, 3), their leading shape, and the design, (pairs, systems + 1): systems, left side."""
    answers = np.asarray(counts, float)
    shown = np.asarray(sides, dtype=np.int64)
    if shown.ndim != 2 or shown.shape[1] != 2 or answers.shape[-2:] != (len(shown), 3):
        raise ValueError(f"counts {answers.shape} and sides {shown.shape}, expected (..., pairs, 3) and (pairs, 2)")
    rows = np.arange(len(shown))
    design = np.zeros((len(shown), systems + 1))
    design[rows, shown[:, 0]] += 1
    design[rows, shown[:, 1]] -= 1
    design[:, systems] = 1
    return answers.reshape(-1, len(shown), 3), answers.shape[:-2], design


def _shares(found: Numbers, design: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The chances of left, tie and right for each pair, each of shape (fits, pairs)."""
    half = found[:, :-1] @ design.T / 2
    scale = np.maximum(np.abs(half), found[:, -1:])  # the largest exponent: no overflow
    left, tie, right = np.exp(half - scale), np.exp(found[:, -1:] - scale), np.exp(-half - scale)
    mass = left + tie + right
    return left / mass, tie / mass, right / mass


def _gradient(
    found: Numbers, answers: Numbers, shares: tuple[Numbers, Numbers, Numbers], design: Numbers, prior_sd: float
) -> Numbers:
    """The slope of the log-likelihood and the prior, (fits, systems + 2): strengths, side, tie."""
    left, tie, right = shares
    total = answers.sum(axis=2)
    margin = (answers[:, :, LEFT] - answers[:, :, RIGHT] - total * (left - right)) / 2
    ties = (answers[:, :, TIE] - total * tie).sum(axis=1, keepdims=True)
    return np.concatenate([margin @ design, ties], axis=1) - found / prior_sd**2


def _curvature(answers: Numbers, shares: tuple[Numbers, Numbers, Numbers], design: Numbers, prior_sd: float) -> Numbers:
    """Minus the second derivative, (fits, systems + 2, systems + 2)."""
    left, tie, right = shares
    total = answers.sum(axis=2)
    lean = (left - right) / 2
    width = design.shape[1] + 1
    curve = np.zeros((len(answers), width, width))
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    spread = total * ((left + right) / 4 - lean**2)
    curve[:, :-1, :-1] = (spread @ squares).reshape(len(answers), width - 1, width - 1)
    curve[:, :-1, -1] = curve[:, -1, :-1] = -(total * lean * tie) @ design
    curve[:, -1, -1] = (total * tie * (1 - tie)).sum(axis=1)
    return curve + np.eye(width) / prior_sd**2


def _fit(found: Numbers, lead: tuple[int, ...]) -> Fit:
    systems = found.shape[1] - 2
    strengths = found[:, :systems] - found[:, :systems].mean(axis=1, keepdims=True)
    return Fit(strengths.reshape(*lead, systems), found[:, -1].reshape(lead), found[:, systems].reshape(lead))


def preference(data: Comparisons, question: str, resamples: Resamples) -> Preference:
    """Strengths by `question`, above those of people where they were compared, else above the first system.

    Intervals and tests use Student's t and the variance over raters and clips; p values are corrected by Holm over
    all pairs of systems. Where one group of systems never lost to another, their distance has no finite estimate: it
    has no interval, and its test is the exact sign test of the two systems' own comparisons. Systems that no chain of
    comparisons links to the reference are left out, and named.
    """
    counts = data.counts(question)
    reference = data.systems.index(HUMAN) if HUMAN in data.systems else 0
    linked, group, notes = _linked(data, counts, reference)
    fit = fit_davidson(counts, data.sides, len(data.systems))
    drawn = tuple(
        resampled_fits(fit, counts, kind, data.sides)
        for kind in (resamples.by_rater, resamples.by_item, resamples.by_both)
    )
    estimate = _Estimate(data, question, resamples, fit, drawn, group)
    differences = estimate.differences(linked)
    order = float(estimate.fit.order)
    reach, error = estimate.reach, estimate.error([drawn.order for drawn in estimate.drawn])
    return Preference(
        question,
        data.systems[reference],
        tuple(estimate.ranked(linked, reference, differences)),
        tuple(differences),
        ties_between_equals=_ties_between_equals(float(estimate.fit.tie)),
        left_between_equals=logistic(order),
        left_low=None if reach is None else logistic(order - reach * error),
        left_high=None if reach is None else logistic(order + reach * error),
        notes=tuple(notes),
    )


def logistic(log_odds: float) -> float:
    """The probability with these log-odds."""
    return 1 / (1 + math.exp(-log_odds)) if log_odds >= 0 else 1 - 1 / (1 + math.exp(log_odds))


def _ties_between_equals(tie: float) -> float:
    return math.exp(tie) / (2 + math.exp(tie)) if tie < 0 else 1 / (2 * math.exp(-tie) + 1)


@dataclass(frozen=True)
class _Estimate:
    """One question's fit, the fits of its resamples by rater, by clip and by both, and the groups that never mix."""

    data: Comparisons
    question: str
    resamples: Resamples
    fit: Fit
    drawn: tuple[Fit, ...]
    group: dict[int, int]

    @property
    def reach(self) -> float | None:
        """Standard errors to each side of an interval; None where one rater judged one clip."""
        return quantile(*self.clusters) if max(self.clusters) > 1 else None

    @property
    def clusters(self) -> tuple[int, int]:
        return len(self.data.raters), len(self.data.items)

    def error(self, values: Sequence[Numbers]) -> float:
        """The standard error of an estimate from its values in the three kinds of resamples."""
        return math.sqrt(float(self.resamples.variance(*values)))

    def above(self, first: int, second: int) -> tuple[float, float | None, float | None, float]:
        """The strength of `first` less that of `second`, its interval and its standard error."""
        value = float(self.fit.strengths[first] - self.fit.strengths[second])
        error = self.error([drawn.strengths[:, first] - drawn.strengths[:, second] for drawn in self.drawn])
        if self.reach is None or (first != second and self.group[first] != self.group[second]):
            return value, None, None, error
        return value, value - self.reach * error, value + self.reach * error, error

    def differences(self, linked: Sequence[int]) -> list[Difference]:
        """Every two of the systems compared and tested, corrected together."""
        found = []
        for first, second in combinations(linked, 2):
            value, low, high, error = self.above(first, second)
            found.append(
                Difference(
                    self.data.systems[first],
                    self.data.systems[second],
                    value,
                    low,
                    high,
                    self._p(first, second, value, error),
                    None,
                )
            )
        corrected = holm([math.nan if row.p is None else row.p for row in found])
        return [replace(row, p_holm=None if row.p is None else p) for row, p in zip(found, corrected, strict=True)]

    def _p(self, first: int, second: int, value: float, error: float) -> float | None:
        from scipy.special import stdtr

        if self.group[first] != self.group[second]:
            wins, _, losses = pair_counts(self.data, self.data.counts(self.question), first, second)
            return sign_test(int(wins), int(losses)) if wins + losses else None
        if self.reach is None:
            return None
        scarce = min(number for number in self.clusters if number > 1)
        return float(2 * stdtr(scarce - 1, -abs(value) / error)) if error > 0 else 1.0

    def ranked(self, linked: Sequence[int], reference: int, differences: Sequence[Difference]) -> list[Strength]:
        """The systems, best first, with the ranks that the corrected tests leave open."""
        beats = dict.fromkeys(self.data.systems, 0)
        loses = dict(beats)
        for row in differences:
            if row.p_holm is not None and row.p_holm < ALPHA:
                winner, loser = (row.first, row.second) if row.value > 0 else (row.second, row.first)
                beats[winner] += 1
                loses[loser] += 1
        strengths = []
        for rank, system in enumerate(sorted(linked, key=lambda system: -self.fit.strengths[system]), start=1):
            name = self.data.systems[system]
            value, low, high, _ = self.above(system, reference)
            strengths.append(Strength(name, value, low, high, rank, 1 + loses[name], len(linked) - beats[name]))
        return strengths


def _linked(data: Comparisons, counts: Numbers, reference: int) -> tuple[list[int], dict[int, int], list[str]]:
    """The systems on one scale with the reference, the group of each, and what must be said of all this.

    Of a group, each has a chain of wins or ties to each other. Between groups the likelihood has no maximum (Ford
    1957).
    """
    from scipy.sparse.csgraph import connected_components

    size = len(data.systems)
    compared, not_lost = np.zeros((size, size)), np.zeros((size, size))
    for (left, right), (won, tied, lost) in zip(data.sides, counts, strict=True):
        compared[left, right] += won + tied + lost
        not_lost[left, right] += won + tied
        not_lost[right, left] += lost + tied
    notes = []
    _, part = connected_components(compared, directed=False)
    linked = [system for system in range(size) if part[system] == part[reference]]
    if len(linked) < size:
        rest = ", ".join(data.systems[system] for system in range(size) if system not in linked)
        notes.append(f"{rest}: no comparison links them to {data.systems[reference]}, so they are on no common scale")
    groups, member = connected_components(not_lost, directed=True, connection="strong")
    told = [
        ", ".join(data.systems[system] for system in linked if member[system] == number) for number in range(groups)
    ]
    told = [names for names in told if names]
    if len(told) > 1:
        notes.append(
            f"no wins or ties lead both ways between these groups: {'; '.join(told)}. Their distance has no finite "
            f"estimate; what is given is held by a weak prior (standard deviation {PRIOR_SD:g}) and means 'very far'"
        )
    return linked, {system: int(member[system]) for system in range(size)}, notes
