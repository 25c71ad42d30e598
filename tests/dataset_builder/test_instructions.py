"""The prompts: the released wordings byte for byte, and nothing but tags in any of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataset_builder.instructions import (
    INSTRUCTIONS,
    WORDINGS,
    released_text,
    render_prompt,
    tag_concat_caption,
    template_caption,
)

RELEASED = {
    ("writing", 2): "write a song description sentence including the following attributes. \n rock, piano",
    ("writing", 1): "write a song description sentence including the following single attribute. \n rock",
    ("summary", 2): "write a single sentence that summarize a song with the following attributes. "
    "Don't write artist name or album name. \n rock, piano",
    ("summary", 1): "write a single sentence that summarize a song with the following single attribute. "
    "Don't write artist name or album name. \n rock",
    ("paraphrase", 2): "write a song description sentence including the following attributes. "
    "creative paraphrasing is acceptable. \n rock, piano",
    ("paraphrase", 1): "write a song description sentence including the following single attribute. "
    "creative paraphrasing is acceptable. \n rock",
    ("attribute_prediction", 2): "write the answer as a python dictionary with new_attribute and description as keys. "
    "for new_attribute, write new attributes with high co-occurrence with the following attributes. for description, "
    "write a song description sentence including the following attributes and new attributes. \n rock, piano",
    ("attribute_prediction", 1): "write the answer as a python dictionary with new_attribute and description as keys. "
    "for new_attribute, write new attributes with high co-occurrence with the following single attribute. for "
    "description, write a song description sentence including the single attribute and new attribute. \n rock",
}


@pytest.mark.parametrize(("instruction", "count"), RELEASED)
def test_the_released_wording_is_sent_byte_for_byte(instruction: str, count: int) -> None:
    prompt = render_prompt(instruction, ["rock", "piano"][:count], "released")
    assert [(message.role, message.content) for message in prompt.messages] == [("user", RELEASED[instruction, count])]


def test_the_released_wording_agrees_with_the_recorded_one(published_captions: Path) -> None:
    page = (published_captions.parent.parent / "facts" / "paper.md").read_text(encoding="utf-8")
    recorded = re.findall(r"^(\w+)\.(plural|singular): +(.+)$", page, re.MULTILINE)
    assert len(recorded) == 8
    for instruction, number, text in recorded:
        tags = ["a", "b"] if number == "plural" else ["a"]
        assert released_text(instruction, tags) == f"{text} \n {', '.join(tags)}"


def test_a_track_without_tags_has_no_prompt() -> None:
    with pytest.raises(ValueError, match="at least one tag"):
        render_prompt("writing", [])


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_the_few_shot_wording_has_a_system_message_three_examples_and_a_shared_head(instruction: str) -> None:
    first = render_prompt(instruction, ["ska"], "small")
    second = render_prompt(instruction, ["rock", "piano"], "small")
    assert [message.role for message in first.messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert first.messages[: first.shared] == second.messages[: second.shared]
    assert first.shared == 7
    assert second.messages[-1].content.endswith("rock, piano")


def test_wordings_have_versions_of_their_own() -> None:
    assert len(set(WORDINGS.values())) == len(WORDINGS) == 2


def test_the_baselines_are_those_of_the_paper() -> None:
    assert template_caption(["rock", "piano"]) == "the music is characterized by rock, piano"
    assert tag_concat_caption(["rock", "piano"]) == "rock, piano"
