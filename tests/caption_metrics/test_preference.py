"""Davidson's model against another maximiser, known strengths, and the cases without a finite answer."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import minimize

from caption_metrics.preference import PRIOR_SD, fit_davidson, logistic, preference, resampled_fits
from caption_metrics.rating_counts import Comparisons, comparisons, resample
from caption_metrics.rating_simulation import Truth, expected_strengths, simulate_ratings
from caption_metrics.ratings import parse_rating

STRENGTHS = {"human": 0.0, "near": -0.4, "above": 0.5}


def chances(strengths: np.ndarray, tie: float, order: float, sides: np.ndarray) -> np.ndarray:
    apart = (strengths[sides[:, 0]] - strengths[sides[:, 1]] + order) / 2
    weights = np.exp(np.stack([apart, np.full(len(sides), tie), -apart], axis=1))
    return weights / weights.sum(axis=1, keepdims=True)


SIDES = np.array(list(permutations(range(4), 2)))
FOUR = np.array([0.8, 0.2, -0.2, -0.8])


def simulated(seed: int, **options: object) -> Comparisons:
    truth = Truth(strengths=STRENGTHS, seed=seed, **options)  # type: ignore[arg-type]
    return comparisons([parse_rating(record) for record in simulate_ratings(truth)])


def told_of(outcomes: dict[tuple[str, str], tuple[int, int, int]]) -> Comparisons:
    """Comparisons with so many wins, ties and defeats of the left system, each by its own rater and clip."""
    ratings = [
        {
            "rating_id": f"{left}{right}{answer}{number}",
            "study": "s",
            "rater": f"r{number % 7}",
            "item": f"i{left}{right}{answer}{number}",
            "pair": [left, right],
            "kind": "real",
            "answers": {"more_correct": answer, "less_wrong": "tie"},
            "simulated": True,
        }
        for (left, right), counts in outcomes.items()
        for answer, count in zip(("left", "tie", "right"), counts, strict=True)
        for number in range(count)
    ]
    return comparisons([parse_rating(record) for record in ratings])


def test_the_fit_is_the_maximum_that_another_optimiser_finds() -> None:
    counts = np.stack([np.random.default_rng(0).multinomial(60, row) for row in chances(FOUR, -0.3, 0.2, SIDES)])

    def loss(found: np.ndarray) -> float:
        likelihood = (counts * np.log(chances(found[:4], found[4], found[5], SIDES))).sum()
        return float(-likelihood + (found**2).sum() / (2 * PRIOR_SD**2))

    other = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8}).x
    fit = fit_davidson(counts, SIDES, 4)
    assert fit.strengths == pytest.approx(other[:4] - other[:4].mean(), abs=1e-5)
    assert [float(fit.tie), float(fit.order)] == pytest.approx(other[4:], abs=1e-5)


def test_known_parameters_come_back_from_expected_counts() -> None:
    fit = fit_davidson(chances(FOUR, -0.3, 0.2, SIDES) * 1e6, SIDES, 4)
    assert fit.strengths == pytest.approx(FOUR, abs=1e-4)
    assert (float(fit.tie), float(fit.order)) == pytest.approx((-0.3, 0.2), abs=1e-4)


def test_without_ties_it_is_the_bradley_terry_model() -> None:
    # Two systems, 75 wins to 25: the odds are 3 to 1. The prior pulls by less than the third digit.
    fit = fit_davidson([[3750, 0, 1250], [1250, 0, 3750]], [[0, 1], [1, 0]], 2)
    assert fit.strengths[0] - fit.strengths[1] == pytest.approx(math.log(3), abs=1e-3)
    assert abs(float(fit.order)) < 1e-6


def test_many_fits_at_once_are_the_fits_one_by_one() -> None:
    counts = np.random.default_rng(1).poisson(20, size=(2, 3, len(SIDES), 3))
    together = fit_davidson(counts, SIDES, 4)
    assert together.strengths.shape == (2, 3, 4)
    alone = fit_davidson(counts[1, 2], SIDES, 4)
    assert together.strengths[1, 2] == pytest.approx(alone.strengths, abs=1e-9)
    assert float(together.tie[1, 2]) == pytest.approx(float(alone.tie), abs=1e-9)


@pytest.mark.parametrize("counts", [[[30, 0, 0]], [[0, 0, 1_000_000]], [[0, 50, 0]], [[0, 0, 0]]])
def test_no_count_however_uneven_gives_an_infinite_strength(counts: list[list[int]]) -> None:
    fit = fit_davidson(counts, [[0, 1]], 2)
    assert np.isfinite(fit.strengths).all()
    assert np.isfinite(fit.tie)
    assert np.isfinite(fit.order)
    assert np.sign(fit.strengths[0]) == np.sign(counts[0][0] - counts[0][2])


def test_shapes_that_disagree_are_named() -> None:
    with pytest.raises(ValueError, match=r"counts \(1, 2\) and sides \(1, 2\)"):
        fit_davidson([[1, 2]], [[0, 1]], 2)


def test_intervals_cover_the_true_strengths_though_raters_and_clips_differ() -> None:
    design = {"clips": 30, "raters": 20, "raters_per_unit": 6, "rater_sd": 1.0, "item_sd": 1.5}
    expected = expected_strengths(Truth(strengths=STRENGTHS, **design))  # type: ignore[arg-type]
    covered = rows = 0
    for seed in range(50):
        data = simulated(seed, **design)
        told = preference(data, "more_correct", resample(data, 200, seed)["more_correct"])
        for row in told.differences:
            assert row.low is not None
            assert row.high is not None
            covered += row.low <= expected[row.first] - expected[row.second] <= row.high
            rows += 1
    assert 0.90 <= covered / rows <= 0.995  # 150 intervals of 95 %


def test_one_step_towards_a_resample_is_nearly_its_own_fit() -> None:
    draw = np.random.default_rng(2)
    counts = np.stack([draw.multinomial(500, row) for row in chances(FOUR, -0.3, 0.2, SIDES)])
    drawn = np.stack([[draw.multinomial(500, row / 500) for row in counts] for _ in range(200)])
    step, full = resampled_fits(fit_davidson(counts, SIDES, 4), counts, drawn, SIDES), fit_davidson(drawn, SIDES, 4)
    assert np.abs(step.strengths - full.strengths).max() < 0.02
    assert step.strengths.std(axis=0) == pytest.approx(full.strengths.std(axis=0), rel=0.03)
    assert step.tie.std() == pytest.approx(full.tie.std(), rel=0.03)
    assert step.order.std() == pytest.approx(full.order.std(), rel=0.03)


def test_a_marked_preference_in_a_small_study_is_found() -> None:
    # 28 of 33 is p = 0.00007 by the sign test. Were resamples fitted to the end, those without a defeat would lie so
    # far out that the test over raters and clips sees nothing.
    data = told_of({("human", "blind-constant"): (14, 0, 2), ("blind-constant", "human"): (3, 0, 14)})
    (row,) = preference(data, "more_correct", resample(data, 500, 0)["more_correct"]).differences
    assert row.p is not None
    assert row.p < 0.02
    assert row.high is not None
    assert row.high < -0.5


def test_strengths_are_told_above_people_and_ranked_with_what_the_tests_leave_open() -> None:
    data = simulated(3, clips=300, rater_sd=0.0, item_sd=0.0)
    told = preference(data, "more_correct", resample(data, 200, 0)["more_correct"])
    assert told.reference == "human"
    assert [row.system for row in told.strengths] == ["above", "human", "near"]
    assert [(row.rank, row.rank_best, row.rank_worst) for row in told.strengths] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    values = {row.system: row.value for row in told.strengths}
    assert values["human"] == 0
    assert values == pytest.approx(STRENGTHS, abs=0.25)
    assert all(row.p is not None and row.p_holm is not None and row.p <= row.p_holm for row in told.differences)


def test_equal_systems_share_their_ranks() -> None:
    data = told_of({("human", "ours"): (20, 5, 20), ("ours", "human"): (21, 5, 19)})
    told = preference(data, "more_correct", resample(data, 200, 0)["more_correct"])
    assert [(row.rank_best, row.rank_worst) for row in told.strengths] == [(1, 2), (1, 2)]
    (row,) = told.differences
    assert row.p is not None
    assert row.p > 0.5


def test_a_preference_for_the_left_side_is_told_apart_from_strength() -> None:
    data = told_of({("human", "ours"): (60, 10, 30), ("ours", "human"): (60, 10, 30)})
    told = preference(data, "more_correct", resample(data, 200, 0)["more_correct"])
    assert [row.value for row in told.strengths] == pytest.approx([0, 0], abs=1e-6)
    assert told.left_between_equals == pytest.approx(2 / 3, abs=0.01)
    assert told.left_low is not None
    assert told.left_low > 0.5
    assert told.ties_between_equals == pytest.approx(0.1, abs=0.01)


def test_a_system_that_never_lost_has_no_interval_and_the_note_says_why() -> None:
    data = told_of({("ours", "human"): (20, 0, 0), ("human", "ours"): (0, 0, 10), ("human", "weak"): (9, 3, 5)})
    told = preference(data, "more_correct", resample(data, 200, 0)["more_correct"])
    best = told.strengths[0]
    assert (best.system, best.low, best.high, best.rank_worst) == ("ours", None, None, 2)
    assert best.value < 40
    tested = {frozenset((row.first, row.second)): row for row in told.differences}
    assert tested[frozenset(("human", "ours"))].p == pytest.approx(2 * 0.5**30)  # the sign test of 30 to 0
    assert tested[frozenset(("ours", "weak"))].p is None  # never compared, and no finite distance
    assert tested[frozenset(("human", "weak"))].low is not None
    assert any("no finite" in note and "ours" in note for note in told.notes)


def test_systems_that_nothing_links_are_left_out_and_named() -> None:
    data = told_of({("human", "ours"): (9, 3, 5), ("c", "d"): (4, 4, 4)})
    told = preference(data, "more_correct", resample(data, 200, 0)["more_correct"])
    assert {row.system for row in told.strengths} == {"human", "ours"}
    assert any(note.startswith("c, d: no comparison links them to human") for note in told.notes)


def test_all_ties_leave_everyone_equal() -> None:
    data = told_of({("human", "ours"): (0, 30, 0), ("ours", "human"): (0, 20, 0)})
    told = preference(data, "more_correct", resample(data, 200, 0)["more_correct"])
    assert [row.value for row in told.strengths] == pytest.approx([0, 0], abs=1e-6)
    assert told.ties_between_equals > 0.95
    assert told.differences[0].p == 1


def test_the_logistic_function_does_not_overflow() -> None:
    assert (logistic(-1000), logistic(0), logistic(1000)) == (0, 0.5, 1)
