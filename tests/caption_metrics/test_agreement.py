"""Krippendorff's alpha against published worked examples, a plain reading of its definition, and a known truth."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from caption_metrics.agreement import agreement, agreement_of_counts, krippendorff_alpha

NO = np.nan
# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: four observers, twelve units, values
# missing.
FOUR_OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
    [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
]


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_the_published_example_of_four_observers_is_reproduced_on_every_level(level: str, published: float) -> None:
    assert krippendorff_alpha(FOUR_OBSERVERS, level) == pytest.approx(published, abs=0.0005)  # type: ignore[arg-type]


def test_the_published_examples_of_two_observers_are_reproduced() -> None:
    # The same paper, sections A (binary, alpha 0.095) and B (nominal, alpha 0.692).
    binary = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
    letters = [["abcde".index(letter) for letter in row] for row in ("aabbdcccedda", "babbbccceddd")]
    assert krippendorff_alpha(binary) == pytest.approx(0.095, abs=0.0005)
    assert krippendorff_alpha(letters) == pytest.approx(0.692, abs=0.0005)


def plain_alpha(table: np.ndarray, level: str) -> float:
    """The definition read aloud: mean squared distance of pairs within units, over that of any two values."""
    units = [column[~np.isnan(column)] for column in table.T]
    units = [unit for unit in units if len(unit) > 1]
    values = np.concatenate(units)

    def distance(one: float, other: float) -> float:
        if level == "nominal":
            return float(one != other)
        if level == "interval":
            return (one - other) ** 2
        if level == "ratio":
            return ((one - other) / (one + other)) ** 2
        low, high = sorted((one, other))
        between = ((values >= low) & (values <= high)).sum()
        return (between - ((values == one).sum() + (values == other).sum()) / 2) ** 2

    within = sum(sum(distance(*pair) for pair in permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    across = sum(distance(*pair) for pair in permutations(values, 2)) / (len(values) - 1)
    return float(1 - within / across)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval", "ratio"])
def test_alpha_is_its_definition_on_random_tables_with_gaps(level: str) -> None:
    draw = np.random.default_rng(5)
    for _ in range(5):
        table = draw.integers(1, 6, size=(5, 9)).astype(float)
        table[draw.random(table.shape) < 0.4] = NO
        assert krippendorff_alpha(table, level) == pytest.approx(plain_alpha(table, level), abs=1e-12)  # type: ignore[arg-type]


def test_agreement_is_one_where_all_agree_and_zero_where_chance_decides() -> None:
    assert krippendorff_alpha([[1, 2, 3, 1], [1, 2, 3, 1]], "ordinal") == 1
    draw = np.random.default_rng(0)
    told = agreement(draw.integers(0, 3, size=(3, 3000)), samples=200)
    assert told.alpha is not None
    assert told.low is not None
    assert told.high is not None
    assert abs(told.alpha) < 0.02
    assert told.low < 0 < told.high
    assert krippendorff_alpha([[0, 1, 0, 1], [1, 0, 1, 0]]) < 0


def test_alpha_is_not_defined_without_variation_or_pairs_and_says_so() -> None:
    assert np.isnan(krippendorff_alpha([[2, 2, 2], [2, 2, 2]]))
    assert np.isnan(krippendorff_alpha([[1, NO], [NO, 2]]))
    assert agreement([[2, 2, 2], [2, 2, 2]]).note == "all answers are equal: chance agrees as well"
    alone = agreement([[1, 2, 3]])
    assert (alone.alpha, alone.units, alone.note) == (None, 0, "no unit was judged by two raters")
    one_item = agreement([[1, 2, 1], [1, 2, 2]], clusters=["a", "a", "a"])
    assert one_item.alpha is not None
    assert one_item.low is None
    assert one_item.note == "one item: no interval"


def test_units_that_one_rater_judged_change_nothing() -> None:
    lonely = np.column_stack([np.array(FOUR_OBSERVERS, float), [5, NO, NO, NO]])
    assert krippendorff_alpha(lonely, "interval") == krippendorff_alpha(FOUR_OBSERVERS, "interval")


def test_counts_of_values_and_a_table_of_raters_give_the_same() -> None:
    table = np.array(FOUR_OBSERVERS, float)
    counts = [[(column == value).sum() for value in range(1, 6)] for column in table.T]
    (told,) = agreement_of_counts(counts, range(1, 6), ["ordinal"], clusters=np.arange(12), seed=3)
    assert told == agreement(table, "ordinal", seed=3)
    assert told.alpha == pytest.approx(krippendorff_alpha(table, "ordinal"))
    assert (told.units, told.answers) == (11, 40)


def noisy_answers(draw: np.random.Generator, units: int, per_item: int = 1) -> np.ndarray:
    """Three raters who repeat the truth in 70 % of cases and guess else; units of one item share the truth."""
    truth = np.repeat(draw.integers(0, 3, size=units // per_item), per_item)
    guesses = draw.integers(0, 3, size=(3, units))
    return np.where(draw.random((3, units)) < 0.7, truth, guesses)


def test_the_interval_covers_the_true_alpha_nineteen_times_in_twenty() -> None:
    # Two answers agree beyond chance when both repeat the truth: alpha is 0.7 squared.
    draw = np.random.default_rng(1)
    found = [agreement(noisy_answers(draw, 100), samples=200, seed=seed) for seed in range(200)]
    covered = sum(told.low <= 0.49 <= told.high for told in found)  # type: ignore[operator]
    assert 180 <= covered <= 199
    assert np.mean([told.alpha for told in found]) == pytest.approx(0.49, abs=0.01)  # type: ignore[arg-type]


def test_units_of_one_item_are_drawn_together() -> None:
    answers = np.repeat(noisy_answers(np.random.default_rng(2), 60), 4, axis=1)  # each unit four times
    apart = agreement(answers, samples=400)
    together = agreement(answers, clusters=np.repeat(np.arange(60), 4), samples=400)
    assert together.alpha == apart.alpha
    width = [told.high - told.low for told in (apart, together)]  # type: ignore[operator]
    assert width[1] == pytest.approx(2 * width[0], rel=0.25)


def test_a_resample_holds_whole_clusters() -> None:
    agree = [[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2]]
    differ = [[0, 1, 2, 0, 1, 2], [1, 2, 0, 1, 2, 0]]
    told = agreement(np.hstack([agree, differ]), clusters=[0] * 6 + [1] * 6, samples=200)
    assert told.high == 1  # a fourth of the resamples hold the first cluster alone
    assert told.low == pytest.approx(krippendorff_alpha(np.hstack([differ, differ])))  # the other alone, twice


def test_a_seed_repeats_the_interval() -> None:
    assert agreement(FOUR_OBSERVERS, seed=4) == agreement(FOUR_OBSERVERS, seed=4)
    assert agreement(FOUR_OBSERVERS, seed=4) != agreement(FOUR_OBSERVERS, seed=5)


def test_a_wrong_level_shape_or_value_is_named() -> None:
    with pytest.raises(ValueError, match="level 'likert', expected nominal"):
        krippendorff_alpha([[1, 2], [1, 3]], "likert")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 axes, expected two"):
        krippendorff_alpha([1, 2])
    with pytest.raises(ValueError, match="no values below 0"):
        krippendorff_alpha([[-1, 2], [1, 2]], "ratio")
    with pytest.raises(ValueError, match="distinct values"):
        krippendorff_alpha(np.arange(300).reshape(2, 150))
