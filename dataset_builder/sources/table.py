"""The user's own table of tracks: CSV, TSV, JSON, JSON Lines, Parquet, or a directory of the `datasets` library.

Columns are recognised by their names (`COLUMNS`), the two that matter can be named. Tags may be a list (JSON, Parquet),
a JSON or Python list in a string, or plain text, which is split at `|` where there is one, else at `;`, else at `,`.

A directory is what `save_to_disk` wrote, or a Hub-style one: `<config>/<split>-00000-of-00002.parquet`,
`data/<split>-...`, `train.csv` (`table_files.py`); its splits are those of the names, where the rows state none.
Embedded audio is never loaded: that there is some is told. CSV, TSV and JSON Lines may be compressed with gzip.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import TableError

from .bad_rows import OnSkip, leave_out
from .inside import inside
from .table_files import table_parts
from .table_rows import Row, read_rows, row_name

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
# By these, split leaks are found (see `TaggedTrack.extra`): MusicCaps as a plain table has no column for the split.
LEAK_COLUMNS = ("artist_id", "recording_id", "ytid", "is_audioset_eval", "evaluation_pool")
_FLAGS: dict[str, bool] = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
TEXT_SEPARATORS = "|;,"  # in this order
_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")
_PRINTED_ARRAY = re.compile(r"""['"]\s+['"]""")  # ['rock' 'jazz']: Python would join the two
LONGEST_LIST = 1 << 20  # characters of a list written out in a cell; parsing it takes a hundred times that in bytes
DUPLICATES_NAMED = 5


def read_table(
    root: Path,
    *,
    id_column: str | None = None,
    tags_column: str | None = None,
    tag_separator: str | None = None,
    config: str | None = None,
    licence: str | None = None,
    split: str | None = None,
    on_skip: OnSkip | None = None,
) -> Iterator[TaggedTrack]:
    """The tracks of the table file or `datasets` directory `root` (or of the only table file in it), in file order.

    `id_column` and `tags_column` name columns that are not called as `COLUMNS` has it; `tag_separator` splits the
    text of the tags column and switches every other rule off. `config` names one of several configurations of a
    directory. `licence` and `split` stand for the rows that state none themselves. Ids stay text (`007`); a track
    without tags is kept; columns that are not recognised are left out. Bad rows (no id or an id for the second time,
    tags that cannot be read, an audio path that is absolute or leads out with `..`, cells too many or too few) are left
    out and told to `on_skip`. Raises `TableError` for them where there is no `on_skip`, and for a file that is missing,
    empty or damaged, or lacks an id or tags column.
    """
    seen: dict[str, int] = {}
    repeated: list[str] = []
    for part in table_parts(root, config):
        checked = False
        for number, row in read_rows(part.path, on_skip):
            columns = recognised_columns(tuple(row), id_column, tags_column)
            if not checked:
                _check_columns(part.path, row, columns, id_column, tags_column)
                checked = True
            try:
                track = track_of(row, columns, tag_separator, split=part.split or split or "", licence=licence or "")
            except ValueError as error:
                leave_out(on_skip, row_name(part.path, number), str(error), "correct the row")
                continue
            if track.track_id in seen:
                if on_skip is not None:
                    on_skip(row_name(part.path, number), f"repeats the id {track.track_id!r} of an earlier row")
                else:
                    repeated.append(f"{track.track_id!r} ({seen[track.track_id]} and {number})")
                continue
            seen[track.track_id] = number
            if not repeated:  # read on without a result, to name the others as well
                yield track
    if repeated:
        named = ", ".join(repeated[:DUPLICATES_NAMED])
        more = f" and {len(repeated) - DUPLICATES_NAMED} more" if len(repeated) > DUPLICATES_NAMED else ""
        raise TableError(
            root, f"ids occur twice: {named}{more}", "make them unique or name another column with --set id_column=NAME"
        )
    if not seen:
        raise TableError(root, "has no row that can be used", "look at the rows that were left out")


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


