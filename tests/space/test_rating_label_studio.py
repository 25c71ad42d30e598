"""Label Studio's files: what is exported is blind and well-formed, what comes back are ratings of the same study."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rating_material import read_lines, write_inputs
from typer.testing import CliRunner

from lpmc_errors import TableError, UsageError
from lpmc_ratings import app
from space.rating_label_studio import export_tasks, import_ratings, task_slots
from space.rating_prepare import prepare_study
from space.rating_study import Settings, Study, load_study

URL = "https://example.org/sounds"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("label-studio")
    write_inputs(folder / "given", 14)
    prepare_study(
        folder / "given/items.jsonl",
        [str(folder / "given/ours.jsonl")],
        folder / "study",
        settings=Settings(block_size=4, raters_per_unit=2),
    )
    return folder / "study"


def exported(folder: Path, output: Path) -> tuple[Study, list[dict]]:
    study = load_study(folder)
    export_tasks(study, output, URL + "/")
    return study, json.loads((output / "tasks.json").read_text())


def choice(name: str, *choices: str) -> dict:
    """One part of an annotation's result, as Label Studio's task format documents it."""
    return {
        "id": f"x{name}", "from_name": name, "to_name": "audio", "type": "choices", "value": {"choices": list(choices)},
        "origin": "manual",
    }  # fmt: skip


def annotation(number: int, person: object, *parts: dict, **changes: object) -> dict:
    return {
        "id": number,
        "completed_by": person,
        "result": list(parts),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-03-09T22:16:08.728353Z",
        "lead_time": 14.288,
        "task": number,
    } | changes  # fmt: skip


ANSWERS = (choice("more_correct", "Caption A"), choice("less_wrong", "A tie"))


def test_every_comparison_gold_item_and_repeat_of_the_first_pass_is_a_task(folder, tmp_path):
    study, tasks = exported(folder, tmp_path)

    slots = [task_slots(study)[task["data"]["task"]] for task in tasks]
    kinds = Counter(slot.kind for slot in slots)
    units = {(slot.item, slot.pair) for slot in study.slots.values() if slot.kind == "real"}
    assert {(slot.item, slot.pair) for slot in slots if slot.kind == "real"} == units
    assert kinds == {"real": len(units), "gold": 2, "duplicate": 4}
    assert [slot.kind for slot in slots][-4:] == ["duplicate"] * 4
    for task, slot in zip(tasks, slots, strict=True):
        shown = {task["data"]["caption_a"], task["data"]["caption_b"]}
        assert shown == {study.captions[system][slot.item] for system in slot.pair}
        assert task["data"]["audio"] == f"{URL}/{study.clips[slot.item].file}"


def test_the_tasks_are_as_blind_as_the_page(folder, tmp_path):
    study, tasks = exported(folder, tmp_path)

    text = (json.dumps(tasks) + (tmp_path / "labelling_config.xml").read_text()).lower()
    for word in ("ours", "human", "mismatched", "constant", "gold", "duplicate", "clip-", "whale", "seed"):
        assert word not in text, word
    slots = [task_slots(study)[task["data"]["task"]] for task in tasks]
    left = [
        task["data"]["caption_a"] == study.captions["human"][slot.item] for task, slot in zip(tasks, slots, strict=True)
    ]
    assert 0 < sum(left) < len(left)
    names = [task["data"]["task"] for task in tasks]
    assert len(set(names)) == len(names)
    by_unit = {
        (slot.item, slot.pair): task["data"] for task, slot in zip(tasks, slots, strict=True) if slot.kind == "real"
    }
    for task, slot in zip(tasks, slots, strict=True):
        if slot.kind == "duplicate":
            assert task["data"]["caption_a"] == by_unit[slot.item, slot.pair]["caption_b"]


def test_the_labelling_interface_asks_the_questions_about_fields_that_the_tasks_have(folder, tmp_path):
    _, tasks = exported(folder, tmp_path)

    view = ElementTree.parse(tmp_path / "labelling_config.xml").getroot()
    names = {element.get("name") for element in view.iter() if element.get("name")}
    assert {"audio", "more_correct", "less_wrong", "overall", "wrong_a", "wrong_b"} <= names
    fields = {element.get("value")[1:] for element in view.iter() if (element.get("value") or "").startswith("$")}
    assert fields == tasks[0]["data"].keys() - {"task"}
    for control in view.iter("Choices"):
        assert control.get("toName") in names
    required = {control.get("name") for control in view.iter("Choices") if control.get("required") == "true"}
    assert required == {"more_correct", "less_wrong"}


def test_an_export_becomes_ratings_in_the_documented_form(folder, tmp_path):
    study, tasks = exported(folder, tmp_path)
    for number, task in enumerate(tasks):
        claims = [entry["value"] for entry in task["data"]["claims_a"]]
        parts = [*ANSWERS, choice("overall", "Caption B"), choice("wrong_a", claims[0])]
        task |= {"id": 100 + number, "annotations": []}
        task["annotations"].append(annotation(number, 7, *parts))
        # later releases write the person as an object; its address must not come along
        named = {"id": 8, "email": "someone@example.org", "first_name": "Some", "last_name": "One"}
        person = named if number % 2 else 8
        task["annotations"].append(annotation(1000 + number, person, *ANSWERS))
    (tmp_path / "export.json").write_text(json.dumps(tasks[::-1]))

    result = CliRunner().invoke(
        app, ["import-label-studio", str(folder), str(tmp_path / "export.json"), "--output", str(tmp_path / "r.jsonl")]
    )

    assert result.exit_code == 0, result.output
    records = read_lines(tmp_path / "r.jsonl")
    assert len(records) == 2 * len(tasks)
    assert len({record["rating_id"] for record in records}) == len(records)
    assert len({record["rater"] for record in records}) == 2
    assert "example.org" not in (tmp_path / "r.jsonl").read_text()
    by_id = {record["rating_id"]: record for record in records}
    shown = {task["data"]["task"]: task["data"] for task in tasks}
    names = {slot: name for name, slot in task_slots(study).items()}
    for record in records:
        data = shown[names[study.slots[record["slot"]]]]
        assert [study.captions[system][record["item"]] for system in record["pair"]] == [
            data["caption_a"], data["caption_b"]
        ]  # fmt: skip
        assert record["answers"]["more_correct"] == "left"
        assert record["answers"]["less_wrong"] == "tie"
        assert (record["listened_s"], record["seconds"], record["via"]) == (None, 14.29, "label-studio")
        assert record["time"] == "2026-03-09T22:16:08Z"
        assert record["simulated"] is False
        assert record["claims"]["left"] == [entry["value"] for entry in data["claims_a"]][:-1]
        if record["kind"] == "duplicate":
            first = by_id[record["duplicate_of"]]
            assert (first["rater"], first["pair"]) == (record["rater"], record["pair"][::-1])
    ticked = [record for record in records if record["answers"]["overall"]]
    assert {record["answers"]["overall"] for record in ticked} == {"right"}
    assert all(record["wrong_claims"]["left"] == record["claims"]["left"][:1] for record in ticked)
    assert {str(record["wrong_claims"]["right"]) for record in records} == {"None"}


def test_a_trial_without_people_is_marked_and_no_ratings_are_written_over(folder, tmp_path):
    _, tasks = exported(folder, tmp_path)
    tasks[0] |= {"id": 1, "annotations": [annotation(1, 7, *ANSWERS)]}
    (tmp_path / "export.json").write_text(json.dumps(tasks[:1]))
    command = ["import-label-studio", str(folder), str(tmp_path / "export.json"), "--output", str(tmp_path / "r.jsonl")]

    result = CliRunner().invoke(app, [*command, "--simulated"])
    again = CliRunner().invoke(app, command)

    assert result.exit_code == 0, result.output
    assert "1 SIMULATED ratings of 1 raters" in result.stdout
    assert isinstance(again.exception, UsageError)
    assert [record["simulated"] for record in read_lines(tmp_path / "r.jsonl")] == [True]


def test_annotations_that_are_no_ratings_are_left_out_and_named(folder, tmp_path):
    study, tasks = exported(folder, tmp_path)
    good, *rest = tasks
    repeat = tasks[-1]
    good |= {"id": 1, "annotations": [annotation(1, 7, *ANSWERS), annotation(2, 7, *ANSWERS)]}
    rest[0] |= {"id": 2, "annotations": [annotation(3, 7, *ANSWERS, was_cancelled=True)]}
    rest[1] |= {"id": 3, "annotations": [annotation(4, 7, ANSWERS[0])]}
    rest[2] |= {"id": 4, "annotations": [annotation(5, 7, choice("more_correct", "Both"), ANSWERS[1])]}
    rest[3] |= {"id": 5, "annotations": [annotation(6, None, *ANSWERS)]}
    rest[4] |= {"id": 6, "annotations": [annotation(7, 7, *ANSWERS, choice("wrong_a", "instrument: kazoo"))]}
    rest[5] |= {"id": 7, "annotations": [annotation(8, 7, *ANSWERS, created_at=None)]}
    repeat |= {"id": 8, "annotations": [annotation(9, 99, *ANSWERS)]}
    foreign = {"id": 9, "data": {"task": "of another study"}, "annotations": [annotation(10, 7, *ANSWERS)]}
    (tmp_path / "export.json").write_text(json.dumps([good, *rest[:6], repeat, foreign]))

    found = import_ratings(study, tmp_path / "export.json")
    result = CliRunner().invoke(
        app, ["import-label-studio", str(folder), str(tmp_path / "export.json"), "--output", str(tmp_path / "r.jsonl")]
    )

    assert len(found.ratings) == 1
    assert dict(found.problems) == {
        "task 1, annotation 2": "the task: has a second annotation by the same annotator",
        "task 2, annotation 3": "the annotation: was cancelled",
        "task 3, annotation 4": "Question 2: has no answer",
        "task 4, annotation 5": "Question 1: has no answer",
        "task 5, annotation 6": "the annotation: names no annotator in `completed_by`",
        "task 6, annotation 7": "the claims of caption A: are others than those offered",
        "task 7, annotation 8": "the annotation: has no time in `created_at` (None)",
        "task 8, annotation 9": "the repeat: has no first rating by the same annotator",
        "task 9, annotation 10": "the task: is none of this study",
    }
    assert result.exit_code == 3
    assert len(read_lines(tmp_path / "r.jsonl")) == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ('{"a": 1}', "is no JSON export"),
        ('[{"id": 1, "more_correct": "Caption A"}]', "is no JSON export"),  # JSON-MIN
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_export_is_refused(folder, tmp_path, content, problem):
    if content is not None:
        (tmp_path / "export.json").write_text(content)

    with pytest.raises(TableError, match=problem):
        import_ratings(load_study(folder), tmp_path / "export.json")


def test_an_export_of_another_study_writes_no_ratings(folder, tmp_path):
    foreign = [{"id": 9, "data": {"task": "x"}, "annotations": [annotation(10, 7, *ANSWERS)]}]
    (tmp_path / "export.json").write_text(json.dumps(foreign))

    result = CliRunner().invoke(
        app, ["import-label-studio", str(folder), str(tmp_path / "export.json"), "--output", str(tmp_path / "r.jsonl")]
    )

    assert isinstance(result.exception, TableError)
    assert not (tmp_path / "r.jsonl").exists()


def test_the_export_command_says_what_to_do_with_its_files(folder, tmp_path):
    arguments = ["export-label-studio", str(folder), "--output", str(tmp_path / "ls"), "--audio-url", URL]

    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 0, result.output
    assert "2 annotations a task" in result.stdout
    assert sorted(path.name for path in (tmp_path / "ls").iterdir()) == ["labelling_config.xml", "tasks.json"]
