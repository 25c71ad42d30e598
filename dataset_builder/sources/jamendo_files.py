"""The text files that MTG-Jamendo and Song Describer publish in the same form: tagged tracks, names, licences.

    data/*.tsv, *.mtg-jamendo.tsv           track, artist, album, path, duration, then one cell a tag (ragged)
    data/raw.meta.tsv, audio_metadata.tsv   track, artist and album ids, then their names, release date, address
    audio_licenses.txt                      for each track its path, who made it, and `Available under ...: ADDRESS`

Song Describer's have no header and part the blocks of licences by `--` instead of an empty line. Lines end as they
like; quotes mean nothing (`raw.meta.tsv` has titles with one quote), so that none of this is CSV. Tracks are known by
Jamendo's own number: `track_0000948`, `48/948.mp3` and `948` are one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from dataset_builder.tracks import sort_out_tags
from lpmc_errors import TableError

from .bad_rows import OnSkip, leave_out
from .table_rows import row_name

HEADER = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
NAMES_HEADER = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "TRACK_NAME", "ARTIST_NAME", "ALBUM_NAME", "RELEASEDATE", "URL")
CATEGORIES = ("genre", "instrument", "mood/theme")
SEPARATOR = "---"  # between a category and its tag
AUDIO_PATH = re.compile(r"\d{2}/(\d+)\.mp3", re.ASCII)  # the folder is the number's last two digits
MAX_LINE = 1 << 20  # bytes; the longest of the published lines have a few hundred
MAX_LINK = 1 << 10  # bytes of a link that a checkout without links stores as text

_IDS = tuple(re.compile(rf"{kind}_\d+", re.ASCII) for kind in ("track", "artist", "album"))
_LICENSED_PATH = re.compile(r"\d{2}/(\d+)(\.[\w-]+)?\.mp3", re.ASCII)  # also `.2min.mp3`
_LICENCE = re.compile(r"Available under .*?:\s*(https?://\S+)", re.ASCII | re.IGNORECASE)
_YEAR = re.compile(r"(1[5-9]\d\d|20\d\d)-", re.ASCII)


@dataclass(frozen=True)
class TaggedRow:
    """One line of a table of tagged tracks. `duration` is in seconds; `by_category` has every one of `CATEGORIES`."""

    track_id: str
    artist_id: str
    album_id: str
    path: str
    duration: float
    tags: tuple[str, ...]
    dropped_tags: tuple[str, ...]
    by_category: dict[str, list[str]]


@dataclass(frozen=True)
class Names:
    """What a track is called, None where the table has nothing."""

    title: str | None
    artist: str | None
    album: str | None
    year: int | None


def number_of(name: str) -> str:
    """Jamendo's number of a track, without leading zeros, from its id or the name of its file."""
    return name.rpartition("_")[2].lstrip("0") or "0"


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file, without their ends, each with its number from 1.

    Raises `TableError` where the file is empty, not UTF-8, or has a line longer than any of a text table.
    """
    number = 0
    with path.open("rb") as file:
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if len(raw) > MAX_LINE:
                raise TableError(row_name(path, number), f"is longer than {MAX_LINE} bytes", "download the file again")
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                problem = f"is not UTF-8 (byte 0x{error.object[error.start]:02x})"
                raise TableError(row_name(path, number), problem, "download the file again") from error
            yield number, line.rstrip("\r\n")
    if number == 0:
        raise TableError(path, "is empty", "download the file again")


def linked_file(path: Path, inside: Path) -> Path:
    """The file that `path` stands for, where a checkout without symbolic links stored one as text.

    The target is the content of such a file. Raises `TableError` where it leads out of the folder `inside`, is not
    there, or leads round in a circle.
    """
    seen = [path]
    while (target := _link_text(seen[-1])) is not None:
        at = seen[-1]
        leads_out = PurePosixPath(target).is_absolute() or PureWindowsPath(target).drive
        following = at.parent / target
        if leads_out or not following.resolve().is_relative_to(inside.resolve()):
            raise TableError(at, f"is a link stored as text that leads out of the corpus ({target!r})", "download it")
        if not following.is_file():
            raise TableError(at, f"stands for the file {target!r}, which is not there", f"download {target} as well")
        if following.resolve() in [one.resolve() for one in seen]:
            raise TableError(at, "is a link stored as text that leads back to itself", "download the corpus again")
        seen.append(following)
    return seen[-1]


def _link_text(path: Path) -> str | None:
    """The target, where the file is one short line that names a file of the same kind and has no cells."""
    if path.stat().st_size > MAX_LINK:
        return None
    text = path.read_bytes().decode("utf-8", errors="replace").strip("\r\n")
    plain = text.isprintable() and not text.startswith(HEADER[0])  # neither a tab nor a second line
    return text if plain and PurePosixPath(text).suffix == path.suffix else None


def tagged_rows(path: Path, *, header: bool, on_skip: OnSkip | None = None) -> Iterator[TaggedRow]:
    """The tracks of a table in file order, each once. With `header` the first line must be the published one.

    Lines that cannot be used are left out. Raises `TableError` for a file that is no such table.
    """
    seen: set[str] = set()
    for number, line in text_lines(path):
        cells = line.split("\t")
        if number == 1 and (header or cells[0] == HEADER[0]):
            if tuple(cells[:5]) != HEADER[:5]:
                problem = f"begins with {line[:60]!r}, expected the columns {' '.join(HEADER)}"
                raise TableError(path, problem, "download it from the MTG-Jamendo repository")
            continue
        if not line:
            continue
        try:
            row = _tagged_row(cells)
            if row.track_id in seen:
                raise ValueError(f"repeats the track {row.track_id}")
        except ValueError as error:
            leave_out(on_skip, row_name(path, number), str(error), "download the file again")
            continue
        seen.add(row.track_id)
        yield row


def _tagged_row(cells: list[str]) -> TaggedRow:
    if len(cells) < 5:
        raise ValueError(f"has {len(cells)} cells, expected five and the tags")
    for cell, name, form in zip(cells, HEADER, _IDS, strict=False):
        if not form.fullmatch(cell):
            raise ValueError(f"has {name} {cell[:60]!r}, expected the form {form.pattern}")
    track_id, artist_id, album_id, path, duration, *tags = cells
    if not AUDIO_PATH.fullmatch(path):
        raise ValueError(f"has the path {path[:60]!r}, expected NN/NUMBER.mp3")
    names: list[str] = []
    by_category: dict[str, list[str]] = {category: [] for category in CATEGORIES}
    for tag in tags:
        category, separator, name = tag.partition(SEPARATOR)
        if tag.strip() and (not separator or category not in by_category or not name.isprintable()):
            raise ValueError(f"has the tag {tag[:60]!r}, expected one of {', '.join(CATEGORIES)} before {SEPARATOR}")
        names.append(name)
        if name.strip() and name.strip() not in by_category[category]:
            by_category[category].append(name.strip())
    kept, dropped = sort_out_tags(names)
    return TaggedRow(track_id, artist_id, album_id, path, seconds(duration), kept, dropped, by_category)


def seconds(text: str) -> float:
    """A duration as published. Raises `ValueError` for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"has the duration {text[:60]!r}, expected seconds")
    return value


