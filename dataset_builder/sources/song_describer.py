"""Song Describer (Manco et al. 2023, arXiv 2311.10057), for evaluation only: 1,106 captions by people of 706 tracks.

Its authors ask that nobody trains on it: every track is in the split `test`, and no option changes that. Read is what
lies at Zenodo (record 10072001), in one folder:

    song_describer.csv            one line a caption, with the track's ids, path and length
    audio_metadata.tsv            titles, artists, albums; optional
    *.mtg-jamendo.tsv             the tracks' tags in MTG-Jamendo; optional
    audio_licenses.txt            the licence of each track; optional
    audio/NN/NUMBER.2min.mp3      audio.zip unpacked; `audio/audio/` where it was unpacked into a folder of that name

`path` in the CSV is that of the whole track, `NN/NUMBER.mp3`, not of the published two minutes. A track has up to five
captions, which are its references in the order of the file; `caption_id`, `is_valid_subset` and `familiarity` in
`extra` run beside them. `is_valid_subset` is empty for captions that nobody checked. The valid subset (746 captions of
546 tracks) is an option and not the default, so that a table holds everything and each caption says which it is of.

The corpus has no tags of its own. Those of MTG-Jamendo come from its columns genre, instrument and mood/theme, which
the data card has and the published CSV has not, else from the table beside it.

Licences: the audio's differ by track and are the addresses in `audio_licenses.txt`, empty where that says nothing; the
captions are CC BY-SA 4.0, the tags CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import TableError, UsageError

from .bad_rows import OnSkip, leave_out
from .jamendo_files import AUDIO_PATH, CATEGORIES, Names, number_of, read_licences, read_names, seconds, tagged_rows
from .table import parse_list
from .table_rows import Row, read_rows, row_name

SOURCE = "song_describer"
SPLIT = "test"
FILE_NAME = "song_describer.csv"
NAMES_FILE = "audio_metadata.tsv"
TAGS_FILES = "*.mtg-jamendo.tsv"  # with a date in the name at Zenodo, without one in the data card
LICENCES_FILE = "audio_licenses.txt"
ADDRESS = "https://zenodo.org/records/10072001"
SUBSETS = ("all", "valid")
COLUMNS = ("caption_id", "track_id", "caption", "is_valid_subset", "artist_id", "album_id", "path", "duration")
_VALID = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "": None}
_NUMBER = re.compile(r"\d+", re.ASCII)
_NO_NAMES = Names(None, None, None, None)


@dataclass
class _Track:
    """What the lines of one track say alike, and their captions."""

    artist_id: str
    album_id: str
    path: str
    duration: float
    by_category: dict[str, list[str]] | None
    captions: list[dict[str, Any]] = field(default_factory=list)

    def says(self) -> tuple[Any, ...]:
        return self.artist_id, self.album_id, self.path, self.duration


def read_song_describer(root: Path, *, subset: str = "all", on_skip: OnSkip | None = None) -> Iterator[TaggedTrack]:
    """The tracks of Song Describer with their captions, in the order of the file; all are of the split `test`.

    `root` is the folder of `song_describer.csv`, one that holds that folder, or the file. `subset=valid` takes the
    captions that were checked and found good, and their tracks. `audio_path` is relative to `root`. `on_skip(item,
    reason)` is told of every line that is left out; without it such a line raises. Raises `TableError` for files that
    are missing or not as published, `UsageError` for an unknown subset.
    """
    if subset not in SUBSETS:
        raise UsageError(f"subset={subset}", "is no choice of Song Describer", f"take one of {', '.join(SUBSETS)}")
    path = _table(root)
    folder = path.parent
    tracks = _tracks(path, on_skip)
    names = read_names(folder / NAMES_FILE, on_skip) if (folder / NAMES_FILE).is_file() else {}
    licences = read_licences(folder / LICENCES_FILE, on_skip) if (folder / LICENCES_FILE).is_file() else {}
    tags = _tags_beside(folder, on_skip)
    audio = _audio_folder(folder, root)
    found = 0
    for track_id, track in tracks.items():
        captions = [one for one in track.captions if subset == "all" or one["is_valid_subset"]]
        if not captions:
            continue
        found += 1
        number = number_of(track_id)
        name = names.get(number, _NO_NAMES)
        by_category = track.by_category if track.by_category is not None else tags.get(number)
        kept, dropped = sort_out_tags(tag for each in (by_category or {}).values() for tag in each)
        extra: dict[str, Any] = {
            "artist_id": track.artist_id,
            "album_id": track.album_id,
            "duration": track.duration,
            "evaluation_pool": SOURCE,
        }
        extra |= {key: [one[key] for one in captions] for key in captions[0] if key != "caption"}
        if by_category is not None:
            extra["facts"] = by_category
        yield TaggedTrack(
            track_id=track_id,
            tags=kept,
            dropped_tags=dropped,
            split=SPLIT,
            source=SOURCE,
            licence=licences.get(number, ""),
            audio_path=f"{audio}/{track.path.removesuffix('.mp3')}.2min.mp3",
            reference_captions=tuple(one["caption"] for one in captions),
            title=name.title,
            artist=name.artist,
            album=name.album,
            year=name.year,
            extra=extra,
        )
    if not found:
        raise TableError(path, "has no caption that can be used", f"download it again from {ADDRESS}")


def _table(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.is_dir():
        raise TableError(root, "no such file or folder", f"give the folder of {FILE_NAME} ({ADDRESS}) with --root")
    below = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = next((each / FILE_NAME for each in (root, *below) if (each / FILE_NAME).is_file()), None)
    if found is None:
        raise TableError(root, f"has no {FILE_NAME}", f"download it from {ADDRESS}")
    return found


def _audio_folder(folder: Path, root: Path) -> str:
    """Where the folders `00` to `99` are, relative to `root`: beside the CSV or in `root`, `audio` or `audio/audio`."""
    top = root if root.is_dir() else folder
    at = next((each for each in (folder, top) if (each / "audio").is_dir()), folder)
    doubled = at / "audio" / "audio"
    return (doubled if doubled.is_dir() else at / "audio").relative_to(top).as_posix()


def _tracks(path: Path, on_skip: OnSkip | None) -> dict[str, _Track]:
    """The captions of the CSV by track, in the order of the file."""
    tracks: dict[str, _Track] = {}
    caption_ids: set[str] = set()
    for number, row in read_rows(path):
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            problem = f"has no column {', '.join(missing)}; it has {', '.join(row)}"
            raise TableError(path, problem, f"download {FILE_NAME} from {ADDRESS}")
        try:
            track_id, track, caption = _line(row)
            if caption["caption_id"] in caption_ids:
                raise ValueError(f"repeats the caption {caption['caption_id']}")
            if tracks.setdefault(track_id, track).says() != track.says():
                raise ValueError(f"says of the track {track_id} something else than a line before it")
        except ValueError as error:
            leave_out(on_skip, row_name(path, number), str(error), "download the file again")
            continue
        caption_ids.add(caption["caption_id"])
        tracks[track_id].captions.append(caption)
    return tracks


def _line(row: Row) -> tuple[str, _Track, dict[str, Any]]:
    cells = {name: str(row[name]).strip() for name in COLUMNS}
    for name in ("caption_id", "track_id", "artist_id", "album_id"):
        if not _NUMBER.fullmatch(cells[name]):
            raise ValueError(f"has {name} {cells[name][:60]!r}, expected a number")
    if not AUDIO_PATH.fullmatch(cells["path"]):
        raise ValueError(f"has the path {cells['path'][:60]!r}, expected NN/NUMBER.mp3")
    if not cells["caption"] or "\0" in cells["caption"]:
        raise ValueError("has no caption" if not cells["caption"] else "has a NUL byte in its caption")
    valid = cells["is_valid_subset"].lower()
    if valid not in _VALID:
        raise ValueError(f"has is_valid_subset {cells['is_valid_subset'][:60]!r}, expected True, False or nothing")
    caption: dict[str, Any] = {
        "caption": cells["caption"],
        "caption_id": cells["caption_id"],
        "is_valid_subset": _VALID[valid],
    }
    if "familiarity" in row:
        caption["familiarity"] = _rating(str(row["familiarity"]).strip())
    track = _Track(cells["artist_id"], cells["album_id"], cells["path"], seconds(cells["duration"]), _by_category(row))
    return cells["track_id"], track, caption


def _rating(text: str) -> int | None:
    """How familiar the writer was with such music, 0 to 5; None where nobody said."""
    try:
        return int(float(text)) if text else None
    except (ValueError, OverflowError):
        raise ValueError(f"has familiarity {text[:60]!r}, expected a number") from None


def _by_category(row: Row) -> dict[str, list[str]] | None:
    """The tags in the columns that the data card has; None where the table has none of them."""
    if not any(category in row for category in CATEGORIES):
        return None
    found: dict[str, list[str]] = {}
    for category in CATEGORIES:
        cell = str(row.get(category) or "").strip()
        tags = parse_list(cell) if cell else []
        if not all(isinstance(tag, str) for tag in tags):
            raise ValueError(f"has the {category} {cell[:60]!r}, expected a list of words")
        found[category] = tags
    return found


def _tags_beside(folder: Path, on_skip: OnSkip | None) -> dict[str, dict[str, list[str]]]:
    """The tags by category of the table beside the CSV, by Jamendo's number; nothing where there is no such table."""
    paths = sorted(folder.glob(TAGS_FILES))
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise TableError(folder, f"has {len(paths)} tables of tags ({names})", "keep one of them")
    rows = (row for path in paths for row in tagged_rows(path, header=False, on_skip=on_skip))
    return {number_of(row.track_id): row.by_category for row in rows}
