"""Win, tie and lose for each pair of systems, with intervals that know that raters and clips repeat.

Three ratings of one clip, or twenty of one rater, are not so many independent ones. Beside Wilson's interval, which
takes them as independent, each share has one from resampled clusters: the variance is that over raters, plus that over
clips, minus that over single ratings (Cameron, Gelbach and Miller 2011), each from a bootstrap of its own. Resampling
raters and clips together (the pigeonhole bootstrap) would count the noise of single answers three times (Owen 2007).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caption_metrics.ratings import ANSWERS, BLIND, HUMAN, QUESTIONS, Rating
from caption_metrics.significance import holm

Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]

LEFT, TIE, RIGHT = range(3)  # as in ANSWERS
NOT_ANSWERED = -1
NORMAL_95 = 1.959963984540054  # standard errors to each side of a 95 % interval
BLOCK = 2**21  # resampled weights held at once: 16 MB
FEW_KINDS = 8  # rows a kind from which drawing kinds is faster than drawing rows (measured at 90,000 rows)


@dataclass(frozen=True)
class Share:
    """A proportion `count` / `of` with its interval; None where nothing was counted."""

    count: int
    of: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairResult:
    """How `system` fared against `opponent` on one question, over the real ratings."""

    question: str
    system: str
    opponent: str
    ratings: int
    raters: int
    items: int
    win: Share  # of all ratings, Wilson
    tie: Share
    lose: Share
    win_or_tie: Share
    win_rate: Share  # wins without ties, Wilson
    clustered: Share  # the same rate; Wilson with the ratings that these would be worth were they independent
    design_effect: float | None  # how many times the variance of independent ratings; None where nothing was decided
    sign_test: float  # p of the exact two-sided sign test, which takes ratings as independent
    sign_test_holm: float  # the same, corrected over the pairs of this question


@dataclass(frozen=True)
class Comparisons:
    """Real ratings as arrays: rater, item, left and right system are codes, shape (ratings,).

    `outcome[question]` holds LEFT, TIE or RIGHT, or NOT_ANSWERED.
    """

    systems: tuple[str, ...]
    raters: tuple[str, ...]
    items: tuple[str, ...]
    rater: Codes
    item: Codes
    left: Codes
    right: Codes
    outcome: dict[str, Codes]

    def __len__(self) -> int:
        return len(self.rater)

    @cached_property
    def sides(self) -> NDArray[np.int64]:
        """The pairs (left, right) that were shown, shape (pairs, 2), in order."""
        return np.unique(np.stack([self.left, self.right], axis=1), axis=0)

    @cached_property
    def side(self) -> Codes:
        """The row of `sides` that each rating showed."""
        width = len(self.systems)
        keys = self.sides[:, 0] * width + self.sides[:, 1]
        return np.searchsorted(keys, self.left * width + self.right)

    def counts(self, question: str) -> Numbers:
        """Answers by pair as shown: shape (pairs, 3), the columns LEFT, TIE, RIGHT."""
        cells = _cells(self, question)
        return np.bincount(cells[cells >= 0], minlength=3 * len(self.sides)).reshape(-1, 3).astype(float)


@dataclass(frozen=True)
class Resamples:
    """Counts of one question in resampled data: each of shape (samples, pairs, 3), by what was drawn.

    `both` draws what one rater said of one clip, which is as good as single ratings where nobody judged a clip twice.
    """

    by_rater: Numbers
    by_item: Numbers
    by_both: Numbers

    def variance(self, rater: Numbers, item: Numbers, both: Numbers) -> Numbers:
        """The variance of an estimate from its values in the three kinds of resamples, the first axis of each.

        Never below that of independent ratings: the difference of three noisy variances could be, even negative.
        """
        of_rater, of_item, of_both = (_variance(values) for values in (rater, item, both))
        return np.maximum(of_rater + of_item - of_both, of_both)


def comparisons(ratings: Sequence[Rating]) -> Comparisons:
    """The real ratings among `ratings` as arrays; gold and duplicates stay out.

    Systems are in the order of the alphabet, then the blind caption, then people: a pair is told from the side of
    what stands first, so that everything is told against people.
    """
    real = [rating for rating in ratings if rating.kind == "real"]
    names = {name for rating in real for name in (rating.left, rating.right)}
    systems = sorted(names - {HUMAN, BLIND}) + [name for name in (BLIND, HUMAN) if name in names]
    raters = sorted({rating.rater for rating in real})
    items = sorted({rating.item for rating in real})
    code = {name: number for number, name in enumerate(systems)}
    rater_code = {name: number for number, name in enumerate(raters)}
    item_code = {name: number for number, name in enumerate(items)}
    answer_code = {answer: number for number, answer in enumerate(ANSWERS)}
    answered = [question for question in QUESTIONS if any(question in rating.answers for rating in real)]

    def codes(values: list[int]) -> Codes:
        return np.array(values, dtype=np.int64)

    return Comparisons(
        tuple(systems),
        tuple(raters),
        tuple(items),
        rater=codes([rater_code[rating.rater] for rating in real]),
        item=codes([item_code[rating.item] for rating in real]),
        left=codes([code[rating.left] for rating in real]),
        right=codes([code[rating.right] for rating in real]),
        outcome={
            question: codes([answer_code.get(rating.answers.get(question, ""), NOT_ANSWERED) for rating in real])
            for question in answered
        },
    )


def resample(data: Comparisons, samples: int, seed: int) -> dict[str, Resamples]:
    """Resampled counts of every question, `samples` of each kind, drawn by `seed`.

    One draw of raters or clips serves all questions, as one rating answers them together.
    """
    from scipy.sparse import coo_array

    questions = list(data.outcome)
    width = 3 * len(data.sides)
    cells = np.concatenate([_cells(data, question) + width * place for place, question in enumerate(questions)])
    given = np.concatenate([data.outcome[question] != NOT_ANSWERED for question in questions])
    both = np.unique(data.rater * len(data.items) + data.item, return_inverse=True)[1]
    draw = np.random.default_rng(seed)
    drawn = []
    for clusters in (data.rater, data.item, both):
        groups = int(clusters.max()) + 1
        rows = np.tile(clusters, len(questions))[given]
        table = coo_array((np.ones(len(rows)), (rows, cells[given])), shape=(groups, width * len(questions))).tocsr()
        drawn.append(_drawn(table, samples, draw).reshape(samples, len(questions), -1, 3))
    return {question: Resamples(*(kind[:, place] for kind in drawn)) for place, question in enumerate(questions)}


def pair_results(data: Comparisons, question: str, resamples: Resamples) -> list[PairResult]:
    """One result a pair of systems, in their order; people are always the opponent."""
    found = []
    for first, second in unordered_pairs(data):
        wins, ties, losses = (int(number) for number in pair_counts(data, data.counts(question), first, second))
        kept = _is_pair(data, first, second) & (data.outcome[question] != NOT_ANSWERED)
        decided, everything = wins + losses, wins + ties + losses
        raters, items = len(np.unique(data.rater[kept])), len(np.unique(data.item[kept]))
        effect = _design_effect(data, resamples, first, second) if decided else None
        found.append(
            PairResult(
                question,
                data.systems[first],
                data.systems[second],
                everything,
                raters,
                items,
                share(wins, everything),
                share(ties, everything),
                share(losses, everything),
                share(wins + ties, everything),
                share(wins, decided),
                share(wins, decided, effect=effect or 1.0, reach=quantile(raters, items)),
                effect,
                sign_test(wins, losses),
                math.nan,
            )
        )
    corrected = holm([row.sign_test for row in found])
    return [replace(row, sign_test_holm=p) for row, p in zip(found, corrected, strict=True)]


def share(count: int, of: int, *, effect: float = 1.0, reach: float | None = None) -> Share:
    """`count` of `of` with Wilson's interval, which stays inside 0 to 1 and is no point at either end.

    With a design effect, the interval is that of `of / effect` independent ratings. `reach`: standard errors to each
    side, by default those of 95 %.
    """
    if not of:
        return Share(count, of, None, None, None)
    value, worth, z = count / of, of / effect, NORMAL_95 if reach is None else reach
    centre = (value + z * z / (2 * worth)) / (1 + z * z / worth)
    half = z * math.sqrt(value * (1 - value) / worth + z * z / (4 * worth * worth)) / (1 + z * z / worth)
    return Share(count, of, value, max(0.0, centre - half), min(1.0, centre + half))


def quantile(raters: int, items: int) -> float:
    """Standard errors that a 95 % interval reaches to each side: Student's t with the scarcer kind of cluster - 1.

    A kind with a single member is no cluster to draw from; with one rater and one clip it is the normal one.
    """
    from scipy.special import stdtrit

    scarce = min((number for number in (raters, items) if number > 1), default=1)
    return float(stdtrit(scarce - 1, 0.975)) if scarce > 1 else NORMAL_95


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p of as uneven a split, were both equally likely; 1 when nothing was decided."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def unordered_pairs(data: Comparisons) -> list[tuple[int, int]]:
    """The pairs of systems that were compared, each once, the lower code first."""
    return sorted({(int(min(pair)), int(max(pair))) for pair in data.sides})


def pair_counts(data: Comparisons, counts: Numbers, first: int, second: int) -> Numbers:
    """Wins, ties and losses of `first` against `second` in counts of shape (..., pairs, 3): shape (3, ...)."""
    forward = np.flatnonzero((data.sides == (first, second)).all(axis=1))
    backward = np.flatnonzero((data.sides == (second, first)).all(axis=1))
    told = counts[..., forward, :].sum(axis=-2) + counts[..., backward, ::-1].sum(axis=-2)
    return np.moveaxis(told, -1, 0)


def _cells(data: Comparisons, question: str) -> Codes:
    """The place of each rating in the table of pairs and answers; negative where it has no answer."""
    answers = data.outcome[question]
    return np.where(answers == NOT_ANSWERED, -1, 3 * data.side + answers)


def _is_pair(data: Comparisons, first: int, second: int) -> NDArray[np.bool_]:
    forward = (data.left == first) & (data.right == second)
    return forward | ((data.left == second) & (data.right == first))


def _design_effect(data: Comparisons, resamples: Resamples, first: int, second: int) -> float:
    """The variance of the rate of wins over raters and clips, in units of that of independent ratings; at least 1."""
    rates = []
    for counts in (resamples.by_rater, resamples.by_item, resamples.by_both):
        won, _, lost = pair_counts(data, counts, first, second)
        rates.append((won + 0.5) / (won + lost + 1))  # half a win and half a loss: a resample may lack the pair
    independent = float(_variance(rates[2]))
    return float(resamples.variance(*rates)) / independent if independent > 0 else 1.0


def _variance(values: Numbers) -> Numbers:
    return values.var(axis=0, ddof=1)


def _drawn(table: Any, samples: int, draw: np.random.Generator) -> Numbers:
    """Sums of rows of the sparse `table` drawn with replacement: shape (samples, columns)."""
    groups, columns = table.shape
    # Most single ratings look like others: how often each kind of row is drawn is one multinomial draw. Rows are told
    # apart by a random 64-bit key of their columns.
    keys = np.zeros(groups, np.uint64)
    entries = table.tocoo()
    signs = np.random.default_rng(0).integers(2**64, size=columns, dtype=np.uint64)
    np.add.at(keys, entries.row, signs[entries.col] * entries.data.astype(np.uint64))
    _, first, often = np.unique(keys, return_index=True, return_counts=True)
    if len(first) * FEW_KINDS < groups:
        weights = draw.multinomial(groups, often / groups, size=samples)
        return np.asarray((table[first].T @ weights.T).T, float)
    block = max(1, BLOCK // groups)
    turned = table.T.tocsr()
    sums = []
    for start in range(0, samples, block):
        size = min(block, samples - start)
        picks = draw.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        weights = np.bincount(picks.ravel(), minlength=size * groups).reshape(size, groups)
        sums.append((turned @ weights.T).T)
    return np.concatenate(sums).astype(float)