def read_names(path: Path, on_skip: OnSkip | None = None) -> dict[str, Names]:
    """Title, artist, album and year of the tracks by Jamendo's number, from a table with or without a header.

    Lines that cannot be used are left out. Raises `TableError` for a file that is no such table.
    """
    names: dict[str, Names] = {}
    artists: dict[str, str] = {}  # one text an artist or album, for the thousands of tracks that share it
    for number, line in text_lines(path):
        cells = line.split("\t")
        if not line or (number == 1 and cells[0] == HEADER[0]):
            continue
        if len(cells) == len(NAMES_HEADER) + 1 and not cells[4]:
            del cells[4]  # two published lines have an empty cell between title and artist
        problem = None
        if "\0" in line:
            problem = "has a NUL byte"
        elif len(cells) != len(NAMES_HEADER):
            problem = f"has {len(cells)} cells, expected {len(NAMES_HEADER)} ({' '.join(NAMES_HEADER)})"
        elif not _IDS[0].fullmatch(cells[0]):
            problem = f"has TRACK_ID {cells[0][:60]!r}, expected the form {_IDS[0].pattern}"
        elif number_of(cells[0]) in names:
            problem = f"repeats the track {cells[0]}"
        if problem:
            leave_out(on_skip, row_name(path, number), problem, "download the file again")
            continue
        title, artist, album, released = (cell.strip() for cell in cells[3:7])
        year = _YEAR.match(released)
        names[number_of(cells[0])] = Names(
            title or None,
            artists.setdefault(artist, artist) or None,
            artists.setdefault(album, album) or None,
            int(year[1]) if year else None,
        )
    if not names:
        raise TableError(path, "names no track", f"expected the columns {' '.join(NAMES_HEADER)}")
    return names


def read_licences(path: Path, on_skip: OnSkip | None = None) -> dict[str, str]:
    """The address of each track's licence by Jamendo's number, empty where its block states none.

    A second block for the same track is left out. Raises `TableError` for another kind of file.
    """
    licences: dict[str, str] = {}
    addresses: dict[str, str] = {}  # a dozen, shared by all tracks
    current, place = "", 0
    for number, line in text_lines(path):
        if block := _LICENSED_PATH.fullmatch(line.strip()):
            current, place = number_of(block[1]), 0
            if current in licences:
                problem = f"states the licence of {line.strip()} a second time"
                leave_out(on_skip, row_name(path, number), problem, "download the file again")
                current = ""
            else:
                licences[current] = ""
            continue
        place += 1
        stated = _LICENCE.fullmatch(line.strip())
        # The line below the path holds the title, which may say what it likes.
        if current and place > 1 and stated:
            licences[current] = addresses.setdefault(stated[1], stated[1])
            current = ""
    if not licences:
        raise TableError(path, "states no track's licence", "expected blocks of NN/NUMBER.mp3, its makers, its licence")
    return licences
