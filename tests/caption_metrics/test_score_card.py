"""The score card on small cases that can be worked out by hand, and what it says when something is missing."""

from __future__ import annotations

import builtins
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console
from small_captions import deaf, facts_of, listening, pairs_of
from small_models import bert_config, save_bert, save_bert_tokenizer, save_clap

from caption_metrics import caption_scorer, ngram
from caption_metrics.diversity import caption_novelty, lengths, vocabulary, vocabulary_novelty
from caption_metrics.facts import fact_scores
from caption_metrics.measures import COUNT, Measure
from caption_metrics.pairs import Pair
from caption_metrics.report import card_markdown, format_score, render_table
from caption_metrics.score import CLAIMS, ScoreCard, evaluate_captions, required_claims
from caption_metrics.significance import Difference
from lpmc_errors import AudioError, MissingExtraError, ModelError, TableError, UsageError

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
    assert set(card["blind"]) == {"constant", "shuffled", "majority_template", "own_shuffled"}
    assert set(KEYS) <= set(card["blind"]["constant"])
    for row in card["blind"]:
        assert f"{row}:" in card["signature"]["blind"]
    assert card["signature"]["facts_f1"].startswith("lexicon:sha256-")
    assert card["signature"]["facts_per_caption"].endswith("mean-over-captions")
    assert card["as_released"]["meteor_1.0"] == card["meteor"]
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


def test_progress_counts_up_to_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_scorer, "ROWS", 2)
    steps: list[tuple[int, int]] = []
    evaluate_captions(PAIRS, intervals=False, progress=lambda done, total: steps.append((done, total)))
    # the system, its captions on other clips, then three blind rows by turns
    assert [done for done, _ in steps] == [2, 3, 5, 6, 8, 10, 12, 13, 14, 15]
    assert {total for _, total in steps} == {15}
    steps.clear()
    evaluate_captions(iter(PAIRS), intervals=False, progress=lambda done, total: steps.append((done, total)))
    assert steps[:2] == [(2, 0), (3, 0)]  # of a stream the length is not known
    assert steps[-1] == (15, 15)


def test_meteor_is_none_with_the_reason_when_wordnet_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    from caption_metrics import meteor

    def absent() -> Any:
        raise MissingExtraError("WordNet 3.0", extra="metrics")

    monkeypatch.setattr(meteor, "Meteor", absent)
    card = evaluate_captions(PAIRS, samples=100)
    assert card.scores["meteor"] is None
    assert "WordNet 3.0: is not installed; pip install 'lp-musiccaps[metrics]'" in card.notes["meteor"]
    assert card.scores["bleu1"] is not None
    assert card.blind["shuffled"]["meteor"] is None
    assert "meteor" not in required_claims(card)
    assert json.loads(json.dumps(card.to_dict(), allow_nan=False))["meteor"] is None


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "sacrebleu":
            raise ModuleNotFoundError("No module named 'sacrebleu'", name="sacrebleu")
        return genuine(name, *args, **kwargs)

    for module in ("paper_block", "ngram", "pieces"):
        monkeypatch.delattr(f"caption_metrics.{module}", raising=False)
        monkeypatch.delitem(sys.modules, f"caption_metrics.{module}", raising=False)
    monkeypatch.delitem(sys.modules, "sacrebleu", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"sacrebleu: is not installed; pip install 'lp-musiccaps\[metrics\]'"):
        evaluate_captions(PAIRS)


def text_of(card: Any, width: int = 200) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render_table(card))
    return console.export_text()


def test_the_table_marks_what_a_blind_caption_is_not_beaten_on() -> None:
    card = evaluate_captions([Pair(f"x{last}", (f"a b c {last}",)) for last in "defghi"], samples=100)
    text = text_of(card)
    assert "blind: constant" in text
    assert re.search(r"BLEU-1 +│ +0.00 │ +0.00 to 0.00 │ +75.00 ! │ +75.00 ! │ +0.00 ! │ +no ! │", text)
    assert "! Captions made without hearing the music are not beaten on BLEU-1, BLEU-2, BLEU-3" in text
    assert "tok:13a" in text
    assert "samples:100|seed:0|n:6" in text
    assert "| BLEU-1 | 0.00 | 0.00 to 0.00 | 75.00 ! | 75.00 ! | 0.00 ! | no ! |" in card_markdown(card)


def test_a_system_that_listens_wins_the_facts_and_loses_the_house_style() -> None:
    facts = facts_of(150)
    card = evaluate_captions(pairs_of(listening(facts), facts), samples=300)
    assert card.beaten("facts_f1") is True
    assert card.beaten("bleu4") is False
    assert set(card.unbeaten_rows("bleu4")) >= {"constant", "shuffled"}
    row = card.to_dict()["beats_blind"]["facts_f1"]["shuffled"]
    assert row["low"] > 0
    assert row["p"] < 0.02
    assert row["difference"] == pytest.approx(
        card.scores["facts_f1"] - card.blind["shuffled"]["facts_f1"]  # type: ignore[operator]
    )
    text = text_of(card)
    assert re.search(r"facts: F1 .* yes │", text)
    assert re.search(r"BLEU-4 .* no ! │", text)
    verdicts = card.to_dict()["beats_all_blind"]
    assert verdicts["facts_f1"] is True
    assert verdicts["bleu4"] is False
    assert "length_avg" not in verdicts  # longer is not better


