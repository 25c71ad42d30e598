"""MusicCaps (Agostinelli et al. 2023, arXiv 2301.11325): the public CSV, or the JSON form of the LP-MusicCaps code.

`musiccaps-public.csv` has 5,521 rows, one for a clip of 10 s, with the columns of `COLUMNS`. The corpus is text; its
audio is whatever the user could get of the YouTube clips. Tags are the aspects, as people spelt them (`acordion`).
There is no column for the split: `is_audioset_eval` says it by value (2,858 rows are `test`, the rest `train`).
`recording_id` is the video, which the evaluation set of AudioSet may name as well. Licence: CC BY-SA 4.0, of the text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import AudioError, TableError

from .bad_rows import OnSkip, leave_out
from .table import split_tags
from .table_rows import Row, encodable, read_rows, row_name

SOURCE = "musiccaps"
LICENCE = "CC BY-SA 4.0 (text)"
FILE_NAMES = ("musiccaps-public.csv", "musiccaps-public.json")
COLUMNS = (
    "ytid",
    "start_s",
    "end_s",
    "audioset_positive_labels",
    "aspect_list",
    "caption",
    "author_id",
    "is_balanced_subset",
    "is_audioset_eval",
)
_BOOLEANS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def read_musiccaps(
    root: Path, *, audio_root: Path | None = None, on_skip: OnSkip | None = None
) -> Iterator[TaggedTrack]:
    """The clips of MusicCaps, in file order; the evaluation set of AudioSet is the split `test`, the rest `train`.

    `root` is the CSV or JSON file, or the folder it lies in. `audio_path` is the path, relative to `audio_root`, of a
    file named `[ytid]-[start-end].*` or `ytid.*` there; None without one. `on_skip` is told of each row that is not as
    published or repeats a clip. Raises `TableError` for a file without the published columns or usable rows and,
    without `on_skip`, for such a row; `AudioError` where `audio_root` is no folder.
    """
    path = _annotation_file(root)
    audio = _audio_files(audio_root) if audio_root is not None else {}
    seen: set[str] = set()
    checked = False
    for number, row in _json_rows(path) if path.suffix.lower() == ".json" else read_rows(path, on_skip):
        try:
            if not checked:
                _check_columns(path, row)
                checked = True
            if path.suffix.lower() == ".json" and not encodable(json.dumps(row, ensure_ascii=False)):
                raise ValueError("holds half a surrogate pair, which is no character")
            track = _track(row, audio)
            if track.track_id in seen:
                raise ValueError(f"repeats the clip {track.track_id}")
        except ValueError as error:
            leave_out(on_skip, row_name(path, number), str(error), "download the file again")
            continue
        seen.add(track.track_id)
        yield track
    if not seen:
        raise TableError(path, "has no row that can be used", f"download {FILE_NAMES[0]} again")


def _annotation_file(root: Path) -> Path:
    if not root.is_dir():
        if not root.is_file():
            raise TableError(root, "no such file or folder", f"give the folder of {FILE_NAMES[0]} with --root")
        return root
    found = [root / name for name in FILE_NAMES if (root / name).is_file()]
    found = found or sorted(path for path in root.glob("*musiccaps*") if path.suffix.lower() in (".csv", ".json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise TableError(root, f"has {len(found)} MusicCaps files ({names})", f"name {FILE_NAMES[0]} with --root")
    return found[0]


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of the released code's form: one object that maps `[ytid]-[start-end]` to a clip."""
    try:
        clips = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise TableError(path, f"is no valid JSON ({error})", "download the file again") from error
    if not isinstance(clips, dict) or not clips or not all(isinstance(clip, dict) for clip in clips.values()):
        raise TableError(path, "maps no clip names to clips", 'expected {"[ytid]-[start-end]": {"ytid": ...}, ...}')
    yield from enumerate(clips.values(), 1)


def _check_columns(path: Path, row: Row) -> None:
    missing = [name for name in COLUMNS if name not in row]
    if missing:
        raise TableError(
            path,
            f"has no column {', '.join(missing)}; it has {', '.join(row)}",
            "for a table of your own use the source `table`",
        )


def _track(row: Row, audio: dict[str, str]) -> TaggedTrack:
    """The clip of a row. Raises `ValueError` for a row that is not as published."""
    missing = [name for name in COLUMNS if name not in row]
    if missing:
        raise ValueError(f"has no {', '.join(missing)}")
    ytid = str(row["ytid"]).strip()
    if not ytid:
        raise ValueError("ytid is empty")
    start_s, end_s = _whole(row, "start_s"), _whole(row, "end_s")
    is_eval = _boolean(row, "is_audioset_eval")
    extra = {
        "ytid": ytid,
        "start_s": start_s,
        "end_s": end_s,
        "author_id": _whole(row, "author_id"),
        "is_balanced_subset": _boolean(row, "is_balanced_subset"),
        "is_audioset_eval": is_eval,
        "audioset_positive_labels": str(row["audioset_positive_labels"] or ""),
        "recording_id": ytid,
    }
    tags, dropped = sort_out_tags(_aspects(row["aspect_list"]))
    track_id = f"[{ytid}]-[{start_s}-{end_s}]"
    caption = str(row["caption"] or "").strip()
    return TaggedTrack(
        track_id=track_id,
        tags=tags,
        split="test" if is_eval else "train",
        source=SOURCE,
        licence=LICENCE,
        audio_path=audio.get(track_id) or audio.get(ytid),
        reference_captions=(caption,) if caption else (),
        extra=extra,
        dropped_tags=dropped,
    )


def _aspects(cell: Any) -> list[str]:
    if isinstance(cell, str) and cell.strip() and not cell.strip().startswith("["):
        raise ValueError(f"aspect_list is {cell[:60]!r}, expected a list written out")
    try:
        return split_tags(cell or None)
    except ValueError as error:
        raise ValueError(f"aspect_list: {error}") from error


def _whole(row: Row, name: str) -> int:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {row[name]!r}, expected a number") from None
    if not value.is_integer():
        raise ValueError(f"{name} is {row[name]!r}, expected a whole number")
    return int(value)


def _boolean(row: Row, name: str) -> bool:
    """By value: the CSV has text, Parquet and pandas have booleans of their own types, which are not `True`."""
    value = _BOOLEANS.get(str(row[name]).strip().lower())
    if value is None:
        raise ValueError(f"{name} is {row[name]!r}, expected True or False")
    return value


def _audio_files(audio_root: Path) -> dict[str, str]:
    """The files under `audio_root` by their names without ending; paths are POSIX, relative to it."""
    if not audio_root.is_dir():
        raise AudioError(audio_root, "no such folder of audio", "give the folder that holds the clips")
    files: dict[str, str] = {}

    def unreadable(error: OSError) -> None:
        raise AudioError(error.filename, f"cannot be read ({error.strerror})", "look at its permissions") from error

    for folder, subfolders, names in os.walk(audio_root, onerror=unreadable):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix:
                files.setdefault(path.stem, path.relative_to(audio_root).as_posix())
    return files
