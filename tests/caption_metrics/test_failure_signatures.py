"""Which warnings fire on what: simulated captions for each, published captions for the thresholds, people for none."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from caption_metrics import blind
from caption_metrics.caption_survey import (
    has_quality_remark,
    has_use_advice,
    is_foreign,
    is_unparsed,
    names_somebody,
    training_copies,
)
from caption_metrics.facts import fact_scores
from caption_metrics.failure_signatures import CaptionWarning, find_warnings

WORDS = (Path(__file__).parents[2] / "LICENSE").read_text("utf-8").split()


@dataclass
class Card:
    """As much of a score card as warnings read."""

    scores: dict[str, Any] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    blind: dict[str, dict[str, Any]] = field(default_factory=dict)


def varied(n: int, seed: int = 0, words: int = 30) -> list[str]:
    """`n` captions of words drawn at random (made up, in no language's order)."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=words)) for _ in range(n)]


def found(predictions: list[str], references: list[str] | None = None, **options: Any) -> dict[str, CaptionWarning]:
    references = varied(len(predictions), seed=99) if references is None else references
    card = options.pop("card", Card())
    warnings = find_warnings(card, predictions, [(text,) for text in references], **options)
    return {warning.name: warning for warning in warnings}


# --- scores that do not fit -----------------------------------------------------------------------------------------


def test_ngram_matches_without_meaning_are_high_bleu_beside_a_low_bertscore() -> None:
    low, usual = ({"bleu1": 0.35, "bertscore": value} for value in (0.70, 0.87))
    assert "ngrams_without_meaning" in found(varied(5), card=Card(low))
    assert "ngrams_without_meaning" not in found(varied(5), card=Card(usual))
    assert "ngrams_without_meaning" not in found(varied(5), card=Card({"bleu1": 0.05, "bertscore": 0.70}))


def test_a_bertscore_of_another_model_is_compared_with_blind_captions_instead() -> None:
    other = {"bertscore": "model:small-bert|layer:4"}
    card = Card({"bleu1": 0.35, "bertscore": 0.6}, other, {"shuffled": {"bertscore": 0.5}})
    assert "ngrams_without_meaning" not in found(varied(5), card=card)
    card.blind["constant"] = {"bertscore": 0.61}
    assert found(varied(5), card=card)["ngrams_without_meaning"].threshold == 0.61


def test_varied_wording_with_few_right_facts_is_called_invented() -> None:
    assert "varied_but_wrong" in found(varied(40), varied(40, seed=0), card=Card({"facts_precision": 0.4}))
    assert "varied_but_wrong" not in found(varied(40), varied(40, seed=0), card=Card({"facts_precision": 0.7}))
    for plain in (["A calm piano piece."] * 40, varied(1) * 40):  # few words; as many, and always the same
        assert "varied_but_wrong" not in found(plain, varied(40), card=Card({"facts_precision": 0.4}))


def test_a_large_gap_from_zero_shot_to_transfer_is_named_with_what_facts_did() -> None:
    systems = {
        "zero-shot": Card({"bleu1": 0.1977, "rougeL": 0.1303, "facts_f1": 0.30}),
        "transfer": Card({"bleu1": 0.2909, "rougeL": 0.2149, "facts_f1": 0.31}),
    }
    warning = found(varied(5), systems=systems)["zero_shot_to_transfer_gap"]
    assert warning.value == pytest.approx(0.0932)
    assert "bleu1 rises by 9.3, facts F1 by +1.0" in warning.message
    systems["transfer"] = Card({"bleu1": 0.21, "rougeL": 0.14})
    assert "zero_shot_to_transfer_gap" not in found(varied(5), systems=systems)
    assert "zero_shot_to_transfer_gap" not in found(
        varied(5), systems={"a": Card({"bleu1": 0}), "b": Card({"bleu1": 1})}
    )


# --- copies ---------------------------------------------------------------------------------------------------------


def test_copies_of_training_captions_are_found_whatever_their_case_and_punctuation() -> None:
    captions = varied(100)
    training = [captions[3].upper() + "!", captions[50], *varied(50, seed=5)]
    warning = found(captions, training_captions=training)["copied_training_captions"]
    assert warning.value == 0.02
    assert warning.examples[0] == captions[3][:159] + "…" if len(captions[3]) > 160 else captions[3]


def test_a_long_run_of_shared_words_is_a_near_copy_and_a_shorter_one_is_not() -> None:
    training = varied(3, seed=5, words=40)
    run = training[1].split()
    near = [*varied(98), " ".join(["Here:", *run[5:25]]), " ".join([*run[7:31], "indeed"])]
    assert training_copies(near, training).near == 0.02
    assert training_copies(near, training).exact == 0.0
    assert "near_copies_of_training_captions" in found(near, training_captions=iter(training))
    shorter = [*varied(98), " ".join(run[5:24]), " ".join(run[7:26])]
    assert training_copies(shorter, training).near == 0.0


def test_a_short_caption_is_a_copy_only_as_a_whole() -> None:
    copies = training_copies(["a sad song", "a sad song for two"], ["A sad song.", "Something else."])
    assert (copies.exact, copies.near, copies.training) == (0.5, 0.5, 2)


# --- style ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "remark", "advice"),
    [
        ("The low quality recording features a song.", True, False),
        ("It is of poor audio quality.", True, False),
        ("The recording is noisy.", True, False),
        ("It would be used in a movie.", False, True),
        ("This piece could be playing in the background of a cafe.", False, True),
        ("Something you would hear in clubs.", False, True),
        ("Suitable for a wedding.", False, True),
        ("A guitar can be heard.", False, False),
        ("You can hear a piano and a noisy snare.", False, False),
    ],
)
def test_remarks_on_quality_and_advice_for_use_are_told_from_music(text: str, remark: bool, advice: bool) -> None:
    assert (has_quality_remark(text), has_use_advice(text)) == (remark, advice)


