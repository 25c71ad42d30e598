"""How sure a score is: intervals, differences between two systems, and tests, by drawing captions again.

Every draw is a matrix product, weights (samples, captions) @ rows (captions, columns), block of captions by block, so
that a million captions take the memory of a few thousand. What is drawn depends on the seed and the number of captions
alone: two systems on the same captions meet the same draws, which is what makes a comparison of them paired.

- Bootstrap: n of n captions with replacement, exactly: first how many fall into each block (a multinomial draw), then
  which captions of the block. Intervals are percentile intervals.
- Approximate randomisation: each caption's two rows change places or don't, with even chances; for so few captions
  that every pattern can be tried, all are, and the p value is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from caption_metrics.measures import COUNT, CaptionTable, Measure, Numbers

SAMPLES = 1_000  # bootstrap samples: an end of a 95 % interval then moves by 1 to 2 % of its width from seed to seed
TRIALS = 10_000  # randomisations: the smallest p is 1e-4, which a Holm correction over 100 tests leaves at 0.01
LEVEL = 0.95
FEWEST = 2  # captions: of one there is nothing to draw

_BLOCK = 2_048  # captions drawn together; a part of what a seed means, so changing it changes every interval
_TOGETHER = 1_000  # samples drawn together: 2,048 x 1,000 weights of 8 bytes, 16 MB
_BOOTSTRAP, _RANDOMISATION = 0, 1  # two streams of a seed
_ROUNDING = 1e-12  # differences that agree this closely are one: sums in another order differ by less

Together = Mapping[str, CaptionTable]


@dataclass(frozen=True)
class Difference:
    """How far one system's score lies above another's: the value, its interval, a two-sided p.

    NaN where the score is not defined. `p` here is the bootstrap's: the level at which the interval touches 0.
    """

    value: float
    low: float
    high: float
    p: float

    def to_dict(self) -> dict[str, float | None]:
        numbers = {"difference": self.value, "low": self.low, "high": self.high, "p": self.p}
        return {name: None if np.isnan(number) else number for name, number in numbers.items()}

    def favours(self, better: Literal["higher", "lower", "neither"]) -> bool:
        """Whether the whole interval lies on the better side of 0."""
        return bool(self.low > 0 if better == "higher" else self.high < 0 if better == "lower" else False)


def bootstrap(
    table: CaptionTable, measures: Sequence[Measure], *, samples: int = SAMPLES, seed: int = 0
) -> dict[str, Numbers]:
    """Each measure on captions drawn again: arrays (samples,) by name.

    Random: the captions, by `seed`. A measure that is not defined on a sample is NaN there.
    Raises `ValueError` for fewer than two captions.
    """
    return bootstrap_together({"": table}, measures, samples=samples, seed=seed)[""]


def bootstrap_together(
    tables: Together, measures: Sequence[Measure], *, samples: int = SAMPLES, seed: int = 0
) -> dict[str, dict[str, Numbers]]:
    """`bootstrap` of several systems on the same captions, drawn once: by system, then by measure.

    Gives what `bootstrap` gives for each alone. Raises `ValueError` where the tables differ in length.
    """
    columns, n = _columns(measures), _length(tables)
    sums = np.zeros((samples, len(tables) * len(columns)))
    for first in range(0, samples, _TOGETHER):
        part = slice(first, min(first + _TOGETHER, samples))
        for weights, rows in zip(
            _bootstrap_weights(n, part.stop - part.start, seed, first), _row_blocks(tables, columns), strict=True
        ):
            sums[part] += weights @ rows
    return {
        name: _values(measures, dict(zip(columns, block, strict=True)))
        for name, block in zip(tables, sums.T.reshape(len(tables), len(columns), samples), strict=True)
    }


def drawn_blocks(
    table: CaptionTable, columns: Sequence[str], *, samples: int = SAMPLES, seed: int = 0
) -> Iterator[tuple[Numbers, Numbers]]:
    """The draws of `bootstrap` and what they fall on, in blocks of captions: weights (samples, rows), (rows, columns).

    For sums over parts of the captions. Of no captions there are no blocks.
    """
    if not len(table):
        return
    starts = range(0, samples, _TOGETHER)
    drawn = [_bootstrap_weights(len(table), min(_TOGETHER, samples - first), seed, first) for first in starts]
    for *weights, rows in zip(*drawn, _fixed_blocks(table, columns), strict=True):
        yield np.concatenate(weights), rows


def interval(samples: Numbers, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of bootstrap samples, over those on which the score is defined; NaN where none is."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap(
    a: CaptionTable,
    b: CaptionTable,
    measures: Sequence[Measure],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """The score of `a` less the score of `b` on the same captions, by measure, with a percentile interval and p.

    Random: the captions, by `seed`. Raises `ValueError` where the tables differ in length or have under two captions.
    """
    drawn = bootstrap_together({"a": a, "b": b}, measures, samples=samples, seed=seed)
    sums_a, sums_b = a.sums(), b.sums()
    return {
        measure.name: difference(
            float(measure.value(sums_a)) - float(measure.value(sums_b)),
            drawn["a"][measure.name] - drawn["b"][measure.name],
            level,
        )
        for measure in measures
    }


def difference(value: float, samples: Numbers, level: float = LEVEL) -> Difference:
    """The `Difference` of an observed value and its bootstrap samples (NaN ones are left out).

    p = 2 (1 + the samples on the lesser side of 0, 0 included) / (1 + all): at or under 5 % exactly where the 95 %
    interval leaves 0 out, to within a sample.
    """
    defined = samples[~np.isnan(samples)]
    if np.isnan(value) or not len(defined):
        return Difference(value, float("nan"), float("nan"), float("nan"))
    beyond = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return Difference(value, *interval(defined, level), min(1.0, 2 * (1 + beyond) / (1 + len(defined))))


def approximate_randomisation(
    a: CaptionTable, b: CaptionTable, measures: Sequence[Measure], *, trials: int = TRIALS, seed: int = 0
) -> dict[str, float]:
    """Two-sided p of "the two systems could have written each other's captions", by measure.

    p = (1 + trials with a difference as large) / (1 + trials); where `trials` would cover all 2 ** n patterns each is
    tried once and p is exact. NaN where the score is not defined. Random: which captions change places, by `seed`.
    Raises `ValueError` where the tables differ in length.
    """
    columns, n = _columns(measures), _length({"a": a, "b": b}, fewest=1)
    exact = n < trials.bit_length()  # 2 ** n <= trials
    patterns = 2**n if exact else trials
    moved = np.zeros((patterns, len(columns)))  # what the exchanges add to the sums of `a` and take from those of `b`
    total = np.zeros((2, len(columns)))
    for number, rows in enumerate(_row_blocks({"a": a, "b": b}, columns)):
        of_a, of_b = rows[:, : len(columns)], rows[:, len(columns) :]
        total += (of_a.sum(axis=0), of_b.sum(axis=0))
        for first in range(0, patterns, _TOGETHER):
            part = slice(first, min(first + _TOGETHER, patterns))
            swaps = _every_swap(part, n) if exact else _random_swaps(part.stop - first, len(rows), seed, first, number)
            moved[part] += swaps @ (of_b - of_a)
    swapped_a = _values(measures, dict(zip(columns, (total[0] + moved).T, strict=True)))
    swapped_b = _values(measures, dict(zip(columns, (total[1] - moved).T, strict=True)))
    seen_a, seen_b = (_values(measures, dict(zip(columns, sums, strict=True))) for sums in total)
    return {
        name: _share_as_large(float(seen_a[name] - seen_b[name]), swapped_a[name] - swapped_b[name], exact)
        for name in swapped_a
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of one family of tests, adjusted after Holm (1979), in their order; NaN is no test and stays NaN.

    Rejecting where the adjusted value is at most alpha keeps the chance of any wrong rejection at alpha.
    """
    adjusted = [float("nan")] * len(p_values)
    order = sorted((p, place) for place, p in enumerate(p_values) if not np.isnan(p))
    floor = 0.0
    for rank, (p, place) in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * p))
        adjusted[place] = floor
    return adjusted


