"""Checks of a data set's card and what lies beside it, without a network: front matter, counts, numbers, paths, keys.

The Hub's own validation answers online only, takes unknown licences, and does not compare the counts with the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hub_cards.croissant import CROISSANT_FILE, lint_croissant
from hub_cards.facts import (
    MAKING_FILE,
    SHARD_NAME,
    ConfigFacts,
    config_names,
    read_config,
    shard_files,
    split_facts,
)
from hub_cards.lint_common import (
    CARD,
    Problem,
    as_list,
    find_absolute_paths,
    find_secrets,
    lint_common,
    lint_rendered,
    lint_text_files,
    lint_texts,
    misread,
    read_front_matter,
    read_text,
    untraced,
)
from hub_cards.numbers import gather, untraced_numbers
from hub_cards.render import (
    LICENCES_FILE,
    SIZE_CATEGORIES,
    dataset_licences,
    gates,
    render_dataset_card,
    render_licences,
    size_category,
)
from hub_cards.rendering import NUMBER

__all__ = ["CARD", "Problem", "find_absolute_paths", "find_secrets", "lint_dataset"]

# Tasks for audio and text that data sets may name (@huggingface/tasks 0.21.54; the Hub hides audio-text-to-text there).
DATASET_TASKS = frozenset(
    {"text-to-audio", "text-to-speech", "audio-to-audio", "audio-classification", "automatic-speech-recognition"}
    | {"voice-activity-detection", "feature-extraction", "text-generation", "summarization", "any-to-any"}
)
_ABSOLUTE_PATH = r"^(/|[A-Za-z]:[\\/]|\\\\)"  # of this system, of Windows, of a Windows share
_GATE_FIELDS = frozenset({"text", "checkbox", "date_picker", "country", "select"})
_GATE_TEXTS = ("extra_gated_heading", "extra_gated_prompt", "extra_gated_description", "extra_gated_button_content")


def lint_dataset(directory: Path) -> list[Problem]:
    """Every problem of a data set directory, an empty list when there is none.

    Checks the front matter's types, that its licence is that of rows and sources and that what the card says about
    licences and its warnings are still there, that each split's rows and bytes are those of the Parquet footers, that
    every Parquet file belongs to one split, that there is one default configuration, that features fit the files, that
    counts add up, that every number of the card is what the files give, that relative links lead somewhere, that
    croissant.json (where there is one) describes the files, and that no absolute path and no key is published.
    """
    card = directory / CARD
    if not card.is_file():
        return [Problem(CARD, "is missing")]
    problems = list(lint_text_files(directory))
    front, faults = read_front_matter(card)
    problems += faults
    if front is None:
        return problems
    problems += lint_common(directory, front)
    problems += _lint_front_matter(front)
    problems += _lint_configs(directory, front)
    try:
        facts = _facts(directory, front)
    except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        if not any("cannot be read" in problem.message for problem in problems):
            problems.append(Problem(CARD, f"cannot be compared with the files: {' '.join(str(error).split())}"))
        return problems
    if facts:
        problems += _lint_numbers(directory, front, facts)
        problems += _lint_gating(front, facts)
        problems += (problem for config in facts for problem in _lint_making(config))
        if (directory / CROISSANT_FILE).is_file():
            problems += (Problem(CROISSANT_FILE, message) for message in lint_croissant(directory, facts))
    return problems


def _lint_front_matter(front: Mapping[str, Any]) -> Iterator[Problem]:
    if front.get("pretty_name") is None:
        yield Problem(CARD, "pretty_name is missing")
    if front.get("language") is None:
        yield Problem(CARD, "language is missing")
    for task in as_list(front.get("task_categories")) or [""]:
        if not isinstance(task, str) or task not in DATASET_TASKS:
            yield Problem(CARD, f"task_categories {task!r} is no task that the Hub shows for data sets")
    known = {name for _, name in SIZE_CATEGORIES} | {size_category(10**8)}
    for size in as_list(front.get("size_categories")) or [""]:
        if not isinstance(size, str) or size not in known:
            yield Problem(CARD, f"size_categories {size!r} is unknown")
    yield from lint_texts(front, _GATE_TEXTS)
    fields = front.get("extra_gated_fields")
    if fields is not None and not isinstance(fields, dict):
        yield Problem(CARD, "extra_gated_fields must be names with their types")
        return
    for name, kind in (fields or {}).items():
        of = kind.get("type") if isinstance(kind, dict) else kind
        if not isinstance(name, str):
            yield Problem(CARD, f"extra_gated_fields: {name!r} must be text{misread(name)}")
        if not isinstance(of, str) or of not in _GATE_FIELDS:
            yield Problem(
                CARD, f"extra_gated_fields: {name!r} has the type {of!r}, not {', '.join(sorted(_GATE_FIELDS))}"
            )
        if of == "select" and not (isinstance(kind, dict) and isinstance(kind.get("options"), list)):
            yield Problem(CARD, f"extra_gated_fields: {name!r} is a select without a list of options")


def _lint_configs(directory: Path, front: Mapping[str, Any]) -> Iterator[Problem]:
    configs = [config for config in as_list(front.get("configs")) if isinstance(config, dict)]
    if not configs:
        yield Problem(CARD, "configs is missing: load_dataset would guess")
        return
    defaults = [config.get("config_name") for config in configs if config.get("default")]
    if len(defaults) != 1:
        yield Problem(CARD, f"{len(defaults)} configurations have `default: true`, expected one")
    infos = {info.get("config_name"): info for info in as_list(front.get("dataset_info")) if isinstance(info, dict)}
    features = _features(front)
    listed: set[Path] = set()
    for config in configs:
        name = config.get("config_name")
        yield from lint_texts(config, ("config_name",))
        entries = [entry for entry in as_list(config.get("data_files")) if isinstance(entry, dict)]
        for entry in entries:
            yield from lint_texts(entry, ("split",))
        files = {str(entry.get("split")): entry.get("path") for entry in entries}
        for split, pattern in files.items():
            matched = [path for glob in as_list(pattern) for path in _matched(directory, str(glob))]
            listed.update(matched)
            for path in matched:
                named = SHARD_NAME.fullmatch(path.name)
                if named and named["split"] != split:
                    yield Problem(CARD, f"configuration {name!r}: the split {split!r} takes {path.name}")
            if not matched:
                yield Problem(CARD, f"configuration {name!r}: no file matches {pattern!r} of the split {split!r}")
        if name not in infos:
            yield Problem(CARD, f"dataset_info says nothing about the configuration {name!r}")
        else:
            yield from _lint_info(directory, str(name), set(files), infos[name], features.get(str(name)))
    for path in sorted(directory.glob("*/*.parquet")):
        if path not in listed and not path.parent.name.startswith("."):
            yield Problem(str(path.relative_to(directory)), "belongs to no split of the card")


def _matched(directory: Path, pattern: str) -> list[Path]:
    try:
        return list(directory.glob(pattern))
    except (ValueError, NotImplementedError, OSError):  # empty, absolute, `***`, a name too long
        return []


def _features(front: Mapping[str, Any]) -> dict[str, list[str]]:
    """The columns of each configuration as `datasets` reads them from the front matter; none when it cannot."""
    import datasets

    try:
        infos = datasets.info.DatasetInfosDict.from_dataset_card_data(dict(front))
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: list(info.features) for name, info in infos.items() if info.features}


def _lint_info(
    directory: Path, name: str, splits: set[str], info: Mapping[str, Any], features: list[str] | None
) -> Iterator[Problem]:
    stated = {str(split.get("name")): split for split in as_list(info.get("splits"))}
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
    for batch in pq.ParquetFile(path).iter_batches(columns=columns):
        for name in batch.schema.names:
            paths = batch.column(name)
            paths = paths if name == "path" else paths.field("path")
            absolute = paths.filter(pc.match_substring_regex(paths, _ABSOLUTE_PATH))
            if len(absolute):
                yield Problem(where, f"holds the absolute path {absolute[0].as_py()!r}")
                return


def _facts(directory: Path, front: Mapping[str, Any]) -> list[ConfigFacts]:
    """The facts of the configurations in the order of the card."""
    order = [config.get("config_name") for config in as_list(front.get("configs")) if isinstance(config, dict)]
    names = config_names(directory)
    known = [name for name in order if name in names]
    return [read_config(directory, name) for name in [*known, *(name for name in names if name not in known)]]


def _lint_numbers(directory: Path, front: Mapping[str, Any], facts: list[ConfigFacts]) -> Iterator[Problem]:
    results = gather(
        {"splits": {split.name: asdict(split) for split in config.splits}} | {"making": config.making.as_json()}
        for config in facts
    )
    title = str(front.get("pretty_name"))
    for number in untraced_numbers(f"pretty_name: {title}", results):
        yield untraced(CARD, number, f"pretty_name: {title}")
    rendered = render_dataset_card(facts, pretty_name=title)
    yield from _lint_terms(directory, front, facts, rendered)
    yield from lint_rendered(CARD, read_text(directory / CARD), rendered, results)
    licences = directory / LICENCES_FILE
    if licences.is_file():
        yield from lint_rendered(LICENCES_FILE, read_text(licences), render_licences(facts), results)


def _lint_terms(
    directory: Path, front: Mapping[str, Any], facts: list[ConfigFacts], rendered: str
) -> Iterator[Problem]:
    """Whether the licence is that of rows and sources, and no line about licences and no warning was taken out."""
    licences, complete = dataset_licences(facts)
    expected = licences if complete and licences else ["other"]
    stated = [name for name in as_list(front.get("license")) if isinstance(name, str)]
    if stated and sorted(stated) != expected:
        yield Problem(CARD, f"license is {', '.join(stated)}; rows and sources say {', '.join(expected)}")
    terms = render_licences(facts).splitlines()
    warnings = [line for line in rendered.splitlines() if line.startswith("> ")]
    for name, needed in ((CARD, [*warnings, *terms[1:]]), (LICENCES_FILE, terms)):
        path = directory / name
        text = read_text(path) if path.is_file() else ""
        # A line with other numbers is told by the comparison of numbers.
        there = {NUMBER.sub("#", line.strip()) for line in text.splitlines()}
        for line in needed if text else ():
            if line.strip() and NUMBER.sub("#", line.strip()) not in there:
                yield Problem(name, f"lacks the line {line.strip()[:100]!r}")


def _lint_gating(front: Mapping[str, Any], facts: list[ConfigFacts]) -> Iterator[Problem]:
    asking = [licence.title for licence, _ in gates(facts)]
    if asking and not (front.get("extra_gated_prompt") and front.get("extra_gated_fields")):
        yield Problem(CARD, f"extra_gated_prompt or extra_gated_fields is missing: {', '.join(asking)} ask for terms")


def _lint_making(config: ConfigFacts) -> Iterator[Problem]:
    """Whether the counts of build.json add up to the rows of the files."""
    making, rows = config.making, config.num_examples
    where = f"{config.name}/{MAKING_FILE}"
    most = rows + sum(making.left_out.values())  # tracks that were left out may have been counted before
    for name, counts in (("sources", making.sources), ("licences", making.licences)):
        if counts and not rows <= sum(counts.values()) <= most:
            yield Problem(where, f"{name} add up to {sum(counts.values())}, the Parquet footers say {rows} rows")
    for instruction, outcomes in making.outcomes.items():
        total = sum(outcomes.values())
        if total > rows:
            yield Problem(where, f"outcomes of {instruction} add up to {total}, the Parquet footers say {rows} rows")
        if making.template_captions.get(instruction, 0) > total:
            yield Problem(where, f"more templates than outcomes of {instruction}: {making.template_captions}")
    if making.audio_embedded is not None and making.audio_embedded > rows:
        yield Problem(where, f"audio_embedded is {making.audio_embedded}, there are {rows} rows")
