"""Checks of a card and of what lies beside it, without a network: front matter, counts, links, paths and keys.

The Hub's own validation answers online only, takes unknown licences, and does not compare the counts with the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from hub_cards.facts import MAKING_FILE, shard_files, split_facts
from hub_cards.licences import HUB_LICENCES
from hub_cards.render import SIZE_CATEGORIES, size_category

CARD = "README.md"

# Tasks for audio and text that data sets may name (@huggingface/tasks 0.21.54; the Hub hides audio-text-to-text there).
DATASET_TASKS = frozenset(
    {"text-to-audio", "text-to-speech", "audio-to-audio", "audio-classification", "automatic-speech-recognition"}
    | {"voice-activity-detection", "feature-extraction", "text-generation", "summarization", "any-to-any"}
)

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*)$", re.MULTILINE)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")
# An absolute path in running text: not part of an address (`https://...`) nor a link within the Hub (`/datasets/...`).
_ABSOLUTE = re.compile(
    r"(?<![\w/.:*\])}>%-])(?:/(?!(?:datasets|spaces|models|docs|papers)/)(?:[\w.@-]+/)+[\w.@-]+|[A-Za-z]:[\\/](?![/\\])[\w.-]+)"
    r"|file://\S+"
)
_SECRETS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|api_org_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})"
)


@dataclass(frozen=True)
class Problem:
    """Something to correct: the file (relative to the directory) and what is wrong with it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def find_absolute_paths(text: str) -> list[str]:
    """Absolute paths in a text, as they give away a machine's folders and work nowhere else."""
    return [found.rstrip(".") for found in _ABSOLUTE.findall(text)]


def find_secrets(text: str) -> list[str]:
    """The beginnings (never the whole) of what looks like an access key in a text."""
    return [f"{found[:5]}..." for found in _SECRETS.findall(text)]


def lint_dataset(directory: Path) -> list[Problem]:
    """Every problem of a data set directory, an empty list when there is none.

    Checks the front matter's types and licence, that each split's rows and bytes are those of the Parquet footers, that
    every Parquet file belongs to one split, that there is one default configuration, that features fit the files, that
    relative links lead somewhere, and that no absolute path and no key is published.
    """
    card = directory / CARD
    if not card.is_file():
        return [Problem(CARD, "is missing")]
    problems = list(_lint_text_files(directory))
    front, faults = _front_matter(card)
    problems += faults
    if front is not None:
        problems += _lint_common(directory, front)
        problems += _lint_dataset_tags(front)
        problems += _lint_configs(directory, front)
    return problems


def lint_model(directory: Path) -> list[Problem]:
    """Every problem of a model directory's card: front matter, licence, model index, links, absolute paths, keys."""
    from huggingface_hub import ModelCard

    card = directory / CARD
    if not card.is_file():
        return [Problem(CARD, "is missing")]
    problems = list(_lint_text_files(directory))
    front, faults = _front_matter(card)
    problems += faults
    if front is not None:
        problems += _lint_common(directory, front)
        for name in ("library_name", "pipeline_tag"):
            if not isinstance(front.get(name), str):
                problems.append(Problem(CARD, f"{name} is missing"))
        try:
            ModelCard.load(card)
        except (ValueError, KeyError, TypeError) as error:
            problems.append(Problem(CARD, f"model-index cannot be read: {error}"))
    return problems


