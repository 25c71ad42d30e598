"""FMA, the Free Music Archive (Defferrard et al. 2017, arXiv 1612.01840): `fma_metadata` and its audio folders.

Files: `fma_metadata/tracks.csv` and `genres.csv` of fma_metadata.zip (2017; 106,574 tracks, 163 genres) and the folders
`fma_small` (8,000 clips of 30 s), `fma_medium` (25,000), `fma_large` (all, clips) or `fma_full` (all, untrimmed), with
`000/000002.mp3` for track 2. `root` is the folder in which they lie.

Traps: tracks.csv has three header lines (group, column, then `track_id` alone); genres and tags are Python literals;
`album.information` and `artist.bio` are HTML of any length (never read); `set.subset` says `small`, `medium` or `large`
for the smallest subset that a track is in, each contains the one before.

Tags are the titles of the track's genres, then of their parents (which `genres_all` has), then the tags that users gave
the track. Album and artist tags are left alone: they describe other tracks as well, and often name people. A track tag
that names the artist, the album or the track is dropped, since names must not reach a language model.

Licences are a track's own. By default only CC0 and CC BY tracks are read (licences that let anybody use, change and
pass on a track who names the artist); the others are counted by licence and told in one line each. `facts` has the
genres. Splits are `training`, `validation` and `test`, free of artists in common, as the authors made them.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import TableError, UsageError

from .bad_rows import ByChoice, OnSkip, leave_out
from .fma_licences import open_licence
from .table import parse_list

SOURCE = "fma"
TRACKS, GENRES, FOLDER = "tracks.csv", "genres.csv", "fma_metadata"
WHERE = "unpack fma_metadata.zip (https://github.com/mdeff/fma) there"
SUBSETS = ("small", "medium", "large", "full")  # each contains the ones before; `full` is `large` untrimmed
LICENCES = ("open", "all")
SPLITS = ("training", "validation", "test")
LONGEST_CELL = 1 << 24  # bytes; biographies are long, a cell of 16 MB is a quote left open
LARGEST_ID = 999_999  # six digits in the name of the file

_COLUMNS = (
    *(("track", name) for name in ("genres", "genres_all", "tags", "license", "title", "genre_top", "date_recorded")),
    *(("album", name) for name in ("id", "title", "date_released")),
    *(("artist", name) for name in ("id", "name")),
    *(("set", name) for name in ("split", "subset")),
)
_OPTIONAL = frozenset({("track", "genre_top"), ("track", "date_recorded"), ("album", "date_released")})
_YEAR = re.compile(r"(1[89]\d\d|20\d\d)-\d\d")
_LETTERS = re.compile(r"[\W_]+")
_REMEMBERED = 20_000  # different cells of genres


@dataclass
class _LeftOut:
    """What was left out on purpose, told at the end."""

    licences: Counter[str] = field(default_factory=Counter)
    names: int = 0  # tags that name the artist, the album or the track
    named_tracks: int = 0


@dataclass(frozen=True)
class _Reading:
    """What stays the same from row to row."""

    places: dict[tuple[str, str], int]
    genres: Callable[[str], tuple[str, ...]]
    audio: str  # the folder of the audio
    subsets: frozenset[str]
    open_only: bool
    track_tags: bool
    left_out: _LeftOut


def read_fma(
    root: Path,
    *,
    subset: Literal["small", "medium", "large", "full"] | None = None,
    licences: Literal["open", "all"] = "open",
    track_tags: bool = True,
    on_skip: OnSkip | None = None,
) -> Iterator[TaggedTrack]:
    """The tracks of FMA in file order, by default those under CC0 and CC BY (any version).

    `root` holds `fma_metadata` and the audio folders, or is the metadata folder or tracks.csv itself. `subset` takes
    the tracks of that subset and its folder; without it, all tracks and the first folder there of `fma_large`,
    `fma_full`, `fma_medium` and `fma_small`. `licences=all` takes tracks whatever their licence, `track_tags=false`
    leaves the users' tags out. `on_skip` is told of bad rows and, at the end, of the tracks of each other licence and
    of the names among the tags. Raises `TableError` for a missing or damaged file and, without `on_skip`, for a bad
    row; `UsageError` for another subset or choice of licences.
    """
    for name, value, known in (("subset", subset, SUBSETS), ("licences", licences, LICENCES)):
        if value is not None and value not in known:
            raise UsageError(f"{name}={value}", "is not known", f"choose {' or '.join(known)}")
    path = _tracks_file(root)
    titles = _genre_titles(path.with_name(GENRES))
    wanted = SUBSETS[: SUBSETS.index(subset) + 1] if subset else SUBSETS
    left_out = _LeftOut()
    rows = _rows(path)
    reading = _Reading(
        places=_places(path, [next(rows, (0, []))[1] for _ in range(3)]),
        genres=_genres_reader(titles),
        audio=_audio_folder(root, subset),
        subsets=frozenset(wanted),
        open_only=licences == "open",
        track_tags=track_tags,
        left_out=left_out,
    )
    width = max(reading.places.values()) + 1
    seen: set[str] = set()
    usable = 0
    for number, cells in rows:
        if not cells:
            continue
        item = f"{path}, line {number}"
        try:
            if len(cells) < width:
                raise ValueError(f"has {len(cells)} cells, expected at least {width}")
            track_id = _track_id(cells[0])
            if track_id in seen:
                raise ValueError(f"repeats the track {track_id}")
            track = _track(track_id, cells, reading)
        except ValueError as error:
            leave_out(on_skip, item, str(error), "download fma_metadata.zip again")
            continue
        seen.add(track_id)
        if track is not None:
            usable += 1
            yield track
    if not usable:
        _complain(path, left_out, subset)
    if on_skip is not None:
        _tell(path, left_out, on_skip)


def _tracks_file(root: Path) -> Path:
    if root.is_file():
        return root
    for folder in (root / FOLDER, root):
        if (folder / TRACKS).is_file():
            return folder / TRACKS
    below = sorted({*root.glob(f"*/{FOLDER}/{TRACKS}"), *root.glob(f"*/{TRACKS}")}) if root.is_dir() else []
    if len(below) != 1:
        raise TableError(root, f"has no {FOLDER}/{TRACKS}", WHERE)
    return below[0]


def _audio_folder(root: Path, subset: str | None) -> str:
    """The folder of the audio relative to `root` (to the folder above, where `root` is the metadata), with a slash."""
    base = root.parent if root.is_file() else root
    if not (base / FOLDER).is_dir() and (base / TRACKS).is_file():
        base = base.parent
    # A larger subset has the tracks of a smaller one; `full` comes last, its files being whole tracks.
    wanted = ("large", "full", "medium", "small") if subset is None else SUBSETS[SUBSETS.index(subset) :]
    for prefix in ("", "*/"):
        for name in wanted:
            found = sorted(path for path in base.glob(f"{prefix}fma_{name}") if path.is_dir())
            if found:
                return found[0].relative_to(base).as_posix() + "/"
    return f"fma_{subset or 'large'}/"


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with the number of their last line. Raises `TableError` where it is damaged."""
    previous = csv.field_size_limit()
    reader = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            while True:
                csv.field_size_limit(LONGEST_CELL)  # the limit is the interpreter's: others' readers keep theirs
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                finally:
                    csv.field_size_limit(previous)
                yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise TableError(path, f"is not UTF-8 ({error.reason})", "download fma_metadata.zip again") from error
    except csv.Error as error:
        line = reader.line_num if reader is not None else 0
        raise TableError(f"{path}, line {line}", f"is damaged ({error})", "download fma_metadata.zip again") from error
    except OSError as error:
        raise TableError(path, f"cannot be read ({error.strerror})", WHERE) from error