def track_of(
    row: Row, columns: dict[str, str], tag_separator: str | None = None, *, split: str = "", licence: str = ""
) -> TaggedTrack:
    """The track in a row, with `split` and `licence` where the row states none.

    Raises `ValueError`, with what is wrong, where the row has no id, its tags cannot be read or its path leads out.
    """
    cells = {holds: row.get(column) for holds, column in columns.items()}
    track_id, audio = _text(cells.get("id")), cells.get("audio")
    if track_id is None:
        raise ValueError("has no id")
    try:
        tags, dropped = sort_out_tags(split_tags(cells.get("tags"), tag_separator))
    except ValueError as error:
        raise ValueError(f"has tags that cannot be read ({error}); write them as a list or with commas") from error
    return TaggedTrack(
        track_id=track_id,
        tags=tags,
        split=_text(cells.get("split")) or split,
        source=SOURCE,
        licence=_text(cells.get("licence")) or licence,
        audio_path=_path(audio),
        reference_captions=_captions(cells.get("caption")),
        title=_text(cells.get("title")),
        artist=_text(cells.get("artist")),
        album=_text(cells.get("album")),
        year=_year(cells.get("year")),
        extra=_told_of_leaks(row),
        dropped_tags=dropped,
        has_embedded_audio=isinstance(audio, dict) and audio.get("embedded") is True,
    )


def split_tags(cell: Any, separator: str | None = None) -> list[str]:
    """The tags in a cell as they stand: a list, a list written out as JSON or Python, or text (see the module).

    An empty cell has none. Raises `ValueError` for anything else, with what was wrong.
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return []
    if isinstance(cell, str):
        text = cell.strip()
        if separator is not None:
            return text.split(separator)
        if not text.startswith("["):
            return text.split(next((sign for sign in TEXT_SEPARATORS if sign in text), ","))
        cell = parse_list(text)
    if not isinstance(cell, (list, tuple)):
        raise ValueError(f"expected a list or text, not {_short(repr(cell))}")
    if any(isinstance(item, (dict, list, tuple)) for item in cell):
        raise ValueError("the list holds more than words")
    return [str(item) for item in cell if item is not None]


def parse_list(text: str) -> list[Any]:
    """A list written out as JSON or as a Python literal, read without evaluating anything. Raises `ValueError`."""
    if len(text) > LONGEST_LIST:
        raise ValueError(f"{_short(text)} is a list of {len(text)} characters, expected at most {LONGEST_LIST}")
    # Python's quotes as JSON's, where that changes no text: several times as fast as Python's own parser.
    swapped = text if '"' in text or "\\" in text else text.replace("'", '"')
    try:
        value = json.loads(swapped)
    except (ValueError, RecursionError):
        if _PRINTED_ARRAY.search(text) and _is_printed_array(text):
            raise ValueError(f"{_short(text)} is a printed array without commas") from None
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"{_short(text)} is no list") from None
    if not isinstance(value, list):
        raise ValueError(f"{_short(text)} is no list")
    return value


def _is_printed_array(text: str) -> bool:
    """Whether two texts stand side by side with no comma: a tag that is only a space looks much like it."""
    previous = None
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING == previous:
                return True
            if token.type not in (tokenize.NL, tokenize.NEWLINE):
                previous = token.type
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return False
    return False


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
    """The path in a cell, relative and with slashes. Raises `ValueError` for one that leads out of the audio root."""
    if isinstance(cell, dict):  # embedded audio: the path only names it, and `datasets` may have kept a whole one
        text = _text(cell.get("path"))
        return re.split(r"[/\\]", text)[-1] or None if text else None
    text = _text(cell)
    return inside(text) if text and "://" not in text else None  # an address is no file


def _told_of_leaks(row: Row) -> dict[str, str | bool]:
    found: dict[str, str | bool] = {name: text for name in LEAK_COLUMNS if (text := _text(row.get(name)))}
    flag = str(found.get("is_audioset_eval", "")).lower()
    return found | ({"is_audioset_eval": _FLAGS[flag]} if flag in _FLAGS else {})


def _captions(cell: Any) -> tuple[str, ...]:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        with suppress(ValueError):  # a caption may begin with a bracket
            cell = parse_list(cell.strip())
    texts = cell if isinstance(cell, (list, tuple)) else (cell,)
    return tuple(text for text in map(_text, texts) if text)


def _year(cell: Any) -> int | None:
    match = _YEAR.search(_text(cell) or "")
    return int(match[0]) if match else None
