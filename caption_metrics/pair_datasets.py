"""Rows of data sets: a folder of `save_to_disk`, a folder that `lpmc build` or the Hub lays out, a name on the Hub.

Nothing is downloaded for a folder. Only columns of texts and numbers are read, so that audio is neither fetched nor
decoded. A configuration and a split are named after the data set: `org/name:config:split`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from caption_metrics.pair_files import Numbered, Rows, peek, readable_columns
from lpmc_errors import TableError

USUAL_SPLITS = ("test", "validation", "valid", "train")  # looked for where several are there and none is named
ROWS_AT_ONCE = 1_024
MOST_FILES = 50_000  # in a folder that is taken for a data set: half a million clips are a thousand shards
_SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves in a folder
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
_HOW = "write FOLDER_OR_NAME:CONFIG:SPLIT"


def split_name(source: str) -> tuple[str, str | None, str | None]:
    """`org/name:config:split` in its parts; configuration and split are None where they are not named."""
    name, _, rest = source.partition(":")
    config, _, split = rest.partition(":")
    return name, config or None, split or None


def is_hub_name(name: str) -> bool:
    """Whether a text may be the name of a data set on the Hub: `org/name`."""
    return _HUB_NAME.fullmatch(name) is not None


def open_dataset(name: str, config: str | None = None, split: str | None = None) -> Rows:
    """The rows of a data set: `name` is a folder, or `org/name` on the Hub.

    Raises `TableError` where it cannot be opened, where several configurations or splits are there and none is named,
    and for one that is not there.
    """
    import datasets

    folder = Path(name)
    try:
        if any((folder / file).is_file() for file in _SAVED):
            if config:
                raise TableError(name, f"has no configurations, not even {config}", "write FOLDER::SPLIT")
            found: Any = datasets.load_from_disk(name)
        else:
            if folder.is_dir():
                _check_size(folder)
            found = _loaded(name, config)
        chosen = _chosen_split(name, found, split) if isinstance(found, Mapping) else found
        return peek(":".join(filter(None, (name, config, split))), _rows(chosen))
    except TableError:
        raise
    except Exception as error:  # the library raises anything, from KeyError to its own, for a data set that is wrong
        raise _fault(name, config, error) from error


def _check_size(folder: Path) -> None:
    """The library lists a folder to its last file before it says whether a data set is in it."""
    files = 0
    for _, _, names in os.walk(folder):
        files += len(names)
        if files > MOST_FILES:
            raise TableError(
                folder, f"is a folder of more than {MOST_FILES:,} files", "name the data set's own folder, or a file"
            )


def _loaded(name: str, config: str | None) -> Any:
    from datasets import load_dataset
    from datasets.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # else it logs each try of an address
    try:
        return load_dataset(name, config, streaming=True)
    finally:
        logging.set_verbosity(before)


def _chosen_split(name: str, found: Mapping[str, Any], split: str | None) -> Any:
    if split is not None and split not in found:
        raise TableError(name, f"has no split {split}; it has {', '.join(map(str, found))}", _HOW)
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split is None:
        split = next((usual for usual in USUAL_SPLITS if usual in found), None)
    if split is None:
        raise TableError(name, f"has several splits: {', '.join(map(str, found))}", _HOW)
    return found[split]


def _rows(dataset: Any) -> Numbered:
    if dataset.features is not None:
        wanted = readable_columns(dataset.features.arrow_schema)
        dataset = dataset.select_columns(wanted)
    return enumerate(_plain_rows(dataset.with_format("arrow")), start=1)


def _plain_rows(dataset: Any) -> Iterator[dict[str, Any]]:
    for table in dataset.iter(batch_size=ROWS_AT_ONCE):
        yield from table.select(readable_columns(table.schema)).to_pylist()


def _fault(name: str, config: str | None, error: Exception) -> TableError:
    said = " ".join(str(error).split())
    missing = re.search(r"available configs: \[([^\]]*)\]|Available: \[([^\]]*)\]", said)
    if missing:
        listed = (missing[1] or missing[2]).replace("'", "")
        which = f"has no configuration {config}; it has" if config else "has several configurations:"
        return TableError(name, f"{which} {listed}", _HOW)
    kind = type(error).__name__
    if kind in ("DatasetNotFoundError", "RepositoryNotFoundError", "DataFilesNotFoundError", "EmptyDatasetError"):
        if Path(name).is_dir():
            return TableError(name, "is a folder, but holds no data set", "name a file in it, such as inference.json")
        return TableError(name, "no such file or folder, and no such data set on the Hub", "check the name")
    if kind in ("OfflineModeIsEnabled", "ConnectionError", "LocalEntryNotFoundError"):
        return TableError(name, f"no such file, and the Hub cannot be asked ({said[:120]})", "check the name")
    return TableError(name, f"cannot be read as a data set: {kind} {said[:200]}", "check what wrote it")
