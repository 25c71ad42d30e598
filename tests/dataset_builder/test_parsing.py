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


@pytest.mark.parametrize(
    "text",
    [
        '{"new_attribute": ["soft", "slow"], "description": "A calm song with piano."}',
        '{"new_attributes": ["soft", "slow"], "description": "A calm song with piano."}',
        '{"description": "A calm song with piano.", "new_attribute": ["soft", "slow"]}',
        '```json\n{\n "new_attribute": ["soft", "slow"],\n "description": "A calm song\n with piano."\n}\n```',
        'Yes:\n```\n{"new_attribute": ["soft", "slow"], "description": "A calm song with piano."}\n```\nEnjoy!',
        '{"new_attribute": ["soft", "slow"], "description": "A calm song with piano."} The {keys} are as asked.',
        '[{"new_attribute": ["soft", "slow"], "description": "A calm song with piano."}]',
        '{"New Attribute": ["soft", "slow"], "Description": "A calm song with piano."}',
        '{"result": {"new_attribute": ["soft", "slow"], "description": "A calm song with piano."}}',
        '{"new_attribute": ["soft", "slow"], "description": "A calm song with piano.',
        '{"description": "A calm song with piano.", "new_attribute": ["soft", "slow"',
        '<think>{"a": 1}?</think>\n{"new_attribute": ["soft", "slow"], "description": "A calm song with piano."}',
        "**New attributes:** soft, slow.\n\n**Description:** A calm song with piano.",
        "- New attributes: soft, slow\n- Description: A calm song with piano.",
        "{'new_attribute': ['soft', 'slow', 'description': 'A calm song with piano.'}",
    ],
)
def test_every_shape_of_a_structured_answer_is_read(text: str) -> None:
    assert parse_answer("attribute_prediction", text) == Parsed(CAPTION, ("soft", "slow"))


@pytest.mark.parametrize(
    "text",
    [
        "The piece adds new attributes to the genre, among them warmth.",
        "New attributes: a slow pulse and warmth make this song glow.",
        "With new attributes (new attributes: warmth), the song fits its description: a calm piano piece.",
        "A song by description: calm. It has x = y.",
    ],
)
def test_a_sentence_about_attributes_is_a_sentence(text: str) -> None:
    assert parse_answer("attribute_prediction", text) == Parsed(text)


def test_thoughts_of_a_reasoning_model_are_no_caption() -> None:
    assert parse_answer("writing", "<think>\nPiano, so:\n</think>\n\nA calm song with piano.") == Parsed(CAPTION)
    assert parse_answer("writing", "<think>\nPiano, so") == ParseFailure("the answer ends inside the model's thoughts")


@pytest.mark.parametrize("description", ["null", '""', "[]", "{}", '"{}"'])
def test_an_object_without_a_description_is_a_failure(description: str) -> None:
    text = f'{{"new_attribute": ["soft"], "description": {description}}}'
    assert parse_answer("attribute_prediction", text) == ParseFailure("the description is empty")


@pytest.mark.parametrize(
    ("attribute", "used"),
    [
        ("piano", True),
        ("Calm", True),
        ("soothed piano", True),
        ("calm-piano", True),
        ("calm guitar", False),
        ("pia", False),
        ("organ", False),
        ("!", False),
    ],
)
def test_a_new_attribute_counts_as_used_when_all_its_words_are_in_the_caption(attribute: str, used: bool) -> None:
    text = json.dumps({"new_attribute": [attribute], "description": "A calm, softly soothing piano."})
    parsed = parse_answer("attribute_prediction", text)
    assert isinstance(parsed, Parsed)
    assert parsed.new_attributes == (attribute,)
    assert parsed.new_attributes_used == ((attribute,) if used else ())


def test_a_line_break_and_escaped_quotes_in_an_object_are_read() -> None:
    text = '{"new_attribute": ["soft"], "description": "A \\"calm\\"\nsong with piano."}'
    assert parse_answer("attribute_prediction", text) == Parsed('A "calm" song with piano.', ("soft",))


def test_a_stray_backslash_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    text = r"{'new_attribute': ['soft'], 'description': 'A calm song with \piano.'}"
    assert isinstance(parse_answer("attribute_prediction", text), Parsed)
    assert not recwarn.list


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
    declared = [name for item in clean for name in item.new_attributes]
    assert max(len(name) for name in declared) < 40, "a list without its bracket must not swallow the description"
    used = sum(len(item.new_attributes_used) for item in clean)
    assert (len(declared), used) == (729, 656)
    assert all(set(item.new_attributes_used) <= set(item.new_attributes) for item in clean)


def test_published_sentences_are_kept_as_they_are(published_captions: Path) -> None:
    rows = json.loads((published_captions / "caption_writing" / "inference.json").read_text())
    for text in (row["prediction"] for row in rows):
        assert parse_answer("attribute_prediction", text) == parse_answer("writing", text)
