"""Blind captions: made without the clip, without its own references, and chosen where they may be."""

from __future__ import annotations

from collections import Counter

import pytest
from small_captions import deaf, facts_of, pairs_of, reference

from caption_metrics import blind
from caption_metrics.blind import (
    BlindMaterial,
    constant,
    constant_best,
    majority_template,
    most_central,
    passed_on,
    shuffled,
)
from caption_metrics.score import evaluate_captions


def numbered(count: int) -> list[list[str]]:
    return [[f"caption {number}", f"other {number}"] for number in range(count)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("clips", [2, 3, 5, 60])
def test_no_clip_is_dealt_a_caption_of_its_own(clips: int, seed: int) -> None:
    references = numbered(clips)
    dealt = shuffled(references, seed)
    assert sorted(dealt) == sorted(texts[0] for texts in references)  # the first of each, all of them, once
    assert not any(text in own for text, own in zip(dealt, references, strict=True))


def test_clips_with_the_same_reference_do_not_get_it_back() -> None:
    references = [["same"], ["same"], ["a"], ["b"], ["c"]]
    for seed in range(20):
        assert all(text not in own for text, own in zip(shuffled(references, seed), references, strict=True))


def test_dealing_is_reproducible_and_depends_on_the_seed() -> None:
    references = numbered(50)
    assert shuffled(references) == shuffled(references)
    assert shuffled(references) != shuffled(references, seed=1)


def test_the_constant_is_chosen_without_the_references() -> None:
    usual = dict.fromkeys(reference(facts) for facts in facts_of(40, seed=7))
    training = ["something else entirely", *usual]  # the first of every two is a candidate
    one = constant([["a b c"]] * 3, training)
    other = constant([["something else entirely"]] * 3, training)
    assert one == other
    assert len(set(one)) == 1
    assert one[0].startswith("The low quality recording")  # what the training captions have in common


def test_the_best_constant_is_chosen_in_sight_of_the_references() -> None:
    training = ["a b c d", "e f g h", "i j k l"]
    assert constant_best([["e f g x"], ["e f y h"]], training) == ["e f g h"] * 2


def test_blank_training_captions_are_passed_over() -> None:
    assert constant([["x"]] * 2, ["", "a song"]) == ["a song", "a song"]
    assert constant([["x"], ["y"]], [" "]) == ["y", "x"]  # none is left: the other half's


def test_no_clip_is_scored_by_a_caption_of_its_own_half() -> None:
    references = [["even words"], ["odd words"], ["even words"], ["odd words"]]
    assert constant(references) == ["odd words", "even words", "odd words", "even words"]


def test_the_central_caption_shares_most_words() -> None:
    assert most_central(["a piano plays", "a piano sings", "quite different", "a piano"]) == "a piano"


def test_the_majority_template_repeats_the_usual_tags() -> None:
    tags = [["rock", "loud"], ["rock", "fast"], ["rock", "loud"]]
    assert majority_template(tags) == ["the music is characterized by rock, loud"] * 3


def rows_of(
    material: BlindMaterial, references: list[list[str]], block: int, **options: object
) -> dict[str, list[str]]:
    rows = material.rows(**options)  # type: ignore[arg-type]
    return {
        name: [
            text for first in range(0, len(references), block) for text in row(first, references[first : first + block])
        ]
        for name, row in rows.items()
    }


def test_a_stream_gives_what_the_whole_gives() -> None:
    references, tags = numbered(31), [["rock", "loud"]] * 20 + [["fast", "pop"]] * 11
    material = BlindMaterial()
    for first in range(0, 31, 7):
        material.add(references[first : first + 7], tags[first : first + 7])
    rows = rows_of(material, references, 3)
    assert rows["shuffled"] == shuffled(references)
    assert rows["constant"] == constant(references)
    assert rows["majority_template"] == majority_template(tags)
    training = ["caption 1 other", "caption 2", "caption 3"]
    rows = rows_of(material, references, 4, training_captions=training)
    assert rows["constant"] == constant(references, training)
    assert rows["constant_best"] == constant_best(references, training)


def test_of_a_long_stream_an_even_sample_is_dealt_out() -> None:
    """1,000 clips and a pool of 50, 40 seeds: every hundred of clips gives a tenth of what is dealt."""
    references = numbered(1_000)
    origins: Counter[int] = Counter()
    for seed in range(40):
        material = BlindMaterial(seed, pool=50)
        for first in range(0, 1_000, 250):
            material.add(references[first : first + 250])
        dealt = rows_of(material, references, 100)["shuffled"]
        assert not any(text in own for text, own in zip(dealt, references, strict=True))
        assert 40 <= len(set(dealt)) <= 50
        origins.update(int(text.split()[1]) // 100 for text in set(dealt))
    assert sum(origins.values()) == pytest.approx(2_000, abs=20)
    assert all(140 <= origins[hundred] <= 260 for hundred in range(10)), origins


def test_clips_that_all_share_one_reference_are_noted() -> None:
    card = evaluate_captions(pairs_of(["a"] * 4, [("piano", "sad", "slow")] * 4), samples=100)
    assert card.notes["shuffled"] == "4 clips were dealt a caption equal to their own: many share one"
    assert "shuffled" not in evaluate_captions(pairs_of(["a"] * 4, facts_of(4)), samples=100).notes


def test_a_deaf_system_in_the_house_style_does_not_beat_the_blind_rows() -> None:
    facts = facts_of(150)
    card = evaluate_captions(pairs_of(deaf(facts), facts), samples=300)
    assert set(card.blind) == {"constant", "shuffled", "majority_template", "own_shuffled"}
    assert card.beaten("facts_f1") is False
    assert "shuffled" in card.unbeaten_rows("bleu4")
    apart = card.beats_blind["bleu4"]["shuffled"]
    assert apart.low <= 0 <= apart.high


def test_one_sentence_for_every_clip_beats_nothing_however_well_it_is_chosen() -> None:
    facts = facts_of(150)
    sentence = "The low quality recording features a sad piano melody. It is a slow song, good for a movie. happy fast"
    card = evaluate_captions(pairs_of([sentence] * 150, facts), samples=200)
    assert card.blind["own_shuffled"]["bleu1"] == card.scores["bleu1"]
    assert card.beats_blind
    assert not any(card.beaten(name) for name in card.beats_blind)
    assert "own_shuffled" in card.unbeaten_rows("facts_recall")


@pytest.mark.parametrize("clips", [2, 3, 40])
def test_captions_are_passed_on_to_other_clips(clips: int) -> None:
    captions = [f"caption {number}" for number in range(clips)]
    dealt = passed_on(captions)
    assert sorted(dealt) == sorted(captions)
    assert not any(map(str.__eq__, dealt, captions))
    material = BlindMaterial()
    material.add([[caption] for caption in captions])
    row, references = material.passed_on(), [["x"]] * clips
    assert [row(place, references[:1])[0] for place in range(clips)] == dealt
    assert clips < 40 or passed_on(captions, seed=1) != dealt


def test_of_a_long_stream_captions_are_drawn_from_the_pool() -> None:
    material = BlindMaterial(pool=20)
    material.add([[f"caption {number}"] for number in range(100)])
    drawn = material.passed_on()(0, [["x"]] * 100)
    assert len(drawn) == 100
    assert 10 < len(set(drawn)) <= 20


def test_a_blind_row_that_claims_nothing_is_no_rival_on_precision() -> None:
    facts = facts_of(40)
    training = ["nothing that is known", "words of no kind"]
    perfect = pairs_of([reference(each) for each in facts], facts)
    card = evaluate_captions(perfect, training_captions=training, samples=100)
    assert card.blind["constant"]["facts_f1"] is None
    assert set(card.beats_blind["facts_f1"]) == {"shuffled", "majority_template", "own_shuffled"}
    assert card.beaten("facts_f1") is True
    assert "constant" in card.beats_blind["bleu1"]


@pytest.mark.parametrize(("clips", "tested"), [(2, False), (5, False), (6, True)])
def test_of_too_few_clips_there_is_no_verdict(clips: int, tested: bool) -> None:
    facts = facts_of(clips)
    card = evaluate_captions(pairs_of([reference(each) for each in facts], facts), samples=100)
    assert bool(card.beats_blind) is tested
    assert ("beats_blind" in card.notes) is not tested
    assert "too narrow" in card.notes["intervals"]


def test_the_pool_is_large_enough_for_the_published_test_set() -> None:
    assert blind.POOL > 2_839
    assert blind.HINDSIGHT > 2_839
