"""The prompts: the released wordings byte for byte, and nothing but tags in any of them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from dataset_builder.instructions import (
    INSTRUCTIONS,
    WORDINGS,
    find_wording,
    k2c_prompt,
    released_text,
    render_prompt,
    tag_concat_caption,
    template_caption,
)
from lpmc_errors import LpmcError, UsageError

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
    assert len(set(WORDINGS.values())) == len(WORDINGS) == 3


def test_the_versions_of_wordings_that_captions_were_made_with_stay() -> None:
    assert (WORDINGS["released"], WORDINGS["small"]) == ("e4a8c222051d", "de5ff8a5588d")


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_every_wording_asks_with_the_tags_in_their_order_and_says_which_it_is(instruction: str, wording: str) -> None:
    for tags in (["{tags}"], ["rock", "{title}", "%s", "piano"]):
        prompt = render_prompt(instruction, tags, wording)
        assert prompt == find_wording(wording).render(instruction, tags)
        assert prompt.messages[-1].role == "user"
        assert prompt.messages[-1].content.count(", ".join(tags)) == 1
        assert "{tags}" not in prompt.messages[-1].content.replace(", ".join(tags), "")
        assert (prompt.wording, prompt.wording_version) == (wording, WORDINGS[wording])
        assert prompt.shared == len(prompt.messages) - 1


@pytest.mark.parametrize(
    ("wording", "prose", "prediction"), [("released", 256, 512), ("grounded", 256, 512), ("small", 96, 128)]
)
def test_a_wording_knows_how_long_its_answers_may_be(wording: str, prose: int, prediction: int) -> None:
    found = find_wording(wording)
    assert [found.max_tokens(instruction) for instruction in INSTRUCTIONS] == [prose, prose, prose, prediction]


def test_an_unknown_wording_or_instruction_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"^--wording v9: is unknown; choose from released, grounded, small, or give"):
        find_wording("v9")
    with pytest.raises(UsageError, match=r"^--wording no/where.yaml: there is no such file; "):
        find_wording("no/where.yaml")
    for use in (find_wording("released").max_tokens, lambda name: render_prompt(name, ["rock"])):
        with pytest.raises(UsageError, match=r"^--instructions review: the wording released has no text for it; "):
            use("review")


def test_errors_of_wordings_survive_the_way_to_another_process() -> None:
    with pytest.raises(LpmcError) as caught:
        find_wording("v9")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    wording = find_wording("grounded")
    assert pickle.loads(pickle.dumps(wording)).render("summary", ["a"]) == wording.render("summary", ["a"])


def test_the_keyword_model_reads_the_tags_with_its_own_separator() -> None:
    prompt = k2c_prompt(["rock", "male vocal, soft", "it's [live]"])
    assert [(message.role, message.content) for message in prompt.messages] == [
        ("user", "rock| male vocal| soft| its live")
    ]
    assert prompt.wording == "k2c"
    with pytest.raises(ValueError, match="at least one tag"):
        k2c_prompt([])


def test_the_baselines_are_those_of_the_paper() -> None:
    assert template_caption(["rock", "piano"]) == "the music is characterized by rock, piano"
    assert tag_concat_caption(["rock", "piano"]) == "rock, piano"


def test_the_names_of_the_package_are_there_and_importing_it_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, dataset_builder\n"
        "assert not {'openai', 'pyarrow', 'datasets', 'torch'} & set(sys.modules), sorted(sys.modules)\n"
        "assert all(callable(getattr(dataset_builder, name)) for name in dataset_builder.__all__)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
