"""Answers to captions: every malformed shape that was published, and the published answers themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataset_builder.captioning.parsing import Parsed, ParseFailure, parse_answer

CAPTION = "A calm song with piano."


@pytest.mark.parametrize(
    "text",
    [
        "A calm song with piano.",
        '"A calm song with piano."',
        "“A calm song with piano.”",
        "  A calm song\nwith piano.  ",
        "```\nA calm song with piano.\n```",
        "Caption: A calm song with piano.",
        "A calm song with piano.}",
    ],
)
def test_quotes_fences_labels_and_line_breaks_are_removed(text: str) -> None:
    assert parse_answer("writing", text) == Parsed(CAPTION)


def test_quotes_inside_a_caption_stay() -> None:
    text = '"Blue" is a word, and "calm" another'
    assert parse_answer("writing", text) == Parsed(text)


@pytest.mark.parametrize(
    "text",
    [
        "{'new_attribute': ['soft', 'slow'], 'description': 'A calm song with piano.'}",
        '{"new_attribute": ["soft", "slow"], "description": "A calm song with piano."}',
        "'new_attribute': ['soft', 'slow'], 'description': 'A calm song with piano.'}",
        "answer = {'new_attribute': ['soft', 'slow'], 'description': 'A calm song with piano.'}",
        "```python\n{'new_attribute': ['soft', 'slow'], 'description': 'A calm song with piano.'}\n```",
        "{'new_attribute': 'soft, slow', 'description': 'A calm song with piano.'}",
        "{'description': 'A calm song with piano.', 'new_attribute': ['soft', 'slow']}",
        "{'new_attribute': ['soft', 'slow'], 'description': 'A calm song with piano.",
        "new_attribute: ['soft', 'slow'],\ndescription: A calm song with piano.",
        "{'new_attribute': ['soft', 'slow',], 'description': \"A calm song with piano.'}",
    ],
)
def test_every_published_shape_of_the_dictionary_is_read(text: str) -> None:
    assert parse_answer("attribute_prediction", text) == Parsed(CAPTION, ("soft", "slow"))


def test_an_apostrophe_inside_the_description_does_not_end_it() -> None:
    text = "{'new_attribute': ['soft'], 'description': 'It's a calm song, isn't it.'}"
    assert parse_answer("attribute_prediction", text) == Parsed("It's a calm song, isn't it.", ("soft",))


@pytest.mark.parametrize("text", ["", "   ", "```\n```", '""'])
def test_an_empty_answer_is_a_failure(text: str) -> None:
    assert isinstance(parse_answer("writing", text), ParseFailure)


@pytest.mark.parametrize("text", ["{'new_attribute': ['soft']}", "a song with piano and new_attributes."])
def test_dictionary_text_never_becomes_a_caption(text: str) -> None:
    assert isinstance(parse_answer("attribute_prediction", text), ParseFailure)


def test_nothing_in_an_answer_is_executed(tmp_path: Path) -> None:
    victim = tmp_path / "made"
    text = f"{{'description': __import__('pathlib').Path({str(victim)!r}).touch()}}"
    parse_answer("attribute_prediction", text)
    assert not victim.exists()


def test_the_published_answers_come_out_clean(published_captions: Path) -> None:
    rows = json.loads((published_captions / "caption_attribute_prediction" / "inference.json").read_text())
    parsed = [parse_answer("attribute_prediction", row["prediction"]) for row in rows]
    clean = [item for item in parsed if isinstance(item, Parsed)]
    assert len(rows) == 2839
    assert len(clean) >= 2838
    assert not [item.caption for item in clean if "new_attribute" in item.caption or set("{}") & set(item.caption)]
    assert sum(bool(item.new_attributes) for item in clean) >= 245
