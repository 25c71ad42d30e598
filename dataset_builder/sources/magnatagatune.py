"""MagnaTagATune (Law et al. 2009): clips of Magnatune's recordings, tagged by the players of the game TagATune.

Published at https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset, and read as it is:

    annotations_final.csv   25,863 clips; tabs; clip_id, 188 tags as 0 or 1, mp3_path
    clip_info_final.csv     optional; tabs; clip_id, track_number, title, artist, album, url, segmentStart, segmentEnd,
                            original_url, mp3_path
    mp3.zip.001-003         the audio, clips of 29 s, 16 kHz, mono; `cat mp3.zip.00? > mp3.zip && unzip mp3.zip`
                            (Windows: `copy /b mp3.zip.001+mp3.zip.002+mp3.zip.003 mp3.zip`) gives the folders 0 to f

`audio_path` is `mp3_path` as published (`f/ARTIST-ALBUM-NN-TITLE-88-117.mp3`), relative to the folder that holds 0 to
f. The traps:

- Tags are those of the file, all 188, `clasical` and `no singer` beside `no singing` included: nothing is merged or
  corrected. Many clips have none; they are kept without tags.
- The split goes by the folder, one hex digit: by default twelve for training, one for validation, three for test. The
  owners' script chose the folder by a hash of the album, so that no album lies in two splits; an artist may.
- Some rows have no `mp3_path`: the script did not find or could not cut their recording. They have neither audio nor
  split, and are left out, which is no fault of the file.
- Licence of clips and annotations: CC BY-NC-SA 3.0, for research.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import TableError, UsageError

from .bad_rows import ByChoice, OnSkip, leave_out
from .inside import inside
from .published_files import published_file
from .table_rows import row_name

SOURCE = "magnatagatune"
LICENCE = "CC BY-NC-SA 3.0 (research only)"
ANNOTATIONS = "annotations_final.csv"
CLIP_INFO = "clip_info_final.csv"
ID, PATH = "clip_id", "mp3_path"
INFO_COLUMNS = (ID, "title", "artist", "album", PATH)
TAG_COLUMNS = 188
HOME = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"
MAX_LINE = 1 << 20  # characters; a row of 190 cells has about 900

# The 50 tags with the most clips, the list that tagging benchmarks and the published column `tag_top50` use
# (MTAT_split/top50_tags.txt of github.com/jongpillee/music_dataset_split). A fixed list rather than a count of the rows
# at hand: a part of the file must not get another vocabulary.
# fmt: off
TOP_50 = frozenset({
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo",
    "man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello",
    "no voice", "weird", "country", "metal", "female voice", "choral",
})
# fmt: on

_DIGITS = "0123456789abcdef"
_SPLITS = ("train", "valid", "test")  # the names of the published captions
_CLIP = re.compile(r"([0-9a-f])/([^/]+)\.mp3")
_SEGMENT = re.compile(r"-\d+-\d+$")  # from second 88 to second 117 of the recording


@dataclass(frozen=True)
class _ClipInfo:
    title: str | None
    artist: str | None
    album: str | None
    mp3_path: str


def read_magnatagatune(root: Path, *, split: str = "12:1:3", on_skip: OnSkip | None = None) -> Iterator[TaggedTrack]:
    """The clips of MagnaTagATune in file order, with all their tags, in `train`, `valid` and `test`.

    `root` is the folder that the files were downloaded to, or `annotations_final.csv`; titles, artists and albums come
    from `clip_info_final.csv` beside it. `split` says how many of the sixteen folders each split gets, in their order:
    `12:1:3` is what most work uses, `11:2:3` what LLark does. `extra` holds `tag_top50` and `tag_top188` in the file's
    order, and `recording_id`: the file name without the segment, which clips of one recording share.

    A clip without a path is left out. A row is bad that has a cell other than 0 and 1, too few cells, another path
    than in `clip_info_final.csv` or an id that came before. Raises `TableError` for bad rows without `on_skip`, for
    files that are missing or not as published, and where no row is usable; `UsageError` for a `split` that does not
    share out sixteen folders.
    """
    split_of = _shares(split)
    path = _annotations(root)
    info = _clip_info(path.parent / CLIP_INFO, on_skip)
    rows = _rows(path, on_skip)
    columns = [name.strip() for name in next(rows, (0, []))[1]]
    tags = _tag_columns(path, columns)
    at_id, at_path = columns.index(ID), columns.index(PATH)
    seen: set[str] = set()
    used = 0
    for number, cells in rows:
        try:
            track = _track(cells, tags, cells[at_id].strip(), cells[at_path].strip(), info, split_of)
            if track is not None and track.track_id in seen:
                raise ValueError(f"repeats the clip {track.track_id}")
        except ValueError as error:
            leave_out(on_skip, row_name(path, number), str(error), "correct or remove the row")
            continue
        if track is None:
            if on_skip is not None:  # no fault of the file: some clips were never published with audio
                on_skip(row_name(path, number), ByChoice("has no mp3_path, so neither audio nor split"))
            continue
        seen.add(track.track_id)
        used += 1
        yield track
    if not used:
        raise TableError(path, "has no clip that can be used", f"download it again from {HOME}")


def _annotations(root: Path) -> Path:
    path = published_file(root, ANNOTATIONS)
    if path is None:
        parts = ", besides the archive in parts mp3.zip.001 to .003" if (root / "mp3.zip.001").exists() else ""
        raise TableError(root, f"has no {ANNOTATIONS}", f"download it from {HOME}{parts}")
    return path


def _shares(split: str) -> dict[str, str]:
    """The split of each hex digit."""
    parts = split.split(":")
    if len(parts) != len(_SPLITS) or not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"--set split={split}", "is no split of the folders", "three numbers, as in 12:1:3")
    counts = [int(part) for part in parts]
    if sum(counts) != len(_DIGITS):
        raise UsageError(f"--set split={split}", f"shares out {sum(counts)} folders", "there are 16, as in 12:1:3")
    names = [name for name, count in zip(_SPLITS, counts, strict=True) for _ in range(count)]
    return dict(zip(_DIGITS, names, strict=True))


def _tag_columns(path: Path, columns: list[str]) -> dict[int, str]:
    """Which cell stands for which tag, in the file's order."""
    missing = [name for name in (ID, PATH) if name not in columns]
    if missing:
        raise TableError(
            path,
            f"has no column {' and '.join(missing)} in a first line with tabs",
            f"expected {ANNOTATIONS} as published at {HOME}",
        )
    tags = {place: name for place, name in enumerate(columns) if name not in (ID, PATH)}
    lacking = sorted(TOP_50.difference(tags.values()))
    if len(tags) != TAG_COLUMNS or len(set(tags.values())) != TAG_COLUMNS or lacking:
        without = f", without {', '.join(lacking[:3])}" + (" ..." if lacking[3:] else "") if lacking else ""
        raise TableError(
            path,
            f"has {len(set(tags.values()))} tags in {len(tags)} columns{without}; the published file has {TAG_COLUMNS}",
            f"download it again from {HOME}, or read a table of your own with the source `table`",
        )
    return tags


