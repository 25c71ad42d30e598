"""The user's own table of tracks: CSV, TSV, JSON, JSON Lines or Parquet.

Columns are recognised by their names (`COLUMNS`), the two that matter can be named. Tags may be a list (JSON, Parquet),
a JSON or Python list in a string, or plain text, which is split at `|` where there is one, else at `;`, else at `,`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from dataset_builder.tracks import TaggedTrack, clean_tags
from lpmc_errors import TableError

from .table_rows import SUFFIXES, Row, read_rows, row_name

SOURCE = "table"

# What a column may be called, by what it holds; case does not matter, the first name that occurs is taken.
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("track_id", "id", "clip_id", "fname", "file_name"),
    "tags": ("tags", "tag", "tag_list", "aspect_list", "labels", "keywords"),
    "audio": ("audio_path", "audio", "path", "file_name", "filename", "file"),
    "title": ("title",),
    "artist": ("artist", "artist_name"),
    "album": ("album", "release"),
    "year": ("year",),
    "split": ("split",),
    "licence": ("licence", "license"),
    "caption": ("reference_captions", "caption", "captions", "caption_ground_truth"),
}
TEXT_SEPARATORS = "|;,"  # in this order
_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")
_PRINTED_ARRAY = re.compile(r"""['"]\s+['"]""")  # ['rock' 'jazz']: Python would join the two
DUPLICATES_NAMED = 5


def read_table(
    root: Path, *, id_column: str | None = None, tags_column: str | None = None, tag_separator: str | None = None
) -> Iterator[TaggedTrack]:
    """The tracks of the table file `root` (or of the only table file in the folder `root`), in file order.

    `id_column` and `tags_column` name columns that are not called as `COLUMNS` has it; `tag_separator` splits the
    text of the tags column and switches every other rule off. Ids stay text (`007`); a track without tags is kept.
    Columns that are not recognised are left out. Raises `TableError` for a file that is missing, empty or damaged,
    lacks an id or tags column, has a row without id, tags that cannot be read, or repeated ids.
    """
    path = table_file(root)
    seen: dict[str, int] = {}
    repeated: list[str] = []
    for number, row in read_rows(path):
        columns = recognised_columns(tuple(row), id_column, tags_column)
        if not seen:
            _check_columns(path, row, columns, id_column, tags_column)
        track = track_of(path, number, row, columns, tag_separator)
        if track.track_id in seen:
            repeated.append(f"{track.track_id!r} ({seen[track.track_id]} and {number})")
            continue
        seen[track.track_id] = number
        if not repeated:  # read on without a result, to name the others as well
            yield track
    if repeated:
        named = ", ".join(repeated[:DUPLICATES_NAMED])
        more = f" and {len(repeated) - DUPLICATES_NAMED} more" if len(repeated) > DUPLICATES_NAMED else ""
        raise TableError(
            path, f"ids occur twice: {named}{more}", "make them unique or name another column with --set id_column=NAME"
        )


def table_file(root: Path) -> Path:
    """`root` itself, or the only table file in the folder `root`. Raises `TableError` where there is not one."""
    if not root.is_dir():
        return root
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise TableError(root, f"is a folder with {len(found)} table files ({names})", "name the file with --root")
    return found[0]


@lru_cache(maxsize=64)
def recognised_columns(names: tuple[str, ...], id_column: str | None, tags_column: str | None) -> dict[str, str]:
    """Which of the columns `names` holds what: a mapping from the keys of `COLUMNS` to column names."""
    lowered = {name.lower(): name for name in reversed(names)}
    found = {
        holds: lowered[spelling]
        for holds, spellings in reversed(COLUMNS.items())
        for spelling in reversed(spellings)
        if spelling in lowered
    }
    for holds, chosen in (("id", id_column), ("tags", tags_column)):
        if chosen is not None:
            found.pop(holds, None)
            if chosen in names:
                found[holds] = chosen
    return found


def _check_columns(
    path: Path, row: Row, columns: dict[str, str], id_column: str | None, tags_column: str | None
) -> None:
    for holds, chosen in (("id", id_column), ("tags", tags_column)):
        if holds not in columns:
            missing = f"{chosen!r}" if chosen else f"for the {holds} ({', '.join(COLUMNS[holds])})"
            raise TableError(
                path,
                f"has no column {missing}; it has {', '.join(row) or 'none'}",
                f"name it with --set {holds}_column=NAME",
            )


def track_of(path: Path, number: int, row: Row, columns: dict[str, str], tag_separator: str | None) -> TaggedTrack:
    """The track in a row of `path`. Raises `TableError` where the row has no id or its tags cannot be read."""
    cells = {holds: row.get(column) for holds, column in columns.items()}
    track_id = _text(cells.get("id"))
    if track_id is None:
        raise TableError(row_name(path, number), "has no id", "give every row one")
    try:
        tags = parse_tags(cells.get("tags"), tag_separator)
    except ValueError as error:
        raise TableError(
            row_name(path, number), f"has tags that cannot be read ({error})", "write them as a list or with commas"
        ) from error
    return TaggedTrack(
        track_id=track_id,
        tags=tags,
        split=_text(cells.get("split")) or "",
        source=SOURCE,
        licence=_text(cells.get("licence")) or "",
        audio_path=_path(cells.get("audio")),
        reference_captions=_captions(cells.get("caption")),
        title=_text(cells.get("title")),
        artist=_text(cells.get("artist")),
        album=_text(cells.get("album")),
        year=_year(cells.get("year")),
    )


def parse_tags(cell: Any, separator: str | None = None) -> tuple[str, ...]:
    """The tags in a cell: a list, a list written out as JSON or Python, or text with separators (see the module).

    Raises `ValueError` for anything else, with what was wrong.
    """
    if cell is None:
        return ()
    if isinstance(cell, str):
        text = cell.strip()
        if separator is not None:
            return clean_tags(text.split(separator))
        if not text.startswith("["):
            used = next((sign for sign in TEXT_SEPARATORS if sign in text), ",")
            return clean_tags(text.split(used))
        cell = parse_list(text)
    if not isinstance(cell, (list, tuple)):
        raise ValueError(f"expected a list or text, not {cell!r}")
    if any(isinstance(item, (dict, list, tuple)) for item in cell):
        raise ValueError("the list holds more than words")
    return clean_tags(str(item) for item in cell if item is not None)


def parse_list(text: str) -> list[Any]:
    """A list written out as JSON or as a Python literal, read without evaluating anything. Raises `ValueError`."""
    try:
        value = json.loads(text)
    except ValueError:
        if _PRINTED_ARRAY.search(text):
            raise ValueError(f"{_short(text)} is a printed array without commas") from None
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"{_short(text)} is no list") from None
    if not isinstance(value, list):
        raise ValueError(f"{_short(text)} is no list")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _text(cell: Any) -> str | None:
    """A cell as text, None where it is empty. A whole number that a table stores as a float loses its `.0`."""
    if cell is None or cell != cell:  # NaN
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def _path(cell: Any) -> str | None:
    return _text(cell.get("path") if isinstance(cell, dict) else cell)  # embedded audio is a struct with its path


def _captions(cell: Any) -> tuple[str, ...]:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        with suppress(ValueError):  # a caption may begin with a bracket
            cell = parse_list(cell.strip())
    texts = cell if isinstance(cell, (list, tuple)) else (cell,)
    return tuple(text for text in map(_text, texts) if text)


def _year(cell: Any) -> int | None:
    match = _YEAR.search(_text(cell) or "")
    return int(match[0]) if match else None
