"""Rows of a user's table file, whatever its format: CSV, TSV, JSON, JSON Lines, Parquet or Arrow; streamed.

Text formats may be compressed with gzip (`songs.csv.gz`). Every fault names the file and, where there is one, the row.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from lpmc_errors import TableError

from .bad_rows import OnSkip, leave_out

Row = Mapping[str, Any]
_Reader = Callable[[Path, TextIO, "OnSkip | None"], Iterator[tuple[int, Row]]]

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_GZIP = ".gz"
SUFFIXES = (*DELIMITERS, *_JSON_LINES, ".json", ".parquet", ".arrow", *(f"{s}.gz" for s in (*DELIMITERS, *_JSON_LINES)))
CHUNK = 1 << 20  # characters of a JSON file read at a time
LONGEST_OBJECT = 1 << 26  # characters; a longer object in a JSON list is taken for a damaged file
ROWS_PER_BATCH = 2_000  # of a Parquet file


def encodable(text: str) -> bool:
    """Whether `text` can be written to a table: JSON may hold halves of surrogate pairs, which UTF-8 has not."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def table_suffix(path: Path) -> str:
    """The ending that says how a table is written, with `.gz` where it is compressed: `.csv`, `.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [_GZIP] else "".join(suffixes[-1:])


def read_rows(path: Path, on_skip: OnSkip | None = None) -> Iterator[tuple[int, Row]]:
    """The rows of a table as mappings from column to cell, each with its number in the file (see `row_name`).

    Cells of CSV and TSV files are strings. A row with too many or too few cells and a line that is no JSON object are
    bad rows: `on_skip` is told of them, and without it they raise. Raises `TableError` for a file that is missing,
    empty, of an unknown format, not UTF-8, or damaged (repeated columns, a quote left open, a torn archive).
    """
    suffix = table_suffix(path)
    if not path.is_file():
        raise TableError(path, "no such table file", f"give a file that ends in {', '.join(SUFFIXES)}")
    if suffix not in SUFFIXES:
        raise TableError(path, f"has the unknown ending {suffix!r}", f"known are {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise TableError(path, "is empty", "a table needs a header and at least one row")
    kind = suffix.removesuffix(_GZIP)
    if kind == ".parquet":
        rows = _parquet(path)
    elif kind == ".arrow":
        rows = _arrow(path)
    elif kind in DELIMITERS:
        rows = _as_text(path, _delimited, on_skip)
    elif kind == ".json":
        rows = _as_text(path, _json_list, on_skip)
    else:
        rows = _as_text(path, _json_lines, on_skip)
    number = 0
    for number, row in rows:
        yield number, row
    if number == 0:
        raise TableError(path, "has no rows", "a table needs a header and at least one row")


def row_name(path: Path, number: int) -> str:
    """How an error names a row: by its line where the file has lines, else by its place."""
    return f"{path}, {'row' if path.suffix.lower() in ('.json', '.parquet', '.arrow') else 'line'} {number}"


def _as_text(path: Path, reader: _Reader, on_skip: OnSkip | None) -> Iterator[tuple[int, Row]]:
    try:
        opened: Any = gzip.open if path.suffix.lower() == _GZIP else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a byte order mark
            yield from reader(path, file, on_skip)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise TableError(path, f"is not UTF-8 (byte 0x{byte:02x}: {error.reason})", "save it as UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(path, f"is not readable as gzip ({error})", "download or compress it again") from error


def _delimited(path: Path, file: TextIO, on_skip: OnSkip | None) -> Iterator[tuple[int, Row]]:
    delimiter = DELIMITERS[table_suffix(path).removesuffix(_GZIP)]
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
                problem = f"has {len(cells)} cells, expected {len(header)} as in the header"
                remedy = "put cells that hold the separator or a line break in double quotes"
                leave_out(on_skip, row_name(path, reader.line_num), problem, remedy)
                continue
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise TableError(
            row_name(path, reader.line_num), f"is not readable as CSV ({error})", "look for a quote left open"
        ) from error


def _json_lines(path: Path, file: TextIO, on_skip: OnSkip | None) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = f"is no valid JSON ({error})"
            leave_out(on_skip, row_name(path, number), problem, "expected one object a line")
            continue
        if _is_usable(path, number, row, line, on_skip):
            yield number, row


def _json_list(path: Path, file: TextIO, on_skip: OnSkip | None) -> Iterator[tuple[int, Row]]:
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
        except (ValueError, RecursionError) as error:
            more = file.read(CHUNK) if len(text) - position < LONGEST_OBJECT else ""
            if not more or isinstance(error, RecursionError):
                raise TableError(row_name(path, number + 1), f"is no valid JSON ({error})", "mend the file") from error
            text, position = text[position:] + more, 0
            continue
        number += 1
        if _is_usable(path, number, row, text[position:end], on_skip):
            yield number, row
        position = end


def _is_usable(path: Path, number: int, row: Any, written: str, on_skip: OnSkip | None) -> bool:
    problem = ""
    if not isinstance(row, dict):
        problem = f"holds {type(row).__name__}, expected an object"
    elif "\\u" in written and not encodable(json.dumps(row, ensure_ascii=False)):
        problem = "holds half a surrogate pair, which is no character"
    if problem:
        leave_out(on_skip, row_name(path, number), problem, "mend the row")
    return not problem


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        with pq.ParquetFile(path) as table:
            columns = [f"{name}.path" if path_alone else name for name, path_alone in _light(table.schema_arrow)]
            batches = (
                _marked(batch, embedded)
                for group in range(table.num_row_groups)
                for embedded in [_embedded_columns(table.metadata.row_group(group))]
                for batch in table.iter_batches(ROWS_PER_BATCH, row_groups=[group], columns=columns)
            )
            yield from _numbered(batches, _class_names(table.schema_arrow))
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(path, f"is not readable as Parquet ({error})", "write the file again") from error


def _arrow(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows of a file that `datasets` saved: the Arrow stream format, of which only the columns in use are touched."""
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            light = list(_light(stream.schema))
            batches = (
                pa.RecordBatch.from_arrays(
                    [_path_of(batch.column(name)) if path_alone else batch.column(name) for name, path_alone in light],
                    names=[name for name, _ in light],
                )
                for batch in stream
            )
            yield from _numbered(batches, _class_names(stream.schema))
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(path, f"is not readable as Arrow ({error})", "save the data set again") from error