def _track(
    cells: list[str],
    columns: dict[int, str],
    clip_id: str,
    mp3_path: str,
    info: dict[str, _ClipInfo],
    split_of: dict[str, str],
) -> TaggedTrack | None:
    """The clip of a row; None where it has no path. Raises `ValueError` for a bad row."""
    if not clip_id:
        raise ValueError("has no clip_id")
    known = info.get(clip_id, _ClipInfo(None, None, None, ""))
    if mp3_path and known.mp3_path and mp3_path != known.mp3_path:
        raise ValueError(f"has the path {mp3_path!r}, in {CLIP_INFO} clip {clip_id} has {known.mp3_path!r}")
    audio_path = mp3_path or known.mp3_path
    if not audio_path:
        return None
    audio_path = inside(audio_path)
    clip = _CLIP.fullmatch(audio_path)
    if clip is None:
        raise ValueError(f"mp3_path is {audio_path[:80]!r}, expected HEX_DIGIT/NAME.mp3")
    odd = next((place for place in columns if cells[place] not in ("0", "1")), None)
    if odd is not None:
        raise ValueError(f"has {cells[odd][:60]!r} for the tag {columns[odd]!r}, expected 0 or 1")
    tags, dropped = sort_out_tags(name for place, name in columns.items() if cells[place] == "1")
    return TaggedTrack(
        track_id=clip_id,
        tags=tags,
        split=split_of[clip[1]],
        source=SOURCE,
        licence=LICENCE,
        audio_path=audio_path,
        title=known.title,
        artist=known.artist,
        album=known.album,
        extra={
            "tag_top50": [tag for tag in tags if tag in TOP_50],
            "tag_top188": list(tags),
            "recording_id": _SEGMENT.sub("", clip[2]),
        },
        dropped_tags=dropped,
    )


