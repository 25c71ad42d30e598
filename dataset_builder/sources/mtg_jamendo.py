"""MTG-Jamendo (Bogdanov et al. 2019): 55,609 full tracks with tags of genre, instrument and mood or theme.

Read is a checkout or a download of the repository MTG/mtg-jamendo-dataset:

    data/autotagging.tsv                          the tracks and all 195 tags
    data/autotagging_{top50tags,genre,instrument,moodtheme}.tsv          subsets of tracks and of tags
    data/splits/split-{0..4}/autotagging[_SUBSET]-{train,validation,test}.tsv
    data/raw.meta.tsv                             titles, artists, albums, release dates; optional
    audio_licenses.txt                            the licence of each track when the corpus was made; optional

`autotagging.tsv` is a link to `raw_30s_cleantags_50artists.tsv`; where a checkout stored the link as text it is
followed. The tables end their lines with CR and LF and have one cell a tag, so that their rows are of many lengths.

Tags stand without their category (`genre---rock` is `rock`), in the corpus's order; `facts` has them by category. They
are those of the track's line in `data/`; the split files leave out twelve that are not in all five splits. Splits are
called `train`, `validation` and `test`. A track that is in none of the chosen split's files (84 of the 55,609) is left
out: without a split it would be trained on.

The test tracks of split 0 are those that Song Describer drew its clips from. They carry `evaluation_pool`, whichever
split is chosen; without that file no other split can be read.

Licences: the audio's differ by track and are the addresses in `audio_licenses.txt`, empty where that says nothing; the
tags are CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from dataset_builder.tracks import TaggedTrack
from lpmc_errors import TableError, UsageError

from .bad_rows import ByChoice, OnSkip
from .jamendo_files import Names, TaggedRow, linked_file, number_of, read_licences, read_names, tagged_rows

SOURCE = "mtg_jamendo"
EVALUATION_POOL = "song_describer"
REPOSITORY = "https://github.com/MTG/mtg-jamendo-dataset"
BASE = "autotagging"
SUBSETS = ("all", "top50tags", "genre", "instrument", "moodtheme")
SPLITS = ("0", "1", "2", "3", "4", "none")
PARTS = ("train", "validation", "test")
NAMES_FILE = "raw.meta.tsv"
LICENCES_FILE = "audio_licenses.txt"
_NO_NAMES = Names(None, None, None, None)
_Value = TypeVar("_Value")


def read_mtg_jamendo(
    root: Path, *, split: str = "0", subset: str = "all", audio_low: bool = False, on_skip: OnSkip | None = None
) -> Iterator[TaggedTrack]:
    """The tracks of MTG-Jamendo in the order of its table, with the assignment of one of its five splits.

    `root` is the repository, its folder `data`, a folder that holds either, or one of the tables. `split` is `0` to
    `4`, or `none`: then every track is read and has no split, which counts as training. `subset` takes one of the
    published subsets of tags (see `SUBSETS`). `audio_path` is as published, relative to the folder of the folders
    `00` to `99`; `audio_low` names the files of the smaller download (`14/214.low.mp3`). `on_skip(item, reason)` is
    told of every line and track that is left out; without it a line that cannot be used raises. Raises `TableError`
    for files that are missing or not as published, `UsageError` for an unknown split or subset.
    """
    for name, value, choice in (("split", split, SPLITS), ("subset", subset, SUBSETS)):
        if value not in choice:
            raise UsageError(f"{name}={value}", "is no choice of MTG-Jamendo", f"take one of {', '.join(choice)}")
    table, subset = _table(root, subset)
    data = table.parent
    parts = _parts(data, split, subset)
    pool = _evaluation_pool(data, split, subset, parts)
    names = _optional(data, NAMES_FILE, read_names, on_skip)
    licences = _optional(data, LICENCES_FILE, read_licences, on_skip)
    found = 0
    for row in tagged_rows(linked_file(table, _corpus(data)), header=True, on_skip=on_skip):
        part = "" if split == "none" else parts.pop(row.track_id, None)
        if part is None:
            if on_skip is not None:  # no fault of the row: some tracks are in no split
                on_skip(row.track_id, ByChoice(f"is in no file of split {split}"))
            continue
        found += 1
        number = number_of(row.track_id)
        yield _track(row, part, row.track_id in pool, names.get(number, _NO_NAMES), licences.get(number, ""), audio_low)
    if not found:
        raise TableError(table, "has no track that can be used", f"download the corpus again from {REPOSITORY}")
    if parts and split != "none" and on_skip is not None:
        on_skip(table, f"lacks {len(parts)} tracks that the files of split {split} name ({next(iter(parts))}, ...)")


def _track(row: TaggedRow, part: str, in_pool: bool, names: Names, licence: str, audio_low: bool) -> TaggedTrack:
    extra: dict[str, Any] = {
        "artist_id": row.artist_id,
        "album_id": row.album_id,
        "duration": row.duration,
        "facts": row.by_category,
    }
    if in_pool:
        extra["evaluation_pool"] = EVALUATION_POOL
    return TaggedTrack(
        track_id=row.track_id,
        tags=row.tags,
        dropped_tags=row.dropped_tags,
        split=part,
        source=SOURCE,
        licence=licence,
        audio_path=row.path.removesuffix(".mp3") + ".low.mp3" if audio_low else row.path,
        title=names.title,
        artist=names.artist,
        album=names.album,
        year=names.year,
        extra=extra,
    )


def _table(root: Path, subset: str) -> tuple[Path, str]:
    """The table of tracks, and the subset that it holds: a table named as `root` says so itself."""
    name = BASE if subset == "all" else f"{BASE}_{subset}"
    if root.is_file():
        named = root.stem.removeprefix(f"{BASE}_")
        return root, named if subset == "all" and named in SUBSETS else subset
    if not root.is_dir():
        raise TableError(root, "no such file or folder", f"give a checkout of {REPOSITORY} with --root")
    below = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    for folder in (root / "data", root, *(folder for each in below for folder in (each / "data", each))):
        table = folder / f"{name}.tsv"
        if table.is_file():
            return table, subset
        if table.is_symlink():
            target = table.readlink()
            raise TableError(table, f"is a link to {target}, which is not there", f"get that file from {REPOSITORY}")
    raise TableError(root, f"has no data/{name}.tsv", f"give a checkout of {REPOSITORY} with --root")


def _corpus(data: Path) -> Path:
    """The folder that everything published lies in."""
    return data.parent if data.name == "data" else data


def _split_file(data: Path, split: str, subset: str, part: str) -> Path:
    base = BASE if subset == "all" else f"{BASE}_{subset}"
    return data / "splits" / f"split-{split}" / f"{base}-{part}.tsv"


def _parts(data: Path, split: str, subset: str) -> dict[str, str]:
    """The split of each track. Raises `TableError` where a file is missing, or two name the same track."""
    parts: dict[str, str] = {}
    for part in PARTS if split != "none" else ():
        path = _split_file(data, split, subset, part)
        if not path.is_file():
            remedy = f"download the folder data/splits from {REPOSITORY}, or read without splits with --set split=none"
            raise TableError(path, "no such file of the split", remedy)
        for track_id in _track_ids(path):
            if parts.setdefault(track_id, part) != part:
                problem = f"has the track {track_id}, which is in {part} and in {parts[track_id]}"
                raise TableError(path, problem, "download the split's three files together")
    return parts


def _evaluation_pool(data: Path, split: str, subset: str, parts: dict[str, str]) -> frozenset[str]:
    """The tracks that Song Describer drew from: the test tracks of split 0 of all tags."""
    path = _split_file(data, "0", "all", "test")
    if path.is_file():
        return frozenset(_track_ids(path))
    if split == "0":  # a subset's splits are those of all tags without the tracks that have none of its tags
        return frozenset(track_id for track_id, part in parts.items() if part == "test")
    raise TableError(
        path,
        f"is not there, and without it split {split} cannot be kept apart from Song Describer's clips",
        f"download it from {REPOSITORY}, or take --set split=0",
    )


def _track_ids(path: Path) -> list[str]:
    """The tracks of a split's file, which must be whole: a missing track would be one that is not kept apart."""
    track_ids = [row.track_id for row in tagged_rows(path, header=True)]
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        whole = file.read() == b"\n"
    if not track_ids or not whole:
        problem = "ends in the middle of a line" if track_ids else "names no track"
        raise TableError(path, problem, "download the file again")
    return track_ids


def _optional(
    data: Path, name: str, read: Callable[[Path, OnSkip | None], dict[str, _Value]], on_skip: OnSkip | None
) -> dict[str, _Value]:
    """What `read` makes of the file `name` beside the tables or in the corpus's folder, nothing where there is none."""
    for path in (data / name, _corpus(data) / name):
        if path.is_file():
            return read(linked_file(path, _corpus(data)), on_skip)
    return {}
