"""The same study in Label Studio: tasks and a labelling configuration to import there, its JSON export back to ratings.

A task shows what the page shows and is as blind: its name is drawn, and its data hold neither systems nor kinds. Label
Studio does not measure listening, so `listened_s` is null. Nor does it keep an annotator from meeting one clip beside
two systems, which tells him the human caption: with more than one system besides the blind one, the page is the better
instrument. Set the annotations a task to the study's `raters_per_unit` there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from lpmc_errors import TableError, UsageError
from lpmc_files import write_json, write_text
from space.rating_desk import Answer, check_answer, rating_record
from space.rating_store import Record
from space.rating_study import Pair, Slot, Study, order_seed, sides

EXPORTER = "label-studio"  # in place of the rater where no rater is known yet
TASKS_FILE, CONFIG_FILE = "tasks.json", "labelling_config.xml"
NONE_WRONG = "None of these is wrong"
CHOICES = {"Caption A": "left", "Caption B": "right", "A tie": "tie"}
QUESTIONS = {
    "more_correct": "1. Which caption has more correct attributes?",
    "less_wrong": "2. Which caption is less wrong?",
    "overall": "3. Which caption is better overall? (you may skip this)",
}
Problem = tuple[str, str]  # what, why


@dataclass(frozen=True)
class Imported:
    """What an export of Label Studio held."""

    ratings: list[Record]
    problems: list[Problem]  # annotations that were left out, with the reason


def export_tasks(study: Study, output: Path, audio_url: str) -> int:
    """Write `tasks.json` and `labelling_config.xml` into `output`; give the number of tasks.

    A task is a comparison, a gold item or a repeat; repeats come last. `audio_url` is the address under which the
    annotators' browsers find the study's folder of sounds, e.g. `/data/local-files/?d=study/audio`.
    """
    tasks = []
    for name, slot in sorted(task_slots(study).items()):
        left, right = _sides(study, slot)
        data: dict[str, Any] = {
            "task": name,
            "audio": f"{audio_url.rstrip('/')}/{study.clips[slot.item].file}",
            "caption_a": study.captions[left][slot.item],
            "caption_b": study.captions[right][slot.item],
        }
        if study.settings.claims:
            for side, system in (("a", left), ("b", right)):
                choices = [*study.claims[system][slot.item], NONE_WRONG]
                data[f"claims_{side}"] = [{"value": choice} for choice in choices]
        tasks.append((slot.kind == "duplicate", {"data": data}))
    tasks.sort(key=lambda task: task[0])
    write_json(output / TASKS_FILE, [task for _, task in tasks])
    write_text(output / CONFIG_FILE, labelling_config(study))
    return len(tasks)


def task_slots(study: Study) -> dict[str, Slot]:
    """Drawn names of the tasks -> a slot of each.

    The slots of one comparison in several blocks are one task there, rated by several annotators. Repeats are those of
    the first pass over the comparisons, or an annotator who does everything would see most of it twice.
    """
    unique: dict[tuple[str, Pair, str], Slot] = {}
    passes = study.settings.raters_per_unit
    first_pass = {slot.id for block in study.blocks[: len(study.blocks) // passes] for slot in block}
    for slot in study.slots.values():
        if slot.kind == "duplicate" and slot.id not in first_pass:
            continue
        unique.setdefault((slot.item, slot.pair, slot.kind), slot)
    return {_name(study, *key): slot for key, slot in unique.items()}


def _name(study: Study, item: str, pair: Pair, kind: str) -> str:
    return hashlib.sha256("\x1f".join((study.study, str(study.settings.seed), item, *pair, kind)).encode()).hexdigest()[
        :12
    ]


def _sides(study: Study, slot: Slot) -> Pair:
    return sides(order_seed(study, EXPORTER, slot), slot)


def labelling_config(study: Study) -> str:
    """The labelling interface as Label Studio's XML: the sound, both captions, the questions."""
    lines = ["<View>", '  <Audio name="audio" value="$audio"/>', '  <View style="display: flex; gap: 2rem">']
    for side in "ab":
        lines.append('    <View style="flex: 1">')
        lines.append(f'      <Header value="Caption {side.upper()}"/>')
        lines.append(f'      <Text name="caption_{side}" value="$caption_{side}"/>')
        lines.append("    </View>")
    lines.append("  </View>")
    for name, question in QUESTIONS.items():
        if name == "overall" and not study.settings.overall:
            continue
        required = "false" if name == "overall" else "true"
        lines.append(f"  <Header value={quoteattr(question)}/>")
        lines.append(f'  <Choices name="{name}" toName="audio" choice="single-radio" required="{required}">')
        lines += [f"    <Choice value={quoteattr(choice)}/>" for choice in CHOICES]
        lines.append("  </Choices>")
    if study.settings.claims:
        for side in "ab":
            lines.append(f'  <Header value="Which claims of caption {side.upper()} are wrong? (you may skip this)"/>')
            lines.append(f'  <Choices name="wrong_{side}" toName="audio" choice="multiple" value="$claims_{side}"/>')
    return "\n".join([*lines, "</View>"]) + "\n"


