"""The block gives the values of sacrebleu, rouge_score and NLTK on any text, streams, and holds its memory."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from random_texts import random_corpus, random_texts
from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from caption_metrics import diversity, meteor, ngram, pieces
from caption_metrics.measures import COUNT, CaptionTable
from caption_metrics.paper_block import PaperBlock
from lpmc_errors import MissingExtraError, TableError


def scores_of(block: PaperBlock, predictions: Sequence[str], references: Sequence[Sequence[str]], rows: int) -> dict:
    """Measures and totals after adding the captions `rows` at a time."""
    table = CaptionTable(block.columns)
    for start in range(0, len(predictions), rows):
        table.append(block.add(predictions[start : start + rows], references[start : start + rows]))
    sums = table.sums()
    return {measure.name: float(measure.value(sums)) for measure in block.measures} | block.totals()


def test_tokens_of_any_text_are_those_of_sacrebleu_and_rouge_score() -> None:
    own, thirteen_a, rouge = pieces.Pieces(), Tokenizer13a(), DefaultTokenizer()
    for text in random_texts(3_000, seed=1):
        caption = own.split(text)
        assert caption.bleu == thirteen_a(text.rstrip()).split(), repr(text)
        assert caption.rouge == rouge.tokenize(text), repr(text)
        assert list(caption.vocabulary) == text.lower().replace(",", "").replace(".", "").split(), repr(text)
        assert len(caption.pieces) == len(text.split())


@pytest.mark.parametrize(("most", "seed"), [(1, 2), (4, 3)])
def test_bleu_counts_what_sacrebleu_counts_with_any_number_of_references(most: int, seed: int) -> None:
    predictions, references = random_corpus(400, seed, most)
    streams: Any = [[row[place] if place < len(row) else None for row in references] for place in range(most)]
    expected = [
        BLEU(max_ngram_order=order, tokenize="13a", smooth_method="none", effective_order=False)
        .corpus_score(predictions, streams)
        .score
        / 100
        for order in ngram.BLEU_ORDERS
    ]
    assert ngram.bleu_scores(predictions, references) == pytest.approx(expected, rel=1e-14)
    for prediction, texts in zip(predictions, references, strict=True):
        counted = BLEU(tokenize="13a", smooth_method="none").corpus_score([prediction], [[text] for text in texts])
        split = pieces.Pieces().split
        row = ngram.bleu_row(split(prediction).bleu, [split(text).bleu for text in texts])
        assert row == (*counted.counts, *counted.totals, counted.ref_len)


def test_bleu_follows_the_published_arithmetic_to_the_last_bit() -> None:
    """`evaluate`'s bleu: fractions, logarithms weighted before they are summed, the penalty from a ratio."""
    draw = random.Random(4)
    for _ in range(300):
        totals = sorted((draw.randint(1, 10**6) for _ in range(4)), reverse=True)
        matches = [draw.randint(1, total) for total in totals]
        length, reference_length = totals[0], draw.randint(1, 10**6)
        for order in ngram.BLEU_ORDERS:
            ratio = float(length) / reference_length
            penalty = 1.0 if ratio > 1.0 else math.exp(1 - 1.0 / ratio)
            weighted = sum((1.0 / order) * math.log(matches[k] / totals[k]) for k in range(order))
            sums = [*matches[:order], *totals[:order], length, reference_length]
            assert float(ngram.bleu_from_sums(*map(np.array, sums))) == math.exp(weighted) * penalty


def test_bleu_of_resamples_is_the_bleu_of_each() -> None:
    shape = (2, 3)
    draw = np.random.default_rng(5)
    sums = [draw.integers(0, 50, shape).astype(float) for _ in range(6)]
    sums[2], sums[3] = sums[0] + 1, sums[1] + 1
    together = ngram.bleu_from_sums(*sums)
    assert together.shape == shape
    for place in np.ndindex(shape):
        assert together[place] == ngram.bleu_from_sums(*(values[place] for values in sums))


