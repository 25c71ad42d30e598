"""Checks of the cards of a model, the metric and the demo's Space, and of whatever lies in a directory."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hub_cards.facts import config_names
from hub_cards.licences import HUB_LICENCES
from hub_cards.lint import lint_dataset
from hub_cards.lint_common import (
    CARD,
    Problem,
    as_list,
    body_of,
    is_hub_id,
    lint_common,
    lint_list,
    lint_rendered,
    lint_text_files,
    lint_texts,
    misread,
    read_front_matter,
    read_text,
    untraced,
)
from hub_cards.numbers import Results, altered_lines, gather, read_results, untraced_lines, untraced_numbers
from hub_cards.render_space import constants, read_metric, read_space, render_metric_card, render_space_card
from hub_cards.rendering import fixed_lines
from hub_cards.results_table import blind_of, interval_of, results_lines
from lpmc_errors import UsageError

# What a model directory holds of numbers: the score card of `lpmc evaluate --json`, the records of `lpmc train` and
# `lpmc convert`, the settings of the model. tokenizer.json holds every number there is, inference.json texts.
EVALUATION_FILE, RECORD_FILE = "evaluation.json", "training.json"
RESULT_FILES = (
    *(EVALUATION_FILE, RECORD_FILE, "conversion.json"),
    *("config.json", "generation_config.json", "preprocessor_config.json"),
)

_LICENCE_ID = re.compile(r"\bcc-by[-\w.]*|\bcc0[-\w.]*")  # as the Hub writes them, in lower case
_COLOURS = frozenset({"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"})
_SDKS = frozenset({"gradio", "docker", "static"})
_SHORT_DESCRIPTION = 60  # characters; the Hub refuses more
_HEADERS = frozenset({"cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy"})


def lint_directory(directory: Path) -> tuple[str, list[Problem]]:
    """What lies in `directory` (`dataset`, `model`, `metric` or `space`) and every problem of its card.

    Raises `UsageError` when it is none of them.
    """
    directory = directory.parent if directory.name == CARD else directory
    if not directory.is_dir():
        raise UsageError(directory, "no such folder", "name the folder that holds the card")
    card = directory / CARD
    front = (read_front_matter(card)[0] if card.is_file() else None) or {}
    tags = as_list(front.get("tags"))
    if config_names(directory) or "configs" in front or "dataset_info" in front:
        return "dataset", lint_dataset(directory)
    if "sdk" in front:
        return ("metric", lint_metric(directory)) if "metric" in tags else ("space", lint_space(directory))
    if (directory / "config.json").is_file() or "pipeline_tag" in front or "library_name" in front:
        return "model", lint_model(directory)
    raise UsageError(directory, "holds no data set, model, metric or Space", "name a folder with its README.md")


def lint_model(directory: Path) -> list[Problem]:
    """Every problem of a model directory's card.

    Checks front matter, licence, links, absolute paths and keys, that the model index can be read and holds the very
    values of the result files beside the card (`RESULT_FILES`), and that these hold every other number of the card.
    """
    from huggingface_hub import ModelCard

    front, problems = _begin(directory)
    if front is None:
        return problems
    problems += lint_texts(front, ("library_name", "pipeline_tag", "model_name"))
    for name in ("language", "library_name", "pipeline_tag"):
        if front.get(name) is None:
            problems.append(Problem(CARD, f"{name} is missing"))
    for name in ("datasets", "base_model"):
        listed = {name: as_list(front.get(name))} if front.get(name) is not None else {}
        problems += lint_list(listed, name, is_hub_id, "id on the Hub")
    results = read_results(directory, RESULT_FILES)
    try:
        data = ModelCard.load(directory / CARD).data
        problems += _lint_model_index(data.eval_results or [], results, _held_results(directory))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problems.append(Problem(CARD, f"model-index cannot be read: {type(error).__name__} {error}"))
    rendered = _rendered_results(directory)
    return problems + list(_lint_numbers(directory, front, results, "model_card.md.j2", rendered))


def lint_space(directory: Path) -> list[Problem]:
    """Every problem of a Space's card: the Hub's settings and their types, licence, links, paths, keys, numbers.

    Numbers are held against the constants of the page's app.py, which is read and not run.
    """
    front, problems = _begin(directory)
    if front is None:
        return problems
    problems += _lint_settings(directory, front)
    app = directory / str(front.get("app_file") or "app.py")
    try:
        found = gather([constants(app)])
        rendered = render_space_card(
            read_space(app),
            sdk_version=str(front.get("sdk_version")),
            python_version=str(front.get("python_version")),
            models=as_list(front.get("models")),
            datasets=as_list(front.get("datasets")),
        )
    except (OSError, SyntaxError, KeyError, TypeError):
        found = Results()
        rendered = ""
    if rendered:
        return problems + list(lint_rendered(CARD, _without_versions(directory), _versionless(rendered), found))
    return problems + list(_lint_numbers(directory, front, found, "space_card.md.j2"))


def lint_metric(directory: Path) -> list[Problem]:
    """Every problem of the card of an `evaluate` module: as `lint_space`, and its tags, its module and its example.

    Numbers are held against the module's own texts and the score card evaluation.json beside it.
    """
    front, problems = _begin(directory)
    if front is None:
        return problems
    problems += _lint_settings(directory, front)
    for tag in ("evaluate", "metric"):
        if tag not in as_list(front.get("tags")):
            problems.append(Problem(CARD, f"tags lacks {tag!r}: evaluate's pages list modules by it"))
    modules = [path for path in sorted(directory.glob("*.py")) if "evaluate.Metric" in read_text(path)]
    if len(modules) != 1:
        problems.append(Problem(CARD, f"{len(modules)} evaluate modules lie beside the card, expected one"))
        return problems + list(_lint_numbers(directory, front, Results(), "metric_card.md.j2"))
    score_card = _json(directory / EVALUATION_FILE)
    text = read_text(directory / CARD)
    requirements = directory / "requirements.txt"
    rendered = render_metric_card(
        read_metric(modules[0]),
        results=score_card,
        sdk_version=front.get("sdk_version"),
        python_version=front.get("python_version"),
        requirements=read_text(requirements).splitlines() if requirements.is_file() else (),
    )
    return problems + list(lint_rendered(CARD, text, rendered, gather([score_card or {}])))


def _begin(directory: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    if not (directory / CARD).is_file():
        return None, [Problem(CARD, "is missing")]
    problems = list(lint_text_files(directory))
    front, faults = read_front_matter(directory / CARD)
    problems += faults
    if front is not None:
        problems += lint_common(directory, front)
    return front, problems


def _held_results(directory: Path) -> list[dict[str, Any]]:
    """The scores that the result files hold as a whole, each as a card is rendered from it."""
    trained = (_json(directory / RECORD_FILE) or {}).get("results")
    return [found for found in (_json(directory / EVALUATION_FILE), trained) if isinstance(found, dict)]


def _rendered_results(directory: Path) -> frozenset[str]:
    lines: set[str] = set()
    for held in _held_results(directory):
        with contextlib.suppress(ValueError):  # it holds no score
            lines.update(results_lines(held))
    return frozenset(lines)


def _indexed_values(name: str, results: Results, held: list[dict[str, Any]]) -> list[float | int]:
    """The values that the result files hold of what the model index calls `name`."""
    metric, blind, row = name.rpartition("_blind_")
    if blind:
        return [values[row] for result in held if row in (values := blind_of(result, metric))]
    return [found.number for found in results.of(name)]


def _lint_model_index(evaluated: list[Any], results: Results, results_held: list[dict[str, Any]]) -> Iterator[Problem]:
    for result in evaluated:
        name, value = str(result.metric_type), result.metric_value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            yield Problem(CARD, f"model-index: {name} is {value!r}, expected a number")
            continue
        called = str(result.metric_name or name)
        if re.findall(r"\d+", called) != re.findall(r"\d+", name):
            yield Problem(CARD, f"model-index: {name} is called {called}")
        ends = (result.metric_args or {}).get("interval")
        if ends is not None and ends not in [interval_of(known, name) for known in results_held]:
            yield Problem(CARD, f"model-index: no result file holds the interval {ends} of {name}")
        held = _indexed_values(name, results, results_held)
        if not held:
            yield Problem(CARD, f"model-index: no result file holds {name}")
        elif value not in held:
            yield Problem(CARD, f"model-index: {name} is {value}, the result file says {held[0]}")


def _lint_numbers(
    directory: Path,
    front: Mapping[str, Any],
    results: Results,
    template: str,
    rendered: frozenset[str] = frozenset(),
) -> Iterator[Problem]:
    """The numbers that no result file holds: in the body, and in the front matter outside of the model index.

    Lines that are `rendered` so from the result files hold theirs.
    """
    fixed = fixed_lines(template)
    body = body_of(read_text(directory / CARD))
    for line in altered_lines(body, fixed, fixed_lines(template, masked=True)):
        yield Problem(CARD, f"a number of the template's own text was changed in {line.strip()!r}")
    for name in sorted({name.rstrip(".") for name in _LICENCE_ID.findall(body)} - HUB_LICENCES):
        yield Problem(CARD, f"names the licence {name!r}, which is not one of the Hub's identifiers")
    others = "\n".join("" if line in rendered else line for line in body.splitlines())
    for number, line in untraced_lines(others, results, fixed):
        yield untraced(CARD, number, line)
    for name, value in front.items():
        for text in _claims(value) if name != "model-index" else ():
            for number in untraced_numbers(f"{name}: {text}", results):
                yield untraced(CARD, number, f"{name}: {text}")


def _claims(value: Any) -> Iterator[str]:
    """Numbers and sentences in a value of the front matter; a single word is a name or an id."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            for text in _claims(part):
                yield f"{name}: {text}"
    elif isinstance(value, list):
        for part in value:
            yield from _claims(part)
    elif isinstance(value, str):
        if " " in value.strip():
            yield value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


