"""How many ratings a listening study needs, and what one of a given size can show.

The arithmetic takes ratings as independent. The simulation does not: raters differ in what they like, and clips in how
well a system does on them, so that ratings of one rater or one clip go together, and a test that ignores it cries wolf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caption_metrics.agreement import agreement_of_counts
from caption_metrics.rating_counts import quantile
from lpmc_errors import UsageError

Numbers = NDArray[np.float64]

POWER = 0.8
ALPHA = 0.05
# How far raters and clips differ, as standard deviations of the log-odds of a preference. No listening study of
# captions has published them: these are assumptions. The report says which alpha they imply; hold a pilot's against it.
RATER_SD = 0.4
ITEM_SD = 1.0
SIMULATIONS = 1000
NODES = 61  # of the Gauss-Hermite rule that averages over raters and clips
TABLE_RATES = (0.55, 0.60, 0.65)  # win rates that a report lists beside the planned one


@dataclass(frozen=True)
class StudyPlan:
    """A study in which `systems` are each compared with one and the same opponent, such as people's captions."""

    raters: int
    ratings_per_rater: int  # real ones; gold and duplicates come on top
    raters_per_unit: int = 3  # raters of one clip and pair; 1: agreement cannot be told
    systems: int = 1
    win_rate: float = 0.6  # of the comparisons that are no tie
    ties: float = 0.2  # share of all comparisons
    rater_sd: float = RATER_SD
    item_sd: float = ITEM_SD

    def __post_init__(self) -> None:
        for name in ("raters", "ratings_per_rater", "raters_per_unit", "systems"):
            if getattr(self, name) < 1:
                raise UsageError(name.replace("_", " "), f"{getattr(self, name)}, expected 1 or more")
        if not 0 < self.win_rate < 1 or self.win_rate == 0.5:
            raise UsageError("win rate", f"{self.win_rate:g}, expected above 0 and below 1, and not 0.5", "try 0.6")
        if not 0 <= self.ties < 1:
            raise UsageError("ties", f"{self.ties:g}, expected 0 or more and below 1", "try 0.2")
        if min(self.rater_sd, self.item_sd) < 0:
            raise UsageError("spread of raters or items", "below 0", "0 makes them all alike")
        if self.raters_per_unit > self.raters:
            raise UsageError("raters per unit", f"{self.raters_per_unit} of {self.raters} raters", "lower it")
        if not self.clips:
            raise UsageError(
                "plan",
                f"{self.raters * self.ratings_per_rater} ratings leave no clip for each of {self.systems} systems",
                "plan more ratings",
            )

    @property
    def clips(self) -> int:
        """Clips on which each system is compared."""
        return self.raters * self.ratings_per_rater // (self.systems * self.raters_per_unit)

    @property
    def comparisons(self) -> int:
        """Ratings of each system, ties included."""
        return self.clips * self.raters_per_unit


@dataclass(frozen=True)
class SimulatedPower:
    """What a test finds in simulated studies of one plan: how often it is right, and how often it cries wolf."""

    power: float  # of the test over raters and clips
    false_alarms: float  # of the same, where both captions are equally good
    sign_test_power: float
    sign_test_false_alarms: float  # above `ALPHA` where ratings go together
    design_effect: float  # variance over raters and clips, in units of that of independent ratings
    alpha: float | None  # Krippendorff's, nominal, that the assumed spreads imply
    simulations: int
    seed: int


@dataclass(frozen=True)
class PowerReport:
    """The arithmetic and the simulation for one plan."""

    plan: StudyPlan
    needed: dict[float, int]  # win rate -> comparisons without ties for 80 %
    needed_with_ties: int  # ratings of each system for the plan's win rate, ties included
    decided: float  # comparisons without ties that the plan expects for each system
    half_width: float  # of Wilson's interval at 50 % for that many
    exact_power: float  # of the exact sign test for that many independent comparisons
    detectable: float | None  # smallest win rate that it finds with 80 %; None where none is
    simulated: SimulatedPower

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **vars(self),
            "plan": {**vars(self.plan), "clips": self.plan.clips, "comparisons": self.plan.comparisons},
            "needed": {f"{rate:g}": number for rate, number in self.needed.items()},
            "simulated": vars(self.simulated),
        }


