"""A number in a card stands in a result file beside it: changed and invented ones are named, rendered cards pass."""

from __future__ import annotations

import json

import pytest
from card_material import (
    SCORES,
    TRAINING,
    with_one_digit_changed,
    write_cards,
    write_config,
    write_dataset,
    write_model,
)

from hub_cards import lint_dataset, lint_model, render_model_card
from hub_cards.numbers import gather, untraced_lines, untraced_numbers

QUALITY = {
    "words": {"p10": 14, "p90": 21},
    "tag_coverage": {"mean": 0.55991},
    "unsupported": {"any": {"of": 203, "share": 0.0394, "low": 0.0201, "high": 0.0758}},
    "near_duplicates": {"share": 0.4236, "low": 0.3577, "high": 0.4924},
    "openers": [{"opener": "this is a", "share": 0.9409}],
}
MADE = {
    "outcomes": {"writing": {"ok": 4, "rejected": 2}},
    "template_captions": {"writing": 1},
    "models": {"SmolLM2-135M": 1236},
    "wordings": {"small (0123456789ab)": 6},
    "tracks_without_captions": 1,
    "audio_embedded": 5,
    "without_audio": (("t1", "no such file"),),
    "withheld_audio": {"all rights reserved": 3},
    "left_out": {"artist": 12},
    "sources": {"magnatagatune": 18},
    "pipeline": {"temperature": 0.7, "prompt_tokens": 1_234_567, "store_cost_usd": "1.85", "started": "2026-01-02"},
    "quality": {"writing": QUALITY},
    "alarms": ("writing: 94.1% of the captions begin with 'this is a'",),
}


def test_every_changed_digit_of_a_dataset_card_and_of_its_licences_is_found(tmp_path):
    directory = write_dataset(tmp_path, **MADE)
    (directory / "croissant.json").unlink()  # has its own test
    assert lint_dataset(directory) == []
    for name in ("README.md", "LICENSE.md"):
        text = (directory / name).read_text()
        changed = list(with_one_digit_changed(text))
        assert len(changed) > (80 if name == "README.md" else 6)
        for spoiled, line in changed:
            (directory / name).write_text(spoiled)
            assert lint_dataset(directory), f"{name}: unnoticed change in {line!r}"
        (directory / name).write_text(text)


def test_a_changed_line_is_shown_beside_what_the_files_say(tmp_path):
    card = write_dataset(tmp_path, **MADE) / "README.md"
    card.write_text(card.read_text().replace("| writing | 4 | 2 |", "| writing | 5 | 1 |"))
    assert [str(problem) for problem in lint_dataset(tmp_path)] == [
        "README.md: says '| writing | 5 | 1 | 6 | 1 |', the result files say '| writing | 4 | 2 | 6 | 1 |'"
    ]


def test_swapped_rows_and_numbers_of_another_row_are_found(tmp_path):
    first = write_config(tmp_path, "fma", {"train": [3], "test": [1]})
    second = write_config(tmp_path, "mtt", {"train": [2], "test": [4]})
    card = write_cards(tmp_path, first, second) / "README.md"
    text = card.read_text()
    assert lint_dataset(tmp_path) == []
    card.write_text(text.replace("| `fma` | train | 3 |", "| `fma` | train | 2 |"))
    assert any("'| `fma` | train | 2 |" in str(problem) for problem in lint_dataset(tmp_path))


@pytest.mark.parametrize(
    "invented",
    [
        "A human study found 31 % better.",
        "| writing | 77 |",
        "Trained models reach BLEU 31.4 on it.",
        "It has 9 tracks.",
    ],
)
def test_an_invented_number_in_a_dataset_card_is_found(tmp_path, invented):
    card = write_dataset(tmp_path, **MADE) / "README.md"
    card.write_text(card.read_text().replace("## Limits", f"{invented}\n\n## Limits"))
    found = [str(problem) for problem in lint_dataset(tmp_path)]
    assert len(found) == 1, found
    assert invented in found[0]


def test_a_counted_number_in_a_sentence_of_ones_own_is_no_problem(tmp_path):
    card = write_dataset(tmp_path, **MADE) / "README.md"
    text = card.read_text().replace("## Limits", "The model answered with 4 captions marked ok.\n\n## Limits")
    card.write_text(text)
    assert lint_dataset(tmp_path) == []


def model_card(own: str = "") -> str:
    summary = {
        "parameters": TRAINING["parameters"],
        "trained on": {"rows": TRAINING["rows"]["train"], "split": "train"},
        "learning_rate": TRAINING["recipe"]["optimisation"]["learning_rate"],
        "torch": TRAINING["versions"]["torch"],
    }
    results = {**SCORES, "dataset": "org/lp-musiccaps", "split": "test"}
    return render_model_card("lpmc-mini-2", licence="cc-by-4.0", summary=summary, results=results) + own


def test_every_changed_digit_of_a_model_card_is_found(tmp_path):
    own = "\n## Notes\n\nThe 1.2M parameters reach BLEU-1 28.1 % (0.2813) and METEOR of 0.190 after 1,000 updates.\n"
    text = model_card(own)
    assert lint_model(write_model(tmp_path, text)) == []
    changed = list(with_one_digit_changed(text))
    assert len(changed) > 50
    # The name of the model is the user's to choose.
    missed = [
        line for spoiled, line in changed if "lpmc-mini-" not in line if not lint_model(write_model(tmp_path, spoiled))
    ]
    assert missed == []