_VERSIONS = re.compile(r"^(sdk_version|python_version): .*$", re.MULTILINE)


def _versionless(text: str) -> str:
    return _VERSIONS.sub(r"\1", text)


def _without_versions(directory: Path) -> str:
    """The card without its pins, which state a choice, not a measurement; `_lint_settings` looks at them."""
    return _versionless(read_text(directory / CARD))


def _lint_settings(directory: Path, front: Mapping[str, Any]) -> Iterator[Problem]:
    """Every setting of a Space: whether the Hub knows it, its type and its allowed values."""
    for name in ("title", "emoji", "colorFrom", "colorTo", "sdk"):
        if front.get(name) is None:
            yield Problem(CARD, f"{name} is missing")
    if front.get("sdk") == "gradio":
        for name in ("sdk_version", "app_file"):
            if front.get(name) is None:
                yield Problem(CARD, f"{name} is missing: the Hub would choose one")
    for name, value in front.items():
        if name not in _SETTINGS:
            near = "; suggested_hardware is the name" if name == "hardware" else ""
            yield Problem(CARD, f"{name} is no setting of a Space{near}")
            continue
        expected, fits = _SETTINGS[name]
        if not fits(value):
            yield Problem(CARD, f"{name} {value!r} is not {expected}{misread(value) if _wants_text(expected) else ''}")
    for name in ("app_file", "thumbnail"):
        value = front.get(name)
        if isinstance(value, str) and not value.startswith("https://") and not os.path.isfile(directory / value):
            yield Problem(CARD, f"{name} {value!r} does not exist")
    yield from _lint_pin(directory, front)


