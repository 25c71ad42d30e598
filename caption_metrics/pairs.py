"""Predictions with their references, read from the files and data sets that captioning systems write."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caption_metrics.pair_files import CAPTION, KEY, SUFFIXES, Row, Rows, file_suffix, kind_of, open_file
from lpmc_errors import TableError

# Names that are looked for, in this order, when the caller names no column. The first are those of the released code,
# which writes `prediction` and `ground_truth` for texts, `predictions` and `true_captions` for audio.
PREDICTION_COLUMNS = ("prediction", "predictions", "caption")
REFERENCE_COLUMNS = (
    *("ground_truth", "references", "reference", "reference_captions", "caption_ground_truth", "true_captions"),
)
TAG_COLUMNS = ("tags", "tag", "aspect_list")
ID_COLUMNS = (
    *("id", "track_id", "clip_id", "audio_id", "ytid", "youtube_id", "fname", "file_name", "filename", "path"),
    KEY,
)
LONGEST_EXTRA = 512  # characters of a cell that is kept beside the captions; a longer one is a text of its own
_MISSING = frozenset({"nan", "none", "null", "<na>", "n/a"})  # what table writers leave of a caption that is not there


@dataclass(frozen=True)
class Pair:
    """A caption, what people wrote about the same clip, and what else the file says of it.

    `tags` and `id` are empty and None where the file has none; `extra` holds its other cells (genre, region, source,
    the path of the audio) as text, by column.
    """

    prediction: str
    references: tuple[str, ...]
    tags: tuple[str, ...] = ()
    id: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for what, texts in (("references", self.references), ("tags", self.tags)):
            if isinstance(texts, str):  # else each letter would be one
                raise TableError(f"the {what} of a pair", "are one text", f"give a tuple: ({texts[:20]!r},)")


def read_pairs(source: str | Path, *, prediction: str | None = None, reference: str | None = None) -> list[Pair]:
    """All pairs of `iterate_pairs`, in a list."""
    return list(iterate_pairs(source, prediction=prediction, reference=reference))


def iterate_pairs(
    source: str | Path, *, prediction: str | None = None, reference: str | None = None, id_column: str | None = None
) -> Iterator[Pair]:
    """Read pairs one by one, a file of any length in little memory.

    `source` is a file (`.json`, `.jsonl`, `.csv`, `.tsv`, `.parquet`; text may be gzipped), a folder that `datasets`
    saved or `lpmc build` made, or `org/name[:config[:split]]` on the Hub. `prediction`, `reference` and `id_column`
    name the columns; without them the usual names are looked for. A reference may be a text or a list of texts.

    Raises `TableError` at once for a source that is missing, unreadable or empty and for a missing column, and at its
    row for one without a prediction (an empty text is one) or without any reference.
    """
    table = open_rows(source)
    said = choose_column(table, "prediction", prediction, PREDICTION_COLUMNS)
    meant = choose_column(table, "reference", reference, REFERENCE_COLUMNS)
    name = choose_id(table, id_column)
    used = frozenset({said, meant, name})

    def pairs() -> Iterator[Pair]:
        for number, row in table.rows:
            yield Pair(
                prediction=prediction_of(table, number, row, said),
                references=references_of(table, number, row, meant),
                tags=tags_of(row),
                id=None if name is None else cell_text(row.get(name)),
                extra=extra_of(row, used),
            )

    return pairs()


def read_captions_file(path: str | Path) -> list[str]:
    """Read captions alone, such as those of a training set: one a line in a text file, or a column of a table.

    A table has them in a column `caption` or in one of the usual reference columns. Raises `TableError`.
    """
    table = open_rows(path, texts=True)
    name = choose_column(table, "caption", None, (CAPTION, *REFERENCE_COLUMNS))
    captions = [text.strip() for _, row in table.rows for text in _texts(row.get(name))]
    captions = [caption for caption in captions if caption]
    if not captions:
        raise TableError(path, "holds no captions", "write one caption a line")
    return captions


def open_rows(source: str | Path, *, texts: bool = False) -> Rows:
    """The rows of a file, of a folder with a data set, or of a data set on the Hub. Raises `TableError`.

    `texts` allows a file that has captions alone, one a line.
    """
    path = Path(source)
    if not _exists(path):
        from caption_metrics.pair_datasets import is_hub_name, open_dataset, split_name

        name, config, split = split_name(str(source))
        if Path(name).is_dir() or (is_hub_name(name) and file_suffix(Path(name)) not in SUFFIXES):
            return open_dataset(name, config, split)
    elif path.is_dir():
        from caption_metrics.pair_datasets import open_dataset

        return open_dataset(str(path))
    if path.is_file() and file_suffix(path) == ".txt" and not texts:
        raise TableError(path, "has captions alone", "give the references in a second file")
    return open_file(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise TableError(str(path)[:80], f"cannot be opened: {error.strerror}", "check the name") from error


def choose_column(table: Rows, what: str, wanted: str | None, usual: Sequence[str]) -> str:
    """The column `wanted`, or without one the first of the `usual` names that is there. Raises `TableError`."""
    if wanted is not None and wanted in table.columns:
        return wanted
    found = next((name for name in usual if name in table.columns), None) if wanted is None else None
    if found is not None:
        return found
    missing = f"has no column {wanted}" if wanted else f"has no {what} column ({', '.join(usual)})"
    raise TableError(table.name, f"{missing}; it has {', '.join(table.columns) or 'none'}", "name the columns")


def choose_id(table: Rows, wanted: str | None) -> str | None:
    """The column that names the clips; None where there is none. Raises `TableError` for a `wanted` one."""
    if wanted is not None:
        return choose_column(table, "id", wanted, ())
    return next((name for name in ID_COLUMNS if name in table.columns), None)


def prediction_of(table: Rows, number: int, row: Row, column: str) -> str:
    """The caption in a row; a list of one text is that text. Raises `TableError`."""
    value = row.get(column)
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise TableError(
            table.place(number),
            f"column {column} holds {kind_of(value)}, expected a text",
            "write one caption a row, and an empty text where a system gave none",
        )
    if value.strip().lower() in _MISSING:
        raise TableError(
            table.place(number),
            f"column {column} holds {value.strip()!r}, which stands for a missing caption",
            "write an empty text where a system gave no caption",
        )
    return whole_text(table, number, column, value)


def references_of(table: Rows, number: int, row: Row, column: str) -> tuple[str, ...]:
    """The reference captions in a row, at least one. Raises `TableError`."""
    value = row.get(column)
    texts = [text for text in _texts(value) if text.strip() and text.strip().lower() not in _MISSING]
    if not texts:
        raise TableError(
            table.place(number), f"column {column} holds no reference caption", "leave such rows out of the file"
        )
    return tuple(whole_text(table, number, column, text) for text in texts)


def tags_of(row: Row) -> tuple[str, ...]:
    """The tags in a row: a list, or one text with commas between them; empty where there are none."""
    value = next((row[name] for name in TAG_COLUMNS if row.get(name)), ())
    if isinstance(value, str):
        listed = _written_list(value)
        value = value.split(",") if listed is None else listed
    return tuple(text.strip() for text in _texts(value) if text.strip())


def extra_of(row: Row, used: frozenset[str | None]) -> dict[str, str]:
    """The other cells of a row as text: neither captions nor tags, nor what is empty, very long or an object."""
    extra = {}
    for name, value in row.items():
        if name in used or name in _CAPTION_COLUMNS or name.startswith("caption_"):
            continue
        text = joined_cell(value)
        if text and len(text) <= LONGEST_EXTRA:
            extra[name] = text
    return extra


_CAPTION_COLUMNS = frozenset({*PREDICTION_COLUMNS, *REFERENCE_COLUMNS, *TAG_COLUMNS, KEY})


def joined_cell(value: Any) -> str | None:
    """`cell_text`, and a list of texts (several genres) with commas between them."""
    if value and isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return ", ".join(part.strip() for part in value)
    return cell_text(value)


def cell_text(value: Any) -> str | None:
    """A cell as text: `12` for 12 and for 12.0, `true` for a truth value; None for nothing, NaN, lists and objects."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if value is None or isinstance(value, list | tuple | dict | bytes):
        return None
    return str(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        listed = _written_list(value) if value.startswith("[") else None
        return [value] if listed is None else listed
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else []


def _written_list(text: str) -> list[str] | None:
    """The texts of a list that was written into a cell, as JSON or as Python prints it; None for any other text."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return [str(part) for part in value] if all(isinstance(part, str) for part in value) else None
    return None


def whole_text(table: Rows, number: int, column: str, text: str) -> str:
    """`text`, which can be written as UTF-8. Raises `TableError` for one that cannot."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TableError(
                table.place(number),
                f"column {column} holds half of a character (a lone surrogate)",
                "write the file again as UTF-8",
            ) from error
    return text
