"""Simulated ratings hold the truth that they are made of, and say everywhere that they are simulated."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from caption_metrics.preference import fit_davidson
from caption_metrics.rating_counts import comparisons
from caption_metrics.rating_simulation import (
    Truth,
    expected_strengths,
    parse_strengths,
    simulate_ratings,
    write_ratings,
)
from caption_metrics.ratings import parse_rating, read_ratings
from lpmc_errors import UsageError


def test_every_record_can_be_read_and_says_that_it_is_simulated(tmp_path: Path) -> None:
    truth = Truth(careless=2, sided=1, seed=3)
    records = simulate_ratings(truth)
    assert all(record["simulated"] is True for record in records)
    assert all(record["time"].startswith("1970") and record["study"].startswith("simulated-") for record in records)
    assert all(record["rater"].startswith("simulated-") for record in records)
    beside = write_ratings(tmp_path / "ratings.jsonl", records, truth)
    found = read_ratings(tmp_path / "ratings.jsonl")
    assert found.simulated
    assert not found.problems
    assert len(found.ratings) == len(records)
    told = json.loads(beside.read_text())
    assert told["simulated"] is True
    assert told["strengths"] == truth.strengths
    assert Counter(told["manners"].values()) == {"careful": 21, "careless": 2, "sided": 1}


def test_the_design_is_that_of_the_rating_page() -> None:
    ratings = [parse_rating(record) for record in simulate_ratings(Truth(clips=40))]
    real = [rating for rating in ratings if rating.kind == "real"]
    units = Counter((rating.item, rating.pair) for rating in real)
    assert len(units) == 40 * 3
    assert set(units.values()) == {3}
    assert len({(rating.rater, rating.item, rating.pair) for rating in real}) == len(real)
    loads = Counter(rating.rater for rating in real)
    assert max(loads.values()) - min(loads.values()) <= 1
    kinds = Counter(rating.kind for rating in ratings)
    assert kinds["gold"] == kinds["duplicate"] == 24 * round(0.1 * 15)
    originals = {rating.rating_id: (place, rating) for place, rating in enumerate(ratings)}
    for place, rating in enumerate(ratings):
        if rating.kind == "duplicate":
            first_place, first = originals[rating.duplicate_of or ""]
            assert first_place < place  # the answer that is repeated was given before
            assert (first.left, first.right, first.item, first.rater) == (
                rating.right,
                rating.left,
                rating.item,
                rating.rater,
            )
    sides = Counter(rating.left == "human" for rating in real)
    assert 0.4 < sides[True] / len(real) < 0.6


def test_the_answers_hold_the_strengths_that_are_expected_of_them() -> None:
    truth = Truth(strengths={"human": 0.0, "a": -0.7, "b": 0.4}, clips=2000, raters=200, left=0.3)
    data = comparisons([parse_rating(record) for record in simulate_ratings(truth) if record["kind"] == "real"])
    fit = fit_davidson(data.counts("less_wrong"), data.sides, 3)
    expected = expected_strengths(truth)
    human = data.systems.index("human")
    for place, name in enumerate(data.systems):
        assert fit.strengths[place] - fit.strengths[human] == pytest.approx(expected[name], abs=0.1)
    assert 0.17 < float(fit.order) < 0.35  # 0.3, less marked by the spread of clips


def test_alike_raters_and_clips_leave_the_strengths_as_they_are() -> None:
    truth = Truth(strengths={"human": 0.0, "a": -0.7}, rater_sd=0.0, item_sd=0.0)
    assert expected_strengths(truth) == pytest.approx({"human": 0.0, "a": -0.7}, abs=1e-4)
    spread = expected_strengths(Truth(strengths={"human": 0.0, "a": -0.7}, item_sd=2.0))
    assert -0.6 < spread["a"] < -0.3


def test_a_seed_repeats_the_ratings_and_another_does_not() -> None:
    assert simulate_ratings(Truth(seed=1)) == simulate_ratings(Truth(seed=1))
    assert simulate_ratings(Truth(seed=1)) != simulate_ratings(Truth(seed=2))
    assert Truth(seed=1).study != Truth(seed=2).study


def test_every_two_systems_can_be_compared() -> None:
    truth = Truth(strengths={"human": 0.0, "a": 0.0, "b": 0.0}, every_pair=True, clips=5)
    assert {frozenset(record["pair"]) for record in simulate_ratings(truth) if record["kind"] == "real"} == {
        frozenset(pair) for pair in (("human", "a"), ("human", "b"), ("a", "b"))
    }


def test_simulated_ratings_never_replace_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_text("precious\n")
    with pytest.raises(UsageError, match="exists; simulated ratings go to a file of their own"):
        write_ratings(path, [], Truth())
    assert path.read_text() == "precious\n"


def test_strengths_are_read_from_the_command_line() -> None:
    assert parse_strengths(["human=0", "a=b=-0.5"]) == {"human": 0.0, "a=b": -0.5}
    for wrong in (["ours"], ["=1"], ["ours=much"], ["ours=1", "ours=2"]):
        with pytest.raises(UsageError, match="expected NAME=LOG-ODDS"):
            parse_strengths(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": {"human": 0.0}}, "name two or more"),
        ({"strengths": {"human": 0.0, "mismatched": 0.0}}, "none 'mismatched'"),
        ({"strengths": {"human": 0.0, "a": float("inf")}}, "not all are finite"),
        ({"raters": 2}, "3 of 2 raters"),
        ({"ties": 1.0}, "out of range"),
        ({"careless": 20, "sided": 5}, "more than the 24 raters"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Truth(**options)  # type: ignore[arg-type]