def _places(path: Path, header: list[list[str]]) -> dict[tuple[str, str], int]:
    """Where each column stands, from the three header lines. Raises `TableError` for a file with other ones."""
    groups, names, index = header
    columns = list(zip(groups, names, strict=False))
    places = {column: place for place, column in enumerate(columns) if place}
    missing = [".".join(column) for column in _COLUMNS if column not in places and column not in _OPTIONAL]
    if missing or index[:1] != ["track_id"]:
        problem = f"lacks {', '.join(missing)}" if missing else "has no third header line that begins with track_id"
        raise TableError(path, f"is not FMA's {TRACKS}: it {problem}", WHERE)
    return {column: places[column] for column in _COLUMNS if column in places}


def _genre_titles(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise TableError(path, "no such file", f"it comes with {TRACKS}: {WHERE}")
    rows = _rows(path)
    header = next(rows, (0, []))[1]
    if "genre_id" not in header or "title" not in header:
        raise TableError(path, f"has the columns {', '.join(header) or 'none'}, expected genre_id and title", WHERE)
    identifier, title = header.index("genre_id"), header.index("title")
    try:
        titles = {int(cells[identifier]): cells[title].strip() for _, cells in rows if cells}
    except (ValueError, IndexError) as error:
        raise TableError(path, "has a row without a number and title", "download fma_metadata.zip again") from error
    if not titles:
        raise TableError(path, "has no rows", "download fma_metadata.zip again")
    return titles


def _genres_reader(titles: dict[int, str]) -> Callable[[str], tuple[str, ...]]:
    """A function from a cell of genres to their titles, which remembers cells: there are few different ones."""
    known: dict[str, tuple[str, ...]] = {}

    def read(cell: str) -> tuple[str, ...]:
        found = known.get(cell)
        if found is None:
            ids = parse_list(cell) if cell.strip() else []
            unknown = [item for item in ids if not isinstance(item, int) or item not in titles]
            if unknown:
                raise ValueError(f"has the genre {str(unknown[0])[:40]}, which {GENRES} does not know")
            found = tuple(titles[item] for item in ids)
            if len(known) < _REMEMBERED:
                known[cell] = found
        return found

    return read


def _track_id(cell: str) -> str:
    text = cell.strip()
    if not (text.isascii() and text.isdigit()) or int(text) > LARGEST_ID:
        raise ValueError(f"has the track_id {text[:40]!r}, expected a number of at most six digits")
    return text


def _track(track_id: str, cells: list[str], reading: _Reading) -> TaggedTrack | None:
    """The track of a row; None where its subset or licence is not wanted. Raises `ValueError` for a bad row."""

    def cell(group: str, name: str) -> str:
        place = reading.places.get((group, name))
        return "" if place is None else cells[place].strip()

    split, subset = cell("set", "split"), cell("set", "subset")
    if split not in SPLITS or subset not in SUBSETS:
        raise ValueError(f"has the split {split[:40]!r} and subset {subset[:40]!r}, expected {', '.join(SPLITS)}")
    if subset not in reading.subsets:
        return None
    stated = cell("track", "license")
    opened = open_licence(stated)
    if reading.open_only and opened is None:
        reading.left_out.licences[stated] += 1
        return None
    genres = reading.genres(cell("track", "genres"))
    parents = [title for title in reading.genres(cell("track", "genres_all")) if title not in genres]
    artist, album, title = (cell(*column) for column in (("artist", "name"), ("album", "title"), ("track", "title")))
    users: list[str] = []
    if reading.track_tags:
        written = _words(cell("track", "tags"))
        users = _without_names(written, artist, (album, title))
        reading.left_out.names += len(written) - len(users)
        reading.left_out.named_tracks += len(written) != len(users)
    tags, dropped = sort_out_tags((*genres, *parents, *users))
    year = _YEAR.match(cell("track", "date_recorded")) or _YEAR.match(cell("album", "date_released"))
    six_digits = f"{int(track_id):06d}"
    return TaggedTrack(
        track_id=track_id,
        tags=tags,
        split=split,
        source=SOURCE,
        licence=f"{opened} ({stated})" if opened else stated,  # the short name, for who needs to understand it
        audio_path=f"{reading.audio}{six_digits[:3]}/{six_digits}.mp3",
        title=title or None,
        artist=artist or None,
        album=album or None,
        year=int(year[1]) if year else None,
        extra={
            "artist_id": cell("artist", "id"),
            "album_id": cell("album", "id"),
            "subset": subset,
            "facts": {"genre": list(genres), "parent_genre": parents},
        },
        dropped_tags=dropped,
    )


def _words(cell: str) -> list[str]:
    """The users' tags. Raises `ValueError` where they are no list of texts."""
    words: list[Any] = parse_list(cell) if cell else []
    if not all(isinstance(word, (str, int, float)) for word in words):
        raise ValueError("track.tags holds more than words")
    return [str(word) for word in words]


def _without_names(words: list[str], artist: str, titles: tuple[str, ...]) -> list[str]:
    """`words` without the artist's name, alone or within a tag, and without what is a title, however it is written."""
    name, plain_titles = _plain(artist), {_plain(title) for title in titles}
    kept = []
    for word in words:
        plain = _plain(word)
        if not plain or (plain not in plain_titles and not (name and f" {name} " in f" {plain} ")):
            kept.append(word)
    return kept


def _plain(text: str) -> str:
    return _LETTERS.sub(" ", text.casefold()).strip()


def _complain(path: Path, left_out: _LeftOut, subset: str | None) -> None:
    if left_out.licences:
        count = left_out.licences.total()
        raise TableError(
            path, f"has {count} tracks, none of them under CC0 or CC BY", "take all with --set licences=all"
        )
    of = f" of the subset {subset}" if subset else ""
    raise TableError(path, f"has no track{of} that can be used", "download fma_metadata.zip again")


def _tell(path: Path, left_out: _LeftOut, on_skip: OnSkip) -> None:
    for licence, count in left_out.licences.most_common():
        stated = f"under {licence!r}" if licence else "that state no licence"
        on_skip(path, ByChoice(f"{count} tracks {stated} were left out; --set licences=all takes them"))
    if left_out.names:
        on_skip(
            path,
            ByChoice(
                f"{left_out.names} tags of {left_out.named_tracks} tracks were dropped, "
                "which name artist, album or track"
            ),
        )
