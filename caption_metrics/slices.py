"""Scores of parts of a test set: by genre, region, tempo, vocals, source; the worst part, and how far it falls behind.

The worst of many slices looks bad by luck alone: of twenty equal slices one is always last. So every difference to the
whole carries an interval that holds for all slices of its dimension at once (the bootstrap of the largest deviation,
Westfall and Young's max-T), and beside the worst value stands what a slice chosen as worst on one half of the captions
reaches on the other half, which no selection has made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caption_metrics.measures import COUNT, CaptionTable, Measure, Numbers
from caption_metrics.significance import SAMPLES, drawn_blocks
from caption_metrics.slice_labels import SliceLabels
from lpmc_errors import TableError

SMALLEST = 30  # captions; a share of one half is then known to +-18 points (95 %), of 96 captions to +-10
CROSS_FITS = 50  # random halvings for the unselected value of the worst slice
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SliceScore:
    """One measure on one slice. `low` and `high` bound `value`; the difference is slice minus all captions.

    The bounds of the difference hold for all slices of the dimension at once, and `p` is corrected for their number.
    """

    dimension: str
    label: str
    measure: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        low, high = self.difference_low, self.difference_high
        return low is not None and high is not None and not low <= 0 <= high


@dataclass(frozen=True)
class WorstSlice:
    """The slice with the worst value of a measure among those of a dimension, and its gap to all captions.

    `ratio` is worst / overall, its bounds and those of `difference` corrected for the choice among `slices` slices.
    `unselected` is the mean over random halvings of what the slice that is worst on one half reaches on the other.
    """

    dimension: str
    measure: str
    label: str
    n: int
    slices: int
    value: float
    overall: float
    unselected: float | None
    difference: float
    difference_low: float | None
    difference_high: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    p: float | None


@dataclass(frozen=True)
class SliceReport:
    """Scores by slice, the worst slice of every dimension and measure, and what was too small to score."""

    n: int
    overall: Mapping[str, tuple[float | None, float | None, float | None]]  # value, low, high by measure
    scores: tuple[SliceScore, ...]
    worst: tuple[WorstSlice, ...]
    too_small: Mapping[str, Mapping[str, int]]  # captions by dimension and label
    unlabelled: Mapping[str, int]  # captions without a label, by dimension
    origins: Mapping[str, str]
    smallest: int
    samples: int
    seed: int

    @property
    def signature(self) -> str:
        """How the intervals were made."""
        return (
            f"bootstrap:percentile|samples:{self.samples}|seed:{self.seed}|interval:95%|"
            f"differences:max-T over the slices of a dimension|smallest:{self.smallest}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self) | {"signature": self.signature}

    def rows(self) -> list[dict[str, Any]]:
        """One flat record a slice and measure, for a table."""
        return [asdict(score) for score in self.scores]

    def markdown(self) -> str:
        """The worst slice of every dimension and measure, then one table a dimension with all its slices."""
        heads = ("dimension", "measure", "worst slice", "n", "value", "overall", "worst / overall", "difference", "p")
        lines = _markdown_rows(
            [
                (*heads, "unselected"),
                *(
                    (
                        *(worst.dimension, worst.measure, f"{worst.label} (of {worst.slices})", str(worst.n)),
                        *(_percent(worst.value), _percent(worst.overall)),
                        _bounded(worst.ratio, worst.ratio_low, worst.ratio_high),
                        _bounded(worst.difference, worst.difference_low, worst.difference_high, _percent),
                        *(_number(worst.p), _percent(worst.unselected)),
                    )
                    for worst in self.worst
                ),
            ]
        )
        for dimension, origin in self.origins.items():
            few = ", ".join(f"{label} ({count})" for label, count in self.too_small.get(dimension, {}).items())
            lines += ["", *self._table(dimension), "", f"{dimension}: labels from {origin}; "]
            lines[-1] += f"{self.unlabelled.get(dimension, 0)} captions without one"
            lines[-1] += f"; fewer than {self.smallest} captions, not scored: {few}." if few else "."
        lines += [
            "",
            "Scores and differences in percent.",
            "`*`: differs from all captions by an interval that holds for all slices of its dimension at once. "
            "unselected: what the slice that is worst on a random half of the captions reaches on the other half.",
            f"Signature: {self.signature}",
        ]
        return "\n".join(lines) + "\n"

    def _table(self, dimension: str) -> list[str]:
        cells = {(score.label, score.measure): score for score in self.scores if score.dimension == dimension}
        sizes = {label: score.n for (label, _), score in cells.items()}
        rows = [
            (dimension, "n", *self.overall),
            ("all", str(self.n), *(_bounded(*v, _percent) for v in self.overall.values())),
        ]
        for label, n in sizes.items():
            found = [cells[label, measure] for measure in self.overall]
            rows.append((label, str(n), *(_bounded(s.value, s.low, s.high, _percent) + "*" * s.differs for s in found)))
        return _markdown_rows(rows)


def _markdown_rows(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first row is its head."""
    cells = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [*lines[:1], "|" + "---|" * len(cells[0]), *lines[1:]] if cells else []