def power_lines(report: PowerReport) -> list[str]:
    """The report as lines of text."""
    plan, found = report.plan, report.simulated
    needed = ", ".join(f"{number:,} for {100 * rate:g} %" for rate, number in report.needed.items())
    reach = "none" if report.detectable is None else _percent(report.detectable)
    alpha = "not defined (one rater a unit)" if found.alpha is None else f"{found.alpha:.2f}"
    return [
        f"Plan: {plan.raters} raters x {plan.ratings_per_rater} ratings, systems against one opponent: {plan.systems}; "
        f"{plan.comparisons:,} ratings of each, on {plan.clips:,} clips.",
        "",
        "Were every rating independent:",
        f"  comparisons without ties for {_percent(POWER)} power at {ALPHA:g}: {needed}",
        f"  for {_percent(plan.win_rate)} with {_percent(plan.ties)} ties: {report.needed_with_ties:,} a system",
        f"  this plan expects {report.decided:,.0f} without ties: half-width of an interval "
        f"{100 * report.half_width:.1f} points, power {_percent(report.exact_power)}, "
        f"win rate found with {_percent(POWER)}: {reach}",
        "",
        f"As raters and clips repeat ({found.simulations:,} SIMULATED studies, seed {found.seed}; log-odds deviate by "
        f"{plan.rater_sd:g} between raters and {plan.item_sd:g} between clips: assumptions, which imply a "
        f"Krippendorff's alpha of {alpha}; hold that of a pilot against it):",
        f"  test over raters and clips: power {_percent(found.power)}, false alarms {_percent(found.false_alarms)}",
        f"  sign test: power {_percent(found.sign_test_power)}, false alarms {_percent(found.sign_test_false_alarms)}",
        f"  variance {found.design_effect:.2f} times that of independent ratings",
    ]


def _percent(share: float) -> str:
    return f"{round(100 * share, 1):g} %"


