"""Krippendorff's alpha: how far raters agree beyond chance, with any number of raters and missing answers.

Krippendorff, Computing Krippendorff's Alpha-Reliability (2011). Alpha is 1 - observed / expected disagreement: 1 for
perfect agreement, 0 for what chance gives, below 0 for systematic disagreement. A unit is what several raters judged;
one that fewer than two judged says nothing about agreement and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Numbers = NDArray[np.float64]

BLOCK = 2**22  # resampled weights held at once: 32 MB
MAX_VALUES = 100  # distinct values of a scale; coincidences are kept for every pair of them


@dataclass(frozen=True)
class Agreement:
    """Alpha with its bootstrap interval. All three are None where alpha is not defined, and `note` says why."""

    alpha: float | None
    low: float | None
    high: float | None
    level: Level
    units: int  # units that at least two raters judged
    answers: int  # answers to these units
    note: str = ""


def krippendorff_alpha(ratings: ArrayLike, level: Level = "nominal") -> float:
    """Alpha of `ratings`, shape (raters, units), NaN where a rater gave no answer.

    NaN when it is not defined: no unit has two answers, or all answers are equal, so that chance would agree as well.
    Raises `ValueError` for an unknown level, a shape other than two axes, and a negative value on a ratio scale.
    """
    counts, values, _ = _value_counts(ratings)
    return float(_alpha(_coincidences(counts).sum(axis=0)[None], values, level)[0])


def agreement(
    ratings: ArrayLike,
    level: Level = "nominal",
    *,
    clusters: ArrayLike | None = None,
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Agreement:
    """Alpha of `ratings`, shape (raters, units), NaN for no answer, with a percentile bootstrap interval.

    Whole clusters of units are drawn, with replacement, by `seed`: `clusters`, shape (units,), names what belongs
    together, such as the clip that several pairs of captions are about; without it each unit is its own.
    """
    counts, values, given = _value_counts(ratings)
    labels = np.arange(len(given)) if clusters is None else np.asarray(clusters)
    return agreement_of_counts(
        counts, values, [level], clusters=labels, samples=samples, seed=seed, confidence=confidence
    )[0]


def agreement_of_counts(
    counts: ArrayLike,
    values: Sequence[float] | Numbers,
    levels: Sequence[Level],
    *,
    clusters: ArrayLike,
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Agreement]:
    """As `agreement`, on several levels, from how often each unit got each value: shape (units, values).

    For many raters of whom each saw few units; a table of raters by units would be almost empty.
    """
    table = np.asarray(counts, float)
    scale = np.asarray(values, float)
    judged = table.sum(axis=1) >= 2
    table, labels = table[judged], np.asarray(clusters)[judged]
    units, answers = len(table), int(table.sum())
    if not units:
        return [Agreement(None, None, None, level, 0, 0, "no unit was judged by two raters") for level in levels]
    rows = _coincidences(table)
    distinct, member = np.unique(labels, return_inverse=True)
    drawn = None
    if len(distinct) > 1:
        grouped = np.zeros((len(distinct), len(scale), len(scale)))
        np.add.at(grouped, member, rows)
        drawn = _resampled(grouped, samples, np.random.default_rng(seed))
    found = []
    for level in levels:
        alpha = float(_alpha(rows.sum(axis=0)[None], scale, level)[0])
        if np.isnan(alpha):
            note = "all answers are equal: chance agrees as well"
            found.append(Agreement(None, None, None, level, units, answers, note))
        elif drawn is None:
            found.append(Agreement(alpha, None, None, level, units, answers, "one item: no interval"))
        else:
            low, high, note = _bounds(_alpha(drawn, scale, level), confidence)
            found.append(Agreement(alpha, low, high, level, units, answers, note))
    return found


def _bounds(drawn: Numbers, confidence: float) -> tuple[float | None, float | None, str]:
    """The percentile interval of the resamples in which alpha is defined, and how many it is not in."""
    defined = drawn[~np.isnan(drawn)]
    missing = len(drawn) - len(defined)
    note = f"not defined in {missing} of {len(drawn)} resamples" if missing else ""
    if not len(defined):
        return None, None, note
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high), note


def _value_counts(ratings: ArrayLike) -> tuple[Numbers, Numbers, Numbers]:
    """How often each unit got each value, the values in order, and the answers a unit got."""
    table = np.asarray(ratings, float)
    if table.ndim != 2:
        raise ValueError(f"ratings have {table.ndim} axes, expected two: raters and units")
    values = np.unique(table[~np.isnan(table)])
    if len(values) > MAX_VALUES:
        raise ValueError(f"{len(values)} distinct values; a scale of at most {MAX_VALUES} is meant")
    counts = np.stack([(table == value).sum(axis=0) for value in values], axis=1) if len(values) else None
    shaped = np.zeros((table.shape[1], 0)) if counts is None else counts.astype(float)
    return shaped, values, shaped.sum(axis=1)


def _coincidences(counts: Numbers) -> Numbers:
    """The pairs of values that each unit contributes, shape (units, values, values); a unit of m answers weighs m."""
    answers = counts.sum(axis=1)
    kept = counts * (answers >= 2)[:, None]
    pairs = kept[:, :, None] * kept[:, None, :]
    diagonal = np.arange(counts.shape[1])
    pairs[:, diagonal, diagonal] -= kept
    return pairs / np.maximum(answers - 1, 1)[:, None, None]


def _resampled(rows: Numbers, samples: int, draw: np.random.Generator) -> Numbers:
    """Sums of rows drawn with replacement: shape (samples, *rows.shape[1:])."""
    groups = len(rows)
    flat = rows.reshape(groups, -1)
    block = max(1, BLOCK // groups)
    sums = []
    for start in range(0, samples, block):
        size = min(block, samples - start)
        picks = draw.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        weights = np.bincount(picks.ravel(), minlength=size * groups).reshape(size, groups)
        sums.append(weights.astype(float) @ flat)
    return np.concatenate(sums).reshape(samples, *rows.shape[1:])


def _alpha(coincidences: Numbers, values: Numbers, level: Level) -> Numbers:
    """Alpha of each of the coincidence matrices, shape (samples, values, values); NaN where it is not defined."""
    totals = coincidences.sum(axis=2)
    pairable = totals.sum(axis=1)
    distance = _squared_distance(totals, values, level)
    observed = (coincidences * distance).sum(axis=(1, 2))
    expected = (totals[:, :, None] * totals[:, None, :] * distance).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (pairable - 1) * observed / expected, np.nan)


def _squared_distance(totals: Numbers, values: Numbers, level: Level) -> Numbers:
    """What a pair of values counts as disagreement; on an ordinal scale it depends on how often each value occurs."""
    if level == "nominal":
        return np.broadcast_to(1 - np.eye(len(values)), (len(totals), len(values), len(values)))
    if level == "ordinal":
        below = np.cumsum(totals, axis=1) - totals / 2  # the mean rank of each value
        return (below[:, :, None] - below[:, None, :]) ** 2
    if level == "interval":
        return np.broadcast_to((values[:, None] - values) ** 2, (len(totals), len(values), len(values)))
    if level == "ratio":
        if (values < 0).any():
            raise ValueError("a ratio scale has no values below 0")
        sums = values[:, None] + values
        share = np.where(sums > 0, (values[:, None] - values) / np.where(sums > 0, sums, 1), 0.0)
        return np.broadcast_to(share**2, (len(totals), len(values), len(values)))
    raise ValueError(f"level {level!r}, expected nominal, ordinal, interval or ratio")