def test_rouge_l_is_rouge_scores_best_reference() -> None:
    predictions, references = random_corpus(300, seed=6)
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    block = PaperBlock().add(predictions, references)
    expected = [
        scorer.score_multi(texts, said)["rougeL"].fmeasure for said, texts in zip(predictions, references, strict=True)
    ]
    assert block["rougeL"].tolist() == expected


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    draw = random.Random(7)
    for _ in range(300):
        first, second = ([draw.choice("abcd") for _ in range(draw.randint(0, 90))] for _ in range(2))
        table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
        for i, one in enumerate(first):
            for j, other in enumerate(second):
                table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
        assert ngram.longest_common_subsequence(first, second) == table[-1][-1]


def test_a_stream_of_any_block_size_gives_the_same_scores() -> None:
    predictions, references = random_corpus(60, seed=8)
    training = ["a sad song", *references[3][:1], predictions[5]]
    whole = scores_of(PaperBlock(training_captions=training), predictions, references, rows=60)
    assert whole == scores_of(PaperBlock(training_captions=iter(training)), predictions, references, rows=1)
    assert whole == scores_of(PaperBlock(training_captions=training), predictions, references, rows=7)
    bleu = ngram.bleu_scores(predictions, references)
    assert [whole[f"bleu{order}"] for order in ngram.BLEU_ORDERS] == bleu
    assert whole["meteor"] == float(np.mean(meteor.meteor_scores(predictions, references)))
    assert whole["rougeL"] == ngram.rouge_l(predictions, references)
    assert (whole["length_avg"], whole["length_std"]) == diversity.lengths(predictions)
    assert whole["vocab_size"] == len(diversity.vocabulary(predictions))


def test_the_deviation_made_of_sums_is_that_of_the_lengths() -> None:
    block = PaperBlock()
    table = CaptionTable(block.columns)
    table.append(block.add(["a b c", "a", "", "a b c d e f"], [["a"]] * 4))
    [measure] = [measure for measure in block.measures if measure.name == "length_std"]
    assert float(measure.value(table.sums())) == pytest.approx(np.std([3, 1, 0, 6]), rel=1e-15)
    assert block.totals()["length_std"] == float(np.std([3, 1, 0, 6]))


def test_the_closest_reference_length_counts_and_the_shorter_of_two_as_close() -> None:
    assert ngram.closest_length(5, [9, 4, 6]) == 4
    assert ngram.closest_length(5, [9, 6, 1]) == 6


def test_empty_captions_score_nothing_and_an_empty_corpus_has_no_mean() -> None:
    block = PaperBlock()
    empty = scores_of(block, [], [], rows=1)
    assert [empty[f"bleu{order}"] for order in ngram.BLEU_ORDERS] == [0.0] * 4
    assert math.isnan(empty["meteor"])
    assert math.isnan(empty["rougeL"])
    assert (empty["length_std"], empty["vocab_size"]) == (None, 0)
    texts = scores_of(block, ["", "  ", "\r\n", "a piano"], [[""], ["a"], [""], ["", "a piano"]], rows=4)
    assert texts["bleu1"] == math.exp(1 - 3 / 2)  # 2 of 2 words, 3 words in the references
    assert texts["rougeL"] == 0.25
    assert texts["length_avg"] == 0.5


def test_a_caption_without_a_reference_is_named() -> None:
    block = PaperBlock()
    block.add(["a"], [["a"]])
    with pytest.raises(TableError, match="caption 3: has no reference; give at least one for every caption"):
        block.add(["a", "b"], [["a"], []])


