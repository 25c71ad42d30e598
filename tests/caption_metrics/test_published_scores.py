"""The published scores of three methods on 2,839 MusicCaps clips, reproduced from their published captions."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caption_metrics import blind, diversity, meteor, ngram
from caption_metrics.measures import CaptionTable
from caption_metrics.pairs import Pair, read_pairs
from caption_metrics.paper_block import PaperBlock
from caption_metrics.score import evaluate_captions

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


@cache
def scores_of(folder: Path, method: str) -> dict[str, Any]:
    """The block's scores, 500 captions at a time."""
    captions, references = predictions_of(folder, method), references_of(folder)
    block = PaperBlock()
    table = CaptionTable(block.columns)
    for start in range(0, len(captions), 500):
        table.append(block.add(captions[start : start + 500], references[start : start + 500]))
    sums = table.sums()
    return {measure.name: float(measure.value(sums)) for measure in block.measures} | block.totals()


@pytest.mark.parametrize("method", METHODS)
def test_bleu_meteor_and_lengths_are_the_published_ones_to_the_last_bit(published_captions: Path, method: str) -> None:
    scores, expected = scores_of(published_captions, method), published(published_captions, method)
    for name in ("bleu1", "bleu2", "bleu3", "bleu4", "length_avg", "length_std"):
        assert scores[name] == expected[name], name
    assert scores["meteor"] == expected["meteor_1.0"]


def test_a_card_has_the_released_names_with_the_released_values(published_captions: Path) -> None:
    method = METHODS[0]
    card = evaluate_captions(pairs_of(published_captions, method), blind=False, intervals=False).to_dict()
    found, expected = card["as_released"], published(published_captions, method)
    assert set(expected) - set(found) == {
        "bertscore",
        "vocab_diversity",
        "caption_novelty",
    }  # no model, no training set
    for name in set(found) - {"rougeL"}:
        assert found[name] == expected[name], name
    assert found["rougeL"] == pytest.approx(expected["rougeL"], rel=0, abs=2e-4)
    assert card["vocab_size"] == ALL_ROWS_VOCABULARY[method]


@pytest.mark.parametrize("method", METHODS)
def test_rouge_l_lies_within_the_scatter_of_the_published_bootstrap(published_captions: Path, method: str) -> None:
    expected = published(published_captions, method)["rougeL"]
    assert scores_of(published_captions, method)["rougeL"] == pytest.approx(expected, rel=0, abs=2e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_vocabulary_is_the_published_one_and_the_right_one_beside_it(published_captions: Path, method: str) -> None:
    scores = scores_of(published_captions, method)
    assert scores["vocab_size_released"] == published(published_captions, method)["vocab_size"]
    assert scores["vocab_size"] == ALL_ROWS_VOCABULARY[method]


def test_each_score_alone_is_that_of_the_block(published_captions: Path) -> None:
    captions, references = predictions_of(published_captions, METHODS[0])[:300], references_of(published_captions)[:300]
    block = PaperBlock()
    table = CaptionTable(block.columns)
    table.append(block.add(captions, references))
    sums = table.sums()
    together = {measure.name: float(measure.value(sums)) for measure in block.measures}
    assert ngram.bleu_scores(captions, references) == [together[f"bleu{order}"] for order in ngram.BLEU_ORDERS]
    assert ngram.rouge_l(captions, references) == together["rougeL"]
    assert float(np.mean(meteor.meteor_scores(captions, references))) == together["meteor"]
    assert diversity.lengths(captions) == (together["length_avg"], block.totals()["length_std"])


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
    constant = blind.constant_best(references, [entry["caption"] for entry in sample.values()])
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