def test_one_blind_row_that_is_not_beaten_is_enough_to_mark_a_score() -> None:
    measure = Measure("x", (COUNT,), lambda count: count, "")
    rows = {"far": Difference(0.2, 0.1, 0.3, 0.01), "near": Difference(0.1, -0.1, 0.3, 0.4)}
    card = ScoreCard(3, {"x": 0.5}, {}, beats_blind={"x": rows}, measures=(measure,))
    assert card.beaten("x") is False
    assert card.unbeaten_rows("x") == ["near"]
    assert card.beaten("y") is None


def test_a_score_where_less_is_better_is_beaten_from_below() -> None:
    facts = facts_of(150)
    card = evaluate_captions(pairs_of(listening(facts), facts), samples=300)
    row = card.beats_blind["facts_hallucination_rate"]["shuffled"]
    assert row.high < 0
    assert card.beaten("facts_hallucination_rate") is True
    assert card.beats_blind["facts_precision"]["shuffled"].low == pytest.approx(-row.high)


def test_every_score_of_sums_has_an_interval_that_holds_it() -> None:
    facts = facts_of(80)
    card = evaluate_captions(pairs_of(listening(facts), facts), training_captions=["a song"], samples=300)
    for measure in card.measures:
        low, high = card.intervals[measure.name]
        assert low <= card.scores[measure.name] <= high, measure.name  # type: ignore[operator]
    assert "vocab_size" not in card.intervals  # no function of sums
    again = evaluate_captions(pairs_of(listening(facts), facts), training_captions=["a song"], samples=300, seed=1)
    assert again.intervals != card.intervals
    assert again.scores == card.scores