def needed_comparisons(win_rate: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """Comparisons without ties so that a two-sided test finds `win_rate` with this power (normal approximation)."""
    normal = NormalDist()
    spread = normal.inv_cdf(1 - alpha / 2) * 0.5 + normal.inv_cdf(power) * math.sqrt(win_rate * (1 - win_rate))
    return math.ceil((spread / (win_rate - 0.5)) ** 2)


def half_width(comparisons: int, rate: float = 0.5) -> float:
    """Half of the width of Wilson's 95 % interval around `rate` of `comparisons`."""
    z = NormalDist().inv_cdf(0.975)
    spread = math.sqrt(rate * (1 - rate) / comparisons + (z / (2 * comparisons)) ** 2)
    return z * spread / (1 + z * z / comparisons)


def sign_test_power(comparisons: int, win_rate: float, *, alpha: float = ALPHA) -> float:
    """The exact power of the exact two-sided sign test on independent comparisons without ties."""
    from scipy.special import bdtr, bdtrc

    wins = np.arange(comparisons // 2 + 1)
    few = wins[2 * bdtr(wins, comparisons, 0.5) <= alpha]  # so few wins, or losses, that equality is rejected
    if not len(few):
        return 0.0
    return float(bdtr(few[-1], comparisons, win_rate) + bdtrc(comparisons - few[-1] - 1, comparisons, win_rate))


def detectable_rate(comparisons: int, *, power: float = POWER) -> float | None:
    """The smallest win rate above 0.5 that the exact sign test finds with this power; None where it finds none."""
    from scipy.optimize import brentq

    if sign_test_power(comparisons, 1.0) < power:
        return None
    return float(brentq(lambda rate: sign_test_power(comparisons, rate) - power, 0.5, 1.0, xtol=1e-4))


def plan_power(
    plan: StudyPlan,
    *,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> PowerReport:
    """What a study of this plan can show; `seed` draws the simulated ones."""
    decided = plan.comparisons * (1 - plan.ties)
    whole = max(1, round(decided))
    needed = needed_comparisons(plan.win_rate)
    return PowerReport(
        plan,
        {rate: needed_comparisons(rate) for rate in sorted({*TABLE_RATES, plan.win_rate})},
        math.ceil(needed / (1 - plan.ties)),
        decided,
        half_width(whole),
        sign_test_power(whole, plan.win_rate),
        detectable_rate(whole),
        simulated_power(plan, simulations=simulations, seed=seed),
    )


def simulated_power(
    plan: StudyPlan,
    *,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> SimulatedPower:
    """Simulate the comparisons of one system under `plan`, and as many under equal captions, and test each.

    The answers follow Davidson's model, whose log-odds vary over raters and clips (normal, `rater_sd` and `item_sd`);
    their mean and the weight of ties are such that win rate and ties are those of the plan.
    """
    draw = np.random.default_rng(seed)
    found = {}
    block = max(1, 2_000_000 // plan.comparisons)
    for name, rate in (("power", plan.win_rate), ("false_alarms", 0.5)):
        parts = []
        for start in range(0, simulations, block):
            parts.append(_tested(plan, rate, min(block, simulations - start), draw))
        found[name] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    (clustered, naive, effect, answers), (no_effect, naive_alarm, _, _) = found["power"], found["false_alarms"]
    units = answers.reshape(-1, 3)
    (told,) = agreement_of_counts(units, range(3), ["nominal"], clusters=np.zeros(len(units)))
    return SimulatedPower(
        float(clustered.mean()),
        float(no_effect.mean()),
        float(naive.mean()),
        float(naive_alarm.mean()),
        float(np.nanmean(effect)),
        told.alpha,
        simulations,
        seed,
    )


def latent_parameters(win_rate: float, ties: float, spread: float) -> tuple[float, float]:
    """Mean of log-odds and weight (log) of ties that give these shares, where log-odds deviate by `spread`."""
    from scipy.optimize import root

    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()

    def missed(parameters: Numbers) -> list[float]:
        left, tie, right = (
            float((part * weights).sum()) for part in _answers(parameters[0] + spread * nodes, parameters[1])
        )
        return [left / (left + right) - win_rate, tie - ties]

    if not ties:
        found = root(lambda mean: missed(np.array([mean[0], -np.inf]))[0], [0.0])
        return float(found.x[0]), -math.inf
    found = root(missed, [math.log(win_rate / (1 - win_rate)), math.log(2 * ties / (1 - ties))])
    return float(found.x[0]), float(found.x[1])


def _answers(log_odds: Numbers, tie: float) -> tuple[Numbers, Numbers, Numbers]:
    weights = np.exp(log_odds / 2), np.exp(tie) * np.ones_like(log_odds), np.exp(-log_odds / 2)
    total = weights[0] + weights[1] + weights[2]
    return weights[0] / total, weights[1] / total, weights[2] / total


def _tested(
    plan: StudyPlan, rate: float, simulations: int, draw: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Numbers, Numbers]:
    """Simulated studies: whether each test rejects, the design effect, and the answers each clip got.

    Shapes (simulations,) and, for the answers, (simulations, clips, 3).
    """
    from scipy.special import bdtr

    mean, tie = latent_parameters(rate, plan.ties, math.hypot(plan.rater_sd, plan.item_sd))
    clip = np.repeat(np.arange(plan.clips), plan.raters_per_unit)
    rater = np.arange(plan.comparisons) % plan.raters  # neighbours: the raters of one clip differ
    log_odds = mean + plan.rater_sd * draw.standard_normal((simulations, plan.raters))[:, rater]
    log_odds += plan.item_sd * draw.standard_normal((simulations, plan.clips))[:, clip]
    win, tied, _ = _answers(log_odds, tie)
    luck = draw.random(log_odds.shape)
    outcome = np.where(luck < win, 1, np.where(luck < win + tied, 0, -1))
    wins, losses = (outcome > 0).sum(axis=1), (outcome < 0).sum(axis=1)
    decided = np.maximum(wins + losses, 1)
    naive = 2 * bdtr(np.minimum(wins, losses), wins + losses, 0.5) <= ALPHA
    share_won = wins / decided
    # The variance over raters and clips in closed form, as in `rating_counts` from resamples.
    apart = np.where(outcome == 0, 0.0, (outcome > 0) - share_won[:, None])
    single = (apart**2).sum(axis=1)
    by_clip = (apart.reshape(simulations, plan.clips, -1).sum(axis=2) ** 2).sum(axis=1)
    by_rater = np.zeros(simulations)
    for number in range(min(plan.raters, plan.comparisons)):
        by_rater += apart[:, number :: plan.raters].sum(axis=1) ** 2
    effect = np.maximum(by_rater + by_clip - single, single) / np.where(single > 0, single, np.nan)
    error = np.sqrt(effect * single) / decided
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = np.abs(share_won - 0.5) / error
    clustered = np.where(np.isnan(reached), naive, reached >= quantile(plan.raters, plan.clips))
    answers = np.stack(
        [(outcome == side).reshape(simulations, plan.clips, -1).sum(axis=2) for side in (1, 0, -1)], axis=2
    )
    return clustered, naive, effect, answers.astype(float)