# --- scores ---------------------------------------------------------------------------------------------------------


def slice_report(
    table: CaptionTable,
    measures: Sequence[Measure],
    slices: SliceLabels,
    *,
    smallest: int = SMALLEST,
    samples: int = SAMPLES,
    seed: int = 0,
) -> SliceReport:
    """Score the slices of `table` (one row a caption, in the order of the labels) on every measure that can be better.

    Captions are drawn again as for the card (`significance.bootstrap`, `samples` times, from `seed`), the same ones for
    a slice and for the whole, in one pass over the table. Slices with fewer than `smallest` captions are named and not
    scored.
    Raises `TableError` when the labels do not fit the table.
    """
    for dimension, each in slices.labels.items():
        if len(each) != len(table):
            raise TableError(f"slices by {dimension}", f"have {len(each)} labels beside {len(table)} captions")
    judged = [measure for measure in measures if measure.better != "neither"]
    counts = {dimension: _counted(labels) for dimension, labels in slices.labels.items()}
    scored = [(dimension, label) for dimension, found in counts.items() for label, n in found.items() if n >= smallest]
    members = np.array([[label in each for each in slices.labels[dimension]] for dimension, label in scored], bool)
    members = np.concatenate([np.ones((1, len(table)), bool), members.reshape(len(scored), len(table))])  # 0: all
    sums = _resampled(table, judged, members, samples, seed)
    overall: dict[str, tuple[float | None, float | None, float | None]] = {}
    scores: list[SliceScore] = []
    worst: list[WorstSlice] = []
    for measure in judged:
        values, draws = measure.value(sums.observed), measure.value(sums.drawn)  # (K + 1,), (samples, K + 1)
        lows, highs = _percentiles(draws)
        overall[measure.name] = (_known(values[0]), _known(lows[0]), _known(highs[0]))
        for dimension in counts:
            places = [place for place, (name, _) in enumerate(scored, start=1) if name == dimension]
            if not places:
                continue
            differences = _Band.of(values[places] - values[0], draws[:, places] - draws[:, :1])
            for at, place in enumerate(places):
                label = scored[place - 1][1]
                n, bounds = counts[dimension][label], (_known(lows[place]), _known(highs[place]))
                value = _known(values[place])
                scores.append(SliceScore(dimension, label, measure.name, n, value, *bounds, *differences.at(at)))
            found = _worst(
                measure, dimension, [scored[p - 1][1] for p in places], places, sums, values, draws, differences
            )
            if found:
                worst.append(found)
    return SliceReport(
        n=len(table),
        overall=overall,
        scores=tuple(scores),
        worst=tuple(worst),
        too_small={
            dimension: {label: n for label, n in found.items() if n < smallest} for dimension, found in counts.items()
        },
        unlabelled={dimension: sum(not each for each in labels) for dimension, labels in slices.labels.items()},
        origins=dict(slices.origins),
        smallest=smallest,
        samples=samples,
        seed=seed,
    )