def _front_matter(card: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    match = _FRONT_MATTER.match(card.read_text(encoding="utf-8"))
    if match is None:
        return None, [Problem(CARD, "has no front matter between two lines of ---")]
    try:
        front = yaml.safe_load(match.group(1))
    except yaml.YAMLError as error:
        return None, [Problem(CARD, f"front matter is no YAML: {' '.join(str(error).split())}")]
    if not isinstance(front, dict):
        return None, [Problem(CARD, "front matter holds no names")]
    return front, []


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _lint_common(directory: Path, front: Mapping[str, Any]) -> Iterator[Problem]:
    licences = _as_list(front.get("license"))
    if not licences:
        yield Problem(CARD, "license is missing")
    for name in licences:
        if name not in HUB_LICENCES:
            yield Problem(CARD, f"license {name!r} is not one of the Hub's identifiers")
    if "other" in licences:
        for name in ("license_name", "license_link"):
            if not front.get(name):
                yield Problem(CARD, f"license `other` needs {name}")
        link = str(front.get("license_link") or "")
        if link and not link.startswith("https://") and not (directory / link).is_file():
            yield Problem(CARD, f"license_link {link!r} is neither an https address nor a file")
    for name in _as_list(front.get("language")) or [""]:
        if not isinstance(name, str) or not _LANGUAGE.fullmatch(name):
            yield Problem(CARD, f"language {name!r} is no ISO code")
    tags = front.get("tags")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        yield Problem(CARD, "tags must be a list of strings (quote what YAML reads as a number or a truth value)")
    yield from _lint_links(directory)


def _lint_links(directory: Path) -> Iterator[Problem]:
    text = (directory / CARD).read_text(encoding="utf-8")
    anchors = {_anchor(heading) for heading in _HEADING.findall(text)}
    for target in _LINK.findall(text):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        if not file and anchor not in anchors:
            yield Problem(CARD, f"link to #{anchor}, but no heading is called so")
        if file and not (directory / file).exists():
            yield Problem(CARD, f"link to {file}, which does not exist")


def _anchor(heading: str) -> str:
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


def _lint_dataset_tags(front: Mapping[str, Any]) -> Iterator[Problem]:
    if not isinstance(front.get("pretty_name"), str):
        yield Problem(CARD, "pretty_name is missing")
    for task in _as_list(front.get("task_categories")) or [""]:
        if task not in DATASET_TASKS:
            yield Problem(CARD, f"task_categories {task!r} is no task that the Hub shows for data sets")
    known = {name for _, name in SIZE_CATEGORIES} | {size_category(10**8)}
    for size in _as_list(front.get("size_categories")) or [""]:
        if size not in known:
            yield Problem(CARD, f"size_categories {size!r} is unknown")


def _lint_configs(directory: Path, front: Mapping[str, Any]) -> Iterator[Problem]:
    configs = [config for config in _as_list(front.get("configs")) if isinstance(config, dict)]
    if not configs:
        yield Problem(CARD, "configs is missing: load_dataset would guess")
        return
    defaults = [config.get("config_name") for config in configs if config.get("default")]
    if len(defaults) != 1:
        yield Problem(CARD, f"{len(defaults)} configurations have `default: true`, expected one")
    infos = {info.get("config_name"): info for info in _as_list(front.get("dataset_info")) if isinstance(info, dict)}
    features = _features(front)
    listed: set[Path] = set()
    for config in configs:
        name = config.get("config_name")
        files = {str(entry.get("split")): entry.get("path") for entry in _as_list(config.get("data_files"))}
        for split, pattern in files.items():
            matched = [path for glob in _as_list(pattern) for path in directory.glob(str(glob))]
            listed.update(matched)
            if not matched:
                yield Problem(CARD, f"configuration {name!r}: no file matches {pattern!r} of the split {split!r}")
        if name not in infos:
            yield Problem(CARD, f"dataset_info says nothing about the configuration {name!r}")
        else:
            yield from _lint_info(directory, str(name), set(files), infos[name], features.get(str(name)))
    for path in sorted(directory.glob("*/*.parquet")):
        if path not in listed and not path.parent.name.startswith("."):
            yield Problem(str(path.relative_to(directory)), "belongs to no split of the card")


def _features(front: Mapping[str, Any]) -> dict[str, list[str]]:
    """The columns of each configuration as `datasets` reads them from the front matter."""
    import datasets

    infos = datasets.info.DatasetInfosDict.from_dataset_card_data(dict(front))
    return {name: list(info.features) for name, info in infos.items() if info.features}


def _lint_info(
    directory: Path, name: str, splits: set[str], info: Mapping[str, Any], features: list[str] | None
) -> Iterator[Problem]:
    stated = {str(split.get("name")): split for split in _as_list(info.get("splits"))}
    if set(stated) != splits:
        yield Problem(CARD, f"{name}: dataset_info has the splits {sorted(stated)}, configs has {sorted(splits)}")
    for split, files in shard_files(directory / name).items():
        try:
            facts = split_facts(split, files)
            schemas = [pq.read_schema(path) for path in files]
        except (pa.ArrowInvalid, OSError) as error:
            yield Problem(f"{name}/{split}-*.parquet", f"cannot be read: {error}")
            continue
        for key in ("num_examples", "num_bytes"):
            found = getattr(facts, key)
            if stated.get(split, {}).get(key) != found:
                says = stated.get(split, {}).get(key)
                yield Problem(CARD, f"{name}/{split}: {key} is {says}, the Parquet footers say {found}")
        numbers = [int(path.name.split("-of-")[1][:5]) for path in files]
        if set(numbers) != {len(files)}:
            yield Problem(f"{name}/{split}-*.parquet", f"{len(files)} files, their names say {sorted(set(numbers))}")
        for path, schema in zip(files, schemas, strict=True):
            where = str(path.relative_to(directory))
            if schema.names != features:
                yield Problem(where, "its columns are not the features of the card")
            yield from _lint_paths(path, where, schema)


def _lint_paths(path: Path, where: str, schema: pa.Schema) -> Iterator[Problem]:
    columns = [name for name in ("path", "audio.path") if name.split(".")[0] in schema.names]
    if not columns:
        return
    for row in (row for batch in pq.ParquetFile(path).iter_batches(columns=columns) for row in batch.to_pylist()):
        for value in (row.get("path"), (row.get("audio") or {}).get("path")):
            if value and (value.startswith("/") or PureWindowsPath(value).is_absolute()):
                yield Problem(where, f"holds the absolute path {value!r}")
                return


def _lint_text_files(directory: Path) -> Iterator[Problem]:
    for path in [
        *sorted(directory.glob("*.md")),
        *sorted(directory.glob("*.json")),
        *directory.glob(f"*/{MAKING_FILE}"),
    ]:
        where = str(path.relative_to(directory))
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".json":
            try:
                text = "\n".join(_strings(json.loads(text)))
            except ValueError:
                yield Problem(where, "is no JSON")
        for found in find_absolute_paths(text):
            yield Problem(where, f"holds the absolute path {found!r}")
        for found in find_secrets(text):
            yield Problem(where, f"holds what looks like an access key ({found})")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield str(name)
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
