"""Which files a user's table is made of: one file, the shards of a Hub-style directory, or what `save_to_disk` left.

A directory of shards is told by its names: `<split>-00000-of-00002.parquet`, `<split>.csv`, `<split>/0000.parquet`;
they may lie in the directory itself, in `data`, or in a folder a configuration. Nothing but names and the small JSON
files of `save_to_disk` is read here.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpmc_errors import TableError

from .table_rows import SUFFIXES, table_suffix

_SHARD = re.compile(r"(?P<split>\w+(?:[.-]\w+)*?)-(?P<index>\d{5})-of-(?P<count>\d{5})(?:-\w+)?")
_BARE_NUMBER = re.compile(r"\d{4,}")  # 0000.parquet in a folder named after its split
_SPLIT_NAME = re.compile(r"(train|training|extra|valid|validation|val|dev|test|testing|eval)([._]\w+)?", re.IGNORECASE)
_DICT, _STATE = "dataset_dict.json", "state.json"  # of `datasets`' save_to_disk
# What lies beside tables and says something about them: of `datasets`, of the Hub, of `lpmc build`.
_ABOUT = frozenset(
    (_DICT, _STATE, "dataset_info.json", "dataset_infos.json", "croissant.json", "build.json", "pipeline.json")
)


@dataclass(frozen=True)
class TablePart:
    """A file of a table and the split that its name or folder gives it (empty where they say nothing)."""

    path: Path
    split: str = ""


def table_parts(root: Path, config: str | None = None) -> list[TablePart]:
    """The files of the table `root`: the file itself, the only table file in a folder, or a `datasets` directory.

    `config` names the configuration of a directory that has several. Raises `TableError` where there is no table, more
    than one, a shard missing, or a saved data set that names files outside of its folder.
    """
    if not root.is_dir():
        return [TablePart(root)]
    if (root / _DICT).is_file() or (root / _STATE).is_file():
        return _saved(root)
    configs = {name: parts for name, parts in _configurations(root).items() if parts}
    if config is not None:
        if config not in configs:
            names = ", ".join(sorted(filter(None, configs))) or "none"
            raise TableError(root, f"has no configuration {config!r}", f"it has {names}")
        return configs[config]
    if len(configs) == 1:
        return next(iter(configs.values()))
    if configs:
        names = ", ".join(name or "its own files" for name in sorted(configs))
        raise TableError(root, f"holds {len(configs)} tables ({names})", "name one with --set config=NAME or --root")
    found = _tables(root)
    if len(found) == 1:
        return [TablePart(found[0])]
    names = ", ".join(path.name for path in found) or "none"
    raise TableError(root, f"is a folder with {len(found)} table files ({names})", "name the file with --root")


def _tables(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if table_suffix(path) in SUFFIXES and path.name not in _ABOUT and path.is_file()
    )


def _configurations(root: Path) -> dict[str, list[TablePart]]:
    """The splits that lie in `root` itself (under the empty name) and in each folder of it (under its name)."""
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    splits = [part for folder in folders if _SPLIT_NAME.fullmatch(folder.name) for part in _numbered_shards(folder)]
    found = {"": _split_files(root) + splits}
    for folder in folders:
        if not _SPLIT_NAME.fullmatch(folder.name):
            parts = _split_files(folder)
            for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
                parts += _numbered_shards(inner)
            found[folder.name] = parts
    return found


def _split_files(folder: Path) -> list[TablePart]:
    """The files of `folder` whose names give their split, all of one kind; none if another table lies among them."""
    shards: dict[str, dict[int, Path]] = defaultdict(dict)
    counts: dict[str, int] = {}
    parts: list[TablePart] = []
    for path in _tables(folder):
        stem = path.name[: -len(table_suffix(path))]
        shard = _SHARD.fullmatch(stem)
        if shard:
            shards[shard["split"]][int(shard["index"])] = path
            counts[shard["split"]] = int(shard["count"])
            parts.append(TablePart(path, shard["split"]))
        elif _SPLIT_NAME.fullmatch(stem):
            parts.append(TablePart(path, stem))
        else:
            return []
    for split, count in counts.items():
        missing = [index for index in range(count) if index not in shards[split]]
        if missing:
            raise TableError(
                folder, f"lacks shard {missing[0]} of the {count} of split {split}", "download the data set again"
            )
    return parts


def _numbered_shards(folder: Path) -> list[TablePart]:
    """Files such as `train/0000.parquet`, as the Hub's own conversion to Parquet names them."""
    return [TablePart(path, folder.name) for path in _tables(folder) if _BARE_NUMBER.fullmatch(path.stem)]


def _saved(root: Path) -> list[TablePart]:
    """The Arrow files of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`, in the order of their splits."""
    if (root / _DICT).is_file():
        splits = _json(root / _DICT).get("splits")
        if not isinstance(splits, list) or not splits or not all(map(_is_name, splits)):
            raise TableError(root / _DICT, "names no splits", "save the data set again")
        return [part for split in splits for part in _state_files(root / split, split)]
    return _state_files(root, "")


def _state_files(folder: Path, split: str) -> list[TablePart]:
    state = _json(folder / _STATE)
    named = state.get("_data_files")
    names: list[Any] = (
        [item.get("filename") for item in named if isinstance(item, dict)] if isinstance(named, list) else []
    )
    if not names or not all(map(_is_name, names)):
        raise TableError(folder / _STATE, "names no data files in its own folder", "save the data set again")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        # Written by datasets 1: the rows would have to be taken in the order of another file.
        raise TableError(
            folder, "is a data set with an index file", "open it and save it again with datasets 2 or later"
        )
    return [TablePart(folder / name, split or str(state.get("_split") or "")) for name in names]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise TableError(path, "cannot be read", "save the data set again") from error
    except (ValueError, RecursionError) as error:
        raise TableError(path, f"is no valid JSON ({error})", "save the data set again") from error
    if not isinstance(value, dict):
        raise TableError(path, "holds no JSON object", "save the data set again")
    return value


def _is_name(name: Any) -> bool:
    """Whether `name` is that of a file or folder in the same place, not a path that leads elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and not re.search(r"[/\\\0]", name)
