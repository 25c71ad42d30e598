"""Intervals and tests against known truth: scipy, brute force, enumeration, and simulations with stated seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from caption_metrics.measures import COUNT, CaptionTable, Measure, ratio
from caption_metrics.significance import (
    Difference,
    approximate_randomisation,
    bootstrap,
    bootstrap_together,
    difference,
    holm,
    interval,
    paired_bootstrap,
)

Values = NDArray[np.float64]
SHARE = Measure("share", ("hits", "tries"), ratio, "")
MEAN = Measure("mean", ("hits", COUNT), ratio, "")


def table_of(columns: Mapping[str, Values], rows_a_block: int = 10**6) -> CaptionTable:
    table = CaptionTable(list(columns))
    n = len(next(iter(columns.values())))
    for start in range(0, n, rows_a_block):
        table.append({name: values[start : start + rows_a_block] for name, values in columns.items()})
    return table


def random_rows(n: int, seed: int) -> dict[str, Values]:
    generator = np.random.default_rng(seed)
    tries = generator.integers(1, 9, n).astype(float)
    return {"hits": generator.binomial(tries.astype(int), 0.4).astype(float), "tries": tries}


def draws_of(n: int, samples: int, seed: int = 0) -> Values:
    """How often each sample has each caption (samples, n), read off columns that mark one caption each."""
    marks = {f"is{row}": np.eye(n)[row] for row in range(n)}
    measures = [Measure(f"is{row}", (f"is{row}",), lambda total: total, "") for row in range(n)]
    drawn = bootstrap(table_of(marks), measures, samples=samples, seed=seed)
    return np.stack([drawn[f"is{row}"] for row in range(n)], axis=1)


def test_every_sample_draws_as_many_captions_as_there_are() -> None:
    draws = draws_of(40, 500)
    assert (draws.sum(axis=1) == 40).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(40), abs=0.2)  # six standard errors
    assert draws.var() == pytest.approx(1 - 1 / 40, abs=0.03)  # binomial, not "each caption once"


def test_over_several_blocks_the_draw_is_still_one_of_all_captions() -> None:
    n, at = 5_000, 2_048  # two blocks of draws and a part of a third
    blocks = {"first": (np.arange(n) < at).astype(float), "last": (np.arange(n) >= 2 * at).astype(float)}
    measures = [Measure(name, (name,), lambda total: total, "") for name in blocks]
    measures.append(Measure("all", (COUNT,), lambda total: total, ""))
    drawn = bootstrap(table_of(blocks), measures, samples=2_000, seed=3)
    assert (drawn["all"] == n).all()
    share = at / n
    assert drawn["first"].var() == pytest.approx(n * share * (1 - share), rel=0.15)  # multinomial
    rest = (n - 2 * at) / n
    assert np.cov(drawn["first"], drawn["last"])[0, 1] == pytest.approx(-n * share * rest, rel=0.25)


def test_blocks_are_drawn_apart_from_each_other() -> None:
    values = np.random.default_rng(0).normal(size=2_048)
    halves = {"first": np.concatenate([values, 0 * values]), "second": np.concatenate([0 * values, values])}
    measures = [Measure(name, (name,), lambda total: total, "") for name in halves]
    drawn = [bootstrap(table_of(halves), measures, samples=1, seed=seed) for seed in range(80)]
    first, second = ([float(sample[name][0]) for sample in drawn] for name in halves)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.35  # three standard errors of none


def test_draws_depend_on_the_seed_and_not_on_the_blocks_of_the_table() -> None:
    rows = random_rows(5_000, 1)
    whole, pieces = table_of(rows), table_of(rows, rows_a_block=777)
    one, other = (bootstrap(table, [SHARE], samples=200, seed=4)["share"] for table in (whole, pieces))
    assert one == pytest.approx(other, abs=1e-12)
    assert not np.allclose(one, bootstrap(whole, [SHARE], samples=200, seed=5)["share"])
    together = bootstrap_together({"a": whole, "b": pieces}, [SHARE, MEAN], samples=200, seed=4)
    assert together["a"]["share"] == pytest.approx(one, abs=1e-12)
    assert together["b"]["share"] == pytest.approx(one, abs=1e-12)


def test_more_samples_than_fit_at_once_are_all_different() -> None:
    values = np.random.default_rng(2).normal(size=300)
    drawn = bootstrap(table_of({"hits": values}), [MEAN], samples=2_500, seed=0)["mean"]
    assert len(np.unique(drawn)) == 2_500
    where = {"first": (np.arange(3_000) < 2_048).astype(float)}  # how many fall into the first block of draws
    share = Measure("first", ("first",), lambda total: total, "")
    drawn = bootstrap(table_of(where), [share], samples=2_000, seed=0)["first"]
    assert not np.array_equal(drawn[:1_000], drawn[1_000:])


def test_an_interval_agrees_with_scipy() -> None:
    from scipy import stats

    rows = random_rows(400, 7)
    mine = interval(bootstrap(table_of(rows), [SHARE], samples=10_000, seed=0)["share"])
    theirs = stats.bootstrap(
        (rows["hits"], rows["tries"]),
        lambda hits, tries, axis: hits.sum(axis) / tries.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert mine == pytest.approx((theirs.low, theirs.high), abs=0.04 * (theirs.high - theirs.low))


def test_a_drawn_bleu_is_the_bleu_of_the_drawn_captions() -> None:
    import sacrebleu

    from caption_metrics.paper_block import PaperBlock

    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(12)]
    texts = [" ".join(generator.choice(words, generator.integers(3, 15))) for _ in range(80)]
    predictions, references = texts[:40], texts[40:]
    block = PaperBlock()
    table = CaptionTable(block.columns)
    table.append(block.add(predictions, [[text] for text in references]))
    measures = [measure for measure in block.measures if measure.name.startswith("bleu")]
    drawn = bootstrap(table, measures, samples=20, seed=9)
    for sample, counts in enumerate(draws_of(40, 20, seed=9)):
        chosen = np.repeat(np.arange(40), counts.astype(int))
        for order in (1, 2, 3, 4):
            expected = sacrebleu.BLEU(max_ngram_order=order, smooth_method="none").corpus_score(
                [predictions[row] for row in chosen], [[references[row] for row in chosen]]
            )
            assert drawn[f"bleu{order}"][sample] == pytest.approx(expected.score / 100, abs=1e-12)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """1,000 corpora of 120 captions, seeds from 1,000: a 90 % interval covers in 90 % of them (+-3, three errors)."""
    covered = 0
    for seed in range(1_000, 2_000):
        low, high = interval(bootstrap(table_of(random_rows(120, seed)), [SHARE], samples=300, seed=seed)["share"], 0.9)
        covered += low <= 0.4 <= high
    assert 0.87 <= covered / 1_000 <= 0.93


def test_what_is_not_defined_is_left_out_of_the_interval() -> None:
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert all(map(math.isnan, interval(np.array([np.nan]))))
    nothing = table_of({"hits": np.zeros(5), "tries": np.zeros(5)})
    found = paired_bootstrap(nothing, nothing, [SHARE], samples=100)["share"]
    assert found.to_dict() == dict.fromkeys(("difference", "low", "high", "p"))
    assert not found.favours("higher")


def test_a_system_compared_with_itself_does_not_differ() -> None:
    table = table_of(random_rows(50, 1))
    found = paired_bootstrap(table, table, [SHARE], samples=200)["share"]
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert not found.favours("higher")
    assert approximate_randomisation(table, table, [SHARE], trials=200) == {"share": 1.0}


def test_only_an_interval_that_leaves_zero_out_favours_a_system() -> None:
    assert Difference(0.2, 0.1, 0.3, 0.01).favours("higher")
    assert not Difference(0.2, 0.1, 0.3, 0.01).favours("lower")
    assert not Difference(0.2, 0.1, 0.3, 0.01).favours("neither")
    assert not Difference(0.1, -0.1, 0.3, 0.4).favours("higher")
    assert not Difference(-0.1, -0.3, 0.1, 0.4).favours("lower")
    assert Difference(-0.2, -0.3, -0.1, 0.01).favours("lower")


def test_pairing_finds_a_small_difference_between_like_systems() -> None:
    rows = random_rows(500, 3)
    better = {**rows, "hits": rows["hits"] + (np.arange(500) % 25 == 0)}
    a, b = table_of(better), table_of(rows)
    found = paired_bootstrap(a, b, [MEAN], samples=1_000)["mean"]
    assert found.value == pytest.approx(20 / 500)
    assert found.low > 0
    assert found.p < 0.01
    assert found.favours("higher")
    assert not found.favours("lower")
    alone = interval(bootstrap(a, [MEAN])["mean"])
    assert found.high - found.low < (alone[1] - alone[0]) / 3
    assert approximate_randomisation(a, b, [MEAN], trials=2_000)["mean"] < 0.001


def test_p_is_at_most_five_percent_where_the_interval_leaves_zero_out() -> None:
    generator = np.random.default_rng(5)
    for shift in np.linspace(0, 4, 41):
        samples = generator.normal(shift, 1, 2_000)
        found = difference(float(shift), samples)
        assert difference(-float(shift), -samples).p == found.p
        if found.low > 0.02:
            assert found.p <= 0.05
        if found.low < -0.02:
            assert found.p > 0.05


def enumerated_p(a: Mapping[str, Values], b: Mapping[str, Values]) -> float:
    """Two-sided p over every one of the 2 ** n ways to exchange captions."""
    n = len(a["hits"])

    def apart(swap: Values) -> float:
        sums = {name: [np.where(swap, y, x).sum() for x, y in ((a[name], b[name]), (b[name], a[name]))] for name in a}
        return float(sums["hits"][0] / sums["tries"][0] - sums["hits"][1] / sums["tries"][1])

    seen = abs(apart(np.zeros(n, bool)))
    patterns = [np.array(bits, bool) for bits in itertools.product((0, 1), repeat=n)]
    return sum(abs(apart(pattern)) >= seen - 1e-12 for pattern in patterns) / len(patterns)


@pytest.mark.parametrize("seed", range(5))
def test_for_few_captions_p_is_exact(seed: int) -> None:
    a, b = random_rows(7, seed), random_rows(7, seed + 100)
    p = approximate_randomisation(table_of(a), table_of(b), [SHARE], seed=seed)["share"]
    assert p == enumerated_p(a, b)


def test_p_agrees_with_scipy_where_patterns_are_drawn() -> None:
    from scipy import stats

    generator = np.random.default_rng(2)
    a, b = generator.normal(0.05, 1, 150), generator.normal(0, 1, 150)
    theirs = stats.permutation_test(
        (a, b),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
        rng=np.random.default_rng(3),
    ).pvalue
    mine = approximate_randomisation(table_of({"hits": a}), table_of({"hits": b}), [MEAN], trials=20_000)["mean"]
    assert 0.02 < mine < 0.9
    assert mine == pytest.approx(theirs, abs=0.02)


def test_p_counts_the_observed_exchange_as_well() -> None:
    a, b = table_of({"hits": np.ones(60)}), table_of({"hits": np.zeros(60)})
    assert approximate_randomisation(a, b, [MEAN], trials=99)["mean"] == 1 / 100


def test_equal_systems_are_called_different_as_rarely_as_p_says() -> None:
    """300 pairs of equally good systems on 30 captions, seeds 0 to 299: p is at most 0.1 in a tenth of them."""
    found = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        a, b = (table_of({"hits": generator.normal(size=30)}) for _ in range(2))
        found += approximate_randomisation(a, b, [MEAN], trials=199, seed=seed)["mean"] <= 0.1
    assert 0.05 <= found / 300 <= 0.15


def test_holm_on_an_example_worked_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; none below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    kept = holm([0.02, math.nan, 0.01])
    assert kept[0] == pytest.approx(0.02)  # the missing test is none: two remain
    assert math.isnan(kept[1])
    assert holm([]) == []


def test_captions_that_can_not_be_compared_are_an_error() -> None:
    a, b = table_of(random_rows(5, 0)), table_of(random_rows(6, 0))
    for compare in (paired_bootstrap, approximate_randomisation):
        with pytest.raises(ValueError, match=r"different numbers of captions.*\[5, 6\]"):
            compare(a, b, [SHARE])
    with pytest.raises(ValueError, match="1 captions, expected at least 2"):
        bootstrap(table_of(random_rows(1, 0)), [SHARE])