def test_ticks_warn_only_where_the_references_have_fewer() -> None:
    ticked = [f"The low quality recording has {text}. It could be used in a movie." for text in varied(60)]
    assert {"quality_remarks", "use_advice"} <= found(ticked).keys()
    assert not {"quality_remarks", "use_advice"} & found(ticked, ticked[::-1]).keys()
    few = ticked[:5] + varied(55)  # 8 %
    assert not {"quality_remarks", "use_advice"} & found(few).keys()


def test_one_sentence_for_all_is_style_collapse_in_every_respect() -> None:
    names = found(["A calm piano piece with strings."] * 80).keys()
    assert {"one_opener", "repeated_captions", "few_templates", "little_variety"} <= names


def test_a_template_filled_with_other_facts_is_one_template() -> None:
    draw = random.Random(0)
    names = ["piano", "electric guitar", "tuba", "flute", "violin", "banjo", "harp", "trumpet"]
    filled = [f"A song with {', '.join(draw.sample(names, 2))} and {draw.choice(names)}." for _ in range(80)]
    warning = found(filled)["few_templates"]
    assert warning.examples == ("a song with *",)
    assert "few_templates" not in found(varied(80))


# --- unusable captions ----------------------------------------------------------------------------------------------


def test_empty_and_unparsed_captions_are_named_with_an_example() -> None:
    raw = "{'new_attribute': ['a'], 'description': 'A song.'}"
    names = found([*varied(98), " ", raw])
    assert names["empty_captions"].value == 0.01
    assert names["unparsed_answers"].examples == (raw,)
    assert [is_unparsed(text) for text in ('{"description": "x"}', "new_attribute: [a]", "A {song}.", "[silence]")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("Ein ruhiges Klavierstück mit Streichern und einer Flöte.", True),
        ("Une chanson douce avec piano et cordes.", True),
        ("Una canción triste con guitarra y piano.", True),
        ("静かなピアノの曲です。", True),
        ("Медленная песня под гитару.", True),
        ("A song in the style of Los Lobos, sung in Spanish.", False),
        ("The song 'La vida es un carnaval' is a salsa with a man singing in Spanish.", False),
        ("piano, sad, slow, mellow", False),
        ("La Bamba", False),
        ("", False),
        ("A bossa nova tune with a Brazilian singer: 'Garota de Ipanema'.", False),
    ],
)
def test_other_languages_are_told_by_script_and_small_words(text: str, foreign: bool) -> None:
    assert is_foreign(text) is foreign


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A ballad by Diana Example Ross.", True),
        ("A song titled 'Blue'.", True),
        ("In the style of Michael Jackson.", True),
        ("A pop song reminiscent of Elton John songs.", True),
        ("A tune in the style of North Indian Classical music.", False),
        ("A guitar accompanied by Latin American Percussion instruments.", False),
    ],
)
def test_titles_and_artists_are_guessed_by_capitals(text: str, named: bool) -> None:
    assert names_somebody(text) is named


def test_few_captions_raise_no_warning_about_rates() -> None:
    assert found(["A calm piano piece."] * 20).keys() == set()


def test_predictions_without_their_references_are_refused() -> None:
    with pytest.raises(ValueError, match="3 predictions beside 2 references"):
        find_warnings(Card(), varied(3), [("a",), ("b",)])


# --- published captions and people ----------------------------------------------------------------------------------


EVERY = 4  # every fourth row: 710 captions a method


@pytest.fixture(scope="module")
def human(published_captions: Path) -> list[str]:
    rows = json.loads((published_captions / "caption_writing" / "inference.json").read_text("utf-8"))
    return [row["ground_truth"] for row in rows]


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("caption_writing", set()),
        ("caption_attribute_prediction", {"varied_but_wrong", "unparsed_answers"}),
        ("baseline_k2c", {"artists_and_titles"}),
    ],
)
def test_which_warnings_the_published_methods_deserve(
    method: str, names: set[str], human: list[str], published_captions: Path
) -> None:
    rows = json.loads((published_captions / method / "inference.json").read_text("utf-8"))
    captions = [row["prediction"] for row in rows]
    if "unparsed_answers" in names:
        assert sum(map(is_unparsed, captions)) == 246
    captions, references = captions[::EVERY], human[::EVERY]
    scores = {"facts_precision": fact_scores(captions, references).micro.precision}
    assert found(captions, references, card=Card(scores)).keys() == names


def test_blind_captions_are_warned_about(human: list[str]) -> None:
    people = human[::EVERY]
    references = [(text,) for text in people]
    constant = found(blind.constant(references), people)
    assert {"one_opener", "repeated_captions", "few_templates", "little_variety"} <= constant.keys()
    shuffled = blind.shuffled(references)
    scores = {"facts_precision": fact_scores(shuffled, people).micro.precision}
    assert found(shuffled, people, card=Card(scores)).keys() == {"varied_but_wrong"}


def test_people_are_not_warned_about(human: list[str]) -> None:
    """Human captions as predictions for other clips, with yet others as training captions: 10 draws of 30 to 200."""
    draw = random.Random(1)
    alarms = 0
    for _ in range(10):
        n = draw.choice([30, 60, 200])
        chosen = draw.sample(human[::EVERY], 2 * n + 200)
        alarms += bool(found(chosen[:n], chosen[n : 2 * n], training_captions=chosen[2 * n :]))
    assert alarms <= 1