def import_ratings(study: Study, export: Path, *, simulated: bool = False) -> Imported:
    """Read a JSON export of Label Studio (not JSON-MIN) as ratings of `study`.

    Annotators become random-looking ids that their number and the study give. What cannot be used is left out and
    told: a cancelled annotation, a missing answer, a task of another study, a second annotation by the same person.
    `simulated`: no people annotated, and every rating says so; Label Studio cannot know.
    Raises `TableError` when the file is no such export.
    """
    ratings: dict[str, Record] = {}
    problems: list[Problem] = []
    slots = task_slots(study)
    annotations = sorted(_annotations(export), key=lambda found: _kind_of(slots, found[0]) == "duplicate")
    for task, annotation in annotations:
        where = f"task {task.get('id', '?')}, annotation {annotation.get('id', '?')}"
        slot = slots.get(_task_name(task))
        try:
            record = _rating(study, slot, annotation, ratings, simulated)
        except UsageError as error:
            problems.append((where, f"{error.item}: {error.problem}"))
            continue
        ratings[record["rating_id"]] = record
    return Imported(list(ratings.values()), problems)


def _annotations(export: Path) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
    remedy = "export the project as JSON (not JSON-MIN) and name that file"
    try:
        tasks = json.loads(export.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise TableError(export, "no such file", remedy) from error
    except ValueError as error:
        raise TableError(export, "is not JSON", remedy) from error
    whole = isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks)
    if not whole or not all(isinstance(task.get("annotations"), list) for task in tasks):
        raise TableError(export, "is no JSON export of Label Studio: a list of tasks with `annotations`", remedy)
    return [(task, annotation) for task in tasks for annotation in task["annotations"] if isinstance(annotation, dict)]


def _task_name(task: dict[str, Any]) -> str:
    data = task.get("data")
    return str(data.get("task")) if isinstance(data, dict) else ""


def _kind_of(slots: dict[str, Slot], task: dict[str, Any]) -> str:
    slot = slots.get(_task_name(task))
    return slot.kind if slot else ""


def _rating(
    study: Study, slot: Slot | None, annotation: dict[str, Any], before: dict[str, Record], simulated: bool
) -> Record:
    if slot is None:
        raise UsageError("the task", "is none of this study")
    if annotation.get("was_cancelled"):
        raise UsageError("the annotation", "was cancelled")
    person = annotation.get("completed_by")
    person = person.get("id") if isinstance(person, dict) else person  # a number, or an object in newer exports
    if person is None:
        raise UsageError("the annotation", "names no annotator in `completed_by`")
    rater = "r-" + hashlib.sha256(f"{study.study}\x1f{EXPORTER}\x1f{person}".encode()).hexdigest()[:12]
    chosen = _chosen(annotation)
    correct, less, overall = (_answer(chosen.get(name)) for name in QUESTIONS)
    answer = Answer(correct, less, overall or None, _wrong(chosen.get("wrong_a")), _wrong(chosen.get("wrong_b")))
    pair = _sides(study, slot)
    claims = tuple(tuple(study.claims[system][slot.item]) if study.claims else () for system in pair)
    check_answer(answer, claims)
    origin = next(
        (
            record["rating_id"]
            for record in before.values()
            if slot.kind == "duplicate"
            and (record["rater"], record["item"], record["kind"]) == (rater, slot.item, "real")
            and set(record["pair"]) == set(pair)
        ),
        None,
    )
    if slot.kind == "duplicate" and origin is None:
        raise UsageError("the repeat", "has no first rating by the same annotator")
    lead = annotation.get("lead_time")
    record = rating_record(
        study, rater, slot, answer,
        pair=pair, seed=order_seed(study, EXPORTER, slot), duplicate_of=origin,
        listened_s=None, seconds=float(lead) if isinstance(lead, int | float) else None,
        at=_moment(annotation.get("created_at")), via=EXPORTER, simulated=simulated,
    )  # fmt: skip
    if record["rating_id"] in before:
        raise UsageError("the task", "has a second annotation by the same annotator")
    return record


def _chosen(annotation: dict[str, Any]) -> dict[str, list[str]]:
    """Choices by the name of the question."""
    found: dict[str, list[str]] = {}
    for part in annotation.get("result") or []:
        if isinstance(part, dict) and part.get("type") == "choices" and isinstance(part.get("value"), dict):
            found[str(part.get("from_name"))] = [str(choice) for choice in part["value"].get("choices") or []]
    return found


def _answer(choices: list[str] | None) -> str:
    return CHOICES.get(choices[0], "unknown") if choices else ""


def _wrong(choices: list[str] | None) -> tuple[str, ...] | None:
    if not choices:
        return None
    if NONE_WRONG in choices:
        if len(choices) > 1:
            raise UsageError("a caption", "has wrong claims and none at once")
        return ()
    return tuple(choices)


def _moment(text: Any) -> float:
    """Seconds since 1970 of a time such as `2026-03-09T22:16:08.728353Z`."""
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))  # Python 3.10 knows no Z
    except ValueError as error:
        raise UsageError("the annotation", f"has no time in `created_at` ({text})") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
