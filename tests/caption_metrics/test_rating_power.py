"""The planned size: published arithmetic, exact power, and simulated studies in which ratings go together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from caption_metrics.rating_power import (
    StudyPlan,
    detectable_rate,
    half_width,
    latent_parameters,
    needed_comparisons,
    plan_power,
    power_lines,
    sign_test_power,
    simulated_power,
)
from lpmc_errors import UsageError


@pytest.mark.parametrize(("rate", "needed"), [(0.55, 783), (0.60, 194), (0.65, 85), (0.40, 194)])
def test_comparisons_needed_for_eighty_percent_are_those_of_the_arithmetic(rate: float, needed: int) -> None:
    assert needed_comparisons(rate) == needed


@pytest.mark.parametrize(("comparisons", "points"), [(96, 9.8), (200, 6.9), (500, 4.4), (1000, 3.1)])
def test_the_half_width_of_the_interval_is_that_of_the_arithmetic(comparisons: int, points: float) -> None:
    assert round(100 * half_width(comparisons), 1) == points


@pytest.mark.parametrize(("comparisons", "rate"), [(5, 0.9), (20, 0.7), (85, 0.65), (194, 0.6)])
def test_the_power_of_the_sign_test_is_that_of_trying_every_outcome(comparisons: int, rate: float) -> None:
    wins = np.arange(comparisons + 1)
    rejected = [binomtest(int(number), comparisons).pvalue <= 0.05 for number in wins]
    assert sign_test_power(comparisons, rate) == pytest.approx(binom.pmf(wins, comparisons, rate)[rejected].sum())


def test_the_rate_that_is_found_has_the_power_asked_for() -> None:
    rate = detectable_rate(194)
    assert rate is not None
    assert sign_test_power(194, rate) == pytest.approx(0.8, abs=0.002)
    assert detectable_rate(5) is None  # five of five is p = 0.06


def test_latent_parameters_give_the_win_rate_and_ties_that_were_asked_for() -> None:
    mean, tie = latent_parameters(0.65, 0.3, 1.5)
    log_odds = mean + 1.5 * np.random.default_rng(0).standard_normal(400_000)
    weights = np.exp(np.stack([log_odds / 2, np.full_like(log_odds, tie), -log_odds / 2]))
    win, tied, lose = (weights / weights.sum(axis=0)).mean(axis=1)
    assert win / (win + lose) == pytest.approx(0.65, abs=0.003)
    assert tied == pytest.approx(0.3, abs=0.003)
    assert latent_parameters(0.6, 0.0, 0.0) == (pytest.approx(np.log(1.5)), -np.inf)


def test_simulated_power_is_the_exact_one_where_ratings_are_independent() -> None:
    plan = StudyPlan(raters=60, ratings_per_rater=5, raters_per_unit=3, ties=0.0, rater_sd=0, item_sd=0)
    found = simulated_power(plan, simulations=1000, seed=0)
    assert found.sign_test_power == pytest.approx(sign_test_power(300, 0.6), abs=0.02)
    assert found.sign_test_false_alarms <= 0.06
    assert found.false_alarms <= 0.07
    assert found.alpha == pytest.approx(0, abs=0.02)


def test_where_ratings_go_together_only_the_test_over_raters_and_clips_keeps_its_word() -> None:
    plan = StudyPlan(raters=24, ratings_per_rater=40, raters_per_unit=6, rater_sd=0.6, item_sd=1.5)
    found = simulated_power(plan, simulations=1000, seed=0)
    assert found.sign_test_false_alarms > 0.15
    assert found.false_alarms == pytest.approx(0.05, abs=0.025)
    assert found.power < found.sign_test_power
    assert found.design_effect > 2
    assert found.alpha is not None
    assert 0.1 < found.alpha < 0.4


def test_more_raters_find_more_and_a_seed_repeats_the_study() -> None:
    few, many = (simulated_power(StudyPlan(raters, 20), simulations=300, seed=1) for raters in (12, 48))
    assert few.power < many.power
    assert simulated_power(StudyPlan(12, 20), simulations=300, seed=1) == few
    assert simulated_power(StudyPlan(12, 20), simulations=300, seed=2) != few


def test_a_plan_shares_its_ratings_among_systems_and_clips() -> None:
    plan = StudyPlan(raters=24, ratings_per_rater=20, raters_per_unit=3, systems=5)
    assert (plan.clips, plan.comparisons) == (32, 96)  # the paper's 480 ratings of five methods
    found = plan_power(plan, simulations=100)
    assert found.decided == pytest.approx(76.8)
    assert found.needed == {0.55: 783, 0.6: 194, 0.65: 85}
    assert found.needed_with_ties == 243
    told = json.loads(json.dumps(found.to_dict()))
    assert told["plan"]["comparisons"] == 96
    assert told["needed"]["0.55"] == 783
    text = "\n".join(power_lines(found))
    assert "783 for 55 %, 194 for 60 %, 85 for 65 %" in text
    assert "100 SIMULATED studies" in text


def test_one_rater_a_unit_has_no_agreement_and_one_rater_in_all_still_gives_an_answer() -> None:
    assert plan_power(StudyPlan(24, 20, raters_per_unit=1), simulations=100).simulated.alpha is None
    alone = plan_power(StudyPlan(1, 40, raters_per_unit=1), simulations=100)
    assert 0 <= alone.simulated.power <= 1
    assert "not defined" in "\n".join(power_lines(plan_power(StudyPlan(2, 1, raters_per_unit=1), simulations=100)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"win_rate": 0.5}, "win rate: 0.5, expected above 0 and below 1, and not 0.5"),
        ({"win_rate": 1.0}, "win rate: 1, expected"),
        ({"ties": 1.0}, "ties: 1, expected 0 or more"),
        ({"raters": 0}, "raters: 0, expected 1 or more"),
        ({"raters_per_unit": 30}, "raters per unit: 30 of 24 raters"),
        ({"systems": 500}, "480 ratings leave no clip for each of 500 systems"),
        ({"item_sd": -1.0}, "spread of raters or items: below 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        StudyPlan(**{"raters": 24, "ratings_per_rater": 20, **options})  # type: ignore[arg-type]
