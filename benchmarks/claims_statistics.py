"""Scores of systems over clips and seeds, and the claims: what is higher, by how much, and whether it is luck.

A score of a system is the mean over its seeds. Its interval comes from a bootstrap that draws the clips again (the same
draw for all systems, which pairs them) and, for each system apart, the seeds with replacement. Three seeds give a rough
notion of their spread, and one that is too small by about a third of the variance; that is why a claim also shows every
seed. Holm's correction is made over all claims of the family on both scores that decide.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.claims_plan import Claim
from benchmarks.claims_scores import EXACT_F1, reported_measures
from caption_metrics.measures import CaptionTable, Measure, Numbers
from caption_metrics.significance import (
    LEVEL,
    Difference,
    approximate_randomisation,
    bootstrap_together,
    difference,
    holm,
    interval,
)

DECIDES = (EXACT_F1, "meteor")  # what was heard; and the paper's kind of score, closeness to the reference captions
TRIALS = 2_000  # randomisations of the p over clips alone, which is told beside
BOOTSTRAP_SEED = 0

Rows = Mapping[str, Mapping[int, CaptionTable]]  # by system, then by seed; all on the same clips


@dataclass(frozen=True)
class Estimate:
    """A score of a system: mean over seeds, interval over clips and seeds, and every seed's own value."""

    value: float
    low: float
    high: float
    by_seed: Mapping[int, float]

    def to_dict(self) -> dict[str, Any]:
        return _without_nan(asdict(self))


@dataclass(frozen=True)
class Tested:
    """What became of a claim on one score. `p` is over clips and seeds, `p_clips` over clips alone.

    `verdict` is `holds`, `does not hold` (the other way round, and not by luck), `undecided`, or, while seeds are
    missing, `not complete`.
    """

    claim: Claim
    measure: str
    value: float
    low: float
    high: float
    p: float
    p_clips: float
    p_holm: float
    by_seed: Mapping[int, float]  # difference of the two runs with the same seed
    verdict: str

    def sentence(self) -> str:
        """The claim with its numbers, as one sentence."""
        paper = f" [the paper's: {self.claim.paper}]" if self.claim.paper else ""
        if np.isnan(self.value):
            return f"{self.claim.says}{paper}: {self.measure} not computed."
        return (
            f"{self.claim.says}{paper}: {100 * self.value:+.1f} {self.measure} "
            f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}], p = {_p(self.p)} (Holm {_p(self.p_holm)}; clips alone "
            f"{_p(self.p_clips)}), by seed {', '.join(f'{100 * one:+.1f}' for one in self.by_seed.values())}: "
            f"**{self.verdict}**."
        )

    def to_dict(self) -> dict[str, Any]:
        return _without_nan(asdict(self) | {"sentence": self.sentence()})


@dataclass(frozen=True)
class Drawn:
    """Bootstrap draws (samples,) of every score of every system and seed, on the same clips."""

    rows: Rows
    measures: tuple[Measure, ...]
    values: Mapping[tuple[str, int], Mapping[str, Numbers]]

    def system(self, name: str, measure: str) -> Numbers:
        """The draws of a system's mean over seeds: clips drawn for all systems alike, seeds for this one."""
        own = np.stack([self.values[name, seed][measure] for seed in self.rows[name]])
        chance = np.random.default_rng([BOOTSTRAP_SEED, zlib.crc32(name.encode())])
        seeds = chance.integers(0, len(own), size=own.shape)
        return np.take_along_axis(own, seeds, axis=0).mean(axis=0)

    def seen(self, name: str, measure: Measure) -> dict[int, float]:
        """The score of each seed on the clips as they are."""
        return {seed: float(measure.value(table.sums())) for seed, table in self.rows[name].items()}


def draw(rows: Rows, samples: int) -> Drawn:
    """Draw the clips again, for all runs at once. Random: by a fixed seed."""
    measures = reported_measures()
    together = {f"{name}\n{seed}": table for name, own in rows.items() for seed, table in own.items()}
    found = bootstrap_together(together, measures, samples=samples, seed=BOOTSTRAP_SEED) if together else {}
    places = [(name, seed) for name, own in rows.items() for seed in own]
    return Drawn(rows, measures, dict(zip(places, found.values(), strict=True)))


def estimates(drawn: Drawn) -> dict[str, dict[str, Estimate]]:
    """Every score of every system."""
    found: dict[str, dict[str, Estimate]] = {}
    for name in drawn.rows:
        found[name] = {}
        for measure in drawn.measures:
            seen = drawn.seen(name, measure)
            low, high = interval(drawn.system(name, measure.name))
            found[name][measure.name] = Estimate(float(np.mean(list(seen.values()))), low, high, seen)
    return found


def judged_claims(drawn: Drawn, claims: Sequence[Claim], seeds: int) -> list[Tested]:
    """Every claim whose two systems have a run, on the scores of `DECIDES`; corrected as part of the whole family.

    A claim that cannot be tested yet counts as one with p = 1, so that what holds in a part holds in the whole table.
    """
    measures = [measure for measure in drawn.measures if measure.name in DECIDES]
    found = [
        _tested(drawn, claim, measure, seeds)
        for claim in claims
        if drawn.rows.get(claim.better) and drawn.rows.get(claim.worse)
        for measure in measures
    ]
    untested = len(claims) * len(measures) - len(found)
    corrected = holm([one.p for one in found] + [1.0] * untested)[: len(found)]
    return [replace(one, p_holm=p, verdict=_verdict(one, p)) for one, p in zip(found, corrected, strict=True)]


def _tested(drawn: Drawn, claim: Claim, measure: Measure, seeds: int) -> Tested:
    better, worse = (drawn.seen(name, measure) for name in (claim.better, claim.worse))
    value = float(np.mean(list(better.values())) - np.mean(list(worse.values())))
    apart: Difference = difference(
        value, drawn.system(claim.better, measure.name) - drawn.system(claim.worse, measure.name), LEVEL
    )
    common = sorted(set(better) & set(worse))
    p_clips = float("nan")
    if common:
        one, other = (_pooled(drawn.rows[name], common, measure) for name in (claim.better, claim.worse))
        p_clips = approximate_randomisation(one, other, [measure], trials=TRIALS)[measure.name]
    return Tested(
        claim,
        measure.name,
        value,
        apart.low,
        apart.high,
        apart.p,
        p_clips,
        float("nan"),
        {seed: better[seed] - worse[seed] for seed in common},
        "" if len(better) == len(worse) == seeds else "not complete",
    )


def _verdict(one: Tested, p_holm: float) -> str:
    if one.verdict:
        return one.verdict
    if not p_holm <= 1 - LEVEL:  # also where it is no number
        return "undecided"
    return "holds" if one.value > 0 else "does not hold"


def _pooled(own: Mapping[int, CaptionTable], seeds: Sequence[int], measure: Measure) -> CaptionTable:
    """The rows of several seeds added up clip by clip."""
    table = CaptionTable(measure.columns)
    table.append({name: np.sum([own[seed].column(name) for seed in seeds], axis=0) for name in measure.columns})
    return table


def _p(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