def _lint_pin(directory: Path, front: Mapping[str, Any]) -> Iterator[Problem]:
    requirements = directory / "requirements.txt"
    text = requirements.read_text(encoding="utf-8") if requirements.is_file() else ""
    pinned = re.search(r"^gradio(?:\[[^\]]*\])?\s*==\s*([\w.]+)", text, re.MULTILINE)
    if pinned and pinned[1] != front.get("sdk_version"):
        yield Problem(
            "requirements.txt", f"pins gradio {pinned[1]}, the card's sdk_version is {front.get('sdk_version')}"
        )


def _wants_text(expected: str) -> bool:
    return not expected.startswith(("true", "a list", "a whole", "names"))


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _one_of(values: frozenset[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


def _list_of(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(_text(pattern), value))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_emoji(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 8 and not any(sign.isalnum() or sign < "\x7f" for sign in value)


def _is_hardware(value: Any) -> bool:
    from huggingface_hub import SpaceHardware

    return isinstance(value, str) and value in {known.value for known in SpaceHardware}


def _is_whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


_ID = r"[\w.-]+(/[\w.-]+)?"
# https://huggingface.co/docs/hub/spaces-config-reference; name -> (what it must be, whether a value is)
_SETTINGS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "title": ("text", _text(r"\S.*")),
    "emoji": ("an emoji", _is_emoji),
    "colorFrom": (f"one of {', '.join(sorted(_COLOURS))}", _one_of(_COLOURS)),
    "colorTo": (f"one of {', '.join(sorted(_COLOURS))}", _one_of(_COLOURS)),
    "sdk": (f"one of {', '.join(sorted(_SDKS))}", _one_of(_SDKS)),
    "sdk_version": ("a version such as 6.31.0", _text(r"\d+\.\d+(\.\d+)?([a-z]+\d*)?")),
    "python_version": ("a version of Python 3 such as 3.12", _text(r"3\.([89]|1[0-4])(\.\d+)?")),
    "app_file": ("the path of a file here", _text(r"(?!/)\S+")),
    "app_port": ("a whole number, the port", _is_whole(1, 65_535)),
    "base_path": ("a path that begins with /", _text(r"/\S*")),
    "short_description": (f"text of up to {_SHORT_DESCRIPTION} characters", _text(rf".{{1,{_SHORT_DESCRIPTION}}}")),
    "description": ("text", _text(r"(?s)\S.*")),
    "models": ("a list of ids on the Hub", _list_of(_ID)),
    "datasets": ("a list of ids on the Hub", _list_of(_ID)),
    "tags": ("a list of texts", _list_of(r"\S.*")),
    "thumbnail": ("an address or a file", _text(r"\S+")),
    "pinned": ("true or false", _is_bool),
    "license": ("a licence of the Hub", lambda value: value is not None),  # `lint_common` says what is wrong with it
    "license_name": ("text", _text(r"\S+")),
    "license_link": ("text", _text(r"\S+")),
    "language": ("a language code", lambda value: value is not None),
    "suggested_hardware": ("a flavour of hardware that the Hub has", _is_hardware),
    "suggested_storage": ("small, medium or large", _one_of(frozenset({"small", "medium", "large"}))),
    "preload_from_hub": ("a list of `REPO [FILES] [REVISION]`", _list_of(rf"{_ID}( \S+)?( \S+)?")),
    "startup_duration_timeout": ("a duration such as 30m or 1h", _text(r"\d+(\.\d+)?\s?(s|m|h|d|min|minutes?|hours?)")),
    "fullWidth": ("true or false", _is_bool),
    "header": ("mini or default", _one_of(frozenset({"mini", "default"}))),
    "disable_embedding": ("true or false", _is_bool),
    "custom_headers": (
        f"names ({', '.join(sorted(_HEADERS))}) with texts",
        lambda value: isinstance(value, dict) and {str(name).lower() for name in value} <= _HEADERS,
    ),
    "hf_oauth": ("true or false", _is_bool),
    "hf_oauth_expiration_minutes": ("a whole number of minutes, up to 30 days", _is_whole(1, 43_200)),
    "hf_oauth_scopes": ("a list of scopes", _list_of(r"[\w:-]+")),
    "hf_oauth_authorized_org": (
        "an organisation or a list of them",
        lambda value: all(map(_text(r"[\w.-]+"), as_list(value))) and bool(value),
    ),
}
