"""Predictions with their references, read from the files that captioning systems write."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpmc_errors import TableError

# Names that are looked for, in this order, when the caller names no column. The first are those of the released code.
PREDICTION_COLUMNS = ("prediction", "caption")
REFERENCE_COLUMNS = ("ground_truth", "references", "reference", "reference_captions", "caption_ground_truth")
TAG_COLUMNS = ("tags", "tag", "aspect_list")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """A caption, what people wrote about the same clip, and the clip's tags where the file has them."""

    prediction: str
    references: tuple[str, ...]
    tags: tuple[str, ...] = ()


def read_pairs(path: Path, *, prediction: str | None = None, reference: str | None = None) -> list[Pair]:
    """Read pairs from `.json` (a list of objects), `.jsonl`, `.csv`, `.tsv` or `.parquet`.

    `prediction` and `reference` name the columns; without them the usual names are looked for. A reference may be a
    text or a list of texts. Raises `TableError` for a missing, unreadable or empty file, a missing column, and a row
    without a prediction (an empty text is one) or without any reference.
    """
    rows, columns = _read_rows(Path(path))
    if not rows:
        raise TableError(path, "has no rows", "write one row a clip")
    prediction = _column(path, columns, "prediction", prediction, PREDICTION_COLUMNS)
    reference = _column(path, columns, "reference", reference, REFERENCE_COLUMNS)
    tags = next((name for name in TAG_COLUMNS if name in columns), None)
    return [_pair(path, number, row, prediction, reference, tags) for number, row in enumerate(rows, start=1)]


def read_captions_file(path: Path) -> list[str]:
    """Read captions alone, such as those of a training set: one a line in a text file, or a column of a table.

    A table has them in a column `caption` or in one of the usual reference columns. Raises `TableError`.
    """
    path = Path(path)
    if path.suffix.lower() == ".txt":
        captions = [line.strip() for line in _read_text(path).splitlines()]
    else:
        rows, columns = _read_rows(path)
        name = _column(path, columns, "caption", None, ("caption", *REFERENCE_COLUMNS))
        captions = [text.strip() for row in rows for text in _texts(row.get(name))]
    captions = [caption for caption in captions if caption]
    if not captions:
        raise TableError(path, "holds no captions", "write one caption a line")
    return captions


def _pair(path: Path, number: int, row: Row, prediction: str, reference: str, tags: str | None) -> Pair:
    said = row.get(prediction)
    if not isinstance(said, str):
        raise TableError(
            f"{path}, row {number}",
            f"column {prediction} holds {_kind(said)}, expected a text",
            "write an empty text where a system gave no caption",
        )
    references = tuple(text for text in _texts(row.get(reference)) if text.strip())
    if not references:
        raise TableError(
            f"{path}, row {number}", f"column {reference} holds no reference caption", "leave such rows out"
        )
    return Pair(said, references, tuple(_texts(row.get(tags))) if tags else ())


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else []


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _column(path: Path, columns: Sequence[str], what: str, wanted: str | None, usual: Sequence[str]) -> str:
    if wanted is not None and wanted in columns:
        return wanted
    found = next((name for name in usual if name in columns), None) if wanted is None else None
    if found is not None:
        return found
    missing = f"has no column {wanted}" if wanted else f"has no {what} column ({', '.join(usual)})"
    raise TableError(path, f"{missing}; it has {', '.join(columns) or 'none'}", "name the columns of your file")


def _read_rows(path: Path) -> tuple[Sequence[Row], list[str]]:
    readers = {
        ".json": _read_json,
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }
    _check_file(path)
    if path.suffix.lower() not in readers:
        raise TableError(
            path, f"files of type {path.suffix or '(none)'} are not read", "use json, jsonl, csv or parquet"
        )
    with _reading(path):
        return readers[path.suffix.lower()](path)


def _read_text(path: Path) -> str:
    _check_file(path)
    with _reading(path):
        return path.read_text(encoding="utf-8-sig")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise TableError(path, "is a folder", "name a file in it, such as inference.json")
    if not path.is_file():
        raise TableError(path, "no such file", "check the name")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in what its reading may raise."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise TableError(path, f"is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise TableError(
            path, f"cannot be read: {error.strerror or error}", "check the file and its permissions"
        ) from error


def _objects(path: Path, values: Iterable[tuple[int, Any]]) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    columns: dict[str, None] = {}
    for number, value in values:
        if not isinstance(value, dict):
            raise TableError(
                f"{path}, row {number}",
                f"is {_kind(value)}, expected an object",
                'write objects such as {"prediction": "...", "ground_truth": "..."}',
            )
        rows.append(value)
        columns.update(dict.fromkeys(value))
    return rows, list(columns)


def _read_json(path: Path) -> tuple[list[Row], list[str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise TableError(
            path, f"is not JSON (line {error.lineno}: {error.msg})", "one object a line belongs into a .jsonl file"
        ) from error
    if not isinstance(content, list):
        raise TableError(path, f"holds {_kind(content)}, expected a list of objects", "write [{...}, {...}]")
    return _objects(path, enumerate(content, start=1))


def _read_jsonl(path: Path) -> tuple[list[Row], list[str]]:
    def values() -> Iterator[tuple[int, Any]]:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise TableError(
                        f"{path}, line {number}", f"is not JSON ({error.msg})", "write one object a line"
                    ) from error

    return _objects(path, values())


def _read_csv(path: Path) -> tuple[list[Row], list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            rows: list[Row] = list(reader)
            columns = list(reader.fieldnames or ())
        except csv.Error as error:
            raise TableError(
                f"{path}, line {reader.line_num}", f"is not CSV ({error})", "quote the captions"
            ) from error
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise TableError(
                f"{path}, row {number}", "has more cells than the header", "put captions with commas in quotes"
            )
    return rows, columns


def _read_parquet(path: Path) -> tuple[Sequence[Row], list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            names = table.schema_arrow.names
            wanted = [name for name in names if name not in ("audio", "image")]  # sound is heavy and of no use here
            return table.read(columns=wanted).to_pylist(), names
    except pa.ArrowInvalid as error:
        raise TableError(path, "is not a Parquet file", "check what wrote it") from error