def _counted(labels: Sequence[frozenset[str]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in labels:
        for label in each:
            counts[label] = counts.get(label, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class _Sums:
    """Sums by column: of all and of K slices (K + 1,), of resamples (samples, K + 1), of halves (CROSS_FITS, K + 1)."""

    observed: dict[str, Numbers]
    drawn: dict[str, Numbers]
    first_half: dict[str, Numbers]
    second_half: dict[str, Numbers]


def _resampled(
    table: CaptionTable, measures: Sequence[Measure], members: NDArray[np.bool_], samples: int, seed: int
) -> _Sums:
    columns = sorted({column for measure in measures for column in measure.columns} | {COUNT})
    random = np.random.default_rng(seed)
    slices, start = len(members), 0
    observed = np.zeros((slices, len(columns)))
    drawn = np.zeros((samples, slices, len(columns)))
    halves = np.zeros((CROSS_FITS, slices, len(columns)))
    for weights, rows in drawn_blocks(table, columns, samples=samples, seed=seed):
        half = random.integers(0, 2, (CROSS_FITS, len(rows))).astype(float)
        for number, chosen in enumerate(members[:, start : start + len(rows)]):
            observed[number] += rows[chosen].sum(axis=0)
            drawn[:, number] += weights[:, chosen] @ rows[chosen]
            halves[:, number] += half[:, chosen] @ rows[chosen]
        start += len(rows)

    def named(values: Numbers) -> dict[str, Numbers]:
        return {name: values[..., place] for place, name in enumerate(columns)}

    return _Sums(named(observed), named(drawn), named(halves), named(observed - halves))


@dataclass(frozen=True)
class _Band:
    """Differences of several slices with bounds and p values that hold for all of them at once."""

    values: Numbers
    low: Numbers
    high: Numbers
    p: Numbers

    @classmethod
    def of(cls, values: Numbers, draws: Numbers) -> _Band:
        """`values` (K,) and their resamples (samples, K): the bootstrap distribution of the largest |t| among the K."""
        import warnings

        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # slices on which nothing is defined
            deviation = np.nanstd(draws, axis=0)
            scaled = np.abs(draws - values) / np.where(deviation > 0, deviation, np.nan)
            largest = np.nanmax(scaled, axis=1)
            largest = largest[~np.isnan(largest)]
            if not len(largest):
                nothing = np.full(len(values), np.nan)
                return cls(values, nothing, nothing, nothing)
            reach = np.quantile(largest, CONFIDENCE) * deviation
            observed = np.abs(values) / np.where(deviation > 0, deviation, np.nan)
            p = (1 + (largest[:, None] >= observed).sum(axis=0)) / (1 + len(largest))
        return cls(values, values - reach, values + reach, np.where(np.isnan(observed), np.nan, p))

    def at(self, place: int) -> tuple[float | None, float | None, float | None, float | None]:
        return _known(self.values[place]), _known(self.low[place]), _known(self.high[place]), _known(self.p[place])


def _worst(
    measure: Measure,
    dimension: str,
    labels: Sequence[str],
    places: Sequence[int],
    sums: _Sums,
    values: Numbers,
    draws: Numbers,
    differences: _Band,
) -> WorstSlice | None:
    sign = 1.0 if measure.better == "higher" else -1.0
    ranked = np.where(np.isnan(values[places]), np.inf, sign * values[places])
    if np.isnan(values[0]) or np.isinf(ranked).all():
        return None
    at = int(np.argmin(ranked))
    place = places[at]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = _Band.of(values[places] / values[0] - 1, draws[:, places] / draws[:, :1] - 1).at(at)
    one, other = measure.value(sums.first_half)[:, places], measure.value(sums.second_half)[:, places]
    chosen = np.argmin(np.where(np.isnan(one), np.inf, sign * one), axis=1)
    unselected = other[np.arange(len(other)), chosen]
    ratio, ratio_low, ratio_high = (None if part is None else 1 + part for part in ratios[:3])
    difference, difference_low, difference_high, p = differences.at(at)
    return WorstSlice(
        dimension=dimension,
        measure=measure.name,
        label=labels[at],
        n=int(sums.observed[COUNT][place]),
        slices=len(places),
        value=float(values[place]),
        overall=float(values[0]),
        unselected=None if np.isnan(unselected).all() else _known(np.nanmean(unselected)),
        difference=0.0 if difference is None else difference,
        difference_low=difference_low,
        difference_high=difference_high,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        p=p,
    )


def _percentiles(draws: Numbers) -> tuple[Numbers, Numbers]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a slice on which nothing is defined has no interval
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def _known(value: Any) -> float | None:
    return None if not np.isfinite(value) else float(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _bounded(
    value: float | None, low: float | None, high: float | None, shown: Callable[[float | None], str] = _number
) -> str:
    return "-" if value is None else f"{shown(value)} [{shown(low)}, {shown(high)}]"