def test_facts_are_those_of_fact_scores() -> None:
    facts = facts_of(40)
    pairs = [*pairs_of(listening(facts), facts), Pair("nothing", ("nothing either",)), Pair("a tuba", ("hm",))]
    card = evaluate_captions(pairs, samples=100)
    expected = fact_scores([pair.prediction for pair in pairs], [pair.references for pair in pairs])
    assert card.facts == expected
    assert card.facts is not None
    assert card.facts.per_caption is not None
    assert expected.per_caption is not None
    assert card.facts.per_caption.to_dict() == pytest.approx(expected.per_caption.to_dict())
    assert card.scores["facts_f1"] == expected.micro.f1
    by_category = card.to_dict()["facts_by_category"]
    assert by_category["instrument"]["f1"] == expected.by_category["instrument"].f1
    low, high = by_category["instrument"]["intervals"]["f1"]
    assert low < by_category["instrument"]["f1"] < high


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_a_stream_in_blocks_gives_the_card_of_the_list(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(30)
    pairs = pairs_of(listening(facts), facts)
    expected = evaluate_captions(pairs, training_captions=["a song", "a tune"], samples=100).to_dict()
    monkeypatch.setattr(caption_scorer, "ROWS", rows)
    monkeypatch.setattr(caption_scorer, "SPOOLED", 100)  # bytes: the references wait on the disk
    assert evaluate_captions(iter(pairs), training_captions=["a song", "a tune"], samples=100).to_dict() == expected


def test_clips_without_tags_are_left_out_of_the_tag_scores() -> None:
    card = evaluate_captions([*PAIRS, Pair("a tuba", ("a tuba",))], samples=100)
    assert card.notes["tags"] == "3 of 4 clips have tags"
    assert card.scores["tag_coverage"] == 1.0
    assert card.scores["unsupported_instrument_rate"] == 0.0
    assert "majority_template" in card.blind
    assert "tag_coverage" not in evaluate_captions([Pair("a", ("a",))] * 3, samples=100).scores


def test_the_required_claims_are_those_that_no_length_of_caption_buys() -> None:
    facts = facts_of(30)
    card = evaluate_captions(pairs_of(listening(facts), facts), samples=100)
    assert required_claims(card) == ["bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rougeL", "facts_f1"]
    assert not {"facts_precision", "facts_recall", "tag_coverage"} & set(CLAIMS)
    assert required_claims(card, ["facts_recall"]) == ["facts_recall"]
    with pytest.raises(UsageError, match="length_avg: is no score that was tested against the blind rows; tested are"):
        required_claims(card, ["length_avg"])
    with pytest.raises(UsageError, match="tested are none: blind rows and intervals are off"):
        required_claims(evaluate_captions(PAIRS, intervals=False), ["bleu1"])


def test_a_system_that_claims_nothing_does_not_win_on_facts() -> None:
    card = evaluate_captions(pairs_of(["la la la"] * 20, facts_of(20)), samples=100)
    assert card.scores["facts_f1"] is None
    assert "facts_f1" in required_claims(card)
    assert card.unbeaten_rows("facts_f1")


def test_warnings_and_slices_are_on_the_card() -> None:
    facts = facts_of(120)
    pairs = pairs_of(deaf(facts)[:1] * 120, facts)  # one caption in the house style, over and over
    card = evaluate_captions(pairs, samples=100, slice_by=["tempo"])
    result = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    assert result["warnings"]
    assert {row["label"] for row in result["slices"]["scores"]} == {"slow", "fast"}
    assert f"Warning, {card.warnings[0].name}: " in text_of(card)
    assert "slow" in text_of(card)
    assert "slow" in card_markdown(card)
    with pytest.raises(UsageError, match="planet: is nothing that the clips can be divided by"):
        evaluate_captions(pairs, samples=100, slice_by=["planet"])


def test_scores_are_printed_as_the_paper_prints_them() -> None:
    assert format_score("bleu1", 0.36836) == "36.84"
    assert format_score("vocab_size", 5521) == "5,521"
    assert format_score("length_avg", 44.413) == "44.4"
    assert format_score("meteor", None) == "-"


def test_models_add_their_scores_to_the_system_and_to_every_blind_row(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentence_transformers")
    bert, clap = str(save_bert(tmp_path / "bert")), str(save_clap(tmp_path / "clap"))
    detector = tmp_path / "detector"
    save_bert_tokenizer(detector)
    labels = {"id2label": {0: "fluent", 1: "error"}, "label2id": {"fluent": 0, "error": 1}}
    transformers.BertForSequenceClassification(bert_config(num_hidden_layers=1, **labels)).save_pretrained(detector)
    generator = np.random.default_rng(0)
    captions = ["a sad piano", "fast drums", "the soft violin", ""]
    pairs = []
    for number, caption in enumerate(captions):
        soundfile.write(tmp_path / f"{number}.wav", generator.normal(0, 0.1, 16_000), 16_000)
        pairs.append(Pair(caption, (caption or "a voice sings",), extra={"sound": f"{number}.wav"}))
    settings: dict[str, Any] = {"clap_model": clap, "audio_column": "sound", "samples": 100}
    card = evaluate_captions(
        pairs * 2,  # enough for a verdict
        bertscore_model=bert,
        similarity_model=bert,
        fluency_model=str(detector),
        audio_root=str(tmp_path),
        **settings,
    )
    assert card.scores["bertscore"] == pytest.approx(0.75, abs=1e-5)  # 1 for an equal pair, 0 for the empty caption
    assert card.scores["similarity"] == pytest.approx(0.75, abs=1e-5)
    names = ["fense", "fluency_errors", "clap", "retrieval_r1", "retrieval_r5", "retrieval_r10"]
    for name in ("bertscore", "similarity", *names):
        assert card.signatures[name].split("|")[0].split(":")[0] in ("model", "detector")
        assert "revision:sha256:" in card.signatures[name]
        assert all(row[name] is not None for row in card.blind.values())
        assert name in card.beats_blind
        assert name in card.intervals
    assert card.blind["constant"]["bertscore"] != card.scores["bertscore"]
    assert card.scores["retrieval_r5"] == 1.0  # of four recordings
    assert card.signatures["retrieval_r5"].endswith("|among:4")
    assert [note for note in card.notes if note.endswith("_cut")] == []
    longer = [pairs[0], Pair("a sad piano " * 40, ("a sad piano",), extra=pairs[1].extra)]
    notes = evaluate_captions(longer, bertscore_model=bert, audio_root=str(tmp_path), **settings).notes
    assert notes["bertscore_cut"].startswith("1 captions are longer than the 64 tokens that its model reads")
    assert notes["clap_cut"].startswith("1 captions are longer")
    assert card.blind["constant"]["retrieval_r1"] < 1.0  # type: ignore[operator]
    with pytest.raises(
        AudioError, match="no such file, nor any other of the first recordings; name their --audio-root"
    ):
        evaluate_captions(pairs, **settings)
    with pytest.raises(UsageError, match="audio: found no column of recordings among sound; name it: --audio-column"):
        evaluate_captions(pairs, **{**settings, "audio_column": "audio"})


def test_settings_that_need_another_are_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--fluency-model: penalises a similarity; name a --similarity-model as well"):
        evaluate_captions(PAIRS, fluency_model="x")
    with pytest.raises(UsageError, match="--audio-column, --audio-root: are for a CLAP model"):
        evaluate_captions(PAIRS, audio_root="x")
    with pytest.raises(ModelError, match="nowhere"):
        evaluate_captions(PAIRS, bertscore_model=str(tmp_path / "nowhere"))


def test_importing_the_package_loads_no_metric() -> None:
    program = (
        "import sys, caption_metrics; caption_metrics.Pair;"
        "print(sorted({'nltk', 'evaluate', 'sacrebleu', 'rouge_score', 'torch', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