def _clip_info(path: Path, on_skip: OnSkip | None) -> dict[str, _ClipInfo]:
    """What `clip_info_final.csv` knows of each clip; nothing where there is no such file."""
    if not path.is_file():
        return {}
    rows = _rows(path, on_skip)
    columns = [name.strip() for name in next(rows, (0, []))[1]]
    missing = [name for name in INFO_COLUMNS if name not in columns]
    if missing:
        raise TableError(
            path, f"has no column {', '.join(missing)} in a first line with tabs", f"download it again from {HOME}"
        )
    places = [columns.index(name) for name in INFO_COLUMNS]
    clips: dict[str, _ClipInfo] = {}
    for number, cells in rows:
        clip_id, title, artist, album, mp3_path = (cells[place].strip() for place in places)
        if clip_id in clips:
            leave_out(on_skip, row_name(path, number), f"repeats the clip {clip_id}", "remove one of the two")
            continue
        clips[clip_id] = _ClipInfo(title or None, artist or None, album or None, mp3_path)
    return clips


def _rows(path: Path, on_skip: OnSkip | None) -> Iterator[tuple[int, list[str]]]:
    """The header and the rows that have as many cells, each with its line number; bad rows are left out.

    A line is a row here even where quotes say otherwise: one stray quote in a title would take the rest of the file.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            number, width = 0, 0
            while line := file.readline(MAX_LINE):
                number += 1
                problem = ""
                while len(line) == MAX_LINE and not line.endswith("\n"):
                    line, problem = file.readline(MAX_LINE), f"is longer than {MAX_LINE} characters"
                if not problem and not line.strip():
                    continue
                cells = [] if problem else _cells(line.rstrip("\r\n"), width)
                width = width or len(cells)
                if not problem and len(cells) != width:
                    problem = f"has {len(cells)} cells, expected {width} as in the header"
                if not problem and "\0" in line:
                    problem = "holds a NUL byte"
                if problem:
                    leave_out(on_skip, row_name(path, number), problem, "download the file again")
                    continue
                yield number, cells
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise TableError(
            path, f"is not UTF-8 (byte 0x{byte:02x}: {error.reason})", "download the file again"
        ) from error


def _cells(line: str, width: int) -> list[str]:
    cells = line.split("\t")
    if '"' not in line:
        return cells
    if width and len(cells) != width:  # a tab inside quotes
        try:
            return next(csv.reader([line], delimiter="\t"), [])
        except csv.Error:  # a cell of more than 131,072 characters
            return []
    quoted = (len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
    return [cell[1:-1].replace('""', '"') if is_quoted else cell for cell, is_quoted in zip(cells, quoted, strict=True)]
