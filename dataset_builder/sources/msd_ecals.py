"""MSD-ECALS (Doh et al. 2023, Zenodo 7107130): 514,000 tracks of the Million Song Dataset with cleaned tags.

Read as published:

    ecals_annotation/annotation.json          {MSD id: {tag: [...], release, artist_name, year, title, track_id}}
    ecals_annotation/ecals_track_split.json   {train_track, extra_track, valid_track, test_track: [MSD ids]}
    ecals_annotation/ecals_tags.json          optional: the 1,054 tags
    lastfm_annotation/*.pkl                   MSD id -> 7digital id -> path of the preview; see `pickles`

- Training is `train_track` and `extra_track` together; which of them a row comes from stands in `extra`.
- The audio, previews of 30 s from 7digital, cannot be had any more: the tags are used as text. Who has it gives the
  paths (`8/1/8134074.clip.mp3`) as a table, or allows the two pickles.
- Tags outside `ecals_tags.json` stay tags and are named in `extra`; an empty or repeated tag is dropped and counted.
- `year` 0 means unknown.
- Ids that the splits and the annotation do not share, and ids in two splits, are left out and told of.
- Licence: none is stated for the tags; the previews may not be passed on.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import TableError, UsageError

from .bad_rows import OnSkip, leave_out
from .inside import inside
from .json_members import read_members
from .pickled_mapping import read_pickled_mapping
from .published_files import published_file
from .table_rows import encodable, read_rows

SOURCE = "msd_ecals"
LICENCE = "unknown (tags: Zenodo 7107130; 7digital previews may not be passed on)"
FOLDER = "ecals_annotation"
ANNOTATION = "annotation.json"
SPLITS = "ecals_track_split.json"
VOCABULARY = "ecals_tags.json"
PICKLES = ("MSD_id_to_7D_id.pkl", "7D_id_to_path.pkl")
SPLIT_OF_LIST = {"train_track": "train", "extra_track": "train", "valid_track": "valid", "test_track": "test"}
FIELDS = ("tag", "release", "artist_name", "year", "title", "track_id")
PATH_COLUMNS = ("track_id", "path")  # as in the published captions, whose Parquet files can be given
HOME = "https://zenodo.org/records/7107130"
MAX_BYTES = 1 << 28  # of the files that are read whole; the splits of 514,000 tracks take 11 MB
EARLIEST_YEAR, LATEST_YEAR = 1500, 2100  # the Million Song Dataset has 1922 to 2011

# A list's place in SPLIT_OF_LIST, or what became of the id.
_LISTS = tuple(SPLIT_OF_LIST)
_DONE, _IN_TWO_SPLITS = -1, -2


def read_msd_ecals(
    root: Path, *, paths: Path | None = None, pickles: bool = False, on_skip: OnSkip | None = None
) -> Iterator[TaggedTrack]:
    """The tracks of MSD-ECALS in the annotation's order, in `train` (with `extra_track`), `valid` and `test`.

    `root` is the folder that was downloaded, its `ecals_annotation`, or `annotation.json` itself with the splits beside
    it. `paths` names a file of audio paths: JSON (`{ID: PATH}`), or any table with the columns `track_id` and `path`.
    `pickles` allows the two pickled dictionaries of the corpus in its place; they are read without unpickling. With
    either, `audio_path` is relative to the folder of the previews, else it is None. `extra` holds `split_list`, the
    list that names the id, and `tags_outside_vocabulary` where there are such.

    A row is bad that is in no list or in lists of two splits, lacks a field, or has one of the wrong kind; an id that
    is listed and has no annotation is told of as well. Raises `TableError` for bad rows without `on_skip`, for files
    that are missing or not as published, and where no row is usable; `UsageError` for `paths` and `pickles` together.
    514,000 tracks take 6 s and 140 MB, with `paths` 10 s and 230 MB, with `pickles` 18 s and 440 MB.
    """
    own_folder = root / FOLDER  # beside it may lie other corpora, whose annotation has the same name
    annotation = published_file(own_folder if own_folder.is_dir() else root, ANNOTATION)
    if annotation is None:
        raise TableError(root, f"has no {ANNOTATION}", f"download ecals_annotation from {HOME}")
    lists = _lists(annotation.parent / SPLITS, on_skip)
    vocabulary = _vocabulary(annotation.parent / VOCABULARY)
    audio = _audio_paths(root, annotation, lists, paths, pickles, on_skip)
    extras = {name: {"split_list": name} for name in _LISTS}  # shared by the rows: most need no other
    used = 0
    for name, member in read_members(annotation):
        place = lists.get(name)
        if place == _IN_TWO_SPLITS:
            continue  # told of with the splits
        try:
            if place is None:
                raise ValueError(f"is in no list of {SPLITS}")
            if place == _DONE:
                raise ValueError("is annotated a second time")
            track = _track(name, member, _LISTS[place], audio.get(name), vocabulary, extras)
        except ValueError as error:
            leave_out(on_skip, f"{annotation}, {name!r}", str(error), "correct or remove it")
        else:
            used += 1
            yield track
        if place is not None:
            lists[name] = _DONE
    for name, place in lists.items():
        if place >= 0:
            problem = f"is in {_LISTS[place]} and has no annotation"
            leave_out(on_skip, f"{annotation.parent / SPLITS}, {name!r}", problem, f"download {ANNOTATION} again")
    if not used:
        raise TableError(annotation, "has no track that can be used", f"download it again from {HOME}")


def _track(
    name: str,
    member: Any,
    split_list: str,
    audio_path: str | None,
    vocabulary: frozenset[str],
    extras: Mapping[str, dict[str, Any]],
) -> TaggedTrack:
    if not isinstance(member, dict):
        raise ValueError(f"is {type(member).__name__}, expected an object")
    try:
        tag, release, artist, year, title, track_id = [member[field] for field in FIELDS]
    except KeyError as error:
        raise ValueError(f"has no {error}") from None
    if track_id != name:
        raise ValueError(f"has the track_id {str(track_id)[:60]!r}")
    try:
        words = "\n".join(tag) if isinstance(tag, list) else None
    except TypeError:
        words = None
    if words is None:
        raise ValueError("has tags that are no list of text")
    if "\0" in words or "\0" in name or not encodable(words) or not encodable(name):
        raise ValueError("has characters in its id or tags that are no text")
    tags, dropped = sort_out_tags(tag)
    extra = extras[split_list]
    if vocabulary and not vocabulary.issuperset(tags):
        extra = {**extra, "tags_outside_vocabulary": [item for item in tags if item not in vocabulary]}
    return TaggedTrack(
        track_id=name,
        tags=tags,
        split=SPLIT_OF_LIST[split_list],
        source=SOURCE,
        licence=LICENCE,
        audio_path=audio_path,
        title=_text("title", title),
        artist=_text("artist_name", artist),
        album=_text("release", release),
        year=_year(year),
        extra=extra,
        dropped_tags=dropped,
    )


def _text(field: str, value: Any) -> str | None:
    if value is None or value != value:  # NaN, which the JSON of a data frame has for no value
        return None
    if type(value) is int:
        return str(value)  # a title such as 1979
    if not isinstance(value, str):
        raise ValueError(f"has {type(value).__name__} for {field}, expected text")
    if not encodable(value):
        raise ValueError(f"has characters in {field} that are no text")
    return value.strip() or None


def _year(value: Any) -> int | None:
    if value is None or value != value:
        return None
    if type(value) in (int, float) and (value == 0 or (EARLIEST_YEAR <= value <= LATEST_YEAR and value == int(value))):
        return int(value) or None
    raise ValueError(f"has {str(value)[:20]!r} for year")


def _whole_json(path: Path) -> Any:
    if not path.is_file():
        raise TableError(path, "no such file", f"keep it beside {ANNOTATION}; both are in ecals_annotation of {HOME}")
    if path.stat().st_size > MAX_BYTES:
        raise TableError(path, f"has more than {MAX_BYTES} bytes", f"expected {path.name} of {HOME}")
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise TableError(path, f"is no valid JSON ({str(error)[:200]})", "download the file again") from error


def _lists(path: Path, on_skip: OnSkip | None) -> dict[str, int]:
    """For each id the number of the list that names it, `_IN_TWO_SPLITS` where lists of two splits do."""
    named = _whole_json(path)
    missing = [key for key in SPLIT_OF_LIST if not isinstance(named, dict) or not isinstance(named.get(key), list)]
    if missing:
        raise TableError(path, f"has no list {', '.join(missing)}", f"download {SPLITS} again from {HOME}")
    lists: dict[str, int] = {}
    for place, (key, split) in enumerate(SPLIT_OF_LIST.items()):
        for name in named.pop(key):
            if type(name) is not str or not name:
                raise TableError(path, f"has {str(name)[:60]!r} in {key}, expected ids", "download the file again")
            if name not in lists:
                lists[name] = place
            elif lists[name] != _IN_TWO_SPLITS:
                first = _LISTS[lists[name]]
                if SPLIT_OF_LIST[first] == split:
                    problem = f"is in {key} again, after {first}; it counts once"
                else:
                    problem = f"is in {first} and in {key}, so in neither split"
                    lists[name] = _IN_TWO_SPLITS
                leave_out(on_skip, f"{path}, {name!r}", problem, "name it in one of them")
    return lists


def _vocabulary(path: Path) -> frozenset[str]:
    """The published tags; none where the file is absent."""
    if not path.is_file():
        return frozenset()
    tags = _whole_json(path)
    if not isinstance(tags, list) or not all(type(tag) is str for tag in tags):
        raise TableError(path, "is no list of tags", f"download {VOCABULARY} again from {HOME}")
    return frozenset(tags)


def _audio_paths(
    root: Path, annotation: Path, lists: Mapping[str, int], paths: Path | None, pickles: bool, on_skip: OnSkip | None
) -> dict[str, str]:
    """The path of each track of the corpus that has one."""
    if paths is not None and pickles:
        raise UsageError("--set pickles=true", f"the paths come from {paths}", "give one of the two")
    if paths is not None:
        source, pairs = paths, _listed_paths(paths)
    elif pickles:
        numbers, source = (_pickle_file(root, annotation, name) for name in PICKLES)
        pairs = _pickled_paths(numbers, source, lists)
    else:
        return {}
    audio: dict[str, str] = {}
    for name, path in pairs:
        if not isinstance(name, str) or name not in lists or path in (None, ""):
            continue
        try:
            if name in audio:
                raise ValueError("comes a second time")
            if not isinstance(path, str):
                raise ValueError(f"has {type(path).__name__} for a path")
            audio[name] = inside(path)
        except ValueError as error:
            leave_out(on_skip, f"{source}, {name!r}", str(error), "correct or remove it")
    if not audio:
        raise TableError(
            source, f"has no path of a track in {SPLITS}", "expected MSD ids with the paths of their audio"
        )
    return audio


def _listed_paths(file: Path) -> Iterator[tuple[Any, Any]]:
    if file.suffix.lower() == ".json" and _begins_with_brace(file):
        yield from read_members(file)
        return
    name, path = PATH_COLUMNS
    for _, row in read_rows(file):
        if name not in row or path not in row:
            raise TableError(file, f"has the columns {', '.join(row)}", f"it needs {name} and {path}")
        yield row[name], row[path]


def _begins_with_brace(file: Path) -> bool:
    with suppress(OSError), file.open("rb") as opened:
        return opened.read(1024).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")
    return False


def _pickle_file(root: Path, annotation: Path, name: str) -> Path:
    """A pickle of the corpus: in the folder of the annotation, beside that folder, or in a folder there."""
    folders = dict.fromkeys((root if root.is_dir() else annotation.parent, annotation.parent, annotation.parent.parent))
    for folder in folders:
        found = published_file(folder, name)
        if found is not None:
            return found
    raise TableError(root, f"has no {name}", f"keep it in lastfm_annotation beside {annotation.parent.name}")


def _pickled_paths(
    msd_to_7digital: Path, path_of_7digital: Path, lists: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    digital = {name: number for name, number in read_pickled_mapping(msd_to_7digital) if name in lists}
    wanted = set(digital.values())
    path_of = {number: path for number, path in read_pickled_mapping(path_of_7digital) if number in wanted}
    yield from ((name, path_of[number]) for name, number in digital.items() if number in path_of)