def _columns(measures: Sequence[Measure]) -> list[str]:
    return list(dict.fromkeys(name for measure in measures for name in measure.columns)) or [COUNT]


def _length(tables: Together, fewest: int = FEWEST) -> int:
    lengths = {len(table) for table in tables.values()}
    if len(lengths) != 1:
        raise ValueError(f"systems on different numbers of captions can't be compared: {sorted(lengths)}")
    n = lengths.pop()
    if n < fewest:
        raise ValueError(f"{n} captions, expected at least {fewest}")
    return n


def _values(measures: Sequence[Measure], sums: Mapping[str, Numbers]) -> dict[str, Numbers]:
    return {measure.name: measure.value(sums) for measure in measures}


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(numbers)))


def _bootstrap_weights(n: int, samples: int, seed: int, first: int) -> Iterator[Numbers]:
    """How often each sample has each caption: (samples, rows) for each block; over all blocks they add up to n."""
    sizes = np.array([min(_BLOCK, n - start) for start in range(0, n, _BLOCK)])
    shares = _generator(seed, _BOOTSTRAP, first).multinomial(n, sizes / n, size=samples)
    for number, rows in enumerate(sizes):
        drawn = _generator(seed, _BOOTSTRAP, first, number).integers(0, rows, size=int(shares[:, number].sum()))
        places = np.repeat(np.arange(samples) * rows, shares[:, number]) + drawn
        yield np.bincount(places, minlength=samples * rows).reshape(samples, rows).astype(float)


