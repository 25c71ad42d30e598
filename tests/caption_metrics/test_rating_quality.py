"""Careless raters are told from careful ones, by rules that do not look at whom they prefer."""

from __future__ import annotations

from typing import Any

import pytest

from caption_metrics.rating_quality import ExclusionRules, StudyQuality, rater_quality
from caption_metrics.rating_simulation import Truth, simulate_ratings
from caption_metrics.ratings import Rating, parse_rating


def rating(number: int, answer: str = "left", **changes: Any) -> Rating:
    row = {
        "rating_id": f"id{number}",
        "study": "s",
        "rater": "r",
        "item": f"i{number}",
        "pair": ["ours", "human"],
        "kind": "real",
        "answers": {"more_correct": answer, "less_wrong": changes.pop("less_wrong", answer)},
        "simulated": True,
        "seconds": 30.0,
    }
    return parse_rating({**row, **changes})


def gold(number: int, answer: str, human_left: bool = True, **changes: Any) -> Rating:
    pair = ["human", "mismatched"] if human_left else ["mismatched", "human"]
    return rating(number, answer, kind="gold", pair=pair, **changes)


def reasons(ratings: list[Rating], **rules: Any) -> str:
    (told,) = rater_quality(ratings, ExclusionRules(**rules), samples=10).raters
    return "; ".join(told.excluded_for)


def simulated(seed: int = 0, **options: Any) -> tuple[StudyQuality, dict[str, str]]:
    truth = Truth(seed=seed, **options)
    ratings = [parse_rating(record) for record in simulate_ratings(truth)]
    return rater_quality(ratings, samples=50), truth.to_dict()["manners"]


def test_gold_is_right_where_the_caption_of_the_clip_is_preferred_on_either_side() -> None:
    answers = [gold(1, "left"), gold(2, "right", human_left=False), gold(3, "tie"), gold(4, "right")]
    told = rater_quality(answers, samples=10)
    assert (told.gold.count, told.gold.of) == (4, 8)
    assert told.raters[0].excluded_for == ("4 of 8 gold answers right",)
    one_wrong = [gold(1, "left"), gold(2, "left"), gold(3, "left", less_wrong="right")]
    assert reasons(one_wrong) == ""


def test_too_few_gold_answers_exclude_nobody() -> None:
    assert reasons([gold(1, "right")]) == ""
    assert reasons([gold(1, "right"), gold(2, "right")]) == "0 of 4 gold answers right"


def test_a_median_time_below_the_rule_excludes_and_no_time_does_not() -> None:
    hasty = [rating(number, "tie", seconds=seconds) for number, seconds in enumerate([3, 4, 60])]
    assert reasons(hasty) == "median of 4.0 s a comparison"
    assert reasons(hasty, min_median_seconds=3) == ""
    assert reasons([rating(number, "tie", seconds=None) for number in range(3)]) == ""


def test_always_one_side_excludes_whichever_it_is() -> None:
    assert reasons([rating(number, "left") for number in range(10)]) == ""  # p = 0.002
    assert reasons([rating(number, "left") for number in range(11)]) == "left preferred in 11 of 11 answers"
    assert reasons([rating(number, "right") for number in range(30)]) == "left preferred in 0 of 30 answers"


def test_nothing_but_ties_excludes_from_twenty_ratings_on() -> None:
    assert reasons([rating(number, "tie") for number in range(19)]) == ""
    assert reasons([rating(number, "tie") for number in range(20)]) == "20 of 20 ties"
    assert reasons([rating(number, "tie" if number < 18 else "left") for number in range(20)]) == ""


def test_duplicates_are_compared_by_caption_and_not_by_side() -> None:
    first = [rating(1, "left"), rating(2, "left"), rating(3, "left", less_wrong="tie")]
    again = [
        rating(
            11, "right", kind="duplicate", duplicate_of="id1", pair=["human", "ours"], item="i1"
        ),  # the same caption
        rating(12, "left", less_wrong="tie", kind="duplicate", duplicate_of="id2", pair=["human", "ours"], item="i2"),
        rating(13, "tie", kind="duplicate", duplicate_of="id3", pair=["human", "ours"], item="i3"),
    ]
    (told,) = rater_quality(first + again, samples=10).raters
    assert (told.repeated.count, told.repeated.of) == (3, 6)
    assert told.reversed.count == 1
    assert told.excluded_for == ()


def test_careless_and_sided_raters_are_found_and_careful_ones_kept() -> None:
    for seed in range(3):
        told, manners = simulated(seed, clips=120, careless=3, sided=2)
        bad = {rater for rater, manner in manners.items() if manner != "careful"}
        assert set(told.excluded) == bad


def test_careful_raters_agree_with_themselves_beyond_chance_and_careless_ones_do_not() -> None:
    careful, _ = simulated(clips=300, item_sd=3.0)
    careless, _ = simulated(clips=300, careless=24)
    assert careful.intra_rater["more_correct"].alpha > 0.3  # type: ignore[operator]
    assert abs(careless.intra_rater["more_correct"].alpha) < 0.1  # type: ignore[arg-type]
    assert careful.gold.value == pytest.approx(0.95, abs=0.03)
    assert careless.gold.value == pytest.approx(1 / 3, abs=0.05)


def test_the_rules_are_told_in_words_with_their_numbers() -> None:
    told = " ".join(ExclusionRules(min_gold_accuracy=0.75, min_median_seconds=4).describe())
    assert "fewer than 75 % of at least 4 gold answers" in told
    assert "less than 4 s" in told


def test_what_raters_said_of_themselves_stands_beside_their_work() -> None:
    (told,) = rater_quality([rating(1)], familiarity={"r": 4}, samples=10).raters
    assert told.familiarity == 4
