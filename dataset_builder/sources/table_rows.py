"""Rows of a user's table file, whatever its format: CSV, TSV, JSON, JSON Lines or Parquet; streamed.

Every fault names the file and, where there is one, the row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from lpmc_errors import TableError

Row = Mapping[str, Any]

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
SUFFIXES = (*DELIMITERS, ".jsonl", ".ndjson", ".json", ".parquet")
CHUNK = 1 << 20  # characters of a JSON file read at a time
ROWS_PER_BATCH = 2_000  # of a Parquet file


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a table as mappings from column to cell, each with its number in the file (see `row_name`).

    Cells of CSV and TSV files are strings. Raises `TableError` for a file that is missing, empty, of an unknown
    format, not UTF-8, or damaged (ragged rows, repeated columns, invalid JSON, no Parquet).
    """
    if not path.is_file():
        raise TableError(path, "no such table file", f"give a file that ends in {', '.join(SUFFIXES)}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TableError(path, f"has the unknown ending {suffix!r}", f"known are {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise TableError(path, "is empty", "a table needs a header and at least one row")
    if suffix == ".parquet":
        rows = _parquet(path)
    elif suffix in DELIMITERS:
        rows = _as_text(path, _delimited)
    elif suffix == ".json":
        rows = _as_text(path, _json_list)
    else:
        rows = _as_text(path, _json_lines)
    number = 0
    for number, row in rows:
        yield number, row
    if number == 0:
        raise TableError(path, "has no rows", "a table needs a header and at least one row")


def row_name(path: Path, number: int) -> str:
    """How an error names a row: by its line where the file has lines, else by its place."""
    return f"{path}, {'row' if path.suffix.lower() in ('.json', '.parquet') else 'line'} {number}"


def _as_text(path: Path, reader: Callable[[Path, TextIO], Iterator[tuple[int, Row]]]) -> Iterator[tuple[int, Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a byte order mark
            yield from reader(path, file)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise TableError(path, f"is not UTF-8 (byte 0x{byte:02x}: {error.reason})", "save it as UTF-8") from error


def _delimited(path: Path, file: TextIO) -> Iterator[tuple[int, Row]]:
    delimiter = DELIMITERS[path.suffix.lower()]
    first = file.readline()
    file.seek(0)
    if delimiter == "," and "," not in first and ";" in first:
        delimiter = ";"  # spreadsheets write it where the comma divides decimals
    reader = csv.reader(file, delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not any(header):
            raise TableError(path, "has no header", "name the columns in the first line")
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise TableError(path, f"has two columns named {', '.join(map(repr, repeated))}", "rename one of them")
        for cells in reader:
            if not cells:
                continue  # a blank line
            if len(cells) != len(header):
                raise TableError(
                    row_name(path, reader.line_num),
                    f"has {len(cells)} cells, expected {len(header)} as in the header",
                    "put cells that hold the separator or a line break in double quotes",
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise TableError(
            row_name(path, reader.line_num), f"is not readable as CSV ({error})", "look for a quote left open"
        ) from error


def _json_lines(path: Path, file: TextIO) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            problem = f"is no valid JSON ({error})"
            raise TableError(row_name(path, number), problem, "expected one object a line") from error
        yield number, _object(path, number, row)


def _json_list(path: Path, file: TextIO) -> Iterator[tuple[int, Row]]:
    """The objects of a JSON list, one after the other, so that a large file needs little memory."""
    decoder = json.JSONDecoder()
    text = file.read(CHUNK).lstrip()
    if not text.startswith("["):
        raise TableError(path, "is no list of objects", 'expected [{"track_id": ..., "tags": [...]}, ...]')
    position, number = 1, 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        if text.startswith("]", position):
            return
        try:
            row, end = decoder.raw_decode(text, position)
        except ValueError as error:
            more = file.read(CHUNK)
            if not more:
                raise TableError(row_name(path, number + 1), f"is no valid JSON ({error})", "mend the file") from error
            text, position = text[position:] + more, 0
            continue
        number += 1
        yield number, _object(path, number, row)
        position = end


def _object(path: Path, number: int, row: Any) -> Row:
    if not isinstance(row, dict):
        raise TableError(row_name(path, number), f"holds {type(row).__name__}, expected an object", "mend the row")
    return row


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        with pq.ParquetFile(path) as table:
            columns = list(_light_columns(table.schema_arrow))
            number = 0
            for batch in table.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(path, f"is not readable as Parquet ({error})", "write the file again") from error


def _light_columns(schema: pa.Schema) -> Iterator[str]:
    """All columns but the bytes of embedded audio (a struct of `bytes` and `path`), of which the path is enough."""
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("path") >= 0:
            yield f"{field.name}.path"
        elif not (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)):
            yield field.name