def _numbered(batches: Iterable[pa.RecordBatch], classes: Mapping[str, list[str]]) -> Iterator[tuple[int, Row]]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            for name, names in classes.items():
                row[name] = _named(row[name], names)
            number += 1
            yield number, row


def _path_of(audio: pa.StructArray) -> pa.StructArray:
    """The paths of embedded audio and, under `embedded`, whether there are bytes."""
    path = audio.field(audio.type.get_field_index("path"))
    place = audio.type.get_field_index("bytes")
    embedded = audio.field(place).is_valid() if place >= 0 else pa.array([False] * len(audio))
    return pa.StructArray.from_arrays([path, embedded], ["path", "embedded"], mask=audio.is_null())


def _embedded_columns(group: pq.RowGroupMetaData) -> frozenset[str]:
    """The columns that have bytes beside a path in this row group: its statistics say it, no byte is read."""
    chunks = (group.column(place) for place in range(group.num_columns))
    with_bytes = [chunk for chunk in chunks if chunk.path_in_schema.endswith(".bytes")]
    return frozenset(
        chunk.path_in_schema.removesuffix(".bytes")
        for chunk in with_bytes
        if chunk.statistics is None or chunk.statistics.null_count < group.num_rows
    )


def _marked(batch: pa.RecordBatch, embedded: frozenset[str]) -> pa.RecordBatch:
    """The batch with `embedded` beside the path in the columns of that name."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    for name in embedded & columns.keys():
        audio = columns[name]
        parts = [audio.field(0), pa.array([True] * len(audio))]
        columns[name] = pa.StructArray.from_arrays(parts, ["path", "embedded"], mask=audio.is_null())
    return pa.RecordBatch.from_pydict(columns)


def _light(schema: pa.Schema) -> Iterator[tuple[str, bool]]:
    """All columns but the bytes of embedded audio (a struct of `bytes` and `path`), of which the path is enough.

    With each whether only its path is meant.
    """
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("path") >= 0:
            yield field.name, True
        elif not (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)):
            yield field.name, False


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The columns that `datasets` stores as numbers of classes, alone or in lists, with the names of these classes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kinds = {name: _class_feature(kind) for name, kind in features.items() if name in schema.names}
        return {name: list(map(str, kind["names"])) for name, kind in kinds.items() if kind is not None}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):  # none, or none that is known
        return {}


def _class_feature(kind: Any) -> Mapping[str, Any] | None:
    if isinstance(kind, list) and len(kind) == 1:  # how features of lists were written before datasets 4
        return _class_feature(kind[0])
    if not isinstance(kind, dict):
        return None
    if kind.get("_type") in ("List", "LargeList", "Sequence"):
        return _class_feature(kind.get("feature"))
    return kind if kind.get("_type") == "ClassLabel" else None


def _named(cell: Any, names: list[str]) -> Any:
    if isinstance(cell, list):
        return [_named(item, names) for item in cell]
    if isinstance(cell, int):
        return names[cell] if 0 <= cell < len(names) else None  # -1 stands for no class
    return cell
