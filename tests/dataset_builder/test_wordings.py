"""The strict wording, and wordings of the user's own from YAML files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from dataset_builder import instructions
from dataset_builder.captioning.parsing import Parsed, parse_answer
from dataset_builder.instructions import INSTRUCTIONS, find_wording, render_prompt
from dataset_builder.wordings.prompts import check_template
from lpmc_errors import TableError, UsageError

EXAMPLE = Path(instructions.__file__).parent / "wordings" / "example.yaml"
SMALLEST = 'name: mine\ninstructions:\n  writing:\n    prompt: "Describe {tags}."\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- grounded -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_the_strict_wording_is_a_system_message_with_the_rules_and_a_question(instruction: str) -> None:
    prompt = render_prompt(instruction, ["rock", "piano"], "grounded")
    assert [message.role for message in prompt.messages] == ["system", "user"]
    rules, question = (message.content for message in prompt.messages)
    for banned in ("instrument", "voice", "tempo", "key", "era", "genre", "mood", "artist", "song title", "album"):
        assert banned in rules
    for banned in ('"you"', "listener", "Get ready to", "Immerse yourself", "Experience", "lyrics", "quotation marks"):
        assert banned in rules
    assert "markdown" in rules
    assert "label" in rules
    assert re.search(r"\d+ words", question), "length guidance"
    assert question.endswith("Attributes: rock, piano")
    assert not set("{}") & set(rules + question)


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_the_strict_wording_speaks_of_one_attribute_where_there_is_one(instruction: str) -> None:
    one, two = (render_prompt(instruction, tags, "grounded").messages[-1].content for tags in (["ska"], ["ska", "dub"]))
    assert one.endswith("The only attribute: ska")
    assert one.split("\n")[0] != two.split("\n")[0]


def test_only_attribute_prediction_has_a_schema_and_its_prompt_says_the_same_in_words() -> None:
    prompts = {name: render_prompt(name, ["rock", "piano"], "grounded") for name in INSTRUCTIONS}
    assert [name for name, prompt in prompts.items() if prompt.schema] == ["attribute_prediction"]
    prompt = prompts["attribute_prediction"]
    schema = json.loads(prompt.schema)
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"]) == ["new_attribute", "description"]
    attributes = schema["properties"]["new_attribute"]
    assert (attributes["minItems"], attributes["maxItems"], attributes["items"]) == (2, 4, {"type": "string"})
    words = prompt.messages[0].content
    for said in ("JSON object", '"new_attribute"', '"description"', "2 to 4"):
        assert said in words
    assert json.dumps(schema, separators=(",", ":")) == prompt.schema


def test_an_answer_in_the_schema_is_read_whole() -> None:
    answer = {"new_attribute": ["warm", "slow groove"], "description": "A warm rock song with piano."}
    for text in (json.dumps(answer), f"```json\n{json.dumps(answer, indent=1)}\n```"):
        assert parse_answer("attribute_prediction", text) == Parsed(
            "A warm rock song with piano.", ("warm", "slow groove"), ("warm",)
        )


# --- files ----------------------------------------------------------------------------------------------------------


def test_the_example_file_that_ships_is_a_wording() -> None:
    wording = find_wording(str(EXAMPLE))
    assert (wording.name, wording.instructions) == ("example", ("writing", "attribute_prediction"))
    prompt = wording.render("writing", ["ska"])
    assert [message.role for message in prompt.messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert prompt.shared == 5
    assert prompt.messages[1].content.endswith("Attributes: techno, synthesizer, energetic")
    assert prompt.messages[3].content.endswith("Attribute: accordion")
    assert prompt.messages[-1].content == "Describe the recording in one short sentence.\nAttribute: ska"
    prediction = wording.render("attribute_prediction", ["ska", "dub"])
    assert '{"new_attribute": ["...", "..."], "description": "..."}' in prediction.messages[-1].content
    assert list(json.loads(prediction.schema)["properties"]) == ["new_attribute", "description"]
    assert [wording.max_tokens(name) for name in wording.instructions] == [128, 512]


def test_the_format_in_the_documentation_is_read(tmp_path: Path) -> None:
    from dataset_builder.wordings import user_file

    assert user_file.__doc__ is not None
    shown = [line[4:] for line in user_file.__doc__.splitlines() if line.startswith("    ")]
    wording = find_wording(written(tmp_path, "\n".join(shown)))
    assert wording.render("writing", ["ska"]).messages[-1].content == "Describe a ska song."
    assert wording.render("writing", ["ska"]).messages[0].content == "You describe songs."
    assert wording.max_tokens("writing") == 200


def test_the_smallest_file_has_a_message_and_the_usual_limits(tmp_path: Path) -> None:
    wording = find_wording(written(tmp_path, SMALLEST))
    prompt = wording.render("writing", ["rock", "piano"])
    assert [(message.role, message.content) for message in prompt.messages] == [("user", "Describe rock, piano.")]
    assert (prompt.wording, prompt.wording_version, prompt.shared, prompt.schema) == ("mine", wording.version, 0, "")
    assert wording.max_tokens("writing") == 256


def test_an_instruction_that_the_file_does_not_word_is_refused_when_asked_for(tmp_path: Path) -> None:
    wording = find_wording(written(tmp_path, SMALLEST))
    for use in (lambda: wording.render("summary", ["rock"]), lambda: wording.max_tokens("summary")):
        with pytest.raises(UsageError, match=r"^--instructions summary: the wording mine has no text for it; choose "):
            use()


def test_an_instruction_may_drop_the_common_system_message(tmp_path: Path) -> None:
    text = SMALLEST.replace("name: mine", "name: mine\nsystem: Be brief.")
    assert find_wording(written(tmp_path, text)).render("writing", ["a"]).messages[0].content == "Be brief."
    dropped = find_wording(written(tmp_path, text + '    system: ""\n'))
    assert [message.role for message in dropped.render("writing", ["a"]).messages] == ["user"]


VARIANTS = {
    "a comment": (SMALLEST + "# soon\n", True),
    "another key order": (
        'instructions: {writing: {prompt: "Describe {tags}."}}\nname: mine\n',
        True,
    ),
    "another name": (SMALLEST.replace("mine", "yours"), True),
    "a default written out": (SMALLEST + "    max_tokens: 256\n", True),
    "a line break at the end": (SMALLEST.replace('"Describe {tags}."', "|\n      Describe {tags}."), True),
    "a byte order mark": ("\ufeff" + SMALLEST, True),
    "a word": (SMALLEST.replace("Describe", "describe"), False),
    "a system message": (SMALLEST + "    system: Be brief.\n", False),
    "a singular": (SMALLEST + "    prompt_single: It is {tags}.\n", False),
    "an example": (SMALLEST + "    examples: [{tags: [a], answer: b}]\n", False),
    "a schema": (SMALLEST + "    schema: {type: object}\n", False),
    "a length": (SMALLEST + "    max_tokens: 99\n", False),
    "an instruction": (SMALLEST + '  summary: {prompt: "{tags}"}\n', False),
}


@pytest.mark.parametrize("change", VARIANTS)
def test_the_version_changes_with_what_is_sent_and_with_nothing_else(tmp_path: Path, change: str) -> None:
    text, same = VARIANTS[change]
    version = find_wording(written(tmp_path, SMALLEST)).version
    assert (find_wording(written(tmp_path, text)).version == version) is same


def test_the_order_inside_a_schema_is_kept_because_models_answer_in_it(tmp_path: Path) -> None:
    schema = "    schema: {type: object, properties: {new_attribute: {}, description: {}}}\n"
    first = find_wording(written(tmp_path, SMALLEST + schema))
    second = find_wording(
        written(tmp_path, SMALLEST + schema.replace("new_attribute: {}, description: {}", "description: {}, b: {}"))
    )
    assert first.render("writing", ["a"]).schema.index("new_attribute") < first.render("writing", ["a"]).schema.index(
        "description"
    )
    assert first.version != second.version


FAULTS = {
    "not YAML": ("name: [", r"is no valid YAML \(line \d+: .+\); mend that line"),
    "a tab": ("name: a\n\tb: c\n", r"is no valid YAML \(line 2: .+"),
    "an object tag": (
        "name: !!python/object/apply:os.getcwd []\n",
        r"is no valid YAML \(line 1: could not determine .+",
    ),
    "a list": ("- a\n", "holds a list, expected a mapping with name, system, instructions; mend the file"),
    "nothing": ("# empty\n", "holds nothing, expected a mapping with name, system, instructions; mend the file"),
    "an unknown key": (SMALLEST + "titel: x\n", "titel: is an unknown key; known are name, system, instructions"),
    "an unknown instruction": (
        SMALLEST + '  review: {prompt: "{tags}"}\n',
        "instructions.review: is an unknown key; known are writing, summary, paraphrase, attribute_prediction",
    ),
    "an unknown text": (
        SMALLEST + "    promt: x\n",
        "instructions.writing.promt: is an unknown key; known are prompt, .+",
    ),
    "a key twice": (SMALLEST + "name: other\n", r"name: occurs twice \(line 1 and after\); keep one of them"),
    "no name": (SMALLEST.replace("name: mine\n", ""), "name: is missing; add it"),
    "a number as name": (
        SMALLEST.replace("mine", "7"),
        "name: holds a number, expected a text; put it in quotation marks",
    ),
    "a name with a space": (SMALLEST.replace("mine", "my own"), "name: 'my own' has other characters than .+"),
    "a built-in name": (
        SMALLEST.replace("mine", "grounded"),
        "name: 'grounded' is a built-in wording; choose another name",
    ),
    "the name of a baseline": (SMALLEST.replace("mine", "template"), "name: 'template' is a built-in wording; .+"),
    "no instructions": ("name: a\n", "instructions: is missing; give a mapping with any of writing, .+"),
    "empty instructions": ("name: a\ninstructions: {}\n", "instructions: is empty; give at least one of writing, .+"),
    "an instruction as text": (
        'name: a\ninstructions: {writing: "{tags}"}\n',
        "instructions.writing: holds a text, expected a mapping with prompt, .+; mend the file",
    ),
    "no prompt": (
        "name: a\ninstructions: {writing: {system: b}}\n",
        "instructions.writing.prompt: is missing; add it",
    ),
    "no placeholder": (
        SMALLEST.replace("{tags}", "them"),
        r"instructions.writing.prompt: must hold \{tags\} exactly once, found 0; put \{tags\} where the tags belong",
    ),
    "two placeholders": (
        SMALLEST.replace("{tags}", "{tags}{tags}"),
        r".+prompt: must hold \{tags\} exactly once, found 2; .+",
    ),
    "another placeholder": (
        SMALLEST.replace("{tags}", "{tags} by {artist}"),
        r".+prompt: has the unknown placeholder \{artist\}; only \{tags\} is filled in; .+",
    ),
    "an attribute": (
        SMALLEST.replace("{tags}", "{tags.__class__} {tags}"),
        r".+ unknown placeholder \{tags.__class__\}; .+",
    ),
    "a format": (SMALLEST.replace("{tags}", "{tags:>9}"), r".+ unknown placeholder \{tags:>9\}; .+"),
    "double braces": (SMALLEST.replace("{tags}", "{{tags}}"), r".+prompt: write \{tags\} in single braces; .+"),
    "a singular without placeholder": (
        SMALLEST + '    prompt_single: ""\n',
        r"instructions.writing.prompt_single: must hold \{tags\} exactly once, found 0; .+",
    ),
    "a date as text": (SMALLEST + "    system: 2020-01-01\n", ".+system: holds a date, expected a text; .+"),
    "yes as answer": (
        SMALLEST + "    examples: [{tags: [a], answer: yes}]\n",
        r"instructions.writing.examples\[1\].answer: holds true or false, expected a text; put it in quotation marks",
    ),
    "a number as tag": (
        SMALLEST + "    examples: [{tags: [808], answer: b}]\n",
        r".+examples\[1\].tags: is no list of texts; .+",
    ),
    "an example without tags": (
        SMALLEST + "    examples: [{tags: [], answer: b}]\n",
        r".+\[1\].tags: is no list of texts; .+",
    ),
    "examples as mapping": (
        SMALLEST + "    examples: {tags: [a]}\n",
        ".+examples: holds a mapping, expected a list; .+",
    ),
    "a schema as text": (SMALLEST + "    schema: object\n", ".+schema: holds a text, expected a JSON schema; .+"),
    "a schema with a date": (
        SMALLEST + "    schema: {const: 2020-01-01}\n",
        r".+schema: is no JSON \(.+\); use texts, .+",
    ),
    "a schema with a number as key": (SMALLEST + "    schema: {1: a}\n", ".+schema: has a key that is no text; .+"),
    "a schema that holds itself": (SMALLEST + "    schema: &a {b: *a}\n", r".+schema: is no JSON \(Circular .+\); .+"),
    "a length of nothing": (SMALLEST + "    max_tokens: 0\n", ".+max_tokens: is 0, expected a whole number from 1; .+"),
    "a length that is true": (SMALLEST + "    max_tokens: true\n", ".+max_tokens: is True, expected a whole number .+"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_file_is_told_in_one_line_that_names_file_key_and_remedy(tmp_path: Path, fault: str) -> None:
    text, expected = FAULTS[fault]
    path = written(tmp_path, text)
    with pytest.raises(TableError) as caught:
        find_wording(path)
    message = str(caught.value)
    assert re.fullmatch(f"{re.escape(str(path))}: {expected}", message), message


def test_files_that_cannot_be_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(TableError, match="is not UTF-8; save it as UTF-8"):
        find_wording(path)
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(TableError, match="is larger than 1,000,000 bytes"):
        find_wording(path)
    path.unlink()
    with pytest.raises(UsageError, match="there is no such file"):
        find_wording(path)
    path.mkdir()
    with pytest.raises(UsageError):
        find_wording(path)


def test_deep_nesting_is_an_error_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"nested too deeply|no valid YAML"):
        find_wording(written(tmp_path, "name: " + "[" * 5000))


def test_a_built_in_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(EXAMPLE, tmp_path / "released")
    monkeypatch.chdir(tmp_path)
    assert find_wording("released").name == "released"
    assert find_wording("./released").name == "example"


@pytest.mark.parametrize("template", ['{"a": ["{tags}"]}', "{type: object} {tags}", "{ } {1} {tags}"])
def test_braces_of_json_are_no_placeholders(template: str) -> None:
    check_template(template)


@pytest.mark.parametrize("template", ["{tags!r}", "{ tags }", "{tags[0]} {tags}", "{} {x.y} {tags}"])
def test_what_python_would_fill_in_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        check_template(template)
