"""Draws: what the paper's pre-training hears, and that a draw depends on seed, epoch and position alone."""

from __future__ import annotations

from collections import Counter

import pytest

from lpmc_errors import UsageError
from modeling_lpmc.training.sampling import BalancedTagSampler, ClipSampler


def test_balanced_sampling_hears_a_rare_tag_as_often_as_a_frequent_one() -> None:
    tags = [["rock"]] * 90 + [["jazz"]] * 9 + [["polka"]]
    draws = list(BalancedTagSampler(tags, [4] * 100, seed=0, draws=12_000))
    heard = Counter(tags[draw.clip][0] for draw in draws)
    assert all(abs(heard[tag] / 12_000 - 1 / 3) < 0.02 for tag in ("rock", "jazz", "polka"))  # 4.6 sigma
    rock = Counter(draw.clip for draw in draws if draw.clip < 90)
    assert len(rock) == 90
    assert max(rock.values()) < 3 * min(rock.values())
    captions = Counter(draw.caption for draw in draws)
    assert all(abs(captions[number] / 12_000 - 1 / 4) < 0.02 for number in range(4))
    assert 0 <= min(draw.crop for draw in draws) < 0.01
    assert 0.99 < max(draw.crop for draw in draws) < 1


def test_a_clip_with_two_tags_is_reached_through_either() -> None:
    sampler = BalancedTagSampler([["rock", "loud", "rock"], ["rock"], []], [1, 1, 1], seed=0, draws=4_000)
    heard = Counter(draw.clip for draw in sampler)
    assert abs(heard[0] / 4_000 - 0.75) < 0.03  # all of "loud" and half of "rock"
    assert 2 not in heard


def test_balanced_sampling_without_any_tag_is_refused() -> None:
    with pytest.raises(UsageError, match="no clip with tags"):
        BalancedTagSampler([[], []], [1, 1], seed=0, draws=10)


def test_an_epoch_holds_every_clip_once_and_the_next_another_order() -> None:
    sampler = ClipSampler([2, 1, 3, 1, 1, 1, 1, 1], seed=5)
    first = list(sampler)
    assert sorted(draw.clip for draw in first) == list(range(8))
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert [draw.clip for draw in second] != [draw.clip for draw in first]
    again = ClipSampler([2, 1, 3, 1, 1, 1, 1, 1], seed=5)
    again.set_epoch(1)
    assert list(again) == second
    assert list(ClipSampler([2, 1, 3, 1, 1, 1, 1, 1], seed=6)) != first


def test_captions_of_a_clip_take_turns_over_epochs() -> None:
    sampler = ClipSampler([3], seed=0)
    heard = set()
    for epoch in range(40):
        sampler.set_epoch(epoch)
        heard.update(draw.caption for draw in sampler)
    assert heard == {0, 1, 2}


def test_an_ordered_epoch_keeps_the_order_and_can_drop_the_rest_of_a_batch() -> None:
    sampler = ClipSampler([1] * 10, seed=0, shuffle=False, multiple=4)
    assert [draw.clip for draw in sampler] == list(range(8))
    assert len(sampler) == 8