def test_novelty_is_that_of_the_captions_and_the_released_one_stops_at_the_shorter_list() -> None:
    predictions = ["A sad song.", "a sad song", "a tuba", "A sad song.", "loud drums"]
    training = ["a sad song", "the drums", "a tuba"]
    totals = PaperBlock(training_captions=training)
    totals.add(predictions, [["x"]] * 5)
    scores = totals.totals()
    assert scores["vocab_novelty"] == diversity.vocabulary_novelty(predictions, training) == 1 / 6  # loud
    assert scores["vocab_novelty_released"] == diversity.vocabulary_novelty(predictions[:3], training) == 0.0
    assert scores["caption_novelty"] == diversity.caption_novelty(predictions, training) == 2 / 4
    longer = PaperBlock(training_captions=[*["a sad song"] * 5, "a tuba", "loud drums"])
    longer.add(predictions, [["x"]] * 5)
    assert longer.totals()["vocab_novelty"] == 0.0
    # Only the first five training captions are looked at: tuba, loud and drums are new.
    assert longer.totals()["vocab_novelty_released"] == 3 / 6


def test_the_released_vocabulary_counts_the_first_2656_captions() -> None:
    block = PaperBlock()
    block.add([f"w{row}" for row in range(2_700)], [["x"]] * 2_700)
    assert (block.totals()["vocab_size"], block.totals()["vocab_size_released"]) == (2_700, 2_656)


def test_a_set_of_captions_counts_and_compares_them_by_their_text() -> None:
    captions = random_texts(500, seed=9) * 2
    known = captions[:200]
    own, other = diversity.CaptionSet(captions), diversity.CaptionSet(known)
    assert len(own) == len(set(captions))
    assert own.novelty(other) == pytest.approx(diversity.caption_novelty(captions, known), rel=1e-15)
    assert diversity.CaptionSet().novelty(other) == 0.0
    own.add("one more, after counting")
    assert len(own) == len(set(captions)) + 1
    assert len(diversity.CaptionSet(["\ud800 half a character"])) == 1


def test_caches_forget_and_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, references = random_corpus(80, seed=10)
    before = scores_of(PaperBlock(), predictions, references, rows=80)
    monkeypatch.setattr(pieces, "KEPT_PIECES", 20)
    block = PaperBlock()
    assert scores_of(block, predictions, references, rows=80) == before
    assert block._meteor is not None
    words = block._meteor.words
    caches = (block._pieces._known, words._within, words._at_the_end, words._runs, block._meteor._stems)
    assert all(0 < len(cache) <= 20 for cache in caches)


def test_without_wordnet_meteor_is_missing_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise MissingExtraError("WordNet 3.0", extra="metrics")

    monkeypatch.setattr(meteor, "load_synonyms", absent)
    block = PaperBlock()
    scores = scores_of(block, ["a piano"], [["a piano"]], rows=1)
    assert "meteor" not in (*scores, *block.columns, *block.signatures)
    assert scores["bleu1"] == 1.0
    assert block.notes == {"meteor": "not computed: WordNet 3.0: is not installed; pip install 'lp-musiccaps[metrics]'"}


def test_every_score_names_how_it_was_made() -> None:
    block = PaperBlock(training_captions=["a"])
    scores = scores_of(block, ["a piano", "a drum"], [["a piano"], ["a", "b"]], rows=2)
    assert set(block.signatures) == set(scores)
    assert {measure.name: measure.signature for measure in block.measures}.items() <= block.signatures.items()
    assert block.signatures["bleu2"].startswith("order:2|nrefs:var|case:mixed|eff:no|tok:13a|smooth:none")
    assert block.signatures["meteor"].startswith("nrefs:var|nltk|tok:nltk-3.8.1|case:lower|wordnet:3.0|alpha:0.9")
    assert "stemmer:no" in block.signatures["rougeL"]
    assert block.signatures["vocab_size_released"].endswith("rows:first-2656")
    single = PaperBlock()
    single.add(["a"], [["a"]])
    assert "nrefs:1|" in single.signatures["bleu1"]
    assert set(single.columns) | {COUNT} == {column for measure in single.measures for column in measure.columns}