def _random_swaps(trials: int, rows: int, seed: int, first: int, block: int) -> Numbers:
    """Even chances of a swap: (trials, rows) of 0 and 1, a random bit each."""
    generator = _generator(seed, _RANDOMISATION, first, block)
    bits = generator.integers(0, 256, size=(trials, -(-rows // 8)), dtype=np.uint8)
    return np.unpackbits(bits, axis=1, count=rows).astype(float)


def _every_swap(patterns: slice, n: int) -> Numbers:
    """The patterns with these numbers, written in binary: (patterns, n) of 0 and 1."""
    return ((np.arange(patterns.start, patterns.stop)[:, None] >> np.arange(n)) & 1).astype(float)


def _share_as_large(observed: float, swapped: Numbers, exact: bool) -> float:
    defined = np.abs(swapped[~np.isnan(swapped)])
    if np.isnan(observed) or not len(defined):
        return float("nan")
    as_large = int((defined >= abs(observed) - _ROUNDING * max(1.0, abs(observed))).sum())
    return as_large / len(defined) if exact else (1 + as_large) / (1 + len(defined))


def _row_blocks(tables: Together, columns: Sequence[str]) -> Iterator[Numbers]:
    """The rows of all tables side by side, (rows, tables x columns), in blocks of `_BLOCK` captions."""
    for blocks in zip(*(_fixed_blocks(table, columns) for table in tables.values()), strict=True):
        yield np.hstack(blocks)


def _fixed_blocks(table: CaptionTable, columns: Sequence[str]) -> Iterator[Numbers]:
    """The rows (rows, columns) of one table in blocks of `_BLOCK`, whatever blocks they were appended in."""
    waiting: list[Numbers] = []
    held = 0
    for block in table.blocks():
        rows = np.stack([block[name] for name in columns], axis=1)
        while len(rows):
            taken = rows[: _BLOCK - held]
            waiting.append(taken)
            held += len(taken)
            rows = rows[len(taken) :]
            if held == _BLOCK:
                yield np.concatenate(waiting)
                waiting, held = [], 0
    if held:
        yield np.concatenate(waiting)
