"""A user's own wording, from a YAML file.

    name: plain                     # how tables and cards call it; letters, digits, "-" and "_"
    system: You describe music.     # optional: the system message of every instruction
    instructions:                   # any of writing, summary, paraphrase, attribute_prediction; at least one
      writing:
        prompt: "Describe a song with: {tags}"       # {tags}, exactly once, becomes the tags joined by ", "
        prompt_single: "Describe a {tags} song."     # optional: in the place of `prompt` for exactly one tag
        system: You describe songs.                  # optional: in the place of the one above; "" for none
        examples:                                    # optional: worked out before the question
          - {tags: [rock, piano], answer: A rock song with piano.}
        schema: {type: object}                       # optional: JSON schema, for endpoints with structured output
        max_tokens: 200                              # optional; 256, attribute_prediction 512

`dataset_builder/wordings/example.yaml` is a whole one. Other braces than `{tags}` stand for themselves, so JSON can be
written down as it is. A line break at the end of a text is dropped (YAML's `|` blocks have one). The answer of
attribute_prediction is read as a JSON object with `new_attribute` and `description`, or else as prose.

The version is a hash of what is sent: comments, the name and the order of keys do not change it, a word does. The one
order that counts is that inside `schema`: models write their answer in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dataset_builder.wordings.prompts import INSTRUCTIONS, MAX_TOKENS, Text, Wording, check_template, make_wording
from lpmc_errors import TableError

MAX_BYTES = 1_000_000  # a wording is read by people; more is another file by mistake
_FILE_KEYS = ("name", "system", "instructions")
_TEXT_KEYS = ("prompt", "prompt_single", "system", "examples", "schema", "max_tokens")
_EXAMPLE_KEYS = ("tags", "answer")
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),  # before int, which it is a kind of
    (int, "a number"),
    (float, "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a mapping"),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class _Fault(Exception):
    """(key, problem, remedy) of what is wrong with the content."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that occurs twice: YAML would drop the first one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise _Fault(key, f"occurs twice (line {node.start_mark.line + 1} and after)", "keep one of them")
        return super().construct_mapping(node, deep)


def read_wording(path: Path, reserved: Sequence[str] = ()) -> Wording:
    """The wording that the YAML file at `path` holds. Its name must be none of `reserved`.

    Raises `TableError` in one line that names the file, the key, what was expected and what to do.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TableError(path, f"cannot be read ({error.strerror or error})", "check the path") from error
    if len(raw) > MAX_BYTES:
        raise TableError(path, f"is larger than {MAX_BYTES:,} bytes: no wording", "give a YAML file with your texts")
    try:
        content = yaml.load(raw.decode("utf-8"), _Loader)  # noqa: S506 (_Loader is a SafeLoader)
        return _wording(content, reserved)
    except UnicodeDecodeError as error:
        raise TableError(path, "is not UTF-8", "save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise TableError(path, f"is no valid YAML ({_one_line(error)})", "mend that line") from error
    except RecursionError as error:
        raise TableError(path, "is nested too deeply or refers to itself", "write the texts out") from error
    except _Fault as fault:
        key, problem, remedy = fault.args
        raise TableError(path, f"{key}: {problem}" if key else problem, remedy) from None


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    return f"line {mark.line + 1}: {problem}" if mark else problem


def _wording(content: object, reserved: Sequence[str]) -> Wording:
    table = _mapping(content, "", _FILE_KEYS)
    name = _text(table, "name", "", required=True)
    if not _NAME.fullmatch(name):
        raise _Fault("name", f"{name!r} has other characters than letters, digits, - and _", "choose another name")
    if name in reserved:
        raise _Fault("name", f"{name!r} is a built-in wording", "choose another name")
    if "instructions" not in table:
        raise _Fault("instructions", "is missing", f"give a mapping with any of {', '.join(INSTRUCTIONS)}")
    instructions = _mapping(table["instructions"], "instructions", INSTRUCTIONS)
    if not instructions:
        raise _Fault("instructions", "is empty", f"give at least one of {', '.join(INSTRUCTIONS)}")
    system = _text(table, "system", "")
    return make_wording(name, {key: _texts(value, key, system) for key, value in instructions.items()})


def _texts(value: object, instruction: str, system: str) -> Text:
    where = f"instructions.{instruction}"
    table = _mapping(value, where, _TEXT_KEYS)
    return Text(
        prompt=_template(table, "prompt", where, required=True),
        prompt_single=_template(table, "prompt_single", where),
        system=_text(table, "system", where) if "system" in table else system,
        examples=_examples(table.get("examples"), f"{where}.examples"),
        schema=_schema(table.get("schema"), f"{where}.schema"),
        max_tokens=_max_tokens(table.get("max_tokens", MAX_TOKENS[instruction]), f"{where}.max_tokens"),
    )


def _mapping(value: object, where: str, known: Sequence[str]) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _Fault(where, f"holds {_kind(value)}, expected a mapping with {', '.join(known)}", "mend the file")
    for key in value:
        if key not in known:
            raise _Fault(_join(where, key), "is an unknown key", f"known are {', '.join(known)}")
    return value


def _text(table: Mapping[str, object], key: str, where: str, *, required: bool = False) -> str:
    place = _join(where, key)
    if key not in table:
        if required:
            raise _Fault(place, "is missing", "add it")
        return ""
    value = table[key]
    if not isinstance(value, str):
        raise _Fault(place, f"holds {_kind(value)}, expected a text", "put it in quotation marks")
    value = value.rstrip("\n")
    if required and not value.strip():
        raise _Fault(place, "is empty", "write a text")
    return value


def _template(table: Mapping[str, object], key: str, where: str, *, required: bool = False) -> str:
    template = _text(table, key, where, required=required)
    if template or key in table:
        try:
            check_template(template)
        except ValueError as error:
            raise _Fault(_join(where, key), str(error), "put {tags} where the tags belong") from None
    return template


def _examples(value: object, where: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _Fault(where, f"holds {_kind(value)}, expected a list", "write - {tags: [...], answer: ...} lines")
    examples = []
    for number, item in enumerate(value, start=1):
        place = f"{where}[{number}]"
        table = _mapping(item, place, _EXAMPLE_KEYS)
        tags = table.get("tags")
        if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) and tag.strip() for tag in tags):
            raise _Fault(
                f"{place}.tags", "is no list of texts", "give at least one tag; put numbers in quotation marks"
            )
        examples.append((tuple(tags), _text(table, "answer", place, required=True)))
    return tuple(examples)


def _schema(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict) or not value:
        raise _Fault(where, f"holds {_kind(value)}, expected a JSON schema", "give a mapping such as {type: object}")
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        faithful = json.loads(text) == value  # JSON would turn a key that is no text into one
    except (TypeError, ValueError) as error:
        raise _Fault(where, f"is no JSON ({error})", "use texts, numbers, lists and mappings only") from None
    if not faithful:
        raise _Fault(where, "has a key that is no text", "put the keys in quotation marks")
    return text


def _max_tokens(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _Fault(where, f"is {value!r}, expected a whole number from 1", "write for instance max_tokens: 256")
    return value


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return f"a {type(value).__name__}"  # YAML reads 2020-01-01 as a date
