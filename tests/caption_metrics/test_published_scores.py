"""The published scores of three methods on 2,839 MusicCaps clips, reproduced from their published captions."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caption_metrics import blind, diversity, ngram
from caption_metrics.pairs import Pair, read_pairs

METHODS = ("caption_writing", "caption_attribute_prediction", "baseline_k2c")
ALL_ROWS_VOCABULARY = {"caption_writing": 5_689, "caption_attribute_prediction": 7_190, "baseline_k2c": 3_920}


@cache
def pairs_of(folder: Path, method: str) -> list[Pair]:
    return read_pairs(folder / method / "inference.json")


def predictions_of(folder: Path, method: str) -> list[str]:
    return [pair.prediction for pair in pairs_of(folder, method)]


def references_of(folder: Path) -> list[tuple[str, ...]]:
    return [pair.references for pair in pairs_of(folder, METHODS[0])]


def published(folder: Path, method: str) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((folder / method / "results.json").read_text())
    return scores


@pytest.mark.parametrize("method", METHODS)
def test_bleu_is_the_published_one(published_captions: Path, method: str) -> None:
    scores = ngram.bleu_scores(predictions_of(published_captions, method), references_of(published_captions))
    expected = [published(published_captions, method)[f"bleu{order}"] for order in (1, 2, 3, 4)]
    assert scores == pytest.approx(expected, rel=0, abs=1e-15)


def test_meteor_is_the_published_one_to_the_last_bit(published_captions: Path) -> None:
    from caption_metrics.meteor import meteor_scores

    scores = meteor_scores(predictions_of(published_captions, "caption_writing"), references_of(published_captions))
    assert float(np.mean(scores)) == published(published_captions, "caption_writing")["meteor_1.0"]


def test_rouge_l_lies_within_the_scatter_of_the_published_bootstrap(published_captions: Path) -> None:
    score = ngram.rouge_l(predictions_of(published_captions, "baseline_k2c"), references_of(published_captions))
    assert score == pytest.approx(published(published_captions, "baseline_k2c")["rougeL"], abs=2e-4)


@pytest.mark.parametrize("method", METHODS)
def test_lengths_and_vocabulary_are_the_published_ones(published_captions: Path, method: str) -> None:
    captions, expected = predictions_of(published_captions, method), published(published_captions, method)
    assert diversity.lengths(captions) == (expected["length_avg"], expected["length_std"])
    assert len(diversity.vocabulary(captions[: diversity.RELEASED_ROWS])) == expected["vocab_size"]
    assert len(diversity.vocabulary(captions)) == ALL_ROWS_VOCABULARY[method]


def test_shuffled_human_captions_score_as_measured(published_captions: Path) -> None:
    """Three seeds: BLEU-1 27.9 to 28.0, BLEU-2 12.4 to 12.6, BLEU-3 6.4 to 6.6, BLEU-4 3.9 to 4.0."""
    references = references_of(published_captions)
    for seed in (0, 1, 2):
        bleu = [round(100 * score, 1) for score in ngram.bleu_scores(blind.shuffled(references, seed), references)]
        assert 27.9 <= bleu[0] <= 28.0
        assert 12.4 <= bleu[1] <= 12.6
        assert 6.4 <= bleu[2] <= 6.6
        assert 3.9 <= bleu[3] <= 4.0


def test_the_best_training_caption_is_found_and_beats_the_paper_on_bleu1(published_captions: Path) -> None:
    sample = json.loads((published_captions / "musiccaps_annotation_sample.json").read_text())
    references = references_of(published_captions)
    constant = blind.constant(references, [entry["caption"] for entry in sample.values()])
    assert set(constant) == {sample["[sOJSjVp6UTc]-[30-40]"]["caption"]}
    scores = [round(100 * score, 2) for score in ngram.bleu_scores(constant, references)]
    assert scores == [29.36, 13.97, 6.85, 4.01]


def test_a_reference_of_the_other_half_scores_like_a_training_caption(published_captions: Path) -> None:
    references = references_of(published_captions)
    constant = blind.constant(references)
    assert len(set(constant)) == 2
    assert ngram.bleu_scores(constant, references)[0] > 0.26


def test_parsed_dictionary_captions_score_as_measured(published_captions: Path) -> None:
    """246 of the attribute_prediction captions are unparsed dictionaries; parsing them raises the row."""
    from dataset_builder.captioning.parsing import Parsed, parse_answer

    captions: list[str] = []
    parsed = 0
    for text in predictions_of(published_captions, "caption_attribute_prediction"):
        answer = parse_answer("attribute_prediction", text) if "new_attribute" in text else None
        parsed += isinstance(answer, Parsed)
        captions.append(answer.caption if isinstance(answer, Parsed) else text)
    assert parsed == 246
    scores = [round(100 * score, 2) for score in ngram.bleu_scores(captions, references_of(published_captions))]
    assert scores == [36.01, 18.56, 9.91, 5.54]
    assert round(100 * ngram.rouge_l(captions, references_of(published_captions)), 2) == 23.32
    assert round(diversity.lengths(captions)[0], 1) == 65.6
