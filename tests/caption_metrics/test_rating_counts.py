"""Win, tie and lose: what is counted, and intervals that know that raters and clips repeat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from caption_metrics.rating_analysis import results
from caption_metrics.rating_counts import comparisons, pair_results, resample, share, sign_test
from caption_metrics.ratings import Rating, parse_rating


def rating(number: int, left: str, right: str, answer: str, **changes: Any) -> Rating:
    return parse_rating(
        {
            "rating_id": f"id{number}",
            "study": "s",
            "rater": f"r{number % 5}",
            "item": f"i{number}",
            "pair": [left, right],
            "kind": "real",
            "answers": {"more_correct": answer, "less_wrong": "tie"},
            "simulated": True,
            **changes,
        }
    )


@pytest.mark.parametrize(("count", "of"), [(0, 7), (7, 7), (3, 10), (48, 96), (250, 1000)])
def test_a_share_has_the_interval_of_wilson_that_scipy_gives(count: int, of: int) -> None:
    told, expected = share(count, of), binomtest(count, of).proportion_ci(method="wilson")
    assert (told.low, told.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert told.value == count / of


def test_a_design_effect_makes_the_interval_that_of_fewer_ratings() -> None:
    told, fewer = share(120, 400, effect=4.0), share(30, 100)
    assert (told.low, told.high) == pytest.approx((fewer.low, fewer.high))
    assert share(0, 0).value is None
    assert share(0, 0).low is None


@pytest.mark.parametrize(("wins", "losses"), [(0, 1), (5, 5), (8, 2), (0, 20), (37, 59), (5200, 4800)])
def test_the_sign_test_is_the_exact_one_of_scipy(wins: int, losses: int) -> None:
    assert sign_test(wins, losses) == pytest.approx(binomtest(wins, wins + losses).pvalue, rel=1e-9)


def test_nothing_decided_is_no_evidence() -> None:
    assert sign_test(0, 0) == 1


def test_answers_are_counted_for_the_caption_and_not_for_its_side() -> None:
    shown = [("ours", "human", "left"), ("human", "ours", "right"), ("human", "ours", "left"), ("ours", "human", "tie")]
    data = comparisons([rating(number, *told) for number, told in enumerate(shown)])
    (row,) = pair_results(data, "more_correct", resample(data, 200, 0)["more_correct"])
    assert (row.system, row.opponent) == ("ours", "human")
    assert (row.win.count, row.tie.count, row.lose.count, row.win_or_tie.count) == (2, 1, 1, 3)
    assert (row.win_rate.count, row.win_rate.of, row.ratings) == (2, 3, 4)


def test_gold_and_duplicates_enter_no_count() -> None:
    real = [rating(1, "ours", "human", "left"), rating(2, "human", "ours", "left")]
    others = [
        rating(3, "human", "mismatched", "left", kind="gold"),
        rating(4, "human", "ours", "right", kind="duplicate", duplicate_of="id1", item="i1", rater="r1"),
    ]
    assert len(comparisons(real + others)) == 2
    assert comparisons(real + others).systems == ("ours", "human")


def test_everything_is_told_against_people_and_the_blind_caption_comes_before_them() -> None:
    names = [("human", "zebra"), ("blind-constant", "human"), ("alpha", "blind-constant")]
    data = comparisons([rating(number, *pair, "tie") for number, pair in enumerate(names)])
    assert data.systems == ("alpha", "zebra", "blind-constant", "human")
    rows = pair_results(data, "more_correct", resample(data, 100, 0)["more_correct"])
    assert [(row.system, row.opponent) for row in rows] == [
        ("alpha", "blind-constant"),
        ("zebra", "human"),
        ("blind-constant", "human"),
    ]


def test_a_question_that_some_did_not_answer_counts_those_who_did() -> None:
    both = {"more_correct": "left", "less_wrong": "left", "overall": "right"}
    data = comparisons([rating(1, "ours", "human", "left", answers=both), rating(2, "ours", "human", "left")])
    assert data.counts("overall").sum() == 1
    assert data.counts("more_correct").sum() == 2
    assert resample(data, 50, 0)["overall"].by_item.sum(axis=(1, 2)).max() <= 2


def test_resamples_draw_whole_raters_and_whole_clips() -> None:
    # Rater r0 says left ten times, r1 says right ten times: drawing raters gives 0, 10 or 20 lefts.
    ratings = [
        rating(
            number, "ours", "human", "left" if number % 2 else "right", rater=f"r{number % 2}", item=f"i{number // 2}"
        )
        for number in range(20)
    ]
    drawn = resample(comparisons(ratings), 300, 0)["more_correct"]
    assert set(drawn.by_rater[:, 0, 0]) == {0, 10, 20}
    assert set(drawn.by_item[:, 0, 0]) == {10}  # every clip has one of each
    assert len(set(drawn.by_both[:, 0, 0])) > 5
    for kind in (drawn.by_rater, drawn.by_item, drawn.by_both):
        assert kind.sum(axis=(1, 2)) == pytest.approx(20)


def test_drawing_kinds_of_rows_and_rows_are_the_same_bootstrap() -> None:
    # 60 single ratings of three kinds are drawn by kind; the same with a fourth of the ratings are drawn row by row.
    answers = ["left"] * 30 + ["tie"] * 18 + ["right"] * 12
    many = comparisons([rating(number, "ours", "human", answer) for number, answer in enumerate(answers)])
    drawn = resample(many, 4000, 1)["more_correct"].by_both[:, 0]
    assert drawn.mean(axis=0) == pytest.approx([30, 18, 12], abs=0.3)
    assert drawn.var(axis=0) == pytest.approx([60 * 0.25, 60 * 0.21, 60 * 0.16], rel=0.08)
    few = comparisons([rating(number, "ours", "human", answer) for number, answer in enumerate(answers[::4])])
    drawn = resample(few, 4000, 1)["more_correct"].by_both[:, 0]
    assert drawn.var(axis=0) == pytest.approx(
        np.array([15 * 8 / 15 * 7 / 15, 15 * 4 / 15 * 11 / 15, 15 * 0.16]), rel=0.08
    )


def test_the_interval_over_raters_and_clips_is_wider_where_a_clip_decides() -> None:
    draw = np.random.default_rng(0)
    better = draw.random(50) < 0.6  # three raters a clip who all say the same of it
    ratings = [
        rating(
            number,
            "ours",
            "human",
            "left" if better[number // 3] else "right",
            item=f"i{number // 3}",
            rater=f"r{number % 30}",
        )
        for number in range(150)
    ]
    data = comparisons(ratings)
    (row,) = pair_results(data, "more_correct", resample(data, 500, 0)["more_correct"])
    assert row.design_effect == pytest.approx(3, rel=0.2)
    wide, narrow = (part.high - part.low for part in (row.clustered, row.win_rate))  # type: ignore[operator]
    assert wide == pytest.approx(3**0.5 * narrow, rel=0.15)


def test_one_rater_and_one_clip_give_counts_and_no_false_certainty() -> None:
    one = results([rating(1, "ours", "human", "left")], samples=100)
    (question, _) = one.questions
    assert question.pairs[0].win.count == 1
    assert question.preference.strengths[0].low is None
    assert question.preference.differences[0].p == 1  # the sign test of one
    assert question.nominal.alpha is None


def test_holm_corrects_over_the_pairs_of_a_question() -> None:
    shown = [("a", "human", "left")] * 9 + [("b", "human", "left")] * 8 + [("b", "human", "right")]
    data = comparisons([rating(number, *told) for number, told in enumerate(shown)])
    first, second = pair_results(data, "more_correct", resample(data, 100, 0)["more_correct"])
    assert first.sign_test_holm == pytest.approx(2 * first.sign_test)
    assert second.sign_test_holm == pytest.approx(max(second.sign_test, 2 * first.sign_test))