@pytest.mark.parametrize(
    "invented",
    [
        "BLEU 31.4",
        "The loss fell to 31.4.",  # 31.4 stands in the loss curve, which is a series and no result
        "| bleu1_best | 0.2813 |",  # a row of another name
        "It beats the paper by 3 points.",
        "Trained for 8 hours.",  # 8 is the batch size
        "| bleu1 | 0.2936 |",  # the blind row's
        "| bleu4 | 0.2813 |",  # another metric's
        "METEOR: 0.2813",
        "| meteor | 0.19 | `order:1\\|tok:13a` |",  # another metric's signature
        "1.3M parameters",
        "12,345,678 parameters",
        "Trained with torch 2.14.0.",
        "Trained on 2026-01-02.",
        "A latency of 1e-3 s",
        "- 40% of listeners liked it",
    ],
)
def test_an_invented_number_in_a_model_card_is_found(tmp_path, invented):
    found = [str(problem) for problem in lint_model(write_model(tmp_path, model_card(f"\n{invented}\n")))]
    assert found, invented
    assert all("no result file holds" in each for each in found)


@pytest.mark.parametrize(
    "own",
    [
        "METEOR is 0.19, or 19.0 % of it.",
        "1.2M parameters, 1,000 updates, batches (size 8), a learning rate of 7e-4, torch 2.13.0",
        "Use `x[1]`? No: as BLEU-1 shows, GPT-4, mp3 and SmolLM2-135M are names.".replace("`x[1]`", "it"),
        "```\nprint(31.4)\n```",
        "    lpmc demo --port 7860",
        "[the paper](https://arxiv.org/abs/2307.16372) and https://example.org/31.4",
        "1. first\n2. second",
        "Data under CC BY-NC 4.0, code under Apache 2.0.",
        "The rows of the\ntest split are 24.",
    ],
)
def test_measured_numbers_names_code_and_addresses_in_ones_own_words_are_no_problem(tmp_path, own):
    assert lint_model(write_model(tmp_path, model_card(f"\n{own}\n"))) == []


def test_numbers_of_the_front_matter_are_held_too(tmp_path):
    text = model_card().replace("language: en\n", "language: en\nco2_eq_emissions:\n  emissions: 12.5\n")
    found = [str(problem) for problem in lint_model(write_model(tmp_path, text))]
    assert found == ["README.md: no result file holds the number 12.5 in 'co2_eq_emissions: emissions: 12.5'"]


def test_without_result_files_no_score_holds(tmp_path):
    directory = write_model(tmp_path, model_card(), scores=None)
    found = [str(problem) for problem in lint_model(directory)]
    assert "README.md: model-index: no result file holds bleu1" in found
    assert any("no result file holds the number 0.2813 in '| bleu1 | 0.2813 |" in each for each in found)


@pytest.mark.parametrize(
    ("value", "shown", "holds"),
    [
        (0.12345, "12.3 %", True),
        (0.12345, "12.4 %", False),
        (0.12345, "0.1 %", False),
        (0.12345, "0.1234", True),
        (0.12345, "0.123", True),
        (0.12345, "0.1233", False),
        (0.12345, "12.345", True),
        (607_123_456, "607.1 MB", True),
        (607_123_456, "607.2 MB", False),
        (607_123_456, "607,123,456", True),
        (607_123_456, "607,123,457", False),
        (607_123_456, "607.1 kB", False),
        (1_229_440, "1.2M", True),
        (1_229_440, "1.3M", False),
        (118.65, "119", True),
        (4.7, "5", False),
        (8, "8", True),
        (8, "8 %", True),
        (8, "9", False),
        (0.0007, "7e-4", True),
        (0.0007, "8e-4", False),
        (-1.5, "-1.5", True),
    ],
)
def test_a_number_holds_at_the_precision_it_is_printed_with(value, shown, holds):
    assert (untraced_numbers(f"the loss was {shown}", gather([{"loss": value}])) == []) is holds


def test_a_word_beside_a_number_chooses_its_value():
    results = gather([{"metrics": {"bleu1": 0.2, "bleu4": 0.1}, "blind": {"constant": {"bleu1": 0.3}}}])
    assert untraced_numbers("BLEU-1 0.2, BLEU-4 of 0.1", results) == []
    assert untraced_numbers("BLEU-1 0.1, BLEU-4 of 0.2", results) == ["0.1", "0.2"]
    assert untraced_numbers("BLEU-1 0.3", results) == ["0.3"], "a nested value is not the value of that name"


def test_a_paragraph_names_the_numbers_of_all_its_lines():
    results = gather([{"clips": 24}])
    assert list(untraced_lines("The clips were\nall 24 of them.\n", results)) == []
    assert list(untraced_lines("The clips were\n\nall 24 of them.\n", results)) == [("24", "all 24 of them.")]


def test_broken_result_files_hold_nothing(tmp_path):
    directory = write_model(tmp_path, model_card())
    (directory / "evaluation.json").write_text(json.dumps(SCORES)[:-5])
    found = [str(problem) for problem in lint_model(directory)]
    assert "evaluation.json: is no JSON" in found
    assert "README.md: model-index: no result file holds bleu1" in found


@pytest.mark.parametrize("name", ["0123456789ab", "12ab34c", "9f" * 32])
def test_a_hash_that_begins_with_digits_is_a_name(name):
    assert untraced_numbers(f"The store is `{name}`, and the commit {name}.", gather([])) == []


@pytest.mark.parametrize("text", ["12x faster", "10s a clip", "16kHz", "1234567 captions", "7e1 clips", "5b of them"])
def test_a_number_with_letters_behind_it_is_no_hash(text):
    assert untraced_numbers(f"It makes {text}.", gather([])) != []
